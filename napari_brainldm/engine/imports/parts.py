"""Which network a set of weights is, and how large: from its keys and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from napari_brainldm.engine.imports.source import whole
from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.networks.gradient_estimator import GradientEstimatorSpec
from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoderSpec
from napari_brainldm.engine.networks.unet import UNetSpec
from napari_brainldm.engine.request import EngineError

Tensors = Mapping[str, Tensor]

AUTOENCODER, UNET, TWO_BRANCHES, ENCODER, PROBE = (
    "an AutoencoderKL",
    "a DiffusionModelUNet",
    "an LDAE decoder",
    "an LDAE semantic encoder",
    "a linear classifier",
)
"""Parts by the words in which a user is told of them."""

SIGNS = {
    AUTOENCODER: ("quant_conv_mu.conv.weight", "encoder.blocks.0.conv.weight"),
    UNET: ("conv_in.conv.weight", "down_blocks.0.resnets.0.conv1.conv.weight"),
    TWO_BRANCHES: ("input_blocks.0.0.weight", "time_embed.0.weight"),
    ENCODER: ("soft_attention.linear.weight", "cross_attention.in_proj_weight"),
}
"""Keys that only this part has."""

GROUPS = 32
"""Of the group normalisation in all published networks; no shape tells it."""


def part_of(tensors: Tensors) -> str:
    """Which of the parts `tensors` are; empty for none of them."""
    for part, keys in SIGNS.items():
        if all(key in tensors for key in keys):
            return part
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    row = shapes.get("weight", ())
    if shapes.keys() == {"weight", "bias"} and len(row) == 2 and row[0] == 1:
        return PROBE if shapes["bias"] in ((), (1,)) else ""
    return ""


def autoencoder_spec(tensors: Tensors, settings: Mapping[str, Any]) -> AutoencoderSpec:
    """Sizes of an AutoencoderKL; `settings` may hold norm_num_groups."""
    if any(".to_q." in key or ".q." in key for key in tensors):
        raise EngineError(
            "The autoencoder has attention layers, which the public brain LDM and LDAE "
            "do not have. Import one of these."
        )
    blocks = _numbered(tensors, r"encoder\.blocks\.(\d+)\.")
    channels: list[int] = []
    counts = [0]
    for block in blocks[1:]:
        place = f"encoder.blocks.{block}"
        if f"{place}.conv1.conv.weight" in tensors:
            counts[-1] += 1
            width = tensors[f"{place}.conv1.conv.weight"].shape[0]
            channels[len(counts) - 1 :] = [width]
        elif f"{place}.conv.conv.weight" in tensors:
            counts.append(0)
    return AutoencoderSpec(
        tuple(channels),
        tensors["quant_conv_mu.conv.weight"].shape[0],
        counts[0],
        _groups(settings, channels, "autoencoder"),
    )


def autoencoder_keys(tensors: Tensors) -> dict[str, Tensor]:
    """An AutoencoderKL of either library under MONAI's names.

    GenerativeModels calls the convolution behind an upsampling "conv".
    """
    pattern = re.compile(r"^(decoder\.blocks\.\d+)\.conv\.conv\.")
    return {pattern.sub(r"\1.postconv.conv.", k): v for k, v in tensors.items()}


def unet_spec(tensors: Tensors, settings: Mapping[str, Any]) -> UNetSpec:
    """Sizes of a brain LDM's U-Net; `settings` may hold groups and head channels."""
    levels = _numbered(tensors, r"down_blocks\.(\d+)\.")
    first = "down_blocks.{}.resnets.0.conv1.conv.weight"
    channels = tuple(tensors[first.format(level)].shape[0] for level in levels)
    attention = tuple(
        f"down_blocks.{level}.attentions.0.norm.weight" in tensors for level in levels
    )
    latent = tensors["out.2.conv.weight"].shape[0]
    conditions = tensors["conv_in.conv.weight"].shape[1] - latent
    _check_hybrid(tensors, conditions)
    heads = settings.get("num_head_channels", settings.get("head_channels"))
    return UNetSpec(
        channels,
        attention,
        _head_channels(heads, channels, attention),
        len(_numbered(tensors, r"down_blocks\.0\.resnets\.(\d+)\.")),
        _groups(settings, channels, "denoiser"),
        latent,
        conditions,
    )


def _check_hybrid(tensors: Tensors, conditions: int) -> None:
    """Refuse a U-Net that takes its conditions in another way than the brain LDM."""
    seen = {v.shape[1] for k, v in tensors.items() if k.endswith("attn2.to_k.weight")}
    resampled = "down_blocks.0.downsampler.conv1.conv.weight" in tensors
    if conditions < 1 or seen != {conditions} or not resampled:
        raise EngineError(
            f"This U-Net adds {max(conditions, 0)} channels to the latent and attends "
            f"to {sorted(seen) or 'no'} condition channels; the public brain LDM has 4 "
            "of both. Import that one, or train your own with python -m trainer."
        )


def _head_channels(
    given: Any, channels: tuple[int, ...], attention: tuple[bool, ...]
) -> tuple[int, ...]:
    """Per level; without a config one head each, as published."""
    if isinstance(given, int) and given > 0:
        given = [given] * len(channels)
    whole_ = isinstance(given, list) and all(type(n) is int for n in given)
    if whole_ and len(given) == len(channels):
        return tuple(given)
    return tuple(n if on else 0 for n, on in zip(channels, attention, strict=True))


def unet_keys(tensors: Tensors) -> dict[str, Tensor]:
    """A DiffusionModelUNet of either library under the names of `HybridUNet`."""
    pattern = re.compile(r"(\.transformer_blocks\.\d+\.attn\d)\.to_out\.0\.")
    return {"unet." + pattern.sub(r"\1.out_proj.", k): v for k, v in tensors.items()}


def two_branches_spec(
    tensors: Tensors, settings: Mapping[str, Any]
) -> GradientEstimatorSpec:
    """Sizes of LDAE's denoiser, with or without its second branch.

    `settings` may hold num_heads, head_channel and use_new_attention_order.
    """
    outputs = _numbered(tensors, r"output_blocks\.(\d+)\.")
    ups = sum(_grows(tensors, block) for block in outputs)
    levels = ups + 1
    blocks = len(outputs) // levels - 1
    starts = [1 + level * (blocks + 1) for level in range(levels)]
    inner = "input_blocks.{}.0.in_layers.2.weight"
    channels = tuple(tensors[inner.format(start)].shape[0] for start in starts)
    attention = tuple(f"input_blocks.{s}.1.qkv.weight" in tensors for s in starts)
    label = tensors.get("label_emb.weight")
    return GradientEstimatorSpec(
        channels,
        attention,
        blocks,
        _groups(settings, channels, "denoiser"),
        tensors["input_blocks.0.0.weight"].shape[1],
        0 if label is None else label.shape[1],
        heads=whole(settings, "num_heads", 1),
        head_channels=max(whole(settings, "head_channel", 0), 0),
        split_first=settings.get("use_new_attention_order") is True,
    )


def _grows(tensors: Tensors, block: int) -> bool:
    """Whether an output block ends in a residual block that grows the latent."""
    inside = _numbered(tensors, rf"output_blocks\.{block}\.(\d+)\.")
    last = f"output_blocks.{block}.{inside[-1]}.in_layers.0.weight"
    return len(inside) > 1 and last in tensors


def encoder_spec(tensors: Tensors, settings: Mapping[str, Any]) -> SemanticEncoderSpec:
    """Sizes of LDAE's semantic encoder; `settings` may hold num_heads."""
    root = r"backbone\.backbone\.features\."
    levels = [n for n in _numbered(tensors, root + r"(\d+)\.") if n % 2 == 1]
    scale = "backbone.backbone.features.{}.0.layer_scale"
    return SemanticEncoderSpec(
        tuple(tensors[scale.format(level)].shape[0] for level in levels),
        tuple(len(_numbered(tensors, rf"{root}{level}\.(\d+)\.")) for level in levels),
        tensors["positional_encoding.pe"].shape[1],
        _heads(settings),
    )


def _heads(settings: Mapping[str, Any]) -> int:
    """Of the cross-attention, which no shape tells; 8 as published."""
    for name in ("num_heads", "n_heads", "attention_heads", "nhead"):
        if name in settings:
            return whole(settings, name, 8)
    return 8


def encoder_keys(tensors: Tensors) -> dict[str, Tensor]:
    """LDAE's encoder under our names; its second listing of the backbone is dropped."""
    start = "backbone.backbone."
    return {
        "backbone." + k[len(start) :] if k.startswith(start) else k: v
        for k, v in tensors.items()
        if not k.startswith("slice_distributed.")
    }


def _groups(settings: Mapping[str, Any], channels: Any, part: str) -> int:
    groups = whole(settings, "norm_num_groups", GROUPS)
    if groups < 1 or any(width % groups for width in channels):
        raise EngineError(
            f"The {part} has {', '.join(str(n) for n in channels)} channels, which "
            f"{groups} groups of its normalisation do not divide. Put the config that "
            "it was trained with beside it (configs/inference.json or config.json)."
        )
    return groups


def _numbered(tensors: Tensors, pattern: str) -> list[int]:
    """The different numbers that keys have in the place of the pattern's group."""
    search = re.compile(pattern)
    found = (search.match(key) for key in tensors)
    return sorted({int(match.group(1)) for match in found if match})

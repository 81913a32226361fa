"""Public checkpoints in small: random weights under their published names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_brainldm.engine.card import Covariate
from napari_brainldm.engine.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from napari_brainldm.engine.imports.find import find
from napari_brainldm.engine.imports.write import write_found
from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.networks.gradient_estimator import GradientEstimatorSpec
from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoderSpec
from napari_brainldm.engine.networks.unet import UNetSpec
from napari_brainldm.engine.semantic_space import Plane

CODER = AutoencoderSpec((8, 16), 2, 1, 8)
UNET = UNetSpec((16, 32), (False, True), (0, 16), 1, 8, 2, 4)
BRANCHES = GradientEstimatorSpec(
    (16, 32), (False, True), 1, 8, 2, 32, heads=2, dropout=0.1
)
ENCODER = SemanticEncoderSpec((8, 8, 16, 32), (1, 1, 2, 1), 64)


def weights(spec: Any, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of the network of `spec`, nothing left at its first zeros."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = spec.build().state_dict()
        return {k: v + 0.02 * torch.randn(v.shape) for k, v in state.items()}


def old_coder(spec: AutoencoderSpec = CODER) -> dict[str, Tensor]:
    """An autoencoder under GenerativeModels' names."""
    pattern = re.compile(r"^(decoder\.blocks\.\d+)\.postconv\.conv\.")
    return {pattern.sub(r"\1.conv.conv.", k): v for k, v in weights(spec).items()}


def new_unet(spec: UNetSpec = UNET) -> dict[str, Tensor]:
    """A brain LDM's denoiser under MONAI's names."""
    return {k.removeprefix("unet."): v for k, v in weights(spec).items()}


def old_unet(spec: UNetSpec = UNET) -> dict[str, Tensor]:
    """The same under GenerativeModels' names."""
    pattern = re.compile(r"(\.transformer_blocks\.\d+\.attn\d)\.out_proj\.")
    return {pattern.sub(r"\1.to_out.0.", k): v for k, v in new_unet(spec).items()}


def old_encoder(spec: SemanticEncoderSpec = ENCODER) -> dict[str, Tensor]:
    """A semantic encoder as LDAE saves it, its backbone listed twice."""
    found: dict[str, Tensor] = {}
    for key, value in weights(spec).items():
        if key.startswith("backbone."):
            found[f"backbone.{key}"] = value
            found[f"slice_distributed.module.{key}"] = value
        else:
            found[key] = value
    return found


BUNDLE_SETTINGS: dict[str, Any] = {
    "autoencoder_def": {"norm_num_groups": 8},
    "diffusion_def": {"norm_num_groups": 8, "num_head_channels": [0, 16]},
    "latent_shape": [1, 2, 10, 12, 10],
}
LDAE_SETTINGS: dict[str, Any] = {
    "vae_args": {"norm_num_groups": 8},
    "unet_args": {"norm_num_groups": 8, "num_heads": 2},
    "latent_shape": [2, 10, 12, 8],
}


def save_bundle(folder: Path, settings: Mapping[str, Any] = BUNDLE_SETTINGS) -> Path:
    """The layout of the first model zoo in `folder`."""
    (folder / "models").mkdir(parents=True)
    (folder / "configs").mkdir()
    torch.save(old_coder(), folder / "models" / "autoencoder.pth")
    torch.save(old_unet(), folder / "models" / "diffusion_model.pth")
    (folder / "configs" / "inference.json").write_text(json.dumps(settings))
    return folder


def save_ldae(folder: Path, settings: Mapping[str, Any] = LDAE_SETTINGS) -> Path:
    """LDAE's files in `folder`, the classifier and its statistics among them."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(1)
    torch.save(old_coder(), folder / "autoencoderkl.pth")
    torch.save(weights(BRANCHES), folder / "decoder.pth")
    torch.save(old_encoder(), folder / "encoder.pth")
    probe = {"weight": torch.randn(1, 32, generator=generator), "bias": torch.ones(1)}
    torch.save(probe, folder / "disease_classifier.ckpt")
    torch.save(torch.randn(32, generator=generator), folder / "semantic_mean.pt")
    torch.save(1 + torch.rand(32, generator=generator), folder / "semantic_std.pt")
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def known_ldae(folder: Path) -> Path:
    """A tiny LDAE as our trainer would leave it: a direction, a plane, a forecast."""
    settings = LDAE_SETTINGS | {"latent_shape": [2, 16, 16, 8]}
    path = folder / "ldae.safetensors"
    for _ in write_found(find(save_ldae(folder / "files", settings)), path):
        pass
    found = load_checkpoint(path)
    assert found.card.encoder is not None
    age = Covariate("age", "Age", "years", low=60, high=90, reference=70.0)
    ill = Covariate("diagnosis", "Diagnosis", reference="CN", categories=("CN", "AD"))
    card = replace(
        found.card,
        directions=tuple(replace(d, reads="log odds") for d in found.card.directions),
        plane=Plane("Alzheimer's disease", ("CN", "AD"), (40, 30)),
        forecast=(age, ill),
    )
    size, generator = found.card.encoder.code_size, torch.Generator().manual_seed(0)
    planted = {
        "plane.axes": torch.randn(2, size, generator=generator) / size**0.5,
        "plane.centres": torch.tensor([[-2.0, 0.0], [2.0, 0.0]]),
        "plane.spreads": torch.eye(2).repeat(2, 1, 1),
        "forecast.weight": torch.randn(3, size, generator=generator),
    }
    save_checkpoint(Checkpoint(card, dict(found.tensors) | planted), path)
    return path

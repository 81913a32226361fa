"""LDAE of Lozupone 2025 (ADNI): its three files, or the checkpoint of a training.

https://arxiv.org/abs/2504.08635. The direction towards Alzheimer's disease comes from
the classifier, mean and standard deviation that lie beside the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from napari_brainldm.engine.card import (
    Card,
    Intensity,
    Provenance,
    ScheduleSpec,
)
from napari_brainldm.engine.imports import parts
from napari_brainldm.engine.imports.brain_ldm import check_latents, latent_to_shape
from napari_brainldm.engine.imports.found import Found, Terms
from napari_brainldm.engine.imports.source import number, section, whole
from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.networks.gradient_estimator import GradientEstimatorSpec
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.semantic_space import Direction
from napari_brainldm.engine.volume import Grid

if TYPE_CHECKING:
    from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoderSpec

SHAPE, VOXEL_MM = (128, 160, 128), 1.5
TEMPLATE_SHAPE = (122, 146, 122)
TEMPLATE_ORIGIN_MM = (90.0, -126.0, -72.0)
"""The 1 mm MNI template at 1.5 mm, before it is cut or padded; x falls (LAS)."""

LATENT_SCALE = 0.8730
"""1 / SD of the latents, a constant in the published code."""

CLAMP_NOTE = (
    "Predicted latents are clamped to -1..1, as in the published code: inverted noise "
    "is then far from Gaussian, and good reconstructions say little of the model."
)
OTHER_NOTE = (
    "Of the layout of the public LDAE, but of other sizes, so it is not known what it "
    "was trained on."
)
NO_DIRECTION = (
    "No direction towards Alzheimer's disease: that needs the classifier, the mean and "
    "the SD of the codes beside the weights."
)

TERMS = Terms(
    "LDAE (Lozupone et al. 2025)",
    "For non-profit research only; cite the paper; commercial use needs a licence of "
    "its authors. The weights derive from ADNI, whose data use agreement applies.",
    open=False,
)


@dataclass(frozen=True, eq=False)
class Networks:
    """The tensors of LDAE's parts under their published names.

    Attributes
    ----------
    encoder
        None for an unconditional model: a pre-training has no semantic encoder yet.
    probe, mean, std
        The classifier of normalised codes, and what normalises them; empty or None
        when they were not given.
    """

    autoencoder: Mapping[str, Tensor]
    denoiser: Mapping[str, Tensor]
    encoder: Mapping[str, Tensor] | None = None
    probe: Mapping[str, Tensor] = field(default_factory=dict)
    mean: Tensor | None = None
    std: Tensor | None = None


def assembled(networks: Networks, settings: Mapping[str, Any]) -> Found:
    """The LDAE of `networks`; `settings` are those of its training, if any."""
    coder = parts.autoencoder_spec(networks.autoencoder, section(settings, "vae_args"))
    arguments = _denoiser_settings(networks, settings)
    denoiser = parts.two_branches_spec(networks.denoiser, arguments)
    encoder = None
    if networks.encoder is not None:
        encoder = parts.encoder_spec(networks.encoder, section(settings, "enc_args"))
    check_latents(coder.latent_channels, denoiser.latent_channels)
    _check_fit(denoiser.code_size, 0 if encoder is None else encoder.code_size)
    grid = _grid(settings, coder.factor, encoder)
    _check_slices(encoder, grid)
    directions, moves = _alzheimer(networks, denoiser.code_size)
    published = coder == AutoencoderSpec() and replace(denoiser, code_size=768) == (
        GradientEstimatorSpec()
    )
    card = Card(
        kind="ldae",
        name="LDAE (Lozupone 2025, ADNI)" if published else "LDAE",
        grid=grid,
        autoencoder=coder,
        denoiser=denoiser,
        encoder=encoder,
        schedule=_schedule(section(settings, "timesteps_args")),
        latent_scale=number(settings, "scale_factor", LATENT_SCALE),
        directions=directions,
        intensity=Intensity(scaling="minmax"),
        registration="nonlinear",
        provenance=_provenance(published),
    )
    told = () if directions or encoder is None else (NO_DIRECTION,)
    return Found(card, _renamed(networks) | moves, TERMS, told)


def _provenance(published: bool) -> Provenance:
    return Provenance(
        trained_on="T1w scans of ADNI (says the paper), N4, skull-stripped, warped "
        "onto the MNI template, 1.5 mm, intensities 0 to 1 by minimum and maximum"
        if published
        else "",
        command="brainldm import",
        citation="Lozupone et al. 2025, https://arxiv.org/abs/2504.08635",
        licence="Non-profit research only (LDAE); ADNI data use agreement"
        if published
        else "Non-profit research only (LDAE)",
        intended_use="Non-profit research on Alzheimer's disease.",
        notes=(CLAMP_NOTE,) if published else (OTHER_NOTE, CLAMP_NOTE),
    )


def _denoiser_settings(
    networks: Networks, settings: Mapping[str, Any]
) -> Mapping[str, Any]:
    stage = "representation_learning" if networks.encoder is not None else "pretrain"
    return section(settings, "unet_args", f"unet_args_{stage}")


def _renamed(networks: Networks) -> dict[str, Tensor]:
    coder = parts.autoencoder_keys(networks.autoencoder)
    tensors = {f"autoencoder.{k}": v for k, v in coder.items()}
    tensors |= {f"denoiser.{k}": v for k, v in networks.denoiser.items()}
    encoder = parts.encoder_keys(networks.encoder or {})
    return tensors | {f"encoder.{k}": v for k, v in encoder.items()}


def _check_slices(encoder: SemanticEncoderSpec | None, grid: Grid) -> None:
    if encoder is not None and grid.shape[2] > encoder.slices:
        raise EngineError(
            f"The pictures have {grid.shape[2]} axial slices, the semantic encoder "
            f"knows {encoder.slices}. Correct latent_shape in the config beside it."
        )


def _check_fit(wanted: int, given: int) -> None:
    if wanted == given:
        return
    if not given:
        raise EngineError(
            f"The LDAE decoder needs semantic codes of {wanted} numbers, but no "
            "semantic encoder was found. Put encoder.pth beside it."
        )
    raise EngineError(
        f"The LDAE decoder takes semantic codes of {wanted} numbers, the encoder makes "
        f"{given}: they do not belong together. Use the files of one release."
    )


def _alzheimer(
    networks: Networks, size: int
) -> tuple[tuple[Direction, ...], dict[str, Tensor]]:
    """The direction from the published classifier, whose positive class is CN.

    One unit is one unit of the paper's scale: sqrt(E) along the unit vector, in codes
    normalised by mean and SD (the authors' notebook moves by 2.5).
    """
    mean, std = networks.mean, networks.std
    if not networks.probe or mean is None or std is None:
        return (), {}
    mean, std = mean.flatten(), std.flatten()
    weight = -networks.probe["weight"].float().flatten()
    if weight.numel() != size or mean.numel() != size or std.numel() != size:
        raise EngineError(
            f"Classifier, mean and SD have {weight.numel()}, {mean.numel()} and "
            f"{std.numel()} numbers, the codes {size}. Use the files of one release."
        )
    move = math.sqrt(size) * weight / torch.linalg.vector_norm(weight) * std.float()
    direction = Direction(
        "AD",
        "Alzheimer's disease",
        "",
        "From cognitively normal towards Alzheimer's disease, by the published "
        "classifier; 1 is one unit of the paper's scale.",
        reads="log odds",
    )
    return (direction,), {
        "semantic.mean": mean.float(),
        "semantic.std": std.float(),
        "direction.AD.move": move,
        "direction.AD.weight": weight,
        "direction.AD.bias": -networks.probe["bias"].float().reshape(()),
    }


def _schedule(settings: Mapping[str, Any]) -> ScheduleSpec:
    kind = settings.get("betas_type", "linear")
    if kind != "linear":
        raise EngineError(
            f"This LDAE was trained with the noise schedule {kind!r}; only 'linear' is "
            "known. Import the published one."
        )
    steps = whole(settings, "timesteps", 1000)
    return ScheduleSpec("linear", steps, 1e-4, 2e-2, spacing="endpoints", clamp=1.0)


def _grid(
    settings: Mapping[str, Any],
    factor: int,
    encoder: SemanticEncoderSpec | None = None,
) -> Grid:
    """Where a config does not say it: the published one, of slices that have places."""
    i, j, k = SHAPE
    most = k if encoder is None else encoder.slices // factor * factor
    shape = latent_to_shape(settings, factor, (i, j, min(k, most)))
    steps = VOXEL_MM * np.array([-1.0, 1.0, 1.0])
    starts = [_first_voxel(*sizes) for sizes in zip(TEMPLATE_SHAPE, shape, strict=True)]
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = np.array(TEMPLATE_ORIGIN_MM) + starts * steps
    return Grid.of(shape, affine)


def _first_voxel(before: int, after: int) -> int:
    """Where an axis of `before` voxels begins when it is cut or padded to `after`."""
    if after >= before:
        return -((after - before) // 2)
    return before // 2 - after // 2

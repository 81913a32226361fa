"""A tiny brain LDM with random weights: real networks, real road, no training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from napari_brainldm.engine.card import (
    Card,
    Covariate,
    Histogram,
    Intensity,
    ScheduleSpec,
)
from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.components import Connectivity, components_of
from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.networks.gm_autoencoder import GrayMatterAutoencoderSpec
from napari_brainldm.engine.networks.segmenter import SegmenterSpec, Structure
from napari_brainldm.engine.networks.unet import UNetSpec
from napari_brainldm.engine.networks.vit_denoiser import ViTSpec
from napari_brainldm.engine.segment import Segmentation
from napari_brainldm.engine.volume import Grid, mni_grid

VOCABULARY = (
    Covariate("age", "Age", "years", "Age at the scan.", 20, 90, 55.0),
    Covariate("sex", "Sex", reference="F", categories=("F", "M")),
    Covariate(
        "ventricles",
        "Lateral ventricles",
        "ml",
        low=7,
        high=67,
        reference=20.0,
        histogram=Histogram(7, 67, (5, 9, 4, 1)),
    ),
    Covariate("brain", "Brain volume", "ml", low=900, high=1500, reference=1200.0),
)


def tiny_checkpoint(droppable: bool = True, conditional: bool = True) -> Checkpoint:
    """8 mm pictures, 2-channel latents of 10 x 12 x 10, weights drawn from seed 0."""
    size = len(VOCABULARY) if conditional else 0
    card = Card(
        kind="brain-ldm",
        name="Tiny",
        grid=mni_grid(8.0),
        autoencoder=AutoencoderSpec((8, 16), 2, 1, 8),
        denoiser=UNetSpec(
            (16, 32), (False, True), (0, 16), 1, 8, 2, size, droppable and conditional
        ),
        schedule=ScheduleSpec(prediction="v"),
        latent_scale=0.5,
        vocabulary=VOCABULARY if conditional else (),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        autoencoder, denoiser = card.autoencoder.build(), card.denoiser.build()
        tensors = {f"autoencoder.{k}": v for k, v in autoencoder.state_dict().items()}
        # MONAI starts the last convolutions at zero, which would hide every condition
        tensors |= {
            f"denoiser.{k}": v + 0.02 * torch.randn(v.shape)
            for k, v in denoiser.state_dict().items()
        }
    return Checkpoint(card, tensors)


def tiny_gm_ldm(droppable: bool = True) -> Checkpoint:
    """8 mm gray-matter maps of 20 x 24 x 20 in a core of 16, 5 components, seed 0."""
    grid, known = mni_grid(8.0), components_of(5)
    coder = GrayMatterAutoencoderSpec(grid.shape, (16, 16, 16), (4, 8, 8), 4, 1, 4)
    fnc = Connectivity(known, 2.0, 3)
    card = Card(
        kind="gm-ldm",
        name="Tiny GM-LDM",
        grid=grid,
        autoencoder=coder,
        denoiser=ViTSpec(
            width=24,
            heads=2,
            encoder_blocks=1,
            decoder_blocks=2,
            mlp=2,
            outputs=2,
            state_channels=(4, 8),
            latent_channels=4,
            grid=(4, 4, 4),
            components=5,
            droppable=droppable,
        ),
        schedule=ScheduleSpec(prediction="v"),
        fnc=fnc,
        intensity=Intensity(scaling="probability"),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tensors = {f"autoencoder.{k}": v for k, v in coder.build().state_dict().items()}
        # outputs and gates begin at 0, which would hide every condition
        tensors |= {
            f"denoiser.{k}": v + 0.2 * torch.randn(v.shape)
            for k, v in card.denoiser.build().state_dict().items()
        }
        tensors |= {
            "fnc.mean": torch.randn(10),
            "fnc.factors": 0.2 * torch.randn(3, 10),
            "fnc.rest": torch.full((10,), 0.1),
            "fnc.norms": torch.tensor([1.0, 6.0]),
        }
    return Checkpoint(card, tensors)


def tiny_segmenter() -> Checkpoint:
    """A segmenter of 4 mm voxels, weights drawn from seed 0.

    On a coarser grid its lowest level would be one voxel, which cannot be normalised.
    """
    spec = SegmenterSpec((8, 8, 8, 8, 8, 8))
    card = Card("segmenter", "Tiny segmenter", mni_grid(4.0), segmenter=spec)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = spec.build().state_dict()
    return Checkpoint(card, {f"segmenter.{k}": v for k, v in weights.items()})


def hard(
    labels: NDArray[np.integer],
    grid: Grid,
    structures: Sequence[Structure],
    method: str,
) -> Segmentation:
    """A segmentation that is certain, from FreeSurfer indices (i, j, k) on `grid`."""
    memberships = np.zeros((1 + len(structures), *grid.shape), np.float32)
    for row, structure in enumerate(structures, start=1):
        memberships[row] = (labels == structure.left) | (labels == structure.right)
    memberships[0] = 1 - memberships[1:].sum(0)
    return Segmentation(memberships, grid, tuple(structures), method)

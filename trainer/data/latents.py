"""Latents of the prepared pictures, encoded once and kept on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.files import put_whole
from napari_brainldm.engine.renderer import Renderer

if TYPE_CHECKING:
    from napari_brainldm.engine.checkpoint import Checkpoint
    from trainer.data.pictures import Pictures

Latents = NDArray[np.float32]
"""(N, C, i, j, k), the autoencoder's mean latents, unscaled."""


def latents_path(pictures: Path, checkpoint: Checkpoint, mirrored: bool) -> Path:
    """File of the latents: named by the pictures and the autoencoder they come from."""
    side = "-mirrored" if mirrored else ""
    return pictures.with_name(
        f"{pictures.stem}-{checkpoint.sha256[:16]}{side}-latents.npy"
    )


def encode_latents(
    checkpoint: Checkpoint, pictures: Pictures, path: Path, mirrored: bool
) -> Iterator[int]:
    """Encode every picture in float32 into `path`, unless it exists; yields counts."""
    if path.is_file():
        return
    renderer = Renderer(checkpoint, precision="float32")
    shape = (len(pictures), *checkpoint.card.latent_shape)
    found = np.empty(shape, np.float32)
    for index, picture in enumerate(pictures):
        data = picture[::-1] if mirrored else picture
        found[index] = renderer.latent_of(data.astype(np.float32))
        yield index + 1
    put_whole(path, lambda beside: _save(beside, found))


def _save(path: Path, latents: Latents) -> None:
    with path.open("wb") as file:  # given a name, numpy would add .npy to it
        np.save(file, latents)


def open_latents(path: Path) -> Latents:
    """What `encode_latents` wrote."""
    found: Latents = np.load(path)
    return found

"""How varied pictures are: likeness of pairs of different ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.similarity import kernel_of, ms_ssim
from trainer.evaluate.metrics.gradient_ssim import WINDOW, gradient_ssim

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array

PAIRS = 1000
"""As in Pinaya 2022."""


def pairs(count: int, most: int, seed: int = 0) -> list[tuple[int, int]]:
    """Different pairs a < b of `count` pictures: all, or `most` drawn at random.

    Sorted, so that a picture read from disk serves several pairs in turn.
    """
    first, second = np.triu_indices(count, 1)
    size = min(most, len(first))
    chosen = np.random.default_rng(seed).choice(len(first), size, replace=False)
    return [(int(first[n]), int(second[n])) for n in sorted(chosen)]


def window_of(shape: tuple[int, ...]) -> int:
    """The window of MS-SSIM in voxels: 7 as Pinaya 2022, less where it has no room.

    Raises
    ------
    EngineError
        If pictures are too small for five scales.
    """
    window = min(WINDOW, kernel_of(shape))
    if window < 3:
        raise EngineError(
            f"Pictures of {' x '.join(map(str, shape))} voxels are too small for the "
            "five scales of MS-SSIM: 48 voxels along every axis are the least."
        )
    return window


def likeness_of_pairs(
    pictures: Sequence[Array], most: int = PAIRS, seed: int = 0
) -> dict[str, float]:
    """Mean and SD of MS-SSIM and 4-G-R-SSIM over pairs; low is varied."""
    chosen = pairs(len(pictures), most, seed)
    window = window_of(pictures[0].shape)
    found = np.array(
        [
            (ms_ssim(a, b, window), gradient_ssim(a, b))
            for a, b in ((pictures[m], pictures[n]) for m, n in chosen)
        ]
    )
    mean, spread = found.mean(0), found.std(0)
    return {
        "MS-SSIM": float(mean[0]),
        "MS-SSIM SD": float(spread[0]),
        "4-G-R-SSIM": float(mean[1]),
        "4-G-R-SSIM SD": float(spread[1]),
        "pairs": float(len(chosen)),
    }

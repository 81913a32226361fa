"""Volumes of a picture without a segmenter: calibrated counts of voxels.

Voxels darker than DARK of the picture's 90th percentile, in a box around the lateral
ventricles, follow the true ventricles; the bright share of the head follows the brain
volume normalised for head size. Both are turned into ml by a straight line fitted on
training pictures, and their error on held-out pictures is printed beside every figure
that uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.volume import Array, Grid

DARK, BRIGHT = 0.55, 0.50
BOX = ((-38.0, 38.0), (-58.0, 42.0), (-6.0, 42.0))  # mm RAS, MNI, sulci left outside

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """ml = slope * reading + offset."""

    slope: float
    offset: float

    def __call__(self, reading: float) -> float:
        """Volume in ml of what was counted."""
        return self.slope * reading + self.offset


@dataclass(frozen=True)
class Meter:
    """Calibrated meters of the pictures on one grid."""

    grid: Grid
    ventricles: Line
    brain: Line

    def read(self, picture: Array) -> dict[str, float]:
        """Ventricles and brain (head-size normalised) in ml of `picture` (i, j, k)."""
        dark, bright = counts(picture, self.grid)
        return {"ventricles": self.ventricles(dark), "brain": self.brain(bright)}


def counts(picture: Array, grid: Grid) -> tuple[float, float]:
    """Dark voxels in the ventricles' box and the bright share of the head."""
    head = picture > 0.08
    level = float(np.percentile(picture[head], 90)) if head.any() else 1.0
    box = picture[_box(grid)]
    soft_dark = np.clip((DARK * level - box) / (0.2 * level) + 0.5, 0, 1)
    soft_bright = np.clip((picture - BRIGHT * level) / (0.2 * level) + 0.5, 0, 1)
    return float(soft_dark.sum()), float(soft_bright.sum()) / max(int(head.sum()), 1)


def _box(grid: Grid) -> tuple[slice, ...]:
    origin, size = grid.matrix[:3, 3], np.array(grid.voxel_size)
    low, high = np.array(BOX).T
    first = np.round((low - origin) / size).astype(int).clip(0)
    last = np.round((high - origin) / size).astype(int).clip(0)
    return tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))


def calibrate(
    pictures: Sequence[Array], ventricles: Floats, brain: Floats, grid: Grid
) -> Meter:
    """A meter fitted to pictures whose true volumes in ml are known."""
    dark, bright = np.array(
        [counts(np.asarray(p, np.float32), grid) for p in pictures]
    ).T
    return Meter(grid, _line(dark, ventricles), _line(bright, brain))


def _line(count: Floats, truth: Floats) -> Line:
    slope, offset = np.polyfit(count, truth, 1)
    return Line(float(slope), float(offset))

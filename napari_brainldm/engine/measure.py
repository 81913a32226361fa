"""Volumes of a picture's structures, in ml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.segment import Segmentation, x_of

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array, Grid

DECIMALS = 3
"""Of ml in tables: a microlitre is less than any of these volumes is known to."""


@dataclass(frozen=True)
class Measured:
    """Volumes in ml.

    Attributes
    ----------
    ventricles
        Both lateral ventricles with inferior horns and choroid plexus.
    brain
        All gray and white matter, cerebellum and brain stem included.
    hippocampus
        Both.
    icv
        All within the skull: brain and fluid.
    structures
        (name, left, right) of every structure; of one without sides the parts left and
        right of the midline.
    """

    ventricles: float
    brain: float
    hippocampus: float
    icv: float
    structures: tuple[tuple[str, float, float], ...]

    def as_dict(self) -> dict[str, float]:
        """One level for JSON: the four, then name, name_left, name_right of each."""
        heads = ("ventricles", "brain", "hippocampus", "icv")
        plain = {name: float(getattr(self, name)) for name in heads}
        for name, left, right in self.structures:
            plain |= {name: left + right, f"{name}_left": left, f"{name}_right": right}
        return {name: round(ml, DECIMALS) for name, ml in plain.items()}


def measure(segmentation: Segmentation) -> Measured:
    """Volumes from the soft memberships: half a voxel counts half."""
    grid = segmentation.grid
    left = left_share(grid)
    sides = {
        structure.name: _sides(membership, left, voxel_ml(grid))
        for structure, membership in zip(
            segmentation.structures, segmentation.memberships[1:], strict=True
        )
    }
    total = {name: sum(both) for name, both in sides.items()}
    return Measured(
        _known(total, "lateral_ventricles"),
        sum(total[s.name] for s in segmentation.structures if s.tissue),
        _known(total, "hippocampus"),
        sum(total.values()),
        tuple((name, *both) for name, both in sides.items()),
    )


def normalised_brain(measured: Measured, head_size: float) -> float:
    """Brain volume in ml as it would be in a head of `head_size` ml.

    What the covariate `brain` of a card means; `head_size` is the card's.
    """
    if not measured.icv > 0:
        raise EngineError(
            "No head was found in the picture, so its brain volume cannot be related "
            "to it. Choose a T1-weighted picture of a whole brain."
        )
    return measured.brain * head_size / measured.icv


def voxel_ml(grid: Grid) -> float:
    """Volume of a voxel in ml."""
    return float(abs(np.linalg.det(grid.matrix[:3, :3]))) / 1000


def left_share(grid: Grid) -> Array:
    """Share of each voxel that lies left of x = 0: (i, j, k), 0..1."""
    width = np.abs(grid.matrix[0, :3]).sum()
    return np.asarray(np.clip(0.5 - x_of(grid) / width, 0.0, 1.0), np.float32)


def _sides(membership: Array, left: Array, unit: float) -> tuple[float, float]:
    """Volumes left and right of the midline, in `unit` per voxel."""
    whole = float(membership.sum(dtype=np.float64))
    part = float((membership * left).sum(dtype=np.float64))
    return part * unit, (whole - part) * unit


def _known(total: dict[str, float], name: str) -> float:
    if name not in total:
        raise EngineError(
            f"This segmentation knows no {name}, only {', '.join(total)}. Use a "
            "segmenter that tells it apart."
        )
    return total[name]

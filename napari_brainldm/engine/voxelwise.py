"""Tests of every voxel of paired differences, corrected for having tested them all.

Signs of whole subjects are flipped, as in `engine.inference`; each flip gives the
largest |t| of all voxels, and the largest score of threshold-free cluster enhancement
(Smith & Nichols 2009, https://doi.org/10.1016/j.neuroimage.2008.03.061), whose
exponents and steps are those of nilearn's `permuted_ols`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.inference import (
    FLIPS,
    TINY,
    false_discovery,
    flipped_t,
    paired_t,
)
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Array

Floats = NDArray[np.float64]

EXTENT, HEIGHT, STEPS = 0.5, 2.0, 100
"""Exponents of a cluster's size and height; thresholds from 0 to the largest |t|."""

LEVEL = 0.05
"""Family-wise error at which a voxel is outlined."""


@dataclass(frozen=True)
class Flipped:
    """How far the test is: `index` of `total` flips."""

    index: int
    total: int
    stage: str = "flip"


@dataclass(frozen=True, eq=False)
class VoxelTested:
    """What a test says of every voxel, (i, j, k) each; 0, or p = 1, outside the mask.

    Attributes
    ----------
    t
        Of the mean difference.
    p_max
        Corrected by the largest |t|.
    q
        False discovery rate of the uncorrected p of the flips.
    tfce
        Signed scores of cluster enhancement; None where they were not asked for.
    p_tfce
        Corrected by the largest |score|; None without.
    subjects, flips
        How many.
    """

    t: Array
    p_max: Array
    q: Array
    tfce: Array | None
    p_tfce: Array | None
    subjects: int
    flips: int

    def beyond(self) -> dict[str, NDArray[np.bool_]]:
        """Voxels (i, j, k) with a corrected p of at most LEVEL, by the test's name."""
        found = {"largest t": self.p_max <= LEVEL}
        if self.p_tfce is not None:
            found["TFCE"] = self.p_tfce <= LEVEL
        return found

    def maps(self) -> dict[str, Array]:
        """Every map by the name that its file gets; p as -log10, as maps want it."""
        found = {"t": self.t, "logp-max-t": _logp(self.p_max), "q": self.q}
        if self.tfce is not None and self.p_tfce is not None:
            found |= {"tfce": self.tfce, "logp-max-tfce": _logp(self.p_tfce)}
        return found

    def told(self) -> str:
        """One sentence."""
        counts = [f"{np.count_nonzero(v)} by {k}" for k, v in self.beyond().items()]
        return (
            f"Voxels with p ≤ {LEVEL:g}, family-wise, {self.flips} sign flips of "
            f"{self.subjects} subjects: {', '.join(counts)}."
        )


def voxel_test(
    differences: NDArray[np.float32],
    mask: NDArray[np.bool_],
    flips: int = FLIPS,
    enhanced: bool = True,
    seed: int = 0,
) -> Generator[Flipped, None, VoxelTested]:
    """Two-sided test of differences (N, i, j, k) in the voxels of `mask` (i, j, k).

    The unflipped data count as one of the flips. `enhanced` asks for cluster
    enhancement as well, which takes most of the time.

    Raises
    ------
    EngineError
        If there are fewer than 2 subjects, or no voxel in the mask.
    """
    if not mask.any():
        raise EngineError(
            "There is no gray matter in either mean picture, so no voxel can be "
            "tested. Compare pictures that show some."
        )
    values = differences[:, mask].astype(np.float64)
    told = paired_t(values)
    # computed as the flipped ones are: the flip of nobody, or of all, must tie with it
    observed = flipped_t(values, np.ones(len(values)))
    score = tfce(_placed(observed, mask))[mask] if enhanced else np.zeros_like(observed)
    size, high = np.abs(observed) - TINY, np.abs(score) * (1 - TINY)
    beyond, most_t, most_score = np.ones(len(size)), [np.inf], [np.inf]
    rng = np.random.default_rng(seed)
    for flip in range(flips):
        yield Flipped(flip, flips)
        t = flipped_t(values, rng.choice((-1.0, 1.0), len(values)))
        beyond += np.abs(t) >= size
        most_t.append(float(np.abs(t).max()))
        if enhanced:
            most_score.append(float(np.abs(tfce(_placed(t, mask))).max()))
    q = _around(false_discovery(beyond / (flips + 1)), mask)
    return VoxelTested(
        np.asarray(_placed(told, mask), np.float32),
        _around(_share_beyond(most_t, size), mask),
        q,
        np.asarray(_placed(score, mask), np.float32) if enhanced else None,
        _around(_share_beyond(most_score, high), mask) if enhanced else None,
        len(values),
        flips,
    )


def tfce(t: Floats) -> Floats:
    """Signed scores (i, j, k) of a map of t (i, j, k), both signs enhanced."""
    from scipy.ndimage import label

    found, top = np.zeros_like(t), float(np.abs(t).max())
    if top <= 0:
        return found
    flat = found.ravel()
    for sign in (1, -1):
        signed = sign * t
        for height in np.linspace(0, top, STEPS + 1)[1:]:
            there = signed >= height
            if not there.any():
                break
            numbers = label(there)[0].ravel()
            voxels = np.flatnonzero(numbers)
            sizes = np.bincount(numbers[voxels])
            gain = sign * sizes**EXTENT * height**HEIGHT
            flat[voxels] += gain[numbers[voxels]]
    return found


def _share_beyond(largest: list[float], values: Floats) -> Floats:
    """Share of `largest`, one of which is without bound, that reach each value."""
    order = np.sort(largest)
    return 1 - np.searchsorted(order, values, side="left") / len(order)


def _placed(values: Floats, mask: NDArray[np.bool_], outside: float = 0.0) -> Floats:
    found = np.full(mask.shape, outside)
    found[mask] = values
    return found


def _around(values: Floats, mask: NDArray[np.bool_]) -> Array:
    return np.asarray(_placed(values, mask, 1.0), np.float32)


def _logp(p: Array) -> Array:
    return np.asarray(-np.log10(p) + 0.0, np.float32)

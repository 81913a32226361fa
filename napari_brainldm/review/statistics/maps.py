"""Where readers clicked, and which metric goes with what they said."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.review.statistics.interval import (
    Floats,
    Interval,
    percentile_interval,
)


def fault_map(
    clicks: Floats, shape: tuple[int, int, int], sd_voxels: float, pictures: int
) -> NDArray[np.float32]:
    """Clicks per picture around each voxel (i, j, k), smeared by a Gaussian.

    Parameters
    ----------
    clicks
        (N, 3), voxel indices.
    sd_voxels
        Of the Gaussian; the map sums to clicks / pictures, less what of a click at the
        border falls outside.
    pictures
        How many were rated.
    """
    from scipy.ndimage import gaussian_filter

    counts = np.zeros(shape, np.float32)
    if len(clicks):
        inside = np.clip(np.rint(clicks).astype(int), 0, np.array(shape) - 1)
        np.add.at(counts, tuple(inside.T), 1)
    smeared = gaussian_filter(counts, sd_voxels, mode="constant")
    return np.asarray(smeared / max(pictures, 1), np.float32)


def rank_correlation(
    human: Floats, metric: Floats, draws: int, rng: np.random.Generator
) -> Interval:
    """Spearman's rho of two figures of the same stimuli (N,), stimuli drawn anew."""
    from scipy.stats import rankdata

    def rho(index: NDArray[np.int64]) -> float:
        x, y = human[index], metric[index]
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            return float("nan")
        return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])

    everyone = np.arange(len(human))
    samples = [rng.integers(0, len(human), len(human)) for _ in range(draws)]
    return percentile_interval(rho(everyone), np.array([rho(s) for s in samples]))

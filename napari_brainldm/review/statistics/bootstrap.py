"""Readers and cases both drawn anew: what would come out with others of either."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.review.statistics.detection import kernel, rate
from napari_brainldm.review.statistics.interval import Floats, probit

Weighted = Callable[[Floats, Floats], float]
"""A statistic of how often each reader (R,) and each case (N,) was drawn."""


def two_way(
    statistic: Weighted,
    readers: int,
    strata: NDArray[np.int64],
    draws: int,
    rng: np.random.Generator,
) -> Floats:
    """`statistic` of `draws` samples of readers and of cases within strata: (D,).

    Parameters
    ----------
    strata
        Class of each case (N,): as many of each are drawn as there are.
    """
    groups = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    found = np.empty(draws)
    for index in range(draws):
        chosen = rng.integers(0, readers, readers)
        weights = np.bincount(chosen, minlength=readers).astype(np.float64)
        cases = np.zeros(len(strata))
        for group in groups:
            picks = rng.choice(group, len(group))
            cases += np.bincount(picks, minlength=len(strata))
        found[index] = statistic(weights, cases)
    return found


def mean_auc(ratings: Floats, signal: NDArray[np.bool_]) -> Weighted:
    """Mean of the readers' areas as a weighted statistic.

    Parameters
    ----------
    ratings
        (R, N), NaN where a reader did not see a case.
    signal
        (N,), whether a case is one.
    """
    kernels = np.stack([kernel(row[signal], row[~signal]) for row in ratings])
    seen = np.isfinite(kernels)
    above, known = np.where(seen, kernels, 0.0), seen.astype(np.float64)

    def statistic(readers: Floats, cases: Floats) -> float:
        one, other = cases[signal], cases[~signal]
        total = (one @ known @ other) if one.size else np.zeros(len(readers))
        usable = (total > 0) & (readers > 0)
        areas = (one @ above @ other)[usable] / total[usable]
        return _mean(areas, readers[usable])

    return statistic


def mean_sensitivity(said: Floats, signal: NDArray[np.bool_]) -> Weighted:
    """Mean of the readers' d' as a weighted statistic; `said` (R, N) is 0, 1 or NaN."""
    seen = np.isfinite(said)
    yes, known = np.where(seen, said, 0.0), seen.astype(np.float64)

    def statistic(readers: Floats, cases: Floats) -> float:
        z = [
            probit(rate(yes[:, of] @ cases[of], known[:, of] @ cases[of]))
            for of in (signal, ~signal)
        ]
        return _mean(z[0] - z[1], readers)

    return statistic


def _mean(values: Floats, weights: Floats) -> float:
    total = weights.sum()
    return float(values @ weights / total) if total > 0 else float("nan")

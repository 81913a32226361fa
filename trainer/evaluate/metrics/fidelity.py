"""Do pictures show what was asked of them? Asked against measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.evaluate.segmentation import agreement

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Series:
    """One condition of several pictures: values (N,) asked for and measured."""

    asked: Floats
    measured: Floats


def fidelity(series: Series, unit: str) -> dict[str, float]:
    """r, slope, intercept and mean absolute error, the last two in `unit`.

    r_5_to_95 is r within these percentiles of what was asked for, so that a few people
    at the ends do not make it; it is left out where fewer than two remain.
    """
    x, y = series.asked, series.measured
    low, high = np.percentile(x, (5, 95))
    usual = (x >= low) & (x <= high)
    found = agreement(list(x), list(y))
    # of two or three people the ends are all, or all but one
    inner = {"r_5_to_95": pearson(x[usual], y[usual])} if usual.sum() > 1 else {}
    return {
        "r": found.r,
        **inner,
        "slope": found.slope,
        f"intercept_{unit}": found.intercept,
        f"mae_{unit}": found.mae,
    }


def pearson(x: Floats, y: Floats) -> float:
    """Correlation of two series (N,); 0 where one of them is constant."""
    return agreement(list(x), list(y)).r

"""An estimate with its interval, and the normal distribution's two functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LEVEL = 0.95
"""Of every interval in a report, but for the 90 % of an equivalence test."""


@dataclass(frozen=True)
class Interval:
    """An estimate between `low` and `high`, in the unit of the estimate."""

    estimate: float
    low: float
    high: float

    def through(self, function: Callable[[float], float]) -> Interval:
        """The same on another scale, by a rising `function`."""
        return Interval(*map(function, (self.estimate, self.low, self.high)))

    def covers(self, value: float) -> bool:
        """Whether `value` lies within."""
        return self.low <= value <= self.high


def phi(z: Any) -> Any:
    """Normal distribution function of `z`."""
    from scipy.special import ndtr

    return ndtr(z)


def probit(p: Any) -> Any:
    """Inverse of `phi`."""
    from scipy.special import ndtri

    return ndtri(p)


def normal_interval(estimate: float, error: float, level: float = LEVEL) -> Interval:
    """`estimate` plus and minus a normal quantile of standard errors `error`."""
    half = float(probit((1 + level) / 2)) * error
    return Interval(float(estimate), float(estimate - half), float(estimate + half))


def t_interval(values: Floats, level: float = LEVEL) -> Interval:
    """Mean of `values` (N,) with Student's interval; infinite for fewer than two."""
    from scipy.stats import t

    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, -np.inf, np.inf)
    error = float(np.std(values, ddof=1)) / np.sqrt(len(values))
    half = float(t.ppf((1 + level) / 2, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half)


def percentile_interval(
    estimate: float, draws: Floats, level: float = LEVEL
) -> Interval:
    """`estimate` with the middle `level` of bootstrap `draws`; NaN ones left out."""
    kept = draws[np.isfinite(draws)]
    if not len(kept):
        return Interval(float(estimate), np.nan, np.nan)
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(estimate), float(low), float(high))

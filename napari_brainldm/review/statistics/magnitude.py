"""Stevens' power law: how fast an estimated magnitude grows with the true one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_brainldm.review.statistics.interval import Floats, Interval


@dataclass(frozen=True)
class Power:
    """estimate = scale * magnitude ** exponent.

    Attributes
    ----------
    exponent
        Below 1 large magnitudes are underestimated.
    scale
        In units of the estimates.
    curvature_p
        Of a square term in log-log: small, a power law is not what the reader follows.
    regression
        1 - |r|, how much of the range a reader's scatter takes off the exponent when
        the roles of picture and estimate are swapped (Stevens & Greenbaum 1966).
    """

    exponent: Interval
    scale: float
    curvature_p: float
    regression: float


def power(magnitudes: Floats, estimates: Floats) -> Power:
    """Least squares of ln estimate on ln magnitude, both (N,) above 0, N >= 3."""
    from scipy.stats import linregress, t

    x, y = np.log(magnitudes), np.log(estimates)
    line = linregress(x, y)
    half = float(t.ppf(0.975, len(x) - 2)) * line.stderr
    exponent = Interval(line.slope, line.slope - half, line.slope + half)
    return Power(
        exponent, float(np.exp(line.intercept)), _curvature(x, y), 1 - abs(line.rvalue)
    )


def _curvature(x: Floats, y: Floats) -> float:
    """P value of a square term; NaN where there is no room for one."""
    from scipy.stats import t

    if len(np.unique(x)) < 3 or len(x) < 4:
        return float("nan")
    centred = x - x.mean()
    design = np.stack([np.ones_like(x), centred, centred**2], 1)
    solved, *_ = np.linalg.lstsq(design, y, rcond=None)
    rest = y - design @ solved
    free = len(x) - 3
    variance = rest @ rest / free * np.linalg.inv(design.T @ design)[2, 2]
    if variance <= 0:
        return float("nan")
    return float(2 * t.sf(abs(solved[2]) / np.sqrt(variance), free))

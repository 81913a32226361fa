"""Psychometric curves of signed comparisons: PSE, JND, Weber's law.

The chance of "the second is greater" at a signed level x is
lapse / 2 + (1 - lapse) * Phi((x - pse) / sigma). What data say of the three is computed
on a grid, so that few trials, adaptive levels and perfect readers all have an answer
with an honest interval. A lapse rate held at 0 would bias the rest (Prins 2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_brainldm.review.statistics.interval import (
    LEVEL,
    Floats,
    Interval,
    phi,
    t_interval,
)

JND_PER_SIGMA = 0.6745
"""The level at which three of four answers are right, in units of sigma."""

LAPSES = np.array([0.0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12])
LAPSE_PRIOR = np.exp(-LAPSES / 0.03)
"""Readers err off hand in a few of a hundred trials, seldom in more."""

POINTS = 41
"""Of the grid along each of pse and ln sigma."""


@dataclass(frozen=True)
class Fit:
    """A psychometric curve, in the unit of the levels.

    Attributes
    ----------
    pse
        Level at which both answers are alike: the side bias.
    jnd
        0.6745 sigma.
    ln_jnd_sd
        How surely ln JND is known.
    """

    pse: Interval
    jnd: Interval
    lapse: float
    ln_jnd_sd: float


def chance(levels: Any, pse: Any, sigma: Any, lapse: Any) -> Floats:
    """Chance of "the second is greater"; arrays broadcast."""
    z = (levels - pse) / sigma
    return np.asarray(lapse / 2 + (1 - lapse) * phi(z), np.float64)


def fit(levels: Floats, greater: Floats) -> Fit:
    """The curve behind trials at `levels` (N,) answered `greater` (N,), 0 or 1."""
    tested, where = np.unique(levels, return_inverse=True)
    yes = np.bincount(where, weights=greater).astype(np.float64)
    no = np.bincount(where, weights=1 - greater).astype(np.float64)
    widest = float(np.abs(tested).max())
    ranges = [(-widest, widest), (np.log(widest / 100), np.log(widest * 10))]
    for _ in range(3):  # each time closer around what the last one found
        axes = [np.linspace(low, high, POINTS) for low, high in ranges]
        weights = _posterior(tested, yes, no, axes[0], axes[1])
        sides = [weights.sum((1, 2)), weights.sum((0, 2))]
        ranges = list(map(_range, axes, sides, ranges))
    pse, ln_sigma = map(_quantiles, axes, sides)
    mean = float(sides[1] @ axes[1])
    spread = float(np.sqrt(sides[1] @ (axes[1] - mean) ** 2))
    jnd = ln_sigma.through(lambda x: float(JND_PER_SIGMA * np.exp(x)))
    return Fit(pse, jnd, float(weights.sum((0, 1)) @ LAPSES), spread)


def _posterior(
    levels: Floats, yes: Floats, no: Floats, pse: Floats, ln_sigma: Floats
) -> Floats:
    """Weight of every (pse, ln sigma, lapse), summing to 1."""
    shape = len(pse), len(ln_sigma), len(LAPSES)
    sigma = np.exp(ln_sigma)[None, :, None]
    total = np.broadcast_to(np.log(LAPSE_PRIOR), shape).copy()
    for x, k, m in zip(levels, yes, no, strict=True):
        p = np.clip(chance(x, pse[:, None, None], sigma, LAPSES), 1e-9, 1 - 1e-9)
        total += k * np.log(p) + m * np.log(1 - p)
    weights = np.exp(total - total.max())
    return np.asarray(weights / weights.sum(), np.float64)


def _range(
    axis: Floats, weights: Floats, limits: tuple[float, float]
) -> tuple[float, float]:
    """Mean plus and minus five standard deviations, within `limits`."""
    mean = float(weights @ axis)
    step = axis[1] - axis[0]
    reach = 5 * max(float(np.sqrt(weights @ (axis - mean) ** 2)), step)
    return max(limits[0], mean - reach), min(limits[1], mean + reach)


def _quantiles(axis: Floats, weights: Floats) -> Interval:
    """Median and the middle 95 % of weights on an even axis."""
    step = axis[1] - axis[0]
    edges = np.append(axis - step / 2, axis[-1] + step / 2)
    rising = np.concatenate([[0.0], np.cumsum(weights)])
    tails = (0.5, (1 - LEVEL) / 2, (1 + LEVEL) / 2)
    return Interval(*(float(np.interp(q, rising, edges)) for q in tails))


def weber_fraction(jnd: Interval) -> Interval:
    """JND / S of a JND in ln(second / first): e to the JND, less 1."""
    return jnd.through(lambda x: float(np.expm1(x)))


def weber_slope(standards: Floats, fits: list[Fit], log: bool) -> Interval:
    """Slope of ln JND on ln S over three or more standards; Weber's law says 1.

    Parameters
    ----------
    standards
        (K,), in the unit of the quantity.
    fits
        Their curves; in ln(second / first) where `log`, else in the quantity's unit.
    """
    x = np.log(standards)
    y = np.log([_in_units(f, s, log) for f, s in zip(fits, standards, strict=True)])
    weights = 1 / np.array([f.ln_jnd_sd for f in fits]) ** 2
    centred = x - weights @ x / weights.sum()
    below = float(weights @ centred**2)
    slope = float(weights @ (centred * y)) / below
    half = 1.96 / np.sqrt(below)
    return Interval(slope, slope - half, slope + half)


def _in_units(one: Fit, standard: float, log: bool) -> float:
    jnd = one.jnd.estimate
    return float(standard * np.expm1(jnd)) if log else jnd


def pooled(intervals: list[Interval]) -> Interval:
    """Mean over readers of a positive quantity, by its logarithm and Student's t."""
    logs = np.log([i.estimate for i in intervals])
    return t_interval(logs).through(lambda x: float(np.exp(x)))

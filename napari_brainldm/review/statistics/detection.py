"""Telling two classes apart: proportions, d', criterion, ROC and its area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_brainldm.review.statistics.interval import (
    LEVEL,
    Floats,
    Interval,
    normal_interval,
    probit,
)


def wilson(successes: int, trials: int, level: float = LEVEL) -> Interval:
    """A proportion with its score interval (Wilson 1927); NaN for no trials."""
    if trials == 0:
        return Interval(np.nan, np.nan, np.nan)
    return Interval(successes / trials, *score_interval(successes, trials, level))


def score_interval(
    successes: float, trials: int, level: float = LEVEL
) -> tuple[float, float]:
    """Ends of Wilson's interval (1927); `successes` need not be whole."""
    z, share = float(probit((1 + level) / 2)), successes / trials
    shrunk = 1 + z**2 / trials
    middle = (share + z**2 / (2 * trials)) / shrunk
    error = np.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    return float(middle - z * error / shrunk), float(middle + z * error / shrunk)


@dataclass(frozen=True)
class Sensitivity:
    """Signal detection of one reader.

    Attributes
    ----------
    d
        d', in standard deviations.
    criterion
        c: above 0 the reader is loath to say "signal".
    """

    d: Interval
    criterion: Interval


def rate(counted: Any, trials: Any) -> Any:
    """Log-linear rate, never 0 or 1 (Hautus 1995)."""
    return (counted + 0.5) / (trials + 1)


def sensitivity(
    hits: float, signals: float, alarms: float, noises: float
) -> Sensitivity:
    """D' and criterion from counts, with normal intervals.

    Variances are those of Gourevitch & Galanter 1967 at the log-linear rates.

    Parameters
    ----------
    hits
        Times "signal" was said of `signals`.
    alarms
        Times it was said of `noises`.
    """
    rates = rate(hits, signals), rate(alarms, noises)
    z_hit, z_alarm = (float(probit(p)) for p in rates)
    variance = sum(
        p * (1 - p) / n / _density(z) ** 2
        for p, n, z in zip(
            rates, (signals + 1, noises + 1), (z_hit, z_alarm), strict=True
        )
    )
    error = float(np.sqrt(variance))
    return Sensitivity(
        normal_interval(z_hit - z_alarm, error),
        normal_interval(-(z_hit + z_alarm) / 2, error / 2),
    )


def _density(z: float) -> float:
    return float(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))


def kernel(signal: Floats, noise: Floats) -> Floats:
    """1 where a signal is rated above a noise, 0.5 where equal: (S, N); NaN stays."""
    above = np.sign(signal[:, None] - noise[None, :])
    return np.asarray((above + 1) / 2, np.float64)


def auc(signal: Floats, noise: Floats) -> float:
    """Empirical area under the ROC: the Mann-Whitney statistic; NaN ratings left out.

    `signal` (S,) and `noise` (N,) are ratings that grow with "signal".
    """
    kept = (x[np.isfinite(x)] for x in (signal, noise))
    return float(np.mean(kernel(*kept)))


def auc_interval(signal: Floats, noise: Floats, level: float = LEVEL) -> Interval:
    """The area with the interval of DeLong et al. 1988, on the logit scale.

    Where that has no width (nothing overlaps, or all ratings are the same) the score
    interval of a proportion among as many trials as the smaller class has.
    """
    signal, noise = (x[np.isfinite(x)] for x in (signal, noise))
    if min(len(signal), len(noise)) < 2:
        return Interval(np.nan, np.nan, np.nan)
    table = kernel(signal, noise)
    area = float(table.mean())
    error = np.sqrt(
        table.mean(1).var(ddof=1) / len(signal) + table.mean(0).var(ddof=1) / len(noise)
    )
    if error == 0 or not 0 < area < 1:
        fewest = min(len(signal), len(noise))
        return Interval(area, *score_interval(area * fewest, fewest, level))
    logit = np.log(area / (1 - area))
    found = normal_interval(float(logit), float(error / (area * (1 - area))), level)
    return found.through(lambda x: float(1 / (1 + np.exp(-x))))


def roc(signal: Floats, noise: Floats) -> Floats:
    """Points (false alarm rate, hit rate) from (0, 0) to (1, 1): (P, 2)."""
    cuts = np.unique(np.concatenate([signal, noise]))[::-1]
    points = [((noise >= cut).mean(), (signal >= cut).mean()) for cut in cuts]
    return np.array([(0.0, 0.0), *points])

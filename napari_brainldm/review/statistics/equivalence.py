"""Whether readers are shown to be no better than chance: within a frozen margin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_brainldm.review.statistics.interval import (
    Floats,
    Interval,
    percentile_interval,
)

ALPHA = 0.05


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests (Schuirmann 1987).

    Attributes
    ----------
    interval
        90 %: within the margin exactly when both tests reject.
    p_low, p_high
        Of "not above the lower margin" and "not below the upper one".
    """

    interval: Interval
    p_low: float
    p_high: float
    shown: bool


def equivalence(
    estimate: float, draws: Floats, margin: tuple[float, float]
) -> Equivalence:
    """Test `estimate`, whose bootstrap gave `draws` (D,), against `margin`."""
    kept = draws[np.isfinite(draws)]
    p_low, p_high = (
        float((1 + beyond.sum()) / (1 + len(kept)))
        for beyond in (kept <= margin[0], kept >= margin[1])
    )
    interval = percentile_interval(estimate, draws, 1 - 2 * ALPHA)
    return Equivalence(interval, p_low, p_high, max(p_low, p_high) < ALPHA)

"""Conditions worth a name: what is typical of a model's people, and their extremes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.request import Conditions

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card, Covariate

TYPICAL = "Typical"
ENDS = {"Low": 5.0, "High": 95.0}
"""Words for the percentiles of the training people."""


def presets_of(card: Card) -> dict[str, Conditions]:
    """Name to conditions: the medians, and each number at both ends by itself.

    The ends are percentiles 5 and 95 of the card's histogram; of a number without one,
    of its training range.
    """
    found = {TYPICAL: card.complete(Conditions())}
    for covariate in card.vocabulary:
        if covariate.categories:
            continue
        for word, percent in ENDS.items():
            name = f"{word} {covariate.title[0].lower()}{covariate.title[1:]}"
            value = Conditions.of({covariate.name: percentile(covariate, percent)})
            found[name] = card.complete(value)
    return found


def percentile(covariate: Covariate, percent: float) -> float:
    """Value of a number below which `percent` of the training people lie."""
    histogram = covariate.histogram
    if histogram is None or not any(histogram.counts):
        span = covariate.high - covariate.low
        return covariate.low + percent / 100 * span
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    below = np.concatenate([[0.0], np.cumsum(histogram.counts)])
    return float(np.interp(percent / 100 * below[-1], below, edges))

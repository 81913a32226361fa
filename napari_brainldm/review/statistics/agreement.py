"""How far readers agree: coefficients of ratings (units, readers), NaN for none.

Sources: Fleiss 1971; Gwet 2008 and 2014 (AC1, AC2, missing ratings); Krippendorff 2011;
McGraw & Wong 1996 (ICC(A,1)).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from napari_brainldm.review.statistics.interval import (
    Floats,
    Interval,
    percentile_interval,
)


def counts(ratings: Floats) -> tuple[Floats, Floats]:
    """How many readers gave each category (units, Q), and the categories (Q,)."""
    categories = np.unique(ratings[np.isfinite(ratings)])
    table = (ratings[:, :, None] == categories).sum(1).astype(np.float64)
    return table, categories


def _observed(table: Floats, weights: Floats) -> float:
    """Mean weighted agreement of pairs in units that two or more readers rated."""
    readers = table.sum(1)
    several = readers >= 2
    table, readers = table[several], readers[several]
    pairs = (table * (table @ weights - 1)).sum(1) / (readers * (readers - 1))
    return float(pairs.mean()) if len(pairs) else float("nan")


def _shares(table: Floats) -> Floats:
    """Mean share of each category over the units (Q,)."""
    rated = table[table.sum(1) > 0]
    return np.asarray((rated / rated.sum(1, keepdims=True)).mean(0), np.float64)


def percent(ratings: Floats) -> float:
    """Mean share of agreeing pairs of readers, 0 to 1."""
    table, categories = counts(ratings)
    return _observed(table, np.eye(len(categories)))


def fleiss(ratings: Floats) -> float:
    """Fleiss' kappa; with missing ratings as Gwet 2014 extends it."""
    table, categories = counts(ratings)
    chance = float((_shares(table) ** 2).sum())
    return _corrected(_observed(table, np.eye(len(categories))), chance)


def gwet(ratings: Floats, weights: Callable[[Floats], Floats] | None = None) -> float:
    """Gwet's AC1; with `weights`, such as `quadratic`, his AC2."""
    table, categories = counts(ratings)
    if len(categories) < 2:
        return float("nan")
    w = np.eye(len(categories)) if weights is None else weights(categories)
    share, q = _shares(table), len(categories)
    chance = float(w.sum() * (share * (1 - share)).sum() / (q * (q - 1)))
    return _corrected(_observed(table, w), chance)


def quadratic(categories: Floats) -> Floats:
    """1 for equal categories, falling with the square of their distance: (Q, Q)."""
    apart = categories[:, None] - categories[None, :]
    return np.asarray(1 - (apart / np.ptp(categories)) ** 2, np.float64)


def _corrected(observed: float, chance: float) -> float:
    return (observed - chance) / (1 - chance) if chance < 1 else float("nan")


def krippendorff(ratings: Floats, metric: str = "nominal") -> float:
    """Krippendorff's alpha; `metric` is "nominal", "ordinal" or "interval"."""
    table, categories = counts(ratings)
    table = table[table.sum(1) >= 2]
    readers = table.sum(1, keepdims=True)
    pairs = (table / (readers - 1)).T @ table
    pairs -= np.diag((table / (readers - 1)).sum(0))
    totals = pairs.sum(0)
    apart = _DISTANCES[metric](categories, totals)
    expected = np.outer(totals, totals) - np.diag(totals)
    if not (expected * apart).sum():
        return float("nan")
    ratio = (pairs * apart).sum() / (expected * apart).sum() * (totals.sum() - 1)
    return float(1 - ratio)


def _nominal(categories: Floats, totals: Floats) -> Floats:
    return np.asarray(1 - np.eye(len(categories)), np.float64)


def _interval(categories: Floats, totals: Floats) -> Floats:
    return np.asarray((categories[:, None] - categories[None, :]) ** 2, np.float64)


def _ordinal(categories: Floats, totals: Floats) -> Floats:
    middle = np.cumsum(totals) - totals / 2
    return np.asarray((middle[:, None] - middle[None, :]) ** 2, np.float64)


_DISTANCES = {"nominal": _nominal, "ordinal": _ordinal, "interval": _interval}


def icc(ratings: Floats) -> float:
    """ICC(A,1): absolute agreement of single readers, two-way random.

    Only units that every reader rated count; NaN for fewer than two.
    """
    whole = ratings[np.isfinite(ratings).all(1)]
    n, k = whole.shape
    if n < 2 or k < 2:
        return float("nan")
    grand = whole.mean()
    units = k * ((whole.mean(1) - grand) ** 2).sum() / (n - 1)
    readers = n * ((whole.mean(0) - grand) ** 2).sum() / (k - 1)
    rest = whole - whole.mean(1, keepdims=True) - whole.mean(0) + grand
    error = (rest**2).sum() / ((n - 1) * (k - 1))
    below = units + (k - 1) * error + k * (readers - error) / n
    return float((units - error) / below) if below else float("nan")


COEFFICIENTS: dict[str, Callable[[Floats], float]] = {
    "percent agreement": percent,
    "Fleiss' kappa": fleiss,
    "Gwet's AC1": gwet,
    "Gwet's AC2, quadratic": lambda r: gwet(r, quadratic),
    "Krippendorff's alpha, nominal": krippendorff,
    "Krippendorff's alpha, ordinal": lambda r: krippendorff(r, "ordinal"),
    "ICC(A,1)": icc,
}


def agreement(
    ratings: Floats, draws: int, rng: np.random.Generator
) -> dict[str, Interval]:
    """Every coefficient with a percentile interval from units drawn anew."""
    samples = [
        ratings[rng.integers(0, len(ratings), len(ratings))] for _ in range(draws)
    ]
    return {
        name: percentile_interval(
            coefficient(ratings), np.array([coefficient(s) for s in samples])
        )
        for name, coefficient in COEFFICIENTS.items()
    }

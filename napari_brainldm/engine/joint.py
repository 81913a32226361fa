"""The joint distribution of the covariates in the training set, without its people.

Per combination of categories (women, men) the quantiles of every number, and the
correlations of their ranks, as a Gaussian copula (Sklar 1959). Women's and
men's volumes keep their own spread, and old brains have large ventricles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.request import Conditions, EngineError, Value

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Covariate

LEAST, MOST = 5, 24
"""People per step between two quantiles, and how many steps there are at most.

A group of fewer people than LEAST is left out: its quantiles would be persons.
"""


@dataclass(frozen=True)
class Group:
    """The training people of one combination of categories.

    Attributes
    ----------
    categories
        Their categories, in the order of the vocabulary.
    people
        How many they were.
    quantiles
        Per number of the vocabulary its quantiles at even shares from 0 to 1, in the
        covariate's unit.
    correlations
        Of normal scores that rank as the numbers do, square.
    """

    categories: tuple[str, ...]
    people: int
    quantiles: tuple[tuple[float, ...], ...]
    correlations: tuple[tuple[float, ...], ...]


def fit_joint(
    vocabulary: Sequence[Covariate], people: Sequence[Conditions]
) -> tuple[Group, ...]:
    """The groups that `people` form, the largest first."""
    rows: dict[tuple[str, ...], list[list[float]]] = {}
    for person in people:
        told = person.as_dict()
        key = tuple(str(told[c.name]) for c in vocabulary if c.categories)
        numbers = [float(told[c.name]) for c in vocabulary if not c.categories]
        rows.setdefault(key, []).append(numbers)
    groups = [
        _group(key, np.array(found, dtype=np.float64))
        for key, found in rows.items()
        if len(found) >= LEAST
    ]
    return tuple(sorted(groups, key=lambda group: (-group.people, group.categories)))


def draw_conditions(
    groups: Sequence[Group], vocabulary: Sequence[Covariate], seed: tuple[int, ...]
) -> Conditions:
    """One person of the joint distribution, from `seed` alone.

    Raises
    ------
    EngineError
        If there are no groups.
    """
    if not groups:
        raise EngineError(
            "The card of this checkpoint does not tell the joint distribution of its "
            "training set, so no conditions can be drawn from it. Give them by --plan "
            "or --grid, or train the stage ldm again."
        )
    rng = np.random.default_rng(seed)
    shares = np.array([group.people for group in groups], dtype=np.float64)
    group = groups[int(rng.choice(len(groups), p=shares / shares.sum()))]
    categories, numbers = iter(group.categories), iter(_numbers(group, rng))
    values: dict[str, Value] = {
        c.name: next(categories) if c.categories else next(numbers) for c in vocabulary
    }
    return Conditions.of(values)


def _numbers(group: Group, rng: np.random.Generator) -> list[float]:
    """A draw of every number of `group`: correlated scores, put on the quantiles."""
    if not group.quantiles:
        return []
    scores = _root(np.array(group.correlations)) @ rng.standard_normal(
        len(group.quantiles)
    )
    shares = [NormalDist().cdf(float(score)) for score in scores]
    return [
        float(np.interp(share, np.linspace(0, 1, len(levels)), levels))
        for share, levels in zip(shares, group.quantiles, strict=True)
    ]


def _root(correlations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length 1 whose products are `correlations`, or the nearest possible."""
    values, vectors = np.linalg.eigh(correlations)
    root = vectors * np.sqrt(values.clip(min=0))
    return np.asarray(root / np.linalg.norm(root, axis=1, keepdims=True))


def _group(categories: tuple[str, ...], numbers: NDArray[np.float64]) -> Group:
    """`numbers` (people, n) of one group."""
    steps = max(1, min(MOST, len(numbers) // LEAST))
    levels = np.quantile(numbers, np.linspace(0, 1, steps + 1), axis=0).T
    # the least and the greatest value would be those of a person: means of a few
    ranked = np.sort(numbers, axis=0)
    levels[:, 0], levels[:, -1] = ranked[:LEAST].mean(0), ranked[-LEAST:].mean(0)
    return Group(
        categories,
        len(numbers),
        tuple(tuple(float(v) for v in row) for row in levels),
        tuple(tuple(float(v) for v in row) for row in _correlations(numbers)),
    )


def _correlations(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of normal scores whose ranks correlate as those of `numbers` (people, n) do.

    From Spearman's rho, r = 2 sin(pi rho / 6) (Pearson 1907), so that draws keep it
    whatever the shape of the numbers; 0 where a number is constant.
    """
    if not numbers.shape[1]:
        return np.zeros((0, 0))
    ranks = np.array([_ranks(column) for column in numbers.T])
    centred = ranks - ranks.mean(1, keepdims=True)
    norms = np.sqrt((centred**2).sum(1, keepdims=True))
    scaled = np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)
    found = 2 * np.sin(np.pi / 6 * (scaled @ scaled.T).clip(-1, 1))
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)


def _ranks(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean ranks (people,) of `column`: equal values rank alike."""
    ordered = np.sort(column)
    below = np.searchsorted(ordered, column, "left")
    upto = np.searchsorted(ordered, column, "right")
    return np.asarray((below + upto) / 2)

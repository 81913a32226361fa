"""What can be done to connectivity before a picture is asked for it: pure edits.

All of them act on Fisher z, where 0 is no correlation and factors are meant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.components import Components, members
from napari_brainldm.engine.fnc import Fnc, FncTable, Vector
from napari_brainldm.engine.request import EngineError

RANK = 64
"""Most directions along which random connectivity varies as the people do."""

_STREAM = 53
"""Beside the seed, so that no other draw of it is the same."""


@dataclass(frozen=True, eq=False)
class FncLaw:
    """What random connectivity has in common with that of many people.

    Attributes
    ----------
    mean
        (p,), Fisher z.
    factors
        (k, p): a standard normal (k,) times these varies as the people do.
    rest
        (p,): SD of each connection beside that.
    norms
        (2,): the least and the greatest length of a vector.
    """

    mean: Vector
    factors: Vector
    rest: Vector
    norms: Vector


def scaled(
    fnc: Fnc, components: Components, first: str, second: str, factor: float
) -> Fnc:
    """`fnc` with the connections between two networks times `factor`.

    The same network twice is the connections within it.
    """
    chosen = between(components, first, second)
    vector = np.where(chosen, np.float32(factor) * fnc.vector, fnc.vector)
    told = f"{fnc.name}, {first}-{second} x {factor:g}"
    return replace(fnc, vector=vector, name=told)


def without(fnc: Fnc, components: Components, domain: str) -> Fnc:
    """`fnc` with every connection of one network 0, within it and to all others."""
    rows, columns = np.triu_indices(len(components), 1)
    inside = members(components, domain)
    chosen = np.isin(rows, inside) | np.isin(columns, inside)
    vector = np.where(chosen, np.float32(0), fnc.vector)
    return replace(fnc, vector=vector, name=f"{fnc.name}, without {domain}")


def swapped(
    fnc: Fnc, other: Fnc, components: Components, first: str, second: str
) -> Fnc:
    """`fnc` with the connections between two networks of `other`."""
    if fnc.count != other.count:
        raise EngineError(
            f"{other.name} has {other.count} components and {fnc.name} {fnc.count}. "
            "Choose connectivity of the same components."
        )
    chosen = between(components, first, second)
    vector = np.where(chosen, other.vector, fnc.vector)
    told = f"{fnc.name}, {first}-{second} of {other.name}"
    return replace(fnc, vector=vector, name=told)


def between(components: Components, first: str, second: str) -> NDArray[np.bool_]:
    """Which of the p connections run between two networks: (p,)."""
    rows, columns = np.triu_indices(len(components), 1)
    one, two = (members(components, name) for name in (first, second))
    there = np.isin(rows, one) & np.isin(columns, two)
    back = np.isin(rows, two) & np.isin(columns, one)
    return np.asarray(there | back)


def mean_of(table: FncTable) -> Fnc:
    """The mean of all participants of `table`."""
    return Fnc(_mean(table.vectors), f"mean of {len(table.vectors)}")


def law_of(vectors: Vector, rank: int = RANK) -> FncLaw:
    """Mean, covariance and norms of vectors (N, p).

    The covariance is that along the leading `rank` principal directions (at most
    N - 1), and the variance of each connection beside them.

    Raises
    ------
    EngineError
        If there are fewer than 3 people, whose covariance says nothing.
    """
    if len(vectors) < 3:
        raise EngineError(
            f"The connectivity of {len(vectors)} people was given; at least 3 are "
            "needed to know how it varies. Load a table of several people."
        )
    mean = _mean(vectors)
    away = vectors.astype(np.float64) - mean
    _, values, rows = np.linalg.svd(away, full_matrices=False)
    kept = min(rank, len(vectors) - 1)
    factors = (values[:kept, None] / np.sqrt(len(vectors) - 1)) * rows[:kept]
    left = away.var(0, ddof=1) - np.square(factors).sum(0)
    lengths = np.linalg.norm(vectors, axis=1)
    ends = np.array([lengths.min(), lengths.max()])
    found = (factors, np.sqrt(np.maximum(left, 0)), ends)
    return FncLaw(mean, *(np.asarray(part, np.float32) for part in found))


def random(law: FncLaw, seed: int) -> Fnc:
    """Connectivity of nobody, matched in mean, covariance and norm: drawn by `seed`.

    A Gaussian draw, its length kept within those that people have.
    """
    rng = np.random.default_rng([seed, _STREAM])
    along = rng.standard_normal(len(law.factors)) @ law.factors
    beside = rng.standard_normal(len(law.mean)) * law.rest
    drawn = law.mean + along + beside
    own = max(float(np.linalg.norm(drawn)), 1e-12)
    vector = drawn * (np.clip(own, *law.norms) / own)
    return Fnc(np.asarray(vector, np.float32), f"random {seed}")


def strange(law: FncLaw, fnc: Fnc) -> str:
    """A sentence if `fnc` is longer or shorter than anybody's; else empty."""
    own = float(np.linalg.norm(fnc.vector))
    low, high = (float(end) for end in law.norms)
    if low <= own <= high:
        return ""
    side = "weaker" if own < low else "stronger"
    return (
        f"{side.capitalize()} than any connectivity of the training set (length "
        f"{own:.3g}; {low:.3g} to {high:.3g} there): the model has not seen such."
    )


def _mean(vectors: Vector) -> Vector:
    return np.asarray(vectors.mean(0, dtype=np.float64), np.float32)

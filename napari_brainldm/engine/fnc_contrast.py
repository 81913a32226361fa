"""Contrasts of connectivity: which pictures are compared, and with which null.

Connectivity against random vectors alone would only show that what lies off the data
changes a picture, so the random one is matched, and others are offered beside it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.compared import Compared, Sharpened, compare
from napari_brainldm.engine.contrast import FLOOR, counted
from napari_brainldm.engine.fnc_edit import random
from napari_brainldm.engine.inference import null_weights
from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Request,
    Seed,
    drawn_from,
    redrawn,
)
from napari_brainldm.engine.volume import Array, Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.fnc import Fnc
    from napari_brainldm.engine.renderer import Progress, Renderer

RANDOM, ANOTHER, NONE, MEAN = "random", "another", "none", "mean"
AGAINST = {
    RANDOM: "random connectivity, matched in mean, covariance and norm",
    ANOTHER: "another subject's connectivity",
    NONE: "no condition at all",
    MEAN: "the mean connectivity of the training set",
}
"""What people can be compared with, in words."""

SEEDS_APART = 1000
"""Between the first seeds of two people: more than anybody asks for of one."""

NULL_DRAWS = 1_000_000
"""Where the seeds of the null's random connectivity begin: far from all others."""

SHOWN = 0.05
"""A probability of gray matter below which a voxel shows nothing."""

Pairs = tuple[tuple[Request, Request], ...]


@dataclass(frozen=True, eq=False)
class Contrasted:
    """A contrast, and what it is judged by.

    Attributes
    ----------
    compared
        The pairs of people.
    against
        A key of AGAINST.
    null
        (M, i, j, k), differences of two random vectors under the same noise; M may
        be 0.
    error
        (i, j, k): how far the autoencoder alone is off at the mean first picture.
    """

    compared: Compared
    against: str
    null: NDArray[np.float32]
    error: Array

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Where either mean picture shows gray matter: bool (i, j, k)."""
        either = np.maximum(self.compared.first.data, self.compared.second.data)
        return np.asarray(either > SHOWN)

    @property
    def spread(self) -> Volume:
        """SD over people; of one alone, over seeds."""
        if self.compared.people > 1:
            return self.compared.sd
        return Volume(self.compared.seed_sd[0], self.compared.first.affine)

    @property
    def effect(self) -> Volume:
        """Hedges' g over people; of one alone, mean over SD of the seeds."""
        if self.compared.people > 1:
            return self.compared.effect
        mean, sd = self.compared.mean.data, self.compared.seed_sd[0]
        found = np.divide(mean, sd, out=np.zeros_like(mean), where=sd > FLOOR)
        return Volume(found, self.compared.first.affine)

    @property
    def adjusted(self) -> Volume:
        """The mean difference less its mean in the mask, 0 elsewhere."""
        mean, mask = self.compared.mean, self.mask
        away = mean.data - mean.data[mask].mean() if mask.any() else mean.data
        return Volume(np.where(mask, away, np.float32(0)), mean.affine)

    @property
    def least(self) -> float:
        """How far the autoencoder alone is off in the mask, on average."""
        return float(self.error[self.mask].mean()) if self.mask.any() else 0.0

    def beyond(self, threshold: float) -> NDArray[np.bool_]:
        """Voxels (i, j, k) of the mask whose effect is at least `threshold`.

        An effect has no size: where everybody changes alike it is large, however small
        the change. So the mean difference has to be above `least` too; a threshold of 0
        takes the mask as it is.
        """
        large = np.abs(self.effect.data) >= threshold
        least = max(FLOOR, self.least if threshold > 0 else 0.0)
        return np.asarray(large & self.mask & (np.abs(self.compared.mean.data) > least))

    def told_beyond(self, effect: str, threshold: float) -> str:
        """Which voxels `beyond` takes, in words; `effect` names the effect."""
        return (
            f"|{effect}| ≥ {threshold:g} and a difference above {self.least:.2g}, what "
            "the autoencoder is off by on average"
        )

    def percentile(self) -> Volume | None:
        """Share in % of the null below the absolute difference; None without one."""
        if not len(self.null):
            return None
        return Volume(100 * self._by_chance[0], self.compared.first.affine)

    @property
    def null_sizes(self) -> NDArray[np.float32]:
        """Mean size (K,), within the mask, of every mean of `null_means`."""
        return self._by_chance[1]

    @cached_property
    def _by_chance(self) -> tuple[Array, NDArray[np.float32]]:
        """Share of the null's means below the difference, and their sizes: one walk."""
        size = np.abs(self.compared.mean.data)
        where = self.mask if self.mask.any() else np.ones_like(self.mask)
        below, sizes = np.zeros_like(size), []
        for one in self.null_means():
            below += np.abs(one) < size
            sizes.append(np.abs(one[where]).mean())
        below /= max(len(sizes), 1)
        return below, np.array(sizes, np.float32)

    def null_means(self) -> Iterator[Array]:
        """Mean differences (i, j, k) of as many null pairs as there are people."""
        weights = null_weights(len(self.null), self.compared.people)
        for one in weights.astype(np.float32):
            yield np.tensordot(one, self.null, 1)


def pairs_against(
    renderer: Renderer,
    request: Request,
    people: Sequence[Fnc],
    against: str,
    others: Sequence[Fnc] = (),
) -> Pairs:
    """`request` of each of `people`, and of what that person is compared with.

    Parameters
    ----------
    people
        Whose connectivity the first of each pair has.
    against
        A key of AGAINST.
    others
        Of whom "another subject" is taken, in turn, for each of `people`; those who
        are among `people` themselves, edited or not, are passed over.

    Raises
    ------
    EngineError
        If there is no other person, or the model cannot go without a condition.
    """
    first = [_of(renderer, request, fnc) for fnc in people]
    if against == NONE:
        _check_droppable(renderer)
        second = [replace(one, guidance=0.0) for one in first]
    else:
        vectors = _second(renderer, people, against, others)
        second = [_of(renderer, request, fnc) for fnc in vectors]
    pairs = zip(first, second, strict=True)
    return tuple(_own_noise(pair, number) for number, pair in enumerate(pairs))


def _own_noise(pair: tuple[Request, Request], number: int) -> tuple[Request, Request]:
    """Both of a pair share their noise, and no two people do.

    Else what the one noise does would be told as something about people.
    """
    first, second = pair
    seed = drawn_from(first.origin)
    if seed is None or number == 0:
        return pair
    moved = seed + SEEDS_APART * number
    return redrawn(first, moved), redrawn(second, moved)


def _second(
    renderer: Renderer, people: Sequence[Fnc], against: str, others: Sequence[Fnc]
) -> list[Fnc]:
    known = renderer.fnc
    if against == MEAN:
        return [known.of(known.mean)] * len(people)
    if against == RANDOM:
        return _drawn(renderer, len(people))
    left = _outside(people, others)
    return [left[number % len(left)] for number in range(len(people))]


def _drawn(renderer: Renderer, count: int) -> list[Fnc]:
    """Random connectivity, another one each time."""
    law = renderer.checkpoint.fnc_law()
    return [random(law, number) for number in range(1, count + 1)]


def _outside(people: Sequence[Fnc], others: Sequence[Fnc]) -> list[Fnc]:
    """Those of `others` who are not among `people`.

    Partners from within would cancel: everybody would be once A and once B under the
    same noise, and the mean difference would be 0.
    """
    known = {fnc.digest for fnc in people}
    persons = {fnc.person for fnc in people if fnc.person}
    left = [f for f in others if f.digest not in known and f.person not in persons]
    if not left and len(people) > 1:
        raise EngineError(
            f"A holds {len(people)} subjects, and nobody to compare with is outside "
            "it. Choose a group for A, or compare with the mean or with random "
            "connectivity."
        )
    if not left:
        raise EngineError(
            "There is no other subject to compare with. Choose somebody else for B, "
            "or load a table of connectivity that holds others."
        )
    return left


def _of(renderer: Renderer, request: Request, fnc: Fnc) -> Request:
    digest = renderer.fnc.admit(fnc)
    return replace(request, conditions=Conditions(request.conditions.values, digest))


def _check_droppable(renderer: Renderer) -> None:
    spec = renderer.card.denoiser
    if spec is None or not spec.droppable:
        raise EngineError(
            f"{renderer.card.name} was trained without dropped conditions, so it makes "
            "no picture without connectivity. Compare with the mean instead."
        )


def contrasted(
    renderer: Renderer, pairs: Pairs, against: str, seeds: int, nulls: int
) -> Generator[Progress | Sharpened, None, Contrasted]:
    """Compare every pair under `seeds` seeds, then `nulls` pairs of random vectors.

    One person alone meets another random vector under every seed: a single one would
    show what is peculiar to it.

    The mean so far is yielded after every pair; whoever drives may stop.
    """
    alone = against == RANDOM and len(pairs) == 1
    vectors = _drawn(renderer, seeds) if alone else []
    seconds = [_of(renderer, pairs[0][1], vector) for vector in vectors]
    compared = yield from compare(renderer, pairs, seeds, seconds)
    parameters = (*compared.record.parameters, ("against", AGAINST[against]))
    named = replace(compared.record, parameters=parameters)
    compared = replace(compared, record=named)
    null = yield from _null(renderer, pairs[0][0], nulls)
    rebuilt = renderer.rebuild(compared.first.data)
    error = np.abs(rebuilt - compared.first.data)
    return Contrasted(compared, against, null, error)


def _null(
    renderer: Renderer, request: Request, count: int
) -> Generator[Progress, None, NDArray[np.float32]]:
    """Differences (M, i, j, k) of pairs that differ in nothing that matters."""
    law = renderer.checkpoint.fnc_law()
    first = drawn_from(request.origin) or 0
    found = np.zeros((count, *renderer.card.grid.shape), np.float32)
    for number in range(count):
        seeded = replace(request, origin=Seed(first + number))
        for half, sign in enumerate((1, -1)):
            fnc = random(law, NULL_DRAWS + 2 * number + half)
            steps = renderer.render(_of(renderer, seeded, fnc))
            picture = yield from counted(steps, 2 * number + half, 2 * count)
            found[number] += sign * picture.data
    return found

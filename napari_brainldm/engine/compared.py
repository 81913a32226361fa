"""Paired contrasts of several people: each under two requests that share their noise.

Seeds are replicates of the model, people are people: a person's difference is the mean
over seeds, and only people count as a sample (see `engine.inference`).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.contrast import Running, counted, seeds_from
from napari_brainldm.engine.inference import dz, hedges
from napari_brainldm.engine.request import Derived, EngineError, Request, scans_of
from napari_brainldm.engine.volume import Array, Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.renderer import Progress, Renderer


@dataclass(frozen=True, eq=False)
class Sharpened:
    """A contrast on its way: the mean difference of `done` of `total` pairs.

    `record` tells how it came to be so far.
    """

    mean: Volume
    done: int
    total: int
    record: Derived


@dataclass(frozen=True, eq=False)
class Compared:
    """Maps of several people under two conditions.

    Attributes
    ----------
    first, second
        Mean over people and seeds.
    differences
        (N, i, j, k), first minus second of each person, mean over seeds.
    seed_sd
        (N, i, j, k), SD over seeds of each person's differences; 0 for one seed.
    seeds
        Of each person.
    record
        How all of it came to be.
    floor
        (i, j, k), SD over seeds of the first pictures of one person, mean over people:
        what another seed alone changes. None where it was not kept.
    halves
        Mean differences of every other seed, (i, j, k) each; None for one seed.
    """

    first: Volume
    second: Volume
    differences: NDArray[np.float32]
    seed_sd: NDArray[np.float32]
    seeds: int
    record: Derived
    floor: Array | None = None
    halves: tuple[Array, Array] | None = None

    @property
    def people(self) -> int:
        """Number of subjects."""
        return len(self.differences)

    @property
    def spreads(self) -> bool:
        """Whether differences have an SD: over people, or over seeds of one."""
        return self.people > 1 or self.seeds > 1

    @property
    def mean(self) -> Volume:
        """Mean difference over people, signed."""
        return self._volume(self.differences.mean(0))

    @property
    def sd(self) -> Volume:
        """SD of the difference over people; an EngineError for one alone."""
        _check_people(self.people)
        return self._volume(self.differences.std(0, ddof=1))

    @property
    def effect(self) -> Volume:
        """Hedges' g of pairs in every voxel; an EngineError for one person alone."""
        _check_people(self.people)
        flat = self.differences.reshape(self.people, -1).astype(np.float64)
        found = hedges(dz(flat), self.people)
        return self._volume(found.reshape(self.differences.shape[1:]))

    def sentence(self) -> str:
        """What may be inferred: n, and of what."""
        seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        if self.people == 1:
            told = (
                f"One subject, {seeds}: this describes the model, not a "
                "population, so there are no p-values."
            )
            if not self.spreads:
                told += " An effect size needs two seeds or more."
            return told
        return (
            f"{self.people} subjects, {seeds} each; the subject is the unit of "
            "inference, seeds are averaged first."
        )

    def _volume(self, data: NDArray[np.floating]) -> Volume:
        return Volume(np.asarray(data, np.float32), self.first.affine)


def compare(
    renderer: Renderer,
    people: Sequence[tuple[Request, Request]],
    seeds: int,
    seconds: Sequence[Request] = (),
) -> Generator[Progress | Sharpened, None, Compared]:
    """Render both requests of each of `people` under `seeds` seeds, pair by pair.

    Both of a pair start from the same noise, that of the first request's seed and of
    those that follow it. One seed of everybody comes before the next, so that the
    mean, yielded after every pair, sharpens evenly; whoever drives may stop.

    Parameters
    ----------
    people
        First and second request of each person.
    seconds
        Taken in turn, by seed, in place of the second requests; for one person, whose
        difference should not be that from a single vector.

    Raises
    ------
    EngineError
        If there is nobody, or a request starts from a scan.
    """
    if not people or seeds < 1:
        raise EngineError(
            f"{len(people)} subjects under {seeds} seeds were asked for; at least one "
            "of each is needed. Choose a subject and a number of seeds."
        )
    pairs = [_seeded(first, seconds or (second,), seeds) for first, second in people]
    affine, total = renderer.card.grid.matrix, len(people) * seeds
    means = Running(), Running(), Running()
    each, own = [Running() for _ in people], [Running() for _ in people]
    halves, asked = (Running(), Running()), list[Request]()
    for done, (seed, person) in enumerate(np.ndindex(seeds, len(people))):
        pictures: list[Array] = []
        for half, request in enumerate(pairs[person][seed]):
            picture = yield from counted(
                renderer.render(request), 2 * done + half, 2 * total
            )
            pictures.append(picture.data)
            asked.append(renderer.resolve(request))
        change = pictures[0] - pictures[1]
        for mean, data in zip(means, (*pictures, change), strict=True):
            mean.add(data)
        each[person].add(change)
        own[person].add(pictures[0])
        halves[seed % 2].add(change)
        told = (("pairs", done + 1.0), ("of", float(total)))
        so_far = Derived("paired contrast, unfinished", told, tuple(asked))
        yield Sharpened(Volume(means[2].mean(), affine), done + 1, total, so_far)
    return Compared(
        Volume(means[0].mean(), affine),
        Volume(means[1].mean(), affine),
        np.stack([one.mean() for one in each]),
        np.stack([one.sd() for one in each]),
        seeds,
        Derived("paired contrast", (("seeds", float(seeds)),), tuple(asked)),
        np.mean([one.sd() for one in own], axis=0),
        (halves[0].mean(), halves[1].mean()) if seeds > 1 else None,
    )


def _seeded(
    first: Request, seconds: Sequence[Request], seeds: int
) -> list[tuple[Request, Request]]:
    if scans_of(first.origin):
        raise EngineError(
            "A request of the comparison starts from a scan, whose noise is its own. "
            "Compare pictures that start from a seed."
        )
    asked = seeds_from(first, max(seeds, 2))[:seeds]
    return [
        (one, replace(seconds[number % len(seconds)], origin=one.origin))
        for number, one in enumerate(asked)
    ]


def _check_people(people: int) -> None:
    if people < 2:
        raise EngineError(
            "One subject alone has no spread between subjects. Load a table of several "
            "subjects."
        )

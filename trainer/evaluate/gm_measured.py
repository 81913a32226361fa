"""How much generated gray matter is like the real one of the same person.

A brain is like every other brain, so the mean map of the training people alone
correlates highly with anybody's: it is the floor. A single map differs from the mean in
what the model draws by chance as well, so it may correlate less even if the model is
perfect; the *expected* map, the model's answer to pure noise in one step, is the mean
of all that it could draw, and is what can be fairly held against the mean map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.fnc import Fnc, Vector
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Conditions, Request, Sampler, Seed
from napari_brainldm.engine.volume import Array
from trainer.evaluate.table import means
from trainer.stages.gm_autoencoder import GRAY_LEVEL, correlation

Floats = NDArray[np.float64]

WHOLE, GRAY = "r", "r gray"
EXPECTED, EXPECTED_GRAY = "expected r", "expected r gray"
BEYOND = "beyond the mean"
FIGURES = (WHOLE, GRAY, EXPECTED, EXPECTED_GRAY, BEYOND)
"""Of one person: Pearson correlations over the whole map and within gray matter, of
single maps and of the expected one; and of what the expected one and the real one
differ by from the mean map, in gray matter."""

ONE_STEP = Sampler("dpm++2m", 1)


@dataclass(frozen=True, eq=False)
class Unseen:
    """People whom no stage saw, and what their maps are measured by.

    Attributes
    ----------
    subjects
        Whose each of the N maps is.
    places
        (N,), numbers that seeds are made of.
    maps
        (N, i, j, k), the real ones.
    mean
        (i, j, k), mean map of the training people.
    """

    subjects: tuple[str, ...]
    places: NDArray[np.intp]
    maps: NDArray[np.float32]
    mean: Array

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Gray matter, by the mean map of the training people: bool (i, j, k)."""
        return np.asarray(self.mean > GRAY_LEVEL)

    def likeness(self, number: int, picture: Array) -> tuple[float, float]:
        """Correlation of `picture` with map `number`: whole, and in gray matter."""
        pair = picture[None], self.maps[number][None]
        whole = correlation(*pair, np.ones(picture.shape, bool))
        return whole, correlation(*pair, self.mask)


def guided(
    renderer: Renderer, vectors: Vector, unseen: Unseen, seeds: int
) -> Iterator[dict[str, float]]:
    """FIGURES of maps made under `vectors` (N, p), one row for each person."""
    for number, (place, vector) in enumerate(zip(unseen.places, vectors, strict=True)):
        first = int(place) * seeds
        digest = renderer.fnc.admit(Fnc(vector))
        drawn = [
            dict(zip((WHOLE, GRAY), unseen.likeness(number, picture), strict=True))
            for picture in maps_of(renderer, digest, range(first, first + seeds))
        ]
        (expected,) = expected_maps(renderer, vector[None], [first])
        yield means(drawn) | _of_expected(unseen, number, expected)


def maps_of(renderer: Renderer, digest: str, seeds: Sequence[int]) -> Iterator[Array]:
    """Maps (i, j, k) under the connectivity `digest`, one for each seed."""
    for seed in seeds:
        request = Request(Conditions(fnc=digest), Seed(seed))
        yield finish(renderer.render(request)).data


def expected_maps(
    renderer: Renderer, vectors: Vector, seeds: Sequence[int]
) -> Iterator[Array]:
    """Expected maps (i, j, k) under `vectors` (N, p), from pure noise in one step."""
    for vector, seed in zip(vectors, seeds, strict=True):
        digest = renderer.fnc.admit(Fnc(vector))
        asked = Request(Conditions(fnc=digest), Seed(int(seed)), sampler=ONE_STEP)
        yield finish(renderer.render(asked)).data


def _of_expected(unseen: Unseen, number: int, picture: Array) -> dict[str, float]:
    whole, gray = unseen.likeness(number, picture)
    away = [(one - unseen.mean)[None] for one in (picture, unseen.maps[number])]
    beyond = correlation(away[0], away[1], unseen.mask)
    return {EXPECTED: whole, EXPECTED_GRAY: gray, BEYOND: beyond}


def still(unseen: Unseen, pictures: Sequence[Array]) -> Iterator[dict[str, float]]:
    """Figures of pictures (i, j, k), one of each person, that no chance enters."""
    for number, picture in enumerate(pictures):
        whole, gray = unseen.likeness(number, picture)
        yield {WHOLE: whole, GRAY: gray}


def first_maps(
    renderer: Renderer, vectors: Vector, seeds: Sequence[int]
) -> Iterator[Array]:
    """One map (i, j, k) under each of `vectors`, from the seed in the same place."""
    for vector, seed in zip(vectors, seeds, strict=False):
        digest = renderer.fnc.admit(Fnc(vector))
        yield from maps_of(renderer, digest, [int(seed)])


def chance(renderer: Renderer, places: Sequence[int]) -> Vector:
    """Random vectors (N, p), one for each of `places`, as the random rows learn.

    Unit Gaussian numbers where the denoiser takes them.
    """
    card = renderer.card.fnc
    assert card is not None
    mean = renderer.fnc.of(renderer.fnc.mean).vector
    drawn = [
        np.random.default_rng([int(n), 1]).standard_normal(len(mean)) for n in places
    ]
    return np.asarray(mean + np.stack(drawn) / card.gain, np.float32)


def shuffled(vectors: Vector, subjects: Sequence[str]) -> Vector:
    """The connectivity (N, p) of the next other subject, in turn."""
    names = list(dict.fromkeys(subjects))
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    return vectors[[subjects.index(following[name]) for name in subjects]]


def by_subject(
    subjects: Sequence[str], rows: Sequence[Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Figures of each subject: the mean over that subject's maps."""
    groups: dict[str, list[Mapping[str, float]]] = {}
    for subject, row in zip(subjects, rows, strict=True):
        groups.setdefault(subject, []).append(row)
    return {subject: means(held) for subject, held in groups.items()}

"""Which pictures are copies of training scans, and whether copies would be found.

A picture of a new person is about as far from the nearest training scan as from the
nearest scan the model never saw; a copy is much nearer to one of the former. How far
that ratio scatters among people who are new for certain, held-out ones, says which
pictures stand out. Planted copies, changed as a copy might be, prove that the test
would find some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.evaluate.metrics.distributions import distances

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Space = Callable[["Array"], NDArray[np.floating]]
"""Picture (i, j, k) -> (D,)."""

BRIGHT = 0.3  # of a range of 1: what places a picture
OUTLIER = 3.5  # SD below the mean of new people
LEAST_SPREAD = 0.01  # of the log ratio, where a few people differ by chance too little
NOISE = 0.05  # SD of the noise that planted copies get, of a range of 1
SHIFT_MM = 2.0

PLANTED = ("as it is", "mirrored", "with noise", "shifted", "all three")
"""Ways in which a planted copy differs from its scan."""


@dataclass(frozen=True, eq=False)
class Marks:
    """What pictures are recognised by.

    Attributes
    ----------
    spaces
        Name of the space -> (N, 2, D): of the picture as it is, and mirrored.
    subjects
        Whose pictures they are (N,); an empty name is nobody's.
    """

    spaces: Mapping[str, Floats]
    subjects: tuple[str, ...]

    def half(self, start: int) -> Marks:
        """The pictures of every second person from `start`."""
        chosen = every_second(self.subjects, start)
        parts = {name: values[chosen] for name, values in self.spaces.items()}
        return Marks(parts, tuple(self.subjects[n] for n in chosen))


def every_second(subjects: Sequence[str], start: int) -> list[int]:
    """Places of the pictures of every second person: nobody is in both halves."""
    chosen = set(sorted(set(subjects))[start::2])
    return [n for n, name in enumerate(subjects) if name in chosen]


def marks_of(
    pictures: Iterable[Array], subjects: Sequence[str], spaces: Mapping[str, Space]
) -> Marks:
    """What `pictures` (i, j, k) are recognised by in `spaces`.

    `subjects` is one per picture, or empty for pictures of nobody.
    """
    found: dict[str, list[Floats]] = {name: [] for name in spaces}
    for picture in pictures:
        views = [centred(picture), centred(picture[::-1])]
        for name, space in spaces.items():
            values = [np.asarray(space(view), np.float64) for view in views]
            found[name].append(np.stack(values))
    stacked = {name: np.stack(values) for name, values in found.items()}
    count = len(next(iter(stacked.values())))
    return Marks(stacked, tuple(subjects) or ("",) * count)


def centred(picture: Array) -> Array:
    """`picture` (i, j, k) with the middle of what is bright in the middle of the grid.

    A copy a few millimetres away lies in the same place then.
    """
    from scipy import ndimage

    bright = picture > BRIGHT
    if not bright.any():
        return np.ascontiguousarray(picture)
    middle = (np.array(picture.shape) - 1) / 2
    moved = middle - np.array(ndimage.center_of_mass(bright))
    found: Array = ndimage.shift(picture, moved, order=1)
    return found


def log_ratios(samples: Marks, training: Marks, held_out: Marks) -> dict[str, Floats]:
    """Log of nearest training over nearest held-out distance (N,), by space.

    A sample may be the mirror of a scan. Held-out scans of the sample's own subject do
    not count: a person's other visit is no other person.
    """
    return {
        name: _log_ratio(name, samples, training, held_out) for name in samples.spaces
    }


def _log_ratio(name: str, samples: Marks, training: Marks, held_out: Marks) -> Floats:
    nearest = [
        np.maximum(table.min(1), 1e-9)
        for table in both_distances(name, samples, training, held_out)
    ]
    found: Floats = np.log(nearest[0]) - np.log(nearest[1])
    return found


def both_distances(
    name: str, samples: Marks, training: Marks, held_out: Marks
) -> tuple[Floats, Floats]:
    """Distances (N, M) and (N, K) of samples to training and held-out scans.

    In the space `name`, in units of its spread over the training scans; of a sample or
    of its mirror, the nearer; infinite to scans of the sample's own subject.
    """
    centre, unit = _scale(training.spaces[name][:, 0])
    views = (samples.spaces[name] - centre) / unit
    tables = []
    for marks in (training, held_out):
        scaled = (marks.spaces[name][:, 0] - centre) / unit
        each = [distances(views[:, view], scaled) for view in range(views.shape[1])]
        table = np.minimum.reduce(each)
        table[_own(samples.subjects, marks.subjects)] = np.inf
        tables.append(table)
    return tables[0], tables[1]


def _scale(reference: Floats) -> tuple[Floats, Floats]:
    """Mean and unit (D,) of a space; what hardly varies is not blown up."""
    spread = reference.std(0)
    return reference.mean(0), np.maximum(spread + spread.mean(), 1e-12)


def _own(samples: Sequence[str], others: Sequence[str]) -> Bools:
    """Whether two pictures (N, M) are of the same, known, subject."""
    first, second = np.array(samples), np.array(others)
    same: Bools = (first[:, None] == second[None]) & (first != "")[:, None]
    return same


@dataclass(frozen=True)
class Judge:
    """What the log ratios of people who are new for certain are like.

    Attributes
    ----------
    law
        Name of the space, mean and SD of its log ratios.
    spread
        SD of the scores, the means of the standardised log ratios over the spaces.
    """

    law: tuple[tuple[str, float, float], ...]
    spread: float = 1.0

    def scores(self, ratios: Mapping[str, Floats]) -> Floats:
        """Mean over spaces of the log ratios (N,) in their SD; low is like a copy.

        A mean, for the spaces err differently: noise, a shift and the blur of moving
        a picture back trouble each of them in another way.
        """
        each = [(ratios[name] - mean) / sd for name, mean, sd in self.law]
        found: Floats = np.mean(each, 0)
        return found

    def flags(self, ratios: Mapping[str, Floats]) -> Bools:
        """Whether each picture (N,) stands out as a copy does."""
        found: Bools = self.scores(ratios) < -OUTLIER * self.spread
        return found


def judge_of(ratios: Mapping[str, Floats]) -> Judge:
    """The judge that held-out people with these log ratios make."""
    law = [
        (name, float(values.mean()), max(float(values.std(ddof=1)), LEAST_SPREAD))
        for name, values in ratios.items()
    ]
    scores = Judge(tuple(law)).scores(ratios)
    return Judge(tuple(law), float(scores.std(ddof=1)))


def planted(picture: Array, way: str, voxel_mm: float, seed: int) -> Array:
    """`picture` (i, j, k) changed in one of the ways of PLANTED."""
    rng = np.random.default_rng(seed)
    if way in ("mirrored", "all three"):
        picture = picture[::-1]
    if way in ("shifted", "all three"):
        picture = _shifted(picture, SHIFT_MM / voxel_mm, rng)
    if way in ("with noise", "all three"):
        noise = rng.normal(0.0, NOISE, picture.shape)
        picture = np.clip(picture + noise, 0.0, 1.0).astype(np.float32)
    return picture


def _shifted(picture: Array, voxels: float, rng: np.random.Generator) -> Array:
    """Moved by so many voxels in a random direction."""
    from scipy import ndimage

    way = rng.normal(size=3)
    moved = voxels * way / np.linalg.norm(way)
    found: Array = ndimage.shift(picture, moved, order=1)
    return found

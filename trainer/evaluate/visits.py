"""Missing visits predicted from those before and after: LDAE's Figure 8.

A triplet is three visits of one person; the middle one is predicted from the two
others at its share of the time between them. The prediction gap is the time to the
nearer of the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.ageing import Kept
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Between,
    Conditions,
    Later,
    Origin,
    Request,
    Sampler,
    Scan,
    Through,
)
from napari_brainldm.engine.volume import Array
from trainer.evaluate.paired import paired
from trainer.evaluate.reconstruction import likeness
from trainer.evaluate.table import means

PAPER_WINDOW = 4
"""Of the SSIM in the paper's figure, in voxels."""

LDAE, SMOOTH = "LDAE, lerp and slerp", "LDAE, spline through all other visits"
FORECAST, FIRST = "forecast from the first visit alone", "the first visit"
NEAREST, BLEND = "nearest visit", "blend of voxels"
MONTHS = 12

GAP, POSITION = 6.0, 0.1
"""Widths of the rows of a table: months, and of the way from end to end."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Visit:
    """A scan on the model's grid (i, j, k).

    Attributes
    ----------
    age
        Of the person then, in years.
    person
        What the model's forecast asks of the person then; None if that is not told.
    """

    age: float
    picture: Array
    person: Conditions | None = None


@dataclass(frozen=True, eq=False)
class Predicted:
    """The middle visit of a triplet, as `method` predicts it.

    Attributes
    ----------
    person
        Number of the person.
    prediction_gap, time_gap
        Months to the nearer end; from end to end.
    position
        Of the middle visit, 0 to 1 of the way.
    figures
        Likeness to the autoencoder's picture of the real scan, and under names ending
        in "of scan" to that scan.
    """

    person: int
    method: str
    prediction_gap: float
    time_gap: float
    position: float
    figures: Mapping[str, float]


def predicted(
    renderer: Renderer, person: int, visits: Sequence[Visit], steps: int
) -> list[Predicted]:
    """Every triplet of the visits of the person of that number, by every method."""
    found: list[Predicted] = []
    kept = Kept()  # triplets ask for the same forecast
    scans = [Scan(renderer.keep(visit.picture)) for visit in visits]
    rebuilt = [renderer.rebuild(visit.picture) for visit in visits]
    for triplet in combinations(range(len(visits)), 3):
        made = _made(renderer, visits, scans, rebuilt, triplet, steps, kept)
        middle = triplet[1]
        told = visits[middle].picture, rebuilt[middle]
        first, mid, last = (visits[n].age for n in triplet)
        gaps = (
            MONTHS * min(mid - first, last - mid),
            MONTHS * (last - first),
            (mid - first) / (last - first),
        )
        found += [
            Predicted(person, method, *gaps, _figures(picture, *told))
            for method, picture in made.items()
        ]
    return found


def _made(
    renderer: Renderer,
    visits: Sequence[Visit],
    scans: Sequence[Scan],
    rebuilt: Sequence[Array],
    triplet: tuple[int, int, int],
    steps: int,
    kept: Kept,
) -> dict[str, Array]:
    """The picture (i, j, k) of each method; a forecast asks the first two alone."""

    def made(origin: Origin) -> Array:
        request = renderer.resolve(Request(origin=origin, sampler=sampler))
        return finish(kept.picture(renderer, request)).data

    first, middle, last = triplet
    span = visits[last].age - visits[first].age
    share = (visits[middle].age - visits[first].age) / span
    sampler = Sampler("ddim", steps)
    pictures = {
        LDAE: made(Between(scans[first], scans[last], share)),
        NEAREST: rebuilt[first if share <= 0.5 else last],
        BLEND: (1 - share) * rebuilt[first] + share * rebuilt[last],
    }
    pictures[FIRST] = rebuilt[first]
    person, years = visits[first].person, visits[middle].age - visits[first].age
    if renderer.card.forecast and person is not None:
        pictures[FORECAST] = made(Later(scans[first], person, years))
    others = [n for n in range(len(visits)) if n != middle]
    if middle - first == last - middle == 1 and len(others) > 2:
        places = tuple(visits[n].age for n in others)
        way = Through(
            tuple(scans[n] for n in others), places, visits[middle].age, "smooth"
        )
        pictures[SMOOTH] = made(way)
    return pictures


def _figures(picture: Array, scan: Array, rebuilt: Array) -> dict[str, float]:
    of_scan = likeness(picture, scan, PAPER_WINDOW)
    return likeness(picture, rebuilt, PAPER_WINDOW) | {
        f"{name} of scan": value for name, value in of_scan.items()
    }


def binned(value: float, width: float) -> float:
    """The multiple of `width` that is nearest to `value`; the larger one of two."""
    return round(width * math.floor(value / width + 0.5), 6)


KEYS: dict[str, Callable[[Predicted], float]] = {
    "prediction gap (months)": lambda one: binned(one.prediction_gap, GAP),
    "time gap (months)": lambda one: binned(one.time_gap, GAP),
    "position": lambda one: binned(one.position, POSITION),
}
"""By what triplets are grouped: visits of real people never keep to the day."""


def by_gap(
    found: Sequence[Predicted], key: Callable[[Predicted], float], title: str
) -> list[dict[str, str | float]]:
    """Means per method and value of `key`, called `title`, with the number."""
    groups: dict[tuple[str, float], list[Mapping[str, float]]] = {}
    for one in found:
        groups.setdefault((one.method, key(one)), []).append(one.figures)
    return [
        {"method": method, title: value, "n": float(len(rows)), **means(rows)}
        for (method, value), rows in sorted(groups.items())
    ]


def better(
    found: Sequence[Predicted], method: str, than: str, figure: str = "SSIM"
) -> dict[str, float]:
    """`method` against the method `than` over the same triplets, paired by person.

    The difference of `figure` is that of the people's means: triplets of one person
    are not independent. See `paired`.
    """
    sides = (_of_people(found, name, figure) for name in (method, than))
    ours, theirs = (np.array(list(side.values())) for side in sides)
    return paired(ours - theirs)


def _of_people(
    found: Sequence[Predicted], method: str, figure: str
) -> dict[int, float]:
    groups: dict[int, list[float]] = {}
    for one in found:
        if one.method == method:
            groups.setdefault(one.person, []).append(one.figures[figure])
    return {person: float(np.mean(values)) for person, values in sorted(groups.items())}

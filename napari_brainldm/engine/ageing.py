"""A person's pictures from age to age: a film, and the volumes measured in it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_brainldm.engine.contrast import counted
from napari_brainldm.engine.measure import Measured, measure
from napari_brainldm.engine.renderer import Progress
from napari_brainldm.engine.request import Derived
from napari_brainldm.engine.sweep import Axis, Film, check_count

if TYPE_CHECKING:
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.request import Request, Sampler
    from napari_brainldm.engine.segment import Segmenter
    from napari_brainldm.engine.visits import Course
    from napari_brainldm.engine.volume import Volume

ROOM = 2**29
"""Bytes of pictures that are kept."""

UNIT = "years"


@dataclass(frozen=True)
class Point:
    """Volumes of a picture or of a placed scan at an age in years."""

    age: float
    measured: Measured


class Kept:
    """Pictures by request and what was measured in them: each is made once.

    Those longest unasked for go when they take more than `room` bytes.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._pictures: OrderedDict[Request, Volume] = OrderedDict()
        self._measured: dict[Request, Measured] = {}

    def picture(
        self, renderer: Renderer, request: Request
    ) -> Generator[Progress, None, Volume]:
        """The picture of `request`, which `renderer` has resolved."""
        if request not in self._pictures:
            self._pictures[request] = yield from renderer.render(request)
        self._pictures.move_to_end(request)
        found = self._pictures[request]
        self._make_room()
        return found

    def measured(
        self, segmenter: Segmenter, request: Request, picture: Volume
    ) -> Measured:
        """The volumes found in the `picture` of `request`."""
        if request not in self._measured:
            self._measured[request] = measure(segmenter.segment(picture))
        return self._measured[request]

    def _make_room(self) -> None:
        while len(self._pictures) > 1 and self._bytes > self._room:
            self._pictures.popitem(last=False)

    @property
    def _bytes(self) -> int:
        return sum(picture.data.nbytes for picture in self._pictures.values())


def film_along(
    renderer: Renderer,
    course: Course,
    ages: Sequence[float],
    curve: str,
    sampler: Sampler,
    kept: Kept,
    segmenter: Segmenter | None = None,
) -> Generator[Progress, None, tuple[Film, tuple[Point, ...]]]:
    """The pictures of `course` at `ages`, and their volumes; yields the progress.

    Parameters
    ----------
    renderer, course, curve, sampler
        Where the pictures come from, and how.
    ages
        Years, rising or falling.
    kept
        Gives the pictures that were made before.
    segmenter
        Measures each; None leaves the points out.

    Raises
    ------
    EngineError
        If there are no ages, or too many for the memory.
    """
    check_count(len(ages))
    asked = tuple(
        renderer.resolve(course.request(renderer.card, age, curve, sampler))
        for age in ages
    )
    pictures, points = [], []
    for number, (age, request) in enumerate(zip(ages, asked, strict=True)):
        making = kept.picture(renderer, request)
        picture = yield from counted(making, number, len(asked))
        pictures.append(picture)
        if segmenter is not None:
            points.append(Point(age, kept.measured(segmenter, request, picture)))
    film = Film(
        (Axis("age", tuple(ages)),),
        asked,
        tuple(pictures),
        tuple(caption(course, age) for age in ages),
        Derived("film along age", (("pictures", float(len(asked))),), asked),
        (UNIT,),
    )
    return film, tuple(points)


def caption(course: Course, age: float) -> str:
    """The age of a frame in words, and whether it lies beyond the visits."""
    words = f"{course.title} {age:.2f} {UNIT}"
    return words if not course.beyond(age) else f"{words}, extrapolated"


def measured_visits(
    renderer: Renderer, course: Course, segmenter: Segmenter
) -> Generator[Progress, None, tuple[Point, ...]]:
    """Volumes of the real scans, as the model sees them: placed and on its grid.

    Measured as the pictures are, by the same segmenter on the same grid, so that both
    compare.
    """
    found: dict[str, Measured] = {}
    for number, visit in enumerate(course.visits):
        yield Progress("segment", number, len(course.visits))
        digest = visit.scan.digest
        if digest not in found:
            scan = renderer.conformed(digest).volume
            found[digest] = measure(segmenter.segment(scan))
    return tuple(Point(v.age, found[v.scan.digest]) for v in course.visits)

"""The Visits dock: one person's scans on a line of ages, and the pictures between.

Every visit is encoded once. A slider goes through age; where no scan was taken, the
picture is that of a code between (or, marked, beyond) those of the visits.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_brainldm.engine.ageing import Kept, Point, film_along, measured_visits
from napari_brainldm.engine.asked import BENT
from napari_brainldm.engine.left_out import leave_out
from napari_brainldm.engine.request import (
    EngineError,
    Request,
    Sampler,
    Seed,
    Through,
)
from napari_brainldm.engine.resources import bundled_for_scans
from napari_brainldm.engine.segment import Segmenter
from napari_brainldm.engine.sweep import Film
from napari_brainldm.engine.visits import (
    Course,
    check_ages,
    check_can_travel,
    encode_visits,
)
from napari_brainldm.widgets.curve_panel import CurvePanel
from napari_brainldm.widgets.desk import ready
from napari_brainldm.widgets.explore import SPREAD, ExploreDock
from napari_brainldm.widgets.job import Step, Task
from napari_brainldm.widgets.layers import volume_of
from napari_brainldm.widgets.looks import colours_of, section
from napari_brainldm.widgets.progression import QUICK
from napari_brainldm.widgets.scan_row import STEPS
from napari_brainldm.widgets.timeline import VisitForm
from napari_brainldm.widgets.visit_layers import VisitLayers
from napari_brainldm.widgets.visit_panels import FilmPanel, LeftOutPanel
from napari_brainldm.widgets.visit_table import Chosen, VisitTable

if TYPE_CHECKING:
    from pathlib import Path

    from qtpy.QtWidgets import QVBoxLayout, QWidget

    from napari_brainldm.engine.asked import Findings
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.left_out import LeftOut
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.volume import Volume
    from napari_brainldm.widgets.desk import Picture


@dataclass(frozen=True, eq=False)
class Encoded:
    """Visits in the model, where they came from, and the volumes measured in them."""

    course: Course
    sources: tuple[Chosen, ...]
    points: tuple[Point, ...]
    segmenter: Segmenter | None


@dataclass(frozen=True, eq=False)
class Filmed:
    """A film along the curve `way` of `course`, and what was measured in it."""

    film: Film
    points: tuple[Point, ...]
    course: Course
    way: str
    segmenter: Segmenter | None


class VisitsDock(ExploreDock):
    """Pictures between the scans of one person, by the codes of a checkpoint.

    Attributes
    ----------
    course
        The visits that are encoded; None when there are none for the model in use.
    """

    bundled = staticmethod(bundled_for_scans)
    course: Course | None = None
    without = ("Sweep", SPREAD)

    def _make_parts(self) -> None:
        super()._make_parts()
        self.visits = VisitTable(self._viewer)
        self.curve, self.layers = CurvePanel(), VisitLayers(self._viewer)
        self.hiding, self.films = LeftOutPanel(), FilmPanel()
        self.curve.excuse("Not measured: no segmenter." if self.desk.unmeasured else "")
        self._kept = Kept()

    def _lay_out(self) -> None:
        super()._lay_out()
        self.asked.hide()  # nobody asks for volumes here; the curve shows them

    def _body(self) -> QWidget:
        body = super()._body()
        layout: QVBoxLayout = body.layout()  # type: ignore[assignment]
        layout.insertWidget(0, self.visits)
        layout.insertWidget(2, self.curve)
        parts = {"Leave one out": self.hiding, "Film along age": self.films}
        for place, (title, part) in enumerate(parts.items(), start=3):
            layout.insertWidget(place, section(title, part))
        return body

    def _wire(self) -> None:
        super()._wire()
        self.visits.asked.connect(self.encode)
        self.visits.refused.connect(self.error.show_sentence)
        self.hiding.asked.connect(self._on_hiding_asked)
        self.films.asked.connect(self._on_films_asked)
        self.films.writing.connect(self.series.write)

    def _parts(self) -> tuple[Any, ...]:
        return (*super()._parts(), self.visits.listening, self.layers)

    def _form_of(self, card: Card) -> VisitForm:
        return VisitForm(card)

    @property
    def travel(self) -> VisitForm:
        """The form of the checkpoint in use."""
        assert isinstance(self.form, VisitForm)
        return self.form

    # -- visits ----------------------------------------------------------------

    def _on_desk_opened(self, card: Card) -> None:
        self._forget()
        self.curve.warn(BENT if card.registration == "nonlinear" else "")
        super()._on_desk_opened(card)

    def _forget(self) -> None:
        """No visit is encoded for the model in use."""
        self.course, self._kept = None, Kept()
        self.visits.forget()
        self.layers.drop()
        self.layers.say("")
        self.curve.begin(None)
        self.hiding.prepare(None)
        self.films.prepare(None)

    def encode(self) -> None:
        """Take the visits of the table into the model."""
        renderer = self.desk.renderer
        if renderer is None:
            return
        self.error.hide()
        self._again = self.encode
        chosen = sorted(self.visits.chosen(), key=lambda one: one.age or 0.0)
        try:
            check_can_travel(renderer.card)
            check_ages([(one.name, one.age) for one in chosen])
            volumes = [volume_of(one.layer) for one in chosen]
        except EngineError as error:
            self.error.show_sentence(str(error))
            return
        work = partial(_encoded, renderer, chosen, volumes, self.desk.segmenter)
        self.desk.run(Task("visits", work, self._on_visits_encoded))

    def _on_visits_encoded(self, told: Encoded) -> None:
        course = told.course
        if self.course is None or course.visits != self.course.visits:
            self.past.clear()
        self.course = course
        self.desk.keep(told.segmenter)
        self.comparison.unpin()
        self.curve.begin(course, told.points)
        self.hiding.prepare(course)
        self.films.prepare(course)
        self._show_placed(told)
        self.travel.show_course(course)
        self.ask()

    def _show_placed(self, told: Encoded) -> None:
        assert self.desk.renderer is not None
        digests = [visit.scan.digest for visit in told.course.visits]
        scans = [self.desk.renderer.conformed(digest) for digest in digests]
        pairs = list(zip(told.sources, scans, strict=True))
        self.layers.show_placed([(one.layer, scan.volume) for one, scan in pairs])
        figures = ", ".join(f"{scan.quality.figure:.2f}" for scan in scans)
        steps = [f"{one.name}: {' '.join(scan.steps)}" for one, scan in pairs]
        words = f"{len(scans)} visits placed: quality {figures} (0 to 1)."
        self.visits.tell(words, "\n".join(steps))

    # -- pictures --------------------------------------------------------------

    def _check(self, request: Request) -> None:
        """Requests of the visits in hand are welcome, no others."""
        origin, course = request.origin, self.course
        if not isinstance(origin, Through) or course is None or not _of(course, origin):
            raise EngineError(
                "This request is not of the visits that are encoded here. Choose its "
                "scans and ages and press Encode, or use the Explore dock."
            )

    def _begun(self, request: Request) -> Request:
        assert self.course is not None and self.desk.renderer is not None
        card, age = self.desk.renderer.card, self.travel.timeline.value()
        sampler = Sampler("ddim", STEPS)
        return self.course.request(card, age, self.travel.way, sampler)

    def _ask(self, request: Request, preview: bool) -> None:
        if self.course is None:
            return
        if isinstance(request.origin, Seed):  # as the form has it
            request = self._begun(request)
        if preview:
            request = replace(request, sampler=QUICK)
        super()._ask(request, preview)

    def _on_desk_shown(self, picture: Picture, preview: bool) -> None:
        super()._on_desk_shown(picture, preview)
        self.layers.hide_left_out()
        origin, course = picture.request.origin, self.course
        if isinstance(origin, Through) and course is not None:
            self.layers.say(_extrapolated(origin))
            self.curve.look(origin.curve, origin.place)

    def _on_desk_measured(self, findings: Findings | None) -> None:
        super()._on_desk_measured(findings)
        picture, course = self.desk.picture, self.course
        if findings is None or picture is None or course is None:
            return
        origin = picture.request.origin
        if isinstance(origin, Through) and _of(course, origin):
            self.curve.add(origin.curve, [Point(origin.place, findings.measured)])

    # -- leave one out ---------------------------------------------------------

    def _on_hiding_asked(self, hidden: int) -> None:
        renderer, course = self.desk.renderer, self.course
        if renderer is None or course is None:
            return
        self.error.hide()
        self._again = lambda: self._on_hiding_asked(hidden)
        way, sampler = self.travel.way, Sampler("ddim", STEPS)
        work = partial(leave_out, renderer, course, hidden, way, sampler)
        self.desk.run(Task("predict", work, self._on_visit_left_out))

    def _on_visit_left_out(self, found: LeftOut) -> None:
        assert self.desk.renderer is not None
        self.hiding.tell(found)
        self.layers.show_left_out(self.desk.renderer, found)
        self.layers.say(f"PREDICTED\n{found.age:.2f} years,\nfrom the others")
        self._last = f"Visit at {found.age:.2f} years predicted"

    # -- film ------------------------------------------------------------------

    def _on_films_asked(self, ages: tuple[float, ...]) -> None:
        renderer, course = self.desk.renderer, self.course
        if renderer is None or course is None:
            return
        self.error.hide()
        self._again = lambda: self._on_films_asked(ages)
        way, segmenter = self.travel.way, self.desk.segmenter
        work = partial(_filmed, renderer, course, ages, way, self._kept, segmenter)
        self.desk.background(Task("sweep", work, self._on_film_made))

    def _on_film_made(self, made: Filmed) -> None:
        self.desk.keep(made.segmenter)
        if made.course is self.course:
            self.curve.add(made.way, made.points)
        origins = [request.origin for request in made.film.requests]
        words = [_extrapolated(o) for o in origins if isinstance(o, Through)]
        self.layers.follow(self.series.take(made.film), words)

    def _on_series_swept(self, made: Film) -> None:
        super()._on_series_swept(made)
        self.films.write.setEnabled(True)
        self._last = f"Film of {len(made.pictures)} pictures"

    def _on_theme_changed(self, event: Any = None) -> None:
        super()._on_theme_changed(event)
        colours = colours_of(self._viewer)
        self.curve.set_colours(colours)
        self.hiding.set_colours(colours)


def _of(course: Course, origin: Through) -> bool:
    """Whether `origin` lies on the way through the visits of `course`."""
    scans = tuple(visit.scan for visit in course.visits)
    return origin.scans == scans and origin.places == course.ages


def _extrapolated(origin: Through) -> str:
    """What the canvas says of a picture beyond the visits; empty of one between."""
    if not origin.beyond:
        return ""
    side = "before\nthe first" if origin.beyond < 0 else "beyond\nthe last"
    return f"EXTRAPOLATED\n{abs(origin.beyond):.2f} years {side} visit"


def _encoded(
    renderer: Renderer,
    chosen: Sequence[Chosen],
    volumes: Sequence[Volume],
    segmenter: Segmenter | Path | None,
) -> Generator[Step, None, Encoded]:
    """Encode visits, ages rising, for pictures and previews; measure the scans."""
    steps = (STEPS, QUICK.steps)
    ages = [one.age for one in chosen if one.age is not None]
    course = yield from encode_visits(renderer, volumes, ages, steps)
    if segmenter is None:
        return Encoded(course, tuple(chosen), (), None)
    loaded = ready(segmenter, renderer)
    points = yield from measured_visits(renderer, course, loaded)
    return Encoded(course, tuple(chosen), points, loaded)


def _filmed(
    renderer: Renderer,
    course: Course,
    ages: Sequence[float],
    way: str,
    kept: Kept,
    segmenter: Segmenter | Path | None,
) -> Generator[Step, None, Filmed]:
    """Render and measure the pictures of a film."""
    loaded = None if segmenter is None else ready(segmenter, renderer)
    sampler = Sampler("ddim", STEPS)
    making = film_along(renderer, course, ages, way, sampler, kept, loaded)
    film, points = yield from making
    return Filmed(film, points, course, way, loaded)

"""The Progression dock: a person's own scan under other conditions.

The Explore dock with another beginning: pictures start from a scan instead of noise.
What is compared is always the edit with the reconstruction at the scan's own
conditions, never with the scan: inversion itself errs, and that would look like
disease.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_brainldm.engine.request import (
    EngineError,
    Request,
    Sampler,
    Scan,
    Seed,
    scans_of,
)
from napari_brainldm.engine.resources import bundled_for_scans
from napari_brainldm.widgets import overlays
from napari_brainldm.widgets.desk import BACKGROUND
from napari_brainldm.widgets.explore import SPREAD, ExploreDock
from napari_brainldm.widgets.forecast_panel import ForecastPanel
from napari_brainldm.widgets.job import Task
from napari_brainldm.widgets.layers import open_scan, volume_of
from napari_brainldm.widgets.looks import colours_of
from napari_brainldm.widgets.request_form import RequestForm
from napari_brainldm.widgets.scan_row import STEPS, Encoded, ScanRow, encoded
from napari_brainldm.widgets.trajectory import TrajectoryPanel

if TYPE_CHECKING:
    from pathlib import Path

    from qtpy.QtWidgets import QWidget

    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.sweep import Axis
    from napari_brainldm.widgets.desk import Picture

QUICK = Sampler("ddim", 8)
"""Of previews, which have a shorter inversion of their own."""


class ProgressionDock(ExploreDock):
    """Edits of one scan by the conditions and directions of a checkpoint.

    Attributes
    ----------
    scan
        The scan that is encoded; None when there is none for the model in use.
    """

    bundled = staticmethod(bundled_for_scans)
    scan: Scan | None = None
    _reference: Request | None = None  # its reconstruction, until it is pinned
    _owed = False  # whether the controls ask for more than that

    def _make_parts(self) -> None:
        super()._make_parts()
        self.scans, self.trajectory = ScanRow(self._viewer), TrajectoryPanel()
        self.forecast = ForecastPanel()
        self._layer: Any = None
        self._source: Any = None

    def _lay_out(self) -> None:
        super()._lay_out()
        layout: Any = self.layout()
        layout.insertWidget(1, self.scans)

    def _sections(self) -> dict[str, QWidget]:
        own = {"Where it lies": self.trajectory, "Forecast": self.forecast}
        return own | super()._sections()

    def _wire(self) -> None:
        super()._wire()
        self.scans.chosen.connect(self._on_scans_chosen)
        self.scans.opened.connect(self._on_scans_opened)
        self.forecast.moved.connect(self._on_form_moved)
        self.forecast.released.connect(self._on_form_released)

    def _parts(self) -> tuple[Any, ...]:
        return (*super()._parts(), self.scans.listening)

    def _form_of(self, card: Card) -> RequestForm:
        form = RequestForm(card, of_scan=True)
        form.resetting.connect(self.forecast.reset)
        return form

    def _on_desk_opened(self, card: Card) -> None:
        self.scan = self._reference = None
        self.scans.forget()
        self.trajectory.forget()
        self.forecast.prepare(card)
        super()._on_desk_opened(card)
        self.sections["Where it lies"].setVisible(bool(card.directions))
        self.sections["Forecast"].setVisible(bool(card.forecast))
        self.sections[SPREAD].setVisible(self._draws(card))

    def _draws(self, card: Card) -> bool:
        return card.encoder is not None  # else there is nothing but its own noise

    def _check(self, request: Request) -> None:
        """Requests of the scan in hand are welcome, no others."""
        if self.scan is None or scans_of(request.origin) != (self.scan,):
            raise EngineError(
                "This request does not start from the scan that is encoded here. "
                "Choose its scan and press Encode, or use the Explore dock."
            )

    def _on_scans_chosen(self, layer: Any) -> None:
        renderer = self.desk.renderer
        if renderer is None or layer is None:
            return
        self.error.hide()
        self._again = lambda: self._on_scans_chosen(layer)
        try:
            volume = volume_of(layer)
        except EngineError as error:
            self.error.show_sentence(str(error))
            return
        work = partial(encoded, renderer, volume, (STEPS, QUICK.steps))
        self._source = layer
        self.desk.run(Task("encode", work, self._on_scan_encoded))

    def _on_scans_opened(self, path: Path) -> None:
        self.error.hide()
        self._again = lambda: self._on_scans_opened(path)
        try:
            self.scans.pick(open_scan(self._viewer, path))
        except EngineError as error:
            self.error.show_sentence(str(error))

    def _on_scan_encoded(self, told: Encoded) -> None:
        if told.scan != self.scan:
            self.past.clear()
        self.scan, conformed = told.scan, told.conformed
        self.scans.tell(conformed)
        assert self.desk.renderer is not None
        self.trajectory.begin(self.desk.renderer.checkpoint, told.code)
        self.comparison.unpin()
        overlays.hide(self._source)  # it lies elsewhere than the placed one
        self._layer = overlays.show_scan(self._viewer, self._layer, conformed.volume)
        assert self.form is not None
        self.form.show_own(self.scan.conditions)
        self.forecast.show_origin(self.scan)
        self._reference = self._begun(self.form.request())
        self.ask()

    def ask(self) -> None:
        """Ask for what the controls say; first for the reference where it lacks.

        The picture of the scan itself may have been stopped, by a slider or by hand:
        no edit may take its place.
        """
        if self._reference is None or not self._lacking:
            super().ask()
            return
        self.settle.stop()
        self._ask(self._reference, preview=False)

    @property
    def _lacking(self) -> bool:
        """Whether no picture of the scan in hand is pinned; a workspace brings one."""
        pinned = self.comparison.pinned
        return pinned is None or scans_of(pinned.request.origin) != (self.scan,)

    def cancel(self) -> None:
        """Stop what runs, and what was to follow it."""
        self._owed = False
        super().cancel()

    def _on_form_moved(self) -> None:
        if self.scan is not None and self.form is not None:
            self.trajectory.look(self._begun(self.form.request()))
        super()._on_form_moved()

    def _on_settle_timeout(self) -> None:
        if not self.forecast.dragging:
            super()._on_settle_timeout()

    def _begun(self, request: Request) -> Request:
        assert self.scan is not None
        origin = self.forecast.origin(self.scan)
        return replace(request, origin=origin, sampler=Sampler("ddim", STEPS))

    def _ask(self, request: Request, preview: bool) -> None:
        if self.scan is None:
            return
        self._owed = False
        if isinstance(request.origin, Seed):  # as the form has it
            request = self._begun(request)
        if preview:
            request = replace(request, sampler=QUICK)
        super()._ask(request, preview)

    def _on_theme_changed(self, event: Any = None) -> None:
        super()._on_theme_changed(event)
        for part in (self.trajectory, self.forecast):
            part.set_colours(colours_of(self._viewer))

    def _restore(self, request: Request) -> None:
        self.forecast.show_origin(request.origin)
        super()._restore(request)

    def _on_seeds_asked(self, count: int) -> None:
        if self.scan is not None:
            super()._on_seeds_asked(count)

    def _on_sweep_asked(self, axes: tuple[Axis, ...]) -> None:
        if self.scan is not None:
            super()._on_sweep_asked(axes)

    def _on_desk_shown(self, picture: Picture, preview: bool) -> None:
        super()._on_desk_shown(picture, preview)
        self.trajectory.look(picture.request)
        reference = self._reference
        if preview or reference is None or not self._lacking:
            return
        if self._alike(picture.request, reference):
            assert self.form is not None
            self._reference = None
            self._owed = not self._alike(self._begun(self.form.request()), reference)
            self.comparison.pin()

    def _alike(self, one: Request, other: Request) -> bool:
        assert self.desk.renderer is not None
        return self.desk.renderer.resolve(one) == self.desk.renderer.resolve(other)

    def _on_desk_changed(self, task: str) -> None:
        super()._on_desk_changed(task)
        if self._owed and (not task or task in BACKGROUND):
            self.ask()  # only now: the reference is measured first

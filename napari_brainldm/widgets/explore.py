"""The Explore dock: move a condition, see the brain change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_brainldm.engine.asked import Findings, compare
from napari_brainldm.engine.imports.find import is_foreign
from napari_brainldm.engine.notice import NOTICE
from napari_brainldm.engine.request import Conditions, EngineError, Request, Sampler
from napari_brainldm.engine.resources import bundled_checkpoint
from napari_brainldm.widgets.about import about
from napari_brainldm.widgets.asked_panel import AskedPanel
from napari_brainldm.widgets.checkpoint_row import CheckpointRow
from napari_brainldm.widgets.compare_panel import ComparePanel
from napari_brainldm.widgets.comparison import Comparison
from napari_brainldm.widgets.desk import BACKGROUND, Desk, Picture
from napari_brainldm.widgets.export_row import ExportRow
from napari_brainldm.widgets.history_row import HistoryRow, check_fits
from napari_brainldm.widgets.importing import Importing
from napari_brainldm.widgets.looks import (
    colours_of,
    ender,
    on_key,
    scrolling,
    section,
    sentence_label,
)
from napari_brainldm.widgets.preferences import preferences
from napari_brainldm.widgets.regions import Regions
from napari_brainldm.widgets.request_form import RequestForm
from napari_brainldm.widgets.revival import Revival
from napari_brainldm.widgets.series import Series
from napari_brainldm.widgets.status_panel import ErrorPanel, StatusPanel
from napari_brainldm.widgets.sweep_panel import SeedsPanel, SweepPanel, ways_of

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.sweep import Axis, Film

PREVIEW = "dpm++2m"
"""Sampler of the quick pictures, whatever that of the full one is."""

SPREAD = "Spread over seeds"

SETTLE_MS = 350
"""After this long without a change, the full picture is made."""


class ExploreDock(QWidget):
    """Widget state to Request; the desk does the rest.

    Parameters
    ----------
    napari_viewer
        The viewer that gets the pictures. napari finds it by this name.
    checkpoint
        Loaded at the start; None for the bundled one.
    segmenter
        Measures the pictures; None for the bundled one.
    """

    bundled = staticmethod(bundled_checkpoint)
    without: tuple[str, ...] = ()  # titles of sections that make no sense here

    def __init__(
        self,
        napari_viewer: Any,
        checkpoint: Path | None = None,
        segmenter: Path | None = None,
    ) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.desk = Desk(napari_viewer, segmenter)
        self.form: RequestForm | None = None
        self._again: Callable[[], None] = self._open_bundled
        self._last = ""  # words about what ended last
        self._opening = Path()
        self._make_parts()
        self._lay_out()
        self._wire()
        self._on_theme_changed()
        self._open_bundled() if checkpoint is None else self.open(checkpoint)

    # -- parts -----------------------------------------------------------------

    def _make_parts(self) -> None:
        self.models = CheckpointRow()
        self.status, self.error, self.asked = StatusPanel(), ErrorPanel(), AskedPanel()
        self.asked.excuse_itself(self.desk.unmeasured)
        self.past = HistoryRow()
        self.comparison = Comparison(self._viewer, self.desk)
        self.compare = ComparePanel(self.comparison)
        self.revival = Revival(self._viewer, self.desk, self.comparison, self.past)
        self.series = Series(self._viewer, self.desk)
        self.importing = Importing(self, self.desk)
        self.sweeps, self.seeds = SweepPanel(), SeedsPanel()
        self.about = sentence_label("About this checkpoint")
        self.sections: dict[str, QWidget] = {}
        self.regions = Regions(self._viewer, self.desk, self.comparison)
        self.below, self.notice = ExportRow(), sentence_label("Notice")
        self.notice.setText(NOTICE)
        self.settle = QTimer(self, singleShot=True, interval=SETTLE_MS)

    def _lay_out(self) -> None:
        self.area = scrolling(self._body())
        self.area.setMinimumWidth(290)  # room for the five columns of the numbers
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 8)
        layout.setSpacing(8)
        layout.addWidget(self.models)
        layout.addWidget(self.past)
        layout.addWidget(self.area, 1)
        for part in (self.asked, self.error, self.status, self.below, self.notice):
            layout.addWidget(part)

    def _body(self) -> QWidget:
        """What scrolls: the form of the checkpoint in use, and what else it can do."""
        body, self.place = QWidget(), QVBoxLayout()
        layout = QVBoxLayout(body)
        layout.setContentsMargins(0, 0, 6, 0)
        layout.setSpacing(0)  # sections bring their own margins
        layout.addLayout(self.place)
        for title, part in self._sections().items():
            self.sections[title] = section(title, part)
            layout.addWidget(self.sections[title])
            self.sections[title].setVisible(title not in self.without)
        layout.addStretch(1)
        return body

    def _sections(self) -> dict[str, QWidget]:
        """What can be unfolded, by title."""
        return {
            "Compare": self.compare,
            "Sweep": self.sweeps,
            SPREAD: self.seeds,
            "About this checkpoint": self.about,
        }

    def _wire(self) -> None:
        desk = self.desk
        desk.opened.connect(self._on_desk_opened)
        desk.shown.connect(self._on_desk_shown)
        desk.measured.connect(self._on_desk_measured)
        desk.unlabelled.connect(self.asked.unset_wanted)
        desk.saved.connect(self._on_desk_saved)
        desk.progressed.connect(self.status.tick)
        desk.changed.connect(self._on_desk_changed)
        desk.changed.connect(self.models.follow)
        desk.failed.connect(self._on_desk_failed)
        self.revival.listen()  # history and status have the picture by then
        self.status.cancelled.connect(self.cancel)
        self.asked.toggled.connect(desk.show_structures)
        self.error.retried.connect(self._on_error_retried)
        self.past.chosen.connect(self._on_past_chosen)
        self.past.opened.connect(self.revival.recreate)
        self.revival.opening.connect(self.open)
        self.revival.wanted.connect(self._restore)
        self.revival.told.connect(self._on_revival_told)
        self.below.kept.connect(self._on_below_kept)
        self.below.reopened.connect(self.open_workspace)
        self.asked.follow(desk, self.comparison)
        self.past.add_keys(self)
        self.compare.add_keys(self)
        self.models.chosen.connect(self.open)
        self.importing.opening.connect(self.open)
        self.sweeps.asked.connect(self._on_sweep_asked)
        self.sweeps.writing.connect(self.series.write)
        self.seeds.asked.connect(self._on_seeds_asked)
        self.seeds.sureness.connect(self.series.set_least)
        self.series.swept.connect(self._on_series_swept)
        self.series.spreading.connect(self._on_series_spreading)
        self.below.chosen.connect(self._on_below_chosen)
        self.below.tabled.connect(self.regions.show)
        for refused in (self.past.refused, self.regions.failed, self.revival.failed):
            refused.connect(self.error.show_sentence)
        self.settle.timeout.connect(self._on_settle_timeout)
        on_key(self, Qt.Key.Key_Escape, self.cancel)
        themes = self._viewer.events.theme
        themes.connect(self._on_theme_changed)
        # the window may close in the middle of a run; the dock has no other hook
        self.destroyed.connect(ender(self._parts(), themes, self._on_theme_changed))

    def _parts(self) -> tuple[Any, ...]:
        """What is closed with the dock."""
        return self.desk, self.comparison, self.revival, self.series, self.regions

    def _form_of(self, card: Card) -> RequestForm:
        return RequestForm(card)

    def _draws(self, card: Card) -> bool:
        """Whether pictures for the model of `card` can be drawn from other noise."""
        return True

    def _begun(self, request: Request) -> Request:
        """`request`, from where this dock's pictures start: noise, as it is."""
        return request

    def _check(self, request: Request) -> None:
        """Raise EngineError unless this dock can show `request`."""
        assert self.desk.renderer is not None
        check_fits(self.desk.renderer.card, request)

    # -- checkpoint ------------------------------------------------------------

    def open(self, path: Path) -> None:
        """Load the checkpoint at `path`; public weights are imported first."""
        self._again = lambda: self.open(path)
        if is_foreign(path):
            return self.importing.begin(path)
        self._opening = path
        self.settle.stop()
        self.desk.open(path)

    def open_workspace(self, path: Path) -> None:
        """Bring back the state kept in the workspace file at `path`."""
        self.error.hide()
        self.revival.reopen(path)

    def _open_bundled(self) -> None:
        try:
            self.open(self.bundled())
        except EngineError as error:
            self._again = self._open_bundled
            self.error.show_sentence(str(error))
            self.status.rest("No checkpoint")

    def _on_desk_opened(self, card: Card) -> None:
        self._last = "Loaded"
        self.past.clear()
        if self.form is not None:
            self.place.removeWidget(self.form)
            self.form.deleteLater()
        self.form = self._form_of(card)
        self.form.moved.connect(self._on_form_moved)
        self.form.released.connect(self._on_form_released)
        self.form.set_colours(colours_of(self._viewer))
        self.place.addWidget(self.form)
        self.asked.prepare(compare(card, Conditions()))
        self.notice.setText(card.provenance.notice)
        self.sweeps.prepare(ways_of(card, self._draws(card)))
        self.about.setText(about(card))
        self.models.add(self._opening, card.name)
        self.ask()

    # -- pictures --------------------------------------------------------------

    def ask(self) -> None:
        """Ask for the full picture of what the controls say."""
        self.settle.stop()
        if self.form is None:
            return
        self.form.renew_seed()
        self._ask(self.form.request(), preview=False)

    def _restore(self, request: Request) -> None:
        """Ask for the picture of `request` itself; the controls show it rounded."""
        if self.form is None or self.desk.renderer is None:
            return
        try:
            self._check(request)
        except EngineError as error:
            self.revival.drop()
            self.past.stay()
            self.error.show_sentence(str(error))
            return
        self.settle.stop()
        self.form.show_request(request)
        self._ask(request, preview=False)
        self._again = lambda: self._restore(request)

    def cancel(self) -> None:
        """Stop what runs; the picture shown stays."""
        self.settle.stop()
        self.revival.drop()
        self.past.stay()
        self.desk.cancel()
        if not self.desk.busy:
            self._tell_numbers()

    def _ask(self, request: Request, preview: bool) -> None:
        self._again = self.ask
        self.error.hide()
        self.desk.ask(request, preview)

    def _on_form_moved(self) -> None:
        assert self.form is not None
        self.revival.drop()
        self.settle.start()
        if self.form.live:
            quick = Sampler(PREVIEW, preferences().preview_steps)
            request = replace(self.form.request(), sampler=quick)
            self._ask(request, preview=True)

    def _on_form_released(self) -> None:
        self.revival.drop()
        self.ask()

    def _on_settle_timeout(self) -> None:
        if self.form is not None and not self.form.dragging:
            self.ask()

    def _on_sweep_asked(self, axes: tuple[Axis, ...]) -> None:
        if self.form is not None and axes:
            self.error.hide()
            self.series.sweep(self._begun(self.form.request()), axes)

    def _on_seeds_asked(self, count: int) -> None:
        if self.form is not None:
            self.error.hide()
            pinned = self.comparison.pinned
            reference = None if pinned is None else pinned.request
            self.series.vary(self._begun(self.form.request()), count, reference)

    def _on_series_swept(self, made: Film) -> None:
        self.sweeps.write.setEnabled(True)
        self._last = f"Sweep of {len(made.pictures)} pictures"

    def _on_series_spreading(self, _: object) -> None:
        self._last = "Mean and SD over seeds"

    # -- news from the desk ----------------------------------------------------

    def _on_desk_changed(self, task: str) -> None:
        free = not task or task in BACKGROUND
        self.below.export.setEnabled(free and self.desk.picture is not None)
        if not task:
            self.status.rest(self._last)
            self._tell_numbers()
            return
        self.status.start(task)
        if task in ("preview", "picture", "measure"):
            self.asked.wait()
        if task == "measure":
            self._again = self.desk.measure
        else:  # a picture is there, whatever becomes of its numbers
            self._last = "Cancelled"  # unless better news comes before the end

    def _tell_numbers(self) -> None:
        """Show the numbers of the picture shown, unless a newer one is to come."""
        if self.settle.isActive() or (self.form is not None and self.form.dragging):
            return
        self._on_desk_measured(self.desk.findings)

    def _on_desk_measured(self, findings: Findings | None) -> None:
        if findings is None:
            self.asked.forget()
        else:
            self.asked.tell(findings, self.comparison.pinned_findings)

    def _on_desk_shown(self, picture: Picture, preview: bool) -> None:
        name = "Preview" if preview else "Full picture"
        steps = picture.request.sampler.steps
        self._last = f"{name}, {steps} steps, {picture.seconds:.1f} s"
        self.compare.set_ready(not preview)
        self.below.record = picture.record
        if not preview:
            self.past.visit(picture.request)

    def _on_error_retried(self) -> None:
        self._again()

    def _on_past_chosen(self, request: Request) -> None:
        self.revival.drop()
        self._restore(request)

    def _on_revival_told(self, words: str) -> None:
        self._last = words
        if not self.desk.busy:
            self.status.rest(words)

    def _on_desk_saved(self, paths: list[str]) -> None:
        self._last = f"Wrote {Path(paths[0]).name}"

    def _on_desk_failed(self, sentence: str) -> None:
        self._last = "Stopped by an error"
        self.past.stay()
        self.error.show_sentence(sentence)

    def _on_theme_changed(self, event: Any = None) -> None:
        colours = colours_of(self._viewer)
        self.status.colours = colours
        for part in (self.error, self.asked, self.compare):
            part.set_colours(colours)
        self.notice.setStyleSheet(f"color: {colours.faint}; font-size: 10px;")
        if self.form is not None:
            self.form.set_colours(colours)

    def _on_below_kept(self, path: Path) -> None:
        self.revival.save(path, self.models.opened)

    def _on_below_chosen(self, path: Path) -> None:
        self._again = self.below.ask
        self.desk.save(path)

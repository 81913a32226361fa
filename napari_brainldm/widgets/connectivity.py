"""The Connectivity dock: gray matter that goes with functional connectivity.

The Explore dock with another condition: a matrix instead of sliders. Pictures start
from noise, so that two matrices under the same seed differ by their connectivity alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_brainldm.engine.fnc_sample import sample_fnc
from napari_brainldm.engine.lineage import admit_table
from napari_brainldm.engine.resources import bundled_gm_ldm
from napari_brainldm.widgets.contrast_panel import ContrastPanel
from napari_brainldm.widgets.contrasts import Contrasts
from napari_brainldm.widgets.explore import ExploreDock
from napari_brainldm.widgets.fnc_panel import FncPanel
from napari_brainldm.widgets.job import Step, Task, Tick
from napari_brainldm.widgets.looks import colours_of
from napari_brainldm.widgets.saliency import (
    Asked,
    Found,
    Saliency,
    title_of,
    words_of,
)
from napari_brainldm.widgets.saliency_panel import BY_BLOCK, GRADIENTS, SaliencyPanel

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from qtpy.QtWidgets import QWidget

    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.contrast_flags import Judged
    from napari_brainldm.engine.fnc import FncTable
    from napari_brainldm.engine.fnc_contrast import Contrasted
    from napari_brainldm.engine.request import Request

WIDTH = 320
"""Pixels: room for the names of regions and methods beside the scroll bar."""

PINNED = "Compare with a pinned picture"


class ConnectivityDock(ExploreDock):
    """Gray-matter maps from a matrix of functional connectivity, and edits of it."""

    bundled = staticmethod(bundled_gm_ldm)
    without = ("Sweep",)  # there is nothing but seeds to go through

    def _make_parts(self) -> None:
        super()._make_parts()
        self._sampling = False  # whether the sample is to be opened with a model
        self.asked.hide()  # structures are found in heads, not in maps of gray matter
        self.matrices = FncPanel()
        self.contrast = ContrastPanel()
        self.contrasts = Contrasts(self._viewer, self.desk)
        self.saliency, self.salient = SaliencyPanel(), Saliency(self._viewer, self.desk)

    def _lay_out(self) -> None:
        super()._lay_out()
        self.place.insertWidget(0, self.matrices)
        self.area.setMinimumWidth(WIDTH)

    def _sections(self) -> dict[str, QWidget]:
        kept = super()._sections()
        own = {"Compare": self.contrast, "Saliency": self.saliency}
        return own | {PINNED: kept.pop("Compare"), **kept}

    def _parts(self) -> tuple[Any, ...]:
        return (*super()._parts(), self.contrasts, self.salient)

    def _wire(self) -> None:
        super()._wire()
        self.matrices.source.opening.connect(self._on_matrices_opening)
        self.matrices.source.sampled.connect(self.open_sample)
        self.matrices.moved.connect(self._on_form_moved)
        self.matrices.released.connect(self._on_form_released)
        self.contrast.asked.connect(self._on_contrast_asked)
        self.contrast.outlined.connect(self.contrasts.outline)
        self.contrast.tabled.connect(self.contrasts.tables.show)
        self.contrast.voxels.asked.connect(self.contrasts.test)
        self.contrast.writing.connect(self.contrasts.write)
        self.contrasts.begun.connect(self.contrast.forget)
        self.contrasts.sharpened.connect(self.contrast.tell_progress)
        self.contrasts.told.connect(self._on_contrasts_told)
        self.contrasts.tested_voxels.connect(self._on_voxels_tested)
        self.contrasts.tables.tabled.connect(self._on_contrasts_tabled)
        self.saliency.asked.connect(self._on_saliency_asked)
        self.saliency.clicked.connect(self._on_saliency_clicked)
        self.saliency.writing.connect(self.salient.write)
        self.salient.ready.connect(self.saliency.prepare)
        self.salient.told.connect(self._on_salient_told)
        for part in (self.matrices, self.contrasts, self.contrasts.tables):
            part.failed.connect(self.error.show_sentence)

    @property
    def _ready(self) -> bool:
        """Whether the model in use knows connectivity."""
        return self.matrices.fnc is not None

    # -- checkpoint ------------------------------------------------------------

    def _on_desk_opened(self, card: Card) -> None:
        assert self.desk.renderer is not None
        law = None if card.fnc is None else self.desk.renderer.checkpoint.fnc_law()
        components = () if card.fnc is None else card.fnc.components
        self.matrices.prepare(law, components)
        table = self.matrices.source.table
        if table is not None:  # another model knows nobody yet
            admit_table(self.desk.renderer.fnc, table)
        self.contrast.prepare(table)
        self.contrast.forget()
        self.saliency.forget()
        super()._on_desk_opened(card)
        self.asked.hide()
        assert self.form is not None
        self.form.setVisible(law is not None)
        if law is None:
            self.error.show_sentence(
                f"{card.name} knows no functional connectivity, so it makes no gray "
                "matter of it. Press Open… and choose a GM-LDM checkpoint.",
                retriable=False,
            )

        elif self._sampling:
            self.open_sample()

    # -- connectivity ----------------------------------------------------------

    def open_sample(self) -> None:
        """Load the simulated people that come with the program, once a model is."""
        self._sampling = self.desk.loading or not self._ready
        if not self._sampling:
            self._on_matrices_opening(sample_fnc)

    def _on_matrices_opening(self, reading: Callable[[], FncTable]) -> None:
        self.error.hide()
        self._again = lambda: self._on_matrices_opening(reading)
        work = partial(_read, reading, self.desk.renderer)
        self.desk.run(Task("fnc", work, self._on_table_read))

    def _on_table_read(self, table: FncTable) -> None:
        self.matrices.show_table(table)
        self.contrast.prepare(table)

    # -- comparisons -----------------------------------------------------------

    def _on_contrast_asked(self) -> None:
        fnc, panel, table = (
            self.matrices.fnc,
            self.contrast,
            self.matrices.source.table,
        )
        if fnc is None or self.form is None:
            return
        self.error.hide()
        self._again = self._on_contrast_asked
        people, others = panel.people(table, fnc), panel.others(table)
        counts = panel.seeds.value(), panel.nulls.value()
        against = panel.against.currentData()
        request = self.form.request()
        self.contrasts.compare(request, people, against, others, counts)

    def _on_contrasts_told(self, made: Contrasted, judged: Judged) -> None:
        self._last = "Comparison"
        people = made.compared.people
        self.contrast.tell(made.compared.sentence(), judged.told(), people)

    def _on_contrasts_tabled(self, what: str) -> None:
        self._last = what

    def _on_voxels_tested(self, words: str) -> None:
        self._last = "Voxels tested"
        self.contrast.voxels.tell(words)

    # -- saliency --------------------------------------------------------------

    def _on_saliency_asked(self) -> None:
        fnc, panel = self.matrices.fnc, self.saliency
        if fnc is None or self.form is None:
            return
        self.error.hide()
        self._again = self._on_saliency_asked
        asked = Asked(
            panel.method.currentData(),
            panel.region.currentData(),
            panel.seeds.value(),
            panel.points.value(),
            panel.check.isChecked(),
        )
        known = self.matrices.components
        self.salient.find(self.form.request(), fnc, known, asked)

    def _on_saliency_clicked(self, block: int, region: int) -> None:
        self.saliency.blocks.mark([(block, region)])
        self.salient.show_block(block, region)

    def _on_salient_told(self, found: Found) -> None:
        self._last = "Saliency"
        test = found.sanity
        told = "Not tested with randomised weights." if test is None else test.told()
        good = test is not None and test.passed
        self.saliency.forget()
        words = f"{title_of(found)} {words_of(found)}"
        self.saliency.tell(words, told, good)
        if found.asked.method in BY_BLOCK:
            self.saliency.show_blocks(found.value.heat())
        elif found.asked.method == GRADIENTS:
            known = self.matrices.components
            self.saliency.show_matrix(self.salient.matrix_of(found, known))

    # -- requests --------------------------------------------------------------

    def _begun(self, request: Request) -> Request:
        """`request` of the connectivity that the matrix shows."""
        fnc = self.matrices.fnc
        assert fnc is not None
        assert self.desk.renderer is not None
        digest = self.desk.renderer.fnc.admit(fnc)
        return replace(request, conditions=replace(request.conditions, fnc=digest))

    def _ask(self, request: Request, preview: bool) -> None:
        if not self._ready:
            return
        if request.conditions.fnc:  # a former request says its own
            self._show_fnc(request.conditions.fnc)
        super()._ask(self._begun(request), preview)

    def _show_fnc(self, digest: str) -> None:
        assert self.desk.renderer is not None
        assert self.matrices.fnc is not None
        if self.matrices.fnc.digest != digest:
            self.matrices.show_fnc(self.desk.renderer.fnc.of(digest))

    def _on_settle_timeout(self) -> None:
        if not self.matrices.dragging:
            super()._on_settle_timeout()

    def _on_seeds_asked(self, count: int) -> None:
        if self._ready:
            super()._on_seeds_asked(count)

    # -- former requests -------------------------------------------------------

    def _check(self, request: Request) -> None:
        super()._check(request)
        assert self.desk.renderer is not None
        known = self.desk.renderer.fnc
        known.of(request.conditions.fnc or known.mean)

    def _on_theme_changed(self, event: Any = None) -> None:
        super()._on_theme_changed(event)
        for part in (self.matrices, self.contrast, self.saliency):
            part.set_colours(colours_of(self._viewer))


def _read(
    reading: Callable[[], FncTable], renderer: Any
) -> Generator[Step, None, FncTable]:
    """Read a table, and refuse one that the model cannot take."""
    yield Tick("fnc", 0, 1)
    table = reading()
    if renderer is not None:
        admit_table(renderer.fnc, table)
    return table

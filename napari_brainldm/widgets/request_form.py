"""The form of a Request: conditions from a card, seed, sampler."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.engine.request import Conditions, Request, Sampler, Seed
from napari_brainldm.engine.sampling import SAMPLERS
from napari_brainldm.widgets.condition_rows import Row, row_of, way_of
from napari_brainldm.widgets.looks import LAST_SEED, Colours, named, quiet, section
from napari_brainldm.widgets.presets import PresetButton

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.request import Value


class SeedRow(QWidget):
    """The seed, locked by default, so that only the conditions' effect is seen."""

    moved = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.box = QSpinBox()
        self.box.setRange(0, LAST_SEED)
        self.box.setKeyboardTracking(False)
        self.lock = QCheckBox("Lock")
        self.lock.setChecked(True)
        self.new = QPushButton("New")
        named(self.box, "Seed", "Which noise the picture starts from")
        tip = "Keep the same noise, so that only the conditions change the picture"
        named(self.lock, "Lock the seed", tip)
        named(self.new, "New seed", "Draw another brain with the same conditions")
        self.box.valueChanged.connect(self.moved)
        self.new.clicked.connect(self.draw)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("Seed"))
        layout.addWidget(self.box, 1)
        layout.addWidget(self.lock)
        layout.addWidget(self.new)

    def draw(self) -> None:
        """Show another seed."""
        self.box.setValue(secrets.randbelow(LAST_SEED))


class SamplerForm(QWidget):
    """Solver, steps, guidance, and whether pictures follow the hand."""

    moved = Signal()

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.sampler, self.steps = QComboBox(), QSpinBox()
        self.guidance, self.live = QDoubleSpinBox(), QCheckBox("Live preview")
        self.sampler.addItems(SAMPLERS)
        self.steps.setRange(1, card.schedule.steps)
        self.guidance.setRange(0.0, 10.0)
        self.guidance.setSingleStep(0.5)
        self.guidance.setEnabled(bool(card.denoiser and card.denoiser.droppable))
        self.live.setChecked(True)
        self.set_defaults()
        self._explain()
        self._lay_out()
        self.sampler.currentIndexChanged.connect(self.moved)
        for box in (self.steps, self.guidance):
            box.setKeyboardTracking(False)
            box.valueChanged.connect(self.moved)

    def set_defaults(self) -> None:
        """Show the sampler that a Request has by itself."""
        request = Request()
        self.sampler.setCurrentText(request.sampler.name)
        self.steps.setValue(request.sampler.steps)
        self.guidance.setValue(request.guidance)

    def value(self) -> Sampler:
        """The sampler asked for."""
        return Sampler(self.sampler.currentText(), self.steps.value())

    def _explain(self) -> None:
        named(self.sampler, "Sampler", "How the denoiser is followed to the picture")
        named(self.steps, "Steps", "Denoising steps: more is slower and finer")
        tip = "How strongly the conditions are pressed upon the picture; 1 is off"
        if not self.guidance.isEnabled():
            tip = "This checkpoint was trained without dropped conditions"
        named(self.guidance, "Guidance", tip)
        named(self.live, "Live preview", "Show quick pictures while a slider moves")

    def _lay_out(self) -> None:
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addRow("Sampler", self.sampler)
        layout.addRow("Steps", self.steps)
        layout.addRow("Guidance", self.guidance)
        layout.addRow("", self.live)


class RequestForm(QWidget):
    """Everything that makes a Request, for one card."""

    moved = Signal()  # a value changed, perhaps under a moving hand
    released = Signal()  # the hand let go
    resetting = Signal()  # all goes back to where it began; `moved` follows

    def __init__(self, card: Card, of_scan: bool = False) -> None:
        super().__init__()
        self.rows: dict[str, Row] = {c.name: row_of(c) for c in card.vocabulary}
        self.ways = {d.name: way_of(d) for d in card.directions}
        self.own = card.complete(Conditions())
        self._digits: dict[tuple[str, Value], Value] = {}
        self.seed, self.sampler = SeedRow(), SamplerForm(card)
        self.advanced = section("Advanced", self.sampler)
        self.presets = PresetButton(card, lambda: self.request().conditions)
        self.presets.chosen.connect(self._on_presets_chosen)
        self.reset = QPushButton("Reset conditions")
        named(self.reset, "Reset conditions", "Back to the values shown first")
        self.reset.clicked.connect(self._on_reset_clicked)
        self._lay_out()
        self._leave_out(of_scan)
        for part in (*self._all, self.seed, self.sampler):
            part.moved.connect(self.moved)
        for row in self._all:
            row.released.connect(self.released)

    def _leave_out(self, of_scan: bool) -> None:
        """Hide what makes no sense; only now, for shown earlier it is a window."""
        if of_scan:  # it comes back the way it went
            self.seed.hide()
            self.advanced.hide()
        if not self._all:  # a model may know no conditions
            self.presets.hide()
            self.reset.hide()

    @property
    def _all(self) -> tuple[Row, ...]:
        """Rows of conditions, then of directions."""
        return (*self.rows.values(), *self.ways.values())

    @property
    def dragging(self) -> bool:
        """Whether any slider is held."""
        return any(row.dragging for row in self._all)

    @property
    def live(self) -> bool:
        """Whether quick pictures follow the hand."""
        return self.sampler.live.isChecked()

    def request(self) -> Request:
        """What the controls say; a scan's own values in all their digits."""
        shown = {name: row.value() for name, row in self.rows.items()}
        values = {n: self._digits.get((n, v), v) for n, v in shown.items()}
        return Request(
            Conditions.of(values),
            Seed(self.seed.box.value()),
            self._shift(),
            sampler=self.sampler.value(),
            guidance=self.sampler.guidance.value(),
        )

    def _shift(self) -> tuple[tuple[str, float], ...]:
        """Amounts along all directions, sorted by name.

        Those of 0 as well: from noise, a picture that is going to be moved is not the
        one without a code.
        """
        amounts = {name: float(row.value()) for name, row in self.ways.items()}
        return tuple(sorted(amounts.items()))

    def show_own(self, own: Conditions) -> None:
        """Begin with a scan's `own` conditions; Reset comes back to them."""
        self.own = self.own.with_values(own.as_dict())
        self._show_own()
        every = self.own.as_dict()
        self._digits = {(n, r.value()): every[n] for n, r in self.rows.items()}

    def _show_own(self) -> None:
        for name, value in self.own.as_dict().items():
            self.rows[name].set_value(value)
        for row in self.ways.values():
            row.set_value(0.0)

    def show_request(self, request: Request) -> None:
        """Show what `request` asks for, without a signal."""
        for name, value in request.conditions.as_dict().items():
            self.rows[name].set_value(value)
        for name, row in self.ways.items():
            row.set_value(dict(request.shift).get(name, 0.0))
        if not isinstance(request.origin, Seed):
            return
        advanced = self.sampler
        parts = self.seed.box, advanced.sampler, advanced.steps, advanced.guidance
        with quiet(*parts):
            self.seed.box.setValue(min(request.origin.value, LAST_SEED))
            advanced.sampler.setCurrentText(request.sampler.name)
            advanced.steps.setValue(request.sampler.steps)
            advanced.guidance.setValue(request.guidance)

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        for row in self._all:
            row.set_colours(colours)

    def renew_seed(self) -> None:
        """Draw a seed if it is not locked, without a signal."""
        if not self.seed.lock.isChecked():
            with quiet(self.seed):
                self.seed.draw()

    def _on_reset_clicked(self) -> None:
        self.resetting.emit()
        self._show_own()
        self.moved.emit()  # once: several sliders are one picture

    def _on_presets_chosen(self, conditions: Conditions) -> None:
        for name, value in conditions.as_dict().items():
            self.rows[name].set_value(value)
        self.moved.emit()

    def _lay_out(self) -> None:
        both = QHBoxLayout()
        for button in (self.presets, self.reset):
            both.addWidget(button, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(10)
        for row in self._all:
            layout.addWidget(row)
        layout.addWidget(self.seed)
        layout.addLayout(both)
        layout.addWidget(self.advanced)

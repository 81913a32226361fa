"""Sweep a condition or a direction, or two, and see what changes from seed to seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
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

from napari_brainldm.engine.card import Covariate
from napari_brainldm.engine.sweep import CONDITION, DIRECTION, MOST, SEED, Axis
from napari_brainldm.widgets.condition_rows import amount_of, decimals, slider_range
from napari_brainldm.widgets.looks import LAST_SEED, named, set_style
from napari_brainldm.widgets.where import ask_where, film_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_brainldm.engine.card import Card

NOTHING = "(none)"
STEPS = 9
KINDS = "Animated GIF (*.gif);;Animated PNG (*.png);;MP4 film (*.mp4);;NIfTI (*.nii.gz)"


@dataclass(frozen=True)
class Way:
    """What a sweep can go along: its range, and where it begins."""

    range: Covariate
    kind: str
    begin: float

    @property
    def key(self) -> str:
        """Tells it from a condition of the same name."""
        name = self.range.name
        return name if self.kind == CONDITION else f"{self.kind} {name}"


def ways_of(card: Card, noise: bool) -> tuple[Way, ...]:
    """Conditions and directions of `card`; with `noise`, seeds as well."""
    conditions = (Way(c, CONDITION, c.low) for c in card.vocabulary)
    amounts = (Way(amount_of(d), DIRECTION, 0.0) for d in card.directions)
    seeds = Covariate("seed", "Seed", low=0, high=LAST_SEED)
    return (*conditions, *amounts, *((Way(seeds, SEED, 0.0),) if noise else ()))


class AxisRow(QWidget):
    """One condition or direction, from where to where, in how many steps."""

    def __init__(self, title: str, optional: bool) -> None:
        super().__init__()
        self._ways: dict[str, Way] = {}
        self._optional = optional
        self.name, self.steps = QComboBox(), QSpinBox()
        self.low, self.high = QDoubleSpinBox(), QDoubleSpinBox()
        self.steps.setRange(2, MOST)
        self.steps.setValue(STEPS if not optional else 3)
        self.steps.setSuffix(" steps")
        named(self.name, title, "What goes through its values")
        named(self.low, f"{title}: from", "First value")
        named(self.high, f"{title}: to", "Last value; may be the smaller one")
        named(self.steps, f"{title}: steps", "Pictures along it")
        self._lay_out()
        self.name.currentIndexChanged.connect(self._on_name_changed)

    def prepare(self, ways: Sequence[Way]) -> None:
        """Offer to go along these."""
        self._ways = {way.key: way for way in ways}
        self.name.clear()
        if self._optional:
            self.name.addItem(NOTHING, "")
        for key, way in self._ways.items():
            self.name.addItem(way.range.title, key)

    def value(self) -> Axis | None:
        """The axis asked for; None for none."""
        way = self._ways.get(self.name.currentData() or "")
        if way is None:
            return None
        name, kind = way.range.name, way.kind
        if way.range.categories:
            return Axis(name, way.range.categories, kind)
        if kind == SEED:
            first, count = round(self.low.value()), self.steps.value()
            return Axis(name, tuple(range(first, first + count)), kind)
        ends = self.low.value(), self.high.value()
        return Axis.between(name, *ends, self.steps.value(), kind)

    def _on_name_changed(self) -> None:
        way = self._ways.get(self.name.currentData() or "")
        numeric = way is not None and not way.range.categories
        for box in (self.low, self.high, self.steps):
            box.setEnabled(numeric)
        if way is None or not numeric:
            return
        self.high.setEnabled(way.kind != SEED)  # as many as there are steps
        covariate = way.range
        low, high = slider_range(covariate)
        digits = 0 if way.kind == SEED else decimals(covariate)
        for box, value in ((self.low, way.begin), (self.high, covariate.high)):
            box.setDecimals(digits)
            box.setRange(low, high)
            box.setSuffix(f" {covariate.unit}" if covariate.unit else "")
            box.setValue(round(value, digits))

    def _lay_out(self) -> None:
        ends = QHBoxLayout()
        for box in (self.low, self.high):
            ends.addWidget(box, 1)
        for control in (self.low, self.high, self.steps):
            # napari's padding of 10 px leaves too little room between the buttons
            set_style(control, "padding: 1px 3px;")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        first = QHBoxLayout()
        first.addWidget(self.name, 1)
        first.addWidget(self.steps)
        layout.addLayout(first)
        layout.addLayout(ends)


class SweepPanel(QWidget):
    """What to sweep, and the buttons that render and write it."""

    asked = Signal(tuple)  # of Axis
    writing = Signal(object)  # Path

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = AxisRow("Sweep", False), AxisRow("And", True)
        self.begin, self.write = QPushButton("Render"), QPushButton("Write…")
        tip = "Render every picture in the background; the rest of the dock stays live"
        named(self.begin, "Render the sweep", tip)
        tip = "Write the last sweep: a moving picture, or one NIfTI per picture"
        named(self.write, "Write the sweep", tip)
        self.write.setEnabled(False)
        buttons = QHBoxLayout()
        buttons.addWidget(self.begin, 1)
        buttons.addWidget(self.write, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self.first, QLabel("and"), self.second):
            layout.addWidget(part)
        layout.addLayout(buttons)
        self.begin.clicked.connect(self._on_begin_clicked)
        self.write.clicked.connect(self._on_write_clicked)

    def prepare(self, ways: Sequence[Way]) -> None:
        """Offer to go along these; their sweeps are not made yet."""
        self.first.prepare(ways)
        self.second.prepare(ways)
        self.setEnabled(bool(ways))
        self.write.setEnabled(False)

    def _on_begin_clicked(self) -> None:
        axes = (self.first.value(), self.second.value())
        self.asked.emit(tuple(axis for axis in axes if axis is not None))

    def _on_write_clicked(self) -> None:
        path = ask_where(self, "Write the sweep", "sweep.gif", KINDS, film_at)
        if path is not None:
            self.writing.emit(path)


class SeedsPanel(QWidget):
    """How much the picture depends on its noise."""

    asked = Signal(int)  # how many seeds
    sureness = Signal(float)  # least |mean| / SD of a change that is shown

    def __init__(self) -> None:
        super().__init__()
        self.count, self.least = QSpinBox(), QDoubleSpinBox()
        self.begin = QPushButton("Render")
        self.count.setRange(2, 100)
        self.count.setValue(8)
        self.least.setRange(0.0, 10.0)
        self.least.setSingleStep(0.25)
        self.least.setValue(1.0)
        tip = "Pictures with the same conditions and other noise"
        named(self.count, "Seeds", tip)
        tip = (
            "Show the change against the reference only where its mean over seeds is "
            "at least so many of its SDs"
        )
        named(self.least, "Least mean / SD", tip)
        tip = "Render all seeds in the background: mean, SD, change against the pinned"
        named(self.begin, "Render the seeds", tip)
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addRow("Seeds", self.count)
        layout.addRow("Least mean / SD", self.least)
        layout.addRow(self.begin)
        self.begin.clicked.connect(self._on_begin_clicked)
        self.least.valueChanged.connect(self.sureness)

    def _on_begin_clicked(self) -> None:
        self.asked.emit(self.count.value())

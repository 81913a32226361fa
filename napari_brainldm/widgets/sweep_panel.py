"""Sweep one condition, or two, and see what changes from seed to seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.engine.sweep import MOST, Axis
from napari_brainldm.widgets.condition_rows import decimals, slider_range
from napari_brainldm.widgets.looks import named, set_style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_brainldm.engine.card import Card, Covariate

NOTHING = "(none)"
STEPS = 9
KINDS = "Animated GIF (*.gif);;Animated PNG (*.png);;MP4 film (*.mp4);;NIfTI (*.nii.gz)"


class AxisRow(QWidget):
    """One condition, from where to where, in how many steps."""

    def __init__(self, title: str, optional: bool) -> None:
        super().__init__()
        self._covariates: dict[str, Covariate] = {}
        self._optional = optional
        self.name, self.steps = QComboBox(), QSpinBox()
        self.low, self.high = QDoubleSpinBox(), QDoubleSpinBox()
        self.steps.setRange(2, MOST)
        self.steps.setValue(STEPS if not optional else 3)
        self.steps.setSuffix(" steps")
        named(self.name, title, "The condition that goes through its values")
        named(self.low, f"{title}: from", "First value")
        named(self.high, f"{title}: to", "Last value; may be the smaller one")
        named(self.steps, f"{title}: steps", "Pictures along this condition")
        self._lay_out()
        self.name.currentIndexChanged.connect(self._on_name_changed)

    def prepare(self, covariates: Sequence[Covariate]) -> None:
        """Offer these conditions."""
        self._covariates = {c.name: c for c in covariates}
        self.name.clear()
        if self._optional:
            self.name.addItem(NOTHING, "")
        for covariate in covariates:
            self.name.addItem(covariate.title, covariate.name)

    def value(self) -> Axis | None:
        """The axis asked for; None for none."""
        covariate = self._covariates.get(self.name.currentData() or "")
        if covariate is None:
            return None
        if covariate.categories:
            return Axis(covariate.name, covariate.categories)
        ends = self.low.value(), self.high.value()
        return Axis.between(covariate.name, *ends, self.steps.value())

    def _on_name_changed(self) -> None:
        covariate = self._covariates.get(self.name.currentData() or "")
        numeric = covariate is not None and not covariate.categories
        for box in (self.low, self.high, self.steps):
            box.setEnabled(numeric)
        if covariate is None or not numeric:
            return
        low, high = slider_range(covariate)
        digits = decimals(covariate)
        for box, value in ((self.low, covariate.low), (self.high, covariate.high)):
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

    def prepare(self, card: Card) -> None:
        """Offer the conditions of `card`; its sweeps are not made yet."""
        self.first.prepare(card.vocabulary)
        self.second.prepare(card.vocabulary)
        self.setEnabled(bool(card.vocabulary))
        self.write.setEnabled(False)

    def _on_begin_clicked(self) -> None:
        axes = (self.first.value(), self.second.value())
        self.asked.emit(tuple(axis for axis in axes if axis is not None))

    def _on_write_clicked(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self, "Write the sweep", "sweep.gif", KINDS
        )
        if name:
            self.writing.emit(Path(name))


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

"""What else can be done with visits: one left out, and a film along age."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.engine.sweep import MOST, Axis
from napari_brainldm.widgets.looks import Colours, named, sentence_label, set_style
from napari_brainldm.widgets.sweep_panel import KINDS
from napari_brainldm.widgets.where import ask_where, film_at

if TYPE_CHECKING:
    from napari_brainldm.engine.left_out import LeftOut
    from napari_brainldm.engine.visits import Course

HEADS = ("", "SSIM", "in brain", "MSE")
FRAMES = 9
NEEDS = "Three visits or more are needed: one between two others is predicted."
TOLD = (
    "Error map: prediction minus reconstruction, blue less, red more. The nearest "
    "visit is what doing nothing would give."
)


class LeftOutPanel(QWidget):
    """Which visit to hide, and how well the others tell it."""

    asked = Signal(int)  # the visit, from 0

    def __init__(self) -> None:
        super().__init__()
        self.picker, self.begin = QComboBox(), QPushButton("Predict it")
        self.words, self.table = sentence_label("Leave one out"), QWidget()
        self._grid = QGridLayout(self.table)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(0, 1)
        named(self.picker, "Visit to hide", "A visit between two others")
        tip = "Hide this visit and make its picture from the others"
        named(self.begin, "Predict the hidden visit", tip)
        line = QHBoxLayout()
        line.addWidget(self.picker, 1)
        line.addWidget(self.begin)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(line)
        layout.addWidget(self.table)
        layout.addWidget(self.words)
        self.begin.clicked.connect(self._on_begin_clicked)
        self.prepare(None)

    def prepare(self, course: Course | None) -> None:
        """Offer the visits of `course` that lie between two others."""
        self.picker.clear()
        for place, age in enumerate(() if course is None else course.ages):
            if course is not None and 0 < place < len(course.ages) - 1:
                self.picker.addItem(f"Visit {place + 1}, {age:.2f} years", place)
        for control in (self.picker, self.begin):
            control.setEnabled(self.picker.count() > 0)
        self._clear()
        self.words.setText("" if self.picker.count() else NEEDS)

    def tell(self, found: LeftOut) -> None:
        """Show how like the prediction is, and how like the nearest visit."""
        self._clear()
        for column, words in enumerate(HEADS):
            self._put(0, column, words)
        for row, (what, truth, like) in enumerate(found.likenesses, start=1):
            self._put(row, 0, f"{what} – {truth}")
            numbers = (f"{like.ssim:.3f}", f"{like.ssim_brain:.3f}", f"{like.mse:.5f}")
            for column, words in enumerate(numbers, start=1):
                self._put(row, column, words)
        self.words.setText(TOLD)

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        set_style(self.words, f"color: {colours.faint}; font-size: 10px;")

    def _put(self, row: int, column: int, words: str) -> None:
        label = QLabel(words)
        set_style(label, "padding: 0px; font-size: 11px;")
        side = Qt.AlignmentFlag.AlignRight if column else Qt.AlignmentFlag.AlignLeft
        self._grid.addWidget(label, row, column, side)

    def _clear(self) -> None:
        for label in self.table.findChildren(QLabel):
            self._grid.removeWidget(label)
            label.deleteLater()

    def _on_begin_clicked(self) -> None:
        self.asked.emit(self.picker.currentData())


class FilmPanel(QWidget):
    """From which age to which, in how many pictures."""

    asked = Signal(tuple)  # of ages in years
    writing = Signal(object)  # Path

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high, self.steps = QDoubleSpinBox(), QDoubleSpinBox(), QSpinBox()
        self.begin, self.write = QPushButton("Render"), QPushButton("Write…")
        self.steps.setRange(2, MOST)
        self.steps.setValue(FRAMES)
        self.steps.setSuffix(" pictures")
        for box in (self.low, self.high):
            box.setDecimals(2)
            box.setSuffix(" years")
        named(self.low, "Film: from", "Age of the first picture")
        named(self.high, "Film: to", "Age of the last picture; beyond the visits too")
        named(self.steps, "Film: pictures", "How many, equally far apart")
        tip = (
            "Render every picture in the background and measure it; what was made "
            "before is kept"
        )
        named(self.begin, "Render the film", tip)
        tip = "Write the last film: a moving picture, or one NIfTI per picture"
        named(self.write, "Write the film", tip)
        self._lay_out()
        self.begin.clicked.connect(self._on_begin_clicked)
        self.write.clicked.connect(self._on_write_clicked)
        self.prepare(None)

    def prepare(self, course: Course | None) -> None:
        """Offer the ages of `course`; its film is not made yet."""
        self.setEnabled(course is not None)
        self.write.setEnabled(False)
        if course is None:
            return
        for box, age in ((self.low, course.ages[0]), (self.high, course.ages[-1])):
            box.setRange(*course.reach)
            box.setValue(age)

    def _on_begin_clicked(self) -> None:
        ends = self.low.value(), self.high.value()
        self.asked.emit(Axis.between("age", *ends, self.steps.value()).values)

    def _on_write_clicked(self) -> None:
        path = ask_where(self, "Write the film", "age.gif", KINDS, film_at)
        if path is not None:
            self.writing.emit(path)

    def _lay_out(self) -> None:
        ends, buttons = QHBoxLayout(), QHBoxLayout()
        for box in (self.low, self.high, self.steps):
            # napari's padding of 10 px leaves too little room between the buttons
            set_style(box, "padding: 1px 3px;")
            ends.addWidget(box, 1)
        buttons.addWidget(self.begin, 1)
        buttons.addWidget(self.write, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(ends)
        layout.addLayout(buttons)

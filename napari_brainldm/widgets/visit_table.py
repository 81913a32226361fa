"""The visits of one person: a layer and an age each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.visit_ages import Told, ages_by_date, told_age
from napari_brainldm.widgets import overlays
from napari_brainldm.widgets.age_box import AgeBox
from napari_brainldm.widgets.looks import named, quiet, sentence_label, set_style
from napari_brainldm.widgets.scan_row import Listening

if TYPE_CHECKING:
    from datetime import datetime

FEWEST, MOST = 2, 20

NOTHING = (
    "Choose two or more T1-weighted scans of one person, type the age at each (or the "
    "years since the first, or dates such as 2019-05-31), press Encode."
)


AGE_TIP = (
    "Type the age at this visit in years, the years since the first visit, or the date "
    "of the visit such as 2019-05-31. Dates give years since the first of them, or "
    "ages, once the age at one of them is typed."
)


@dataclass(frozen=True, eq=False)
class Chosen:
    """A visit as the user says it; the age in years is None while it is unknown."""

    layer: Any
    age: float | None

    @property
    def name(self) -> str:
        """Of the layer."""
        return str(self.layer.name)


class VisitRow(QWidget):
    """One visit: which layer, what age, and a button that takes it away.

    Attributes
    ----------
    known
        The age in years as it was typed or as tables tell it, not one made of dates.
    date
        The date that was typed.
    """

    picked = Signal(object)  # this row
    unwanted = Signal(object)  # this row
    changed = Signal()
    refused = Signal(str)  # a sentence

    def __init__(self) -> None:
        super().__init__()
        self.known: float | None = None
        self.date: datetime | None = None
        self.picker, self.age = QComboBox(), AgeBox()
        self.remove = QPushButton("✕")
        self.picker.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.remove.setFixedWidth(26)
        set_style(self.remove, "padding: 1px;")
        self.tell(None)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.picker, 1)
        layout.addWidget(self.age)
        layout.addWidget(self.remove)
        self.picker.currentIndexChanged.connect(self._on_picker_changed)
        self.age.valueChanged.connect(self._on_age_changed)
        self.age.dated.connect(self._on_dated)
        self.age.refused.connect(self.refused)
        self.remove.clicked.connect(self._on_remove_clicked)

    @property
    def layer(self) -> Any:
        """The layer picked; None without one."""
        return self.picker.currentData()

    def number(self, place: int) -> None:
        """Be called visit `place` (from 1) in names and tooltips."""
        tip = "Image layers that may be a T1-weighted scan"
        named(self.picker, f"Visit {place}: scan", tip)
        self.age.setAccessibleName(f"Visit {place}: age")
        named(self.remove, f"Visit {place}: remove", "Take this visit out of the table")

    def value(self) -> Chosen | None:
        """The visit; None while no layer is picked."""
        if self.layer is None:
            return None
        return Chosen(self.layer, self.age.years())

    def offer(self, layers: list[Any], other: list[Any]) -> None:
        """List `layers`; the one picked stays, else one that `other` rows lack."""
        before = self.layer
        with quiet(self.picker):
            self.picker.clear()
            for layer in layers:
                self.picker.addItem(layer.name, layer)
            place = self.picker.findData(before) if before is not None else -1
            self.picker.setCurrentIndex(place)
        if place < 0:
            self.tell(None)
            free = next((n for n, one in enumerate(layers) if one not in other), -1)
            self.picker.setCurrentIndex(free)

    def tell(self, told: Told | None) -> None:
        """Begin with age and date that tables tell, or with none.

        Years since the first date are no age: they follow once an age is typed.
        """
        self.known = told.years if told is not None and told.is_age else None
        self.date = None if told is None else told.date
        self.age.show_years(None if told is None else told.years)
        self.age.setToolTip(AGE_TIP if told is None else told.source)

    def _on_age_changed(self) -> None:
        self.known = self.age.years()
        self.changed.emit()

    def _on_dated(self, date: datetime) -> None:
        self.date = date
        self.age.setToolTip(f"Visit of {date:%Y-%m-%d}. {AGE_TIP}")
        self.changed.emit()

    def _on_picker_changed(self) -> None:
        self.picked.emit(self)

    def _on_remove_clicked(self) -> None:
        self.unwanted.emit(self)


class VisitTable(QWidget):
    """Rows of visits, and the button that encodes them.

    Attributes
    ----------
    listening
        To be closed with the dock.
    """

    asked = Signal()
    refused = Signal(str)  # a sentence

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.rows: list[VisitRow] = []
        self.add, self.encode = QPushButton("Add visit"), QPushButton("Encode")
        self.words = sentence_label("Visits")
        named(self.add, "Add a visit", "One more scan of the same person")
        tip = (
            "Place each scan, take it into the model and invert it: once, half a "
            "minute each"
        )
        named(self.encode, "Encode the visits", tip)
        self._lay_out()
        self.add.clicked.connect(self._on_add_clicked)
        self.encode.clicked.connect(self.asked)
        this: Any = self  # any widget with `refresh` will do
        self.listening = Listening(viewer, this)
        for _ in range(FEWEST):
            self._append()
        self.forget()

    def forget(self) -> None:
        """No visit is encoded for the model in use."""
        self.words.setText(NOTHING)

    def tell(self, words: str, details: str) -> None:
        """Say in `words` what was encoded, and in a tooltip how."""
        self.words.setText(words)
        self.words.setToolTip(details)

    def chosen(self) -> list[Chosen]:
        """The visits, in the order of the rows; rows without a layer are left out."""
        values = (row.value() for row in self.rows)
        return [value for value in values if value is not None]

    def refresh(self) -> None:
        """List the layers that may be scans, in every row."""
        layers = overlays.scans(self._viewer)
        for row in self.rows:
            row.offer(layers, [r.layer for r in self.rows if r is not row])
        self.encode.setEnabled(bool(layers))

    def _append(self) -> None:
        row = VisitRow()
        self.rows.append(row)
        self._place.addWidget(row)
        row.picked.connect(self._on_row_picked)
        row.unwanted.connect(self._on_row_unwanted)
        row.changed.connect(self._on_row_changed)
        row.refused.connect(self.refused)
        self._count()
        self.refresh()

    def _count(self) -> None:
        for place, row in enumerate(self.rows, start=1):
            row.number(place)
            row.remove.setEnabled(len(self.rows) > FEWEST)
        self.add.setEnabled(len(self.rows) < MOST)

    def _on_add_clicked(self) -> None:
        self._append()

    def _on_row_unwanted(self, row: VisitRow) -> None:
        self.rows.remove(row)
        self._place.removeWidget(row)
        row.deleteLater()
        self._count()
        self._on_row_changed()

    def _on_row_picked(self, row: VisitRow) -> None:
        try:
            told = told_of(row.layer)
        except EngineError as error:
            told = None
            self.refused.emit(str(error))
        row.tell(told)
        self._on_row_changed()

    def _on_row_changed(self) -> None:
        dates = [row.date for row in self.rows]
        ages = ages_by_date(dates, [row.known for row in self.rows])
        lost = []
        for place, (row, age) in enumerate(zip(self.rows, ages, strict=True), start=1):
            row.age.show_years(age)
            if row.date is not None and age is None:
                lost.append(place)
        if lost:
            self.refused.emit(
                f"Visit {lost[0]} has a date, but other visits have ages without "
                "one. Type the date of one of these too, or an age for each."
            )
        if self.words.text() != NOTHING:
            self.words.setText("The table was changed: press Encode.")

    def _lay_out(self) -> None:
        self._place, buttons = QVBoxLayout(), QHBoxLayout()
        self._place.setSpacing(3)
        buttons.addWidget(self.add, 1)
        buttons.addWidget(self.encode, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 4)
        layout.setSpacing(5)
        layout.addLayout(self._place)
        layout.addLayout(buttons)
        layout.addWidget(self.words)


def told_of(layer: Any) -> Told | None:
    """What the tables beside the file of `layer` tell; None without a file."""
    path = getattr(getattr(layer, "source", None), "path", None)
    return None if path is None else told_age(Path(path))

"""A later scan, forecast from one: who the person is, and how many years on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_brainldm.engine.card import Card, Covariate
from napari_brainldm.engine.request import Conditions, Later, Scan
from napari_brainldm.widgets.condition_rows import NumberRow, Row, row_of
from napari_brainldm.widgets.looks import Colours, sentence_label

if TYPE_CHECKING:
    from napari_brainldm.engine.request import Origin

FARTHEST = 5.0
"""Years on that the slider reaches; typed ones may go further."""

TOLD = "The person at this scan; the forecast learned from people seen more than once."


class ForecastPanel(QWidget):
    """Rows for what the forecast asks, and a slider of years."""

    moved = Signal()
    released = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, Row] = {}
        self.years: NumberRow | None = None
        self.words = sentence_label("Forecast")
        self.words.setText(TOLD)
        self._colours: Colours | None = None
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(8)
        self._layout.addWidget(self.words)

    @property
    def dragging(self) -> bool:
        """Whether the slider of years is held."""
        return self.years is not None and self.years.dragging

    def prepare(self, card: Card) -> None:
        """Offer what the forecast of `card` asks; nothing where it has none."""
        for row in self._all:
            self._layout.removeWidget(row)
            row.deleteLater()
        self.rows, self.years = {c.name: row_of(c) for c in card.forecast}, None
        if card.forecast:
            told = "Years after the scan; below 0 before it"
            span = Covariate(
                "years", "Years later", "years", told, -FARTHEST, FARTHEST, 0.0
            )
            self.years = NumberRow(span, "0 is the scan itself")
        for row in self._all:
            self._layout.addWidget(row)
            row.moved.connect(self.moved)
            row.released.connect(self.released)
        if self._colours is not None:
            self.set_colours(self._colours)

    def origin(self, scan: Scan) -> Origin:
        """Where a picture of `scan` starts: from it, or from its forecast."""
        years = 0.0 if self.years is None else float(self.years.value())
        if years == 0:
            return scan
        person = {name: row.value() for name, row in self.rows.items()}
        return Later(scan, Conditions.of(person), years)

    def reset(self) -> None:
        """Back to the scan itself, without a signal."""
        if self.years is not None:
            self.years.set_value(0.0)

    def show_origin(self, origin: Origin) -> None:
        """Show what `origin` asks of the forecast, without a signal."""
        self.reset()
        if isinstance(origin, Later) and self.years is not None:
            self.years.set_value(origin.years)
            for name, value in origin.person.as_dict().items():
                self.rows[name].set_value(value)

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        self._colours = colours
        for row in self._all:
            row.set_colours(colours)

    @property
    def _all(self) -> tuple[Row, ...]:
        rows = tuple(self.rows.values())
        return rows if self.years is None else (*rows, self.years)

"""A box for an age in years, that takes the date of a visit as well."""

from __future__ import annotations

import re
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QFocusEvent, QKeyEvent, QValidator
from qtpy.QtWidgets import QDoubleSpinBox

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.visit_ages import DATE, OLDEST, typed_date
from napari_brainldm.widgets.looks import quiet, set_style

UNKNOWN = -0.01
"""What the box holds while the age is not known: no age is below 0."""

_BEGUN = re.compile(rf"\d{{3,4}}|{DATE}")
"""A date that is being typed."""


class AgeBox(QDoubleSpinBox):
    """Years to a hundredth; a date that is typed is told, and the years stay."""

    dated = Signal(object)  # datetime
    refused = Signal(str)  # a sentence

    def __init__(self) -> None:
        super().__init__()
        self.setDecimals(2)
        self.setRange(UNKNOWN, OLDEST)
        self.setSpecialValueText("age?")
        self.setSuffix(" years")
        self.setKeyboardTracking(False)
        self.setFixedWidth(120)
        set_style(self, "padding: 1px 3px;")

    def show_years(self, years: float | None) -> None:
        """Show an age without telling of a change; None for one that is not known."""
        with quiet(self):
            self.setValue(UNKNOWN if years is None else years)

    def years(self) -> float | None:
        """The age shown; None while it is not known."""
        return self.value() if self.value() >= 0 else None

    # Qt's names
    def validate(self, text: str, place: int) -> Any:
        """Let a date be typed where a number is expected."""
        found = super().validate(text, place)
        state = found[0] if isinstance(found, tuple) else found
        if state == QValidator.State.Invalid and _BEGUN.fullmatch(self._typed(text)):
            return QValidator.State.Intermediate, text, place
        return found

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter tells a date."""
        keys = Qt.Key.Key_Return, Qt.Key.Key_Enter
        if event.key() not in keys or not self._take():
            super().keyPressEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """So does going on to the next box."""
        self._take()
        super().focusOutEvent(event)

    def _typed(self, text: str) -> str:
        return text.removesuffix(self.suffix()).strip()

    def _take(self) -> bool:
        """Tell the date that was typed; whether there was one."""
        try:
            date = typed_date(self._typed(self.text()))
        except EngineError as error:
            self.show_years(self.years())
            self.refused.emit(str(error))
            return True
        if date is None:
            return False
        self.show_years(self.years())
        self.dated.emit(date)
        return True

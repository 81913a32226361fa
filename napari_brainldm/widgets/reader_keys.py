"""Keys of a reader at work, before napari or any shortcut of a menu sees them."""

from __future__ import annotations

from math import hypot
from typing import Any

from qtpy.QtCore import QCoreApplication, QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QLineEdit,
    QPlainTextEdit,
    QTextEdit,
    QWidget,
)

BOXES = (QLineEdit, QPlainTextEdit, QTextEdit, QAbstractSpinBox)
"""Where a key is a letter and rates nothing."""

KEYS = (QEvent.Type.KeyPress, QEvent.Type.ShortcutOverride, QEvent.Type.KeyRelease)

REPEATING = tuple(
    int(key)
    for key in (
        Qt.Key.Key_Up,
        Qt.Key.Key_Down,
        Qt.Key.Key_Left,
        Qt.Key.Key_Right,
        Qt.Key.Key_PageUp,
        Qt.Key.Key_PageDown,
    )
)
"""Keys that may be held down; a rating must be pressed each time."""


class ReaderKeys(QObject):
    """Takes every key of one window while it listens.

    Attributes
    ----------
    path
        Pixels that the pointer went since `rest`.
    """

    pressed = Signal(int, str)  # key, text
    left = Signal()  # Esc in a text box: back to the pictures
    closing = Signal()  # the window is about to close

    def __init__(self) -> None:
        super().__init__()
        self._window: QWidget | None = None
        self._last: tuple[float, float] | None = None
        self.path = 0.0

    def listen(self, window: QWidget) -> None:
        """Take the keys of `window` from now on."""
        self.close()
        self._window = window
        _application().installEventFilter(self)

    def close(self) -> None:
        """Take no more keys."""
        if self._window is not None:
            self._window = None
            _application().removeEventFilter(self)

    def rest(self) -> None:
        """Count the pointer's way anew."""
        self.path, self._last = 0.0, None

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Swallow keys of the window; text boxes keep theirs."""
        kind = event.type()
        if kind in KEYS:
            return self._taken(watched, kind, event)
        if kind == QEvent.Type.MouseMove and self._is_inside(watched):
            self._follow(event)
        elif kind == QEvent.Type.Close and watched is self._window:
            self.closing.emit()
        return False

    def _taken(self, watched: QObject, kind: QEvent.Type, event: Any) -> bool:
        if not self._is_inside(watched):
            return False
        if isinstance(watched, BOXES):
            return self._taken_in_box(kind, event)
        if kind == QEvent.Type.KeyPress:
            key = int(event.key())
            if key in REPEATING or not event.isAutoRepeat():
                self.pressed.emit(key, event.text())
        event.accept()  # an accepted override comes back as a key, not as a shortcut
        return True

    def _taken_in_box(self, kind: QEvent.Type, event: Any) -> bool:
        if int(event.key()) == int(Qt.Key.Key_Escape):
            if kind == QEvent.Type.KeyPress:
                self.left.emit()
            event.accept()
            return True
        if kind == QEvent.Type.ShortcutOverride:
            event.accept()
        return False

    def _is_inside(self, watched: QObject) -> bool:
        if self._window is None or not isinstance(watched, QWidget):
            return False
        return watched.window() is self._window

    def _follow(self, event: Any) -> None:
        place = event.globalPosition()
        here = place.x(), place.y()
        if self._last is not None:
            self.path += hypot(here[0] - self._last[0], here[1] - self._last[1])
        self._last = here


def _application() -> QCoreApplication:
    found = QCoreApplication.instance()
    assert found is not None
    return found

"""Colours and small parts that the docks share."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QFrame,
    QLabel,
    QMessageBox,
    QScrollArea,
    QSizePolicy,
    QWidget,
)
from superqt import QCollapsible

LAST_SEED = 2**31 - 1
"""What a QSpinBox can show."""


@dataclass(frozen=True)
class Colours:
    """Colours of meaning, as "#rrggbb", readable (4.5 to 1) on a theme's background."""

    text: str
    faint: str
    bar: str
    accent: str
    warning: str
    error: str


DARK = Colours("#f0f1f2", "#a9afb8", "#6f7b8c", "#8fb0ff", "#f2b84b", "#ff8f85")
LIGHT = Colours("#1e1e21", "#5b5a5c", "#a19d99", "#2c51b8", "#8a4b00", "#a8071a")


def colours_of(viewer: Any) -> Colours:
    """The colours that fit the viewer's theme."""
    return LIGHT if get_theme(viewer.theme).type == "light" else DARK


class WheelGuard(QObject):
    """Leaves the wheel to the scroll area until a control was chosen on purpose."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Swallow wheel events over a control without the keyboard focus."""
        if event.type() != QEvent.Type.Wheel or watched.hasFocus():  # type: ignore[attr-defined]
            return False
        event.ignore()
        return True


def sentence_label(name: str) -> QLabel:
    """A label for sentences: wraps, can be copied, has an accessible name."""
    label = QLabel()
    label.setWordWrap(True)
    label.setAccessibleName(name)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label


def set_style(widget: QWidget, style: str) -> None:
    """Set a style sheet if it is another: each setting costs a new polish."""
    if widget.styleSheet() != style:
        widget.setStyleSheet(style)


def section(title: str, part: QWidget) -> QCollapsible:
    """A part that can be unfolded, in line with the rows above."""
    made = QCollapsible(title)
    made.addWidget(part)
    made.setContentsMargins(-9, 0, -9, 0)  # what QCollapsible insets its content by
    return made


def scrolling(page: QWidget, sideways: bool = False) -> QScrollArea:
    """An area without a frame in which `page` scrolls down, and perhaps sideways."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    if not sideways:
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(page)
    return area


def named(widget: QWidget, name: str, tip: str) -> QWidget:
    """Give `widget` its accessible name and tooltip."""
    widget.setAccessibleName(name)
    widget.setToolTip(tip)
    return widget


@contextmanager
def quiet(*parts: QObject) -> Iterator[None]:
    """Let `parts` change without a signal."""
    before = [part.blockSignals(True) for part in parts]
    try:
        yield
    finally:
        for part, blocked in zip(parts, before, strict=True):
            part.blockSignals(blocked)


def ender(
    parts: tuple[Any, ...], themes: Any, listener: Callable[..., None]
) -> Callable[[], None]:
    """What to do when the dock is gone; keeps its parts until then, not the dock."""
    listening = weakref.WeakMethod(listener)

    def end() -> None:
        themes.disconnect(listening())
        for part in parts:
            part.close()

    return end


def on_key(
    dock: QWidget,
    key: Qt.Key | QKeySequence.StandardKey,
    slot: Callable[[], None],
) -> None:
    """Call `slot` when `key` is pressed anywhere in `dock`."""
    shortcut = QShortcut(QKeySequence(key), dock)
    shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
    shortcut.activated.connect(slot)


def agreed(parent: QWidget, title: str, question: str, details: str, yes: str) -> bool:
    """Ask `question` before something is done; `yes` is the button that agrees."""
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle(title)
    box.setText(question)
    box.setInformativeText(details)
    button = box.addButton(yes, QMessageBox.ButtonRole.AcceptRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.exec()
    box.deleteLater()
    return box.clickedButton() == button

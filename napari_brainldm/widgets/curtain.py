"""Everything of napari but one dock, hidden while a study runs and put back after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "Reader study"
"""Of the window: the same for every study, reader and trial."""


class Curtain:
    """Hides panels, menus and the status bar; remembers what was hidden before.

    Attributes
    ----------
    drawn
        Whether they are hidden now.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._hidden: list[QWidget] = []
        self._said = ("", False)
        self.drawn = False

    def draw(self, dock: QWidget) -> None:
        """Hide all but the panel that holds `dock`."""
        if self.drawn:
            return
        own = panel_of(dock)
        if own is not None:
            own.setFloating(False)  # it would be a window of its own, outside of this
        window = main_window_of(dock)
        self._hidden = [part for part in _parts(window, own) if not part.isHidden()]
        for part in self._hidden:
            part.hide()
        self._said = self._viewer.title, self._viewer.tooltip.visible
        self._viewer.title, self._viewer.tooltip.visible = TITLE, False
        self._viewer.status = ""
        self.drawn = True

    def lift(self) -> None:
        """Put everything back as it was."""
        if not self.drawn:
            return
        self.drawn = False
        hidden, self._hidden = self._hidden, []
        for part in hidden:
            try:
                part.show()
            except RuntimeError:  # the window went first, and its parts with it
                continue
        self._viewer.title, self._viewer.tooltip.visible = self._said

    def close(self) -> None:
        """Lift it and let the viewer go."""
        self.lift()
        self._viewer = None


def panel_of(dock: QWidget) -> QDockWidget | None:
    """The panel of the window that holds `dock`; None when it is in none."""
    parent: Any = dock
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent


def main_window_of(dock: QWidget) -> QMainWindow | None:
    """Napari's window around `dock`; None when it is in none."""
    parent: Any = dock
    while parent is not None and not isinstance(parent, QMainWindow):
        parent = parent.parentWidget()
    return parent


def _parts(window: QMainWindow | None, own: QDockWidget | None) -> Iterator[QWidget]:
    if window is None:
        return
    yield from (d for d in window.findChildren(QDockWidget) if d is not own)
    yield from (window.menuBar(), window.statusBar())
    if own is not None and own.titleBarWidget() is not None:
        yield own.titleBarWidget()  # its buttons would close or float the study

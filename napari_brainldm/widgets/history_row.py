"""A row of buttons over requests: undo, redo, copy, paste, re-create."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtGui import QGuiApplication, QKeySequence
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_brainldm.engine.request import (
    UNREADABLE,
    EngineError,
    Request,
    Seed,
    request_from_plain,
)
from napari_brainldm.widgets.history import History
from napari_brainldm.widgets.looks import named, on_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_brainldm.engine.card import Card


class HistoryRow(QWidget):
    """Former requests, and requests that come as text or in a sidecar."""

    chosen = Signal(object)  # Request
    opened = Signal(object)  # Path of a sidecar
    refused = Signal(str)  # a sentence

    def __init__(self) -> None:
        super().__init__()
        self.history = History()
        self.current: Request | None = None
        self.undo, self.redo = QPushButton("Undo"), QPushButton("Redo")
        self.copy, self.paste = QPushButton("Copy"), QPushButton("Paste")
        self.recreate = QPushButton("Re-create…")
        self._explain()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for button in (self.undo, self.redo, self.copy, self.paste, self.recreate):
            button.setMinimumWidth(0)
            layout.addWidget(button)
        self.undo.clicked.connect(self._on_undo_clicked)
        self.redo.clicked.connect(self._on_redo_clicked)
        self.copy.clicked.connect(self._on_copy_clicked)
        self.paste.clicked.connect(self._on_paste_clicked)
        self.recreate.clicked.connect(self._on_recreate_clicked)
        self._refresh()

    def add_keys(self, dock: QWidget) -> None:
        """Undo and redo by keyboard, anywhere in `dock`."""
        keys = QKeySequence.StandardKey.Undo, QKeySequence.StandardKey.Redo
        for key, button in zip(keys, (self.undo, self.redo), strict=True):
            on_key(dock, key, button.click)

    def visit(self, request: Request) -> None:
        """A final picture of `request` is shown."""
        self.current = request
        self.history.visit(request)
        self._refresh()

    def restore(self, requests: Sequence[Request], place: int) -> None:
        """Undo and redo over former requests, of which one is shown."""
        self.history.restore(requests, place)
        self._refresh()

    def stay(self) -> None:
        """The picture that was stepped to does not come."""
        self.history.stay()
        self._refresh()

    def clear(self) -> None:
        """Another checkpoint, or another scan: its requests are others."""
        self.history.clear()
        self.current = None
        self._refresh()

    def _choose(self, request: Request | None) -> None:
        self._refresh()
        if request is not None:
            self.chosen.emit(request)

    def _refresh(self) -> None:
        self.undo.setEnabled(self.history.can_undo)
        self.redo.setEnabled(self.history.can_redo)
        self.copy.setEnabled(self.current is not None)

    def _on_undo_clicked(self) -> None:
        self._choose(self.history.undo())

    def _on_redo_clicked(self) -> None:
        self._choose(self.history.redo())

    def _on_copy_clicked(self) -> None:
        if self.current is not None:
            _clipboard().setText(self.current.to_json())

    def _on_paste_clicked(self) -> None:
        try:
            request = request_in(_clipboard().text())
        except EngineError as error:
            self.refused.emit(str(error))
        else:
            self.chosen.emit(request)

    def _on_recreate_clicked(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self, "Re-create the picture of a sidecar", "", "Sidecars (*.json)"
        )
        if name:
            self.opened.emit(Path(name))

    def _explain(self) -> None:
        named(self.undo, "Undo", "Back to the picture before (Ctrl+Z)")
        named(self.redo, "Redo", "Forward again (Ctrl+Shift+Z or Ctrl+Y)")
        named(self.copy, "Copy the request", "Copy what makes this picture, as JSON")
        tip = "Make the picture of a copied request or of a sidecar's text"
        named(self.paste, "Paste a request", tip)
        tip = "Make an exported picture again from its .json, and compare the voxels"
        named(self.recreate, "Re-create from a sidecar", tip)


def request_in(text: str) -> Request:
    """The request in `text`: as copied here, or as it stands in a whole sidecar.

    Raises
    ------
    EngineError
        If there is none.
    """
    try:
        plain: Any = json.loads(text)
        return request_from_plain(plain.get("Request", plain))
    except UNREADABLE as error:
        raise EngineError(
            "The clipboard holds no picture request. Copy one from the Explore dock, "
            "or the text of a sidecar, and paste again."
        ) from error


def check_fits(card: Card, request: Request) -> None:
    """Raise EngineError unless the dock can show `request` for the model of `card`."""
    if not isinstance(request.origin, Seed):
        raise EngineError(
            "This request starts from a scan; the Explore dock makes pictures from "
            "noise. Use brainldm edit with that scan."
        )
    for name, _ in request.shift:
        card.direction(name)
    card.complete(request.conditions)


def _clipboard() -> Any:
    return QGuiApplication.clipboard()

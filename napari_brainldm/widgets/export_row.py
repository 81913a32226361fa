"""The buttons under the picture's numbers: its regions, its file, the workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QMenu,
    QMessageBox,
    QPushButton,
    QWidget,
)

from napari_brainldm.engine.workspace import SUFFIX
from napari_brainldm.widgets.looks import named
from napari_brainldm.widgets.where import ask_where, picture_at

DIGITS = 12
"""Of a scan's digest in the name of a file."""


class ExportRow(QWidget):
    """Asks for the region table, and where to write picture and workspace."""

    chosen = Signal(object)  # Path to write the picture at
    tabled = Signal()  # the region table is wanted
    kept = Signal(object)  # Path to write the workspace at
    reopened = Signal(object)  # Path of a workspace

    def __init__(self) -> None:
        super().__init__()
        self.record: dict[str, Any] = {}
        self.table, self.export = QPushButton("Regions…"), QPushButton("Export…")
        self.workspace = QPushButton("Workspace")
        self.workspace.setMenu(self._menu())
        tip = "Save or reopen model, pictures, history and view as one file"
        named(self.workspace, "Workspace", tip)
        tip = "A table of structures or atlas regions, below the picture"
        named(self.table, "Regions", tip)
        tip = "Write the picture shown as NIfTI, marked synthetic, with a JSON sidecar"
        named(self.export, "Export NIfTI", tip)
        self.export.setEnabled(False)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for button in (self.table, self.workspace, self.export):
            button.setMinimumWidth(0)
            layout.addWidget(button, 1)
        self.table.clicked.connect(self.tabled)
        self.export.clicked.connect(self.ask)

    def ask(self) -> None:
        """Ask where to write the picture shown."""
        title = "Export the synthetic picture"
        path = ask_where(self, title, self._name(), "NIfTI (*.nii.gz)", picture_at)
        if path is not None:
            self.chosen.emit(path)

    def _menu(self) -> QMenu:
        menu = QMenu(self)
        menu.addAction("Save workspace…", self.ask_keep)
        menu.addAction("Open workspace…", self.ask_reopen)
        return menu

    def ask_keep(self) -> None:
        """Ask where to write the workspace."""
        name, _ = QFileDialog.getSaveFileName(
            self, "Save the workspace", f"brain{SUFFIX}", f"Workspaces (*{SUFFIX})"
        )
        if name:
            bare = name.removesuffix(".json").removesuffix(".workspace")
            path = Path(bare + SUFFIX)
            if str(path) == name or not path.exists() or self._replaced(path):
                self.kept.emit(path)

    def _replaced(self, path: Path) -> bool:
        """Whether the user agrees to a file that the dialog has not asked about."""
        yes = QMessageBox.StandardButton.Yes
        words = f"{path.name} exists already. Replace it?"
        return bool(QMessageBox.question(self, "Save the workspace", words) == yes)

    def ask_reopen(self) -> None:
        """Ask which workspace to reopen."""
        name, _ = QFileDialog.getOpenFileName(
            self, "Open a workspace", "", f"Workspaces (*{SUFFIX});;JSON (*.json)"
        )
        if name:
            self.reopened.emit(Path(name))

    def _name(self) -> str:
        """A name that tells the conditions, such as "age-60_sex-F_seed-0.nii.gz"."""
        request = self.record["Request"]
        parts = request["conditions"], request["shift"], request["origin"]
        values = {k: v for part in parts for k, v in part.items()}
        plain = {k: v for k, v in values.items() if isinstance(v, int | float | str)}
        return "_".join(_told(k, v) for k, v in plain.items()) + ".nii.gz"


def _told(name: str, value: float | str) -> str:
    told = f"{value:g}" if isinstance(value, float) else str(value)[:DIGITS]
    return f"{name}-{told}"

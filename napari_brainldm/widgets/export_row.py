"""The buttons under the picture's numbers: its regions, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_brainldm.widgets.looks import named


class ExportRow(QWidget):
    """Asks for the region table, and where to write the picture."""

    chosen = Signal(object)  # Path to write the picture at
    tabled = Signal()  # the region table is wanted

    def __init__(self) -> None:
        super().__init__()
        self.record: dict[str, Any] = {}
        self.table, self.export = QPushButton("Regions…"), QPushButton("Export NIfTI…")
        tip = "A table of structures or atlas regions, below the picture"
        named(self.table, "Regions", tip)
        tip = "Write the picture shown as NIfTI, marked synthetic, with a JSON sidecar"
        named(self.export, "Export NIfTI", tip)
        self.export.setEnabled(False)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.export, 1)
        self.table.clicked.connect(self.tabled)
        self.export.clicked.connect(self.ask)

    def ask(self) -> None:
        """Ask where to write the picture shown."""
        name, _ = QFileDialog.getSaveFileName(
            self, "Export the synthetic picture", self._name(), "NIfTI (*.nii.gz)"
        )
        if name:
            self.chosen.emit(Path(name))

    def _name(self) -> str:
        """A name that tells the conditions, such as "age-60_sex-F_seed-0.nii.gz"."""
        request = self.record["Request"]
        values = {**request["conditions"], **request["origin"]}
        return "_".join(_told(k, v) for k, v in values.items()) + ".nii.gz"


def _told(name: str, value: float | str) -> str:
    return f"{name}-{value:g}" if isinstance(value, float) else f"{name}-{value}"

"""A line for a folder, typed or chosen."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLineEdit, QPushButton, QWidget

from napari_brainldm.widgets.looks import named


class FolderRow(QWidget):
    """A folder, typed or chosen."""

    def __init__(self, name: str, tip: str) -> None:
        super().__init__()
        self._name = name
        self.box, self.browse = QLineEdit(), QPushButton("…")
        named(self.box, name, tip)
        named(self.browse, f"Choose: {name}", tip)
        self.browse.setFixedWidth(32)
        self.browse.clicked.connect(self._on_browse_clicked)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.box, 1)
        layout.addWidget(self.browse)

    @property
    def text(self) -> str:
        """As it is written; empty for none."""
        return self.box.text().strip()

    @property
    def path(self) -> Path:
        """What is written."""
        return Path(self.text).expanduser()

    def _on_browse_clicked(self) -> None:
        found = QFileDialog.getExistingDirectory(self, self._name, self.box.text())
        if found:
            self.box.setText(found)

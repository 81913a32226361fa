"""Which checkpoint is in use: a list of those opened, and a button for others."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_brainldm.engine.resources import models_at_hand
from napari_brainldm.widgets.looks import named
from napari_brainldm.widgets.recent import Recent

KNOWN = (
    "Checkpoints and public weights (*.safetensors *.pth *.pt *.ckpt);;"
    "Checkpoints (*.safetensors)"
)
TOLD = (
    "Load another .safetensors checkpoint, or import public weights: choose one file "
    "of a MONAI brain LDM bundle or of LDAE"
)
TIP = Qt.ItemDataRole.ToolTipRole


class CheckpointRow(QWidget):
    """Asks for checkpoints; shows the one in use, whatever was tried.

    Attributes
    ----------
    opened
        The file of the checkpoint in use.
    """

    chosen = Signal(object)  # Path

    def __init__(self) -> None:
        super().__init__()
        self.opened = Path()
        self._recent = Recent()
        self.picker, self.browse = QComboBox(), QPushButton("Open…")
        self.picker.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.picker.setPlaceholderText("No checkpoint")
        named(self.picker, "Checkpoint", "The generative model in use")
        named(self.browse, "Open a checkpoint", TOLD)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.picker, 1)
        layout.addWidget(self.browse)
        self.picker.activated.connect(self._on_picker_activated)
        self.browse.clicked.connect(self._on_browse_clicked)
        for path in dict.fromkeys((*self._recent.paths(), *models_at_hand())):
            self.picker.addItem(path.stem, str(path))
            self.picker.setItemData(self.picker.count() - 1, str(path), TIP)
        self.picker.setCurrentIndex(-1)

    def add(self, path: Path, name: str) -> None:
        """Show the checkpoint at `path`, now in use, in the list; once."""
        path = path.resolve()
        place = self.picker.findData(str(path))
        if place < 0:
            self.picker.addItem(name, str(path))
        else:  # known by its file alone until it is opened
            self.picker.setItemText(place, name)
        self._recent.add(path)
        self.opened = path
        self.show_opened()

    def show_opened(self) -> None:
        """Let the list say what is in use."""
        self.picker.setCurrentIndex(self.picker.findData(str(self.opened)))
        self.picker.setToolTip(f"The generative model in use: {self.opened}")

    def follow(self, task: str) -> None:
        """Say what is in use again once no load is at work: one may be cancelled."""
        if task != "load":
            self.show_opened()

    def _on_picker_activated(self, place: int) -> None:
        self.chosen.emit(Path(self.picker.itemData(place)))

    def _on_browse_clicked(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Open a checkpoint", "", KNOWN)
        if name:
            self.chosen.emit(Path(name))

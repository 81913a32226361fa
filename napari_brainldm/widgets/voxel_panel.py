"""Asks for a test of every voxel; only several subjects can be tested."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.engine.inference import FLIPS
from napari_brainldm.widgets.looks import named, sentence_label


class VoxelPanel(QWidget):
    """How many flips, whether clusters are enhanced, and what came of it."""

    asked = Signal(int, bool)  # flips, whether TFCE is wanted

    def __init__(self) -> None:
        super().__init__()
        self.flips, self.enhanced = QSpinBox(), QCheckBox("TFCE")
        self.begin, self.words = QPushButton("Test voxels"), sentence_label("Voxels")
        self.flips.setRange(100, 100_000)
        self.flips.setSingleStep(500)
        self.flips.setValue(FLIPS)
        self.flips.setSuffix(" flips")
        self.enhanced.setChecked(True)
        named(self.flips, "Flips", "Random flips of subjects' signs; more are finer")
        tip = "Threshold-free cluster enhancement as well; without it, much faster"
        named(self.enhanced, "TFCE", tip)
        tip = "Family-wise p of every voxel, in the background"
        named(self.begin, "Test voxels", tip)
        line = QHBoxLayout()
        for part, stretch in ((self.flips, 3), (self.enhanced, 0), (self.begin, 3)):
            part.setMinimumWidth(0)
            line.addWidget(part, stretch)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(line)
        layout.addWidget(self.words)
        self.begin.clicked.connect(self._on_begin_clicked)
        self.allow(0)

    def allow(self, people: int) -> None:
        """Offer the test of a comparison of `people` subjects; 0 is none."""
        for part in (self.flips, self.enhanced, self.begin):
            part.setEnabled(people > 1)
        self.tell("One subject alone gets no p-value." if people == 1 else "")

    def tell(self, words: str) -> None:
        """What the test found."""
        self.words.setText(words)
        self.words.setVisible(bool(words))

    def _on_begin_clicked(self) -> None:
        self.asked.emit(self.flips.value(), self.enhanced.isChecked())

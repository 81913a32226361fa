"""How it is found out what a picture follows in the connectivity, and the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.widgets.heat_map import HeatMap
from napari_brainldm.widgets.looks import Colours, named, sentence_label, set_style
from napari_brainldm.widgets.where import ask_where, group_at

if TYPE_CHECKING:
    from napari_brainldm.engine.atlas import Atlas
    from napari_brainldm.engine.heat import Heat

DIFFERENCE, BLOCKS, GRADIENTS = "difference", "blocks", "gradients"
ATTENTION = "attention"
METHODS = {
    DIFFERENCE: "Paired difference from the mean",
    BLOCKS: "Occlusion of network blocks",
    GRADIENTS: "Integrated gradients of a region",
    ATTENTION: "Attention (descriptive)",
}
"""In order of trust."""

BY_BLOCK = BLOCKS, ATTENTION
"""Methods that give a table of blocks against regions."""

NAMES = 44
"""Pixels for the names of blocks."""


class SaliencyPanel(QWidget):
    """Asks for a saliency map; shows the tables that come of it."""

    asked = Signal()
    clicked = Signal(int, int)  # block, region
    writing = Signal(object)  # Path: what its files begin with

    def __init__(self) -> None:
        super().__init__()
        self.method, self.region = QComboBox(), QComboBox()
        self.seeds, self.points = QSpinBox(), QSpinBox()
        self.check, self.begin = (
            QCheckBox("Also with randomised weights"),
            QPushButton(),
        )
        self.export = QPushButton("Export…")
        self.blocks = HeatMap("Blocks against regions", names=NAMES)
        self.matrix = HeatMap("Attributions", square=True)
        self.words, self.sanity = sentence_label("Saliency"), sentence_label("Sanity")
        self._set_up()
        self._lay_out()
        self.method.currentIndexChanged.connect(self._on_method_changed)
        self.begin.clicked.connect(self.asked)
        self.export.clicked.connect(self.ask)
        self.blocks.clicked.connect(self.clicked)
        self.forget()

    def prepare(self, atlas: Atlas) -> None:
        """Offer the regions of `atlas`."""
        self.region.clear()
        for region in atlas.regions:
            self.region.addItem(region.name, region.index)

    def forget(self) -> None:
        """Nothing is found out."""
        self.words.setText("")
        self.sanity.setText("")
        self.export.setEnabled(False)
        self.blocks.hide()
        self.matrix.hide()

    def show_blocks(self, heat: Heat) -> None:
        """Show what each block adds to each region."""
        self.blocks.show_heat(heat)
        self.matrix.hide()
        self.blocks.show()

    def show_matrix(self, heat: Heat) -> None:
        """Show what each connection adds to the region chosen."""
        self.matrix.show_heat(heat)
        self.blocks.hide()
        self.matrix.show()

    def tell(self, words: str, sanity: str, good: bool) -> None:
        """What was found, and whether randomised weights find the same."""
        self.words.setText(words)
        self.sanity.setText(sanity if good else f"⚠ {sanity}")
        self.export.setEnabled(True)

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.blocks.set_colours(colours)
        self.matrix.set_colours(colours)
        set_style(self.sanity, f"color: {colours.warning};")

    def ask(self) -> None:
        """Ask what the files are to be called."""
        title, kind = "Export the saliency", "Tab-separated (*.tsv)"
        path = ask_where(self, title, "saliency.tsv", kind, group_at)
        if path is not None:
            self.writing.emit(path)

    def _on_method_changed(self) -> None:
        of_region = self.method.currentData() == GRADIENTS
        self.region.setEnabled(of_region)
        self.points.setEnabled(of_region)

    def _set_up(self) -> None:
        for key, title in METHODS.items():
            self.method.addItem(title, key)
        self.seeds.setRange(1, 64)
        self.points.setRange(2, 256)
        self.points.setValue(16)
        self.check.setChecked(True)
        self.begin.setText("Find out")
        named(self.method, "Method", "In order of trust, the most trusted first")
        named(self.region, "Region", "Whose mean is attributed to the connections")
        named(self.seeds, "Seeds", "Pictures with other noise that are averaged")
        named(self.points, "Points", "On the way from the mean to this connectivity")
        tip = "Do the same without what was learned; the two must not be alike"
        named(self.check, "Randomised weights", tip)
        named(self.begin, "Find out", "Compute the map in the background")
        tip = "Write the table, marked synthetic, with a JSON sidecar"
        named(self.export, "Export saliency", tip)
        for box in (self.method, self.region):
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
        self._on_method_changed()

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Method", self.method)
        form.addRow("Region", self.region)
        form.addRow("Seeds", self.seeds)
        form.addRow("Points", self.points)
        form.addRow("", self.check)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        told = self.words, self.sanity, self.blocks, self.matrix, self.export
        for part in (self.begin, *told):
            layout.addWidget(part)

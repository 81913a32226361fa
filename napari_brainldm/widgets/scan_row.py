"""Which scan a picture starts from: a layer, placed and encoded once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.engine.codes import Code
from napari_brainldm.engine.conform import Conformed
from napari_brainldm.engine.request import Scan
from napari_brainldm.engine.scan_file import SUFFIXES
from napari_brainldm.widgets import overlays
from napari_brainldm.widgets.job import Step, Tick
from napari_brainldm.widgets.looks import named, quiet, sentence_label

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.volume import Volume

STEPS = 50
"""Of the inversion that pictures are made from; previews have an own, shorter one."""

SCANS = f"Scans ({' '.join(f'*{suffix}' for suffix in SUFFIXES)})"
NOTHING = "Choose a T1-weighted scan and press Encode."


class ScanRow(QWidget):
    """Picks a scan among the layers; tells how well it was placed.

    Attributes
    ----------
    listening
        To be closed with the dock.
    """

    chosen = Signal(object)  # the layer
    opened = Signal(object)  # Path of a scan that is not a layer yet

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.picker, self.encode = QComboBox(), QPushButton("Encode")
        self.file = QPushButton("File…")
        self.words = sentence_label("Scan")
        named(self.picker, "Scan", "Image layers that may be a T1-weighted scan")
        tip = (
            "Place the scan, take it into the model and invert it: once, half a minute"
        )
        named(self.encode, "Encode the scan", tip)
        named(self.file, "Open a scan", "Open a T1-weighted scan from a file")
        self.picker.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        line = QHBoxLayout()
        line.addWidget(self.picker, 1)
        line.addWidget(self.file)
        line.addWidget(self.encode)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(line)
        layout.addWidget(self.words)
        self.encode.clicked.connect(self._on_encode_clicked)
        self.file.clicked.connect(self.ask_file)
        self.listening = Listening(viewer, self)
        self.refresh()
        self.forget()

    def forget(self) -> None:
        """No scan is encoded for the model in use."""
        self.words.setText(NOTHING)

    def tell(self, conformed: Conformed) -> None:
        """How well the scan was placed, and what was done."""
        quality = conformed.quality
        self.words.setText(f"Placed: quality {quality.figure:.2f} (0 to 1).")
        self.words.setToolTip("\n".join(conformed.steps))

    def refresh(self) -> None:
        """List the layers that may be scans; the one picked stays."""
        layers = overlays.scans(self._viewer)
        before = self.picker.currentData()
        with quiet(self.picker):
            self.picker.clear()
            for layer in layers:
                self.picker.addItem(layer.name, layer)
            self.picker.setCurrentIndex(max(self.picker.findData(before), 0))
        self.encode.setEnabled(bool(layers))

    def pick(self, layer: Any) -> None:
        """Pick `layer`, if it may be a scan."""
        self.picker.setCurrentIndex(max(self.picker.findData(layer), 0))

    def ask_file(self) -> None:
        """Ask for the file of a scan."""
        name, _ = QFileDialog.getOpenFileName(self, "Open a scan", "", SCANS)
        if name:
            self.opened.emit(Path(name))

    def _on_encode_clicked(self) -> None:
        self.chosen.emit(self.picker.currentData())


class Listening(QObject):
    """Tells a row of layers that come, go or are renamed, until it is closed."""

    def __init__(self, viewer: Any, row: ScanRow) -> None:
        super().__init__(row)
        self._viewer: Any = viewer
        self._row: ScanRow | None = row
        for event in self._of_layers():
            event.connect(self._on_layers_changed)

    def close(self) -> None:
        """Let go of the viewer."""
        for event in self._of_layers():
            event.disconnect(self._on_layers_changed)
        self._viewer = self._row = None

    def _of_layers(self) -> tuple[Any, ...]:
        if self._viewer is None:
            return ()
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.renamed

    def _on_layers_changed(self, event: Any = None) -> None:
        if self._row is not None:
            self._row.refresh()


@dataclass(frozen=True, eq=False)
class Encoded:
    """A scan in the model."""

    scan: Scan
    conformed: Conformed
    code: Code


def encoded(
    renderer: Renderer, volume: Volume, steps: Sequence[int]
) -> Generator[Step, None, Encoded]:
    """Place, estimate and invert a scan; all of it is kept by the renderer.

    It is inverted once in each number of `steps`: for pictures, then for previews.
    """
    digest = renderer.admit(volume)
    yield Tick("conform", 0, 1)
    conformed = renderer.conformed(digest)
    yield Tick("encode", 0, 1)
    scan = Scan(digest, renderer.estimate(digest))
    codes = []
    for count in steps:
        codes.append((yield from renderer.encode(scan, count, renderer.compute)))
    return Encoded(scan, conformed, codes[0])

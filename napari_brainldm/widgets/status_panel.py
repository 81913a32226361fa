"""What the worker is doing, how to stop it, and what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSize, Signal
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.widgets.looks import (
    DARK,
    Colours,
    named,
    sentence_label,
    set_style,
)

if TYPE_CHECKING:
    from napari_brainldm.widgets.job import Tick

STAGES = {
    "load": "Loading",
    "conform": "Placing the scan",
    "encode": "Encoding",
    "invert": "Inverting",
    "denoise": "Denoising",
    "decode": "Decoding",
    "segment": "Finding structures",
    "save": "Writing",
    "atlas": "Reading",
    "understand": "Looking at the weights",
    "recognise": "Comparing with the published files",
    "import": "Writing MB",
    "fnc": "Reading",
    "pair": "Pairs",
    "null": "Pairs of the null",
    "regions": "Regions",
    "clusters": "Clusters",
    "figures": "Drawing",
    "flip": "Sign flips",
    "attention": "Attention",
    "block": "Blocks",
    "gradient": "Gradients",
    "randomised": "With randomised weights",
}
TASKS = {
    "load": "Checkpoint",
    "preview": "Preview",
    "picture": "Full picture",
    "measure": "Measuring",
    "save": "Export",
    "sweep": "Sweep",
    "seeds": "Seeds",
    "atlas": "Atlas",
    "import": "Import",
    "encode": "Scan",
    "visits": "Visits",
    "predict": "Prediction",
    "fnc": "Connectivity",
    "contrast": "Comparison",
    "saliency": "Saliency",
    "voxels": "Voxels",
    "table": "Comparison",
}


class StatusPanel(QWidget):
    """One line of words, a bar and a Cancel button; always there, so nothing jumps."""

    cancelled = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._task = ""
        self.colours = DARK
        self.words, self.bar = QLabel(), QProgressBar()
        self.cancel = QPushButton("Cancel")
        self.words.setAccessibleName("Status")
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.bar.setAccessibleName("Progress")
        steady = self.bar.sizePolicy()
        steady.setRetainSizeWhenHidden(True)
        self.bar.setSizePolicy(steady)
        named(self.cancel, "Cancel", "Stop after the current step (Esc)")
        self.cancel.clicked.connect(self.cancelled)
        self._lay_out()
        self.rest("")

    def start(self, task: str) -> None:
        """Show that `task` runs."""
        self._task = task
        self._say(f"● {TASKS.get(task, task)} …", self.colours.accent)
        self.bar.setRange(0, 0)  # a moving bar until the first step is told
        self.bar.show()
        self.cancel.setEnabled(True)

    def tick(self, tick: Tick) -> None:
        """Show one step of the running task."""
        stage = STAGES.get(tick.stage, tick.stage)
        count = f" {tick.index}/{tick.total}" if tick.total > 1 else ""
        task = TASKS.get(self._task, self._task)
        self._say(f"● {task}: {stage}{count}", self.colours.accent)
        self.bar.setRange(0, tick.total if tick.total > 1 else 0)
        self.bar.setValue(tick.index)

    def rest(self, words: str) -> None:
        """Show that nothing runs, and `words` about what was last."""
        self._say(words, self.colours.faint)
        self.bar.hide()
        self.cancel.setEnabled(False)

    def _say(self, words: str, colour: str) -> None:
        self.words.setText(words)
        set_style(self.words, f"color: {colour};")

    def _lay_out(self) -> None:
        line = QHBoxLayout()
        line.addWidget(self.words, 1)
        line.addWidget(self.cancel)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(line)
        layout.addWidget(self.bar)


class ErrorPanel(QFrame):
    """A sentence about what went wrong, and the ways out; hidden when all is well."""

    retried = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.colours = DARK
        self.words = sentence_label("Error")
        self.retry, self.dismiss = QPushButton("Try again"), QPushButton("Dismiss")
        named(self.retry, "Try again", "Do what failed once more")
        named(self.dismiss, "Dismiss", "Hide this message")
        self.retry.clicked.connect(self._on_retry_clicked)
        self.dismiss.clicked.connect(self.hide)
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        buttons.addWidget(self.retry)
        buttons.addWidget(self.dismiss)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.addWidget(self.words)
        layout.addLayout(buttons)
        self.hide()

    def show_sentence(self, sentence: str, retriable: bool = True) -> None:
        """Show `sentence`; `retriable` offers to do what failed once more."""
        self.words.setText(sentence)
        self.retry.setVisible(retriable)
        self.set_colours(self.colours)
        self.show()

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.colours = colours
        self.words.setStyleSheet(f"color: {colours.error};")
        self.setStyleSheet(f"ErrorPanel {{ border: 1px solid {colours.error}; }}")

    def minimumSizeHint(self) -> QSize:
        """Never wider than the dock."""
        return QSize(0, super().minimumSizeHint().height())

    def _on_retry_clicked(self) -> None:
        self.hide()
        self.retried.emit()

"""Pin a picture as reference; see what later ones change against it."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_brainldm.engine.request import Later, Through, drawn_from
from napari_brainldm.widgets import orthogonal
from napari_brainldm.widgets.looks import (
    DARK,
    Colours,
    named,
    quiet,
    sentence_label,
    set_style,
)

if TYPE_CHECKING:
    from napari_brainldm.engine.request import Request
    from napari_brainldm.widgets.comparison import Comparison

FLICKER_KEY = "Alt+R"
NOTHING = "Pin a picture to see what the next ones change against it."
OTHER_NOISE = "⚠ Other noise than the reference: part of the difference is the noise's."


class ComparePanel(QWidget):
    """The buttons of a `Comparison`."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self.comparison = comparison
        self.colours = DARK
        self.pin, self.unpin = QPushButton("Pin as reference"), QPushButton("Unpin")
        self.difference = QCheckBox("Show the difference")
        self.beside = QCheckBox("Side by side")
        self.flicker = QPushButton("Flicker")
        self.orthogonal = QPushButton("Orthogonal views")
        self.orthogonal.setVisible(orthogonal.installed())
        self.words = sentence_label("Reference")
        self.difference.setChecked(True)
        self._explain()
        self._lay_out()
        self.pin.clicked.connect(comparison.pin)
        self.unpin.clicked.connect(comparison.unpin)
        self.difference.toggled.connect(comparison.show_difference)
        self.beside.toggled.connect(comparison.show_beside)
        self.flicker.clicked.connect(comparison.flicker)
        self.orthogonal.clicked.connect(comparison.show_orthogonal)
        comparison.changed.connect(self._on_comparison_changed)
        self._on_comparison_changed()

    def add_keys(self, dock: QWidget) -> None:
        """Flicker by keyboard, anywhere in the window of `dock`."""
        key = QShortcut(QKeySequence(FLICKER_KEY), dock)
        key.activated.connect(self._on_key)
        key.activatedAmbiguously.connect(self._on_key)  # several docks are open

    def _on_key(self) -> None:
        """Flicker in the dock of this window that compared last."""
        panels = self.window().findChildren(ComparePanel)
        max(panels, key=attrgetter("comparison.compared_at")).flicker.click()

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.colours = colours
        self._on_comparison_changed()

    def set_ready(self, ready: bool) -> None:
        """Whether a final picture is shown that can be pinned."""
        self.pin.setEnabled(ready)

    def _on_comparison_changed(self) -> None:
        pinned = self.comparison.pinned
        for control in (self.unpin, self.difference, self.beside, self.flicker):
            control.setEnabled(pinned is not None)
        with quiet(self.difference, self.beside):
            self.difference.setChecked(self.comparison.differing)
            self.beside.setChecked(self.comparison.beside)
        same = self.comparison.same_noise
        text = NOTHING if pinned is None else f"Reference: {told(pinned.request)}"
        self.words.setText(text if same else f"{text}\n{OTHER_NOISE}")
        colour = self.colours.faint if same else self.colours.warning
        set_style(self.words, f"color: {colour}; font-size: 10px;")

    def _explain(self) -> None:
        tip = "Keep this picture; later ones show what they change against it"
        named(self.pin, "Pin as reference", tip)
        named(self.unpin, "Unpin the reference", "Forget the reference")
        tip = "Picture minus reference over the picture: blue is less, red is more"
        named(self.difference, "Show the difference", tip)
        tip = "Reference and picture in two views that move together"
        named(self.beside, "Side by side", tip)
        tip = f"Swap reference and picture in the same place ({FLICKER_KEY})"
        named(self.flicker, "Flicker", tip)
        tip = "Coronal and sagittal slices beside the axial one"
        named(self.orthogonal, "Orthogonal views", tip)

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        rows = (self.pin, self.unpin), (self.beside, self.flicker)
        first, second = QHBoxLayout(), QHBoxLayout()
        for row, parts in zip((first, second), rows, strict=True):
            for part in parts:
                row.addWidget(part, 1)
        layout.addLayout(first)
        layout.addWidget(self.difference)
        layout.addLayout(second)
        layout.addWidget(self.orthogonal)
        layout.addWidget(self.words)


def told(request: Request) -> str:
    """Conditions, shift and origin of `request` in a line; amounts of 0 are none."""
    words = [f"{name} {_short(v)}" for name, v in request.conditions.values]
    words += [f"{name} {amount:+g}" for name, amount in request.shift if amount]
    origin = request.origin
    if isinstance(origin, Later):
        words.append(f"{origin.years:+g} years")
    if isinstance(origin, Through):
        words.append(f"at {origin.place:.2f} years")
    seed = drawn_from(origin)
    if seed is not None:
        words.append(f"seed {seed}")
    return ", ".join(words) or "the scan's reconstruction"


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"

"""The matrix of connectivity, and what can be done to it before a picture is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QDoubleSlider

from napari_brainldm.engine.components import domains
from napari_brainldm.engine.fnc_edit import strange
from napari_brainldm.engine.heat import cells_between, heat_of_fnc
from napari_brainldm.engine.lineage import scaled, swapped, without
from napari_brainldm.engine.request import EngineError
from napari_brainldm.widgets.fnc_source import TRAINING, FncSource
from napari_brainldm.widgets.heat_map import HeatMap
from napari_brainldm.widgets.looks import (
    DARK,
    Colours,
    WheelGuard,
    named,
    quiet,
    sentence_label,
    set_style,
)

if TYPE_CHECKING:
    from napari_brainldm.engine.components import Components
    from napari_brainldm.engine.fnc import Fnc, FncTable
    from napari_brainldm.engine.fnc_edit import FncLaw

FARTHEST = 3.0
"""Largest factor of the slider, to either side."""

OTHERS = "Take from…"


class FncPanel(QWidget):
    """Connectivity to begin with, its matrix, and edits of it.

    Attributes
    ----------
    kept
        The connectivity without what the slider does; None without a model.
    """

    moved = Signal()  # the slider moves
    released = Signal()  # the hand let go, or an edit was made
    failed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.kept: Fnc | None = None
        self._begun: Fnc | None = None
        self._components: Components = ()
        self.colours = DARK
        self.source, self.matrix = FncSource(), HeatMap("Connectivity", square=True)
        self.first, self.second = QComboBox(), QComboBox()
        self.slider = QDoubleSlider(Qt.Orientation.Horizontal)
        self.factor, self.zero = QLabel(), QPushButton("Zero")
        self.others, self.reset = QComboBox(), QPushButton("Reset")
        self.words, self.warning = sentence_label("Edits"), sentence_label("Warning")
        self.matrix.excuse = "A GM-LDM checkpoint is needed."
        self._set_up()
        self._lay_out()
        self._wire()
        self._refresh()

    # -- what it holds ---------------------------------------------------------

    @property
    def fnc(self) -> Fnc | None:
        """The connectivity asked for."""
        if self.kept is None or self.slider.value() == 1.0:
            return self.kept
        pair = self.first.currentText(), self.second.currentText()
        return scaled(self.kept, self._components, *pair, self.slider.value())

    @property
    def dragging(self) -> bool:
        """Whether the slider is held."""
        return bool(self.slider.isSliderDown())

    @property
    def components(self) -> Components:
        """What the rows stand for: as the table names them, else as the model does."""
        return self._components

    def prepare(self, law: FncLaw | None, components: Components) -> None:
        """Begin with a model; None for one that knows no connectivity."""
        self.source.prepare(law, components)
        self._name(self.source.table.components if self.source.table else components)
        before, self.kept, self._begun = self.kept, None, None
        if law is not None:
            if before is not None and before.count == len(components):
                self._begun = self.source.follow(before)
            if self._begun is None:  # the mean of another model, or drawn by its law
                before = self._begun = self.source.begun(TRAINING)
                self.source.follow(before)
            self.kept = before
        self._refresh()

    def show_table(self, table: FncTable) -> None:
        """Offer the people of `table`, and begin with the first."""
        self._name(table.components)
        self.source.show_table(table)

    def show_fnc(self, fnc: Fnc) -> None:
        """Show `fnc` as it is, without a signal, and what it began with."""
        self._begun = self.source.follow(fnc) or fnc
        self._show(fnc)

    def _show(self, fnc: Fnc) -> None:
        self.kept = fnc
        self._set_factor(1.0)
        self._refresh()

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.colours = colours
        self.matrix.set_colours(colours)
        set_style(self.warning, f"color: {colours.warning};")
        set_style(self.source.words, f"color: {colours.faint}; font-size: 10px;")

    # -- edits -----------------------------------------------------------------

    def _on_source_chosen(self, fnc: Fnc) -> None:
        self._begun = fnc
        self._edit(fnc)

    def _on_slider_value_changed(self) -> None:
        self._refresh()
        self.moved.emit()

    def _on_pair_chosen(self) -> None:
        self._bake()
        self._refresh()

    def _on_matrix_clicked(self, row: int, column: int) -> None:
        """Choose the pair of networks that was clicked."""
        self._bake()
        pair = zip((self.first, self.second), (row, column), strict=True)
        for box, place in pair:
            box.setCurrentText(self._components[place].domain)
        self._refresh()

    def _on_zero_clicked(self) -> None:
        self._bake()
        assert self.kept is not None
        self._edit(without(self.kept, self._components, self.first.currentText()))

    def _on_others_activated(self, place: int) -> None:
        self.others.setCurrentIndex(0)  # it is a menu: its title stays
        table = self.source.table
        if place == 0 or table is None or self.kept is None:
            return
        self._bake()
        pair = self.first.currentText(), self.second.currentText()
        try:
            other = table.of(self.others.itemText(place))
            self._edit(swapped(self.kept, other, self._components, *pair))
        except EngineError as error:
            self.failed.emit(str(error))

    def _on_reset_clicked(self) -> None:
        if self._begun is not None:
            self._edit(self._begun)

    def _edit(self, fnc: Fnc) -> None:
        self._show(fnc)
        self.released.emit()

    def _bake(self) -> None:
        """Keep what the slider did, and put it back to 1."""
        self.kept = self.fnc
        self._set_factor(1.0)

    def _set_factor(self, factor: float) -> None:
        with quiet(self.slider):
            self.slider.setValue(factor)

    # -- what it shows ---------------------------------------------------------

    def _name(self, components: Components) -> None:
        if components == self._components:
            return
        self._components = components
        for box in (self.first, self.second):
            with quiet(box):
                box.clear()
                box.addItems(domains(components) if components else ())

    def _refresh(self) -> None:
        fnc = self.fnc
        for part in (self.first, self.second, self.slider, self.zero, self.reset):
            part.setEnabled(fnc is not None)
        self.others.setEnabled(fnc is not None and bool(self.source.others()))
        wanted = [OTHERS, *self.source.others()]
        there = [self.others.itemText(n) for n in range(self.others.count())]
        if there != wanted:
            self.others.clear()
            self.others.addItems(wanted)
        self.factor.setText(f"× {self.slider.value():.2f}")
        self.words.setText("" if fnc is None else fnc.name)
        law = self.source.law
        told = "" if fnc is None or law is None else strange(law, fnc)
        self.warning.setText(f"⚠ {told}" if told else "")
        self.warning.setVisible(bool(told))
        if fnc is None:
            self.matrix.clear()
            return
        self.matrix.show_heat(heat_of_fnc(fnc, self._components))
        pair = self.first.currentText(), self.second.currentText()
        self.matrix.mark(cells_between(self._components, *pair))

    def _set_up(self) -> None:
        named(self.first, "First network", "One of the two networks that are changed")
        named(self.second, "Second network", "The other; the same one is within it")
        tip = "Multiply the connections between the two networks; 1 changes nothing"
        named(self.slider, "Factor", tip)
        named(self.zero, "Zero the first network", "Take away all its connections")
        tip = "Take the connections between the two networks from another person"
        named(self.others, "Take from another person", tip)
        named(self.reset, "Reset connectivity", "Undo all edits of this connectivity")
        named(self.matrix, "Connectivity", "")
        self.others.addItem(OTHERS)
        for box in (self.first, self.second, self.others):
            box.setMinimumContentsLength(3)
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
        for button in (self.zero, self.reset):
            button.setMinimumWidth(0)
        self.slider.setRange(-FARTHEST, FARTHEST)
        self.slider.setSingleStep(0.05)
        self.slider.setValue(1.0)
        self.slider.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.slider.installEventFilter(WheelGuard(self.slider))
        self.factor.setMinimumWidth(46)

    def _lay_out(self) -> None:
        pair = QHBoxLayout()
        pair.addWidget(self.first, 1)
        pair.addWidget(QLabel("–"))
        pair.addWidget(self.second, 1)
        scale = QHBoxLayout()
        scale.addWidget(self.slider, 1)
        scale.addWidget(self.factor)
        edits = QHBoxLayout()
        edits.addWidget(self.zero, 2)
        edits.addWidget(self.others, 3)
        edits.addWidget(self.reset, 2)
        for line in (pair, scale, edits):
            line.setSpacing(4)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.source)
        layout.addWidget(self.matrix)
        layout.addWidget(self.words)
        layout.addWidget(self.warning)
        for line in (pair, scale, edits):
            layout.addLayout(line)

    def _wire(self) -> None:
        self.source.chosen.connect(self._on_source_chosen)
        self.matrix.clicked.connect(self._on_matrix_clicked)
        for box in (self.first, self.second):
            box.activated.connect(self._on_pair_chosen)
        self.slider.valueChanged.connect(self._on_slider_value_changed)
        self.slider.sliderReleased.connect(self.released)
        self.zero.clicked.connect(self._on_zero_clicked)
        self.others.activated.connect(self._on_others_activated)
        self.reset.clicked.connect(self._on_reset_clicked)

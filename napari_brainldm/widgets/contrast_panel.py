"""What the connectivity is compared with, under how many seeds, and what came of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.engine.fnc_contrast import AGAINST, ANOTHER
from napari_brainldm.widgets.contrast_tables import CLUSTERS, FIGURES, REGIONS
from napari_brainldm.widgets.looks import Colours, named, sentence_label, set_style
from napari_brainldm.widgets.voxel_panel import VoxelPanel
from napari_brainldm.widgets.where import ask_where, group_at

if TYPE_CHECKING:
    from napari_brainldm.engine.fnc import Fnc, FncTable

SHOWN, EVERYBODY, GROUP = "this connectivity", "everybody", "group: "
TITLES = {
    "random": "Random, matched",
    "another": "Another subject",
    "none": "No condition",
    "mean": "Mean of the training set",
}
EFFECT = 0.8
"""Threshold of the outline, at first: what is called a large effect (Cohen 1988)."""


class ContrastPanel(QWidget):
    """Asks for a comparison, its outline, tables, figures, test and files."""

    asked = Signal()
    outlined = Signal(float)  # threshold of the effect
    tabled = Signal(str)  # what is to be shown: a key of `contrast_tables.TITLES`
    writing = Signal(object)  # Path: what all files begin with

    def __init__(self) -> None:
        super().__init__()
        self.whose, self.against, self.whom = QComboBox(), QComboBox(), QComboBox()
        self.seeds, self.nulls = QSpinBox(), QSpinBox()
        self.threshold = QDoubleSpinBox()
        self.begin, self.table = QPushButton("Compare"), QPushButton("Regions…")
        self.clusters, self.figures = QPushButton("Clusters…"), QPushButton("Figures…")
        self.export, self.voxels = QPushButton("Export…"), VoxelPanel()
        self.words, self.flags = sentence_label("Comparison"), sentence_label("Flags")
        self._set_up()
        self._lay_out()
        self.against.currentIndexChanged.connect(self._on_against_changed)
        self.begin.clicked.connect(self.asked)
        self.threshold.valueChanged.connect(self.outlined)
        self.table.clicked.connect(self._on_table_clicked)
        self.clusters.clicked.connect(self._on_clusters_clicked)
        self.figures.clicked.connect(self._on_figures_clicked)
        self.export.clicked.connect(self.ask)
        self.forget()

    def prepare(self, table: FncTable | None) -> None:
        """Offer everybody, and each group, when several people are loaded."""
        self.whose.clear()
        self.whose.addItem("This connectivity", SHOWN)
        self.whom.clear()
        self.whom.addItem("Others of the table, in turn", "")
        for name in () if table is None else table.participants:
            self.whom.addItem(name, name)
        if table is None or len(table.participants) < 2:
            return
        count = len(table.participants)
        self.whose.addItem(f"All {count} subjects of the table", EVERYBODY)
        for group, many in sorted(Counter(filter(None, table.groups)).items()):
            self.whose.addItem(f"The {many} of group {group}", GROUP + group)

    def people(self, table: FncTable | None, shown: Fnc) -> tuple[Fnc, ...]:
        """Whose connectivity is A."""
        chosen = self.whose.currentData()
        if table is None or chosen == SHOWN:
            return (shown,)
        return table.people("" if chosen == EVERYBODY else chosen.removeprefix(GROUP))

    def others(self, table: FncTable | None) -> tuple[Fnc, ...]:
        """Of whom B may be, where B is another subject."""
        chosen = self.whom.currentData()
        if table is None:
            return ()
        return (table.of(chosen),) if chosen else table.people()

    def forget(self) -> None:
        """Nothing is compared."""
        self.words.setText("Both of a pair start from the same noise.")
        self.flags.setText("")
        self._allow(False)

    def tell_progress(self, done: int, total: int) -> None:
        """How many pairs the map on screen is of."""
        self.words.setText(f"Mean of {done} of {total} pairs; Cancel keeps this map.")
        self.flags.setText("")
        self._allow(False)

    def tell(self, sentence: str, flags: str, people: int) -> None:
        """What may be inferred of how many subjects, and what to mind."""
        self.words.setText(sentence)
        self.flags.setText(f"⚠ {flags}" if flags else "")
        self._allow(True, people)

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        set_style(self.flags, f"color: {colours.warning};")

    def ask(self) -> None:
        """Ask what the files are to be called."""
        title, kind = "Export the comparison", "NIfTI (*.nii.gz)"
        path = ask_where(self, title, "contrast.nii.gz", kind, group_at)
        if path is not None:
            self.writing.emit(path)

    def _on_against_changed(self, _: int) -> None:
        self.whom.setEnabled(self.against.currentData() == ANOTHER)

    def _on_table_clicked(self) -> None:
        self.tabled.emit(REGIONS)

    def _on_clusters_clicked(self) -> None:
        self.tabled.emit(CLUSTERS)

    def _on_figures_clicked(self) -> None:
        self.tabled.emit(FIGURES)

    def _shows(self) -> tuple[QPushButton, ...]:
        """What shows a comparison that is made, or writes it."""
        return self.table, self.clusters, self.figures, self.export

    def _allow(self, there: bool, people: int = 0) -> None:
        for part in (self.threshold, *self._shows()):
            part.setEnabled(there)
        self.voxels.allow(people)

    def _set_up(self) -> None:
        for key, words in AGAINST.items():
            self.against.addItem(TITLES[key], key)
            self.against.setItemData(self.against.count() - 1, words, 3)  # tooltip
        self.seeds.setRange(1, 256)
        self.seeds.setValue(8)
        self.nulls.setRange(0, 256)
        self.nulls.setValue(8)
        self.nulls.setSpecialValueText("None")
        self.threshold.setRange(0.0, 20.0)
        self.threshold.setSingleStep(0.1)
        self.threshold.setValue(EFFECT)
        self.threshold.setSpecialValueText("None")
        named(self.whose, "Of", "Whose connectivity is A: one subject, all, or a group")
        named(self.against, "Against", "What B is; A and B share their noise")
        named(self.seeds, "Seeds", "Pictures of each subject; they are no sample")
        named(self.whom, "With", "Who B is, where B is another subject")
        tip = "Pairs of random vectors, which tell what differs anyhow"
        named(self.nulls, "Null pairs", tip)
        tip = "Outline where the effect is this large: g, or mean / SD for one subject"
        named(self.threshold, "Outline from", tip)
        named(self.begin, "Compare", "Render all pairs in the background")
        named(self.table, "Regions", "The table of an atlas, below the picture")
        tip = "Neighbouring voxels of either sign beyond the outline, as a table"
        named(self.clusters, "Clusters", tip)
        tip = "Glass brain, slices and bars of regions for a paper"
        named(self.figures, "Figures", tip)
        tip = "Write all maps, both tables, the figures and a summary"
        named(self.export, "Export", tip)
        self.whom.setEnabled(False)
        for box in (self.whose, self.against, self.whom):
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("A", self.whose)
        form.addRow("B", self.against)
        form.addRow("With", self.whom)
        form.addRow("Seeds", self.seeds)
        form.addRow("Null pairs", self.nulls)
        form.addRow("Outline from", self.threshold)
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        for button in self._shows():
            button.setMinimumWidth(0)
            buttons.addWidget(button, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.begin)
        layout.addWidget(self.words)
        layout.addWidget(self.flags)
        layout.addLayout(buttons)
        layout.addWidget(self.voxels)

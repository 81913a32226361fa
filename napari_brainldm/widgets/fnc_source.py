"""Whose connectivity: a file of people, their mean, or nobody's, drawn at random."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.engine.fnc import Fnc, FncTable
from napari_brainldm.engine.fnc_array import SCALES
from napari_brainldm.engine.fnc_edit import FncLaw, mean_of
from napari_brainldm.engine.fnc_file import SUFFIXES, read_fnc
from napari_brainldm.engine.lineage import drawn, lineage_of
from napari_brainldm.engine.resources import bundled_fnc
from napari_brainldm.widgets.looks import named, quiet, section, sentence_label

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_brainldm.engine.components import Components

FILES = f"Connectivity ({' '.join(f'*{suffix}' for suffix in SUFFIXES)})"
TEXTS = "Tables (*.tsv *.csv *.txt)"
TRAINING, DRAWN, MEAN = "training mean", "random", "mean of the table"
NOTHING = (
    "No people are loaded. Open a file of connectivity, or begin with the mean of the "
    "training set."
)


class ReadingForm(QWidget):
    """What a file of connectivity may not say by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.session = QComboBox(), QSpinBox()
        self.ids, self.names = QPushButton("None"), QPushButton("None")
        self._paths: dict[QPushButton, Path] = {}
        self.scale.addItem("As the file tells", "")
        for scale in SCALES:
            self.scale.addItem({"r": "Pearson r", "z": "Fisher z"}[scale], scale)
        self.session.setRange(-1, 999)
        self.session.setValue(-1)
        self.session.setSpecialValueText("The only one")
        named(self.scale, "Scale of the file", "Correlations, or their Fisher z")
        named(self.session, "Session", "Which of several sessions, counted from 0")
        named(self.ids, "Ids", "A text file with one id per row of connectivity")
        tip = "A table of index, name and domain of every component"
        named(self.names, "Names of components", tip)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Scale", self.scale)
        form.addRow("Session", self.session)
        form.addRow("Ids", self.ids)
        form.addRow("Components", self.names)
        self.ids.clicked.connect(self._on_ids_clicked)
        self.names.clicked.connect(self._on_names_clicked)

    def reading(self, path: Path) -> partial[FncTable]:
        """What reads the file at `path` as this form says."""
        session = self.session.value()
        return partial(
            read_fnc,
            path,
            scale=self.scale.currentData(),
            session=None if session < 0 else session,
            participants=self._paths.get(self.ids),
            components=self._paths.get(self.names),
        )

    def set_path(self, button: QPushButton, path: Path | None) -> None:
        """Let `button` stand for the file at `path`; None for none."""
        self._paths.pop(button, None)
        if path is not None:
            self._paths[button] = path
        button.setText("None" if path is None else path.name)

    def _on_ids_clicked(self) -> None:
        self._ask(self.ids, "Ids, one per row")

    def _on_names_clicked(self) -> None:
        self._ask(self.names, "Names and domains of the components")

    def _ask(self, button: QPushButton, title: str) -> None:
        name, _ = QFileDialog.getOpenFileName(self, title, "", TEXTS)
        self.set_path(button, Path(name) if name else None)


class FncSource(QWidget):
    """Picks connectivity to begin with.

    Attributes
    ----------
    table
        The people that are loaded; None for none.
    """

    opening = Signal(object)  # what reads a table
    sampled = Signal()  # the bundled people are wanted
    chosen = Signal(object)  # Fnc

    def __init__(self) -> None:
        super().__init__()
        self.table: FncTable | None = None
        self.law: FncLaw | None = None
        self._draws = 0
        self.picker, self.file = QComboBox(), QPushButton("File…")
        self.sample = QPushButton("Sample")
        self.reading, self.words = ReadingForm(), sentence_label("Connectivity")
        named(self.picker, "Connectivity of", "Whose connectivity pictures are made of")
        named(self.file, "Open connectivity", "Open a file of connectivity")
        named(self.sample, "Open the sample", "Simulated people, ready to compare")
        self.picker.setPlaceholderText("Of a former picture")
        self.picker.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        line = QHBoxLayout()
        line.setSpacing(4)
        line.addWidget(self.picker, 1)
        line.addWidget(self.sample)
        if bundled_fnc() is None:
            self.sample.hide()
        line.addWidget(self.file)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(line)
        layout.addWidget(self.words)
        layout.addWidget(section("How to read the file", self.reading))
        self.picker.activated.connect(self._on_picker_activated)
        self.file.clicked.connect(self.ask_file)
        self.sample.clicked.connect(self.sampled)
        self._refresh()

    def prepare(self, law: FncLaw | None, components: Components) -> None:
        """Offer what a model knows; people of other components are let go."""
        self.law = law
        if self.table is not None and len(self.table.components) != len(components):
            self.table = None
        self._refresh()

    def show_table(self, table: FncTable) -> None:
        """Offer the people of `table`, and choose the first."""
        self.table = table
        self._refresh()
        self.pick(table.participants[0])

    def pick(self, what: str) -> None:
        """Choose a participant, or one of TRAINING, DRAWN, MEAN."""
        place = self.picker.findData(what)
        if place >= 0:
            self.picker.setCurrentIndex(place)
            self._on_picker_activated(place)

    def follow(self, fnc: Fnc) -> Fnc | None:
        """Choose in the list what `fnc` began with, without a signal; returns that.

        None, and nothing is chosen, where it began with nothing of the list.
        """
        lineage = lineage_of(fnc)
        begun = fnc.digest if lineage is None else lineage.begun
        found = next((one for one in self._known() if one[1].digest == begun), None)
        with quiet(self.picker):
            place = -1 if found is None else self.picker.findData(found[0])
            self.picker.setCurrentIndex(place)
        return None if found is None else found[1]

    def _known(self) -> Iterator[tuple[str, Fnc]]:
        """What stands in the list and is always the same."""
        if self.law is not None:
            yield TRAINING, self.begun(TRAINING)
        if self.table is not None:
            yield MEAN, mean_of(self.table)
            yield from zip(self.table.participants, self.table.people(), strict=True)

    def others(self) -> tuple[str, ...]:
        """Participants whose connectivity can be taken."""
        return () if self.table is None else self.table.participants

    def ask_file(self) -> None:
        """Ask for a file of connectivity."""
        name, _ = QFileDialog.getOpenFileName(self, "Open connectivity", "", FILES)
        if name:
            self.opening.emit(self.reading.reading(Path(name)))

    def begun(self, what: str) -> Fnc:
        """The connectivity that `what` stands for in the list."""
        assert self.law is not None
        if what == TRAINING:
            return Fnc(self.law.mean, TRAINING)
        if what == DRAWN:
            self._draws += 1  # another one each time it is chosen
            return drawn(self.law, self._draws)
        assert self.table is not None
        return mean_of(self.table) if what == MEAN else self.table.of(what)

    def _on_picker_activated(self, place: int) -> None:
        if self.law is not None:
            self.chosen.emit(self.begun(self.picker.itemData(place)))

    def _refresh(self) -> None:
        with quiet(self.picker):
            self.picker.clear()
            if self.law is not None:
                self.picker.addItem("Mean of the training set", TRAINING)
                self.picker.addItem("Random, matched to it", DRAWN)
                self._add_people()
        self.setEnabled(self.law is not None)
        notes = (NOTHING,) if self.table is None else self.table.notes
        self.words.setText(" ".join(notes))

    def _add_people(self) -> None:
        if self.table is None:
            return
        people = self.table.participants
        self.picker.addItem(f"Mean of the {len(people)} loaded", MEAN)
        self.picker.insertSeparator(self.picker.count())
        for name in people:
            self.picker.addItem(name, name)

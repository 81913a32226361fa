"""The owner's page: from two arms of pictures to a frozen study.

What it cannot say, such as several protocols in one study, a plan in a file can.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.engine.request import EngineError
from napari_brainldm.review.build import build
from napari_brainldm.review.plan import Chosen, Plan
from napari_brainldm.review.protocols import PROTOCOLS, protocol
from napari_brainldm.review.sources import Source
from napari_brainldm.review.study import key_path
from napari_brainldm.widgets.folder_row import FolderRow
from napari_brainldm.widgets.job import Job, Task, Tick
from napari_brainldm.widgets.looks import LAST_SEED, named, sentence_label, set_style

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_brainldm.engine.request import Value
    from napari_brainldm.widgets.looks import Colours

LINES = 6
"""Sentences of a build that stay on the page."""

CONDITIONS = "age = 50, 70; ventricles = 15, 30"


class StudyBuilder(QWidget):
    """Asks for pictures, protocol, size, seed and place; builds; tells the verdict."""

    built = Signal(object)  # Path of the study

    def __init__(self) -> None:
        super().__init__()
        self._job = Job()
        self._job.failed.connect(self._on_job_failed)
        self._job.changed.connect(self._on_job_changed)
        self.real = FolderRow("Real", "Scans: a folder or a BIDS dataset; may be empty")
        self.made = FolderRow("Synthetic", "Pictures of a model; empty to render them")
        self.out = FolderRow("Write to", "A new folder; the key comes to lie beside it")
        self.placed = QCheckBox("lie in MNI space already")
        self.checkpoint, self.conditions = QLineEdit(), QLineEdit()
        self.readers, self.protocol = QLineEdit("R01, R02, R03"), QComboBox()
        self.seeds, self.trials, self.seed = QSpinBox(), QSpinBox(), QSpinBox()
        self.begin, self.stop = QPushButton("Build"), QPushButton("Cancel")
        self.words = sentence_label("What the build tells")
        self._name_parts()
        self._lay_out()
        self.protocol.currentIndexChanged.connect(self._on_protocol_changed)
        self.begin.clicked.connect(self._on_begin_clicked)
        self.stop.clicked.connect(self._job.cancel)
        self.protocol.setCurrentIndex(self.protocol.findData("P1"))

    def plan(self) -> Plan:
        """What is asked for; EngineError for what cannot be built."""
        sources = (*self._real(), self._made())
        chosen = Chosen(self.protocol.currentData(), trials=self.trials.value())
        readers = tuple(r.strip() for r in self.readers.text().split(",") if r.strip())
        name, model = self.out.path.name, self.checkpoint.text().strip()
        seed = self.seed.value()
        return Plan(name, (chosen,), sources, readers, seed, checkpoint=model)

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        set_style(self.words, f"color: {colours.text};")

    def close(self) -> bool:
        """Give the build up."""
        self._job.close()
        return True

    # -- made of -------------------------------------------------------------------

    def _name_parts(self) -> None:
        named(self.placed, "Placed", "Otherwise each is placed and stripped: minutes")
        named(self.checkpoint, "Checkpoint", "A .safetensors file; empty: the bundled")
        named(self.conditions, "Conditions", "Rendered in every combination")
        named(self.readers, "Readers", "Codes, separated by commas; never names")
        named(self.protocol, "Protocol", "What readers are asked")
        named(self.seeds, "Pictures to render", "For each combination of conditions")
        named(self.trials, "Trials", "For each reader, without practice and repeats")
        named(self.seed, "Seed", "Orders the trials")
        named(self.begin, "Build", "Write the study; needs a new folder")
        named(self.stop, "Cancel", "Stop the build; nothing is left of it")
        self.checkpoint.setPlaceholderText("bundled")
        self.conditions.setPlaceholderText(CONDITIONS)
        self.seeds.setRange(1, 1000)
        self.seeds.setValue(50)
        self.trials.setRange(1, 1000)
        self.seed.setRange(0, LAST_SEED)
        self.stop.setEnabled(False)
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        for one in PROTOCOLS:
            self.protocol.addItem(f"{one.id}  {one.title}", one.id)

    def _lay_out(self) -> None:
        form = QFormLayout()
        rows: tuple[tuple[str, QWidget], ...] = (
            ("Real", self.real),
            ("", self.placed),
            ("Synthetic", self.made),
            ("or render", self.seeds),
            ("Conditions", self.conditions),
            ("Checkpoint", self.checkpoint),
            ("Protocol", self.protocol),
            ("Trials", self.trials),
            ("Readers", self.readers),
            ("Seed", self.seed),
            ("Write to", self.out),
        )
        for title, part in rows:
            form.addRow(title, part)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.begin)
        layout.addWidget(self.stop)
        layout.addWidget(self.words)

    def _real(self) -> tuple[Source, ...]:
        if not self.real.text:
            return ()
        path, placed = str(self.real.path.absolute()), self.placed.isChecked()
        if (self.real.path / "dataset_description.json").exists():
            return (Source("real", bids=path, placed=placed),)
        return (Source("real", folder=path, placed=placed),)

    def _made(self) -> Source:
        if self.made.text:
            folder = str(self.made.path.absolute())
            return Source("synthetic", folder=folder, placed=True)
        conditions = conditions_in(self.conditions.text())
        return Source("synthetic", seeds=self.seeds.value(), conditions=conditions)

    # -- handlers ------------------------------------------------------------------

    def _on_protocol_changed(self, place: int) -> None:
        self.trials.setValue(protocol(self.protocol.itemData(place)).trials)

    def _on_begin_clicked(self) -> None:
        if not self.out.text:
            self.words.setText("There is no folder to write to. Choose a new one.")
            return
        try:
            work = partial(_built, self.plan(), self.out.path.absolute())
        except EngineError as error:
            self.words.setText(str(error))
            return
        tell = self._on_build_told
        self._job.ask(Task("build", work, self._on_build_done, along=tell))

    def _on_build_told(self, lines: tuple[str, ...]) -> None:
        self.words.setText("\n".join(lines[-LINES:]))

    def _on_build_done(self, found: tuple[Path, tuple[str, ...]]) -> None:
        folder, lines = found
        verdict = [line for line in lines if not line[:1].isdigit()]
        secret = f"Keep the key from readers: {key_path(folder)}"
        self.words.setText("\n\n".join([*verdict, lines[-1], secret]))
        self.built.emit(folder)

    def _on_job_failed(self, words: str) -> None:
        self.words.setText(words)

    def _on_job_changed(self, task: str) -> None:
        self.begin.setEnabled(not task)
        self.stop.setEnabled(bool(task))


def conditions_in(text: str) -> dict[str, tuple[Value, ...]]:
    """Conditions and their values in `text`, such as "age = 50, 70; sex = female".

    Raises
    ------
    EngineError
        If it is written otherwise.
    """
    found: dict[str, tuple[Value, ...]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, sign, values = part.partition("=")
        if not sign or not values.strip():
            raise EngineError(
                f"{part!r} is no condition with its values. Write it as {CONDITIONS}"
            )
        found[name.strip()] = tuple(
            _value(value.strip()) for value in values.split(",")
        )
    return found


def _value(text: str) -> Value:
    try:
        return float(text)
    except ValueError:
        return text


def _built(
    plan: Plan, folder: Path
) -> Generator[Tick, None, tuple[Path, tuple[str, ...]]]:
    lines: tuple[str, ...] = ()
    for line in build(plan, folder, folder.parent):
        lines = (*lines, line)
        yield Tick("build", len(lines), 0, lines)
    return folder, lines

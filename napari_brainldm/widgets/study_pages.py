"""Pages of the reader-study dock: who reads what, and what a reader is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.widgets.folder_row import FolderRow
from napari_brainldm.widgets.looks import named, section, sentence_label, set_style
from napari_brainldm.widgets.question_panel import QuestionPanel
from napari_brainldm.widgets.study_builder import StudyBuilder

if TYPE_CHECKING:
    from napari_brainldm.widgets.looks import Colours
    from napari_brainldm.widgets.sitting import Message

HELP = (
    ("1 – 6", "answer by number"),
    ("F  J", "left or first, right or second"),
    ("Space", "confirm, go on"),
    ("Z", "undo, before confirming"),
    ("Tab", "next question"),
    ("↑ ↓  PgUp PgDn", "slices"),
    ("N", "write a note; Enter keeps it"),
    ("Esc", "pause"),
    ("?", "show or hide the keys"),
)


class SetupPage(QWidget):
    """Which study, which reader; below, the owner's own page."""

    started = Signal()
    tried = Signal()  # the sample

    def __init__(self) -> None:
        super().__init__()
        self.folder = FolderRow("Study", "The folder that was built for readers")
        self.reader, self.start = QLineEdit(), QPushButton("Start reading")
        self.sample = QPushButton("Try the sample study")
        named(self.sample, "Try the sample study", "Five minutes, simulated scans")
        named(self.reader, "Reader", "Your code, such as R01; never your name")
        named(self.start, "Start reading", "Hides the rest of napari until you leave")
        self.builder = StudyBuilder()
        form = QFormLayout()
        form.addRow("Study", self.folder)
        form.addRow("Your code", self.reader)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.start)
        layout.addWidget(self.sample)
        layout.addWidget(section("Build a study", self.builder))
        layout.addStretch(1)
        self.start.clicked.connect(self.started)
        self.sample.clicked.connect(self.tried)
        self.reader.returnPressed.connect(self.started)


class MessagePage(QWidget):
    """A title, some sentences, and which keys lead on."""

    def __init__(self) -> None:
        super().__init__()
        self.title, self.hint = sentence_label("Title"), sentence_label("Keys")
        self.words = sentence_label("Message")
        set_style(self.title, "font-size: 20px; font-weight: bold;")
        set_style(self.words, "font-size: 15px;")
        layout = QVBoxLayout(self)
        layout.setSpacing(14)
        for part in (self.title, self.words, self.hint):
            part.setTextInteractionFlags(Qt.TextInteractionFlag.NoTextInteraction)
            layout.addWidget(part)
        layout.addStretch(1)

    def tell(self, message: Message) -> None:
        """Show `message`."""
        self.title.setText(message.title)
        self.words.setText(message.words)
        self.hint.setText(message.hint)

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        set_style(self.hint, f"color: {colours.accent}; font-size: 14px;")


class TrialPage(QWidget):
    """The questions, how far one is, the keys, and a box for notes."""

    noted = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.questions = QuestionPanel()
        set_style(self.questions.words, "font-size: 15px;")
        self.place, self.said = QLabel(), sentence_label("What is missing")
        self.bar, self.keys, self.note = QProgressBar(), QLabel(), QLineEdit()
        self.place.setAccessibleName("Which picture is seen")
        self.bar.setAccessibleName("Progress")
        self.bar.setFormat("%v of %m")
        self.keys.setTextFormat(Qt.TextFormat.RichText)
        self.keys.setAccessibleName("Keys")
        self.keys.setText(_table(HELP))
        self.keys.hide()
        named(self.note, "Note", "N begins a note; Enter keeps it, Esc leaves")
        self.note.setPlaceholderText("Note (N)")
        self.note.returnPressed.connect(self._on_note_returned)
        self.hint = QLabel("Space: confirm    Z: undo    Esc: pause    ?: keys")
        layout = QVBoxLayout(self)
        layout.setSpacing(10)
        layout.addWidget(self.place)
        layout.addWidget(self.questions, 1)
        for part in (self.said, self.keys, self.note, self.hint, self.bar):
            layout.addWidget(part)

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.questions.set_colours(colours)
        set_style(self.said, f"color: {colours.warning};")
        set_style(self.hint, f"color: {colours.faint};")
        set_style(self.place, f"color: {colours.accent}; font-size: 16px;")

    def _on_note_returned(self) -> None:
        words = self.note.text().strip()
        self.note.clear()
        self.note.clearFocus()
        if words:
            self.noted.emit(words)


def _table(rows: tuple[tuple[str, str], ...]) -> str:
    cells = "".join(
        f"<tr><td><b>{key}</b></td><td>{what}</td></tr>" for key, what in rows
    )
    return f'<table cellpadding="2">{cells}</table>'

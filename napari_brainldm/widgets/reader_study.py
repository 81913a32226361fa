"""The reader-study dock: people judge pictures, by keys alone and without any hint.

While it runs, the rest of napari is hidden. The truth of a study is in a file that this
program never opens; what may be seen of a trial is its pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari
from qtpy.QtCore import QSize, QStandardPaths, Qt, QTimer
from qtpy.QtWidgets import QStackedWidget, QVBoxLayout, QWidget

from napari_brainldm.engine.request import EngineError
from napari_brainldm.review.sample import sample_study
from napari_brainldm.review.session import Session
from napari_brainldm.widgets.curtain import Curtain, main_window_of
from napari_brainldm.widgets.looks import (
    colours_of,
    ender,
    scrolling,
    sentence_label,
    set_style,
)
from napari_brainldm.widgets.preferences import PLUGIN
from napari_brainldm.widgets.reader_keys import ReaderKeys
from napari_brainldm.widgets.sitting import SPACE, Message, Sitting
from napari_brainldm.widgets.stage import Stage
from napari_brainldm.widgets.study_pages import MessagePage, SetupPage, TrialPage

if TYPE_CHECKING:
    from qtpy.QtGui import QHideEvent

    from napari_brainldm.review.protocols import Question
    from napari_brainldm.review.session import Value

READER_STUDY = "Reader study"
"""As the dock is called in the manifest."""

SAMPLE_STUDY = "Reader study: sample"
"""As the entry is called that opens with the sample study."""

NOTE = int(Qt.Key.Key_N)
TURNS = ("the first one", "the second one")


def open_study(folder: Path, reader: str) -> None:
    """Open napari with the study in `folder` for `reader`; stay until it is closed."""
    show(folder, reader)
    napari.run()


def show(folder: Path, reader: str) -> napari.Viewer:
    """Open the viewer as `open_study` does, without waiting."""
    viewer = napari.Viewer(show_welcome_screen=False)
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, READER_STUDY)
    dock.start(folder, reader)
    return viewer


class ReaderStudyDock(QWidget):
    """Runs a study in the viewer around it.

    Parameters
    ----------
    napari_viewer
        Pictures are shown there; it has to be empty.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.stage, self.curtain = Stage(napari_viewer), Curtain(napari_viewer)
        self.keys = ReaderKeys()
        self.sitting = Sitting(self.stage)
        self.setup, self.message, self.trial = SetupPage(), MessagePage(), TrialPage()
        self.error = sentence_label("Error")
        self._lay_out()
        self._wire()
        self._on_theme_changed()

    def start(self, folder: Path, reader: str) -> None:
        """Take the study in `folder` up where `reader` left it."""
        self.leave()
        self.error.hide()
        self.setup.folder.box.setText(str(folder))
        self.setup.reader.setText(reader)
        try:
            self._begin(folder, reader)
        except EngineError as error:
            self._on_failed(str(error))

    def start_sample(self) -> None:
        """Take the sample study up, in its copy among the user's documents."""
        try:
            self.start(*sample_study(sample_home()))
        except EngineError as error:
            self._on_failed(str(error))

    def leave(self) -> None:
        """End the sitting and give napari back; what was confirmed is kept."""
        self.sitting.leave()
        self.keys.close()
        self.stage.leave()
        self.curtain.lift()
        self.pages.setCurrentIndex(0)

    def _begin(self, folder: Path, reader: str) -> None:
        session = Session(folder, reader)
        # first of all: a panel that is put into the window is hidden for a moment, and
        # a dock that is hidden leaves
        self.curtain.draw(self)
        try:
            study = session.study
            self.stage.open(self, study.grid, study.window)
        except EngineError:
            session.close()
            self.curtain.lift()
            raise
        window = main_window_of(self)
        self.keys.listen(self.window() if window is None else window)
        self.setFocus()
        self.sitting.begin(session, folder, self._pointer_path)

    def _pointer_path(self) -> float:
        return self.keys.path

    # -- made of -------------------------------------------------------------------

    def _lay_out(self) -> None:
        self.pages = QStackedWidget()
        for page in (self.setup, self.message, self.trial):
            area = scrolling(page)
            area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            self.pages.addWidget(area)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.addWidget(self.error)
        layout.addWidget(self.pages, 1)
        self.error.hide()

    def _wire(self) -> None:
        self.setup.started.connect(self._on_setup_started)
        self.setup.tried.connect(self.start_sample)
        self.setup.builder.built.connect(self._on_builder_built)
        self.keys.pressed.connect(self._on_keys_pressed)
        self.keys.left.connect(self.setFocus)
        self.keys.closing.connect(self.leave)
        self.trial.questions.answered.connect(self.sitting.answer)
        self.trial.noted.connect(self.sitting.note)
        self.stage.turned.connect(self._on_stage_turned)
        self.stage.disturbed.connect(self._on_failed)
        self.sitting.told.connect(self._on_sitting_told)
        self.sitting.asked.connect(self._on_sitting_asked)
        self.sitting.answered.connect(self._on_sitting_answered)
        self.sitting.missing.connect(self._on_sitting_missing)
        self.sitting.failed.connect(self._on_failed)
        self.sitting.ended.connect(self._on_sitting_ended)
        themes = self._viewer.events.theme
        themes.connect(self._on_theme_changed)
        # the window may close in the middle of a run; the dock has no other hook
        parts = (self.keys, self.sitting, self.stage, self.curtain, self.setup.builder)
        self.destroyed.connect(ender(parts, themes, self._on_theme_changed))

    def sizeHint(self) -> QSize:
        """Wide enough for sentences to be read."""
        return QSize(400, 700)

    def hideEvent(self, event: QHideEvent) -> None:
        """Hidden is left, minimised is paused."""
        super().hideEvent(event)
        if event.spontaneous():
            self.sitting.pause()
        else:
            self.leave()

    # -- keys ----------------------------------------------------------------------

    def _on_keys_pressed(self, key: int, text: str) -> None:
        trial = self.pages.currentIndex() == 2
        if text == "?":
            self.trial.keys.setHidden(not self.trial.keys.isHidden())
        elif trial and key == NOTE:
            self.trial.note.setFocus()
        elif trial and key == SPACE:
            self.trial.questions.settle()
            self.sitting.press(key)
        elif not (trial and self.trial.questions.press(key, text)):
            self.sitting.press(key)

    # -- news ----------------------------------------------------------------------

    def _on_setup_started(self) -> None:
        self.start(self.setup.folder.path, self.setup.reader.text().strip())

    def _on_builder_built(self, folder: Path) -> None:
        self.setup.folder.box.setText(str(folder))

    def _on_sitting_told(self, message: Message) -> None:
        self.message.tell(message)
        self.pages.setCurrentIndex(1)

    def _on_sitting_asked(self, questions: tuple[Question, ...]) -> None:
        self.keys.rest()
        self.error.hide()
        self.trial.said.clear()
        self.trial.questions.ask(questions)
        self._on_stage_turned(0)
        session = self.sitting.session
        assert session is not None
        done, total = session.done
        self.trial.bar.setRange(0, total)
        self.trial.bar.setValue(done)
        self.pages.setCurrentIndex(2)
        self.setFocus()

    def _on_sitting_answered(self, answers: dict[str, Value]) -> None:
        self.trial.said.clear()
        self.trial.questions.tell(answers)

    def _on_sitting_missing(self, words: str) -> None:
        self.trial.said.setText(f"{words} {self.trial.questions.missing()}")

    def _on_stage_turned(self, turn: int) -> None:
        session = self.sitting.session
        flicker = session is not None and session.protocol.layout == "flicker"
        self.trial.place.setText(f"Now: {TURNS[turn]}" if flicker else "")
        self.trial.place.setVisible(flicker)

    def _on_sitting_ended(self) -> None:
        self.leave()

    def _on_failed(self, words: str) -> None:
        self.leave()
        self.error.setText(words)
        self.error.show()

    def _on_theme_changed(self, event: Any = None) -> None:
        colours = colours_of(self._viewer)
        set_style(self.error, f"color: {colours.error};")
        self.message.set_colours(colours)
        self.trial.set_colours(colours)
        self.setup.builder.set_colours(colours)


class SampleStudyDock(ReaderStudyDock):
    """The dock of a Plugins-menu entry of its own: it opens with the sample study."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self._begin_soon = QTimer(self)  # once the dock is in its window
        self._begin_soon.setSingleShot(True)
        self._begin_soon.timeout.connect(self.start_sample)
        self._begin_soon.start(0)


def sample_home() -> Path:
    """Folder of the user that the sample study is copied into."""
    documents = QStandardPaths.StandardLocation.DocumentsLocation
    return Path(QStandardPaths.writableLocation(documents)) / "Brain LDM"

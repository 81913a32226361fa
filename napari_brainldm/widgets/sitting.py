"""One sitting of a reader at the window: keys in, pictures and messages out.

It drives `review.session.Session`, which alone knows where the reader is, and keeps
nothing that would be lost with the window.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Qt, QTimer, Signal

from napari_brainldm.engine.request import EngineError
from napari_brainldm.review.display import frames
from napari_brainldm.review.session import Session, Status
from napari_brainldm.review.stimuli import Twelve, read_stimulus
from napari_brainldm.widgets.job import Job, Task, Tick, sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from napari_brainldm.review.protocols import Protocol
    from napari_brainldm.review.study import Study
    from napari_brainldm.widgets.stage import Stage

PAGE = 5
"""Slices that PageUp and PageDown go."""

SPACE, ESCAPE = int(Qt.Key.Key_Space), int(Qt.Key.Key_Escape)
UNDO, QUIT = int(Qt.Key.Key_Z), int(Qt.Key.Key_Q)
STEPS = {
    int(Qt.Key.Key_Up): 1,
    int(Qt.Key.Key_Right): 1,
    int(Qt.Key.Key_Down): -1,
    int(Qt.Key.Key_Left): -1,
    int(Qt.Key.Key_PageUp): PAGE,
    int(Qt.Key.Key_PageDown): -PAGE,
}


@dataclass(frozen=True)
class Message:
    """What the reader is told between trials."""

    title: str
    words: str
    hint: str = "Space: go on"


class Sitting(QObject):
    """Runs the study in `folder` for one reader on `stage`.

    Attributes
    ----------
    session
        Where the reader is; None before and after.
    told_last
        What the reader is to read now; None while there are pictures to judge.
    """

    told = Signal(object)  # Message; no picture is up, but after practice
    asked = Signal(object)  # questions; the pictures are on the screen
    answered = Signal(dict)
    missing = Signal(str)  # what to do before the trial can be confirmed
    failed = Signal(str)
    ended = Signal()

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage
        self._folder: Path | None = None
        self.session: Session | None = None
        self._job = Job()
        self._job.failed.connect(self._on_job_failed)
        self._kept: dict[str, Twelve] = {}
        self._chapter: tuple[str, bool] | None = None
        self.told_last: Message | None = None
        self._paused = False
        self._path: Callable[[], float] = float
        self._cap, self._second = QTimer(self), QTimer(self)
        self._cap.setSingleShot(True)
        self._cap.timeout.connect(self._on_cap_timeout)
        self._second.setInterval(1000)
        self._second.timeout.connect(self._on_second_timeout)
        stage.drawn.connect(self._on_stage_drawn)
        stage.pointed.connect(self._on_stage_pointed)

    # -- begin and end -------------------------------------------------------------

    def begin(self, session: Session, folder: Path, path: Callable[[], float]) -> None:
        """Take `session` up where it is; `path` tells how far the pointer went."""
        self.session, self._folder, self._path = session, folder, path
        self._chapter, self._paused = None, False
        self._next()

    def leave(self) -> None:
        """End the sitting; what was confirmed is kept, the trial comes again."""
        session, self.session = self.session, None
        if session is None:
            return
        self._cap.stop()
        self._second.stop()
        self._job.cancel()
        self._kept.clear()
        self.told_last = None
        with suppress(OSError):  # only that it ended is not written down
            if session.status is Status.SHOWN:
                session.pause()
        with suppress(OSError):
            session.close()
        self.ended.emit()

    def close(self) -> None:
        """Leave, tell nobody, and let the worker go."""
        try:
            self.blockSignals(True)
        except RuntimeError:  # Qt went first, at the end of the program; rows are kept
            return
        self.leave()
        self._job.close()

    @property
    def busy(self) -> bool:
        """Whether pictures are being read."""
        return self._job.busy

    # -- keys ----------------------------------------------------------------------

    def press(self, key: int) -> bool:
        """Take a key that is none of a question; False when it does nothing."""
        if self.session is None:
            return False
        if self.told_last is not None:
            return self._press_at_message(key)
        if self.session.status is not Status.SHOWN:
            return False
        if key in STEPS:
            self._stage.step(STEPS[key])
        elif key == SPACE:
            self.confirm()
        elif key == UNDO:
            self.session.undo()
            self.answered.emit(self.session.answers)
        elif key == ESCAPE:
            self.pause()
        else:
            return False
        return True

    def answer(self, question: str, value: Any) -> None:
        """Take an answer; one that comes too early after the picture does nothing."""
        if self.session is None or self.session.status is not Status.SHOWN:
            return
        if self.session.answer(question, value):
            self.answered.emit(self.session.answers)

    def confirm(self) -> None:
        """Write the trial down, and on to the next; not while an answer is missing."""
        assert self.session is not None
        if not self.session.complete:
            self.missing.emit("Not answered yet.")
            return
        self._end(self.session.confirm)

    def pause(self) -> None:
        """Take the pictures off; the trial will be shown again."""
        if self.session is None or self.session.status is not Status.SHOWN:
            return
        self._cap.stop()
        if not self._is_written(self.session.pause):
            return
        self._stage.blank()
        self._paused = True
        self._tell(PAUSED)

    def note(self, words: str) -> None:
        """Keep a remark with the record."""
        if self.session is not None:
            self._is_written(partial(self.session.note, words))

    def _press_at_message(self, key: int) -> bool:
        if key == QUIT or (key == SPACE and self._is_done):
            self.leave()
        elif key == SPACE and self.session is not None:
            self._go_on(self.session)
        return key in (QUIT, SPACE)

    def _go_on(self, session: Session) -> None:
        rested = session.rest_left <= 0
        if self._is_written(session.go_on) and rested:
            self.told_last, self._paused = None, False
            self._second.stop()
            self._next()

    @property
    def _is_done(self) -> bool:
        return self.session is not None and self.session.status is Status.DONE

    # -- from trial to trial -------------------------------------------------------

    def _next(self) -> None:
        """Whatever the session says is to come."""
        session = self.session
        assert session is not None
        if session.status is Status.DONE:
            self._stage.blank()
            self._tell(DONE)
        elif session.status is Status.REST:
            self._stage.blank()
            self._second.start()
            self._on_second_timeout()
        elif self._chapter_now != self._chapter:
            first, self._chapter = self._chapter is None, self._chapter_now
            self._stage.blank()
            welcome = session.study.welcome if first else ""
            self._tell(instruction(session.protocol, self._chapter[1], welcome))
            self._fetch(session.showing.stimuli, self._on_fetched_ahead)
        else:
            self._show()

    @property
    def _chapter_now(self) -> tuple[str, bool]:
        """Protocol, and whether it is practice."""
        assert self.session is not None
        trial = self.session.trial
        assert trial is not None
        return trial.protocol, trial.practice

    def _show(self) -> None:
        """Put the pictures up, all at once; fetched first where they are not here."""
        session = self.session
        if session is None or session.status is not Status.READY:
            return
        tokens = session.showing.stimuli
        if not self._kept.keys() >= set(tokens):
            self._stage.blank()
            self._fetch(tokens, self._on_fetched)
            return
        trial = session.trial
        assert trial is not None
        pictures = [self._kept[token] for token in tokens]
        exposure = trial.exposure_ms if session.protocol.timed else None
        self._stage.show(frames(pictures, session.protocol), exposure or 0.0)

    def _on_stage_drawn(self) -> None:
        session = self.session
        if session is None or session.status is not Status.READY:
            return
        if not self._is_written(session.show):
            return
        if session.protocol.cap_s is not None:
            self._cap.start(int(1000 * session.protocol.cap_s))
        self.asked.emit(session.questions)
        now, coming = session.showing.stimuli, session.coming()
        self._kept = {k: v for k, v in self._kept.items() if k in (*now, *coming)}
        self._fetch(coming, self._on_fetched_ahead)

    def _end(self, end: Any) -> None:
        """End the trial by `end`, a method of the session that takes a view."""
        session = self.session
        assert session is not None and session.trial is not None
        feedback = session.trial.feedback
        self._cap.stop()
        if not self._is_written(partial(end, self._stage.view(self._path()))):
            return
        if session.status is Status.FEEDBACK:
            self._tell(Message("Practice", feedback))
        else:
            self._next()

    def _on_cap_timeout(self) -> None:
        if self.session is not None and self.session.status is Status.SHOWN:
            self._end(self.session.time_out)

    def _on_second_timeout(self) -> None:
        if self.session is None:
            return
        left = round(self.session.rest_left)
        hint = f"{left // 60}:{left % 60:02d} to go" if left else "Space: go on"
        self._tell(Message(REST, "Look away from the screen for a while.", hint))

    def _on_stage_pointed(self, voxel: list[int]) -> None:
        if self.session is None or self.session.status is not Status.SHOWN:
            return
        for question in self.session.questions:
            if question.kind == "point":
                self.answer(question.name, voxel)

    def _tell(self, message: Message) -> None:
        self.told_last = message
        self.told.emit(message)

    def _is_written(self, step: Callable[[], object]) -> bool:
        """Whether `step` could write the record; where it could not, all ends."""
        try:
            step()
        except OSError as error:
            self._stop(error)
            return False
        return True

    def _stop(self, error: Exception) -> None:
        """The record cannot be written: nothing more is shown."""
        self._stage.blank()
        self._cap.stop()
        session, self.session = self.session, None
        if session is not None:
            with suppress(OSError):  # its last row fails as the one before
                session.close()
        self.failed.emit(sentence(EngineError(f"{CANNOT_WRITE} ({error}).")))

    # -- pictures ------------------------------------------------------------------

    def _fetch(self, tokens: tuple[str, ...], receive: Callable[[Any], None]) -> None:
        wanted = tuple(t for t in dict.fromkeys(tokens) if t not in self._kept)
        assert self.session is not None and self._folder is not None
        work = partial(_read, self._folder, self.session.study, wanted)
        self._job.ask(Task("pictures", work, receive, patient=True))

    def _on_fetched(self, found: dict[str, Twelve]) -> None:
        self._kept |= found
        self._show()

    def _on_fetched_ahead(self, found: dict[str, Twelve]) -> None:
        self._kept |= found

    def _on_job_failed(self, words: str) -> None:
        self._stage.blank()
        self.failed.emit(words)


REST = "A break"
PAUSED = Message(
    "Paused",
    "The picture will be shown again. What you confirmed is kept.",
    "Space: go on    Q: leave",
)
DONE = Message("Done", "That was the last one. Thank you.", "Space: leave")
CANNOT_WRITE = (
    "The answers cannot be written down. Make room on the disk, or ask the owner of "
    "the study; what was confirmed before is kept"
)


def instruction(protocol: Protocol, practice: bool, welcome: str = "") -> Message:
    """What a reader is told before a protocol, or its practice, begins."""
    words = [welcome, protocol.instruction] if welcome else [protocol.instruction]
    if practice:
        words.append("First some practice: it does not count, and you are told.")
    if protocol.cap_s is not None:
        words.append(f"You have {protocol.cap_s:g} s for each.")
    words.append("Right is on the right of every picture.")
    title = f"{protocol.title}: practice" if practice else protocol.title
    return Message(title, "\n\n".join(words), "Space: begin    ?: keys    Q: leave")


def _read(
    folder: Path, study: Study, tokens: tuple[str, ...]
) -> Generator[Tick, None, dict[str, Twelve]]:
    known = {stimulus.token: stimulus for stimulus in study.stimuli}
    found = {}
    for place, token in enumerate(tokens):
        yield Tick("pictures", place, len(tokens))
        # laid out as the screen has it: turning it there took 10 to 20 ms at 1 mm
        found[token] = np.asfortranarray(read_stimulus(folder, known[token]))
    return found

"""A reader at work, without a window: what is shown next, what an answer does.

    ready --show--> shown --answer...--> confirm --> ready | feedback | rest | done
                      ^ undo, pause                     go_on

The state is what replaying the record gives, so a program that was killed goes on as if
nothing had happened. Whoever has the window drives this and keeps nothing of its own.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_brainldm.engine.request import EngineError
from napari_brainldm.review.record import Record
from napari_brainldm.review.replay import Choosing, Progress, Showing, replay
from napari_brainldm.review.study import (
    Trial,
    read_order,
    read_pools,
    read_study,
)

if TYPE_CHECKING:
    from napari_brainldm.review.protocols import Protocol, Question

Value = int | float | str | list[int] | list[str]


class Status(Enum):
    """What the reader is to do."""

    READY = "ready"
    SHOWN = "shown"
    FEEDBACK = "feedback"
    REST = "rest"
    DONE = "done"


@dataclass(frozen=True)
class Clock:
    """Where the time comes from: UTC seconds, and seconds that never jump."""

    utc: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class View:
    """What the window knows of a trial when it ends; all of it is recorded.

    Attributes
    ----------
    frames_shown
        Frames for which a timed picture was on the screen.
    slices_visited
        Indices of the slices looked at.
    cursor_path_len
        Pixels.
    window
        Darkest and brightest value shown.
    viewport_px
        Width and height of the canvas.
    pixel_sha256
        Of what was drawn.
    """

    frames_shown: int = 0
    slices_visited: tuple[int, ...] = ()
    cursor_path_len: float = 0.0
    zoom: float = 1.0
    window: tuple[float, float] = (0.0, 4095.0)
    flicker_count: int = 0
    viewport_px: tuple[int, int] = (0, 0)
    device_pixel_ratio: float = 1.0
    display_note: str = ""
    pixel_sha256: str = ""


class Session:
    """One sitting of a reader.

    Parameters
    ----------
    folder
        Of the study; the key is neither needed nor looked for.
    reader
        The reader's code.
    clock
        For tests.

    Raises
    ------
    EngineError
        If the study is closed, the reader unknown or the record damaged.
    """

    def __init__(self, folder: Path, reader: str, clock: Clock | None = None) -> None:
        self.study, digest = read_study(folder)
        order = read_order(folder, self.study, reader)
        if (folder / "closed.json").exists():
            raise EngineError(
                f"The study {self.study.name} is closed; it takes no more answers."
            )
        self._clock = clock or Clock()
        self._choosing = Choosing(
            self.study.seed, reader, read_pools(folder, self.study)
        )
        self._record = Record(folder / "records" / f"{reader}.jsonl", digest, reader)
        self._session = secrets.token_hex(8)
        self._common = {"session": self._session, "seed": self.study.seed}
        self._progress = self._resumed(order)
        self._status = Status.DONE if self.trial is None else Status.READY
        self._answers: dict[str, Value] = {}
        self._changed: dict[str, Value] = {}
        self._onset = self._answered = self._worked_since = self._clock.steady()
        self._onset_utc, self._reshown = "", False
        self._write("session", version=self.study.version)

    def _resumed(self, order: tuple[Trial, ...]) -> Progress:
        """Where the record ends; an old interrupted block is void and begun anew."""
        found = replay(order, self._record.rows, self._choosing)
        since = self._clock.utc() - found.last_utc
        if found.within_block and since > 3600 * self.study.rules.max_gap_h:
            assert found.trial is not None
            block = block_of(found.trial)
            self._write("void", **block, hours=round(since / 3600, 2))
            found = replay(order, self._record.rows, self._choosing)
        return found

    # -- what the window asks ----------------------------------------------------

    @property
    def status(self) -> Status:
        """What the reader is to do."""
        return self._status

    @property
    def trial(self) -> Trial | None:
        """The trial that is next or shown; None when all are done."""
        return self._progress.trial

    @property
    def protocol(self) -> Protocol:
        """Of the trial."""
        return self.study.protocol(self._now.protocol)

    @property
    def showing(self) -> Showing:
        """Tokens of the trial by place."""
        return self._progress.showing(self._choosing)

    @property
    def questions(self) -> tuple[Question, ...]:
        """Of the trial, in their order."""
        return self.protocol.questions

    @property
    def answers(self) -> dict[str, Value]:
        """Given so far in this trial, by question."""
        return dict(self._answers)

    @property
    def done(self) -> tuple[int, int]:
        """Trials answered, and trials in all."""
        return self._progress.counted

    @property
    def rest_left(self) -> float:
        """Seconds until work may go on."""
        if self._status is not Status.REST:
            return 0.0
        waited = self._clock.steady() - self._answered
        return max(0.0, 60 * self.study.rules.break_min - waited)

    def coming(self) -> tuple[str, ...]:
        """Tokens that the next trial may show: worth loading while this one is seen."""
        return self._progress.coming(self._choosing)

    # -- what the reader does ----------------------------------------------------

    def show(self) -> Showing:
        """The pictures are on the screen; time runs from here."""
        self._require(Status.READY)
        showing = self.showing
        self._answers, self._changed = {}, {}
        self._onset_utc, self._reshown = self._utc(), self._progress.was_shown
        self._write("shown", **self._told(showing))
        self._progress.mark_shown()
        self._status = Status.SHOWN
        self._onset = self._answered = self._clock.steady()
        return showing

    def answer(self, question: str, value: Value) -> bool:
        """Take an answer, or its change; False when it came too early to be meant."""
        self._require(Status.SHOWN)
        now = self._clock.steady()
        if 1000 * (now - self._onset) < self.study.rules.early_ms:
            return False
        check_answer(self.protocol.question(question), value)
        if question in self._answers and self._answers[question] != value:
            self._changed.setdefault(question, self._answers[question])
        self._answers[question] = value
        self._answered = now
        return True

    def undo(self) -> None:
        """Take back the last answer of this trial; confirmed ones stay."""
        self._require(Status.SHOWN)
        if self._answers:
            question, value = self._answers.popitem()
            self._changed.setdefault(question, value)

    @property
    def complete(self) -> bool:
        """Whether every needed question has its answer."""
        needed = (q.name for q in self.questions if q.needed)
        return all(name in self._answers for name in needed)

    def confirm(self, view: View | None = None) -> None:
        """Write the answers down for good; EngineError while one is missing."""
        self._require(Status.SHOWN)
        if not self.complete:
            raise EngineError("A question of this trial has no answer yet. Answer it.")
        self._end(view or View(), timeout=False)

    def time_out(self, view: View | None = None) -> None:
        """The cap is reached: the trial is missing, never wrong."""
        self._require(Status.SHOWN)
        self._answers = {}
        self._end(view or View(), timeout=True)

    def pause(self) -> None:
        """Take the pictures off; the trial will be shown again."""
        self._write("pause")
        if self._status is Status.SHOWN:
            self._status = Status.READY

    def note(self, words: str) -> None:
        """Keep a remark of the reader with the record."""
        self._write("note", words=words)

    def go_on(self) -> bool:
        """Past feedback or a break; False while the break is not over."""
        if self.rest_left > 0:
            return False
        if self._status is Status.REST:
            self._worked_since = self._clock.steady()
            self._write("rest_over")
        if self._status in (Status.FEEDBACK, Status.REST):
            self._status = self._after()
        return True

    def close(self) -> str:
        """End the sitting; the hash of the last row, worth noting elsewhere."""
        try:
            self._write("session_end")
        finally:
            self._record.close()
        return self._record.last_hash

    # -- inside ------------------------------------------------------------------

    @property
    def _now(self) -> Trial:
        if self.trial is None:
            raise EngineError("The study is done; there is no further trial.")
        return self.trial

    def _require(self, status: Status) -> None:
        if self._status is not status:
            raise EngineError(
                f"The trial is {self._status.value}, not {status.value}; wait for it."
            )

    def _end(self, view: View, timeout: bool) -> None:
        feedback = bool(self._now.feedback)
        row = self._write(
            "answer",
            **self._told(self.showing),
            responses=self._answers,
            changed_from=self._changed,
            timeout=timeout,
            t_shown_utc=self._onset_utc,
            rt_ms=None if timeout else round(1000 * (self._answered - self._onset), 3),
            view=asdict(view),
        )
        self._progress.take(row, self._choosing)
        self._answered = self._clock.steady()
        self._status = Status.FEEDBACK if feedback and not timeout else self._after()

    def _after(self) -> Status:
        """Status between two trials."""
        if self.trial is None:
            return Status.DONE
        worked = self._clock.steady() - self._worked_since
        if worked >= 60 * self.study.rules.break_after_min:
            self._answered = self._clock.steady()
            self._write("rest")
            return Status.REST
        return Status.READY

    def _told(self, showing: Showing) -> dict[str, Any]:
        trial = self._now
        return {
            **block_of(trial),
            "trial": self._progress.index,
            "trial_uid": trial.uid,
            "stimuli": list(showing.stimuli),
            "level_planned": showing.level_planned,
            "level_shown": showing.level_shown,
            "reshown": int(self._reshown),
        }

    def _utc(self) -> str:
        return datetime.fromtimestamp(self._clock.utc(), UTC).isoformat()

    def _write(self, event: str, **content: Any) -> Mapping[str, Any]:
        return self._record.append(
            {"event": event, "t_utc": self._utc(), **self._common, **content}
        )


def check_answer(question: Question, value: Value) -> None:
    """Raise EngineError unless `value` answers `question`."""
    count = len(question.options)
    options = question.options
    checks: dict[str, Callable[[], bool]] = {
        "choice": lambda: type(value) is int and 1 <= value <= count,
        "number": lambda: isinstance(value, int | float) and 0 < value < 1e9,
        "ticks": lambda: isinstance(value, list) and set(value) <= set(options),
        "point": lambda: isinstance(value, list) and len(value) == 3,
        "words": lambda: isinstance(value, str),
    }
    if not checks[question.kind]():
        raise EngineError(
            f"{value!r} does not answer {question.text!r}. Give a {question.kind}"
            + (f" of 1 to {count}." if question.kind == "choice" else ".")
        )


def block_of(trial: Trial) -> dict[str, Any]:
    """What tells a block from others, as rows hold it."""
    return {
        "protocol": trial.protocol,
        "phase": "practice" if trial.practice else "main",
        "block": trial.block,
    }

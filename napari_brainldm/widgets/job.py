"""One worker for long work: the newest task wins, errors are never lost.

The policy of live editors: what was asked last is what the user wants. One slot holds
the newest task; a patient task (a preview) runs to its end, so that a hand that never
rests still sees pictures; any other is stopped at its next step when a newer one waits.
Files that were named are written, all of them, before anything newer.
A background task (a sweep) steps aside for newer ones and goes on when they are done.

A plain thread, not napari's thread_worker: that one drops every RuntimeError (and
torch.OutOfMemoryError is one), and it replaces `warnings.showwarning` of the whole
process while it runs, which races with the main thread. Everything goes through
`Task`, `Tick` and `_Outcome`, so a child process could take the thread's place.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from qtpy.QtCore import QCoreApplication, QObject, Qt, Signal

from napari_brainldm.engine.request import EngineError

log = logging.getLogger(__name__)


class Step(Protocol):
    """What long work yields: step `index` of `total` in `stage`."""

    @property
    def stage(self) -> str: ...  # noqa: D102
    @property
    def index(self) -> int: ...  # noqa: D102
    @property
    def total(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Tick:
    """How far a task is: step `index` of `total` in `stage`; `news` to show by then."""

    stage: str
    index: int
    total: int
    news: Any = None


@dataclass(frozen=True, eq=False)
class Task:
    """Long work and who gets its result.

    Attributes
    ----------
    name
        One word for the user: "preview", "picture", "load", "save".
    work
        Starts the work: a generator that yields steps and returns the result. It runs
        in the worker's thread and must not touch Qt or layers.
    receive
        Called with the result on the main thread.
    patient
        Whether it runs to its end although a newer task waits.
    along
        Called on the main thread with the `news` of its steps; of several that wait
        there, the newest alone.
    background
        Whether it is put off, not given up, while newer tasks run. One at a time.
    kept
        Whether it runs although newer tasks are asked for, to its end: a file that
        somebody has named is written.
    """

    name: str
    work: Callable[[], Generator[Step, None, Any]]
    receive: Callable[[Any], None]
    patient: bool = False
    along: Callable[[Any], None] | None = None
    background: bool = False
    kept: bool = False


@dataclass(frozen=True, eq=False)
class _Outcome:
    """The end of a task: a value, an error, or neither when it was stopped."""

    task: Task
    value: Any = None
    error: Exception | None = None
    stopped: bool = False
    paused: bool = False


@dataclass(eq=False)
class _Run:
    """A task at work, flags that end or put it off after a step, its newest news."""

    task: Task
    stop: threading.Event = field(default_factory=threading.Event)
    pause: threading.Event = field(default_factory=threading.Event)
    news: deque[Any] = field(default_factory=lambda: deque(maxlen=1))
    steps: Generator[Step, None, Any] | None = None

    def close(self) -> None:
        """Free what the work holds; not while a thread is in it."""
        if self.steps is not None:
            self.steps.close()


class _Wire(QObject):
    """Carries news from the thread; holds no timer, so any thread may drop it."""

    ticked = Signal(object)
    ended = Signal(object)


class Job(QObject):
    """Runs the newest `Task` in one thread; all signals arrive on the main thread."""

    progressed = Signal(object)
    failed = Signal(str)
    changed = Signal(str)  # name of the running task; empty when there is none

    _asked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._waiting: Task | None = None
        self._kept: deque[Task] = deque()  # these wait too, and go first
        self._run: _Run | None = None
        self._behind: _Run | None = None  # in the background, not begun or put off
        self._closed = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="brainldm")
        self._wire = _Wire()
        queued = Qt.ConnectionType.QueuedConnection
        self._wire.ticked.connect(self._on_wire_ticked, queued)
        self._wire.ended.connect(self._on_wire_ended, queued)
        # queued: tasks asked for in one turn of the event loop are one task
        self._asked.connect(self._start_next, queued)
        _quitting().connect(self.close)

    @property
    def busy(self) -> bool:
        """Whether a task runs or waits, in the background or not."""
        return self.pressing or self._run is not None or self._behind is not None

    @property
    def pressing(self) -> bool:
        """Whether a task that is not in the background runs or waits."""
        running = self._run is not None and not self._run.task.background
        return running or self._waits

    @property
    def _waits(self) -> bool:
        return self._waiting is not None or bool(self._kept)

    @property
    def behind(self) -> str:
        """Name of the task in the background, running or put off; empty without one."""
        if self._run is not None and self._run.task.background:
            return self._run.task.name
        return "" if self._behind is None else self._behind.task.name

    def holds(self, name: str) -> bool:
        """Whether a task of that name, not in the background, runs or waits."""
        running = None if self._run is None else self._run.task
        return any(t is not None and t.name == name for t in (running, self._waiting))

    def ask(self, task: Task) -> None:
        """Run `task` next, in place of any other that waits."""
        if self._closed:
            return
        run = self._run
        if task.background:
            self.give_up_background()
            self._behind = _Run(task)
        else:
            if task.kept:
                self._kept.append(task)
            else:
                self._waiting = task
            if run is not None and run.task.background:
                run.pause.set()
            elif run is not None and not (
                run.task.patient or run.task.kept or task.kept
            ):
                run.stop.set()  # a file, though, can wait for its end
        self._asked.emit()

    def cancel(self) -> None:
        """Stop what runs after its current step, and forget what waits.

        Files that were named stay, if it is not one of them that runs. A background
        task that was put off stays; cancelled again, it goes too.
        """
        if not self.pressing:
            self.give_up_background()
        waited, self._waiting = self._waiting is not None, None
        if self._run is not None and not self._run.task.background:
            self._run.stop.set()
        if waited and not self.busy and not self._closed:
            self.changed.emit("")  # it was not even begun

    def close(self) -> None:
        """Cancel, and call nobody back any more. Does not wait for the thread."""
        self._closed = True
        self._kept.clear()
        self.cancel()
        self.give_up_background()
        self._pool.shutdown(wait=False)

    def give_up_background(self) -> None:
        """Stop the background task, whether it runs or was put off."""
        if self._run is not None and self._run.task.background:
            self._run.stop.set()
        behind, self._behind = self._behind, None
        if behind is None:
            return
        behind.close()
        if self._run is None and not self._waits and not self._closed:
            self.changed.emit("")

    def _start_next(self) -> None:
        if self._closed or self._run is not None:
            return
        if self._kept:
            self._run = _Run(self._kept.popleft())
        elif self._waiting is not None:
            self._run, self._waiting = _Run(self._waiting), None
        elif self._behind is not None:
            self._run, self._behind = self._behind, None
        else:
            return
        self.changed.emit(self._run.task.name)
        self._pool.submit(_drive, self._run, self._wire)

    def _on_wire_ticked(self, tick: Tick) -> None:
        if self._closed:
            return
        self.progressed.emit(tick)
        run = self._run
        if run is not None and run.task.along is not None and run.news:
            run.task.along(run.news.pop())

    def _on_wire_ended(self, outcome: _Outcome) -> None:
        if self._closed:
            return
        run, self._run = self._run, None
        if outcome.paused and run is not None:
            self._put_off(run)
        try:
            self._deliver(outcome)
        finally:
            if not self._waits and self._behind is None:
                self.changed.emit("")
            self._start_next()

    def _put_off(self, run: _Run) -> None:
        if run.stop.is_set():  # cancelled in the meantime
            run.close()
            return
        run.pause.clear()
        self._behind = run

    def _deliver(self, outcome: _Outcome) -> None:
        if outcome.error is not None:
            self.failed.emit(sentence(outcome.error))
        elif not outcome.stopped and not outcome.paused:
            outcome.task.receive(outcome.value)


def sentence(error: Exception) -> str:
    """What the user reads of `error`."""
    if isinstance(error, EngineError):
        return str(error)
    what = str(error).strip().partition("\n")[0] or "no details"
    return (
        f"Something unforeseen went wrong ({type(error).__name__}: {what}). "
        "Try again; if it comes back, report it with the log of the terminal."
    )


def _drive(run: _Run, wire: _Wire) -> None:
    """Run a task to its end in the worker's thread; whatever happens is told."""
    outcome = _worked(run, wire)
    try:
        wire.ended.emit(outcome)
    except RuntimeError:  # the program has ended and Qt took the wire with it
        log.debug("nobody is left to hear of %s", run.task.name)


def _worked(run: _Run, wire: _Wire) -> _Outcome:
    try:
        run.steps = run.steps or run.task.work()
        outcome = None
        try:
            outcome = _stepped(run, run.steps, wire)
        finally:
            if outcome is None or not outcome.paused:
                run.close()  # on this thread
        return outcome
    except Exception as error:
        log.log(
            logging.INFO if isinstance(error, EngineError) else logging.ERROR,
            "the task %s failed",
            run.task.name,
            exc_info=error,
        )
        # without its traceback: the frames would keep the device's memory
        return _Outcome(run.task, error=error.with_traceback(None))


def _stepped(run: _Run, steps: Generator[Step, None, Any], wire: _Wire) -> _Outcome:
    while not run.stop.is_set():
        if run.pause.is_set():
            return _Outcome(run.task, paused=True)
        try:
            step = next(steps)
        except StopIteration as done:
            return _Outcome(run.task, done.value)
        if isinstance(step, Tick) and step.news is not None:
            run.news.append(step.news)
        wire.ticked.emit(Tick(step.stage, step.index, step.total))
    return _Outcome(run.task, stopped=True)


def _quitting() -> Any:
    """The signal of the application's end."""
    app = QCoreApplication.instance()
    assert app is not None, "a Job needs a running Qt application"
    return app.aboutToQuit

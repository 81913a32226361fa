"""One worker for long work: the newest task wins, errors are never lost.

The policy of live editors: what was asked last is what the user wants. One slot holds
the newest task; a patient task (a preview) runs to its end, so that a hand that never
rests still sees pictures; any other is stopped at its next step when a newer one waits.

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
    """

    name: str
    work: Callable[[], Generator[Step, None, Any]]
    receive: Callable[[Any], None]
    patient: bool = False
    along: Callable[[Any], None] | None = None


@dataclass(frozen=True, eq=False)
class _Outcome:
    """The end of a task: a value, an error, or neither when it was stopped."""

    task: Task
    value: Any = None
    error: Exception | None = None
    stopped: bool = False


@dataclass(frozen=True, eq=False)
class _Run:
    """A task at work, the flag that stops it after a step, its newest news."""

    task: Task
    stop: threading.Event = field(default_factory=threading.Event)
    news: deque[Any] = field(default_factory=lambda: deque(maxlen=1))


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
        self._run: _Run | None = None
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
        """Whether a task runs or waits."""
        return self._run is not None or self._waiting is not None

    def ask(self, task: Task) -> None:
        """Run `task` next, in place of any other that waits."""
        if self._closed:
            return
        self._waiting = task
        if self._run is not None and not self._run.task.patient:
            self._run.stop.set()
        self._asked.emit()

    def cancel(self) -> None:
        """Forget the waiting task and stop the running one after its current step."""
        self._waiting = None
        if self._run is not None:
            self._run.stop.set()

    def close(self) -> None:
        """Cancel, and call nobody back any more. Does not wait for the thread."""
        self._closed = True
        self.cancel()
        self._pool.shutdown(wait=False)

    def _start_next(self) -> None:
        if self._closed or self._run is not None or self._waiting is None:
            return
        self._run = _Run(self._waiting)
        self._waiting = None
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
        self._run = None
        try:
            self._deliver(outcome)
        finally:
            if self._waiting is None:
                self.changed.emit("")
            self._start_next()

    def _deliver(self, outcome: _Outcome) -> None:
        if outcome.error is not None:
            self.failed.emit(sentence(outcome.error))
        elif not outcome.stopped:
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
        steps = run.task.work()
        try:
            return _stepped(run, steps, wire)
        finally:
            steps.close()  # frees what the generator holds, on this thread
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

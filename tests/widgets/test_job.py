"""The worker: newest wins, previews finish, nothing is lost, closing is clean."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest
import torch

from napari_brainldm.engine.request import EngineError
from napari_brainldm.widgets.job import Job, Task, Tick

STEPS = 50


class Work:
    """Counted work of STEPS steps, each waiting for the test's permission."""

    def __init__(self, free: bool = True) -> None:
        self.started: list[int] = []
        self.steps = 0
        self.closed = False
        self.gate = threading.Semaphore(10**6 if free else 0)

    def task(self, number: int, results: list[int], patient: bool = False) -> Task:
        return Task("picture", lambda: self._run(number), results.append, patient)

    def background(self, number: int, results: list[int]) -> Task:
        work = lambda: self._run(number)  # noqa: E731
        return Task("sweep", work, results.append, background=True)

    def _run(self, number: int) -> Generator[Tick, None, int]:
        self.started.append(number)
        try:
            for index in range(STEPS):
                assert self.gate.acquire(timeout=10)
                self.steps += 1
                yield Tick("denoise", index + 1, STEPS)
            return number
        finally:
            self.closed = True


@pytest.fixture
def job(qapp: Any) -> Any:
    job = Job()
    yield job
    job.close()


def wait_idle(qtbot: Any, job: Job) -> None:
    qtbot.waitUntil(lambda: not job.busy, timeout=20_000)


def test_a_hundred_ticks_render_only_the_last(qtbot: Any, job: Job) -> None:
    work, results = Work(), []
    for number in range(100):
        job.ask(work.task(number, results))
    wait_idle(qtbot, job)
    assert work.started == [99]
    assert results == [99]


def test_a_hundred_ticks_during_a_preview_render_it_and_the_last(
    qtbot: Any, job: Job
) -> None:
    work, results = Work(free=False), []
    job.ask(work.task(-1, results, patient=True))
    qtbot.waitUntil(lambda: work.started == [-1])
    for number in range(100):
        job.ask(work.task(number, results, patient=True))
        qtbot.wait(1)
    work.gate.release(10**6)
    wait_idle(qtbot, job)
    assert work.started == [-1, 99]
    assert results == [-1, 99]


def test_of_news_that_wait_the_newest_alone_is_shown(qtbot: Any, job: Job) -> None:
    free, ready, shown = threading.Event(), threading.Event(), []

    def told() -> Generator[Tick, None, str]:
        assert free.wait(10)
        for number in range(5):
            yield Tick("denoise", number, 5, news=number)
        ready.set()
        return "end"

    job.ask(Task("preview", told, shown.append, along=shown.append))
    qtbot.waitUntil(lambda: job._run is not None)
    free.set()
    assert ready.wait(10)  # all five are told while the main thread is away
    wait_idle(qtbot, job)
    assert shown == [4, "end"]


def begin(qtbot: Any, job: Job, work: Work, task: Task) -> None:
    """Start `task` and let it take three steps."""
    job.ask(task)
    work.gate.release(3)
    qtbot.waitUntil(lambda: work.steps == 3)


def test_a_background_task_steps_aside_and_goes_on(qtbot: Any, job: Job) -> None:
    sweep, picture, results = Work(free=False), Work(), []
    names: list[str] = []
    job.changed.connect(names.append)
    begin(qtbot, job, sweep, sweep.background(1, results))
    job.ask(picture.task(2, results))
    assert job.pressing
    sweep.gate.release(1)  # the step it is in
    qtbot.waitUntil(lambda: results == [2])
    assert not sweep.closed
    sweep.gate.release(10**6)
    wait_idle(qtbot, job)
    assert results == [2, 1]
    assert (sweep.started, sweep.steps) == ([1], STEPS)  # begun once, no step twice
    assert names == ["sweep", "picture", "sweep", ""]


def test_a_background_task_goes_when_another_comes(qtbot: Any, job: Job) -> None:
    old, new, results = Work(free=False), Work(), []
    begin(qtbot, job, old, old.background(1, results))
    job.ask(new.background(2, results))
    old.gate.release(10**6)
    wait_idle(qtbot, job)
    assert old.closed
    assert results == [2]


def test_cancel_takes_the_picture_first_and_then_the_sweep(
    qtbot: Any, job: Job
) -> None:
    sweep, picture, results = Work(free=False), Work(free=False), []
    begin(qtbot, job, sweep, sweep.background(1, results))
    job.ask(picture.task(2, results))
    sweep.gate.release(1)
    qtbot.waitUntil(lambda: picture.started == [2])
    job.cancel()
    picture.gate.release(10**6)
    sweep.gate.release(2)
    qtbot.waitUntil(lambda: sweep.steps >= 5)
    assert picture.closed
    assert not sweep.closed
    job.cancel()
    sweep.gate.release(10**6)
    wait_idle(qtbot, job)
    assert sweep.closed
    assert results == []


def test_closing_frees_what_was_put_off(qtbot: Any, job: Job) -> None:
    sweep, picture, results = Work(free=False), Work(free=False), []
    begin(qtbot, job, sweep, sweep.background(1, results))
    job.ask(picture.task(2, results))
    sweep.gate.release(1)
    qtbot.waitUntil(lambda: picture.started == [2])
    job.close()
    assert sweep.closed
    picture.gate.release(10**6)


def test_a_full_render_is_superseded_within_one_step(qtbot: Any, job: Job) -> None:
    old, new, results = Work(free=False), Work(), []
    job.ask(old.task(1, results))
    old.gate.release(3)
    qtbot.waitUntil(lambda: old.steps == 3)
    job.ask(new.task(2, results))
    old.gate.release(10**6)
    wait_idle(qtbot, job)
    assert old.steps <= 4
    assert old.closed
    assert results == [2]


def test_files_that_were_named_are_all_written(qtbot: Any, job: Job) -> None:
    sweep, file, picture, results = Work(free=False), Work(), Work(), []
    begin(qtbot, job, sweep, sweep.background(1, results))
    for number in (2, 3):
        job.ask(replace(file.task(number, results), kept=True))
        job.ask(picture.task(10 + number, results))  # the hand goes on
    assert job.pressing
    sweep.gate.release(10**6)
    wait_idle(qtbot, job)
    assert results == [2, 3, 13, 1]


def test_a_file_is_written_whole_and_ends_no_picture(qtbot: Any, job: Job) -> None:
    picture, file, results = Work(free=False), Work(free=False), []
    begin(qtbot, job, picture, picture.task(1, results))
    job.ask(replace(file.task(2, results), kept=True))
    picture.gate.release(10**6)
    qtbot.waitUntil(lambda: file.started == [2])
    job.ask(picture.task(3, results))
    file.gate.release(10**6)
    wait_idle(qtbot, job)
    assert results == [1, 2, 3]
    file.gate = threading.Semaphore(1)
    job.ask(replace(file.task(4, results), kept=True))
    qtbot.waitUntil(lambda: file.started == [2, 4])
    job.cancel()  # now it is the file that runs
    file.gate.release(10**6)
    wait_idle(qtbot, job)
    assert results == [1, 2, 3]


def test_cancelling_a_picture_leaves_files_that_were_named(
    qtbot: Any, job: Job
) -> None:
    picture, file, results = Work(free=False), Work(), []
    begin(qtbot, job, picture, picture.task(1, results))
    job.ask(replace(file.task(2, results), kept=True))
    job.cancel()
    picture.gate.release(10**6)
    wait_idle(qtbot, job)
    assert results == [2]


def test_cancel_acts_within_one_step_and_gives_no_result(qtbot: Any, job: Job) -> None:
    work, results = Work(free=False), []
    job.ask(work.task(1, results))
    work.gate.release(2)
    qtbot.waitUntil(lambda: work.steps == 2)
    job.cancel()
    work.gate.release(10**6)
    wait_idle(qtbot, job)
    assert work.steps <= 3
    assert work.closed
    assert results == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (EngineError("The scan is empty. Choose another."), "The scan is empty."),
        (RuntimeError("kernel launch failed"), "kernel launch failed"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory"),
        (StopIteration("odd"), "RuntimeError"),
    ],
)
def test_no_error_is_lost_and_the_next_task_runs(
    qtbot: Any, job: Job, error: Exception, words: str
) -> None:
    def fail() -> Generator[Tick, None, None]:
        yield Tick("denoise", 1, 2)
        raise error

    with qtbot.waitSignal(job.failed, timeout=10_000) as failed:
        job.ask(Task("picture", fail, pytest.fail))
    assert words in failed.args[0]
    results: list[int] = []
    job.ask(Work().task(7, results))
    wait_idle(qtbot, job)
    assert results == [7]


def test_every_step_is_told_in_order(qtbot: Any, job: Job) -> None:
    ticks: list[Tick] = []
    job.progressed.connect(ticks.append)
    job.ask(Work().task(1, []))
    wait_idle(qtbot, job)
    assert [tick.index for tick in ticks] == list(range(1, STEPS + 1))


def test_work_leaves_the_main_thread_free(qtbot: Any, job: Job) -> None:
    names: list[str] = []

    def where() -> Generator[Tick, None, None]:
        names.append(threading.current_thread().name)
        yield Tick("denoise", 1, 1)

    received: list[str] = []
    done = lambda _: received.append(threading.current_thread().name)  # noqa: E731
    job.ask(Task("picture", where, done))
    wait_idle(qtbot, job)
    assert names[0].startswith("brainldm")
    assert received == [threading.main_thread().name]


def test_a_closed_job_calls_nobody_back(qtbot: Any, job: Job) -> None:
    work, results = Work(free=False), []
    told: list[Any] = []
    job.ask(work.task(1, results))
    qtbot.waitUntil(lambda: bool(work.started))
    for signal in (job.progressed, job.failed, job.changed):
        signal.connect(told.append)
    job.close()
    work.gate.release(10**6)
    qtbot.waitUntil(lambda: work.closed)
    job.ask(work.task(2, results))
    qtbot.wait(50)
    assert work.steps <= 1
    assert (results, told) == ([], [])

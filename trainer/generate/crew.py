"""Who makes the pictures: this process, processes of this machine, or a cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch

from napari_brainldm.engine.request import EngineError

if TYPE_CHECKING:
    from trainer.generate.job import Job, Task

T = TypeVar("T")
Work = Callable[["Job", "Task"], T]

FEWEST, MOST = 2, 8
"""Threads of a worker: one computes while the others write.

Compressing a picture takes longer than a fast graphics card needs to make it.
"""

HERE = "127.0.0.1"
"""Where the scheduler of this machine listens: nobody else is to give it work."""

DEATHS = 1000
"""Workers that may die over one batch before it is given up: machines come and go."""

WAIT = "60s"
"""How long a scheduler elsewhere is waited for."""


class Crew(Protocol):
    """Does tasks, in any order."""

    def each(self, work: Work[T], job: Job, tasks: Iterable[Task]) -> Iterator[T]:
        """Results of `work(job, task)` of every task, as they are ready."""


class Alone:
    """The process that asks, one task after the other."""

    def each(self, work: Work[T], job: Job, tasks: Iterable[Task]) -> Iterator[T]:
        """Results in order."""
        for task in tasks:
            yield work(job, task)


class Team:
    """The workers of a Dask scheduler."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def each(self, work: Work[T], job: Job, tasks: Iterable[Task]) -> Iterator[T]:
        """Results as they are ready; only a few tasks more than threads are handed out.

        Raises
        ------
        EngineError
            As `work` raises, or if no worker could live through a task.
        """
        waiting = iter(tasks)
        flying = _dask().as_completed()
        self._hand_out(flying, waiting, work, job)
        for future in flying:
            yield self._result(future)
            self._hand_out(flying, waiting, work, job)

    def _hand_out(
        self, flying: Any, waiting: Iterator[Task], work: Work[T], job: Job
    ) -> None:
        # counted anew each time: workers may come and go
        room = 2 * max(sum(self._client.nthreads().values()), 1) + 2
        while flying.count() < room:
            task = next(waiting, None)
            if task is None:
                return
            flying.add(self._client.submit(work, job, task, pure=False))

    def _result(self, future: Any) -> Any:
        try:
            return future.result()
        except _dask().KilledWorker as error:
            raise EngineError(
                "Workers die over one batch of pictures again and again, as they do "
                "when memory runs out. Set a smaller --batch in an empty folder, or "
                "give workers more memory, and run again: what is made is kept."
            ) from error


@contextmanager
def crew(workers: int | None, scheduler: str, device: str) -> Iterator[Crew]:
    """The crew wished for, while the context lasts.

    Parameters
    ----------
    workers
        Processes on this machine; 0 for this process alone; None for one per graphics
        card or, without one, per core.
    scheduler
        Address of a running Dask scheduler, such as "tcp://host:8786"; or empty.
    device
        Of the local workers, as `engine.device`; "cuda" spreads them over the cards.

    Raises
    ------
    EngineError
        If Dask is not installed or the scheduler does not answer.
    """
    count = _count(device) if workers is None else workers
    if not scheduler and count == 0:
        yield Alone()
        return
    _dask()
    with _client(scheduler) if scheduler else _local(count, device) as client:
        yield Team(client)


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    try:
        client = _dask().Client(scheduler, timeout=WAIT)
    except (OSError, ValueError) as error:
        raise EngineError(
            f"No Dask scheduler answers at {scheduler} ({error}). Start one with "
            "`dask scheduler`, or leave --scheduler out to use this machine."
        ) from error
    with client:
        yield client


@contextmanager
def _local(count: int, device: str) -> Iterator[Any]:
    """A scheduler and `count` processes of this machine; they end with this one."""
    import dask

    distributed = _dask()
    heard = {"host": HERE, "dashboard": False, "dashboard_address": f"{HERE}:0"}
    spec = {
        index: {
            "cls": distributed.Nanny,
            "options": {
                "nthreads": threads_of(device),
                "memory_limit": 0,
                **heard,
                "silence_logs": logging.ERROR,
                "env": _environment(index, device),
            },
        }
        for index in range(count)
    }
    with (
        dask.config.set(QUIET | {"distributed.scheduler.allowed-failures": DEATHS}),
        distributed.SpecCluster(
            workers=spec,
            scheduler={"cls": distributed.Scheduler, "options": {**heard, "port": 0}},
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.cycle": "10s",
}
"""Dask profiles its workers a hundred times a second and times its own loops fifty
times: that is taken from the cores that compute, and nobody looks at the figures."""


def threads_of(device: str) -> int:
    """Threads of a local worker: its share of the cores where a card computes."""
    cards = len(_cards(device))
    share = (os.cpu_count() or 1) // cards if cards else FEWEST
    return min(max(share, FEWEST), MOST)


def _environment(index: int, device: str) -> dict[str, str]:
    """What worker `index` is told: the one graphics card it sees."""
    cards = _cards(device)
    return {"CUDA_VISIBLE_DEVICES": cards[index % len(cards)]} if cards else {}


def _cards(device: str) -> list[str]:
    if device not in ("", "cuda") or not torch.cuda.is_available():
        return []
    told = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    every = [str(index) for index in range(torch.cuda.device_count())]
    return [card for card in told.split(",") if card] or every


def _count(device: str) -> int:
    return len(_cards(device)) or os.cpu_count() or 1


def _dask() -> Any:
    """The package distributed, which a bare training machine does without."""
    try:
        import distributed
    except ImportError as error:
        raise EngineError(
            "Dask is not installed here, which shares pictures out to workers. Install "
            "napari-brainldm[cluster], or make them in this process with --workers 0."
        ) from error
    return distributed

"""What a worker does: a batch of pictures, sampled together, then one by one.

A worker has two or more threads and one lock for computing. While one thread compresses
and writes a picture, another decodes the next one or walks the next batch.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_brainldm.engine.asked import volumes_asked
from napari_brainldm.engine.batch import fitting_batch, sample
from napari_brainldm.engine.checkpoint import Checkpoint, load_checkpoint
from napari_brainldm.engine.device import choose
from napari_brainldm.engine.export import record
from napari_brainldm.engine.heap import keep_memory
from napari_brainldm.engine.measure import measure
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.segment import Segmenter
from trainer.generate.store import is_whole, write_one

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Volume
    from trainer.generate.job import Job, Task

LARGEST = 16
"""More pictures in a batch gain nothing, a killed worker would lose them all, and the
last batches of a run would keep few workers busy."""


@dataclass(frozen=True)
class Made:
    """What became of a task: how many pictures, and seconds by stage.

    Attributes
    ----------
    seconds
        (stage, seconds) of "sample", "decode", "measure" and "write".
    """

    pictures: int
    seconds: tuple[tuple[str, float], ...]


class Workshop:
    """What a worker keeps between tasks: the models on its device, and the turn.

    Attributes
    ----------
    turn
        Held by the thread that computes.
    """

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self._job: Job | None = None
        self._renderer: Renderer | None = None
        self._segmenter: Segmenter | None = None

    def models(self, job: Job) -> tuple[Renderer, Segmenter | None]:
        """Renderer and segmenter of `job`, loaded once; to be called in turn.

        Raises
        ------
        EngineError
            If the files here are not those that the run was begun with, or the
            hardware would give other bits.
        """
        if self._renderer is None or self._job != job:
            if choose(job.device, "float32").device == "cpu":
                torch.set_num_threads(job.threads)
                keep_memory()
            checkpoint = _loaded(job.checkpoint, job.sha256)
            renderer = Renderer(checkpoint, job.device, job.precision)
            _check_hardware(job, hardware(renderer.compute.device))
            self._segmenter = _segmenter(job, renderer)
            self._renderer, self._job = renderer, job
        return self._renderer, self._segmenter


_STARTING = threading.Lock()


def workshop() -> Workshop:
    """The workshop of this process."""
    with _STARTING:  # two threads that begin at once must meet in one
        return _workshop()


@lru_cache(maxsize=1)
def _workshop() -> Workshop:
    return Workshop()


def settle(job: Job, task: Task) -> Job:
    """`job` with what depends on the machine: hardware, precision and batch."""
    shop = workshop()
    with shop.turn:
        renderer, _ = shop.models(job)
        compute = renderer.compute
        batch = job.batch
        if not batch:
            most = min(LARGEST, job.count)
            batch = fitting_batch(renderer, task.asked[0], most)
    return replace(
        job,
        device=compute.device,
        precision=compute.precision,
        hardware=hardware(compute.device),
        batch=batch,
    )


def make(job: Job, task: Task) -> Made:
    """Make and write the pictures of `task` that are wanted."""
    shop, clock = workshop(), Clock()
    asked = task.asked
    with shop.turn, clock.of("sample"):
        renderer, segmenter = shop.models(job)
        latents = finish(sample(renderer, asked))
    for place in task.wanted:
        with shop.turn:
            compute = choose(renderer.compute.device, asked[place].precision)
            with clock.of("decode"):
                picture = renderer.decode(latents[place : place + 1], compute)
            with clock.of("measure"):
                found = measured(renderer, segmenter, picture)
        with clock.of("write"):
            index = task.first + place
            told = {"Index": index, "Asked": asked[place].digest} | found
            sidecar = record(renderer, asked[place], picture) | told
            write_one(job, task.names[place], index, picture, sidecar)
    return Made(len(task.wanted), tuple(clock.seconds.items()))


def damaged(job: Job, task: Task) -> tuple[str, ...]:
    """Names of the pictures of `task` whose files are not what was written."""
    asked = task.asked
    return tuple(
        task.names[place]
        for place in task.wanted
        if not is_whole(job, task.names[place], task.first + place, asked[place])
    )


def measured(
    renderer: Renderer, segmenter: Segmenter | None, picture: Volume
) -> dict[str, Any]:
    """The volumes of a picture in ml, as entries of its sidecar; none found is None."""
    if segmenter is None:
        return {}
    if renderer.card.fnc is not None:  # it knows heads, and would find nonsense
        why = "A map of gray matter, in which no structures are looked for."
        return {"VolumesMl": None, "WhyNoVolumes": why}
    try:
        found = segmenter.segment(picture)
        volumes = measure(found)
        got = volumes_asked(renderer.card, volumes)
    except EngineError as error:  # an untrained model's picture may hold no brain
        return {"VolumesMl": None, "WhyNoVolumes": str(error)}
    return {
        "VolumesMl": volumes.as_dict(),
        "GotMl": {name: round(ml, 3) for name, ml in got.items()},
        "MeasuredBy": found.method,
    }


def hardware(device: str) -> str:
    """What the bits of a picture computed on `device` depend on, programs too."""
    if torch.device(device).type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        where = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    ours = metadata.version("napari-brainldm")
    return f"{where}, torch {torch.__version__}, napari-brainldm {ours}"


class Clock:
    """Seconds spent by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Count the time inside to `stage`."""
        start = time.perf_counter()
        yield
        spent = time.perf_counter() - start
        self.seconds[stage] = self.seconds.get(stage, 0.0) + spent


def _loaded(path: str, sha256: str) -> Checkpoint:
    found = load_checkpoint(Path(path))
    if found.sha256 != sha256:
        raise EngineError(
            f"{path} is another file on a worker than where the run was started. Put "
            "the same file there, on a disk that all of them share."
        )
    return found


def _segmenter(job: Job, renderer: Renderer) -> Segmenter | None:
    if not job.segmenter:
        return None
    found = _loaded(job.segmenter, job.segmenter_sha256)
    return Segmenter(found, renderer.compute.device, "float32")


def _check_hardware(job: Job, here: str) -> None:
    if job.hardware and job.hardware != here:
        raise EngineError(
            f"The run was begun on {job.hardware} and a worker has {here}, which would "
            "give pictures with other bits. Use workers of one kind and these "
            "versions, or an empty folder."
        )

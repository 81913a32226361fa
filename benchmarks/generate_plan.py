"""What 100,000 pictures at the paper's size take: measured times, a model, a check.

The model: with G graphics cards and T threads a worker, N pictures of c seconds of
computing (sampling, decoding, measuring volumes) and w seconds of writing take start +
N max(c, (c + w) / T) / G, since one thread of a worker computes while the others write;
and no less than the scheduler needs to hand them out. Then every file is read again
and its hash compared, N v / (G T), and one process collects N sidecars into the table,
N s. The check: a simulated scheduler hands pictures to the threads of G
workers, one after the other, with the measured times and its own measured time per
task; workers are killed once a day and lose what they have in hand.
"""

from __future__ import annotations

import heapq
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.paper_size import paper_model
from napari_brainldm.engine.batch import fitting_batch, sample
from napari_brainldm.engine.checkpoint import file_sha256, load_checkpoint
from napari_brainldm.engine.export import record
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Conditions, Request, Sampler, Seed
from napari_brainldm.engine.resources import bundled_checkpoint, bundled_segmenter
from napari_brainldm.engine.segment import Segmenter
from trainer.generate.crew import crew, threads_of
from trainer.generate.job import Job, Task
from trainer.generate.store import picture_path, read_sidecar, write_one
from trainer.generate.work import LARGEST
from trainer.generate.work import measured as volumes_of

PICTURES, CARDS = 100_000, (1, 8, 64)
STEPS = 50
"""Of DDIM, as in the paper's fast row."""

KILLED_AFTER = 24 * 3600.0
"""Seconds that a worker lives in the simulation, on average, before it is killed."""

NOOPS = 300

NAME = "sub-1"


@dataclass(frozen=True)
class Times:
    """Measured seconds.

    Attributes
    ----------
    start
        Until a worker has loaded the model.
    compute, write
        Of one picture each, several measured; computing includes the volumes.
    task
        Of the scheduler, per task.
    threads
        Of a worker.
    batch
        Pictures of a task.
    check, collect
        Of reading a picture's file again; of reading its sidecar.
    """

    start: float
    compute: tuple[float, ...]
    write: tuple[float, ...]
    task: float
    threads: int = 2
    batch: int = 1
    check: float = 0.0
    collect: float = 0.0


def plan(
    device: str, steps: int, price: float, seed: int, assumed: str = ""
) -> dict[str, Any]:
    """Times measured at paper size, and what the plan of PICTURES takes by cards.

    `assumed`, such as "compute=0.24 write=1 megabytes=10", stands for measuring where
    the hardware is not at hand.
    """
    times, size, where = assume(assumed) if assumed else measured(device, steps, seed)
    figures: dict[str, Any] = {
        "plan_device": where,
        "seconds_start": times.start,
        "seconds_compute": _mean(times.compute),
        "seconds_write": _mean(times.write),
        "seconds_per_task": times.task,
        "threads_per_worker": times.threads,
        "pictures_per_task": times.batch,
        "seconds_check": times.check,
        "seconds_collect": times.collect,
        "megabytes_per_picture": size / 1e6,
        "terabytes": size * PICTURES / 1e12,
    }
    worst = 0.0
    for cards in CARDS:
        expected = modelled(times, PICTURES, cards)
        found, lost = simulated(times, PICTURES, cards, seed)
        worst = max(worst, abs(found / expected - 1))
        figures |= {
            f"hours_{cards}": expected / 3600,
            f"hours_{cards}_simulated": found / 3600,
            f"pictures_lost_{cards}": lost,
            f"cost_{cards}": expected / 3600 * cards * price,
        }
    return figures | {"plan_against_simulation": worst}


def modelled(times: Times, pictures: int, cards: int) -> float:
    """Seconds for `pictures` on `cards`, as the docstring of this module says."""
    compute, write = _mean(times.compute), _mean(times.write)
    each = max(compute, (compute + write) / times.threads)
    handed = pictures * times.task / times.batch
    return (
        times.start
        + max(pictures * each / cards, handed)
        + _after(times, pictures, cards)
    )


def _after(times: Times, pictures: int, cards: int) -> float:
    """Seconds of checking and collecting, once the last picture is written."""
    each = times.check / (cards * times.threads) + times.collect
    return pictures * each


def simulated(times: Times, pictures: int, cards: int, seed: int) -> tuple[float, int]:
    """Seconds until the last picture is written, and pictures that were lost."""
    draw = random.Random(seed)
    ready = [(times.start, card) for card in range(cards) for _ in range(times.threads)]
    heapq.heapify(ready)
    dies = {card: draw.expovariate(1 / KILLED_AFTER) for card in range(cards)}
    turn = dict.fromkeys(range(cards), 0.0)
    left, lost, last, scheduler = pictures, 0, 0.0, 0.0
    while left > 0:
        moment, card = heapq.heappop(ready)
        if moment > dies[card]:  # it is a new life
            dies[card] = moment + draw.expovariate(1 / KILLED_AFTER)
        scheduler = max(scheduler, moment) + times.task
        turn[card] = max(scheduler, turn[card]) + times.batch * draw.choice(
            times.compute
        )
        ends = turn[card] + times.batch * draw.choice(times.write)
        if ends > dies[card]:
            lost += times.batch
            again = dies[card] + times.start
            turn[card] = again
            heapq.heappush(ready, (max(again, moment), card))
            continue
        left, last = left - times.batch, max(last, ends)
        heapq.heappush(ready, (ends, card))
    return last + _after(times, pictures, cards), lost


def assume(told: str) -> tuple[Times, float, str]:
    """As `measured`, of times that are given: words of Times, and megabytes."""
    given = dict(word.split("=", 1) for word in told.split())
    size = float(given.pop("megabytes", 0)) * 1e6
    whole = {
        name: int(given.pop(name)) for name in ("threads", "batch") if name in given
    }
    several = {name: (float(given.pop(name)),) for name in ("compute", "write")}
    rest = {name: float(value) for name, value in given.items()}
    return Times(**several, **whole, **rest), size, f"assumed: {told}"


def measured(device: str, steps: int, seed: int) -> tuple[Times, float, str]:
    """Times at paper size, bytes of a picture's file, and the device.

    A step is a step: `steps` of them are timed, and STEPS are counted.
    """
    start = time.perf_counter()
    renderer = Renderer(paper_model(seed), device)
    request = Request(origin=Seed(seed), sampler=Sampler("ddim", steps))
    finish(sample(renderer, [request]))  # loads the weights
    loaded = time.perf_counter() - start
    batch = fitting_batch(renderer, request, LARGEST)
    segmenter = Segmenter(load_checkpoint(bundled_segmenter()), device)
    computes, writes, checks, collects = [], [], [], []
    for index in range(3):
        asked = replace(request, origin=Seed(seed + index))
        many = [asked] * batch
        walk, latents = _seconds(lambda a=many: finish(sample(renderer, a)))
        decode, picture = _seconds(
            lambda z=latents[:1]: renderer.decode(z, renderer.compute)
        )
        volumes, _ = _seconds(lambda p=picture: volumes_of(renderer, segmenter, p))
        computes.append(walk / batch / steps * STEPS + decode + volumes)
        with tempfile.TemporaryDirectory() as folder:
            job = _job(folder)
            told = record(renderer, asked, picture)
            writes.append(_seconds(lambda j=job, p=picture, t=told: _write(j, p, t))[0])
            checks.append(_seconds(lambda j=job: file_sha256(_file(j)))[0])
            collects.append(_seconds(lambda j=job: read_sidecar(j, NAME))[0])
    size = _bytes_per_voxel(seed) * torch.Size(renderer.card.grid.shape).numel()
    threads = threads_of(renderer.compute.device)
    times = Times(
        loaded,
        tuple(computes),
        tuple(writes),
        _per_task(),
        threads,
        batch,
        _mean(checks),
        _mean(collects),
    )
    return times, size, f"{renderer.compute.device} {renderer.compute.precision}"


def _write(job: Job, picture: Any, told: dict[str, Any]) -> None:
    write_one(job, NAME, 0, picture, told)


def _file(job: Job) -> Path:
    return picture_path(job, NAME, 0)


def _job(folder: str) -> Job:
    return Job("", "", folder, "", 1)


def _seconds(work: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, found


def _bytes_per_voxel(seed: int) -> float:
    """Of the file of a picture of the bundled model: noise packs badly, brains well."""
    renderer = Renderer(load_checkpoint(bundled_checkpoint()))
    request = Request(Conditions(), Seed(seed), sampler=Sampler("dpm++2m", 8))
    picture = finish(renderer.render(request))
    with tempfile.TemporaryDirectory() as folder:
        job = _job(folder)
        _write(job, picture, record(renderer, request, picture))
        return _file(job).stat().st_size / picture.data.size


def _per_task() -> float:
    """Seconds that the scheduler spends on a task that does nothing."""
    task = Task(0, (), (), ())
    with crew(1, "", "cpu") as hands:
        list(hands.each(nothing, _job(""), [task] * 10))
        start = time.perf_counter()
        list(hands.each(nothing, _job(""), [task] * NOOPS))
        return (time.perf_counter() - start) / NOOPS


def nothing(job: Job, task: Task) -> None:
    """A task without work."""


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

"""`python -m trainer generate`: the pictures of a plan, as a BIDS dataset.

A stopped run goes on where it was: pictures that are there are kept, and a batch that
lacks one is computed whole, for its pictures' bits belong together.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_brainldm.engine.checkpoint import file_sha256
from napari_brainldm.engine.request import EngineError, Sampler
from napari_brainldm.engine.sampling import check_sampler, sigmas_of
from trainer.generate.crew import Crew, crew
from trainer.generate.dataset import write_description, write_participants
from trainer.generate.job import FORMS, Job, remember, resumed, tasks_of
from trainer.generate.plan import Row, plan_digest, sampled_by
from trainer.generate.store import is_made, prepare_store, strangers
from trainer.generate.work import Made, damaged, make, settle
from trainer.log import duration

if TYPE_CHECKING:
    from napari_brainldm.engine.checkpoint import Checkpoint

LINES = 100
"""Lines of progress in a run, about."""

CHECKED = 50
"""Pictures that are checked in one task."""

NAMED = 5
"""Pictures that a sentence names."""


@dataclass(frozen=True)
class Wish:
    """How the pictures of a plan are to be made.

    Attributes
    ----------
    checkpoint, out
        The model's file, and the folder to write into.
    sampler
        Of all pictures.
    form
        "nifti" or "zarr".
    segmenter
        Measures the pictures; None to measure nothing.
    workers, scheduler, device
        As `crew.crew`.
    precision, batch, threads
        As `job.Job`; empty and 0 to let the first worker choose.
    """

    checkpoint: Path
    out: Path
    sampler: Sampler = Sampler()  # noqa: RUF009, frozen
    form: str = "nifti"
    segmenter: Path | None = None
    workers: int | None = None
    scheduler: str = ""
    device: str = ""
    precision: str = ""
    batch: int = 0
    threads: int = 1


def generate(wish: Wish, checkpoint: Checkpoint, plan: Sequence[Row]) -> Iterator[str]:
    """Make every picture of `plan` with `checkpoint`, check them; yields lines.

    Raises
    ------
    EngineError
        If the folder holds pictures of another plan, or a file is not what was
        written into it.
    """
    # before anything is written; all are sampled alike
    for _, request in sampled_by(plan[:1], wish.sampler, wish.precision):
        check_sampler(request)
        sigmas_of(request, checkpoint.card)
    job = resumed(job_of(wish, checkpoint.sha256, plan))
    with crew(wish.workers, wish.scheduler, wish.device) as hands:
        job, rows = begin(job, wish.sampler, plan, hands)
        prepare_store(job, checkpoint.card.grid)
        write_description(job, checkpoint.card)
        made = [is_made(job, n, i, r) for i, (n, r) in enumerate(rows)]
        yield (
            f"{sum(made)} of {len(rows)} pictures are there; batches of {job.batch} in "
            f"{job.precision} on {job.hardware}"
        )
        yield from _progress(hands, job, rows, made)
        yield from verify(job, rows, hands)
    whole = write_participants(job, checkpoint.card, rows)
    write_description(job, checkpoint.card, whole)
    yield f"All {len(rows)} pictures are there and whole (sha256 {whole})"


def check(wish: Wish, checkpoint: Checkpoint, plan: Sequence[Row]) -> Iterator[str]:
    """Verify a finished run: the number of its pictures and the hash of each.

    Raises
    ------
    EngineError
        If a picture is missing or is not what was written.
    """
    job = resumed(job_of(wish, checkpoint.sha256, plan))
    rows = sampled_by(plan, wish.sampler, job.precision)
    with crew(wish.workers, wish.scheduler, wish.device) as hands:
        yield from verify(job, rows, hands)
    yield f"All {len(rows)} pictures are there and whole"


def job_of(wish: Wish, sha256: str, plan: Sequence[Row]) -> Job:
    """What a run of `plan` is, before its folder and a worker have had their say."""
    if wish.form not in FORMS:
        raise EngineError(
            f"The format {wish.form!r} was asked for; known are {', '.join(FORMS)}. "
            "Choose one of these."
        )
    for name in ("batch", "workers"):
        if (getattr(wish, name) or 0) < 0:
            raise EngineError(
                f"--{name} is {getattr(wish, name)}; 0 or more is possible. Correct it."
            )
    if wish.threads < 1:
        raise EngineError(
            f"--threads is {wish.threads}; at least 1 is needed. Correct it."
        )
    measures = wish.segmenter
    return Job(
        checkpoint=str(wish.checkpoint.resolve()),
        sha256=sha256,
        out=str(wish.out.resolve()),
        plan=plan_digest(sampled_by(plan, wish.sampler, "")),
        count=len(plan),
        form=wish.form,
        segmenter=str(measures.resolve()) if measures else "",
        segmenter_sha256=file_sha256(measures) if measures else "",
        device=wish.device,
        precision=wish.precision,
        batch=wish.batch,
        threads=wish.threads,
    )


def begin(
    job: Job, sampler: Sampler, plan: Sequence[Row], hands: Crew
) -> tuple[Job, list[Row]]:
    """The job settled by a worker, or as it was begun; and the plan as it is made."""
    if not job.settled:
        [first] = tasks_of(sampled_by(plan[:1], sampler, job.precision), 1, [False])
        [job] = hands.each(settle, job, [first])
        remember(job)
    return job, sampled_by(plan, sampler, job.precision)


def verify(job: Job, rows: Sequence[Row], hands: Crew) -> Iterator[str]:
    """Read every file again and compare its hash; yields how far that is.

    Raises
    ------
    EngineError
        If a file is missing, is not what was written, or is none of the plan.
    """
    tasks = tasks_of(rows, CHECKED, [False] * len(rows))
    bad: list[str] = []
    done = 0
    for found in hands.each(damaged, job, tasks):
        bad += found
        done = min(done + CHECKED, len(rows))
        if done == len(rows) or done % (20 * CHECKED) == 0:
            yield f"Checked {done} of {len(rows)} pictures"
    if bad:
        raise EngineError(
            f"{len(bad)} of {len(rows)} pictures are missing or not what was written: "
            f"{_some(sorted(bad))}. Delete their folders, where there are any, and run "
            "the command without --verify."
        )
    if others := strangers(job, [name for name, _ in rows]):
        raise EngineError(
            f"{job.out} also holds what the plan has not: {_some(others)}. Move it to "
            "another folder: a dataset holds the pictures of one plan."
        )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return shown + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _progress(
    hands: Crew, job: Job, rows: Sequence[Row], made: Sequence[bool]
) -> Iterator[str]:
    """Make what is not made; about LINES lines."""
    tasks = tasks_of(rows, job.batch, made)
    left = len(rows) - sum(made)
    every, done, told = max(left // LINES, 1), 0, 0
    started = time.perf_counter()
    for found in hands.each(make, job, tasks):
        done += found.pictures
        if done - told >= every or done == left:
            told = done
            each = (time.perf_counter() - started) / done
            yield (
                f"{len(rows) - left + done} of {len(rows)}, {each:.2f} s a picture, "
                f"{duration(each * (left - done))} left ({stages(found)})"
            )


def stages(found: Made) -> str:
    """Seconds a picture by stage, of the last batch."""
    return ", ".join(f"{k} {s / found.pictures:.2f} s" for k, s in found.seconds)

"""What every worker is told of a run, and what the run's folder remembers of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from napari_brainldm.engine.files import check_empty, write_whole, writing_into
from napari_brainldm.engine.request import UNREADABLE, EngineError, Request

FORMS = ("nifti", "zarr")
RUN_FILE = "generation.json"


@dataclass(frozen=True)
class Job:
    """How the pictures of a plan are made, wherever that happens.

    Attributes
    ----------
    checkpoint, sha256
        The model's file, which every worker can read, and what it must hold.
    out
        Folder of the dataset, which every worker can write to.
    plan, count
        Digest of the plan and its number of pictures.
    form
        One of FORMS.
    segmenter, segmenter_sha256
        File of the segmenter that measures the pictures, and what it must hold; empty
        to measure nothing.
    device, precision
        As `engine.device`; empty until the first worker has chosen.
    hardware
        What the pictures are computed on, so far as their bits depend on it.
    batch
        Pictures walked together; 0 until the first worker has found what fits. The
        batches of a run stay the same, for a picture's last bits depend on its batch.
    threads
        Of torch in each worker on a processor; the bits may depend on them.
    """

    checkpoint: str
    sha256: str
    out: str
    plan: str
    count: int
    form: str = "nifti"
    segmenter: str = ""
    segmenter_sha256: str = ""
    device: str = ""
    precision: str = ""
    hardware: str = ""
    batch: int = 0
    threads: int = 1

    @property
    def settled(self) -> bool:
        """Whether a worker has chosen precision and batch."""
        return bool(self.batch and self.precision and self.hardware)


@dataclass(frozen=True)
class Task:
    """One batch of the plan.

    Attributes
    ----------
    first
        Number of its first picture in the plan, from 0.
    names, requests
        All pictures of the batch, requests as JSON.
    wanted
        Places in the batch of those that are not made yet.
    """

    first: int
    names: tuple[str, ...]
    requests: tuple[str, ...]
    wanted: tuple[int, ...]

    @property
    def asked(self) -> list[Request]:
        """The requests of the batch."""
        return [Request.from_json(text) for text in self.requests]


def tasks_of(
    rows: Sequence[tuple[str, Request]], batch: int, made: Sequence[bool]
) -> list[Task]:
    """The batches of a plan that lack a picture; `made` says which are there."""
    found = []
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        wanted = tuple(n for n in range(len(part)) if not made[first + n])
        if wanted:
            names = tuple(name for name, _ in part)
            asked = tuple(request.to_json() for _, request in part)
            found.append(Task(first, names, asked, wanted))
    return found


FIXED = ("plan", "sha256", "form", "segmenter_sha256")
"""What a folder holds pictures of; all else of a job may be told anew or be kept."""

KEPT = ("device", "precision", "hardware", "batch", "threads")


def resumed(job: Job) -> Job:
    """`job` as it was begun in its folder; as it is where nothing was begun.

    Raises
    ------
    EngineError
        If the folder holds pictures of another plan, checkpoint, form or segmenter,
        or anything else.
    """
    path = Path(job.out) / RUN_FILE
    if not path.is_file():
        check_empty(Path(job.out), "generated pictures")
        return job
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        known = {name: before[name] for name in (*FIXED, *KEPT)}
    except UNREADABLE as error:
        raise EngineError(
            f"{path} is not what a run of generate left ({error}). Choose an empty "
            "folder with --out."
        ) from error
    if any(known[name] != getattr(job, name) for name in FIXED):
        raise EngineError(
            f"{job.out} belongs to another plan or checkpoint. Choose an empty folder "
            "with --out, or the plan, seed, checkpoint, format and segmenter this one "
            "was begun with."
        )
    return replace(job, **{name: known[name] for name in KEPT})


def remember(job: Job) -> None:
    """Write `job` into its folder, so that a later run goes on alike."""
    told = {name: asdict(job)[name] for name in (*FIXED, "count", *KEPT)}
    folder = Path(job.out)
    with writing_into(folder):
        write_whole(folder / RUN_FILE, json.dumps(told, indent=1).encode())

"""A simulated cohort on disk: a BIDS data set of phantoms with their truth.

Every file is written under another name first and then renamed, and a person counts as
done when the record, written last, is there: an interrupted run goes on where it was.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_brainldm.engine.files import check_empty
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import mni_grid
from trainer.data.cohort_files import (
    UINT8_LEVELS,
    tsv,
    write_json,
    write_nifti,
    write_text,
)
from trainer.data.cohort_maps import (
    PATIENT_DESCRIPTIONS,
    README,
    write_connectivity,
    write_gray_matter,
)
from trainer.data.connectivity import ConnectivityConfig, draw_patient, growth
from trainer.data.phantom import Growth, Looks, Simulated, simulate
from trainer.data.population import (
    PopulationConfig,
    Subject,
    Visit,
    draw_subject,
    visits,
)
from trainer.data.template import (
    STRUCTURES,
    TemplatePack,
    build_template,
    load_template,
    rounded,
    save_template,
)
from trainer.processes import one_thread

VOLUME_COLUMNS = ("ventricles_ml", "brain_ml", "hippocampus_ml", "icv_ml")
_COLUMNS = ("participant_id", "age", "sex", "diagnosis", *VOLUME_COLUMNS)
_DESCRIPTIONS = {
    "age": {"Description": "Age at the first visit", "Units": "years"},
    "sex": {"Levels": {"F": "female", "M": "male"}},
    "diagnosis": {
        "Levels": {
            "CN": "cognitively normal",
            "MCI": "mild cognitive impairment",
            "AD": "Alzheimer's disease",
        }
    },
    "ventricles_ml": {"Description": "Both lateral ventricles", "Units": "ml"},
    "brain_ml": {
        "Description": "Gray and white matter with cerebellum and brain stem, "
        "without ventricles and CSF",
        "Units": "ml",
    },
    "hippocampus_ml": {"Description": "Both hippocampi", "Units": "ml"},
    "icv_ml": {"Description": "Intracranial volume", "Units": "ml"},
}


_README = """Simulated brain MRI: nobody was scanned.

Every picture is the MNI152 template (copyright 1993-2009 Louis Collins, McConnell
Brain Imaging Centre, McGill University) with the structures of the Desikan-Killiany
aparc+aseg map (FreeSurfer licence, research use), bent to volumes drawn from
published population figures: NiChart centile curves (cognitively normal, from 45
years), IXI (20 to 35), and published effects and yearly rates of Alzheimer's disease.

participants.tsv: volumes in ml as realised in the picture of the first visit.
derivatives/labels: true structures. derivatives/noisefree: pictures without noise and
bias field. derivatives/records: per person, what was asked for and what came out.
cohort.json: the settings; the same settings make the same files.
"""


@dataclass(frozen=True)
class CohortConfig:
    """Everything that makes a simulated cohort what it is.

    Attributes
    ----------
    seed
        Same seed, same cohort, whatever the number of workers.
    subjects
        Number of people.
    voxel_mm
        Edge of the voxels; 2.0 gives 80 x 96 x 80 voxels.
    visits
        Scans of each person.
    years
        Years between two visits.
    at_years
        Years of every scan after the first one, from 0 on; instead of `visits` and
        `years`.
    population
        Ages, diagnoses and how much people differ in volumes.
    looks
        Anatomy beside the volumes, contrast, bias field and noise.
    connectivity
        An illness that changes functional connectivity and gray matter; None for
        neither, and for the files of a cohort without them.
    """

    seed: int = 0
    subjects: int = 100
    voxel_mm: float = 2.0
    visits: int = 1
    years: float = 1.0
    at_years: tuple[float, ...] = ()
    population: PopulationConfig = field(default_factory=PopulationConfig)
    looks: Looks = field(default_factory=Looks)
    connectivity: ConnectivityConfig | None = None

    @property
    def times(self) -> tuple[float, ...]:
        """Years of the scans after the first one."""
        return self.at_years or tuple(n * self.years for n in range(self.visits))


@dataclass(frozen=True)
class Progress:
    """How far a cohort is: people done of all, and who was done last."""

    done: int
    total: int
    participant: str = ""


def write_cohort(
    config: CohortConfig,
    folder: Path | str,
    workers: int = 2,
    template: TemplatePack | None = None,
) -> Iterator[Progress]:
    """Write the cohort of `config` as a BIDS data set; yield after each person.

    People already complete in `folder` are kept. With one worker everything runs in
    this process, with more in processes of their own; the files are the same.
    """
    root = Path(folder)
    _check(config, root)
    # rounded: workers read the pack from a file
    pack = rounded(template or build_template(mni_grid(config.voxel_mm)))
    _write_head(config, root)
    waiting = [i for i in range(config.subjects) if not _record(root, i).exists()]
    done = config.subjects - len(waiting)
    yield Progress(done, config.subjects)
    for index in _written(config, root, pack, waiting, workers):
        done += 1
        yield Progress(done, config.subjects, participant(index))
    _write_tables(config, root)


def participant(index: int) -> str:
    """BIDS name of person `index`, from sub-0001."""
    return f"sub-{index + 1:04d}"


def write_subject(
    config: CohortConfig, root: Path, pack: TemplatePack, index: int
) -> None:
    """Simulate and write every visit of person `index`; the record comes last."""
    subject = draw_subject(config.population, config.seed, index)
    rows = [
        _write_visit(config, root, pack, subject, visit)
        for visit in visits(subject, config.times)
    ]
    if len(config.times) > 1:
        name = participant(index)
        write_text(root / name / f"{name}_sessions.tsv", tsv(list(rows[0]), rows))
    row = {
        "participant_id": participant(index),
        "age": subject.age,
        "sex": subject.sex,
        "diagnosis": subject.diagnosis,
        **{column: rows[0][column] for column in VOLUME_COLUMNS},
    }
    if config.connectivity is not None:
        row |= asdict(draw_patient(config.connectivity, config.seed, index))
    record = {"participant": row, "asked": asdict(subject), "sessions": rows}
    write_json(_record(root, index), record)


def _check(config: CohortConfig, root: Path) -> None:
    """Refuse a folder that holds another cohort, or anything else."""
    if config.subjects < 1 or not config.times:
        raise EngineError(
            f"The cohort asks for {config.subjects} subjects with {len(config.times)} "
            "visits each. Both must be at least 1."
        )
    rising = all(a < b for a, b in pairwise(config.times))
    if config.times[0] != 0 or not rising:
        raise EngineError(
            f"The cohort's scans are asked for at {list(config.times)} years; the "
            "first is at 0 and each later than the one before. Correct the config."
        )
    path = root / "cohort.json"
    if not path.exists():
        check_empty(root, "a simulated cohort")
        return
    known = _plain(CohortConfig())  # what a cohort of an older version did not say
    if known | json.loads(path.read_text()) != _plain(config):
        raise EngineError(
            f"{root} already holds a cohort made with other settings (cohort.json). "
            "Choose an empty folder, or the same settings to complete it."
        )


def _plain(config: CohortConfig) -> dict[str, Any]:
    """Nested plain values of `config`, as JSON gives them back."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    if config.connectivity is None:
        del plain["connectivity"]  # as cohorts were told before it was known
    return plain


def _written(
    config: CohortConfig,
    root: Path,
    pack: TemplatePack,
    waiting: Sequence[int],
    workers: int,
) -> Iterator[int]:
    """Write the people of `waiting`; yield each index when its files are there."""
    if workers <= 1 or len(waiting) <= 1:
        for index in waiting:
            with one_thread():
                write_subject(config, root, pack, index)
            yield index
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "template.safetensors"
        save_template(pack, path)
        yield from _in_processes(config, root, path, waiting, workers)


def _in_processes(
    config: CohortConfig,
    root: Path,
    template: Path,
    waiting: Sequence[int],
    workers: int,
) -> Iterator[int]:
    # spawn: forking a process that has used torch's threads can lock up
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _one_thread)
    try:
        jobs = {
            pool.submit(_write_from_file, config, root, template, index): index
            for index in waiting
        }
        while jobs:
            for job in wait(jobs, return_when=FIRST_COMPLETED).done:
                job.result()
                yield jobs.pop(job)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _write_from_file(
    config: CohortConfig, root: Path, template: Path, index: int
) -> None:
    write_subject(config, root, load_template(template), index)


# One visit ----------------------------------------------------------------------------


def _write_visit(
    config: CohortConfig, root: Path, pack: TemplatePack, subject: Subject, visit: Visit
) -> dict[str, Any]:
    """Write the files of one visit; return its row of sessions.tsv."""
    change = _growth(config, subject)
    scan = simulate(pack, subject, visit, config.seed, config.looks, change)
    _write_pictures(config, root, scan, subject, visit)
    if config.connectivity is not None:
        person = (config.seed, subject.index, visit.number)
        write_gray_matter(
            config.connectivity, root, scan, person, _stem(config, subject, visit)
        )
    volumes = {
        column: round(getattr(scan.volumes, column), 3) for column in VOLUME_COLUMNS
    }
    return {"session_id": _session(visit), "age": visit.age, **volumes}


def _write_pictures(
    config: CohortConfig, root: Path, scan: Simulated, subject: Subject, visit: Visit
) -> None:
    """Picture, truth and labels of one scan, each with a sidecar."""
    parts = _stem(config, subject, visit)
    stem, inner = "_".join(parts), Path(*parts) / "anat"
    derived, affine = root / "derivatives", scan.picture.affine
    facts = {"Simulated": True, "Seed": config.seed, "VolumesMl": scan.structures_ml}
    for base, voxels in (
        (root / inner / f"{stem}_T1w", scan.picture.data),
        (derived / "noisefree" / inner / f"{stem}_desc-noisefree_T1w", scan.truth.data),
    ):
        write_nifti(base, _uint8(voxels), affine, 1 / UINT8_LEVELS)
        write_json(base.with_name(base.name + ".json"), facts)
    base = derived / "labels" / inner / f"{stem}_dseg"
    write_nifti(base, scan.labels, affine, 1.0)
    write_json(base.with_name(base.name + ".json"), facts)


def _growth(config: CohortConfig, subject: Subject) -> Growth:
    """What the illness of `subject` does to structures; nothing without one."""
    if config.connectivity is None:
        return ()
    patient = draw_patient(config.connectivity, config.seed, subject.index)
    return growth(config.connectivity, patient)


def _stem(config: CohortConfig, subject: Subject, visit: Visit) -> list[str]:
    """Names of person and, if there are several visits, session."""
    name = participant(subject.index)
    return [name, _session(visit)] if len(config.times) > 1 else [name]


def _session(visit: Visit) -> str:
    return f"ses-{visit.number + 1:02d}"


def _uint8(picture: np.ndarray) -> np.ndarray:
    """Intensities 0..1 as 0..255; what is not background stays above 0."""
    levels = np.rint(picture * UINT8_LEVELS).astype(np.uint8)
    return np.where((picture > 0) & (levels == 0), np.uint8(1), levels)


# Tables -------------------------------------------------------------------------------


def _record(root: Path, index: int) -> Path:
    """Written last: a person with a record is complete."""
    return root / "derivatives" / "records" / f"{participant(index)}.json"


def _write_head(config: CohortConfig, root: Path) -> None:
    """Description, settings and legends; present from the first moment on."""
    write_json(root / "cohort.json", _plain(config))  # first: it owns the folder
    made_by = [{"Name": "napari-brainldm simulated cohort", "Version": "1"}]
    for folder, name, kind in (
        (root, "Simulated brain MRI cohort", "raw"),
        (root / "derivatives" / "labels", "Simulated cohort: labels", "derivative"),
        (root / "derivatives" / "noisefree", "Simulated cohort: truth", "derivative"),
    ):
        facts = {"Name": name, "BIDSVersion": "1.10.0", "DatasetType": kind}
        write_json(
            folder / "dataset_description.json", {**facts, "GeneratedBy": made_by}
        )
    legend = [{"index": n, "name": s[0]} for n, s in enumerate(STRUCTURES, start=1)]
    write_text(
        root / "derivatives" / "labels" / "dseg.tsv", tsv(("index", "name"), legend)
    )
    told = {} if config.connectivity is None else PATIENT_DESCRIPTIONS
    write_json(root / "participants.json", {**_DESCRIPTIONS, **told})
    write_text(root / "README", _README + (README if told else ""))


def _write_tables(config: CohortConfig, root: Path) -> None:
    """participants.tsv from the records, in order."""
    records = [
        json.loads(_record(root, index).read_text()) for index in range(config.subjects)
    ]
    rows = [record["participant"] for record in records]
    write_text(root / "participants.tsv", tsv(list(rows[0]), rows))
    if config.connectivity is not None:
        names = [row["participant_id"] for row in rows]
        write_connectivity(config.connectivity, root, config.seed, names)

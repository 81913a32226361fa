"""The tables of a generated BIDS dataset: what it is, and who is in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_brainldm.engine.files import write_whole, writing_into
from napari_brainldm.engine.request import EngineError
from trainer.data.bids import MISSING
from trainer.data.cohort_files import tsv
from trainer.generate.store import ARRAY, read_sidecar

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from trainer.generate.job import Job
    from trainer.generate.plan import Row

NONE = next(text for text in MISSING if text)
"""How a table says that there is no value."""

VOLUMES, GOT, OUTSIDE = "measured_", "got_", "outside_training_range"


def write_description(job: Job, card: Card, finished: str = "") -> None:
    """`dataset_description.json`; with the hash of all pictures once `finished`."""
    plain = {
        "Name": f"Synthetic brain MRI of {card.name}",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "napari-brainldm"}],
        "Synthetic": True,
        "Checkpoint": job.sha256,
        "Plan": job.plan,
        "Pictures": job.count,
        "Notice": card.provenance.notice,
    }
    if finished:
        plain["PicturesSha256"] = finished
    out = Path(job.out)
    with writing_into(out):
        text = json.dumps(plain, indent=1)
        write_whole(out / "dataset_description.json", text.encode())
        hidden = f"{ARRAY}\n" if job.form == "zarr" else ""
        write_whole(out / ".bidsignore", f"{hidden}generation.json\n".encode())


def write_participants(job: Job, card: Card, rows: Sequence[Row]) -> str:
    """`participants.tsv` and its legend; the hash of all pictures in order, hex.

    Every condition asked for, the seed, and every volume measured in the picture.

    Raises
    ------
    EngineError
        If a picture of the plan is missing.
    """
    sidecars = [_sidecar(job, name) for name, _ in rows]
    volumes = _names(sidecars, "VolumesMl")
    got = _names(sidecars, "GotMl")
    asked = [c.name for c in card.vocabulary]
    columns = ["participant_id", "seed", *asked, OUTSIDE]
    columns += [GOT + n for n in got] + [VOLUMES + n for n in volumes]
    lines = [
        _line(row, sidecar, asked, got, volumes)
        for row, sidecar in zip(rows, sidecars, strict=True)
    ]
    out = Path(job.out)
    with writing_into(out):
        write_whole(out / "participants.tsv", tsv(columns, lines).encode())
        legend = json.dumps(_legend(card, got, volumes), indent=1)
        write_whole(out / "participants.json", legend.encode())
    sha = hashlib.sha256()
    for sidecar in sidecars:
        sha.update(sidecar["PictureSha256"].encode())
    return sha.hexdigest()


def _sidecar(job: Job, name: str) -> dict[str, Any]:
    found = read_sidecar(job, name)
    if found is None:
        raise EngineError(
            f"{job.out} lacks the picture of {name}. Run the same command again: what "
            "is there is kept."
        )
    return found


def _names(sidecars: Sequence[dict[str, Any]], entry: str) -> list[str]:
    """The volumes that any picture tells, in the order of the first that does."""
    told: dict[str, None] = {}
    for sidecar in sidecars:
        told |= dict.fromkeys(sidecar.get(entry) or {})
    return list(told)


def _line(
    row: Row,
    sidecar: dict[str, Any],
    asked: Sequence[str],
    got: Sequence[str],
    volumes: Sequence[str],
) -> dict[str, Any]:
    name, request = row
    values = request.conditions.as_dict()
    origin = sidecar["Request"]["origin"]
    found = {
        "participant_id": name,
        "seed": origin["seed"],
        **{key: values[key] for key in asked},
        OUTSIDE: ",".join(sidecar["OutOfTrainingRange"]) or "none",
    }
    for mark, names, entry in ((GOT, got, "GotMl"), (VOLUMES, volumes, "VolumesMl")):
        told = sidecar.get(entry) or {}
        found |= {mark + key: told.get(key, NONE) for key in names}
    return found


def _legend(card: Card, got: Sequence[str], volumes: Sequence[str]) -> dict[str, Any]:
    legend: dict[str, Any] = {
        "seed": {"Description": "Seed of the noise that the picture begins with"},
        OUTSIDE: {"Description": "Conditions outside the model's training range"},
    }
    for covariate in card.vocabulary:
        text = f"Asked for. {covariate.title}. {covariate.description}"
        legend[covariate.name] = {"Description": text} | _units(covariate.unit)
    for name in got:
        text = f"Measured in the picture, as the condition {name} is meant"
        legend[GOT + name] = {"Description": text, "Units": "ml"}
    for name in volumes:
        text = f"Measured in the picture: {name.replace('_', ' ')}"
        legend[VOLUMES + name] = {"Description": text, "Units": "ml"}
    return legend


def _units(unit: str) -> dict[str, str]:
    return {"Units": unit} if unit else {}

"""Whether a study is still the one that was frozen, and its records whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_brainldm.engine.request import EngineError
from napari_brainldm.review.record import Row, read_rows, seal, verify
from napari_brainldm.review.replay import standing
from napari_brainldm.review.stimuli import read_stimulus
from napari_brainldm.review.study import (
    Study,
    Trial,
    read_order,
    read_pools,
    read_study,
)


def checked(folder: Path) -> tuple[list[str], list[str]]:
    """Sentences about the study in `folder`: how far readers are, and faults.

    Raises
    ------
    EngineError
        If there is no study.
    """
    study, digest = read_study(folder)
    told = [f"{study.name}: study hash {digest}"]
    faults = [*_files(folder, study)]
    for reader in sorted(study.orders):
        path = folder / "records" / f"{reader}.jsonl"
        found = [
            f"{reader}, line {f.line}: {f.words}" for f in verify(path, digest, reader)
        ]
        rows = [] if found else list(read_rows(path))
        found += _against_closing(folder, digest, reader)
        if not found:
            order = read_order(folder, study, reader)
            found += [
                f"{reader}: {words}" for words in _against_order(rows, order, study)
            ]
            done = sum(row["event"] == "answer" for row in standing(rows))
            last = rows[-1]["row_hash"] if rows else "none"
            told.append(f"{reader}: {done} of {len(order)} trials, last hash {last}")
        faults += found
    return told, faults


def _files(folder: Path, study: Study) -> Iterator[str]:
    for stimulus in study.stimuli:
        try:
            read_stimulus(folder, stimulus)
        except EngineError as error:
            yield f"{stimulus.token}: {error}"
    try:
        read_pools(folder, study)
        for reader in study.orders:
            read_order(folder, study, reader)
    except EngineError as error:
        yield str(error)


def _against_closing(folder: Path, digest: str, reader: str) -> list[str]:
    """Whether the record is the one that was there when the study was closed."""
    path = folder / "closed.json"
    if not path.is_file():
        return []
    noted: dict[str, Any] = json.loads(path.read_bytes())["records"][reader]
    if noted == seal(folder / "records" / f"{reader}.jsonl", digest, reader):
        return []
    return [f"{reader}: the record is not the one that the study was closed with."]


def _against_order(
    rows: list[Row], order: tuple[Trial, ...], study: Study
) -> list[str]:
    """Answers to no trial, to one twice, or to other pictures than it shows."""
    trials = {trial.uid: trial for trial in order}
    tokens = {stimulus.token for stimulus in study.stimuli}
    faults, seen = [], set()
    for row in standing(rows):
        if row["event"] != "answer":
            continue
        trial = trials.get(row["trial_uid"])
        shown = tuple(row["stimuli"])
        if trial is None or (trial.stimuli and trial.stimuli != shown):
            faults.append(f"row {row['n']} answers no trial of this reader.")
        elif row["trial_uid"] in seen:
            faults.append(f"row {row['n']} answers a trial a second time.")
        elif not set(shown) <= tokens:
            faults.append(f"row {row['n']} shows pictures that the study has not.")
        seen.add(row["trial_uid"])
    return faults

"""Any BIDS dataset with T1w scans and a participants table, split by subject."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.request import EngineError, Value
from napari_brainldm.engine.table import read_rows
from napari_brainldm.engine.visit_ages import sessions_table

if TYPE_CHECKING:
    from trainer.config import Column, DataConfig

_ENTITY = re.compile(r"(sub|ses)-([A-Za-z0-9]+)")
HEADS = 500.0, 3000.0
"""Volumes of heads (intracranial), in ml, that are taken for such."""

MISSING = ("", "n/a", "nan", "NaN", "NA")


@dataclass(frozen=True)
class Entry:
    """One T1w scan, its covariates, and all that the tables say of that visit."""

    subject: str
    session: str
    path: Path
    covariates: tuple[tuple[str, Value], ...]
    row: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Dataset:
    """The scans of a dataset, split by subject.

    Attributes
    ----------
    train, held_out
        Scans of the two groups of subjects.
    head_size
        Mean intracranial volume of the training scans in ml; 0 when no covariate is
        normalised by it.
    """

    train: tuple[Entry, ...]
    held_out: tuple[Entry, ...]
    head_size: float


def read_dataset(config: DataConfig, held: Collection[str] | None = None) -> Dataset:
    """Index the dataset, map its table to the vocabulary and split it by subject.

    `held` names the subjects to hold out; None draws them, anew for other subjects.

    Raises
    ------
    EngineError
        If there is no such dataset, table or column, or a value cannot be read.
    """
    root = Path(config.dataset)
    rows = _participants(root)
    scans = _maps(root, config.maps) if config.maps else _scans(root)
    _check_scans(root, config.maps, scans)
    scans = [s for s in scans if not {s.subject, s.path.name} & set(config.without)]
    found = [(s, row) for s in scans if (row := _row(root, rows, s)) is not None]
    _check_columns(root, config.covariates, found)
    complete = [(s, row) for s, row in found if not _is_missing(config.covariates, row)]
    subjects = {s.subject for s, _ in complete}
    held = _held_out(subjects, config) if held is None else subjects & set(held)
    _check_count(root, len(subjects - held))
    trained = [row for s, row in complete if s.subject not in held]
    heads = {
        column.per_head: float(np.mean([_head(column, row) for row in trained]))
        for column in config.covariates
        if column.per_head
    }
    head = _head_size(config, heads)
    entries = [_entry(config, s, row, heads) for s, row in complete]
    return Dataset(
        tuple(e for e in entries if e.subject not in held),
        tuple(e for e in entries if e.subject in held),
        head,
    )


def subjects_of(entries: Iterable[Entry]) -> frozenset[str]:
    """Whose scans `entries` are."""
    return frozenset(entry.subject for entry in entries)


def is_simulated(root: Path) -> bool:
    """Whether the dataset in `root` says that nobody was scanned for it."""
    path = root / "dataset_description.json"
    return path.is_file() and "simulated" in path.read_text(encoding="utf-8").lower()


@dataclass(frozen=True)
class _Scan:
    subject: str
    session: str
    path: Path


def _scans(root: Path) -> list[_Scan]:
    import bids2table

    table = bids2table.index_dataset(root)
    rows = table.select(["sub", "ses", "suffix", "ext", "datatype", "path"]).to_pylist()
    return [
        _Scan(
            f"sub-{r['sub']}", f"ses-{r['ses']}" if r["ses"] else "", root / r["path"]
        )
        for r in sorted(rows, key=lambda r: str(r["path"]))
        if r["datatype"] == "anat"
        and r["suffix"] == "T1w"
        and r["ext"] in (".nii.gz", ".nii")
        and not r["path"].startswith("derivatives")
    ]


def _maps(root: Path, pattern: str) -> list[_Scan]:
    """Files of `pattern` within `root`, by the sub-ID and ses-ID of their names."""
    found = []
    for path in sorted(root.glob(pattern)):
        parts = dict(_ENTITY.findall(path.name))
        if "sub" in parts:
            session = f"ses-{parts['ses']}" if "ses" in parts else ""
            found.append(_Scan(f"sub-{parts['sub']}", session, path))
    return found


def _check_scans(root: Path, maps: str, scans: list[_Scan]) -> None:
    if scans:
        return
    if maps:
        raise EngineError(
            f"{root} holds no map named {maps} with sub-ID in its name. Correct "
            "data.maps in the config, or write the cohort with its connectivity."
        )
    raise EngineError(
        f"{root} holds no T1w scan in BIDS layout. Give a dataset with files like "
        "sub-01/anat/sub-01_T1w.nii.gz."
    )


Key = tuple[str, str]
"""Of a row: participant_id and session_id, "" for every visit."""


def _rows(path: Path, key: str) -> list[dict[str, str]]:
    rows = read_rows(path)
    if rows and key not in rows[0]:
        raise EngineError(
            f"{path} has no column {key!r}, found {', '.join(rows[0])}. "
            "Add that column."
        )
    return rows


def _participants(root: Path) -> dict[Key, dict[str, str]]:
    path = root / "participants.tsv"
    if not path.is_file():
        raise EngineError(
            f"{root} has no participants.tsv, so nothing says the covariates. "
            "Give the folder of a BIDS dataset with that table."
        )
    found: dict[Key, dict[str, str]] = {}
    for row in _rows(path, "participant_id"):
        key = row["participant_id"], row.get("session_id", "")
        if key in found:
            raise EngineError(
                f"{path} has two rows of {' '.join(key).strip()}, so it is not told "
                "which of them holds. Keep one, or tell visits apart by a column "
                "session_id."
            )
        found[key] = row
    return found


def _row(
    root: Path, rows: Mapping[Key, Mapping[str, str]], scan: _Scan
) -> Mapping[str, str] | None:
    """The subject's row, with the visit's own values over it; None if not listed."""
    keys = dict.fromkeys(((scan.subject, ""), (scan.subject, scan.session)))
    told = [rows[key] for key in keys if key in rows]
    if not told:
        return None
    sessions = sessions_table(root / scan.subject)
    if scan.session and sessions.is_file():
        every = _rows(sessions, "session_id")
        told += [row for row in every if row["session_id"] == scan.session]
    return {name: text for row in told for name, text in row.items()}


def _check_columns(
    root: Path, columns: Iterable[Column], found: list[tuple[_Scan, Mapping[str, str]]]
) -> None:
    if not found:
        raise EngineError(
            f"No scan of {root} belongs to a participant_id of its participants.tsv. "
            "Write the ids as in the folder names (sub-01)."
        )
    there = list(dict.fromkeys(key for _, row in found for key in row))
    for name in (n for c in columns for n in (c.column, c.per_head) if n):
        if name not in there:
            raise EngineError(
                f"participants.tsv of {root} has no column {name!r}; it has "
                f"{', '.join(there)}. Map the covariate to one of these in the config."
            )


def _is_missing(columns: Iterable[Column], row: Mapping[str, str]) -> bool:
    names = (n for c in columns for n in (c.column, c.per_head) if n)
    return any(row.get(name, "") in MISSING for name in names)


def _held_out(subjects: set[str], config: DataConfig) -> set[str]:
    order = sorted(subjects)
    count = round(config.held_out * len(order))
    chosen = np.random.default_rng(config.seed).permutation(len(order))[:count]
    return {order[i] for i in chosen}


def _check_count(root: Path, subjects: int) -> None:
    if subjects < 2:
        raise EngineError(
            f"{subjects} subjects of {root} are left to train on; at least 2 with "
            "every covariate are needed. Add subjects, fill in their n/a, or lower "
            "held_out in the config."
        )


def _head_size(config: DataConfig, heads: Mapping[str, float]) -> float:
    """Mean size in ml of the head that covariates are normalised by; 0 without one.

    The table need not hold it in the unit of those covariates: the scale of the first
    is taken if a head of the size of heads comes out, else ml or mm3, as it fits.
    """
    columns = [c for c in config.covariates if c.per_head]
    if not columns:
        return 0.0
    mean, scale = heads[columns[0].per_head], columns[0].scale
    likely = (one for one in (scale, 1.0, 1e-3) if HEADS[0] <= mean * one <= HEADS[1])
    return mean * next(likely, scale)


def _entry(
    config: DataConfig, scan: _Scan, row: Mapping[str, str], heads: Mapping[str, float]
) -> Entry:
    values = tuple((c.name, _value(c, row, heads)) for c in config.covariates)
    return Entry(scan.subject, scan.session, scan.path, values, tuple(row.items()))


def _value(column: Column, row: Mapping[str, str], heads: Mapping[str, float]) -> Value:
    text = row[column.column]
    if column.categories:
        return _category(column, text)
    number = _number(column.column, text) * column.scale
    if not column.per_head:
        return number
    return number * heads[column.per_head] / _head(column, row)


def _head(column: Column, row: Mapping[str, str]) -> float:
    size = _number(column.per_head, row[column.per_head])
    if size <= 0:
        raise EngineError(
            f"The column {column.per_head!r} holds {size:g}; a head has a volume above "
            "0. Correct the table, or write n/a to leave that subject out."
        )
    return size


def _category(column: Column, text: str) -> str:
    name = column.coding.get(text, text)
    if name not in column.categories:
        raise EngineError(
            f"The column {column.column!r} holds {text!r}; known are "
            f"{', '.join(column.categories)}. Map it under `coding` in the config."
        )
    return name


def _number(column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise EngineError(
            f"The column {column!r} holds {text!r} where a number is needed. "
            "Correct the table, or write n/a to leave that subject out."
        )
    return number

"""Where the pictures of a study come from: folders, BIDS, requests of a checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Request,
    Seed,
    Value,
)
from napari_brainldm.engine.scan_file import SUFFIXES
from napari_brainldm.engine.table import read_rows
from napari_brainldm.engine.volume import Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.segment import Segmenter

ARMS = ("real", "synthetic")


@dataclass(frozen=True)
class Source:
    """Pictures of one arm; exactly one of folder, bids, requests and seeds.

    Attributes
    ----------
    arm
        "real" or "synthetic".
    label
        Arm in more words, such as a model's name; by default the arm.
    folder
        Of scans or pictures, NIfTI or MGZ.
    bids
        A BIDS dataset: its T1w scans, with ages of participants.tsv.
    requests
        A file of picture requests, one JSON object a line.
    seeds
        So many pictures of the checkpoint for each combination of `conditions`.
    first_seed
        The seeds count up from it.
    conditions
        Condition -> values to render; the others keep their reference value.
    placed
        The files lie in MNI space already, as pictures of this program do.
    table
        TSV with a column `file` (names in the folder), columns of facts (ventricles in
        ml, age in years) and those of `metrics`.
    metrics
        Columns that are figures of metrics, to be held against readers.
    """

    arm: str
    label: str = ""
    folder: str = ""
    bids: str = ""
    requests: str = ""
    seeds: int = 0
    first_seed: int = 0
    conditions: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    placed: bool = False
    table: str = ""
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what names no pictures, or twice."""
        given = [bool(x) for x in (self.folder, self.bids, self.requests, self.seeds)]
        if self.arm not in ARMS or sum(given) != 1:
            raise EngineError(
                f"A source of the arm {self.arm!r} names {sum(given)} places of "
                f"pictures. Choose the arm {' or '.join(ARMS)}, and one of folder, "
                "bids, requests and seeds."
            )


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture in MNI space and what is known of it; see `study.Item`."""

    volume: Volume
    arm: str
    label: str
    source: str
    facts: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    request: str = ""


def pictures(
    source: Source, renderer: Renderer, segmenter: Segmenter | None, base: Path
) -> Iterator[Picture]:
    """The pictures of `source`, each placed on the grid of the renderer's card.

    Parameters
    ----------
    base
        Folder that relative paths start from.

    Raises
    ------
    EngineError
        When there are none, or one cannot be read, placed or rendered.
    """
    if source.folder or source.bids:
        yield from _from_files(source, renderer, segmenter, base)
    else:
        yield from _rendered(source, renderer, base)


def _from_files(
    source: Source, renderer: Renderer, segmenter: Segmenter | None, base: Path
) -> Iterator[Picture]:
    from napari_brainldm.engine.conform import Preparation
    from napari_brainldm.engine.convention import conform_to
    from napari_brainldm.engine.scan_file import load_volume

    folder = base / (source.folder or source.bids)
    paths = _bids(folder) if source.bids else _files(folder)
    if not paths:
        raise EngineError(
            f"{folder} holds no scans. Give a folder with files that end in "
            f"{', '.join(SUFFIXES)}, or a BIDS dataset with T1w scans."
        )
    known = _facts(source, folder, base)
    for path in paths:
        volume = load_volume(path)
        if not source.placed:
            card = renderer.card
            volume = conform_to(card, volume, segmenter, Preparation()).volume
        row = known.get(path.name, {}) | known.get(_subject(path), {})
        facts = {k: v for k, v in row.items() if k not in source.metrics}
        metrics = {k: v for k, v in row.items() if k in source.metrics}
        name = f"{folder.name}/{_subject(path)}"
        label = source.label or source.arm
        yield Picture(volume, source.arm, label, name, facts, metrics)


def _files(folder: Path) -> list[Path]:
    names = folder.glob("*") if folder.is_dir() else ()
    return sorted(p for p in names if p.name.lower().endswith(SUFFIXES))


def _bids(folder: Path) -> list[Path]:
    return sorted(
        path
        for pattern in ("sub-*/anat", "sub-*/ses-*/anat")
        for place in folder.glob(pattern)
        for path in place.glob("*_T1w.nii*")
    )


def _subject(path: Path) -> str:
    """The person of a file: its BIDS label, else its name."""
    found = re.match(r"sub-[0-9A-Za-z]+", path.name)
    return found.group() if found else path.name.partition(".")[0]


def _facts(source: Source, folder: Path, base: Path) -> dict[str, dict[str, float]]:
    """Numbers by file name or subject."""
    table = base / source.table if source.table else folder / "participants.tsv"
    if not source.table and not (source.bids and table.is_file()):
        return {}
    if not table.is_file():
        raise EngineError(f"There is no table {table}. Correct the plan.")
    rows = read_rows(table)
    columns = set(rows[0]) if rows else set()
    missing = set(source.metrics) - columns
    if not columns & {"file", "participant_id"} or missing:
        lacks = ", ".join(sorted(missing)) or "file or participant_id"
        raise EngineError(
            f"{table.name} has the columns {', '.join(sorted(columns)) or 'none'}; "
            f"{lacks} is needed. Columns are parted by tabs: correct the table or the "
            "plan."
        )
    return {_name(row): _numbers(row) for row in rows}


def _name(row: Mapping[str, str]) -> str:
    return row.get("file") or row.get("participant_id", "")


def _numbers(row: Mapping[str, str]) -> dict[str, float]:
    """The columns that are numbers."""
    pattern = re.compile(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?")
    return {k: float(v) for k, v in row.items() if pattern.fullmatch(v.strip())}


def _rendered(source: Source, renderer: Renderer, base: Path) -> Iterator[Picture]:
    from napari_brainldm.engine.renderer import finish

    for request in _requests(source, renderer, base):
        volume = finish(renderer.render(request))
        values = request.conditions.as_dict()
        age = {"age": float(values["age"])} if "age" in values else {}
        label = source.label or renderer.card.name
        origin = request.origin
        name = f"seed {origin.value}" if isinstance(origin, Seed) else str(origin)
        yield Picture(volume, source.arm, label, name, age, {}, request.to_json())


def _requests(source: Source, renderer: Renderer, base: Path) -> list[Request]:
    if source.requests:
        return _read_requests(base / source.requests)
    names = sorted(source.conditions)
    card = renderer.card
    return [
        Request(
            card.complete(
                Conditions.of(dict(zip(names, map(_value, values), strict=True)))
            ),
            Seed(source.first_seed + number),
        )
        for number in range(source.seeds)
        for values in product(*(source.conditions[name] for name in names))
    ]


def _value(value: Value) -> Value:
    return float(value) if isinstance(value, int | float) else value


def _read_requests(path: Path) -> list[Request]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(
            f"{path} cannot be read ({error}). Give a file of requests, one a line."
        ) from error
    found = []
    for line in lines:
        if line.strip():
            plain = json.loads(line) if line.startswith("{") else {}
            found.append(Request.from_json(json.dumps(plain.get("Request", plain))))
    return found

"""Commands that look at scans: `brainldm segment` and `brainldm measure`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from napari_brainldm.commands.options import Device, Folder, Orientation, ScanFile
from napari_brainldm.engine.request import EngineError

if TYPE_CHECKING:
    from napari_brainldm.engine.finding import Finder, Finding
    from napari_brainldm.engine.volume import Volume

Method = Annotated[str, arg(help="built-in, or FreeSurfer's mri_synthseg on PATH")]
SegmenterFile = Annotated[
    Path | None, arg(metavar="SEGMENTER", help="checkpoint; default: the bundled")
]
Row = dict[str, Any]
COLUMNS = ("ventricles", "brain", "hippocampus", "icv")


@dataclass(frozen=True)
class Segment:
    """Find the structures of a scan: a label map in the scan's own space."""

    scan: Positional[ScanFile]
    out: Folder
    method: Method = "built-in"
    checkpoint: SegmenterFile = None
    orientation: Orientation = ""
    device: Device = ""


@dataclass(frozen=True)
class Measure:
    """Volumes of structures in ml, one row for each scan or generated picture."""

    scans: Positional[
        Annotated[
            tuple[Path, ...],
            arg(metavar="SCAN", help="T1-weighted scans or generated pictures"),
        ]
    ]
    json: Annotated[bool, arg(help="every structure, as one JSON list")] = False
    method: Method = "built-in"
    checkpoint: SegmenterFile = None
    orientation: Orientation = ""
    device: Device = ""


def segment(command: Segment) -> None:
    """Write the label map, its table of names and its sidecar."""
    from napari_brainldm.engine.finding import finder
    from napari_brainldm.engine.label_file import write_finding

    find = finder(command.method, command.checkpoint, command.device)
    scan, told = _loaded(command.scan, command.orientation)
    found = _found(find, scan, told)
    print(write_finding(found, scan, command.out, told.get("Synthetic") is True))


def measure(command: Measure) -> None:
    """Print the volumes; exits with 2 at the end when a scan had none."""
    from napari_brainldm.engine.finding import finder

    if not command.scans:
        raise EngineError("No scan was named. Give the files of one or more scans.")
    find = finder(command.method, command.checkpoint, command.device)
    rows = (_row(find, path, command.orientation) for path in command.scans)
    width = max(len(str(path)) for path in command.scans)
    told = list(rows if command.json else _printed(rows, width))
    if command.json:
        print(json.dumps(told, indent=1))
    if any("error" in row for row in told):
        sys.exit(2)


def _row(find: Finder, path: Path, orientation: str) -> Row:
    """Volumes of one scan, or the sentence why there are none, also on stderr."""
    try:
        return {"file": str(path)} | _volumes(find, path, orientation)
    except EngineError as error:
        print(f"{path.name}: {error}", file=sys.stderr)
        return {"file": str(path), "error": str(error)}


def _volumes(find: Finder, path: Path, orientation: str) -> Row:
    from napari_brainldm.engine.measure import measure

    found = _found(find, *_loaded(path, orientation))
    figure = found.quality and round(found.quality.figure, 3)
    return measure(found.segmentation).as_dict() | {"quality": figure}


def _printed(rows: Iterable[Row], width: int) -> Iterator[Row]:
    """The same rows, each one printed as it comes."""
    titles = "".join(f"{name:>14}" for name in COLUMNS)
    print(f"{'ml':{width}}{titles}{'quality':>10}")
    for row in rows:
        if "error" not in row:
            numbers = "".join(f"{row[name]:14.1f}" for name in COLUMNS)
            quality = "-" if row["quality"] is None else f"{row['quality']:.2f}"
            print(f"{row['file']:{width}}{numbers}{quality:>10}", flush=True)
        yield row


def _found(find: Finder, scan: Volume, told: dict[str, Any]) -> Finding:
    """A generated picture lies in MNI space, but where it was written over a scan."""
    placed = told.get("Synthetic") is True and told.get("Space", "mni") == "mni"
    return find.of_placed(scan) if placed else find.of_scan(scan)


def _loaded(path: Path, orientation: str) -> tuple[Volume, dict[str, Any]]:
    """The scan, and what this program wrote of it; empty if it is another's."""
    from napari_brainldm.engine.scan_file import load_volume, read_mark

    scan = load_volume(path, orientation=orientation or None)
    told = _sidecar(read_mark(path))
    if "Derived" in told:
        raise EngineError(
            f"{path.name} was computed from several pictures "
            f"({told['Derived'].get('operation')}), so it shows no brain to measure. "
            "Choose a scan or a generated picture."
        )
    if told.get("Intensity") == "probability":
        raise EngineError(
            f"{path.name} is a map of gray matter, in which no structures are looked "
            "for. Choose a scan or a generated T1."
        )
    return scan, told


def _sidecar(mark: str) -> dict[str, Any]:
    """What this program wrote into a header; empty for another's comment."""
    try:
        plain = json.loads(mark)
    except ValueError:
        return {}
    return plain if isinstance(plain, dict) else {}

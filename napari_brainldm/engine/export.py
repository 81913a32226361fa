"""Pictures on disk: NIfTI, its JSON sidecar, and the permanent synthetic mark."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_brainldm.engine.contrast import difference
from napari_brainldm.engine.files import write_whole, writing_into
from napari_brainldm.engine.lineage import lineage_of
from napari_brainldm.engine.request import (
    Derived,
    EngineError,
    Origin,
    Request,
    Scan,
    Through,
    scans_of,
    to_plain,
)
from napari_brainldm.engine.scan_file import save_volume
from napari_brainldm.engine.volume import Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.renderer import Renderer

MARK = "desc-synthetic"
SPACES = {"mni": "mni", "scan": "scanner"}
"""Where a picture may be written -> how NIfTI calls it."""

DESCRIPTION = "SYNTHETIC brain MRI, napari-brainldm, not a measured scan"


def record(renderer: Renderer, request: Request, picture: Volume) -> dict[str, Any]:
    """Everything needed to tell, check and re-create `picture`, as plain values."""
    return request_record(renderer, request) | {"PictureSha256": picture.digest}


def request_record(renderer: Renderer, request: Request) -> dict[str, Any]:
    """As `record`, of whatever picture `renderer` makes of `request`."""
    request = renderer.resolve(request)
    card = renderer.card
    plain = {
        "Synthetic": True,
        "Notice": card.provenance.notice,
        "Intensity": card.intensity.scaling,
        "GeneratedBy": [
            {"Name": "napari-brainldm", "Version": _version("napari-brainldm")}
        ],
        "Request": to_plain(request),
        "Checkpoint": {"name": card.name, "sha256": renderer.checkpoint.sha256},
        "OutOfTrainingRange": _extrapolated(renderer, request),
        "Device": renderer.compute.device,
        "Versions": versions(),
    }
    scan = _scan_of(request.origin)
    if scan is not None:
        plain["Scan"] = _scan_record(renderer, scan)
    if isinstance(request.origin, Through):
        plain["Visits"] = [_scan_record(renderer, s) for s in request.origin.scans]
        plain["YearsBeyondVisits"] = request.origin.beyond
    if request.conditions.fnc:
        lineage = lineage_of(renderer.fnc.of(request.conditions.fnc))
        if lineage is not None:
            plain["Connectivity"] = lineage.to_plain()
    return plain


def derived_record(
    renderer: Renderer, derived: Derived, picture: Volume
) -> dict[str, Any]:
    """As `record`, of a picture computed from several: its first request stands in."""
    plain = table_record(renderer, derived)
    return plain | {"PictureSha256": picture.digest}


def table_record(renderer: Renderer, derived: Derived) -> dict[str, Any]:
    """As `derived_record`, of numbers in a table."""
    plain = request_record(renderer, derived.requests[0])
    del plain["Request"]
    plain.pop("Connectivity", None)  # of one of several pictures
    return plain | {"Derived": derived.to_plain()}


def difference_record(
    renderer: Renderer, requests: tuple[Request, Request], picture: Volume
) -> dict[str, Any]:
    """As `record`, of the picture of the first request minus that of the second."""
    resolved = tuple(renderer.resolve(request) for request in requests)
    return derived_record(renderer, Derived("difference", (), resolved), picture)


def _extrapolated(renderer: Renderer, request: Request) -> list[str]:
    values = request.conditions.as_dict().items()
    covariate = renderer.card.covariate
    return [name for name, value in values if covariate(name).extrapolates(value)]


def _scan_of(origin: Origin) -> Scan | None:
    """The one scan a picture shows; None for noise and for several scans."""
    scans = scans_of(origin)
    return scans[0] if len(scans) == 1 else None


def _scan_record(renderer: Renderer, origin: Scan) -> dict[str, Any]:
    conformed = renderer.conformed(origin.digest)
    return {
        "Sha256": origin.digest,
        "Quality": conformed.quality.as_dict(),
        "Steps": list(conformed.steps),
        "BrainFoundBy": conformed.method,
        "N4": conformed.n4,
        "MniToScan": conformed.to_scan.tolist(),
    }


def versions() -> dict[str, str]:
    """Versions of what computes the pictures."""
    names = ("torch", "monai", "numpy", "safetensors")
    return {"python": platform.python_version()} | {n: _version(n) for n in names}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # run from a source folder
        return "not installed"


def export(
    renderer: Renderer,
    request: Request,
    picture: Volume,
    folder: Path,
    stem: str,
    space: str = "mni",
) -> Path:
    """Write a picture that `renderer` made of `request`; see `write_picture`.

    In the `space` "scan" it is resampled into the voxels of the scan it starts from.
    """
    sidecar = record(renderer, request, picture)
    placed = _in_space(renderer, request.origin, picture, sidecar, space)
    return _write(placed, sidecar, folder, marked(_spaced(stem, space)), DESCRIPTION)


def sidecar_of(folder: Path, stem: str, space: str = "mni") -> Path:
    """The sidecar that `export` writes for `stem`."""
    return folder / f"{marked(_spaced(stem, space))}_T1w.json"


def export_difference(
    renderer: Renderer,
    requests: tuple[Request, Request],
    pictures: tuple[Volume, Volume],
    folder: Path,
    stem: str,
    space: str = "mni",
) -> Path:
    """Write the signed difference first - second, with a Derived record."""
    changed = difference(*pictures)
    sidecar = difference_record(renderer, requests, changed)
    placed = _in_space(renderer, requests[0].origin, changed, sidecar, space)
    return _write(placed, sidecar, folder, marked(_spaced(stem, space)), DESCRIPTION)


def export_scan(
    renderer: Renderer, digest: str, folder: Path, stem: str, space: str = "mni"
) -> Path:
    """Write an admitted scan as the model sees it: conformed, not synthetic."""
    volume = renderer.conformed(digest).volume
    sidecar = {
        "Synthetic": False,
        "Intensity": renderer.card.intensity.scaling,
        "Scan": _scan_record(renderer, Scan(digest)),
        "PictureSha256": volume.digest,
    }
    placed = _in_space(renderer, Scan(digest), volume, sidecar, space)
    stem = f"{_spaced(stem, space)}_conformed"
    return _write(placed, sidecar, folder, stem, "conformed scan")


def check_space(space: str) -> None:
    """Raise EngineError unless pictures can be written in `space`."""
    if space not in SPACES:
        raise EngineError(
            f'"{space}" is no space to write in. Choose "mni", the model\'s grid, or '
            '"scan", the voxels of the scan.'
        )


def _in_space(
    renderer: Renderer,
    origin: Origin,
    picture: Volume,
    sidecar: dict[str, Any],
    space: str,
) -> Volume:
    """`picture` in the voxels of `space`, which `sidecar` then tells."""
    check_space(space)
    sidecar["Space"] = space
    if space == "mni":
        return picture
    scan = _scan_of(origin)
    if scan is None:
        raise EngineError(
            "This picture does not start from one scan, so it has no scan's own space "
            'to be written in. Choose the space "mni".'
        )
    placed = renderer.in_scan_space(scan.digest, picture)
    affine = placed.affine.astype(np.float32).astype(np.float64)  # as NIfTI keeps it
    placed = Volume(placed.data, affine)
    sidecar["WrittenSha256"] = placed.digest
    return placed


def _spaced(stem: str, space: str) -> str:
    """`stem` for pictures in `space`; those on the model's grid are not marked."""
    return stem if space == "mni" else f"{stem}_space-{space}"


def write_picture(
    picture: Volume, sidecar: dict[str, Any], folder: Path, stem: str
) -> Path:
    """Write `<stem>_desc-synthetic_T1w.nii.gz` and its .json into `folder`.

    The mark stands in the file name, in the NIfTI `descrip`, in a header extension that
    holds the whole sidecar, and in the sidecar.
    """
    return _write(picture, sidecar, folder, marked(stem), DESCRIPTION)


def _write(
    picture: Volume, sidecar: dict[str, Any], folder: Path, stem: str, description: str
) -> Path:
    text = json.dumps(sidecar, indent=1, sort_keys=True)
    path = folder / f"{stem}_T1w.nii.gz"
    space = SPACES[sidecar.get("Space", "mni")]
    with writing_into(folder):
        save_volume(picture, path, description, mark=text, space=space)
        write_whole(folder / f"{stem}_T1w.json", text.encode())
    return path


def marked(stem: str) -> str:
    """`stem` with the synthetic mark, once."""
    return stem if MARK in stem else f"{stem}_{MARK}"

"""Pictures on disk: NIfTI, its JSON sidecar, and the permanent synthetic mark."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_brainldm.engine.files import write_whole
from napari_brainldm.engine.request import (
    Derived,
    EngineError,
    Request,
    Scan,
    to_plain,
)
from napari_brainldm.engine.scan_file import save_volume
from napari_brainldm.engine.volume import Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.renderer import Renderer

MARK = "desc-synthetic"
DESCRIPTION = "SYNTHETIC brain MRI, napari-brainldm, not a measured scan"


def record(renderer: Renderer, request: Request, picture: Volume) -> dict[str, Any]:
    """Everything needed to tell, check and re-create `picture`, as plain values."""
    request = renderer.resolve(request)
    card = renderer.card
    plain = {
        "Synthetic": True,
        "Notice": card.provenance.notice,
        "GeneratedBy": [
            {"Name": "napari-brainldm", "Version": _version("napari-brainldm")}
        ],
        "Request": to_plain(request),
        "Checkpoint": {"name": card.name, "sha256": renderer.checkpoint.sha256},
        "OutOfTrainingRange": _extrapolated(renderer, request),
        "Device": renderer.compute.device,
        "Versions": versions(),
        "PictureSha256": picture.digest,
    }
    if isinstance(request.origin, Scan):
        plain["Scan"] = _scan_record(renderer, request.origin)
    return plain


def _extrapolated(renderer: Renderer, request: Request) -> list[str]:
    values = request.conditions.as_dict().items()
    covariate = renderer.card.covariate
    return [name for name, value in values if covariate(name).extrapolates(value)]


def _scan_record(renderer: Renderer, origin: Scan) -> dict[str, Any]:
    conformed = renderer.conformed(origin.digest)
    return {
        "Sha256": origin.digest,
        "Quality": asdict(conformed.quality),
        "Steps": list(conformed.steps),
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
    renderer: Renderer, request: Request, picture: Volume, folder: Path, stem: str
) -> Path:
    """Write a picture that `renderer` made of `request`; see `write_picture`."""
    return write_picture(picture, record(renderer, request, picture), folder, stem)


def export_difference(
    renderer: Renderer,
    requests: tuple[Request, Request],
    pictures: tuple[Volume, Volume],
    folder: Path,
    stem: str,
) -> Path:
    """Write the signed difference first - second, with a Derived record."""
    first, second = pictures
    difference = Volume(first.data - second.data, first.affine)
    resolved = tuple(renderer.resolve(request) for request in requests)
    sidecar = record(renderer, requests[0], difference)
    del sidecar["Request"]
    sidecar["Derived"] = Derived("difference", (), resolved).to_plain()
    return write_picture(difference, sidecar, folder, stem)


def export_scan(renderer: Renderer, digest: str, folder: Path, stem: str) -> Path:
    """Write an admitted scan as the model sees it: conformed, not synthetic."""
    volume = renderer.conformed(digest).volume
    sidecar = {
        "Synthetic": False,
        "Scan": _scan_record(renderer, Scan(digest)),
        "PictureSha256": volume.digest,
    }
    return _write(volume, sidecar, folder, f"{stem}_conformed", "conformed scan")


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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_volume(picture, path, description, mark=text, space="mni")
        write_whole(folder / f"{stem}_T1w.json", text.encode())
    except OSError as error:
        raise EngineError(
            f"{folder} cannot be written to ({error.strerror}). Choose a folder you "
            "may write to, on a disk with room."
        ) from error
    return path


def marked(stem: str) -> str:
    """`stem` with the synthetic mark, once."""
    return stem if MARK in stem else f"{stem}_{MARK}"

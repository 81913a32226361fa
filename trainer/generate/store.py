"""Pictures of a run on disk: NIfTI files or one Zarr array, a sidecar for each.

The sidecar is written last and holds the hash of the picture's file: a picture counts
as made when its sidecar tells that hash.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_brainldm.engine.checkpoint import file_sha256
from napari_brainldm.engine.export import DESCRIPTION, MARK, write_picture
from napari_brainldm.engine.files import write_whole, writing_into
from napari_brainldm.engine.request import EngineError, Request

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Grid, Volume
    from trainer.generate.job import Job

ARRAY = "pictures.zarr"


def sidecar_path(out: str | Path, name: str) -> Path:
    """The sidecar of participant `name`."""
    return Path(out) / name / "anat" / f"{name}_{MARK}_T1w.json"


def picture_path(job: Job, name: str, index: int) -> Path:
    """The file that holds the voxels of picture `index`."""
    if job.form == "zarr":
        return Path(job.out) / ARRAY / "c" / str(index) / "0" / "0" / "0"
    return sidecar_path(job.out, name).with_suffix(".nii.gz")


def prepare_store(job: Job, grid: Grid) -> None:
    """Make what pictures are written into."""
    if job.form != "zarr" or (Path(job.out) / ARRAY).is_dir():
        return
    zarr = _zarr()
    told = {"synthetic": DESCRIPTION, "affine": grid.matrix.tolist(), "units": "mm"}
    with writing_into(Path(job.out)):
        zarr.create_array(
            str(Path(job.out) / ARRAY),
            shape=(job.count, *grid.shape),
            chunks=(1, *grid.shape),
            dtype="float32",
            attributes={**told, "dimensions": ["picture", "i", "j", "k"]},
            overwrite=False,
        )


def write_one(
    job: Job, name: str, index: int, picture: Volume, sidecar: dict[str, Any]
) -> None:
    """Write picture `index` and, when it is there, its sidecar with its hash."""
    told = sidecar_path(job.out, name)
    path = picture_path(job, name, index)
    if job.form == "zarr":
        _write_chunk(job, index, picture)
    else:
        write_picture(picture, sidecar, told.parent, f"{name}_{MARK}")
    sealed = {
        **sidecar,
        "FileSha256": file_sha256(path),
        "FileBytes": path.stat().st_size,
    }
    text = json.dumps(sealed, indent=1, sort_keys=True)
    with writing_into(told.parent):
        write_whole(told, text.encode())


def read_sidecar(job: Job, name: str) -> dict[str, Any] | None:
    """The sidecar of a picture that is made; None of one that is not."""
    path = sidecar_path(job.out, name)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or cut short by a power failure
        return None
    whole = isinstance(found, dict) and "FileSha256" in found
    return found if whole else None


def is_made(job: Job, name: str, index: int, request: Request) -> bool:
    """Whether picture `index` is there, by its sidecar and the size of its file.

    Raises
    ------
    EngineError
        If its sidecar tells of another request or checkpoint.
    """
    found = read_sidecar(job, name)
    if found is None:
        return False
    asked = found.get("Asked"), found.get("Checkpoint", {}).get("sha256")
    if asked != (request.digest, job.sha256):
        raise EngineError(
            f"{sidecar_path(job.out, name)} belongs to another plan or checkpoint. "
            "Choose an empty folder with --out, or the plan and checkpoint this one "
            "was begun with."
        )
    path = picture_path(job, name, index)
    return path.is_file() and path.stat().st_size == found["FileBytes"]


def is_whole(job: Job, name: str, index: int, request: Request) -> bool:
    """Whether picture `index` is that of `request`, with the hash its sidecar tells."""
    found = read_sidecar(job, name)
    path = picture_path(job, name, index)
    return (
        found is not None
        and found.get("Asked") == request.digest
        and path.is_file()
        and file_sha256(path) == found["FileSha256"]
    )


def strangers(job: Job, names: Collection[str]) -> list[str]:
    """Folders of pictures that are none of `names`, sorted."""
    found = {path.name for path in Path(job.out).glob("sub-*") if path.is_dir()}
    return sorted(found - set(names))


def _write_chunk(job: Job, index: int, picture: Volume) -> None:
    zarr = _zarr()
    with writing_into(Path(job.out)):
        array = zarr.open_array(
            str(Path(job.out) / ARRAY), mode="r+", config={"write_empty_chunks": True}
        )
        array[index] = np.asarray(picture.data, np.float32)


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise EngineError(
            "Zarr is not installed here. Install napari-brainldm[cluster], or choose "
            "--format nifti."
        ) from error
    return zarr

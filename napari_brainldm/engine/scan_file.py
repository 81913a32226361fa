"""Scans from files and pictures into files.

Reading trusts nothing: sizes are checked before memory is taken, a compressed file is
read to its end so that its checksum counts, and whatever is wrong becomes one
`EngineError` with one sentence. Oddities that do not stop the reading are returned by
`read_scan` as notes; `load_volume` gives each of them as a `ScanWarning`.

Writing starts from an empty header, so that no name or date of a patient survives.
"""

from __future__ import annotations

import gzip
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.files import write_whole
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.scan_header import (
    HEADER_BYTES,
    ScanHeader,
    axis_angles_cosine,
    is_mgh,
    oriented,
    parse_header,
)
from napari_brainldm.engine.volume import Array, Volume

SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")

MAX_VALUE = 1e9
"""Largest intensity taken for one: more comes from a wrong scaling."""

MOST_LOST = 0.99
"""Share of voxels that may be no numbers: some programs write none around a brain."""

MAX_RATIO, RATIO_FROM_BYTES = 300, 64 * 2**20
"""A compressed file may grow this many times, asked from this size on."""

MAX_TRAILING_BYTES = 64 * 2**20
"""Bytes allowed behind the last voxel."""

SPACES = {"scanner": 1, "aligned": 2, "mni": 4}
"""NIfTI codes of what the coordinates mean."""

_COMMENT_CODE = 6
_LAYOUTS = {
    struct.pack(order + "i", size): (order, size + 4)
    for order in "<>"
    for size in (348, 540)
}
"""First four bytes of a NIfTI file -> byte order, start of the extensions."""

_CHUNK = 2**20
_UNREADABLE = (OSError, EOFError, zlib.error)


class ScanWarning(UserWarning):
    """A sentence to the user about something odd, but usable, in a scan file."""


@dataclass(frozen=True, eq=False)
class Reading:
    """A scan and what the user should know of it: one sentence per note."""

    volume: Volume
    notes: tuple[str, ...]


def load_volume(
    path: str | Path, orientation: str | None = None, volume_index: int | None = None
) -> Volume:
    """Read the scan at `path`; see `read_scan`. Each note becomes a `ScanWarning`."""
    reading = read_scan(path, orientation, volume_index)
    for note in reading.notes:
        warnings.warn(f"{Path(path).name}: {note}", ScanWarning, stacklevel=2)
    return reading.volume


def read_scan(
    path: str | Path, orientation: str | None = None, volume_index: int | None = None
) -> Reading:
    """Read a NIfTI (.nii, .nii.gz) or FreeSurfer (.mgz, .mgh) scan.

    Parameters
    ----------
    path
        The file.
    orientation
        Directions in which (i, j, k) grow, such as "RAS" or "LPS", stated by the user
        for a file that does not say them. Refused when the file says otherwise.
    volume_index
        Which picture to take from a series, from 0.

    Raises
    ------
    EngineError
        When the file is missing, damaged, unsafe to open or not one 3D scan.
    """
    path = Path(path)
    _check_path(path)
    try:
        with _open(path) as stream:
            header = parse_header(_head(stream, path), path.name)
            _check_ratio(header, path)
            stored = _picture_of(stream, header, path, volume_index)
    except _UNREADABLE as error:
        raise _damaged(path, str(error)) from error
    affine = oriented(header, orientation, path.name)
    data, notes = _values(stored, header, path.name)
    return Reading(Volume(data, affine), (*header.notes, *notes))


def _check_path(path: Path) -> None:
    if path.is_dir():
        raise EngineError(f"{path.name} is a folder. Choose one scan file in it.")
    if not path.is_file():
        raise EngineError(f"There is no file {path}. Check the name and the folder.")
    if not path.name.lower().endswith(SUFFIXES):
        raise EngineError(
            f"{path.name} is not a scan by its name. A file that ends in "
            f"{', '.join(SUFFIXES)} is needed: convert the scan to NIfTI."
        )


def _is_compressed(path: Path) -> bool:
    return path.name.lower().endswith((".gz", ".mgz"))


def _open(path: Path) -> IO[bytes]:
    """The uncompressed bytes of `path`, whatever is missing said."""
    with path.open("rb") as raw:
        start = raw.read(132)
    if not start:
        raise _damaged(path, "it is empty")
    compressed = start[:2] == b"\x1f\x8b"
    if compressed and not _is_compressed(path):
        raise EngineError(
            f"{path.name} is compressed, which its name does not say. Rename it to end "
            "in .nii.gz (or .mgz) and open it again."
        )
    if _is_compressed(path) and not compressed and start[128:132] != b"DICM":
        raise EngineError(
            f"{path.name} is not compressed, although its name says so. Rename it to "
            "end in .nii (or .mgh) and open it again; if that fails, it is damaged."
        )
    return cast("IO[bytes]", gzip.open(path)) if compressed else path.open("rb")


def _head(stream: IO[bytes], path: Path) -> bytes:
    raw = stream.read(HEADER_BYTES)
    if len(raw) < (284 if is_mgh(path.name) else 348):
        raise _damaged(path, f"it ends after {len(raw)} bytes, inside the header")
    return raw


def _damaged(path: Path, why: str) -> EngineError:
    return EngineError(
        f"{path.name} cannot be read ({why}). The file is damaged, incomplete or not a "
        "scan: copy it again from its source."
    )


def _check_ratio(header: ScanHeader, path: Path) -> None:
    stored = path.stat().st_size
    if header.total_bytes > max(RATIO_FROM_BYTES, MAX_RATIO * stored):
        raise EngineError(
            f"{path.name} holds {stored / 1e6:.3g} MB but claims "
            f"{header.total_bytes / 1e6:.3g} MB of voxels, which no scan does. "
            "The file is damaged or made to harm: copy it again from its source."
        )


def _picture_of(
    stream: IO[bytes], header: ScanHeader, path: Path, index: int | None
) -> NDArray[Any]:
    """The stored numbers (i, j, k) of one picture; `stream` is read to its end."""
    picture = _chosen(header, path.name, index)
    stream.seek(header.offset + picture * header.picture_bytes)
    raw = stream.read(header.picture_bytes)
    _drain(stream, header, path)
    if len(raw) < header.picture_bytes:
        raise _damaged(path, "it ends before the last voxel")
    return np.frombuffer(raw, header.dtype).reshape(header.shape[:3], order="F")


def _chosen(header: ScanHeader, name: str, index: int | None) -> int:
    """Which picture of the file to take, from 0."""
    pictures = header.shape[3]
    if index is None and pictures == 1:
        return 0
    if index is None:
        raise EngineError(
            f"{name} is a series of {pictures} pictures. One 3D scan is needed: export "
            f"one of them, or state which to take (volume_index 0 to {pictures - 1})."
        )
    if not 0 <= index < pictures:
        raise EngineError(
            f"{name} has no picture {index}: it holds {pictures}, counted from 0 to "
            f"{pictures - 1}. Choose one of these."
        )
    return index


def _drain(stream: IO[bytes], header: ScanHeader, path: Path) -> None:
    """Read to the end: gzip compares its checksum only there."""
    end = header.total_bytes + MAX_TRAILING_BYTES
    while stream.read(_CHUNK):
        if stream.tell() > end:
            raise _damaged(path, "it goes on far behind the last voxel")
    if stream.tell() < header.total_bytes:
        raise _damaged(path, "it ends before the last voxel")


def _values(
    stored: NDArray[Any], header: ScanHeader, name: str
) -> tuple[Array, tuple[str, ...]]:
    """Intensities float32 (i, j, k), finite and plausible, with notes."""
    slope, inter = header.scaling
    with np.errstate(over="ignore", invalid="ignore"):
        data = stored.astype(np.float32)
        if header.scaling != (1.0, 0.0):
            data = (data.astype(np.float64) * slope + inter).astype(np.float32)
    finite = np.isfinite(data)
    lost = int(data.size - np.count_nonzero(finite))
    if lost > MOST_LOST * data.size:
        raise EngineError(
            f"{name}: {100 * lost / data.size:.0f} % of the voxels are not numbers. "
            "The scan is damaged: convert or export it anew."
        )
    data[~finite] = 0.0
    _check_range(data, name)
    return data, _value_notes(data, lost)


def _check_range(data: Array, name: str) -> None:
    largest = float(max(-data.min(), data.max()))
    if largest > MAX_VALUE:
        raise EngineError(
            f"{name} reaches intensities of {largest:.2g}, which no scan has. Its "
            "intensity scaling is damaged: convert the scan anew."
        )


def _value_notes(data: Array, lost: int) -> tuple[str, ...]:
    notes = []
    if lost:
        notes.append(f"{lost} voxels were not finite numbers and were set to 0.")
    if data.min() == data.max():
        notes.append("Every voxel has the same intensity: the scan is empty.")
    return tuple(notes)


def save_volume(
    volume: Volume,
    path: str | Path,
    description: str = "",
    mark: str = "",
    space: str = "aligned",
) -> None:
    """Write `volume` as float32 NIfTI-1 with a header made from nothing else.

    The file appears whole or not at all: it is written beside its place, flushed to
    disk and then moved. The same arguments give the same bytes.

    Parameters
    ----------
    volume
        The picture; units mm, affine stored as sform and (without shear) as qform.
    path
        Ends in .nii or .nii.gz; an existing file is replaced.
    description
        Header field `descrip`, cut to 79 bytes.
    mark
        Text kept in a comment extension of the header; `read_mark` gives it back.
    space
        What the coordinates mean: "scanner", "aligned" or "mni".

    Raises
    ------
    EngineError
        When the name or the space is wrong or the file cannot be written.
    """
    path = Path(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise EngineError(
            f"Pictures are written as NIfTI. End the name {path.name} in .nii.gz."
        )
    content = _nifti_bytes(volume, description, mark, space)
    if _is_compressed(path):
        content = gzip.compress(content, compresslevel=6, mtime=0)
    try:
        write_whole(path, content)
    except OSError as error:
        raise EngineError(
            f"{path.name} could not be written ({error.strerror}). Choose a folder you "
            "may write to, on a disk with room; an older file there is untouched."
        ) from error


def _nifti_bytes(volume: Volume, description: str, mark: str, space: str) -> bytes:
    from nibabel.nifti1 import Nifti1Extension, Nifti1Image

    if space not in SPACES:
        raise EngineError(
            f'"{space}" is not a space. Choose one of {", ".join(sorted(SPACES))}.'
        )
    image: Any = cast("Any", Nifti1Image)(np.asarray(volume.data, np.float32), None)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = _cut(description, 79)
    straight = axis_angles_cosine(volume.affine) < 1e-6
    image.set_sform(volume.affine, SPACES[space])
    image.set_qform(volume.affine, SPACES[space] if straight else 0)
    if mark:
        comment = Nifti1Extension("comment", mark.encode())
        image.header.extensions.append(comment)
    return bytes(image.to_bytes())


def _cut(text: str, size: int) -> bytes:
    """UTF-8 of `text`, at most `size` bytes, no character broken."""
    return text.encode()[:size].decode(errors="ignore").encode()


def read_mark(path: str | Path) -> str:
    """The comment that `save_volume` put into the header; empty when there is none."""
    path = Path(path)
    _check_path(path)
    if is_mgh(path.name):
        return ""
    try:
        with _open(path) as stream:
            header = parse_header(_head(stream, path), path.name)
            stream.seek(0)
            return _comment(stream.read(header.offset))
    except _UNREADABLE as error:
        raise _damaged(path, str(error)) from error


def _comment(raw: bytes) -> str:
    """The first comment extension in the bytes before the voxels."""
    order, start = _LAYOUTS.get(raw[:4], ("<", len(raw)))
    while start + 8 <= len(raw):
        size, code = struct.unpack(f"{order}2i", raw[start : start + 8])
        if size < 8:
            return ""
        if code == _COMMENT_CODE:
            content = raw[start + 8 : start + size]
            return content.rstrip(b"\0").decode("utf-8", errors="replace")
        start += size
    return ""

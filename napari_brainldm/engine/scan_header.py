"""What a scan file says of itself, checked before a single voxel is read.

NIfTI-1, NIfTI-2 and MGH headers are parsed by nibabel without its own checks, which let
unusable headers pass; every check stands here and ends in an `EngineError`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Affine

HEADER_BYTES = 544
"""Enough for every header read here: NIfTI-2 (540) and the extension flag."""

MAX_VOXELS = 512**3
"""Largest picture taken: 0.5 GiB as float32."""

MAX_SERIES_BYTES = 4 * 2**30
"""Largest file (uncompressed) from which one picture is picked."""

MIN_VOXEL_MM, MAX_VOXEL_MM = 0.05, 20.0

SHEAR = 0.01
"""Cosine between two voxel axes (0.6 degrees) above which a note is given."""

_NIFTI_REAL = (2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280)
_NIFTI_COLOUR, _NIFTI_COMPLEX = (128, 2304), (32, 1792, 2048)
_MGH_DTYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}

_BAD_HEADER = (ValueError, TypeError, KeyError, OverflowError, struct.error)


@dataclass(frozen=True, eq=False)
class ScanHeader:
    """Where the voxels of a scan file are, what they mean and where they lie.

    Attributes
    ----------
    shape
        Voxels along (i, j, k) and, last, the number of pictures (1 for a plain scan).
    dtype
        Type of the stored numbers, with byte order.
    offset
        Byte at which the voxels start, in the uncompressed file.
    scaling
        (slope, intercept): value = slope * stored + intercept.
    affine
        4 x 4, voxel -> RAS+ mm; None when the file states no orientation.
    zooms
        Voxel edge lengths in mm.
    notes
        Sentences to the user about what was odd but usable.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    offset: int
    scaling: tuple[float, float]
    affine: Affine | None
    zooms: tuple[float, float, float]
    notes: tuple[str, ...] = ()

    @property
    def picture_bytes(self) -> int:
        """Stored bytes of one picture."""
        i, j, k, _ = self.shape
        return i * j * k * self.dtype.itemsize

    @property
    def total_bytes(self) -> int:
        """Bytes of the uncompressed file up to the last voxel."""
        return self.offset + self.shape[3] * self.picture_bytes


def parse_header(raw: bytes, name: str) -> ScanHeader:
    """Parse the first `HEADER_BYTES` of an uncompressed scan file called `name`.

    Raises
    ------
    EngineError
        On anything but a readable, plausible NIfTI or MGH header.
    """
    if len(raw) >= 132 and raw[128:132] == b"DICM":
        raise EngineError(
            f"{name} is a DICOM file with another name. A NIfTI file is needed: "
            "convert the whole series with a DICOM converter, for instance dcm2niix."
        )
    parse = _parse_mgh if is_mgh(name) else _parse_nifti
    try:
        with np.errstate(all="ignore"):
            return _checked(parse(raw, name), name)
    except _BAD_HEADER as error:
        raise _broken(name, str(error)) from error


def is_mgh(name: str) -> bool:
    """Whether the suffix of `name` is FreeSurfer's."""
    return name.lower().endswith((".mgz", ".mgh"))


def axis_angles_cosine(affine: Affine) -> float:
    """Largest absolute cosine between two voxel axes: 0 where all are at 90 degrees."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def _broken(name: str, why: str) -> EngineError:
    return EngineError(
        f"The header of {name} cannot be used ({why}). The file is damaged or not a "
        "brain scan: copy it again from its source or convert the scan anew."
    )


def _parse_nifti(raw: bytes, name: str) -> ScanHeader:
    header = _nifti_struct(raw, name)
    dtype = _nifti_dtype(header, name)
    scaling, notes = _nifti_scaling(header)
    return ScanHeader(
        _shape([int(n) for n in header["dim"][1 : 1 + int(header["dim"][0])]], name),
        dtype,
        _nifti_offset(header, name),
        scaling,
        _nifti_affine(header, name),
        _zooms(header["pixdim"][1:4] * _unit_mm(header)),
        notes,
    )


def _nifti_struct(raw: bytes, name: str) -> Any:
    """The header of `raw` as a nibabel header, byte order found, nothing checked."""
    import nibabel as nib

    first, second = raw[344:348], raw[4:12]
    if second.startswith(b"n+2\0"):
        kind: Any = nib.nifti2.Nifti2Header
    elif first == b"n+1\0":
        kind = nib.nifti1.Nifti1Header
    elif first == b"ni1\0" or second.startswith(b"ni2\0"):
        raise _broken(name, "it belongs to a .hdr/.img pair; one .nii file is needed")
    else:
        raise _broken(name, "it carries no NIfTI mark")
    header = kind(raw[: kind.sizeof_hdr], check=False)
    if not 1 <= int(header["dim"][0]) <= 7:
        raise _broken(name, f"it claims {int(header['dim'][0])} dimensions")
    return header


def _nifti_dtype(header: Any, name: str) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code in _NIFTI_COLOUR:
        raise EngineError(
            f"{name} is a colour picture (red, green, blue in each voxel). A scan with "
            "one intensity per voxel is needed: choose the original T1-weighted scan."
        )
    if code in _NIFTI_COMPLEX:
        raise EngineError(
            f"{name} holds complex numbers (magnitude and phase). Export the magnitude "
            "image and open that."
        )
    if code not in _NIFTI_REAL:
        raise _broken(name, f"unknown type of numbers, code {code}")
    dtype: np.dtype[Any] = np.dtype(header.get_data_dtype())
    return dtype.newbyteorder(header.endianness)


def _nifti_offset(header: Any, name: str) -> int:
    offset = float(header["vox_offset"])
    smallest = int(header.single_vox_offset)
    if offset == 0:
        return smallest
    if not smallest <= offset <= 2**26:
        raise _broken(name, f"the voxels are said to start at byte {offset:g}")
    return int(offset)


def _nifti_scaling(header: Any) -> tuple[tuple[float, float], tuple[str, ...]]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope != 0 and np.isfinite(slope) and np.isfinite(inter):
        return (slope, inter), ()
    note = (
        f"The header states no usable intensity scaling (slope {slope:g}, intercept "
        f"{inter:g}); the stored numbers are used as they are."
    )
    return (1.0, 0.0), (note,)


def _unit_mm(header: Any) -> float:
    return _UNIT_MM.get(int(header["xyzt_units"]) & 7, 1.0)


def _nifti_affine(header: Any, name: str) -> Affine | None:
    """The sform, else the qform, in mm; None when neither is stated."""
    if header["pixdim"][0] == 0:  # the standard reads 0 as 1, nibabel refuses it
        header["pixdim"][0] = 1
    sform = header.get_sform() if int(header["sform_code"]) > 0 else None
    qform = _qform(header, name) if int(header["qform_code"]) > 0 else None
    if sform is not None and qform is not None and _mirrored(sform, qform):
        raise EngineError(
            f"{name} states two orientations that disagree about left and right. "
            "Find out which is true and convert the scan anew."
        )
    affine = qform if sform is None else sform
    if affine is None:
        return None
    in_mm = np.array(affine, np.float64)
    in_mm[:3] *= _unit_mm(header)
    return in_mm


def _qform(header: Any, name: str) -> Affine:
    from nibabel.spatialimages import HeaderDataError

    try:
        return np.asarray(header.get_qform(), np.float64)
    except (HeaderDataError, ValueError) as error:
        raise EngineError(
            f"{name} states an orientation that is none ({error}). Convert the scan "
            "anew from its source."
        ) from error


def _mirrored(first: Affine, second: Affine) -> bool:
    signs = np.linalg.det(first[:3, :3]), np.linalg.det(second[:3, :3])
    return bool(signs[0] * signs[1] < 0)


def _parse_mgh(raw: bytes, name: str) -> ScanHeader:
    version, *dims, code, _dof, good = struct.unpack(">7ih", raw[:30])
    if version != 1:
        raise _broken(name, f"MGH version {version}, 1 is needed")
    if code not in _MGH_DTYPES:
        raise _broken(name, f"unknown type of numbers, code {code}")
    numbers = np.frombuffer(raw[30:90], ">f4").astype(np.float64)
    zooms, cosines, centre = numbers[:3], numbers[3:12].reshape(3, 3).T, numbers[12:]
    shape = _shape(list(dims), name)
    affine = None
    if good > 0:
        affine = np.eye(4)
        affine[:3, :3] = cosines * zooms
        affine[:3, 3] = centre - affine[:3, :3] @ (np.array(shape[:3]) / 2)
    dtype = np.dtype(_MGH_DTYPES[code])
    known = zooms if good > 0 else np.ones(3)
    return ScanHeader(shape, dtype, 284, (1.0, 0.0), affine, _zooms(known))


def _zooms(values: NDArray[np.float64]) -> tuple[float, float, float]:
    i, j, k = (float(abs(v)) for v in values)
    return i, j, k


def _shape(dims: list[int], name: str) -> tuple[int, int, int, int]:
    """(i, j, k, pictures) of the stored dimensions."""
    if any(n < 1 for n in dims):
        raise _broken(name, f"it claims {dims} voxels")
    while len(dims) > 4 and dims[-1] == 1:
        dims = dims[:-1]
    if len(dims) > 4:
        raise EngineError(
            f"{name} has {len(dims)} dimensions ({_times(dims)}). A single 3D scan is "
            "needed: export one picture of it."
        )
    if len(dims) < 3 or min(dims[:3]) < 2:
        raise EngineError(
            f"{name} holds a single slice ({_times(dims)}). A 3D scan is needed."
        )
    i, j, k, pictures = (*dims, 1)[:4]
    return i, j, k, pictures


def _times(dims: list[int]) -> str:
    return " x ".join(str(n) for n in dims)


def _checked(header: ScanHeader, name: str) -> ScanHeader:
    """`header` when its sizes and its geometry are plausible."""
    _check_size(header, name)
    sizes = np.array(header.zooms)
    if header.affine is not None:
        if not np.isfinite(header.affine).all():
            raise _broken(name, "its orientation holds numbers that are not finite")
        sizes = np.linalg.norm(header.affine[:3, :3], axis=0)
    if not ((sizes >= MIN_VOXEL_MM) & (sizes <= MAX_VOXEL_MM)).all():
        shown = " x ".join(f"{size:g}" for size in sizes)
        raise _broken(name, f"voxels of {shown} mm")
    return header if header.affine is None else _checked_axes(header, name)


def _check_size(header: ScanHeader, name: str) -> None:
    voxels = header.picture_bytes // header.dtype.itemsize
    if voxels > MAX_VOXELS or header.total_bytes > MAX_SERIES_BYTES:
        raise EngineError(
            f"{name} claims {_times(list(header.shape))} voxels, "
            f"{header.total_bytes / 2**30:.3g} GiB. At most {MAX_VOXELS / 1e6:.0f} "
            "million voxels can be opened: resample the scan to 0.5 mm or coarser."
        )


def _checked_axes(header: ScanHeader, name: str) -> ScanHeader:
    assert header.affine is not None
    axes = header.affine[:3, :3] / np.linalg.norm(header.affine[:3, :3], axis=0)
    if abs(np.linalg.det(axes)) < 0.1:
        raise _broken(name, "two of its voxel axes point the same way")
    cosine = axis_angles_cosine(header.affine)
    if cosine <= SHEAR:
        return header
    angle = np.degrees(np.arcsin(min(cosine, 1.0)))
    note = (
        f"The voxel axes are {angle:.1f} degrees off a right angle (a tilted gantry, "
        "or a scan warped to another). Placing the scan straightens it."
    )
    return replace(header, notes=(*header.notes, note))


def axis_codes(affine: Affine) -> tuple[str, ...]:
    """Closest directions in which (i, j, k) grow, such as ("L", "A", "S")."""
    import nibabel as nib

    letters: Any = nib
    return tuple(letters.aff2axcodes(affine))


def oriented(header: ScanHeader, orientation: str | None, name: str) -> Affine:
    """Voxel -> RAS+ mm, from the file or, where it is silent, from the user."""
    codes = None if orientation is None else _axis_codes(orientation)
    if header.affine is None and codes is None:
        raise EngineError(
            f"{name} does not say which way its voxels run, so left and right cannot "
            'be told apart. State the orientation, for instance "RAS" or "LAS", if you '
            "know it for certain; otherwise convert the scan anew."
        )
    if header.affine is None:
        assert codes is not None
        return _stated_affine(header, codes)
    found = "".join(axis_codes(header.affine))
    if codes is not None and "".join(codes) != found:
        raise EngineError(
            f"{name} says its orientation is {found}, not {orientation}. "
            "Leave the orientation out to follow the file."
        )
    return header.affine


def _axis_codes(orientation: str) -> tuple[str, ...]:
    codes = tuple(orientation.upper())
    if sorted(_world_axis(code) for code in codes) != [0, 1, 2]:
        raise EngineError(
            f'"{orientation}" is not an orientation. Three letters are needed, one of '
            'L/R, one of P/A and one of I/S, for instance "RAS" or "LPS".'
        )
    return codes


def _world_axis(code: str) -> int:
    """0 for left-right, 1 for back-front, 2 for down-up; -1 for anything else."""
    pairs = ("LR", "PA", "IS")
    return next((axis for axis, pair in enumerate(pairs) if code in pair), -1)


def _stated_affine(header: ScanHeader, codes: tuple[str, ...]) -> Affine:
    """Voxel axes along `codes`, the middle of the scan at 0 mm."""
    affine = np.zeros((4, 4))
    for axis, code in enumerate(codes):
        sign = 1.0 if code in "RAS" else -1.0
        affine[_world_axis(code), axis] = sign * header.zooms[axis]
    affine[:3, 3] = -affine[:3, :3] @ (np.array(header.shape[:3]) - 1) / 2
    affine[3, 3] = 1.0
    return affine

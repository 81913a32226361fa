"""Files of functional connectivity: GIFT's, tables, numpy arrays, HCP's text.

Reading trusts nothing: arrays are never unpickled, and whatever is wrong becomes one
`EngineError` with one sentence.
"""

from __future__ import annotations

import csv
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_brainldm.engine.components import named_components
from napari_brainldm.engine.fnc import Fnc, FncTable, check_once, connections, count_of
from napari_brainldm.engine.fnc_array import SCALES, Numbers, to_z, vectors_of
from napari_brainldm.engine.request import UNREADABLE, EngineError

SUFFIXES = (".mat", ".npy", ".npz", ".csv", ".tsv", ".txt")

GIFT_VARIABLE = "fnc_corrs_all"
"""Of *_postprocess_results.mat: subjects x sessions x n x n, Fisher z."""

MAX_BYTES = 4 * 2**30
"""Larger arrays are not connectivity."""

ID_COLUMNS = ("id", "participant_id", "subject", "subject_id", "participant", "sub")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAT_HDF5_AT = 512
_BETWEEN = "_vs_"
_LEAST_COUNTED = 3
"""Cells that rise by 1 from which on they are numbers of columns."""

_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    NotImplementedError,
    zlib.error,
    zipfile.BadZipFile,
)
"""What scipy, h5py and numpy raise on a damaged file is not of one kind."""


@dataclass(frozen=True, eq=False)
class _Found:
    """What a file holds: numbers, perhaps ids, perhaps the scale its writer uses."""

    array: Numbers
    participants: tuple[str, ...] = ()
    scale: str = ""
    notes: tuple[str, ...] = ()


def read_fnc(
    path: str | Path,
    scale: str = "",
    session: int | None = None,
    participants: Path | None = None,
    components: Path | None = None,
) -> FncTable:
    """Read the connectivity of one or several people.

    Parameters
    ----------
    path
        GIFT's *_postprocess_results.mat (any version), a CSV or TSV of ids and upper
        triangles, .npy or .npz of (N, p) or (N, n, n), text of one flattened matrix
        per row (HCP netmats), or one square matrix as text.
    scale
        "r" or "z"; empty for what GIFT writes, what "Scale" says in a .json of the same
        name beside the file, or what the values tell. "Groups" there, an object of
        participants and their groups, says who belongs together.
    session
        Which of several sessions of a GIFT file, from 0.
    participants
        Text file with one id per row, for files that name nobody; of a table with a
        head, the first column.
    components
        TSV of index, name and domain; None for NeuroMark 1.0 where there are 53.

    Raises
    ------
    EngineError
        If the file is missing, of another kind, not symmetric, not finite, or names
        somebody twice.
    """
    path = Path(path)
    _check_path(path)
    found = _read(path)
    chosen = vectors_of(found.array, path.name, session)
    beside = _sidecar(path)
    vectors, told = to_z(chosen, scale or found.scale or beside.scale, path.name)
    names, numbered = _names(found.participants, len(vectors), participants)
    check_once(path.name if participants is None else participants.name, names)
    count = count_of(vectors.shape[1])
    known, guessed = named_components(components, count)
    head = f"{len(vectors)} participants, {count} components."
    notes = (head, *found.notes, *told, *guessed)
    return FncTable(names, vectors, known, numbered, notes, beside.of(names))


def write_fnc(rows: Sequence[Fnc]) -> str:
    """The text of a table that `read_fnc` reads: Id and upper triangle, Fisher z."""
    count = rows[0].count
    pairs = zip(*np.triu_indices(count, 1), strict=True)
    head = ["Id", *(f"{j + 1}{_BETWEEN}{i + 1}" for i, j in pairs)]
    lines = [",".join(head)]
    lines += [",".join([r.name, *(f"{v:.6g}" for v in r.vector)]) for r in rows]
    return "\n".join(lines) + "\n"


def _check_path(path: Path) -> None:
    if not path.is_file():
        raise EngineError(f"There is no file {path}. Check the name and the folder.")
    if path.suffix.lower() not in SUFFIXES:
        raise EngineError(
            f"{path.name} is no file of connectivity by its name. One that ends in "
            f"{', '.join(SUFFIXES)} is needed."
        )
    if path.stat().st_size > MAX_BYTES:
        raise _too_large(path, path.stat().st_size)


@dataclass(frozen=True)
class _Sidecar:
    """What a .json of the same name tells: the scale, and groups by participant."""

    scale: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)

    def of(self, participants: Sequence[str]) -> tuple[str, ...]:
        """The group of each; empty where nobody's is told."""
        found = tuple(str(self.groups.get(name, "")) for name in participants)
        return found if any(found) else ()


def _sidecar(path: Path) -> _Sidecar:
    """An empty one where there is none, or none that can be read."""
    try:
        plain = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        scale, groups = plain.get("Scale", ""), plain.get("Groups", {})
    except (OSError, *UNREADABLE):
        return _Sidecar()
    return _Sidecar(
        scale if scale in SCALES else "", groups if isinstance(groups, dict) else {}
    )


def _too_large(path: Path, size: int) -> EngineError:
    return EngineError(
        f"{path.name} holds {size / 1e9:.3g} GB, more than any connectivity. Choose "
        "the file of the correlations, not of the time courses."
    )


def _read(path: Path) -> _Found:
    readers = {".mat": _read_mat, ".npy": _read_npy, ".npz": _read_npz}
    reader = readers.get(path.suffix.lower(), _read_text)
    try:
        return reader(path)
    except EngineError:
        raise
    except _DAMAGED as error:
        raise EngineError(
            f"{path.name} cannot be read ({error}). The file is damaged or of another "
            "kind: export it anew."
        ) from error


# MATLAB -------------------------------------------------------------------------------


def _read_mat(path: Path) -> _Found:
    with path.open("rb") as file:
        start = file.read(_MAT_HDF5_AT + len(_HDF5))
    if start.startswith(_HDF5) or start[_MAT_HDF5_AT:] == _HDF5:
        array, told = _read_mat_hdf5(path)
    else:
        array, told = _read_mat_old(path)
    return _Found(np.asarray(array, np.float64), (), "z" if not told else "", told)


def _read_mat_old(path: Path) -> tuple[Any, tuple[str, ...]]:
    """The array of a file up to version 7, and what to know of it."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        shapes = {name: shape for name, shape, _ in whosmat(path)}
        chosen, told = _chosen(path, shapes)
        return loadmat(path, variable_names=[chosen])[chosen], told
    except MatReadError as error:  # an Exception and nothing else, as of an empty file
        raise ValueError(error) from error


def _read_mat_hdf5(path: Path) -> tuple[Any, tuple[str, ...]]:
    """The same of version 7.3: HDF5, whose axes are MATLAB's reversed."""
    import h5py

    with h5py.File(path, "r") as file:
        arrays = {k: v for k, v in file.items() if isinstance(v, h5py.Dataset)}
        chosen, told = _chosen(path, {k: v.shape[::-1] for k, v in arrays.items()})
        if arrays[chosen].nbytes > MAX_BYTES:
            raise _too_large(path, arrays[chosen].nbytes)
        return np.asarray(arrays[chosen]).T, told


def _chosen(
    path: Path, shapes: dict[str, tuple[int, ...]]
) -> tuple[str, tuple[str, ...]]:
    """The variable with the connectivity: GIFT's, or the only one it can be."""
    if GIFT_VARIABLE in shapes:
        return GIFT_VARIABLE, ()
    fitting = [
        name
        for name, shape in shapes.items()
        if len(shape) in (2, 3, 4) and shape[-1] == shape[-2] >= 3
    ]
    if len(fitting) != 1:
        raise EngineError(
            f"{path.name} has no variable {GIFT_VARIABLE}; it holds "
            f"{', '.join(shapes) or 'nothing'}. Choose GIFT's "
            "*_postprocess_results.mat."
        )
    return fitting[0], (f"The variable {fitting[0]} was taken, the only square one.",)


# numpy --------------------------------------------------------------------------------


def _read_npy(path: Path) -> _Found:
    array = np.load(path, allow_pickle=False)
    return _Found(_numbers(array, path))


def _read_npz(path: Path) -> _Found:
    """One array of numbers, perhaps one of ids."""
    with np.load(path, allow_pickle=False) as held:
        arrays = {name: held[name] for name in held.files}
    texts = {k: v for k, v in arrays.items() if v.dtype.kind in "US" and v.ndim == 1}
    numbers = {k: v for k, v in arrays.items() if v.dtype.kind in "fiu" and v.ndim > 1}
    if len(numbers) != 1 or len(texts) > 1:
        raise EngineError(
            f"{path.name} holds the arrays {', '.join(arrays) or 'none'}. One array of "
            "connectivity, and at most one of ids, are needed."
        )
    ids = tuple(str(name) for array in texts.values() for name in array.astype(str))
    (array,) = numbers.values()
    return _Found(_numbers(array, path), ids)


def _numbers(array: Any, path: Path) -> Numbers:
    if array.dtype.kind not in "fiu" or array.nbytes > MAX_BYTES:
        raise EngineError(
            f"{path.name} holds an array of {array.dtype} in the shape {array.shape}. "
            "Real numbers are needed."
        )
    return np.asarray(array, np.float64)


# Text ---------------------------------------------------------------------------------


def _read_text(path: Path) -> _Found:
    rows = _cells(path)
    head = rows[0] if _is_head(rows[0]) else None
    body = rows[1:] if head else rows
    widths = {len(row) for row in body}
    if len(widths) != 1:
        raise EngineError(
            f"{path.name} has rows of {sorted(widths)[:3]} values. Every row must have "
            "as many as the others, and there must be one."
        )
    if not _has_ids(head, body):
        return _Found(_floats(body, path))
    _check_order(path, head[1:] if head else [])
    ids = tuple(row[0].strip() for row in body)
    return _Found(_floats([row[1:] for row in body], path), ids)


def _cells(path: Path) -> list[list[str]]:
    """Rows of cells, split at the mark that the first row uses."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise EngineError(f"{path.name} is empty. Choose a file with connectivity.")
    mark = next((m for m in ("\t", ",", ";") if m in lines[0]), None)
    if mark is None:
        return [line.split() for line in lines]
    return list(csv.reader(lines, delimiter=mark))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_head(row: list[str]) -> bool:
    """Whether a row names columns: by texts, by its first cell, or as numbers do.

    A data frame's columns are numbered; nobody's connectivity is 0, 1, 2 and so on.
    """
    if sum(not _is_number(cell) for cell in row) > 1:
        return True
    if len(row) < _LEAST_COUNTED or any(not _is_number(cell) for cell in row[1:]):
        return False
    if row[0].strip().lower() in ("", *ID_COLUMNS):
        return True
    if not _is_number(row[0]):
        return False
    return bool((np.diff(np.array(row, np.float64)) == 1).all())


def _has_ids(head: list[str] | None, body: list[list[str]]) -> bool:
    """Whether the first column holds ids: by its name, its texts, or the count."""
    if head and head[0].strip().lower() in ("", *ID_COLUMNS):
        return True
    if not all(_is_number(row[0]) for row in body):
        return True
    width = len(body[0])
    return not _fits(width, len(body)) and _fits(width - 1, 0)


def _fits(width: int, rows: int) -> bool:
    """Whether `width` numbers can be connectivity: a triangle, a matrix, its row."""
    return bool(count_of(width)) or int(width**0.5) ** 2 == width or width == rows


def _floats(rows: list[list[str]], path: Path) -> Numbers:
    try:
        return np.array(rows, np.float64)
    except ValueError as error:
        raise EngineError(
            f"{path.name} holds text where numbers are needed ({error}). Beside the "
            "first column, for ids, and one row of names, all must be numbers."
        ) from error


def _check_order(path: Path, names: Sequence[str]) -> None:
    """Refuse columns "a_vs_b" in another order than the upper triangle's."""
    pairs = [name.split(_BETWEEN) for name in names]
    count = count_of(len(names))
    if not count or any(len(pair) != 2 for pair in pairs):
        return
    first = set(pairs[0]).intersection(*pairs[: count - 1])
    rest = [
        next((w for w in pair if w not in first), "") for pair in pairs[: count - 1]
    ]
    order = [next(iter(first), ""), *rest]
    i, j = np.triu_indices(count, 1)
    wanted = [{order[a], order[b]} for a, b in zip(i, j, strict=True)]
    if count > 2 and [set(pair) for pair in pairs] != wanted:
        raise EngineError(
            f"{path.name}: its {connections(count)} columns are not in the order of an "
            "upper triangle, row by row. Sort them as GIFT writes them."
        )


# Participants -------------------------------------------------------------------------


def _names(
    found: tuple[str, ...], count: int, path: Path | None
) -> tuple[tuple[str, ...], bool]:
    """Ids of `count` rows, and whether they are only counted."""
    names = found
    if path is not None:
        names = _read_names(path)
    if names and len(names) != count:
        raise EngineError(
            f"There are {len(names)} ids for {count} rows of connectivity. Give one id "
            "per row, in the same order."
        )
    if names:
        return names, False
    return tuple(f"row {n}" for n in range(1, count + 1)), True


def _read_names(path: Path) -> tuple[str, ...]:
    """The first column of a text file, without a head that names it."""
    try:
        rows = _cells(path)
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(
            f"{path.name} cannot be read ({error}). Give a text file with one id per "
            "row."
        ) from error
    if rows[0][0].strip().lower() in ID_COLUMNS:
        rows = rows[1:]
    return tuple(row[0].strip() for row in rows)

"""Whatever shape and scale connectivity comes in: checked, and made into Fisher z."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.fnc import Vector, connections, count_of
from napari_brainldm.engine.request import EngineError

Numbers = NDArray[np.float64]

SCALES = ("r", "z")
"""Pearson correlations, or their Fisher z."""

ASYMMETRY = 1e-4
"""How far the two halves of a matrix may differ: rounding of single precision."""

LARGEST_Z = 4.0
"""No correlation of time courses reaches this Fisher z (r = 0.9993)."""

LEAST_COUNT = 3


def vectors_of(array: Numbers, name: str, session: int | None) -> Numbers:
    """Vectors (N, p) of what a file holds, in its own scale.

    Parameters
    ----------
    array
        (N, sessions, n, n), (N, n, n), (n, n), (N, p), (N, n * n) or (p,).
    name
        Of the file, for sentences.
    session
        Which to take of several, from 0.

    Raises
    ------
    EngineError
        If the shape is none of these, a matrix is not symmetric, or a number is not
        finite.
    """
    if array.ndim == 4:
        array = _session(array, name, session)
    if array.ndim == 2 and _is_one_matrix(array):
        array = array[None]
    if array.ndim in (1, 2):
        array = _rows(np.atleast_2d(array), name)
    if array.ndim == 3 and array.shape[1] == array.shape[2] >= LEAST_COUNT:
        array = _halves(array, name)
    if array.ndim != 2:
        raise _no_shape(name, array.shape)
    _check_finite(array, name)
    return array


def to_z(vectors: Numbers, scale: str, name: str) -> tuple[Vector, tuple[str, ...]]:
    """Fisher z of vectors (N, p) in `scale`, and what was found in them.

    An empty `scale` is inferred: values beyond 1 cannot be correlations.

    Raises
    ------
    EngineError
        If `scale` is unknown, or says r where values are not correlations.
    """
    if scale not in ("", *SCALES):
        raise EngineError(
            f"The scale {scale!r} was asked for; known are {', '.join(SCALES)}. Choose "
            "one of these."
        )
    largest = float(np.abs(vectors).max())
    _check_scale(scale, largest, name)
    inferred = scale or ("z" if largest > 1 else "r")
    why = _why(scale, inferred, largest)
    if inferred == "r":
        return np.arctanh(vectors).astype(np.float32), (why,)
    notes = (why, _too_large(largest)) if largest > LARGEST_Z else (why,)
    return vectors.astype(np.float32), notes


def _check_scale(scale: str, largest: float, name: str) -> None:
    if scale == "r" and largest > 1:
        raise EngineError(
            f"{name} reaches {largest:.3g}, which no correlation does. Read it as "
            "Fisher z."
        )
    if largest == 1 and scale != "z":
        raise EngineError(
            f"{name} holds a correlation of 1 between two components, whose Fisher z "
            "is infinite. Two components are the same: leave one out."
        )


def _why(scale: str, inferred: str, largest: float) -> str:
    words = {"r": "Pearson correlations, made into Fisher z", "z": "Fisher z"}[inferred]
    if scale:
        return f"Values were read as {words}, as asked."
    relation = "go beyond 1" if inferred == "z" else "stay within 1"
    return f"Values were read as {words}: they {relation} (largest {largest:.3g})."


def _too_large(largest: float) -> str:
    return (
        f"Values reach {largest:.3g}, more than any Fisher z of a correlation: they "
        "may be z statistics, which a model trained on Fisher z does not know."
    )


def _session(array: Numbers, name: str, session: int | None) -> Numbers:
    """One session (N, n, n) of (N, sessions, n, n)."""
    sessions = array.shape[1]
    if session is None and sessions > 1:
        raise EngineError(
            f"{name} holds {sessions} sessions of each participant. State which to "
            f"take (session 0 to {sessions - 1})."
        )
    chosen = session or 0
    if not 0 <= chosen < sessions:
        raise EngineError(
            f"{name} has no session {chosen}: it holds {sessions}, counted from 0. "
            "Choose one of these."
        )
    return array[:, chosen]


def _is_one_matrix(array: Numbers) -> bool:
    """Whether (a, b) is one connectivity matrix, not rows of several people."""
    rows, columns = array.shape
    square = rows == columns >= LEAST_COUNT
    return square and bool(_asymmetry(array[None])[0] <= ASYMMETRY)


def _rows(array: Numbers, name: str) -> Numbers:
    """Rows that are whole matrices as (N, n, n); rows of triangles as they are."""
    pairs = array.shape[1]
    edge = math.isqrt(pairs)
    if edge * edge == pairs and edge >= LEAST_COUNT:
        matrices = array.reshape(len(array), edge, edge)
        # 1225 numbers are 35 x 35 and the pairs of 50: symmetry tells
        if not count_of(pairs) or _asymmetry(matrices).max() <= ASYMMETRY:
            return matrices
    if count_of(pairs) < LEAST_COUNT:
        raise _no_shape(name, array.shape)
    return array


def _halves(matrices: Numbers, name: str) -> Numbers:
    """Vectors (N, p) of symmetric matrices (N, n, n); the mean of both halves."""
    wrong = np.flatnonzero(~(_asymmetry(matrices) <= ASYMMETRY))
    if len(wrong) and np.isfinite(_without_diagonal(matrices)).all():
        raise EngineError(
            f"{name}: the matrix of row {wrong[0] + 1} is not symmetric "
            f"({len(wrong)} of {len(matrices)} are not). Connectivity from a to b must "
            "be that from b to a: give correlation matrices."
        )
    rows, columns = np.triu_indices(matrices.shape[1], 1)
    mean: Numbers = (matrices[:, rows, columns] + matrices[:, columns, rows]) / 2
    return mean


def _asymmetry(matrices: Numbers) -> Numbers:
    """Largest difference of the two halves, in units of the largest value: (N,)."""
    plain = _without_diagonal(matrices)
    with np.errstate(invalid="ignore"):
        apart = np.abs(plain - plain.swapaxes(1, 2)).max((1, 2))
        largest = np.abs(plain).max((1, 2))
        found: Numbers = apart / np.maximum(largest, 1e-12)
    return found


def _without_diagonal(matrices: Numbers) -> Numbers:
    """The same with a diagonal of 0: a z of 1 is infinite, and means nothing here."""
    diagonal = np.eye(matrices.shape[1], dtype=bool)
    return np.where(diagonal, 0.0, matrices)


def _check_finite(vectors: Numbers, name: str) -> None:
    rows = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(rows):
        told = ", ".join(str(row + 1) for row in rows[:5])
        raise EngineError(
            f"{name}: {len(rows)} of {len(vectors)} rows hold values that are not "
            f"finite numbers (row {told}). Leave these participants out."
        )


def _no_shape(name: str, shape: tuple[int, ...]) -> EngineError:
    example = connections(53)
    return EngineError(
        f"{name} holds numbers of the shape {shape}, which is no connectivity. Square "
        f"matrices, or rows of their upper triangles (for 53 components {example} "
        "columns), are needed."
    )

"""Functional network connectivity: correlations between the components of a brain.

Definitions. The connectivity of a person is a symmetric matrix (n, n) of Fisher z
values, z = artanh(r), with nothing on its diagonal. Its upper triangle row by row,
z(1,2), z(1,3), ... z(n-1,n), is the vector (p,), p = n (n - 1) / 2, that models take
and files hold (GIFT's own order, which MATLAB reads down the columns of the lower
triangle).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.components import Components
from napari_brainldm.engine.request import EngineError

Vector = NDArray[np.float32]

PREFIX = "sub-"
"""Of participants in BIDS; names with it and without it are the same."""


@dataclass(frozen=True, eq=False)
class Fnc:
    """The connectivity of one person, or what was made of it.

    Attributes
    ----------
    vector
        float32 (p,), Fisher z.
    name
        Whose, and how it was changed: "sub-0007, SC-CB x 0.5".
    person
        The participant it was measured in, whatever was changed since; empty where it
        is nobody's: a mean, a random one.
    """

    vector: Vector
    name: str = ""
    person: str = field(default="", kw_only=True)

    @property
    def count(self) -> int:
        """Number n of components."""
        return count_of(self.vector.shape[-1])

    @property
    def matrix(self) -> NDArray[np.float32]:
        """Symmetric (n, n), Fisher z, 0 on the diagonal."""
        return square(self.vector)

    @property
    def digest(self) -> str:
        """SHA-256 of the vector, hex: what a request names it by."""
        return hashlib.sha256(self.vector.astype("<f4").tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class FncTable:
    """The connectivity of several people.

    Attributes
    ----------
    participants
        Their ids, or "row 1", "row 2", ... where a file names none.
    vectors
        float32 (N, p), Fisher z.
    components
        What the n rows of a matrix stand for.
    numbered
        Whether the file named nobody, so that rows are only counted.
    notes
        What was found in the file, one sentence each.
    groups
        The group of each participant, such as "patient", "" where nothing tells; or
        nothing at all.
    """

    participants: tuple[str, ...]
    vectors: Vector
    components: Components
    numbered: bool = False
    notes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def of(self, participant: str) -> Fnc:
        """The connectivity of one of the participants."""
        if participant not in self.participants:
            raise EngineError(
                f"{participant} is not among the {len(self.participants)} participants "
                f"of the connectivity, {self.participants[0]} to "
                f"{self.participants[-1]}. Choose one of them."
            )
        row = self.participants.index(participant)
        return Fnc(self.vectors[row], participant, person=participant)

    def people(self, group: str = "") -> tuple[Fnc, ...]:
        """The connectivity of everybody, or of those of `group`."""
        told = self.groups or ("",) * len(self.participants)
        return tuple(
            Fnc(vector, name, person=name)
            for name, vector, own in zip(
                self.participants, self.vectors, told, strict=True
            )
            if group in ("", own)
        )


@dataclass(frozen=True)
class Joined:
    """Scans and connectivity, matched by participant.

    Attributes
    ----------
    rows
        Row of the connectivity for each scan that has one: (place among the scans,
        row of the table).
    without_fnc, without_scan
        Participants that only the other side has.
    """

    rows: tuple[tuple[int, int], ...]
    without_fnc: tuple[str, ...]
    without_scan: tuple[str, ...]

    def told(self) -> str:
        """One sentence: how many match, and who does not."""
        people = f"{len(self.rows)} scans have connectivity"
        left = [
            f"{len(names)} {what} ({_some(names)})"
            for names, what in (
                (self.without_fnc, "scans have none"),
                (self.without_scan, "rows of connectivity have no scan"),
            )
            if names
        ]
        return "; ".join([people, *left]) + "."


def connections(count: int) -> int:
    """Number p of pairs of `count` components."""
    return count * (count - 1) // 2


def count_of(pairs: int) -> int:
    """Number of components that have `pairs` pairs; 0 if no number has."""
    count = (1 + math.isqrt(1 + 8 * pairs)) // 2
    return count if pairs > 0 and connections(count) == pairs else 0


def triangle(matrices: NDArray[np.floating]) -> Vector:
    """Upper triangle (..., p), row by row, of matrices (..., n, n)."""
    rows, columns = np.triu_indices(matrices.shape[-1], 1)
    return np.asarray(matrices[..., rows, columns], np.float32)


def square(vectors: Vector) -> NDArray[np.float32]:
    """Symmetric matrices (..., n, n) of vectors (..., p), 0 on the diagonal."""
    count = count_of(vectors.shape[-1])
    rows, columns = np.triu_indices(count, 1)
    matrices = np.zeros((*vectors.shape[:-1], count, count), np.float32)
    matrices[..., rows, columns] = vectors
    matrices[..., columns, rows] = vectors
    return matrices


def join(table: FncTable, participants: Sequence[str]) -> Joined:
    """Match the participants of scans, in the order given, with those of `table`.

    Several scans of one participant share its connectivity. "sub-" in front of an id
    is not looked at; nothing else is guessed.

    Raises
    ------
    EngineError
        If the table names nobody, names somebody twice, or nobody matches.
    """
    if table.numbered:
        raise EngineError(
            f"The connectivity names no participants, only {len(table.participants)} "
            "rows. Give a text file with one id per row, in the same order."
        )
    rows = {_bare(name): row for row, name in enumerate(table.participants)}
    check_once("The connectivity", table.participants)
    scans = [_bare(name) for name in participants]
    found = tuple((n, rows[name]) for n, name in enumerate(scans) if name in rows)
    if not found:
        raise EngineError(
            f"No scan ({_some(list(participants))}) has connectivity "
            f"({_some(table.participants)}). The ids must be the same in both."
        )
    present = set(scans)
    return Joined(
        found,
        tuple(name for name in participants if _bare(name) not in rows),
        tuple(name for name in table.participants if _bare(name) not in present),
    )


def check_once(what: str, names: Sequence[str]) -> None:
    """Refuse names that stand twice: rows of one person would count as several."""
    seen: set[str] = set()
    twice = []
    for name in names:
        if _bare(name) in seen:
            twice.append(name or "nobody")
        seen.add(_bare(name))
    if twice:
        raise EngineError(
            f"{what} names {_some(twice, 3)} twice. Keep one row for each participant."
        )


def _bare(name: str) -> str:
    return name.strip().removeprefix(PREFIX)


def _some(names: Sequence[str], most: int = 5) -> str:
    """The first few of `names`, and how many more."""
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - most} more" if len(unique) > most else ""
    return ", ".join(unique[:most]) + more

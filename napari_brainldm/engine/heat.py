"""Tables of numbers as heat maps: names, groups and levels of colour; nothing drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.components import domains, members

if TYPE_CHECKING:
    from napari_brainldm.engine.components import Components
    from napari_brainldm.engine.fnc import Fnc

FULL = 99.0
"""Percentile of the absolute values that gets full colour: one outlier gets no more."""

LEVELS = 255
MIDDLE = 127
"""The level of 0; levels 0 and 254 are the two ends of the scale."""


@dataclass(frozen=True, eq=False)
class Heat:
    """Signed numbers with names.

    Attributes
    ----------
    values
        float32 (rows, columns).
    rows, columns
        Name of each.
    row_groups, column_groups
        Group of each, in runs; "" for none.
    unit
        Of the values, as a tooltip says it: "z".
    """

    values: NDArray[np.float32]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_groups: tuple[str, ...]
    column_groups: tuple[str, ...]
    unit: str = ""

    @property
    def limit(self) -> float:
        """The absolute value that gets full colour; above 0."""
        size = np.abs(self.values)
        return float(np.percentile(size, FULL)) or float(size.max()) or 1.0

    def levels(self) -> NDArray[np.uint8]:
        """uint8 (rows, columns): 0 for -limit, 127 for 0, 254 for limit."""
        share = np.clip(self.values / self.limit, -1, 1)
        return np.asarray(np.rint(MIDDLE + share * MIDDLE), np.uint8)

    def told(self, row: int, column: int) -> str:
        """One cell in words."""
        value = f"{self.values[row, column]:.3g} {self.unit}".rstrip()
        return f"{self.rows[row]} – {self.columns[column]}: {value}"


def heat_of_fnc(fnc: Fnc, components: Components) -> Heat:
    """The matrix of `fnc`, Fisher z, under the names of its components."""
    names = tuple(f"{c.index} {c.name} ({c.domain})" for c in components)
    groups = tuple(c.domain for c in components)
    return Heat(fnc.matrix, names, names, groups, groups, "z")


def runs(groups: Sequence[str]) -> tuple[tuple[str, int, int], ...]:
    """(group, first, one after the last) of every run of the same group."""
    found, start = [], 0
    for name, run in groupby(groups):
        stop = start + len(list(run))
        found.append((name, start, stop))
        start = stop
    return tuple(found)


def cells_between(
    components: Components, first: str, second: str
) -> tuple[tuple[int, int], ...]:
    """Cells (row, column) of a matrix that lie between two networks, both halves."""
    one, two = members(components, first), members(components, second)
    there = {(i, j) for i in one for j in two}
    return tuple(sorted(there | {(j, i) for i, j in there}))


def pairs_of(components: Components) -> tuple[tuple[str, str], ...]:
    """All pairs of networks, each with itself as well, in the order of the matrix.

    A network of one component has nothing within itself.
    """
    names = domains(components)
    return tuple(
        (first, second)
        for place, first in enumerate(names)
        for second in names[place:]
        if first != second or len(members(components, first)) > 1
    )

"""Tables of regions: structures found in the picture, or an atlas laid over it.

Structures are measured in the picture itself; an atlas names fixed places and averages
intensities there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.atlas import Atlas, nearest_centre, region_means

if TYPE_CHECKING:
    from napari_brainldm.engine.asked import Findings
    from napari_brainldm.engine.volume import Volume

STRUCTURES = ("structure", "ml", "reference ml", "change ml", "change %")
REGIONS = ("region", "mean", "reference mean", "mean difference", "ml of the atlas")
"""Heads of the two tables; intensities are the model's own, 0 to about 1."""


@dataclass(frozen=True)
class Row:
    """One region.

    Attributes
    ----------
    name
        As in the first column.
    values
        The other columns, in the order of the heads; None where there is nothing.
        Words are shown as they are.
    centre
        (x, y, z) in mm, MNI, within the region; None if no voxel is mostly its own.
    """

    name: str
    values: tuple[float | str | None, ...]
    centre: tuple[float, float, float] | None


@dataclass(frozen=True)
class Table:
    """Rows under heads, and what they are rows of."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]

    def to_tsv(self) -> str:
        """Tab-separated text with a head; n/a where there is nothing, as in BIDS."""
        lines = [[*self.heads, "x_mm", "y_mm", "z_mm"]]
        for row in self.rows:
            values = [*row.values, *(row.centre or (None,) * 3)]
            lines.append([row.name, *map(_cell, values)])
        return "".join("\t".join(line) + "\n" for line in lines)


def _cell(value: float | str | None) -> str:
    if value is None:
        return "n/a"
    return value if isinstance(value, str) else f"{value:.6g}"


def of_structures(found: Findings, reference: Findings | None) -> Table:
    """Volumes of every structure by side, and their change against a reference."""
    before = {} if reference is None else {e.index: e.ml for e in reference.legend}
    rows = tuple(
        Row(
            entry.name,
            _changed(entry.ml, before.get(entry.index)),
            _centre_of(found, entry.index),
        )
        for entry in found.legend
    )
    return Table(f"Structures found by {found.method}", STRUCTURES, rows)


def of_atlas(atlas: Atlas, picture: Volume, reference: Volume | None) -> Table:
    """Mean intensities over an atlas, and their difference from a reference."""
    means = region_means(atlas.on(picture.grid), picture, reference)
    rows = tuple(
        Row(m.region.name, (m.mean, m.reference, m.difference, m.ml), m.centre)
        for m in means
    )
    return Table(f"{atlas.name} ({atlas.licence})", REGIONS, rows)


def _changed(now: float, before: float | None) -> tuple[float | None, ...]:
    if before is None:
        return now, None, None, None
    change = now - before
    return now, before, change, 100 * change / before if before > 0 else math.inf


def _centre_of(found: Findings, index: int) -> tuple[float, float, float] | None:
    mask = np.asarray(found.labels == index)
    return nearest_centre(mask, found.grid) if mask.any() else None

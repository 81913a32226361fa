"""The clusters of a contrast as a table to look at, and as a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.clusters import LEAST, PLACES, Cluster, clusters_of
from napari_brainldm.engine.inference import hedges
from napari_brainldm.engine.regions import Row, Table

if TYPE_CHECKING:
    from napari_brainldm.engine.atlas import Atlas
    from napari_brainldm.engine.fnc_contrast import Contrasted

HEADS = ("cluster", "voxels", "mm³", "peak", "mean", "x", "y", "z", "where")
COLUMNS = (
    *("cluster", "sign", "peak_x", "peak_y", "peak_z", "peak_effect"),
    *("com_x", "com_y", "com_z", "n_vox", "mm3", "mean_effect", "mean_dz"),
    *(f"{name}_{n}" for n in range(1, PLACES + 1) for name in ("place", "overlap_pct")),
)
"""Of the file; places in mm, MNI; the title says what the effect is."""


@dataclass(frozen=True)
class ClusterTable(Table):
    """As shown, and `clusters`, all of which is written.

    Attributes
    ----------
    unbiased
        Hedges' factor, by which the effect is smaller than dz; None for one subject,
        whose effect is no dz.
    """

    clusters: tuple[Cluster, ...] = ()
    unbiased: float | None = None

    def to_tsv(self) -> str:
        """The columns of COLUMNS; n/a where there is nothing, as in BIDS."""
        lines = ["\t".join(COLUMNS)]
        lines += ["\t".join(self._cells(one)) for one in self.clusters]
        return "\n".join(lines) + "\n"

    def _cells(self, one: Cluster) -> list[str]:
        dz = "n/a" if self.unbiased is None else f"{one.mean / self.unbiased:.6g}"
        sign = "positive" if one.sign > 0 else "negative"
        places = [cell for name, pct in one.places for cell in (name, f"{pct:.1f}")]
        return [
            str(one.number),
            sign,
            *(f"{v:.6g}" for v in (*one.peak, one.peak_value, *one.centre)),
            str(one.n_vox),
            *(f"{v:.6g}" for v in (one.mm3, one.mean)),
            dz,
            *places,
            *["n/a"] * (2 * PLACES - len(places)),
        ]


def cluster_table(made: Contrasted, atlas: Atlas, threshold: float) -> ClusterTable:
    """Clusters of both signs in which the effect of `made` reaches `threshold`.

    A threshold of 0 is none: then no clusters are told.
    """
    many = made.compared.people > 1
    effect = "Hedges' g" if many else "mean / SD over seeds"
    start = f"{atlas.name}. "
    if threshold <= 0:
        title = f"{start}No threshold: set 'Outline from' to find clusters."
        return ClusterTable(title, HEADS, ())
    found = clusters_of(made.effect, made.beyond(threshold), atlas)
    title = (
        f"{start}Both signs, {made.told_beyond(effect, threshold)}; at least {LEAST} "
        f"voxels that share faces, {found.smaller} smaller ones are left out. The "
        "threshold is no test."
    )
    unbiased = None
    if many:
        unbiased = float(hedges(np.ones(1), made.compared.people)[0])
    rows = tuple(_shown(one) for one in found.told)
    return ClusterTable(title, HEADS, rows, found.told, unbiased)


def _shown(one: Cluster) -> Row:
    sign = "A > B" if one.sign > 0 else "A < B"
    where = ", ".join(f"{name} {percent:.0f} %" for name, percent in one.places)
    x, y, z = one.peak
    values = (one.n_vox, one.mm3, one.peak_value, one.mean, x, y, z, where)
    return Row(f"{one.number}  {sign}", values, one.peak)

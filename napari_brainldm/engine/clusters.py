"""Clusters of a signed map, positive and negative, with the places they lie in.

A table that asks for one sign alone would hide half of what a contrast found, so both
are always counted. Voxels are neighbours when they share a face, as in nilearn's
`get_clusters_table`, which leaves the names of places to others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_brainldm.engine.atlas import Atlas
    from napari_brainldm.engine.volume import Volume

LEAST = 10
"""Voxels of the smallest cluster that is told; how many are smaller is told too."""

PLACES = 3
"""Regions told of each cluster, those that hold most of it."""

NOWHERE = "no region"

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Cluster:
    """Neighbouring voxels of one sign.

    Attributes
    ----------
    number
        From 1, positive ones first, each sign by its peak.
    sign
        1 or -1.
    peak, peak_value
        (x, y, z) in mm, RAS+, of the voxel with the largest absolute value; its value.
    centre
        (x, y, z) in mm of the centre of mass, weighted by the absolute value.
    n_vox, mm3
        Size.
    mean
        Of the map.
    places
        Names of regions and the share of the cluster in each, in %, largest first;
        `NOWHERE` for what lies in none.
    """

    number: int
    sign: int
    peak: Point
    peak_value: float
    centre: Point
    n_vox: int
    mm3: float
    mean: float
    places: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Clusters:
    """What a map holds: `told`, and how many were `smaller` than the least."""

    told: tuple[Cluster, ...]
    smaller: int


def clusters_of(
    picture: Volume, kept: NDArray[np.bool_], atlas: Atlas, least: int = LEAST
) -> Clusters:
    """Clusters of both signs of `picture` within `kept`.

    Parameters
    ----------
    kept
        bool (i, j, k): voxels beyond a threshold.
    atlas
        Names the places; brought onto the grid of `picture`.
    least
        Voxels of the smallest that is told.
    """
    from scipy.ndimage import find_objects, label

    data = picture.data.astype(np.float64)
    labels = atlas.on(picture.grid).labels
    names = {region.index: region.name for region in atlas.regions}
    found, smaller = [], 0
    for sign in (1, -1):
        there, _ = label(kept & (sign * data > 0))
        of_sign = []
        for number, box in enumerate(find_objects(there), start=1):
            voxels = np.argwhere(there[box] == number) + [part.start for part in box]
            if len(voxels) < least:
                smaller += 1
                continue
            of_sign.append(_cluster(picture, data, voxels, sign, labels, names))
        found += sorted(of_sign, key=lambda one: -abs(one.peak_value))
    told = tuple(_numbered(one, place) for place, one in enumerate(found, start=1))
    return Clusters(told, smaller)


def _cluster(
    picture: Volume,
    data: NDArray[np.float64],
    voxels: NDArray[np.intp],
    sign: int,
    labels: NDArray[np.int32],
    names: dict[int, str],
) -> Cluster:
    values = data[tuple(voxels.T)]
    size, grid = np.abs(values), picture.grid
    peak = int(size.argmax())
    here = labels[tuple(voxels.T)].tolist()
    return Cluster(
        0,
        sign,
        _world(grid.matrix, voxels[peak]),
        float(values[peak]),
        _world(grid.matrix, size @ voxels / size.sum()),
        len(voxels),
        len(voxels) * float(np.prod(grid.voxel_size)),
        float(values.mean()),
        _places([names.get(index, NOWHERE) for index in here]),
    )


def _places(names: Sequence[str]) -> tuple[tuple[str, float], ...]:
    known, counts = np.unique(names, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:PLACES]
    return tuple((str(known[n]), 100 * float(counts[n]) / len(names)) for n in order)


def _numbered(one: Cluster, number: int) -> Cluster:
    return replace(one, number=number)


def _world(matrix: NDArray[np.float64], voxel: NDArray[Any]) -> Point:
    x, y, z = (matrix[:3, :3] @ voxel + matrix[:3, 3]).tolist()
    return x, y, z

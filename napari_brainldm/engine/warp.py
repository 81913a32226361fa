"""A brain bent onto the shape of the MNI template, for the models that want that.

Only LDAE does: everything else here is placed rigidly. By diffeomorphic demons
(Vercauteren 2009) of SimpleITK, or by SyN (Avants 2008) where antspyx is installed.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.placement import Placement, Template, itk, to_itk
from napari_brainldm.engine.resample import inverse, resample
from napari_brainldm.engine.volume import Affine, Array, Grid, Volume

if TYPE_CHECKING:
    from collections.abc import Callable

Field = NDArray[np.float64]

LEVELS = ((4, 60), (2, 60), (1, 30))
"""Shrinking of the template's 2 mm grid, and iterations, from coarse to fine."""

SMOOTH_VOXELS = 1.5
"""SD of the smoothing of the field after each iteration of the demons."""

FLIP = np.array([-1.0, -1.0, 1.0])
"""From RAS+ to ITK's LPS, and back."""


@dataclass(frozen=True, eq=False)
class Warp:
    """Where each point of the template lies in a scan.

    Attributes
    ----------
    affine
        4 x 4, mm of the template -> mm of the scan: placement and size.
    there, back
        Displacements (i, j, k, 3) in mm on `grid`: a template point x lies in the scan
        at affine (x + there(x)), and a scan point y in the template at
        x + back(x), x = affine^-1 y.
    grid
        Of both fields.
    method
        Who found them.
    """

    affine: Affine
    there: Array
    back: Array
    grid: Grid
    method: str

    def onto(self, scan: Volume, grid: Grid) -> Array:
        """`scan` on `grid`, which lies in template space; cubic, 0 outside."""
        points = _points(grid)
        moved = points + _sampled(self.there, self.grid, points)
        return _valued(scan, _applied(self.affine, moved), grid.shape)

    def into_scan(self, picture: Volume, grid: Grid) -> Array:
        """`picture`, which lies in template space, on the scan's own `grid`."""
        points = _applied(inverse(self.affine), _points(grid))
        moved = points + _sampled(self.back, self.grid, points)
        return _valued(picture, moved, grid.shape)


def bend(brain: Volume, placement: Placement, template: Template) -> Warp:
    """The warp between `template` and a `brain` that is 0 outside, already placed."""
    affine = placement.to_scan @ placement.sized(template)
    grid = template.picture.grid
    moving = resample(brain, grid, affine)
    fixed = np.where(template.brain, template.picture.data, np.float32(0))
    if importlib.util.find_spec("ants") is not None:
        there, back = _syn(fixed, moving, grid)
        return Warp(affine, there, back, grid, "SyN (antspyx)")
    there, back = _demons(fixed, moving, grid)
    return Warp(affine, there, back, grid, "diffeomorphic demons (SimpleITK)")


def _demons(fixed: Array, moving: Array, grid: Grid) -> tuple[Array, Array]:
    """Displacements there and back (i, j, k, 3), RAS+ mm."""
    sitk = itk()
    still, other = (to_itk(data, grid) for data in (fixed, moving))
    other = sitk.HistogramMatching(other, still, 256, 20, True)
    demons = sitk.DiffeomorphicDemonsRegistrationFilter()
    demons.SetNumberOfThreads(1)  # sums in one order: the same result each time
    demons.SetStandardDeviations(SMOOTH_VOXELS)
    demons.SetSmoothDisplacementField(True)
    field = None
    for shrink, iterations in LEVELS:
        small = sitk.Shrink(still, [shrink] * 3) if shrink > 1 else still
        moved = sitk.Resample(other, small)
        demons.SetNumberOfIterations(iterations)
        if field is None:
            field = demons.Execute(small, moved)
        else:
            start = sitk.Resample(field, small, sitk.Transform(), sitk.sitkLinear)
            field = demons.Execute(small, moved, start)
    back = sitk.InvertDisplacementField(field, 30, 0.1, 0.5)
    return _from_itk(field), _from_itk(back)


def _from_itk(field: Any) -> Array:
    """ITK's vectors (LPS) as (i, j, k, 3) in RAS+ mm."""
    array = itk().GetArrayFromImage(field)
    return np.asarray(array.transpose(2, 1, 0, 3) * FLIP, np.float32)


def _syn(fixed: Array, moving: Array, grid: Grid) -> tuple[Array, Array]:
    """As `_demons`, by antspyx, which the user has installed."""
    import ants  # type: ignore[import-not-found]

    origin = tuple(float(v) for v in grid.matrix[:3, 3] * FLIP)
    place = {
        "origin": origin,
        "spacing": grid.voxel_size,
        "direction": np.diag([-1.0, -1.0, 1.0]),
    }
    still, other = (ants.from_numpy(data, **place) for data in (fixed, moving))
    found = ants.registration(fixed=still, moving=other, type_of_transform="SyN")
    there = found["fwdtransforms"]
    back, turned = found["invtransforms"], [True, False]

    def follow(transforms: list[str], inverted: list[bool]) -> Array:
        def move(points: Field) -> Field:
            import pandas

            rows = pandas.DataFrame(points * FLIP, columns=["x", "y", "z"])
            moved = ants.apply_transforms_to_points(
                3, rows, transforms, whichtoinvert=inverted
            )
            found: Field = np.asarray(moved[["x", "y", "z"]], np.float64) * FLIP
            return found

        return _displacement(move, grid)

    return follow(there, [False] * len(there)), follow(back, turned[: len(back)])


def _displacement(move: Callable[[Field], Field], grid: Grid) -> Array:
    points = _points(grid)
    return np.asarray((move(points) - points).reshape(*grid.shape, 3), np.float32)


def _points(grid: Grid) -> Field:
    """Millimetres (n, 3) of all voxels of `grid`."""
    voxels = np.indices(grid.shape).reshape(3, -1).T
    return _applied(grid.matrix, voxels)


def _applied(affine: Affine, points: NDArray[Any]) -> Field:
    moved: Field = np.asarray(points @ affine[:3, :3].T + affine[:3, 3], np.float64)
    return moved


def _sampled(field: Array, grid: Grid, points: Field) -> Field:
    """Displacements (n, 3) at `points` in mm; those of the border beyond it."""
    from scipy import ndimage

    places = _applied(inverse(grid.matrix), points).T
    axes = (
        ndimage.map_coordinates(field[..., axis], places, order=1, mode="nearest")
        for axis in range(3)
    )
    return np.stack(list(axes), axis=1)


def _valued(volume: Volume, points: Field, shape: tuple[int, int, int]) -> Array:
    """Intensities of `volume` at `points` in mm, cubic, as (i, j, k) of `shape`."""
    from scipy import ndimage

    places = _applied(inverse(volume.affine), points).T
    values = ndimage.map_coordinates(
        volume.data, places, order=3, mode="constant", output=np.float32
    )
    low, high = float(volume.data.min()), float(volume.data.max())
    inside: Array = np.clip(values, low, high).reshape(shape)
    return inside

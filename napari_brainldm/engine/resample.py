"""Volumes on other grids: anti-aliased resampling, straight grids around a scan."""

from __future__ import annotations

from itertools import product

import numpy as np

from napari_brainldm.engine.volume import Affine, Array, Grid, Volume


def inverse(affine: Affine) -> Affine:
    """The way back: 4 x 4."""
    return np.asarray(np.linalg.inv(affine), np.float64)


def resample(
    volume: Volume, grid: Grid, to_volume: Affine | None = None, order: int = 1
) -> Array:
    """Values of `volume` at the voxels of `grid`, 0 outside; float32 (i, j, k).

    Parameters
    ----------
    volume
        May have voxel axes that are not at right angles.
    grid
        Where values are wanted.
    to_volume
        4 x 4, mm of `grid` -> mm of `volume`; None is the identity.
    order
        0 nearest, 1 linear, 3 cubic B-spline. But for 0, a volume that is finer than
        the grid is smoothed first.
    """
    from scipy import ndimage

    world = np.eye(4) if to_volume is None else to_volume
    volume = _cropped(volume, grid, world)
    mapping = np.linalg.inv(volume.affine) @ world @ grid.matrix
    data = volume.data
    if order > 0:
        data = ndimage.gaussian_filter(data, _anti_alias(volume, grid), truncate=3.0)
    return np.asarray(
        ndimage.affine_transform(
            data,
            mapping[:3, :3],
            mapping[:3, 3],
            grid.shape,
            output=np.float32,
            order=order,
            mode="constant",
            cval=0.0,
        )
    )


def _cropped(volume: Volume, grid: Grid, world: Affine) -> Volume:
    """The part of `volume` that can matter on `grid`, with a margin of 12 voxels."""
    ends = np.array(_corners(grid.shape))
    to_voxel = np.linalg.inv(volume.affine) @ world @ grid.matrix
    reached = ends @ to_voxel[:3, :3].T + to_voxel[:3, 3]
    last = np.array(volume.data.shape) - 1
    low = np.clip(np.floor(reached.min(0)) - 12, 0, last).astype(int)
    high = np.clip(np.ceil(reached.max(0)) + 12, 0, last).astype(int) + 1
    affine = volume.affine.copy()
    affine[:3, 3] = volume.affine[:3, :3] @ low + volume.affine[:3, 3]
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return Volume(volume.data[part], affine)


def _corners(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Voxel indices of the eight corners."""
    return list(product(*((0, n - 1) for n in shape)))


def _anti_alias(volume: Volume, grid: Grid) -> tuple[float, ...]:
    """SD of the smoothing along (i, j, k), voxels of `volume`.

    Brings the point spread from one voxel of the volume to one of the grid (as FWHM).
    """
    spacing = np.array(volume.grid.voxel_size)
    coarser = np.maximum((min(grid.voxel_size) / spacing) ** 2 - 1, 0)
    return tuple(float(sd) for sd in np.sqrt(coarser) / 2.355)


def covering_grid(volume: Volume, voxel_mm: float) -> Grid:
    """A straight RAS grid of `voxel_mm` cubes around all of `volume`."""
    corners = np.array(_corners(volume.data.shape)) @ volume.affine[:3, :3].T
    low = corners.min(0) + volume.affine[:3, 3]
    extent = np.ptp(corners, axis=0)
    i, j, k = (max(int(n), 2) for n in np.ceil(extent / voxel_mm) + 1)
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = low
    return Grid.of((i, j, k), affine)


def on_cubes(volume: Volume, voxel_mm: float, order: int = 1) -> tuple[Array, Grid]:
    """`volume` on a straight RAS grid of `voxel_mm` cubes around all of it."""
    grid = covering_grid(volume, voxel_mm)
    return resample(volume, grid, order=order), grid

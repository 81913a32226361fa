"""Slow shading of receive coils, taken out by N4 (Tustison 2010)."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_brainldm.engine.resample import covering_grid, resample
from napari_brainldm.engine.volume import Array, Grid, Volume

SHRUNKEN_MM = 6.0
"""Voxels in which the field is fitted, mm: it is far smoother than they are small."""

ITERATIONS = (50, 40, 30)
"""Most iterations on each of the levels, from the coarsest mesh to the finest.

Measured on a planted field: a fourth level fits the anatomy, not the shading, and 4 mm
voxels take three times as long for the same field.
"""

LARGEST_LOG = 2.0
"""The field is trusted up to this factor (natural logarithm) to either side."""


def without_bias(scan: Volume, background: float) -> Volume:
    """`scan` divided by its field; intensities count from `background`."""
    above = scan.data - np.float32(background)
    field = np.exp(resample(log_bias(scan, background), scan.grid, order=1))
    return Volume(np.asarray(above / field + background, np.float32), scan.affine)


def log_bias(scan: Volume, background: float) -> Volume:
    """Natural logarithm of the field of `scan`, on a grid that covers it.

    Its mean over head or brain is 0, so that the unit of intensity stays about the
    same.
    """
    grid = covering_grid(scan, SHRUNKEN_MM)
    above = Volume(scan.data - np.float32(background), scan.affine)
    shrunken = np.maximum(resample(above, grid), 0)
    inside = _foreground(shrunken)
    if not inside.any():
        return Volume(np.zeros(grid.shape, np.float32), grid.matrix)
    field = _fitted(shrunken, inside, grid)
    field -= np.float32(field[inside].mean())
    return Volume(np.clip(field, -LARGEST_LOG, LARGEST_LOG), grid.matrix)


def _foreground(data: Array) -> Any:
    """Head or brain without air: above a tenth of the bright voxels, bool (i, j, k)."""
    bright = np.percentile(data[data > 0], 95) if (data > 0).any() else 0.0
    return data > 0.1 * bright


def _fitted(data: Array, inside: Any, grid: Grid) -> Array:
    """N4's log field (i, j, k) on `grid`."""
    import SimpleITK

    sitk: Any = SimpleITK  # without types
    image, mask = (
        sitk.GetImageFromArray(np.ascontiguousarray(array.T))
        for array in (data, inside.astype(np.uint8))
    )
    for each in (image, mask):
        each.SetSpacing(grid.voxel_size)
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.SetNumberOfThreads(1)  # sums in one order: the same result each time
    correction.SetMaximumNumberOfIterations(ITERATIONS)
    correction.Execute(image, mask)
    field = sitk.GetArrayFromImage(correction.GetLogBiasFieldAsImage(image))
    return np.array(field.T, np.float32)

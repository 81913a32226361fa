"""How like two pictures are: SSIM and mean squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array

Mask = NDArray[np.bool_]
WINDOW = 11  # voxels, Gaussian with sigma 1.5 (Wang 2004)


def ssim(
    first: Array, second: Array, mask: Mask, window: int = WINDOW
) -> tuple[float, float]:
    """SSIM of two pictures (i, j, k) in [0, 1]: over the grid, and over `mask`.

    MONAI's, Gaussian window of `window` voxels with sigma 1.5, data range 1; the mean
    of the local values whose window lies inside the grid.
    """
    from monai.metrics.regression import KernelType, compute_ssim_and_cs

    x, y = (torch.from_numpy(p.astype(np.float32))[None, None] for p in (first, second))
    local, _ = compute_ssim_and_cs(
        x,
        y,
        spatial_dims=3,
        data_range=1.0,
        kernel_type=KernelType.GAUSSIAN,
        kernel_size=(window,) * 3,
        kernel_sigma=(1.5,) * 3,
    )
    values = local[0, 0].numpy()
    edge = (window - 1) // 2  # of an even window the centre is the lower of the two
    inside = mask[tuple(slice(edge, edge + n) for n in values.shape)]
    return float(values.mean()), float(values[inside].mean())


def mse(first: Array, second: Array) -> float:
    """Mean squared error of two pictures (i, j, k), over the grid."""
    return float(((first.astype(np.float64) - second) ** 2).mean())

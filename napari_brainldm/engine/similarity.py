"""How like two pictures are: SSIM, MS-SSIM, PSNR and mean squared error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_brainldm.engine.volume import Array

Mask = NDArray[np.bool_]
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights, finest first (Wang 2003)
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


def kernel_of(shape: tuple[int, ...]) -> int:
    """Largest odd window, at most 11, that MS-SSIM's five scales leave room for."""
    room = int(min(shape)) // 16  # four halvings
    return min(WINDOW, room if room % 2 else room - 1)


def ms_ssim(first: Array, second: Array, window: int = 0) -> float:
    """Multi-scale SSIM of two pictures (i, j, k) in [0, 1] (Wang 2003).

    MONAI's, Gaussian window of `window` voxels, 0 for `kernel_of` the shape, with
    sigma 1.5, data range 1.
    """
    from monai.metrics.regression import MultiScaleSSIMMetric

    metric = MultiScaleSSIMMetric(
        spatial_dims=3,
        data_range=1.0,
        kernel_size=window or kernel_of(first.shape),
        kernel_sigma=1.5,
        weights=SCALES,
    )
    x, y = (torch.from_numpy(p.astype(np.float32))[None, None] for p in (first, second))
    found = metric(x, y)
    assert isinstance(found, torch.Tensor)  # MONAI's type allows lists
    return float(found)


def diversity(pictures: Sequence[Array]) -> float:
    """Mean MS-SSIM of each picture with the next one, the last with the first."""
    pairs = zip(pictures, [*pictures[1:], pictures[0]], strict=True)
    return float(np.mean([ms_ssim(a, b) for a, b in pairs]))


def psnr(first: Array, second: Array, mask: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB at data range 1, over `mask` or the grid.

    Infinite for equal pictures.
    """
    error = (first.astype(np.float64) - second) ** 2
    mean = float((error if mask is None else error[mask]).mean())
    return -10 * math.log10(mean) if mean > 0 else math.inf

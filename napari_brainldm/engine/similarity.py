"""How like two pictures are: SSIM, MS-SSIM, PSNR and mean squared error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_brainldm.engine.volume import Array

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights, finest first (Wang 2003)
WINDOW, SIGMA = 11, 1.5  # voxels, of a Gaussian (Wang 2004)


def ssim(
    first: Array, second: Array, mask: Mask, window: int = WINDOW
) -> tuple[float, float]:
    """SSIM of two pictures (i, j, k) in [0, 1]: over the grid, and over `mask`.

    As MONAI's `compute_ssim_and_cs`, Gaussian window of `window` voxels with sigma 1.5,
    data range 1; the mean of the local values whose window lies inside the grid. The
    window is applied axis by axis, which takes a tenth of the time.
    """
    x, y = (picture.astype(np.float64) for picture in (first, second))
    mean_x, mean_y = _windowed(x, window), _windowed(y, window)
    spread_x = _windowed(x * x, window) - mean_x**2
    spread_y = _windowed(y * y, window) - mean_y**2
    shared = _windowed(x * y, window) - mean_x * mean_y
    light, contrast = 0.01**2, 0.03**2  # Wang 2004
    values = (2 * mean_x * mean_y + light) / (mean_x**2 + mean_y**2 + light)
    values *= (2 * shared + contrast) / (spread_x + spread_y + contrast)
    edge = (window - 1) // 2  # of an even window the centre is the lower of the two
    inside = mask[tuple(slice(edge, edge + n) for n in values.shape)]
    return float(values.mean()), float(values[inside].mean())


def _windowed(data: Floats, window: int) -> Floats:
    """Means of `data` (i, j, k) over every window that lies inside the grid."""
    place = np.arange(window) - (window - 1) / 2
    weights = np.exp(-((place / SIGMA) ** 2) / 2)
    weights /= weights.sum()
    for axis, size in enumerate(data.shape):
        inside = slice(window // 2, window // 2 + size - window + 1)
        data = correlate1d(data, weights, axis)
        data = data[(slice(None),) * axis + (inside,)]
    return data


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

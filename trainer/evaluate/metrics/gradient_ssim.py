"""4-G-R-SSIM: structural similarity of gradients, weighed over four kinds of places.

G: contrast and structure are those of the gradient magnitude (Chen 2006). R: without
stabilising constants (Rouse and Hemami 2008). 4: a mean over preserved edges, changed
edges, smooth places and texture (Li and Bovik 2010, with the masks of the authors'
code). One scale.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

WINDOW = 7  # voxels, Gaussian
SIGMA = 1.5  # voxels
EDGE, SMOOTH = 0.12, 0.06  # of the greatest gradient of the first picture
FLAT = 1e-12  # a variance below this share of the mean square is rounding


def gradient_ssim(first: Array, second: Array, window: int = WINDOW) -> float:
    """4-G-R-SSIM of two pictures (i, j, k) in [0, 1], at most 1.

    The definition asks which of two pictures is the original; a pair has none, so that
    both orders are averaged. Only the masks differ between them.

    Parameters
    ----------
    window
        Odd width of the Gaussian window in voxels; every axis needs window + 2.
    """
    x, y = (picture.astype(np.float64) for picture in (first, second))
    grad_x, grad_y = gradient_magnitude(x), gradient_magnitude(y)
    local = _local(x, y, grad_x, grad_y, window)
    return 0.5 * (
        _weighed(local, _masks(grad_x, grad_y), window)
        + _weighed(local, _masks(grad_y, grad_x), window)
    )


def gradient_magnitude(picture: Floats) -> Floats:
    """|d/di| + |d/dj| + |d/dk| per voxel: (i - 2, j - 2, k - 2).

    Central differences averaged over the 3 x 3 voxels across, the middle one twice: a
    ramp of 1 per voxel has the gradient 1.
    """
    return sum(
        (np.abs(_slope(picture, axis)) for axis in range(3)),
        np.zeros([n - 2 for n in picture.shape]),
    )


def _slope(picture: Floats, axis: int) -> Floats:
    from scipy import ndimage

    kernel = np.full((3, 3, 3), 0.05)
    along = np.moveaxis(kernel, axis, 0)  # a view: what is set here is set in kernel
    along[:, 1, 1] = 0.1
    along[0] *= -1
    along[1] = 0
    found: Floats = ndimage.correlate(picture, kernel)[1:-1, 1:-1, 1:-1]
    return found


def _local(x: Floats, y: Floats, grad_x: Floats, grad_y: Floats, window: int) -> Floats:
    """Luminance times contrast times structure where the whole window lies inside."""
    mean_x, mean_y = (_mean(p, window)[1:-1, 1:-1, 1:-1] for p in (x, y))
    light = _share(2 * mean_x * mean_y, mean_x**2 + mean_y**2)
    a, b = _mean(grad_x, window), _mean(grad_y, window)
    covariance = _mean(grad_x * grad_y, window) - a * b
    spread = _variance(grad_x, a, window) + _variance(grad_y, b, window)
    # contrast times structure: the SDs of the one cancel those of the other
    return light * _share(2 * covariance, spread)


def _share(over: Floats, under: Floats) -> Floats:
    """`over` / `under`; 1 where nothing is to be compared."""
    return np.divide(over, under, out=np.ones_like(over), where=under > 0)


def _variance(values: Floats, mean: Floats, window: int) -> Floats:
    squares = _mean(values**2, window)
    variance = squares - mean**2
    return np.where(variance > FLAT * squares, variance, 0.0)


def _mean(values: Floats, window: int) -> Floats:
    """Gaussian means where the window lies inside: each axis window - 1 shorter."""
    from scipy import ndimage

    edge = window // 2
    line = np.exp(-0.5 * (np.arange(-edge, edge + 1) / SIGMA) ** 2)
    for axis in range(3):
        values = ndimage.correlate1d(values, line / line.sum(), axis)
    inner: Floats = values[edge:-edge, edge:-edge, edge:-edge]
    return inner


def _masks(original: Floats, other: Floats) -> Iterable[Mask]:
    """Preserved edges, changed edges, smooth places, texture: bool (i, j, k)."""
    high, low = (share * original.max() for share in (EDGE, SMOOTH))
    in_first, in_second = original > high, other > high
    kept = in_first & in_second
    changed = in_first ^ in_second
    smooth = (original < low) & ~in_second
    return kept, changed, smooth, ~(kept | changed | smooth)


def _weighed(local: Floats, masks: Iterable[Mask], window: int) -> float:
    """Mean of the means inside the masks that are not empty; at least 0."""
    edge = window // 2
    inner = [mask[edge:-edge, edge:-edge, edge:-edge] for mask in masks]
    return max(0.0, float(np.mean([local[m].mean() for m in inner if m.any()])))

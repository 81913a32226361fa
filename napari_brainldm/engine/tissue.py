"""Gray matter, white matter and fluid of a T1: a Gaussian mixture with MNI priors.

Each tissue has one Gaussian of intensities and a prior of where it lies; expectation
maximisation fits the Gaussians (Ashburner & Friston 2005, Unified segmentation,
https://doi.org/10.1016/j.neuroimage.2005.02.018, without its registration: the priors
are stretched to the brain and blurred instead). What lies between two tissues is shared
out by intensity.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.volume import Affine, Array, Grid, Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.placement import Mask

TISSUES = ("csf", "gray", "white")

BLUR_MM = 4.0
"""SD by which priors are blurred: one person's gyri lie elsewhere."""

FLOOR = 0.1
"""Least prior of each tissue within the brain: intensities may overrule the map."""

ITERATIONS = 30
TOLERANCE = 1e-4
"""Change of the means, in intensities of 0 to 1, at which the fit ends."""

LEAST_SD = 0.01
ENDS = (2.0, 98.0)
"""Percentiles of the coordinates of a brain taken for its ends."""

_LEAST_VOXELS = 500
_WIDEST = 1.0  # SD of fluid in that of gray matter
_DARK = 3.0  # percentile of a brain's intensities that is fluid alone


@dataclass(frozen=True, eq=False)
class Mixture:
    """The Gaussians of the three tissues: means and SDs (3,), in `TISSUES`' order."""

    means: NDArray[np.float64]
    sds: NDArray[np.float64]


def tissues(picture: Volume, brain: Mask) -> tuple[Array, Mixture]:
    """Shares of fluid, gray and white matter (3, i, j, k), which sum to 1 in `brain`.

    Parameters
    ----------
    picture
        T1 in MNI space, placed rigidly, intensities 0 to about 1.
    brain
        bool (i, j, k) on the same grid.

    Raises
    ------
    EngineError
        If the brain is too small to fit, or its tissues are not of the order of a T1.
    """
    if brain.sum() < _LEAST_VOXELS:
        raise EngineError(
            f"The brain holds {int(brain.sum())} voxels, too few to tell tissues "
            "apart. Check the brain mask of the scan."
        )
    prior = _priors(picture.grid, brain)[:, brain]
    values = picture.data[brain].astype(np.float64)
    mixture = _fitted(values, prior)
    _check_order(mixture)
    inside = _shared_out(values, _posterior(values, prior, mixture), mixture)
    shares = np.zeros((len(TISSUES), *brain.shape), np.float32)
    shares[:, brain] = inside
    return shares, mixture


def gray_prior(grid: Grid) -> Array:
    """The template's gray matter (i, j, k), blurred, on a `grid` in MNI space."""
    (gray, _), _ = _template_maps()
    return resample(_blurred(gray), grid)


def _fitted(values: NDArray[np.float64], prior: NDArray[np.float64]) -> Mixture:
    """The mixture of intensities (V,) under `prior` (3, V)."""
    mixture = _moments(values, prior)
    # sulci are thinner than voxels: most voxels with fluid hold something brighter
    darkest = float(np.percentile(values, _DARK))
    mixture.means[0] = min(mixture.means[0], darkest)
    for _ in range(ITERATIONS):
        pure = _posterior(values, prior, mixture)[: len(TISSUES)]
        after = _moments(values, pure)
        moved = float(np.abs(after.means - mixture.means).max())
        mixture = after
        if moved < TOLERANCE:
            break
    return mixture


def _moments(values: NDArray[np.float64], weights: NDArray[np.float64]) -> Mixture:
    total = weights.sum(1)
    means = weights @ values / total
    squares = (weights * (values - means[:, None]) ** 2).sum(1) / total
    sds = np.maximum(np.sqrt(squares), LEAST_SD)
    # noise is the same everywhere: a wider fluid would be what it shares voxels with
    sds[0] = min(sds[0], _WIDEST * sds[1])
    return Mixture(means, sds)


def _posterior(
    values: NDArray[np.float64], prior: NDArray[np.float64], mixture: Mixture
) -> NDArray[np.float64]:
    """Probability (5, V) of each tissue and of each pair, given place and intensity.

    A voxel that two tissues share, in any proportion alike, lies between their means:
    taken as a Gaussian of that mean and variance.
    """
    means, sds = mixture.means, mixture.sds
    lower, upper = means[:-1], means[1:]
    mixed = ((sds[:-1] ** 2 + sds[1:] ** 2) / 3 + (upper - lower) ** 2 / 12) ** 0.5
    every_mean = np.concatenate([means, (lower + upper) / 2])[:, None]
    every_sd = np.concatenate([sds, mixed])[:, None]
    pairs = 2 * np.sqrt(prior[:-1] * prior[1:])
    every_prior = np.concatenate([prior, pairs])
    logs = np.log(every_prior) - 0.5 * ((values - every_mean) / every_sd) ** 2
    logs -= np.log(every_sd)
    odds = np.exp(logs - logs.max(0))
    found: NDArray[np.float64] = odds / odds.sum(0)
    return found


def _check_order(mixture: Mixture) -> None:
    if not mixture.means[0] < mixture.means[1] < mixture.means[2]:
        told = ", ".join(
            f"{n} {m:.2f}" for n, m in zip(TISSUES, mixture.means, strict=True)
        )
        raise EngineError(
            f"The tissues of this scan have the intensities {told}; in a T1 fluid is "
            "dark, gray matter darker than white. Give a T1-weighted scan."
        )


def _shared_out(
    values: NDArray[np.float64], posterior: NDArray[np.float64], mixture: Mixture
) -> NDArray[np.float32]:
    """Shares (3, V): a pair's voxels are shared out by where they lie between."""
    means = mixture.means
    shares = posterior[: len(TISSUES)].copy()
    for lower, odds in enumerate(posterior[len(TISSUES) :]):
        apart = means[lower + 1] - means[lower]
        upper = np.clip((values - means[lower]) / apart, 0, 1)
        shares[lower] += odds * (1 - upper)
        shares[lower + 1] += odds * upper
    return shares.astype(np.float32)


def _priors(grid: Grid, brain: Mask) -> NDArray[np.float64]:
    """Priors (3, i, j, k) of the tissues, stretched to the extent of `brain`."""
    maps, template_brain = _template_maps()
    stretch = _stretch(brain, grid, template_brain)
    gray, white = (
        resample(_blurred(volume), grid, stretch).astype(np.float64) for volume in maps
    )
    tissue = np.clip(gray + white, 1e-6, None)
    scale = np.minimum(1 / tissue, 1)
    found = np.stack([1 - tissue * scale, gray * scale, white * scale])
    found = FLOOR + (1 - len(TISSUES) * FLOOR) * np.clip(found, 0, 1)
    return np.asarray(found / found.sum(0), np.float64)


def _blurred(volume: Volume) -> Volume:
    from scipy.ndimage import gaussian_filter

    sigma = [BLUR_MM / size for size in volume.grid.voxel_size]
    return Volume(gaussian_filter(volume.data, sigma), volume.affine)


def _stretch(brain: Mask, grid: Grid, template: Volume) -> Affine:
    """4 x 4, mm of `grid` -> mm of the template: the ends of both brains meet."""
    low, high = _ends(brain, grid)
    first, last = _ends(template.data > 0.5, template.grid)
    scale = (last - first) / np.maximum(high - low, 1e-6)
    matrix = np.diag([*scale, 1.0])
    matrix[:3, 3] = first - scale * low
    return matrix


def _ends(mask: Mask, grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = np.argwhere(mask) @ grid.matrix[:3, :3].T + grid.matrix[:3, 3]
    low, high = np.percentile(points, ENDS, axis=0)
    return low, high


@lru_cache(maxsize=1)
def _template_maps() -> tuple[tuple[Volume, Volume], Volume]:
    """Gray and white matter maps of the MNI152 template at 2 mm, and its brain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nilearn's imports
        from nilearn import datasets

        images = (
            datasets.load_mni152_gm_template(resolution=2),
            datasets.load_mni152_wm_template(resolution=2),
            datasets.load_mni152_brain_mask(resolution=2),
        )
    gray, white, brain = (
        Volume(np.asarray(i.dataobj, np.float32), np.asarray(i.affine, np.float64))
        for i in images
    )
    return (gray, white), brain

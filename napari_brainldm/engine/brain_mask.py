"""Where the brain is in a scan: skull gone or not, and what to cut away.

The rules are simple and measured on real scans; they serve to place a scan and to blank
what is not brain. Volumes of structures are never taken from these masks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.placement import (
    Mask,
    Placement,
    Template,
    largest_piece,
)
from napari_brainldm.engine.resample import inverse, on_cubes, resample
from napari_brainldm.engine.volume import Array, Grid, Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.segment import Segmentation

BACKGROUND_SHARE = 0.4
"""A stripped scan has at least this share of voxels of one value, its background."""

LARGEST_BRAIN_ML = 2400.0
"""A foreground above this is a head."""

DARK_LAYER = 0.38
"""10th percentile, 6 to 12 mm deep, relative to the core: skull is darker, cortex not.

Measured: 0.42 to 0.71 in 13 stripped scans, 0.03 to 0.35 in 6 whole heads.
"""

COARSE_MM = 2.0
"""Voxels in which a scan is looked at before it is resampled, mm."""

CRUMB_MM = 6.0
"""What lies further from the segmented brain is no brain."""

BORDER_MM = 1.0
"""The segmented brain is widened by this, so that no cortex is cut off."""

SMOOTH_MM = 2.0
"""Blur of the segmented brain's surface, SD: the voxels of the segmenter."""

HEAD_TOP_MM = 150.0
"""A brain ends above this depth under the top of the head."""


def background_of(scan: Volume) -> float:
    """The most frequent value on the six faces of the scan."""
    data = scan.data
    faces = [np.take(data, end, axis).ravel() for axis in range(3) for end in (0, -1)]
    values, counts = np.unique(np.concatenate(faces), return_counts=True)
    return float(values[counts.argmax()])


def with_dark_background(scan: Volume) -> tuple[Volume, float]:
    """`scan` and its background, which is made dark where tissue lies below it.

    Z-scored scans have their background in the middle of the intensities.
    """
    background = background_of(scan)
    outside = scan.data == background
    few_below = np.mean(scan.data < background) < 0.01
    if few_below or outside.mean() < BACKGROUND_SHARE:
        return scan, background
    low = np.percentile(scan.data[~outside], 0.5).astype(np.float32)
    return Volume(np.where(outside, low, scan.data), scan.affine), float(low)


def stripped_brain(scan: Volume, coarse: Volume, background: float) -> Volume | None:
    """The brain, 0 or 1 in 2 mm cubes, of a scan without skull; None of a whole head.

    The skull is gone when a large share of the voxels has exactly one value, what
    remains is no larger than a brain, and no dark layer (skull) lies under its surface.
    """
    if np.mean(scan.data == background) < BACKGROUND_SHARE:
        return None
    brain = _not_background(scan, background)
    if brain.data.sum() * COARSE_MM**3 / 1000 > LARGEST_BRAIN_ML:
        return None
    return None if _has_dark_layer(coarse.data, brain.data > 0.5) else brain


def _not_background(scan: Volume, background: float) -> Volume:
    """The largest piece of what differs from the background, holes filled."""
    from scipy import ndimage

    differs = Volume((scan.data != background).astype(np.float32), scan.affine)
    values, grid = on_cubes(differs, COARSE_MM, 0)
    filled = ndimage.binary_fill_holes(_without_threads(values > 0))
    return Volume(np.asarray(filled, np.float32), grid.matrix)


def _without_threads(mask: Mask, thick_mm: float = 4.0) -> Mask:
    """The largest piece of `mask` in 2 mm cubes, less what hangs on by a thread."""
    from scipy import ndimage

    distance = ndimage.distance_transform_edt
    core = largest_piece(distance(mask) * COARSE_MM > thick_mm)
    near = distance(~core) * COARSE_MM <= thick_mm + COARSE_MM
    return np.asarray(near & mask & core.any())


def _has_dark_layer(data: Array, inside: Mask) -> bool:
    from scipy import ndimage

    padded = ndimage.distance_transform_edt(np.pad(inside, 1)) * COARSE_MM
    depth = padded[1:-1, 1:-1, 1:-1]
    core, layer = data[depth > 18], data[(depth > 6) & (depth < 12)]
    if core.size == 0:
        return True
    return bool(np.percentile(layer, 10) < DARK_LAYER * np.median(core))


def upper_head(coarse: Volume) -> Volume:
    """The upper part of a head, 0 or 1, as deep as a brain reaches."""
    from scipy import ndimage

    above = coarse.data - min(coarse.data.min(), 0)
    bright = above > 0.2 * np.percentile(above[above > 0], 95)
    piece = largest_piece(ndimage.binary_opening(bright))
    heights = np.nonzero(piece.any(axis=(0, 1)))[0]
    if heights.size:
        piece[:, :, : max(0, int(heights[-1] - HEAD_TOP_MM / COARSE_MM))] = False
    return Volume(piece.astype(np.float32), coarse.affine)


def extract_brain(
    scan: Volume, placement: Placement, template: Template, wider_mm: float
) -> Volume:
    """The brain of a placed whole head, 0 or 1, on the template's grid.

    The template's brain, at the size of the scan's, is widened by `wider_mm`;
    what is dark in it (skull, fluid around the brain) or bright (fat of scalp and
    marrow) is taken off, with what hangs on by a thread.
    """
    from scipy import ndimage

    grid = template.picture.grid
    brain = Volume(template.brain.astype(np.float32), grid.matrix)
    expected = resample(brain, grid, inverse(placement.sized(template))) > 0.5
    distance = ndimage.distance_transform_edt
    wide = distance(~expected) * COARSE_MM <= wider_mm
    data = resample(scan, grid, placement.to_scan)
    typical = np.median(data[expected]) if expected.any() else 0.0
    tissue = wide & (data > 0.4 * typical) & (data < 1.7 * typical)
    grown = _without_threads(tissue, 3.0)
    closed = distance(distance(~grown) * COARSE_MM <= 6.0) * COARSE_MM > 6.0
    filled = ndimage.binary_fill_holes(closed & wide)
    return Volume(np.asarray(filled, np.float32), grid.matrix)


def soft_brain(segmentation: Segmentation) -> Volume:
    """The segmented brain and a border, on its grid; inside is above 0.5.

    Soft at the surface, so that it stays smooth on a finer grid.
    """
    from math import erfc, sqrt

    from scipy import ndimage

    brain = segmentation.brain()
    share = np.where(brain, np.maximum(1 - segmentation.memberships[0], 0.5), 0)
    share[brain & (share <= 0.5)] = 1  # holes, which were filled
    spread = SMOOTH_MM / np.array(segmentation.grid.voxel_size)
    smooth = ndimage.gaussian_filter(share.astype(np.float32), spread)
    level = erfc(BORDER_MM / SMOOTH_MM / sqrt(2)) / 2  # of a flat surface, blurred
    soft = np.clip(smooth / (2 * level), 0, 1).astype(np.float32)
    return Volume(soft, segmentation.grid.matrix)


def within_reach(segmentation: Segmentation, grid: Grid) -> Mask:
    """Voxels of `grid`, in MNI space, in or near the segmented brain."""
    from scipy import ndimage

    away = ~segmentation.brain()
    if away.all():
        return np.zeros(grid.shape, bool)
    size = segmentation.grid.voxel_size
    near = ndimage.distance_transform_edt(away, size) <= CRUMB_MM
    found = Volume(near.astype(np.float32), segmentation.grid.matrix)
    return resample(found, grid) > 0.5

"""A user's scan onto the grid of a model: turned, placed, stripped, scaled, judged.

The placement is rigid: sizes and volumes stay those of the scan. Left stays left: axes
are only ever permuted and flipped together with the affine that says where they point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_brainldm.engine.bias import without_bias
from napari_brainldm.engine.brain_mask import with_dark_background
from napari_brainldm.engine.locate import Located, locate
from napari_brainldm.engine.placement import Mask, Placement, Template, mni_template
from napari_brainldm.engine.quality import (
    NOT_A_BRAIN,
    Quality,
    check_contrast,
    check_quality,
    check_size,
    judge,
)
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import inverse, resample
from napari_brainldm.engine.segment import Segmentation, Segmenter
from napari_brainldm.engine.strip import BUILT_IN, check_way
from napari_brainldm.engine.volume import Affine, Array, Grid, Volume
from napari_brainldm.engine.warp import Warp


@dataclass(frozen=True)
class Preparation:
    """What a user chooses about the way of a scan onto the grid.

    Attributes
    ----------
    strip
        Who finds the brain: "built-in", "mri_synthstrip" or "hd-bet".
    n4
        Whether slow shading is taken out first.
    """

    strip: str = BUILT_IN
    n4: bool = False


@dataclass(frozen=True, eq=False)
class Conformed:
    """A scan on a model's grid.

    Attributes
    ----------
    volume
        0..1, 0 outside the brain, on the grid asked for.
    brain
        bool (i, j, k) on the same grid.
    to_scan
        4 x 4 rigid: mm of the grid (MNI) -> mm of the scan.
    unit
        Intensity of the scan that became 1.
    quality
        How well the placement worked.
    steps
        What was done, one sentence each.
    method
        Who found the brain: "segmenter" and the start of its sha256, a program, or a
        rule in words.
    n4
        Whether slow shading was taken out.
    segmentation
        Structures of the placed scan; None when no segmenter was given.
    warp
        How the brain was bent onto the template; None where it was only placed.
    """

    volume: Volume
    brain: Mask
    to_scan: Affine
    unit: float
    quality: Quality
    steps: tuple[str, ...]
    method: str = ""
    n4: bool = False
    segmentation: Segmentation | None = None
    warp: Warp | None = None


@dataclass(frozen=True, eq=False)
class Placed:
    """A scan turned and placed, not yet resampled.

    Attributes
    ----------
    scan
        Axes closest to RAS.
    background
        Its intensity where nothing is.
    """

    scan: Volume
    background: float
    found: Located
    quality: Quality
    n4: bool

    def conformed(
        self, volume: Volume, brain: Mask, unit: float, last: tuple[str, ...]
    ) -> Conformed:
        """The scan as `volume` on a grid; `last` tells how it came there."""
        shading = ("Slow shading was taken out by N4.",) if self.n4 else ()
        placing = _placing(self.found.placement)
        return Conformed(
            volume,
            brain,
            self.found.placement.to_scan,
            unit,
            self.quality,
            (*self.found.steps, *shading, placing, *last),
            self.found.method,
            self.n4,
            self.found.segmentation,
        )


def conform(
    scan: Volume,
    grid: Grid,
    percentile: float = 99.5,
    template: Template | None = None,
    *,
    segmenter: Segmenter | None = None,
    strip: str = BUILT_IN,
    n4: bool = False,
) -> Conformed:
    """Bring a T1-weighted `scan`, whole head or stripped, onto `grid` in MNI space.

    Parameters
    ----------
    scan
        Any orientation; voxel axes need not be at right angles.
    grid
        Grid of the model, in MNI space.
    percentile
        Percentile of the intensities within the brain that becomes 1.
    template
        Result of `mni_template`, to save a second when many scans are conformed.
    segmenter
        Tells the brain of a whole head, takes crumbs off a stripped one, and gives the
        structures; without one the mask is rough.
    strip
        Who finds the brain: "built-in", "mri_synthstrip" or "hd-bet".
    n4
        Whether slow shading is taken out first, by N4.

    Raises
    ------
    EngineError
        When the scan is empty or does not look like a T1-weighted brain, or the
        program asked for is missing or fails.
    """
    template = mni_template() if template is None else template
    placed = put_in_place(scan, template, segmenter, strip=strip, n4=n4)
    data, brain = on_grid(placed, grid)
    scaled, unit = _scaled(data, brain, placed.background, percentile)
    last = (
        f"Intensities divided by the {percentile:g}th percentile within the brain and "
        "clipped to 0..1."
    )
    return placed.conformed(Volume(scaled, grid.matrix), brain, unit, (last,))


def put_in_place(
    scan: Volume,
    template: Template,
    segmenter: Segmenter | None,
    *,
    strip: str = BUILT_IN,
    n4: bool = False,
) -> Placed:
    """Turn, place and judge `scan`; as `conform`, before it is resampled."""
    check_way(strip)
    check_contrast(scan)
    turned, background = with_dark_background(canonical(scan))
    if n4:
        turned = without_bias(turned, background)
    found = locate(turned, background, template, segmenter, strip)
    quality = judge(turned, found.mask, found.placement, template)
    check_quality(quality)
    check_size(found.placement.size)
    return Placed(turned, background, found, quality, n4)


def in_scan_space(picture: Volume, conformed: Conformed, grid: Grid) -> Volume:
    """A `picture` of a conformed scan on `grid`, the scan's own.

    Cubic, and never beyond the intensities of `picture`; 0 outside it.
    """
    if conformed.warp is not None:
        data = conformed.warp.into_scan(picture, grid)
        return Volume(data, grid.matrix)
    back = inverse(conformed.to_scan)
    data = resample(picture, grid, back, order=3)
    low, high = min(0.0, float(picture.data.min())), float(picture.data.max())
    return Volume(np.clip(data, low, high), grid.matrix)


def normalise(
    data: Array, mask: Mask, low: float = 0.0, high: float = 99.5
) -> tuple[Array, float]:
    """Intensities 0..1 and the intensity that became 1.

    Parameters
    ----------
    data
        float32 (i, j, k).
    mask
        bool (i, j, k), the brain.
    low
        Intensity that becomes 0.
    high
        Percentile of the intensities within `mask` that becomes 1; higher is clipped.
    """
    unit = float(np.percentile(data[mask], high))
    scaled = np.clip((data - low) / max(unit - low, 1e-12), 0.0, 1.0)
    return scaled.astype(np.float32), unit


def canonical(scan: Volume) -> Volume:
    """The same picture with axes permuted and flipped to the closest RAS."""
    import nibabel

    turning: Any = nibabel.orientations
    turns = turning.io_orientation(scan.affine)
    data = np.ascontiguousarray(turning.apply_orientation(scan.data, turns), np.float32)
    return Volume(data, scan.affine @ turning.inv_ornt_aff(turns, scan.data.shape))


def on_grid(placed: Placed, grid: Grid) -> tuple[Array, Mask]:
    """Intensities and brain of a placed scan on `grid`."""
    scan, found = placed.scan, placed.found
    data = resample(scan, grid, found.placement.to_scan, order=3)
    brain = resample(found.mask, grid) > 0.5
    return np.clip(data, scan.data.min(), scan.data.max()), brain


def brain_alone(placed: Placed) -> Volume:
    """The scan above its background, 0 outside the brain."""
    found, scan = placed.found, placed.scan
    brain = resample(found.mask, scan.grid, inverse(found.placement.to_scan)) > 0.5
    above = np.maximum(scan.data - np.float32(placed.background), 0)
    return Volume(np.where(brain, above, np.float32(0)), scan.affine)


def _scaled(
    data: Array, brain: Mask, background: float, percentile: float
) -> tuple[Array, float]:
    """0..1 within the brain, 0 outside and where the background's intensity is."""
    if not brain.any():
        raise EngineError(NOT_A_BRAIN.format("no brain lies on the model's grid"))
    scaled, unit = normalise(data, brain, background, percentile)
    return np.where(brain, scaled, np.float32(0)), unit


def _placing(placement: Placement) -> str:
    return (
        "Placed rigidly in MNI152 space, never scaled; an edge of the brain is "
        f"{placement.size:.2f} times the template's."
    )

"""A user's scan onto the grid of a model: turned, placed, stripped, scaled, judged.

The placement is rigid: sizes and volumes stay those of the scan. Left stays left: axes
are only ever permuted and flipped together with the affine that says where they point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.brain_mask import (
    COARSE_MM,
    extract_brain,
    stripped_brain,
    upper_head,
    with_dark_background,
)
from napari_brainldm.engine.placement import (
    Mask,
    Placement,
    Template,
    centre_of,
    mni_template,
    place,
    refine,
)
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import inverse, on_cubes, resample
from napari_brainldm.engine.volume import Affine, Array, Grid, Volume

LOWEST_QUALITY = 0.6
"""Below this quality a scan is refused.

Measured: 0.66 to 0.87 in 57 real T1-weighted scans, at most 0.53 in spheres, boxes,
noise, label maps and a CT.
"""

LOWEST_COVERAGE = 0.75
"""Share of the brain that has to lie within the scan."""

SIZES = (0.72, 1.15)
"""Edge of a brain relative to the MNI152 template's; adults have 0.82 to 1.0."""

WIDER_MM = 5.0
"""How far the expected brain is widened to hold a whole head's brain."""


@dataclass(frozen=True)
class Quality:
    """How well a scan was placed; each figure 0 to 1, 1 is best.

    Attributes
    ----------
    overlap
        Dice overlap of the brain with the template's, the difference in size allowed
        for.
    likeness
        Correlation of intensities with the template's within the brain, 0 where
        negative. A T1-weighted scan has bright white matter and dark fluid; noise and
        other contrasts do not.
    coverage
        Share of the expected brain that lies within the scan's field of view.
    """

    overlap: float
    likeness: float
    coverage: float

    @property
    def figure(self) -> float:
        """Geometric mean of the three: bad in one is bad."""
        return float(np.cbrt(self.overlap * self.likeness * self.coverage))


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
    """

    volume: Volume
    brain: Mask
    to_scan: Affine
    unit: float
    quality: Quality
    steps: tuple[str, ...]


def conform(
    scan: Volume,
    grid: Grid,
    percentile: float = 99.5,
    template: Template | None = None,
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

    Raises
    ------
    EngineError
        When the scan is empty or does not look like a T1-weighted brain.
    """
    _check_contrast(scan)
    template = mni_template() if template is None else template
    turned, background = with_dark_background(canonical(scan))
    coarse = _coarse(turned, background)
    brain = stripped_brain(turned, coarse, background)
    if brain is None:
        placement, mask = _placed_head(coarse, template)
    else:
        placement, mask = _placed_brain(coarse, brain, template)
    quality = judge(turned, mask, placement, template)
    _check_quality(quality)
    _check_size(placement.size)
    data, inside = _on_grid(turned, mask, placement, grid)
    scaled, unit = _scaled(data, inside, background, percentile)
    return Conformed(
        Volume(scaled, grid.matrix),
        inside,
        placement.to_scan,
        unit,
        quality,
        _steps(brain is not None, placement, percentile),
    )


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


def _coarse(scan: Volume, background: float) -> Volume:
    """`scan` in 2 mm cubes, its background at 0 as outside the field of view."""
    data, grid = on_cubes(scan, COARSE_MM)
    seen, _ = on_cubes(Volume(np.ones_like(scan.data), scan.affine), COARSE_MM, 0)
    return Volume(np.where(seen > 0, data - np.float32(background), 0), grid.matrix)


def _middle(foreground: Volume) -> NDArray[np.float64]:
    if not foreground.data.any():
        raise EngineError(_NOT_A_BRAIN.format("no head and no brain was found in it"))
    return centre_of(foreground.data, foreground.affine)


def _placed_brain(
    coarse: Volume, brain: Volume, template: Template
) -> tuple[Placement, Volume]:
    """Placement of a stripped scan; its brain, 0 or 1, on the template's grid."""
    _check_size(float(np.cbrt(brain.data.sum() / template.brain.sum())))
    clean = Volume(np.where(brain.data > 0, coarse.data, 0), coarse.affine)
    placement = place(clean, _middle(brain), template)
    grid = template.picture.grid
    placed = resample(brain, grid, placement.to_scan) > 0.5
    return placement, Volume(placed.astype(np.float32), grid.matrix)


def _placed_head(coarse: Volume, template: Template) -> tuple[Placement, Volume]:
    """Placement of a whole head: found, cut out, and placed again without the skull."""
    rough = place(coarse, _middle(upper_head(coarse)), template)
    mask = extract_brain(coarse, rough, template, 3.0)
    if not mask.data.any():
        raise EngineError(_NOT_A_BRAIN.format("no brain was found in it"))
    back = resample(mask, coarse.grid, inverse(rough.to_scan))
    cut = Volume(np.where(back > 0.5, coarse.data, 0), coarse.affine)
    placement = refine(cut, rough, template)
    return placement, extract_brain(coarse, placement, template, WIDER_MM)


def judge(
    scan: Volume, mask: Volume, placement: Placement, template: Template
) -> Quality:
    """Compare the placed `scan` and its brain `mask` with the template."""
    grid, sized = template.picture.grid, placement.sized(template)
    to_scan = placement.to_scan @ sized
    field = Volume(np.ones_like(scan.data), scan.affine)
    seen = resample(field, grid, to_scan, order=0) > 0
    brain = resample(mask, grid, sized) > 0.5
    both = brain & template.brain
    overlap = 2 * both.sum() / max(brain.sum() + template.brain.sum(), 1)
    where = both & seen
    data, picture = (
        _detail(values, where)
        for values in (resample(scan, grid, to_scan), template.picture.data)
    )
    return Quality(
        float(overlap),
        _correlation(data, picture),
        float(seen[template.brain].mean()),
    )


def _detail(data: Array, where: Mask) -> Array:
    """Values of `data` within `where`, less their surroundings (2 against 16 mm SD).

    Takes away noise, bright vessels and the slow shading that receive coils leave.
    """
    from scipy import ndimage

    weight = where.astype(np.float32)
    clipped = (
        np.clip(data, *np.percentile(data[where], (2, 98))) if where.any() else data
    )
    fine, slow = (
        ndimage.gaussian_filter(clipped * weight, sd)
        / np.maximum(ndimage.gaussian_filter(weight, sd), 1e-3)
        for sd in (1.0, 8.0)
    )
    return np.asarray((fine - slow)[where], np.float32)


def _correlation(first: Array, second: Array) -> float:
    """Pearson's, 0 where negative or undefined."""
    if first.size < 2 or np.ptp(first) == 0:
        return 0.0
    return max(0.0, float(np.corrcoef(first, second)[0, 1]))


_NOT_A_BRAIN = (
    "The scan does not look like a T1-weighted picture of a whole brain: {}. Choose a "
    "T1-weighted scan, whole head or brain only, and check its orientation."
)


def _check_contrast(scan: Volume) -> None:
    if min(scan.data.shape) < 2 or np.ptp(scan.data) == 0:
        raise EngineError(_NOT_A_BRAIN.format("every voxel has the same intensity"))


def _check_quality(quality: Quality) -> None:
    if quality.coverage < LOWEST_COVERAGE:
        missing = f"{100 * (1 - quality.coverage):.0f} % of the brain lies outside it"
        raise EngineError(_NOT_A_BRAIN.format(missing))
    if quality.figure < LOWEST_QUALITY:
        found = (
            f"placement quality {quality.figure:.2f}, at least {LOWEST_QUALITY} is "
            f"needed (overlap {quality.overlap:.2f}, likeness {quality.likeness:.2f})"
        )
        raise EngineError(_NOT_A_BRAIN.format(found))


def _check_size(size: float) -> None:
    low, high = SIZES
    if not low <= size <= high:
        found = (
            f"its brain is {size:.2f} times the template's along an edge, "
            f"{low} to {high} is plausible, so its voxel size may be wrong"
        )
        raise EngineError(_NOT_A_BRAIN.format(found))


def _on_grid(
    scan: Volume, mask: Volume, placement: Placement, grid: Grid
) -> tuple[Array, Mask]:
    """Intensities and brain on `grid`."""
    data = resample(scan, grid, placement.to_scan, order=3)
    brain = resample(mask, grid) > 0.5
    return np.clip(data, scan.data.min(), scan.data.max()), brain


def _scaled(
    data: Array, brain: Mask, background: float, percentile: float
) -> tuple[Array, float]:
    """0..1 within the brain, 0 outside and where the background's intensity is."""
    if not brain.any():
        raise EngineError(_NOT_A_BRAIN.format("no brain lies on the model's grid"))
    scaled, unit = normalise(data, brain, background, percentile)
    return np.where(brain, scaled, np.float32(0)), unit


def _steps(stripped: bool, placement: Placement, percentile: float) -> tuple[str, ...]:
    found = "a brain without skull" if stripped else "a whole head"
    brain = (
        "The brain is what differs from the background."
        if stripped
        else f"Cut out with the MNI152 brain widened by {WIDER_MM:g} mm: a rough mask."
    )
    return (
        f"Taken for {found}.",
        "Placed rigidly in MNI152 space, never scaled; an edge of the brain is "
        f"{placement.size:.2f} times the template's.",
        brain,
        f"Intensities divided by the {percentile:g}th percentile within the brain and "
        "clipped to 0..1.",
    )

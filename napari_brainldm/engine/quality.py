"""How well a scan was placed, and what is refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.volume import Array, Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.placement import Mask, Placement, Template

LOWEST_QUALITY = 0.6
"""Below this quality a scan is refused.

Measured: 0.67 to 0.88 in 59 real T1-weighted scans, at most 0.53 in spheres, boxes,
noise, label maps and a CT.
"""

LOWEST_COVERAGE = 0.75
"""Share of the brain that has to lie within the scan."""

SIZES = (0.72, 1.15)
"""Edge of a brain relative to the MNI152 template's; adults have 0.82 to 1.0."""


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

    def as_dict(self) -> dict[str, float]:
        """The figure and its three parts, for JSON."""
        return {"figure": self.figure, **asdict(self)}


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


NOT_A_BRAIN = (
    "The scan does not look like a T1-weighted picture of a whole brain: {}. Choose a "
    "T1-weighted scan, whole head or brain only, and check its orientation."
)


def check_contrast(scan: Volume) -> None:
    """Refuse a scan in which nothing differs."""
    if min(scan.data.shape) < 2 or np.ptp(scan.data) == 0:
        raise EngineError(NOT_A_BRAIN.format("every voxel has the same intensity"))


def check_quality(quality: Quality) -> None:
    """Refuse a scan that misses a part of the brain or was not placed well."""
    if quality.coverage < LOWEST_COVERAGE:
        missing = f"{100 * (1 - quality.coverage):.0f} % of the brain lies outside it"
        raise EngineError(NOT_A_BRAIN.format(missing))
    if quality.figure < LOWEST_QUALITY:
        found = (
            f"placement quality {quality.figure:.2f}, at least {LOWEST_QUALITY} is "
            f"needed (overlap {quality.overlap:.2f}, likeness {quality.likeness:.2f})"
        )
        raise EngineError(NOT_A_BRAIN.format(found))


def check_size(size: float) -> None:
    """Refuse a brain of implausible `size`, relative to the template's edge."""
    low, high = SIZES
    if not low <= size <= high:
        found = (
            f"its brain is {size:.2f} times the template's along an edge, "
            f"{low} to {high} is plausible, so its voxel size may be wrong"
        )
        raise EngineError(NOT_A_BRAIN.format(found))

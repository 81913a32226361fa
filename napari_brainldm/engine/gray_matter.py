"""Gray-matter maps on a model's grid: of a T1, or of a map that the user brings.

Definitions. A map holds the share of gray matter in each voxel, 0 to 1. In a placed
brain (rigid) its sum is the person's gray matter. Bent onto the template it is
modulated: multiplied by how much each place was shrunk, so that the sum is still the
person's, and values may exceed 1.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.conform import (
    Conformed,
    Preparation,
    brain_alone,
    conform,
    put_in_place,
)
from napari_brainldm.engine.placement import mni_template
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.tissue import TISSUES, gray_prior, tissues
from napari_brainldm.engine.volume import Array, Grid, Volume, mni_grid
from napari_brainldm.engine.warp import Warp, bend

if TYPE_CHECKING:
    from napari_brainldm.engine.segment import Segmenter
    from napari_brainldm.engine.volume import Affine

FINE_MM = 2.0
"""Voxels in which tissues are told apart: larger ones hold too little fluid alone."""

MOST = 10.0
"""No gray matter is shrunk by more than this: higher values are no map of it."""

ROUNDING = 0.02
"""How far a share may lie beyond 0 and 1."""

LEAST_LIKENESS = 0.3
"""Least correlation with the template's gray matter of a map in MNI space."""

LEAST_ML, MOST_ML = 0.2, 1.5
"""How much gray matter a map may hold, in units of the template's (1007 ml).

Wide, so that what lies beyond is certain: adults have 500 to 900 ml, and a map bent
onto the template without modulation about the template's. 1.5 l is a whole brain with
its white matter. The template's brain mask holds 1.9 l, a map of the labels 1 to 3
(CAT12's p0) 4 l, a map divided by the head's size next to nothing.
"""

WHOLE = 0.99
"""Of labels and masks at least this share are whole numbers; of shares far fewer."""

_EXACT = 1e-4  # from a whole number, for labels that were stored with a scale
_EDGE_MM = 8.0  # around the template's gray matter, where the two are compared


@dataclass(frozen=True, eq=False)
class GrayMatter:
    """A gray-matter map on a grid.

    Attributes
    ----------
    volume
        Share of gray matter, 0 to 1, or modulated; (i, j, k) on the grid asked for.
    modulated
        Whether values say how much gray matter of the person a voxel of the template
        holds.
    steps
        What was done, one sentence each.
    scan
        The T1, placed, that it is of; None of a map that the user brought.
    """

    volume: Volume
    modulated: bool
    steps: tuple[str, ...]
    scan: Conformed | None = None

    @property
    def ml(self) -> float:
        """Gray matter in ml, as far as it lies on the grid."""
        unit = float(np.prod(self.volume.grid.voxel_size)) / 1000
        return float(self.volume.data.sum(dtype=np.float64)) * unit


def of_t1(
    scan: Volume,
    grid: Grid,
    segmenter: Segmenter | None = None,
    preparation: Preparation | None = None,
) -> GrayMatter:
    """Gray matter of a T1, placed rigidly in MNI space: its sum is the person's.

    Raises
    ------
    EngineError
        As `conform`, or if the tissues cannot be told apart.
    """
    chosen = asdict(preparation or Preparation())
    found = conform(scan, _fine(grid), segmenter=segmenter, **chosen)
    placed = of_picture(found.volume, grid)
    return replace(placed, steps=(*found.steps, *placed.steps), scan=found)


def of_picture(picture: Volume, grid: Grid) -> GrayMatter:
    """Gray matter of a T1 in MNI space without a skull, 0 outside the brain."""
    data = _gray(picture)
    if picture.grid != grid:
        data = resample(Volume(data, picture.affine), grid)
    step = (
        "Gray matter was told from white matter and fluid by a mixture of Gaussians "
        "with the MNI152 template's maps as priors."
    )
    return GrayMatter(Volume(data, grid.matrix), False, (step,))


def of_t1_modulated(
    scan: Volume,
    grid: Grid,
    segmenter: Segmenter | None = None,
    preparation: Preparation | None = None,
) -> GrayMatter:
    """Gray matter of a T1, bent onto the MNI152 template and modulated.

    Raises
    ------
    EngineError
        As `of_t1`.
    """
    chosen = asdict(preparation or Preparation())
    template = mni_template()
    placed = put_in_place(scan, template, segmenter, **chosen)
    fine = of_t1(scan, _fine(grid), segmenter, preparation)
    warp = bend(brain_alone(placed), placed.found.placement, template)
    to_scan = placed.found.placement.to_scan
    native = Volume(fine.volume.data, to_scan @ fine.volume.affine)
    onto = warp.onto(native, warp.grid).clip(0, 1) * shrinking(warp)
    data = resample(Volume(onto, warp.grid.matrix), grid)
    step = f"Bent onto the MNI152 template by {warp.method} and modulated."
    return GrayMatter(Volume(data, grid.matrix), True, (*fine.steps, step), fine.scan)


def shrinking(warp: Warp) -> Array:
    """How much larger each place of the template is in the scan: (i, j, k)."""
    rows = [_slopes(warp.there[..., axis], warp.grid) for axis in range(3)]
    local = np.linalg.det(np.eye(3) + np.stack(rows, -2))
    whole = abs(np.linalg.det(warp.affine[:3, :3]))
    return np.asarray(np.maximum(local, 0) * whole, np.float32)


def _slopes(values: Array, grid: Grid) -> NDArray[np.float64]:
    """How `values` (i, j, k) change per mm along each axis: (i, j, k, 3)."""
    parts: Any = np.gradient(values, *grid.voxel_size)
    return np.stack(parts, -1)


def of_map(
    probability: Volume,
    grid: Grid,
    modulated: bool | None = None,
    to_map: Affine | None = None,
) -> GrayMatter:
    """A gray-matter map of CAT12, SPM, FSL or another program, on `grid`.

    Parameters
    ----------
    probability
        Share of gray matter in each voxel.
    grid
        Grid of the model, in MNI space.
    modulated
        Whether it was modulated; None infers it: only then do values exceed 1.
    to_map
        4 x 4, mm of MNI space -> mm of the map, for a map in the person's own space
        (`Conformed.to_scan` of the T1 it comes from); None for a map in MNI space.

    Raises
    ------
    EngineError
        If the values are no shares of gray matter, as of labels, masks or pictures, or
        the map does not lie in MNI space.
    """
    inferred = _modulation(probability.data, modulated)
    data = _checked(resample(probability, grid, to_map), grid)
    words = "modulated" if inferred else "not modulated"
    reach = float(probability.data.max())
    told = f"Taken as {words}" + (
        "." if modulated is not None else f": values reach {reach:.2f}."
    )
    where = "placed with its T1" if to_map is not None else "in MNI space"
    return GrayMatter(
        Volume(data, grid.matrix), inferred, (f"A gray-matter map {where}.", told)
    )


def as_it_is(probability: Volume, grid: Grid) -> Array:
    """The values (i, j, k) of a map that lies on `grid`, the model's, already.

    Raises
    ------
    EngineError
        As `of_map`.
    """
    _modulation(probability.data, None)
    return _checked(probability.data, grid)


def _checked(data: Array, grid: Grid) -> Array:
    """`data` on `grid` without negative values, if it may be a gray-matter map."""
    found: Array = np.maximum(data, 0)
    _check_place(found, grid)
    _check_amount(found, grid)
    return found


def _fine(grid: Grid) -> Grid:
    """`grid`, or the 2 mm one of MNI space where that is finer."""
    return grid if max(grid.voxel_size) <= FINE_MM else mni_grid(FINE_MM)


def _gray(picture: Volume) -> Array:
    """Share of gray matter (i, j, k) of a brain that is 0 outside."""
    shares, _ = tissues(picture, picture.data > 0)
    gray: Array = shares[TISSUES.index("gray")]
    return gray


def _modulation(data: Array, modulated: bool | None) -> bool:
    """Whether values are modulated, refused if they are no shares of gray matter."""
    low, high = float(data.min()), float(data.max())
    if low < -ROUNDING or high > MOST or high <= 0:
        raise EngineError(
            f"The map holds values from {low:.3g} to {high:.3g}; a gray-matter map "
            "runs from 0 to about 1. Give the probability map of gray matter, not a "
            "picture or a label map."
        )
    if modulated is False and high > 1 + ROUNDING:
        raise EngineError(
            f"The map reaches {high:.3g}, which no share of a voxel does. It is "
            "modulated: say so, or give the map that is not."
        )
    _check_shares(data)
    return bool(high > 1 + ROUNDING) if modulated is None else modulated


def _check_shares(data: Array) -> None:
    shown = data[data > ROUNDING]
    whole = np.abs(shown - np.rint(shown)) < _EXACT
    if len(shown) and whole.mean() >= WHOLE:
        raise EngineError(
            f"The map holds whole numbers alone, up to {shown.max():.0f}: labels or a "
            "mask. Give the probability map of gray matter."
        )


def _check_amount(data: Array, grid: Grid) -> None:
    unit = float(np.prod(grid.voxel_size)) / 1000
    found, known = (
        unit * float(part.sum(dtype=np.float64)) for part in (data, _template(grid)[0])
    )
    low, high = LEAST_ML * known, MOST_ML * known
    if not low <= found <= high:
        raise EngineError(
            f"The map adds up to {found:.0f} ml of gray matter; {low:.0f} to "
            f"{high:.0f} ml are possible. Give the probability map of gray matter, not "
            "labels, a mask or a picture, and without division by the head's size."
        )


@lru_cache(maxsize=2)
def _template(grid: Grid) -> tuple[Array, NDArray[np.bool_]]:
    """The template's gray matter on `grid` and where it is near: kept for many maps."""
    from scipy.ndimage import binary_dilation

    prior = gray_prior(grid)
    steps = max(round(_EDGE_MM / min(grid.voxel_size)), 1)
    return prior, binary_dilation(prior > 0.1, iterations=steps)


def _check_place(data: Array, grid: Grid) -> None:
    prior, near = _template(grid)
    inside = data[near].std() > 0
    likeness = np.corrcoef(data[near], prior[near])[0, 1] if inside else 0.0
    if likeness < LEAST_LIKENESS:
        raise EngineError(
            f"The map does not lie in MNI space (correlation {likeness:.2f} with the "
            "template's gray matter). Give the normalised map, or the T1 it comes from "
            "as well."
        )

"""The brain of a scan and its place in MNI space, found together.

A rough place tells where to look for the brain; the brain, cut out, gives the place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.brain_mask import (
    COARSE_MM,
    extract_brain,
    soft_brain,
    stripped_brain,
    upper_head,
    within_reach,
)
from napari_brainldm.engine.placement import (
    Placement,
    Template,
    centre_of,
    place,
    refine,
)
from napari_brainldm.engine.quality import NOT_A_BRAIN, check_size
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import inverse, on_cubes, resample
from napari_brainldm.engine.segment import Segmentation, Segmenter
from napari_brainldm.engine.strip import BUILT_IN, program_brain
from napari_brainldm.engine.volume import Affine, Volume

WIDER_MM = 5.0
"""How far the expected brain is widened to hold a whole head's brain."""

AGREEMENT = 0.8
"""Share of a stripped brain that the segmenter has to find before it is asked what in
it are crumbs."""


@dataclass(frozen=True, eq=False)
class Located:
    """A brain in its place.

    Attributes
    ----------
    placement
        Where the scan lies.
    mask
        Share of brain, 0..1, in MNI space, on a grid of its own; brain is above 0.5.
    method
        Who found the brain.
    steps
        What was done, one sentence each.
    segmentation
        Structures of the placed scan; None without a segmenter.
    """

    placement: Placement
    mask: Volume
    method: str
    steps: tuple[str, ...]
    segmentation: Segmentation | None = None


def locate(
    scan: Volume,
    background: float,
    template: Template,
    segmenter: Segmenter | None,
    strip: str,
) -> Located:
    """Find the brain of `scan`, whose voxels have `background` where nothing is.

    Parameters
    ----------
    scan
        Axes closest to RAS.
    background
        Intensity outside head or brain.
    template
        Result of `mni_template`.
    segmenter
        Tells the brain in a whole head; None for a rough rule instead.
    strip
        One of `strip.WAYS`.
    """
    coarse = coarse_of(scan, background)
    lit = Volume(scan.data - np.float32(background), scan.affine)
    if strip != BUILT_IN:
        return _by_program(lit, coarse, template, segmenter, strip)
    brain = stripped_brain(scan, coarse, background)
    if brain is not None:
        return _of_stripped(lit, coarse, brain, template, segmenter)
    if segmenter is not None:
        return _by_segmenter(lit, coarse, template, segmenter)
    return _by_template(coarse, template)


def coarse_of(scan: Volume, background: float) -> Volume:
    """`scan` in 2 mm cubes, its background at 0 as outside the field of view."""
    data, grid = on_cubes(scan, COARSE_MM)
    seen, _ = on_cubes(Volume(np.ones_like(scan.data), scan.affine), COARSE_MM, 0)
    return Volume(np.where(seen > 0, data - np.float32(background), 0), grid.matrix)


def _by_program(
    lit: Volume,
    coarse: Volume,
    template: Template,
    segmenter: Segmenter | None,
    strip: str,
) -> Located:
    fine = program_brain(lit, strip)
    brain = Volume(_binary(fine, coarse), coarse.affine)
    placement = _placed(coarse, brain, template)
    segmentation = None
    if segmenter is not None:
        bare = Volume(lit.data * _binary(fine, lit), lit.affine)
        segmentation = segmenter.segment(_moved(bare, placement.to_scan))
    step = f"The brain was found by {strip} in the scan, in cubes of 1 mm."
    mask = _moved(fine, placement.to_scan)
    return Located(placement, mask, strip, (step,), segmentation)


def _of_stripped(
    lit: Volume,
    coarse: Volume,
    brain: Volume,
    template: Template,
    segmenter: Segmenter | None,
) -> Located:
    placement = _placed(coarse, brain, template)
    steps = (
        "Taken for a brain without skull.",
        "The brain is what differs from the background.",
    )
    mask = _moved(brain, placement.to_scan)
    found = Located(placement, mask, "differs from background", steps)
    if segmenter is None:
        return found
    segmentation = segmenter.segment(_moved(lit, placement.to_scan))
    return _without_crumbs(replace(found, segmentation=segmentation))


def _without_crumbs(found: Located) -> Located:
    """Less what lies away from the segmented brain, if that agrees on the whole."""
    assert found.segmentation is not None
    brain = found.mask.data > 0.5
    near = within_reach(found.segmentation, found.mask.grid)
    if (brain & near).sum() < AGREEMENT * brain.sum():
        return found
    crumbs = (brain & ~near).sum() * COARSE_MM**3 / 1000
    step = f"{crumbs:.1f} ml away from the segmented brain were taken off."
    mask = Volume((brain & near).astype(np.float32), found.mask.affine)
    return replace(found, mask=mask, steps=(*found.steps, step))


def _by_segmenter(
    lit: Volume, coarse: Volume, template: Template, segmenter: Segmenter
) -> Located:
    """Of a whole head: segmented in a rough place, cut out, placed and segmented."""
    rough = _rough(coarse, template)
    first = segmenter.segment(_moved(coarse, rough.to_scan))
    placement = _refined(coarse, soft_brain(first), rough, template)
    segmentation = segmenter.segment(_moved(lit, placement.to_scan))
    mask = soft_brain(segmentation)
    _check_found(mask)
    steps = (
        "Taken for a whole head.",
        "The brain is what lies within the skull, fluid included, as segmented.",
    )
    return Located(placement, mask, segmentation.method, steps, segmentation)


def _by_template(coarse: Volume, template: Template) -> Located:
    rough = _rough(coarse, template)
    first = extract_brain(coarse, rough, template, 3.0)
    placement = _refined(coarse, first, rough, template)
    mask = extract_brain(coarse, placement, template, WIDER_MM)
    steps = (
        "Taken for a whole head.",
        f"Cut out with the MNI152 brain widened by {WIDER_MM:g} mm: a rough mask.",
    )
    return Located(placement, mask, "widened MNI152 brain", steps)


def _placed(coarse: Volume, brain: Volume, template: Template) -> Placement:
    """Placement of a `brain`, 0 or 1, on the grid of `coarse`."""
    check_size(float(np.cbrt(brain.data.sum() / template.brain.sum())))
    clean = Volume(np.where(brain.data > 0, coarse.data, 0), coarse.affine)
    return place(clean, _middle(brain), template)


def _rough(coarse: Volume, template: Template) -> Placement:
    """Placement of a whole head."""
    return place(coarse, _middle(upper_head(coarse)), template)


def _refined(
    coarse: Volume, mask: Volume, rough: Placement, template: Template
) -> Placement:
    """`rough` made better with the brain in `mask`, cut out of `coarse`."""
    _check_found(mask)
    back = resample(mask, coarse.grid, inverse(rough.to_scan))
    cut = Volume(np.where(back > 0.5, coarse.data, 0), coarse.affine)
    return refine(cut, rough, template)


def _check_found(mask: Volume) -> None:
    if not (mask.data > 0.5).any():
        raise EngineError(NOT_A_BRAIN.format("no brain was found in it"))


def _middle(foreground: Volume) -> NDArray[np.float64]:
    if not foreground.data.any():
        raise EngineError(NOT_A_BRAIN.format("no head and no brain was found in it"))
    return centre_of(foreground.data, foreground.affine)


def _moved(volume: Volume, to_scan: Affine) -> Volume:
    """The same voxels, in MNI space."""
    return Volume(volume.data, inverse(to_scan) @ volume.affine)


def _binary(mask: Volume, like: Volume) -> NDArray[np.float32]:
    """`mask` as 0 or 1 on the grid of `like`."""
    return (resample(mask, like.grid) > 0.5).astype(np.float32)

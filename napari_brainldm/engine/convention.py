"""A user's scan as the model of a card saw its training scans.

Our own models know brains placed rigidly and scaled by a percentile (`conform`); the
public ones were trained otherwise, and say so in their cards.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.conform import (
    Conformed,
    Placed,
    Preparation,
    brain_alone,
    conform,
    on_grid,
    put_in_place,
)
from napari_brainldm.engine.framing import framed
from napari_brainldm.engine.gray_matter import MOST, of_map, of_t1, of_t1_modulated
from napari_brainldm.engine.placement import Mask, Template, mni_template
from napari_brainldm.engine.quality import Quality, check_contrast
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.tissue import gray_prior
from napari_brainldm.engine.volume import Array, Grid, Volume
from napari_brainldm.engine.warp import Warp, bend

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.segment import Segmenter

TEMPLATE_GRID = Grid(
    (182, 218, 182),
    (
        (-1.0, 0.0, 0.0, 90.0),
        (0.0, 1.0, 0.0, -126.0),
        (0.0, 0.0, 1.0, -72.0),
        (0.0, 0.0, 0.0, 1.0),
    ),
)
"""Of the 1 mm MNI152 template that LDAE's scans were warped to (LAS)."""

T1_LIKENESS = 0.25
"""Correlation with the template's T1 from which a picture may be a T1 in MNI space: two
placed scans have 0.36 and 0.46, gray-matter maps of them below 0.1."""

GRAY_OF_WHITE = 0.5, 1.0
"""Intensity of gray in units of white matter in a T1: placed scans have 0.65 to 0.74,
maps of white matter up to 0.38, of gray matter from 1.28 on."""

WHITE_FROM, GRAY_FROM = 80.0, 0.6
"""Percentile of the template's T1, and of its gray matter the share, from which on a
place is taken for white or gray matter."""

GRAY_LEVEL = 0.05
"""Share of gray matter from which a voxel counts as brain."""


def conform_to(
    card: Card,
    scan: Volume,
    segmenter: Segmenter | None,
    preparation: Preparation,
) -> Conformed:
    """Bring `scan` onto the grid of `card`, prepared as its training scans were.

    Raises
    ------
    EngineError
        As `conform`.
    """
    if card.intensity.scaling == "probability":
        return _gray_matter(card, scan, segmenter, preparation)
    if card.registration == "nonlinear":
        return _bent(card, scan, segmenter, preparation)
    if card.intensity.scaling == "minmax":
        return _whole(card, scan, segmenter, preparation)
    return conform(
        scan,
        card.grid,
        percentile=card.intensity.percentile,
        segmenter=segmenter,
        **asdict(preparation),
    )


def _whole(
    card: Card, scan: Volume, segmenter: Segmenter | None, preparation: Preparation
) -> Conformed:
    """Placed rigidly, with all that is around the brain, 0 to 1 by least and most."""
    placed = put_in_place(scan, mni_template(), segmenter, **asdict(preparation))
    data, brain = on_grid(placed, card.grid)
    scaled, unit = minmax(data)
    last = ["Least and greatest intensity became 0 and 1."]
    if not card.intensity.stripped and _is_bare(placed, data, brain):
        last.append(
            "The model knows whole heads; this scan is a brain only, so expect a "
            "poorer picture."
        )
    volume = Volume(scaled, card.grid.matrix)
    return placed.conformed(volume, brain, unit, tuple(last))


def _gray_matter(
    card: Card, scan: Volume, segmenter: Segmenter | None, preparation: Preparation
) -> Conformed:
    """A gray-matter map as it is, or that of a T1: bent and modulated if trained so."""
    modulated = card.registration == "nonlinear"
    if float(scan.data.max()) <= MOST and not _is_t1_in_place(scan):
        found = of_map(scan, card.grid, modulated)
    else:
        made = of_t1_modulated if modulated else of_t1
        found = made(scan, card.grid, segmenter, preparation)
    a_map = replace(prepared(found.volume), method="gray matter")
    return replace(
        found.scan or a_map,
        volume=found.volume,
        brain=found.volume.data > GRAY_LEVEL,
        unit=1.0,
        steps=found.steps,
        segmentation=None,  # of the head, not of its gray matter
    )


def _is_t1_in_place(scan: Volume) -> bool:
    """Whether it lies in MNI space and its tissues are as bright as those of a T1.

    A T1 scaled from 0 to 1 has the values of a gray-matter map; but its white matter is
    somewhat brighter than its gray matter. In a map it is nearly 0.
    """
    template = mni_template()
    grid, inside = template.picture.grid, template.brain
    data, shown = resample(scan, grid), template.picture.data
    white = inside & (shown > np.percentile(shown[inside], WHITE_FROM))
    share = float(data[gray_prior(grid) > GRAY_FROM].mean() / data[white].mean())
    low, high = GRAY_OF_WHITE
    return low < share < high and likeness(scan, template) > T1_LIKENESS


def _is_bare(placed: Placed, data: Array, brain: Mask) -> bool:
    """Whether next to nothing but the brain is in the picture."""
    seen = data > placed.background + 0.1 * (data.max() - placed.background)
    return bool((seen & ~brain).sum() < 0.1 * brain.sum())


def _bent(
    card: Card, scan: Volume, segmenter: Segmenter | None, preparation: Preparation
) -> Conformed:
    """N4, brain alone, bent onto the template, framed: as LDAE's authors do it."""
    if scan.grid.is_at(card.grid):
        return _as_it_is(card, scan)
    template = mni_template()
    wanted = asdict(replace(preparation, n4=True))
    placed = put_in_place(scan, template, segmenter, **wanted)
    brain = brain_alone(placed)
    warp = bend(brain, placed.found.placement, template)
    onto = Volume(_bent_brain(brain, warp), TEMPLATE_GRID.matrix)
    volume = framed(onto, card.grid.voxel_size[0], card.grid.shape)
    last = (
        f"Bent onto the MNI152 template by {warp.method} (correlation with it "
        f"{likeness(onto, template):.2f}), as the model was trained; volumes are the "
        "template's, not the person's.",
        "Framed at 1.5 mm; least and greatest intensity became 0 and 1.",
    )
    unit = float(onto.data.max())
    done = placed.conformed(volume, volume.data > 0, unit, last)
    # the structures were found in the placed head, not in the bent one
    return replace(done, warp=warp, segmentation=None)


def _bent_brain(brain: Volume, warp: Warp) -> Array:
    """`brain` on the template's grid, 0 outside, where a cubic spline would ring."""
    mask = Volume((brain.data > 0).astype(np.float32), brain.affine)
    inside = warp.onto(mask, TEMPLATE_GRID) > 0.5
    return np.where(inside, warp.onto(brain, TEMPLATE_GRID), np.float32(0))


def likeness(picture: Volume, template: Template) -> float:
    """Correlation of intensities within the template's brain."""
    data = resample(picture, template.picture.grid)
    inside = template.brain
    return float(np.corrcoef(data[inside], template.picture.data[inside])[0, 1])


def _as_it_is(card: Card, scan: Volume) -> Conformed:
    check_contrast(scan)
    scaled, unit = minmax(scan.data)
    done = (
        "The scan lies on the model's grid already, so it was taken as prepared; "
        "least and greatest intensity became 0 and 1."
    )
    return prepared(Volume(scaled, card.grid.matrix), unit, done)


def prepared(picture: Volume, unit: float = 1.0, done: str = "") -> Conformed:
    """A picture that is already as the model knows them: only told of, not touched."""
    return Conformed(
        picture,
        picture.data > 0,
        np.eye(4),
        unit,
        Quality(1.0, 1.0, 1.0),
        (done,) if done else (),
        "taken as prepared",
    )


def minmax(data: Array) -> tuple[Array, float]:
    """`data` scaled to 0..1 by its least and greatest value, and the latter."""
    low, high = float(data.min()), float(data.max())
    return ((data - low) / max(high - low, 1e-12)).astype(np.float32), high

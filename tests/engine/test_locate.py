"""A segmenter's brain is what is placed, cut out and told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_brainldm.engine.brain_mask import soft_brain
from napari_brainldm.engine.conform import Conformed, conform, in_scan_space
from napari_brainldm.engine.networks.segmenter import STRUCTURES
from napari_brainldm.engine.placement import Template, mni_template
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import covering_grid, resample
from napari_brainldm.engine.volume import Affine, Grid, Volume, mni_grid
from tests.tiny import hard

if TYPE_CHECKING:
    from napari_brainldm.engine.segment import Segmentation

GRID = mni_grid(2.0)
WIDE = Grid(
    (100, 116, 100),
    ((2.0, 0, 0, -99.0), (0, 2.0, 0, -133.0), (0, 0, 2.0, -94.0), (0, 0, 0, 1.0)),
)
MARK = np.array([30.0, -20.0, 25.0])
"""In the right half, mm of MNI."""


@dataclass
class Knowing:
    """In place of a segmenter: knows the brain, and keeps what it was shown."""

    brain: Volume
    shown: list[Volume] = field(default_factory=list)

    def segment(self, picture: Volume, inside: object = None) -> Segmentation:
        self.shown.append(picture)
        labels = np.where(resample(self.brain, GRID) > 0.5, 2, 0)
        return hard(labels, GRID, STRUCTURES, "segmenter 0123456789ab")


@pytest.fixture(scope="module")
def template() -> Template:
    return mni_template()


@pytest.fixture(scope="module")
def brain(template: Template) -> Volume:
    return Volume(template.brain.astype(np.float32), template.picture.affine)


def planted() -> Affine:
    rigid = np.eye(4)
    turn = Rotation.from_euler("xyz", [11, -5, 7], degrees=True)
    rigid[:3, :3] = turn.as_matrix()
    rigid[:3, 3] = -8, 22, -15
    return rigid


@pytest.fixture(scope="module")
def head(template: Template) -> Volume:
    """The template in a skull, 5 mm thick, and a scalp, with a dark mark, moved."""
    grid = covering_grid(template.picture, 2.0)
    low = np.pad(template.picture.data, 12)
    inside = np.pad(template.brain, 12)
    affine = grid.matrix
    affine[:3, 3] = template.picture.affine[:3, 3] - 12 * 2.0
    away = ndimage.distance_transform_edt(~inside, 2.0)
    data = np.where(inside, 1000 * low, 0)
    data[(away > 0) & (away <= 5)] = 60
    data[(away > 5) & (away < 12)] = 900
    mm = np.indices(data.shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    marked = np.linalg.norm(mm - MARK, axis=1).reshape(data.shape) < 8
    data[marked] = 200
    return Volume(data.astype(np.float32), planted() @ affine)


@pytest.fixture(scope="module")
def knowing(brain: Volume) -> Knowing:
    return Knowing(brain)


@pytest.fixture(scope="module")
def done(head: Volume, template: Template, knowing: Knowing) -> Conformed:
    return conform(head, GRID, template=template, segmenter=knowing)


def test_the_segmented_brain_is_cut_out_of_a_head(done, brain):
    wanted = resample(brain, GRID) > 0.5
    both = (wanted & done.brain).sum()
    assert 2 * both / (wanted.sum() + done.brain.sum()) > 0.96  # 1 mm is added
    assert "whole head" in done.steps[0]
    assert done.method == "segmenter 0123456789ab"
    assert done.segmentation is not None
    assert done.segmentation.grid == GRID


def test_the_cut_out_brain_is_placed_and_segmented_in_its_place(done, knowing, head):
    off = (done.to_scan - planted()) @ np.append(MARK, 1)
    assert np.linalg.norm(off) < 1
    last = knowing.shown[-1]
    assert np.allclose(done.to_scan @ last.affine, head.affine)
    assert len(knowing.shown) == 2


def test_a_result_lies_right_in_the_scans_own_voxels(done, head):
    """Sheared axes the other way round: the mark is found to half a voxel."""
    affine = np.diag([-1.7, 2.3, 1.1, 1.0])
    affine[0, 2], affine[1, 0] = 0.3, -0.2
    middle = planted() @ np.append(MARK, 1)
    affine[:3, 3] += middle[:3] - affine[:3, :3] @ (30, 24, 40)
    grid = Grid((60, 48, 80), tuple(tuple(row) for row in affine.tolist()))
    back = in_scan_space(done.volume, done, grid)
    assert back.grid == grid
    assert 0 <= back.data.min() < back.data.max() <= 1
    i, j, k = np.indices(grid.shape)
    mm = np.stack([i, j, k, np.ones_like(i)], -1) @ affine.T
    near = np.linalg.norm(mm[..., :3] - middle[:3], axis=-1) < 11
    dark = near & (back.data < 0.35)
    found = affine @ np.append(np.argwhere(dark).mean(0), 1)
    # the model's voxels are 2 mm
    assert np.linalg.norm(found - middle) < 1.0


def test_a_known_point_goes_back_to_a_tenth_of_a_millimetre(done):
    i, j, k = np.indices(GRID.shape)
    mm = np.stack([i, j, k, np.ones_like(i)], -1) @ GRID.matrix.T
    spot = np.exp(-((mm[..., :3] - MARK) ** 2).sum(-1) / 2 / 6.0**2).astype(np.float32)
    centre = (done.to_scan @ np.append(MARK, 1))[:3]
    affine = np.diag([1.4, -1.4, 1.4, 1.0])
    affine[:3, :3] = (
        Rotation.from_euler("z", 21, degrees=True).as_matrix() @ affine[:3, :3]
    )
    affine[:3, 3] = centre - affine[:3, :3] @ (24.3, 25.1, 26.4)
    grid = Grid((50, 50, 50), tuple(tuple(row) for row in affine.tolist()))
    back = in_scan_space(Volume(spot, GRID.matrix), done, grid)
    found = affine @ np.append(ndimage.center_of_mass(back.data), 1)
    assert np.linalg.norm(found[:3] - centre) < 0.1


def test_a_segmenter_that_finds_nothing_stops_a_head(head, template):
    nothing = Knowing(Volume(np.zeros((4, 4, 4), np.float32), np.eye(4)))
    with pytest.raises(EngineError, match="no brain was found"):
        conform(head, GRID, template=template, segmenter=nothing)


@pytest.fixture(scope="module")
def with_crumb(template: Template) -> Volume:
    """A stripped brain with a piece of 15 ml that hangs on its front."""
    picture = template.picture
    data = np.where(template.brain, 1000 * picture.data, 0).astype(np.float32)
    middle = int(template.centre[0] / 2 + data.shape[0] / 2)
    front = np.nonzero(template.brain[middle].any(1))[0][-1]
    level = int(np.argwhere(template.brain[middle, front - 2]).mean())
    data[middle - 7 : middle + 7, front - 2 : front + 9, level - 7 : level + 7] = 700
    return Volume(data, picture.affine)


def test_crumbs_of_a_stripped_scan_are_taken_off(with_crumb, template, brain):
    kept = conform(with_crumb, WIDE, template=template)
    cleaned = conform(with_crumb, WIDE, template=template, segmenter=Knowing(brain))
    lost = (kept.brain & ~cleaned.brain).sum() * 8 / 1000
    assert 5 < lost < 20
    assert "ml away from the segmented brain" in " ".join(cleaned.steps)
    away = ~(resample(brain, WIDE) > 0.5)
    far = ndimage.distance_transform_edt(away, 2.0) > 9
    assert (kept.brain & far).any()
    assert not (cleaned.brain & far).any()


def test_a_segmenter_that_fails_takes_nothing_off_a_stripped_scan(with_crumb, template):
    wrong = Volume(np.ones((10, 10, 10), np.float32), np.eye(4))
    kept = conform(with_crumb, GRID, template=template)
    same = conform(with_crumb, GRID, template=template, segmenter=Knowing(wrong))
    assert np.array_equal(kept.brain, same.brain)


def test_the_soft_brain_is_whole_and_a_millimetre_wider():
    labels = np.zeros((24, 24, 24), int)
    labels[6:18, 6:18, 6:18] = 2
    labels[11:13, 11:13, 11:13] = 0
    labels[0, 0, 0] = 2
    grid = Grid((24, 24, 24), mni_grid(2.0).affine)
    soft = soft_brain(hard(labels, grid, STRUCTURES, ""))
    assert (soft.data[6:18, 6:18, 6:18] > 0.5).all()
    assert soft.data[0, 0, 0] < 0.5
    # along an axis through the middle of a side the surface lies 1 mm further out
    line = np.interp(np.arange(0, 24, 0.01), np.arange(24), soft.data[:, 9, 9])
    assert (line > 0.5).sum() * 0.01 * 2.0 == pytest.approx(24 + 2, abs=0.5)

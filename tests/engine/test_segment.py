"""Segmentations: planted ones, and a network whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_brainldm.engine.measure import measure
from napari_brainldm.engine.networks.segmenter import STRUCTURES
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.segment import (
    Segmentation,
    Segmenter,
    brain_region,
    labels_on,
    scaled,
    settled,
)
from napari_brainldm.engine.volume import Grid, Volume, mni_grid
from tests.tiny import hard, tiny_checkpoint, tiny_segmenter

GRID = tiny_segmenter().card.grid  # 40 x 48 x 40, x = 0 between i = 19 and i = 20
VOXEL_ML = 0.064
SHA256 = "0123456789abcdef"
NAMES = [s.name for s in STRUCTURES]


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    torch.set_num_threads(1)
    return Segmenter(replace(tiny_segmenter(), sha256=SHA256), "cpu", "float32")


def forced(segmenter: Segmenter, monkeypatch) -> Segmenter:
    """The same, with a network that calls bright gray, brighter ventricle."""

    class Levels(torch.nn.Module):
        def forward(self, x):
            logits = torch.full((1, 1 + len(STRUCTURES), *x.shape[2:]), -100.0)
            logits[:, 0] = 40 * (0.3 - x[:, 0])
            logits[:, 1 + NAMES.index("cortical_gray_matter")] = 0
            logits[:, 1 + NAMES.index("lateral_ventricles")] = 40 * (x[:, 0] - 0.8)
            return logits

    monkeypatch.setattr(segmenter, "_network", Levels())
    return segmenter


def head(voxel_mm: float) -> Volume:
    """A gray ball of 60 mm about the middle of the brain, a bright one of 24 mm in it.

    Drawn with soft edges, so that every grid holds the same content.
    """
    grid = mni_grid(voxel_mm)
    i, j, k = np.indices(grid.shape)
    affine = grid.matrix
    x, y, z = (affine[a, a] * n + affine[a, 3] for a, n in enumerate((i, j, k)))
    away = np.sqrt(x**2 + (y + 18) ** 2 + (z - 5) ** 2)
    edge = [np.clip((r - away) / 8 + 0.5, 0, 1) for r in (60, 24)]
    return Volume((0.55 * edge[0] + 0.45 * edge[1]).astype(np.float32), affine)


def test_memberships_sum_to_one_and_the_method_names_the_weights(segmenter):
    found = segmenter.segment(head(4.0))
    assert found.memberships.shape == (1 + len(STRUCTURES), *GRID.shape)
    assert found.memberships.dtype == np.float32
    np.testing.assert_allclose(found.memberships.sum(0), 1, atol=1e-5)
    assert found.method == "segmenter 0123456789ab"


def test_doubt_does_not_add_up_to_volume():
    shares = torch.full((3, 10, 10, 10), 0.004)
    shares[0] = 0.992
    shares[:, 0, 0, 0] = torch.tensor([0.55, 0.40, 0.05])
    shares[:, 0, 0, 1] = torch.tensor([0.06, 0.05, 0.04])  # sure of nothing
    found = settled(shares)
    assert float(found[2].sum()) == 0.0
    assert float(found[1].sum()) == pytest.approx(0.40 / 0.95)
    assert found[:, 0, 0, 1].tolist() == [1.0, 0.0, 0.0]
    torch.testing.assert_close(found.sum(0), torch.ones(10, 10, 10))


def test_a_network_that_knows_levels_gives_the_volumes_of_the_balls(
    segmenter, monkeypatch
):
    found = measure(forced(segmenter, monkeypatch).segment(head(4.0)))
    assert found.ventricles == pytest.approx(4 / 3 * np.pi * 2.4**3, rel=0.15)
    assert found.icv == pytest.approx(4 / 3 * np.pi * 6.0**3, rel=0.1)
    assert found.hippocampus == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("voxel_mm", [2.0, 5.0])
def test_another_grid_gives_the_volumes_of_the_same_content(
    segmenter, monkeypatch, voxel_mm
):
    segmenter = forced(segmenter, monkeypatch)
    found, wanted = (measure(segmenter.segment(head(size))) for size in (voxel_mm, 4.0))
    assert found.icv == pytest.approx(wanted.icv, rel=0.03)
    assert found.ventricles == pytest.approx(wanted.ventricles, rel=0.15)


@pytest.mark.parametrize("factor", [1e-3, 4000.0])
def test_the_unit_of_intensity_does_not_matter(segmenter, factor):
    picture = head(4.0)
    louder = Volume(picture.data * np.float32(factor), picture.affine)
    np.testing.assert_allclose(
        segmenter.segment(louder).memberships,
        segmenter.segment(picture).memberships,
        atol=1e-4,
    )


def test_scalp_and_fat_do_not_set_the_unit():
    region = np.zeros((10, 10, 10), bool)
    region[3:7, 3:7, 3:7] = True
    data = np.where(region, 5.0, 100.0).astype(np.float32)
    found = scaled(data, region)
    assert found[5, 5, 5] == 1.0
    assert found.max() == 1.5
    assert found.dtype == np.float32


@pytest.mark.parametrize("value", [0.0, -3.0, np.nan])
def test_a_dark_picture_gets_a_sentence(segmenter, value):
    dark = Volume(np.full(GRID.shape, value, np.float32), GRID.matrix)
    with pytest.raises(EngineError, match="dark where the brain should be"):
        segmenter.segment(dark)


def test_nothing_is_found_outside_of_where_it_may_be(segmenter, monkeypatch):
    picture, inside = head(2.5), np.zeros(mni_grid(2.5).shape, bool)
    inside[:32] = True  # x < 0
    segmenter = forced(segmenter, monkeypatch)
    found = segmenter.segment(picture, inside)
    whole = measure(segmenter.segment(picture))
    assert found.brain()[:20].any()
    assert not found.brain()[20:].any()
    assert measure(found).icv == pytest.approx(whole.icv / 2, rel=0.01)
    np.testing.assert_allclose(found.memberships.sum(0), 1, atol=1e-5)


def test_a_checkpoint_without_a_segmenter_gets_a_sentence():
    with pytest.raises(EngineError, match="holds no segmenter"):
        Segmenter(tiny_checkpoint())


def test_the_region_is_the_mni_brain():
    grid = mni_grid(4.0)
    region = brain_region(grid)
    assert 1.7e6 < region.sum() * 64 < 2.1e6
    assert not region[0].any()


# Labels -------------------------------------------------------------------------------


def rows(affine) -> tuple:
    return tuple(map(tuple, affine.tolist()))


def planted(grid: Grid = GRID) -> Segmentation:
    """Hippocampi left and right, a brain stem across the midline."""
    labels = np.zeros(grid.shape, int)
    labels[4:6, 5:10, 5:9] = 17
    labels[24:27, 5:10, 5:9] = 53
    labels[18:22, 5:10, 5:9] = 16
    return hard(labels, grid, STRUCTURES, "planted")


def test_labels_come_back_with_their_side():
    found = planted()
    labels = found.labels()
    assert labels.dtype == np.uint16
    indices, counts = np.unique(labels, return_counts=True)
    counted = dict(zip(indices.tolist(), counts.tolist(), strict=True))
    assert {k: n for k, n in counted.items() if k} == {17: 40, 53: 60, 16: 80}
    assert (labels[4:6, 5:10, 5:9] == 17).all()


def test_the_brain_is_one_piece_without_holes():
    memberships = np.zeros((1 + len(STRUCTURES), *GRID.shape), np.float32)
    memberships[0] = 1
    memberships[0, 4:12, 4:12, 4:12] = 0.3
    memberships[0, 7, 7, 7] = 1  # a hole
    memberships[0, 18, 20, 18] = 0  # a crumb
    memberships[1] = 1 - memberships[0]
    found = Segmentation(memberships, GRID, STRUCTURES, "planted")
    wanted = np.zeros(GRID.shape, bool)
    wanted[4:12, 4:12, 4:12] = True
    np.testing.assert_array_equal(found.brain(), wanted)
    assert not found.tissue().any()  # all of it is fluid


def test_labels_on_the_own_grid_are_the_labels():
    found = planted()
    np.testing.assert_array_equal(labels_on(found, GRID, np.eye(4)), found.labels())


def test_labels_on_a_turned_scan_lie_where_the_rigid_transform_says():
    found, turn = planted(), np.eye(4)
    angle = np.radians(90)
    turn[:2, :2] = (np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))
    turn[:3, 3] = (12.0, -7.0, 30.0)  # scan mm of MNI mm
    halved = np.diag([0.5, 0.5, 0.5, 1.0])
    halved[:3, 3] = -0.25  # eight small voxels fill a large one
    shape = tuple(2 * n for n in GRID.shape)
    grid = Grid(shape, rows(turn @ GRID.matrix @ halved))
    labels = labels_on(found, grid, turn)
    wanted = found.labels().repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert labels.shape == shape
    assert labels.dtype == np.uint16
    for index in (16, 17, 53):
        ours, theirs = labels == index, wanted == index
        assert 2 * (ours & theirs).sum() > 0.98 * (ours.sum() + theirs.sum())


def test_a_scan_that_holds_a_part_gets_the_labels_of_that_part():
    found = planted()
    affine = GRID.matrix
    affine[:3, 3] += affine[:3, :3] @ [3, 0, 0]
    grid = Grid((12, *GRID.shape[1:]), rows(affine))
    labels = labels_on(found, grid, np.eye(4))
    np.testing.assert_array_equal(labels, found.labels()[3:15])


def test_a_picture_without_brain_gives_no_labels():
    nothing = hard(np.zeros(GRID.shape, int), GRID, STRUCTURES, "planted")
    assert not labels_on(nothing, GRID, np.eye(4)).any()
    assert not nothing.brain().any()


def test_resampling_keeps_the_total_membership():
    found = planted()
    fine = mni_grid(2.0)
    coarse_ml = found.memberships[NAMES.index("brain_stem") + 1].sum() * VOXEL_ML
    row = Volume(found.memberships[NAMES.index("brain_stem") + 1], GRID.matrix)
    assert resample(row, fine).sum() * VOXEL_ML / 8 == pytest.approx(
        coarse_ml, rel=0.02
    )

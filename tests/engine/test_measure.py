"""Volumes of planted memberships, which are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_brainldm.engine.measure import measure, normalised_brain
from napari_brainldm.engine.networks.segmenter import STRUCTURES
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.segment import Segmentation
from napari_brainldm.engine.volume import Grid, mni_grid

NAMES = [s.name for s in STRUCTURES]
GRID = mni_grid(8.0)  # 0.512 ml a voxel; x = 0 lies between i = 9 and i = 10


def planted(shares: dict[str, tuple], grid: Grid = GRID) -> Segmentation:
    """Structure name to (slices, membership there); the rest is background."""
    memberships = np.zeros((1 + len(STRUCTURES), *grid.shape), np.float32)
    memberships[0] = 1
    for name, (where, share) in shares.items():
        memberships[(1 + NAMES.index(name), *where)] += share
        memberships[(0, *where)] -= share
    return Segmentation(memberships, grid, STRUCTURES, "planted")


def box(i, j=slice(5, 10), k=slice(5, 9)):
    return i, j, k  # 20 voxels for every i


def test_half_a_voxel_counts_half():
    found = measure(planted({"lateral_ventricles": (box(slice(2, 4)), 0.5)}))
    assert found.ventricles == pytest.approx(40 * 0.5 * 0.512)
    assert found.icv == pytest.approx(found.ventricles)
    assert found.brain == 0


def test_brain_is_tissue_and_icv_is_all_within_the_skull():
    shares = {
        "csf": (box(slice(0, 1)), 1.0),
        "cortical_gray_matter": (box(slice(1, 3)), 1.0),
        "lateral_ventricles": (box(slice(3, 6)), 1.0),
        "hippocampus": (box(slice(6, 10)), 1.0),
        "brain_stem": (box(slice(10, 15)), 1.0),
    }
    found = measure(planted(shares))
    one = 20 * 0.512
    assert found.ventricles == pytest.approx(3 * one)
    assert found.hippocampus == pytest.approx(4 * one)
    assert found.brain == pytest.approx((2 + 4 + 5) * one)
    assert found.icv == pytest.approx(15 * one)


def test_an_asymmetric_marker_is_split_at_the_midline():
    found = measure(planted({"hippocampus": (box(slice(9, 13)), 1.0)}))
    left, right = {n: (lh, rh) for n, lh, rh in found.structures}["hippocampus"]
    assert left == pytest.approx(1 * 20 * 0.512)
    assert right == pytest.approx(3 * 20 * 0.512)


def test_left_stays_left_where_the_first_axis_runs_to_the_left():
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine = flip @ GRID.matrix
    grid = Grid(GRID.shape, tuple(map(tuple, affine.tolist())))
    found = measure(planted({"hippocampus": (box(slice(9, 13)), 1.0)}, grid))
    left, right = {n: (lh, rh) for n, lh, rh in found.structures}["hippocampus"]
    assert (left, right) == (pytest.approx(3 * 10.24), pytest.approx(10.24))


def test_a_voxel_on_the_midline_belongs_half_to_each_side():
    affine = GRID.matrix
    affine[0, 3] = -8.0 * 10  # the centre of voxel 10 is at x = 0
    grid = Grid(GRID.shape, tuple(map(tuple, affine.tolist())))
    found = measure(planted({"brain_stem": (box(slice(10, 11)), 1.0)}, grid))
    left, right = {n: (lh, rh) for n, lh, rh in found.structures}["brain_stem"]
    assert left == right == pytest.approx(10 * 0.512)


def test_the_table_holds_every_structure_once_and_is_json():
    found = measure(planted({"thalamus": (box(slice(4, 5)), 1.0)}))
    plain = json.loads(json.dumps(found.as_dict()))
    assert list(plain)[:3] == ["ventricles", "brain", "hippocampus"]
    assert set(plain) == {"ventricles", "brain", "icv"} | {
        name + side for name in NAMES for side in ("", "_left", "_right")
    }
    assert plain["thalamus"] == plain["thalamus_left"] == 10.24
    assert plain["thalamus_right"] == 0


def test_a_brain_is_normalised_by_its_own_head():
    shares = {
        "white_matter": (box(slice(0, 6)), 1.0),
        "csf": (box(slice(6, 8)), 1.0),
    }
    assert normalised_brain(measure(planted(shares)), 1500.0) == pytest.approx(1125.0)


def test_no_head_gets_a_sentence():
    with pytest.raises(EngineError, match="No head was found"):
        normalised_brain(measure(planted({})), 1500.0)


def test_a_segmentation_without_ventricles_gets_a_sentence():
    memberships = np.ones((2, *GRID.shape), np.float32) / 2
    found = Segmentation(memberships, GRID, STRUCTURES[:1], "planted")
    with pytest.raises(EngineError, match="knows no lateral_ventricles, only csf"):
        measure(found)

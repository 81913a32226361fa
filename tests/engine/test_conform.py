"""Scans of every orientation, stripped or not, land on the grid; others are refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.conform import (
    Conformed,
    Quality,
    canonical,
    conform,
    normalise,
)
from napari_brainldm.engine.placement import Template, mni_template
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import covering_grid, resample
from napari_brainldm.engine.resources import segmenter_at_hand
from napari_brainldm.engine.scan_file import read_scan
from napari_brainldm.engine.segment import Segmenter
from napari_brainldm.engine.volume import Grid, Volume, mni_grid

GRID = mni_grid(4.0)

# Points in the brain (mm) at which two placements are compared
POINTS = np.array([[0, -18, 5], [60, -18, 5], [0, 60, 5], [0, -100, 5], [0, -18, 75]])


@pytest.fixture(scope="module")
def template() -> Template:
    return mni_template()


@pytest.fixture(scope="module")
def brain(template: Template) -> Volume:
    """The template as a stripped scan, dark on the right at x = 30 mm."""
    picture = template.picture
    data = np.where(template.brain, 1000 * picture.data, 0).astype(np.float32)
    data[blob(picture.grid, (30, -20, 25))] = 200
    return Volume(data, picture.affine)


@pytest.fixture(scope="module")
def moved(brain: Volume) -> Volume:
    return Volume(brain.data, planted() @ brain.affine)


@pytest.fixture(scope="module")
def placed(moved: Volume, template: Template) -> Conformed:
    return conform(moved, GRID, template=template)


def blob(grid: Grid, centre: tuple[float, float, float]) -> np.ndarray:
    """True within 8 mm of `centre`."""
    voxels = np.indices(grid.shape).reshape(3, -1).T
    mm = voxels @ grid.matrix[:3, :3].T + grid.matrix[:3, 3]
    near = np.linalg.norm(mm - np.array(centre), axis=1) < 8
    return near.reshape(grid.shape)


def planted() -> np.ndarray:
    """A head turned by 14, -6 and 8 degrees and shifted by centimetres."""
    rigid = np.eye(4)
    turn = Rotation.from_euler("xyz", [14, -6, 8], degrees=True)
    rigid[:3, :3] = turn.as_matrix()
    rigid[:3, 3] = 12, -35, 28
    return rigid


def moved_by(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def all_orientations(scan: Volume) -> list[Volume]:
    image = nib.Nifti1Image(scan.data, scan.affine)
    turned = []
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            new = image.as_reoriented(np.column_stack([axes, signs]))
            turned.append(Volume(np.asarray(new.dataobj), new.affine))
    return turned


def test_a_planted_movement_is_found_again(placed: Conformed) -> None:
    found, true = placed.to_scan, planted()
    off = np.linalg.norm(moved_by(found, POINTS) - moved_by(true, POINTS), axis=1)
    turn = Rotation.from_matrix(found[:3, :3].T @ true[:3, :3]).magnitude()
    assert off.max() < 1.0
    assert np.degrees(turn) < 1.0


def test_a_smaller_brain_is_placed_but_not_scaled(
    brain: Volume, template: Template
) -> None:
    smaller = Volume(
        brain.data, planted() @ np.diag([0.88, 0.88, 0.88, 1]) @ brain.affine
    )
    result = conform(smaller, GRID, template=template)
    rotation = result.to_scan[:3, :3]
    assert np.allclose(rotation.T @ rotation, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1)
    ratio = result.brain.sum() * 64 / (template.brain.sum() * 8)
    assert ratio == pytest.approx(0.88**3, rel=0.03)
    turn = Rotation.from_matrix(rotation.T @ planted()[:3, :3]).magnitude()
    assert np.degrees(turn) < 1.0


def test_right_stays_right_on_the_grid(placed: Conformed) -> None:
    right, left = (blob(GRID, (side * 30, -20, 25)) for side in (1, -1))
    assert placed.volume.data[right].mean() < 0.5
    assert placed.volume.data[left].mean() > 0.75


def test_result_lives_on_the_grid_within_0_and_1(placed: Conformed) -> None:
    assert placed.volume.grid == GRID
    assert placed.volume.data.dtype == np.float32
    assert 0 <= placed.volume.data.min() < placed.volume.data.max() <= 1
    assert not placed.volume.data[~placed.brain].any()
    assert "without skull" in placed.steps[0]


def test_all_48_orientations_become_the_same_array(moved: Volume) -> None:
    marked = Volume(moved.data[::3, ::3, ::3], moved.affine @ np.diag([3, 3, 3, 1]))
    wanted = canonical(marked)
    turned = [canonical(scan) for scan in all_orientations(marked)]
    assert len(turned) == 48
    for scan in turned:
        assert np.array_equal(scan.data, wanted.data)
        assert np.allclose(scan.affine, wanted.affine, atol=1e-9)


def test_orientation_of_the_file_does_not_change_the_result(
    moved: Volume, placed: Conformed, template: Template
) -> None:
    odd = all_orientations(moved)[29]
    assert nib.aff2axcodes(odd.affine) != nib.aff2axcodes(moved.affine)
    result = conform(odd, GRID, template=template)
    assert np.allclose(result.to_scan, placed.to_scan, atol=1e-6)
    assert np.allclose(result.volume.data, placed.volume.data, atol=1e-5)


def test_same_scan_gives_the_same_bits(
    moved: Volume, placed: Conformed, template: Template
) -> None:
    again = conform(moved, GRID, template=template)
    assert again.volume.digest == placed.volume.digest
    assert np.array_equal(again.to_scan, placed.to_scan)


def test_tilted_gantry_and_thick_slices_are_straightened(
    moved: Volume, template: Template
) -> None:
    shear = np.eye(4)
    shear[1, 2] = 0.3
    affine = covering_grid(moved, 2.0).matrix @ np.diag([1, 1, 2.5, 1]) @ shear
    affine[1, 3] -= 25
    askew = Grid((90, 130, 44), tuple(tuple(row) for row in affine.tolist()))
    scan = Volume(resample(moved, askew), affine)
    result = conform(scan, GRID, template=template)
    off = moved_by(result.to_scan, POINTS) - moved_by(planted(), POINTS)
    assert np.linalg.norm(off, axis=1).max() < 1.5


def test_z_scored_scan_is_placed_like_the_raw_one(
    moved: Volume, placed: Conformed, template: Template
) -> None:
    inside = moved.data > 0
    tissue = moved.data[inside]
    scores = np.where(inside, (moved.data - tissue.mean()) / tissue.std(), 0)
    result = conform(
        Volume(scores.astype(np.float32), moved.affine), GRID, template=template
    )
    off = moved_by(result.to_scan, POINTS) - moved_by(placed.to_scan, POINTS)
    assert np.linalg.norm(off, axis=1).max() < 0.5
    both = placed.brain & result.brain
    pair = placed.volume.data[both], result.volume.data[both]
    assert np.corrcoef(*pair)[0, 1] > 0.99


def noise(brain: Volume) -> Volume:
    values = np.random.default_rng(0).normal(100, 20, brain.data.shape)
    return Volume(values.astype(np.float32), brain.affine)


def ball(brain: Volume) -> Volume:
    grids = np.meshgrid(*(np.linspace(-1, 1, n) for n in brain.data.shape))
    distance = sum(g.transpose(1, 0, 2) ** 2 for g in grids)
    return Volume((100 * (distance < 0.6)).astype(np.float32), brain.affine)


def constant(brain: Volume) -> Volume:
    return Volume(np.ones_like(brain.data), brain.affine)


def lower_half(brain: Volume) -> Volume:
    return Volume(brain.data[:, :, :45], brain.affine)


def inverted(brain: Volume) -> Volume:
    data = np.where(brain.data > 0, 1200 - brain.data, 0)
    return Volume(data.astype(np.float32), brain.affine)


def upside_down(brain: Volume) -> Volume:
    return Volume(brain.data, np.diag([1.0, -1, -1, 1]) @ brain.affine)


def back_to_front(brain: Volume) -> Volume:
    return Volume(brain.data, np.diag([1.0, -1, 1, 1]) @ brain.affine)


def half_size(brain: Volume) -> Volume:
    return Volume(brain.data, np.diag([0.5, 0.5, 0.5, 1]) @ brain.affine)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (noise, "does not look like a T1"),
        (ball, "placement quality"),
        (constant, "same intensity"),
        (lower_half, "lies outside it"),
        (inverted, "placement quality"),
        (upside_down, "Turned by a right angle"),
        (back_to_front, "Turned by a right angle"),
        (half_size, "voxel size may be wrong"),
    ],
)
def test_what_is_no_upright_t1_brain_is_refused(
    brain: Volume,
    template: Template,
    spoil: Callable[[Volume], Volume],
    words: str,
) -> None:
    with pytest.raises(EngineError, match=words):
        conform(spoil(brain), GRID, template=template)


def test_quality_is_bad_when_one_of_its_parts_is() -> None:
    assert Quality(1, 1, 1).figure == 1
    assert Quality(1, 0, 1).figure == 0
    assert Quality(0.8, 0.5, 0.9).figure == pytest.approx(0.36 ** (1 / 3))


def test_normalise_sends_the_percentile_to_one() -> None:
    data = np.arange(1001, dtype=np.float32).reshape(7, 11, 13)
    scaled, unit = normalise(data, data >= 0, low=0, high=50)
    assert unit == 500
    assert scaled.max() == 1
    assert scaled.ravel()[250] == pytest.approx(0.5)
    shifted, _ = normalise(data - 100, data >= 0, low=-100, high=50)
    assert np.allclose(shifted, scaled)


def test_resampling_keeps_a_linear_field_and_its_place() -> None:
    grid = Grid((12, 13, 14), tuple(tuple(r) for r in np.diag([3.0, 2, 2, 1]).tolist()))
    i, j, k = np.indices(grid.shape)
    field = Volume((3 * i + 4 * j - 2 * k).astype(np.float32), grid.matrix)
    affine = np.eye(4)
    affine[:3, 3] = 8.5, 7.25, 9.0
    finer = Grid((5, 6, 7), tuple(tuple(r) for r in affine.tolist()))
    x, y, z = np.indices(finer.shape) + np.array([8.5, 7.25, 9.0])[:, None, None, None]
    assert np.allclose(resample(field, finer), x + 2 * y - z, atol=1e-3)


def test_coarser_grids_see_no_aliases() -> None:
    stripes = np.zeros((64, 64, 64), np.float32)
    stripes[::2] = 1
    coarse = covering_grid(Volume(stripes, np.eye(4)), 4.0)
    inside = resample(Volume(stripes, np.eye(4)), coarse)[2:-2, 2:-2, 2:-2]
    assert np.allclose(inside, 0.5, atol=0.02)


def test_real_whole_head_keeps_its_brain(shared: Path, template: Template) -> None:
    scans = shared / "data" / "scans"
    head = read_scan(scans / "aomic_sub-0001_orig.mgz").volume
    result = conform(head, mni_grid(2.0), template=template)
    truth = canonical(read_scan(scans / "aomic_sub-0001_aseg.mgz").volume)
    labels = resample(truth, mni_grid(2.0), result.to_scan, order=0)
    tissue = (labels > 0) & (labels != 24)
    assert "whole head" in result.steps[0]
    assert result.quality.figure > 0.75
    assert (tissue & ~result.brain).sum() < 0.03 * tissue.sum()
    # FreeSurfer's left hemisphere (white matter, label 2) lies at x < 0
    left = np.argwhere(labels == 2) @ mni_grid(2.0).matrix[:3, :3].T
    assert left[:, 0].mean() + mni_grid(2.0).matrix[0, 3] < -15


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    path = segmenter_at_hand()
    if path is None:
        pytest.skip("needs resources/segmenter.safetensors")
    return Segmenter(load_checkpoint(path), "cpu", "float32")


def test_the_mask_of_a_real_head_is_freesurfers(
    shared: Path, template: Template, segmenter: Segmenter
) -> None:
    scans = shared / "data" / "scans"
    head = read_scan(scans / "aomic_sub-0001_orig.mgz").volume
    result = conform(head, mni_grid(1.0), template=template, segmenter=segmenter)
    # norm.mgz holds FreeSurfer's intensities within its brain mask, 0 around it
    stripped = canonical(read_scan(scans / "aomic_sub-0001_norm.mgz").volume)
    truth = resample(stripped, mni_grid(1.0), result.to_scan, order=0) > 0
    both = (truth & result.brain).sum()
    assert 2 * both / (truth.sum() + result.brain.sum()) >= 0.94
    assert result.method.startswith("segmenter ")
    assert result.quality.figure > 0.75


def test_real_stripped_scan_is_upright_and_centred(
    shared: Path, template: Template
) -> None:
    path = shared / "data" / "ds002748" / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    result = conform(read_scan(path).volume, GRID, template=template)
    assert "without skull" in result.steps[0]
    assert result.quality.figure > 0.75
    middle = np.array(ndimage.center_of_mass(result.brain))
    assert np.linalg.norm(moved_by(GRID.matrix, middle[None])[0] - template.centre) < 8


def test_real_ct_is_refused(shared: Path, template: Template) -> None:
    scan = read_scan(shared / "data" / "odd" / "shear.nii.gz").volume
    with pytest.raises(EngineError):
        conform(scan, GRID, template=template)

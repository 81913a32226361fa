"""Gray matter against the phantom's own tissue, and maps of other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.conform import Preparation
from napari_brainldm.engine.convention import conform_to
from napari_brainldm.engine.gray_matter import (
    as_it_is,
    of_map,
    of_picture,
    of_t1,
    shrinking,
)
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.resources import bundled_gm_ldm, bundled_segmenter
from napari_brainldm.engine.scan_file import load_volume
from napari_brainldm.engine.segment import brain_finder
from napari_brainldm.engine.tissue import gray_prior, tissues
from napari_brainldm.engine.volume import Grid, Volume, mni_grid
from napari_brainldm.engine.warp import Warp
from trainer.data.phantom import Looks, bent, generator_of
from trainer.data.photograph import gray_share, taken
from trainer.data.population import PopulationConfig, draw_subject, visits

GRID = mni_grid(2.0)


@pytest.fixture(scope="module")
def phantom(template_of) -> tuple[Volume, np.ndarray]:
    """T1 picture in [0, 1] and true share of gray matter of a simulated person."""
    pack, looks = template_of(2.0), Looks(steps=(2, 1))
    subject = draw_subject(PopulationConfig(), 5, 2)
    visit = visits(subject, (0.0,))[0]
    brain = bent(pack, subject, visit, 5, looks)
    generator = generator_of(5, subject.index, 1)
    _, picture = taken(brain, looks.scanner, visit.age, generator)
    truth = gray_share(brain[0], brain[2]).numpy()
    data = picture.numpy()
    unit = np.percentile(data[data > 0], 99.5)
    return Volume(np.clip(data / unit, 0, 1), GRID.matrix), truth


def test_tissues_are_those_of_the_phantom(phantom) -> None:
    picture, truth = phantom
    found = of_picture(picture, GRID)
    brain = picture.data > 0
    assert np.corrcoef(found.volume.data[brain], truth[brain])[0, 1] > 0.94
    gray, known = found.volume.data > 0.5, truth > 0.5
    assert 2 * (gray & known).sum() / (gray.sum() + known.sum()) > 0.93
    assert found.ml == pytest.approx(truth.sum() * 0.008, rel=0.03)
    assert not found.modulated


def test_shares_fill_the_brain_and_nothing_else(phantom) -> None:
    picture, _ = phantom
    brain = picture.data > 0
    shares, mixture = tissues(picture, brain)
    np.testing.assert_allclose(shares.sum(0)[brain], 1, atol=1e-5)
    assert shares.min() >= 0 and not shares[:, ~brain].any()
    csf, gray, white = mixture.means
    assert csf < 0.3 < gray < 0.75 < white


def test_a_coarser_grid_holds_the_same_gray_matter(phantom) -> None:
    picture, _ = phantom
    fine, coarse = of_picture(picture, GRID), of_picture(picture, mni_grid(4.0))
    assert coarse.volume.data.shape == (40, 48, 40)
    assert coarse.ml == pytest.approx(fine.ml, rel=0.01)


def test_a_picture_of_another_contrast_is_refused(phantom) -> None:
    picture, _ = phantom
    turned = np.where(picture.data > 0, 1.1 - picture.data, 0).astype(np.float32)
    with pytest.raises(EngineError, match="Give a T1-weighted scan"):
        of_picture(Volume(turned, picture.affine), GRID)
    with pytest.raises(EngineError, match="too few to tell tissues apart"):
        tissues(picture, np.zeros(GRID.shape, bool))


def test_a_map_of_another_program_is_brought_onto_the_grid(phantom) -> None:
    _, truth = phantom
    # as CAT12 writes: another grid, the first axis to the left
    affine = np.diag([-1.5, 1.5, 1.5, 1.0])
    affine[:3, 3] = [78, -120, -75]
    cat = Grid.of((105, 135, 110), affine)
    own = Volume(resample(Volume(truth, GRID.matrix), cat), affine)
    found = of_map(own, GRID)
    assert np.corrcoef(found.volume.data.ravel(), truth.ravel())[0, 1] > 0.9
    assert found.ml == pytest.approx(truth.sum() * 0.008, rel=0.02)
    assert (found.modulated, "not modulated" in found.steps[1]) == (False, True)


def test_a_t1_from_0_to_1_is_not_taken_for_a_map(phantom) -> None:
    """A simulated T1 in MNI space, as this program writes it, and its tissues."""
    card = load_checkpoint(bundled_gm_ldm()).card
    picture, _ = phantom
    assert picture.data.max() == 1
    done = conform_to(card, picture, None, Preparation())
    assert "A gray-matter map in MNI space." not in done.steps
    assert done.quality.figure < 1  # it was placed, and sidecars say how
    assert not np.array_equal(done.to_scan, np.eye(4))
    shares, _ = tissues(picture, picture.data > 0)
    gray, white = (Volume(shares[n].astype(np.float32), GRID.matrix) for n in (1, 2))
    taken = conform_to(card, gray, None, Preparation(n4=True))
    assert "A gray-matter map in MNI space." in taken.steps
    assert (taken.quality.figure, taken.n4) == (1, False)
    assert np.array_equal(taken.to_scan, np.eye(4))
    with pytest.raises(EngineError, match="gray"):
        conform_to(card, white, None, Preparation())


def test_a_map_in_a_scans_own_space_follows_its_t1(phantom) -> None:
    _, truth = phantom
    to_map = np.eye(4)
    to_map[:3, 3] = [30, -40, 20]
    own = Volume(truth, to_map @ GRID.matrix)
    with pytest.raises(EngineError, match="does not lie in MNI space"):
        of_map(own, GRID)
    np.testing.assert_allclose(of_map(own, GRID, to_map=to_map).volume.data, truth)


def test_values_beyond_1_are_a_modulated_map(phantom) -> None:
    _, truth = phantom
    larger = Volume(1.3 * truth, GRID.matrix)
    assert of_map(larger, GRID).modulated
    assert of_map(Volume(truth, GRID.matrix), GRID, modulated=True).modulated
    with pytest.raises(EngineError, match=r"reaches 1\.3, which no share"):
        of_map(larger, GRID, modulated=False)


@pytest.mark.parametrize(("factor", "offset"), [(255, 0), (1, -0.5), (0, 0)])
def test_what_is_no_probability_map_is_refused(phantom, factor, offset) -> None:
    data = (factor * phantom[1] + offset).astype(np.float32)
    with pytest.raises(EngineError, match="a gray-matter map runs from 0 to about 1"):
        of_map(Volume(data, GRID.matrix), GRID)


def test_labels_and_masks_are_no_gray_matter(phantom) -> None:
    """Though they lie where a brain lies, and hold nothing above 3."""
    picture, truth = phantom
    brain = (picture.data > 0).astype(np.float32)
    labels = brain + (truth > 0.5) + 2 * ((brain > 0) & (truth < 0.2))
    for data in (brain, labels, (truth > 0.5).astype(np.float32)):
        for modulated in (None, True):
            with pytest.raises(EngineError, match="whole numbers alone"):
                of_map(Volume(data.astype(np.float32), GRID.matrix), GRID, modulated)


def test_more_or_less_than_any_brain_holds_is_refused(phantom) -> None:
    picture, truth = phantom
    brain = (picture.data > 0).astype(np.float32)
    soft = brain + truth + 0.1 * brain * picture.data  # as CAT12's p0, 1 to 3
    for data in (soft, 0.9 * brain + 0.1 * truth, 0.1 * truth):
        with pytest.raises(EngineError, match=r"adds up to \d+ ml of gray matter"):
            of_map(Volume(data, GRID.matrix), GRID, modulated=True)
    # a small head and a large one are people
    for factor in (0.5, 1.5):
        assert of_map(Volume(factor * truth, GRID.matrix), GRID).ml > 0


def test_a_map_on_the_grid_is_checked_and_left_as_it_is(phantom) -> None:
    _, truth = phantom
    own = Volume(truth, GRID.matrix)
    np.testing.assert_array_equal(as_it_is(own, GRID), truth)
    for data, sentence in (
        ((truth > 0.5).astype(np.float32), "whole numbers alone"),
        (255 * truth, "a gray-matter map runs from 0"),
        (0.1 * truth, "adds up to"),
        (np.roll(truth, (15, -20, 10), (0, 1, 2)), "does not lie in MNI space"),
    ):
        with pytest.raises(EngineError, match=sentence):
            as_it_is(Volume(data, GRID.matrix), GRID)


def test_modulation_is_the_volume_of_each_place() -> None:
    grid = mni_grid(8.0)
    points = np.indices(grid.shape).reshape(3, -1).T @ np.diag([8.0, 8.0, 8.0])
    # x grows by a tenth, and all edges by 0.9 in the placement
    there = (points * [0.1, 0, 0]).reshape(*grid.shape, 3).astype(np.float32)
    affine = np.diag([0.9, 0.9, 0.9, 1.0])
    found = shrinking(Warp(affine, there, -there, grid, "by hand"))
    np.testing.assert_allclose(found, 1.1 * 0.9**3, rtol=1e-5)


def test_the_prior_is_the_templates_gray_matter() -> None:
    prior = gray_prior(GRID)
    to_voxel = np.linalg.inv(GRID.matrix)

    def at(x: float, y: float, z: float) -> float:
        i, j, k = np.rint(to_voxel[:3, :3] @ [x, y, z] + to_voxel[:3, 3]).astype(int)
        return float(prior[i, j, k])

    assert min(at(12, 12, 8), at(-12, 12, 8)) > 0.5  # caudate
    assert max(at(27, -20, 32), at(-27, -20, 32)) < 0.3  # corona radiata


@pytest.mark.slow
def test_a_real_head_has_about_freesurfers_gray_matter(shared: Path) -> None:
    scans = shared / "data" / "scans"
    labels = load_volume(scans / "aomic_sub-0001_aseg.mgz")
    gray = np.isin(
        labels.data, [3, 42, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54]
    )
    segmenter = brain_finder(bundled_segmenter(), "cpu")
    found = of_t1(load_volume(scans / "aomic_sub-0001_orig.mgz"), GRID, segmenter)
    assert found.ml == pytest.approx(gray.sum() / 1000, rel=0.15)

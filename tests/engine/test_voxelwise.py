"""Tests of voxels against nilearn's permuted_ols; clusters against its table."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_brainldm.engine.atlas import Atlas, Region
from napari_brainldm.engine.clusters import NOWHERE, clusters_of
from napari_brainldm.engine.inference import sign_flip_test
from napari_brainldm.engine.renderer import finish
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Grid, Volume
from napari_brainldm.engine.voxelwise import tfce, voxel_test

SHAPE = (9, 10, 8)
AFFINE = np.diag([-3.0, 3.0, 3.0, 1.0])
AFFINE[:3, 3] = (12, -15, -9)


def maps(people: int = 12, effect: float = 0.9) -> np.ndarray:
    """Smooth noise; A above B in one corner, below it in the opposite one."""
    rng = np.random.default_rng(3)
    noise = [gaussian_filter(rng.standard_normal(SHAPE), 0.7) for _ in range(people)]
    found = np.stack(noise) / np.std(noise)
    found[:, 1:5, 1:5, 1:5] += effect
    found[:, 6:8, 6:9, 5:7] -= effect
    return found.astype(np.float32)


def mask() -> np.ndarray:
    found = np.ones(SHAPE, bool)
    found[0], found[:, 0], found[:, :, -1] = False, False, False
    return found


def test_t_largest_t_and_tfce_agree_with_nilearns() -> None:
    from nilearn.maskers import NiftiMasker
    from nilearn.mass_univariate import permuted_ols

    differences, there = maps(), mask()
    masker = NiftiMasker(nib.Nifti1Image(there.astype(np.uint8), AFFINE)).fit()
    known = permuted_ols(
        np.ones((len(differences), 1)),
        differences[:, there].astype(float),
        model_intercept=False,
        n_perm=400,
        two_sided_test=True,
        random_state=1,
        masker=masker,
        tfce=True,
        output_type="dict",
    )
    found = finish(voxel_test(differences, there, 400, seed=2))
    np.testing.assert_allclose(found.t[there], known["t"][0], rtol=1e-4, atol=1e-5)
    assert found.tfce is not None and found.p_tfce is not None
    np.testing.assert_allclose(found.tfce[there], known["tfce"][0], rtol=0.02, atol=2)
    assert np.corrcoef(found.tfce[there], known["tfce"][0])[0, 1] > 0.999
    for ours, theirs in (
        (found.p_max, known["logp_max_t"][0]),
        (found.p_tfce, known["logp_max_tfce"][0]),
    ):
        np.testing.assert_allclose(ours[there], 10.0**-theirs, atol=0.09)
        assert (ours[there] <= 0.05).any() and (ours[~there] == 1).all()


def test_voxels_are_tested_as_regions_are() -> None:
    differences, there = maps(8), mask()
    found = finish(voxel_test(differences, there, 300, enhanced=False, seed=5))
    flat = differences[:, there].astype(np.float64)
    known = sign_flip_test(flat, 300, seed=5)
    np.testing.assert_allclose(found.p_max[there], known.p_fwe, rtol=1e-5)
    np.testing.assert_allclose(found.q[there], known.q, rtol=1e-5)
    assert found.tfce is None and found.beyond().keys() == {"largest t"}


def test_few_subjects_never_get_a_small_p() -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        held = (rng.standard_normal((3, *SHAPE)) + 8).astype(np.float32)
        found = finish(voxel_test(held, mask(), 60, False, seed))
        assert found.p_max[mask()].min() >= 0.1  # of 2 / 2^3


def test_enhancement_of_one_lone_voxel_is_the_sum_of_its_heights() -> None:
    t = np.zeros((5, 5, 5))
    t[2, 2, 2] = -3.0
    heights = np.linspace(0, 3, 101)[1:]
    assert tfce(t)[2, 2, 2] == pytest.approx(-(heights**2).sum())
    assert np.count_nonzero(tfce(t)) == 1


def test_nothing_is_found_in_nothing_and_one_subject_is_refused() -> None:
    nothing = finish(voxel_test(np.zeros((5, *SHAPE), np.float32), mask(), 20))
    assert not any(kept.any() for kept in nothing.beyond().values())
    assert "0 by largest t, 0 by TFCE" in nothing.told()
    with pytest.raises(EngineError, match="several subjects"):
        finish(voxel_test(maps(1), mask(), 10))
    with pytest.raises(EngineError, match="no gray matter"):
        finish(voxel_test(maps(3), np.zeros(SHAPE, bool), 10))


# clusters -----------------------------------------------------------------------------


def halves() -> Atlas:
    labels = np.ones(SHAPE, np.int32)
    labels[SHAPE[0] // 2 :] = 2
    labels[:, -2:] = 0
    regions = Region(1, "one"), Region(2, "two")
    return Atlas("halves", labels, Grid.of(SHAPE, AFFINE), regions)


def test_clusters_of_both_signs_are_nilearns() -> None:
    from nilearn.reporting import get_clusters_table

    data = maps(9).mean(0)
    picture = Volume(data, AFFINE)
    known = get_clusters_table(
        nib.Nifti1Image(data, AFFINE), 0.45, two_sided=True, min_distance=1000
    )
    found = clusters_of(picture, np.abs(data) > 0.45, halves(), least=1)
    assert found.smaller == 0 and len(found.told) == len(known) > 2
    assert {one.sign for one in found.told} == {1, -1}
    for one, (_, row) in zip(found.told, known.iterrows(), strict=True):
        assert one.peak == pytest.approx(tuple(row[["X", "Y", "Z"]]), abs=1e-3)
        assert one.peak_value == pytest.approx(row["Peak Stat"], rel=1e-5)
        assert int(one.mm3) == row["Cluster Size (mm3)"]


def test_a_cluster_tells_its_places_and_what_was_left_out() -> None:
    data = np.zeros(SHAPE, np.float32)
    data[2:6, 1:3, 1:3], data[7, 7, 7] = 2.0, -1.0
    data[5, 2, 2] = 4.0
    found = clusters_of(Volume(data, AFFINE), data != 0, halves(), least=4)
    (one,) = found.told
    assert (found.smaller, one.n_vox, one.mm3) == (1, 16, 16 * 27)
    assert one.places == (("one", 50.0), ("two", 50.0))
    assert one.peak == (12 - 15, -15 + 6, -9 + 6)
    weights = np.abs(data[data != 0][:16])
    voxels = np.argwhere(data > 0)
    centre = nib.affines.apply_affine(AFFINE, weights @ voxels / weights.sum())
    assert one.centre == pytest.approx(tuple(centre))
    outside = np.zeros(SHAPE, np.float32)
    outside[1:4, -2:, 1] = -1
    (one,) = clusters_of(Volume(outside, AFFINE), outside != 0, halves(), 1).told
    assert one.places == ((NOWHERE, 100.0),)

"""Metrics of pictures against closed forms, scipy, torch and planted answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.nets.resnet import ResNetFeatures
from scipy import linalg
from scipy.spatial.distance import cdist
from torch.nn import functional

from napari_brainldm.engine.request import EngineError
from tests.tiny import tiny_segmenter
from trainer.evaluate.metrics import features
from trainer.evaluate.metrics.distributions import (
    frechet_distance,
    kernel_distance,
    prdc,
    standardised,
)
from trainer.evaluate.metrics.fidelity import Series, fidelity
from trainer.evaluate.metrics.gradient_ssim import gradient_magnitude, gradient_ssim
from trainer.evaluate.metrics.pairs import likeness_of_pairs, pairs, window_of
from trainer.stages.medicalnet import dilated, medicalnet

RNG = np.random.default_rng


# Fréchet ------------------------------------------------------------------------------


def by_root(x, y):
    """The definition, with scipy's root of the product of the covariances."""
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(s @ t).real
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * root)


def test_frechet_is_the_definition_with_scipys_root():
    x, y = RNG(0).normal(size=(200, 6)), RNG(1).normal(1, 2, (150, 6))
    mixed = y @ RNG(2).normal(size=(6, 6))
    assert frechet_distance(x, mixed) == pytest.approx(by_root(x, mixed), rel=1e-9)


def test_frechet_of_fewer_vectors_than_dimensions_is_that_of_all_dimensions():
    """Through eigenvalues of the D x D product, which is singular."""
    x, y = RNG(0).normal(size=(12, 40)), RNG(1).normal(0.5, 1.5, (9, 40))
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(s)
    half = vectors * np.sqrt(values.clip(0)) @ vectors.T
    root = np.sqrt(np.linalg.eigvalsh(half @ t @ half).clip(0)).sum()
    shift = ((x.mean(0) - y.mean(0)) ** 2).sum()
    wanted = shift + np.trace(s) + np.trace(t) - 2 * root
    assert frechet_distance(x, y) == pytest.approx(wanted, rel=1e-6)


def test_frechet_of_known_gaussians():
    """Axes apart: the sum of (mean - mean)^2 + (SD - SD)^2."""
    base = RNG(0).normal(size=(500, 3))
    base = (base - base.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(base.T)).T)
    x, y = base * [1, 2, 3], base * [2, 2, 5] + [1, 0, -2]
    assert frechet_distance(x, y) == pytest.approx(1 + 4 + 1 + 0 + 4)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


# KID ----------------------------------------------------------------------------------


def test_kid_is_the_sum_over_pairs():
    x, y = RNG(0).normal(size=(5, 3)), RNG(1).normal(1, 1, (4, 3))

    def k(a, b):
        return (a @ b / 3 + 1) ** 3

    within = [
        np.mean([k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j])
        for s in (x, y)
    ]
    between = np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(sum(within) - 2 * between)


def test_kid_of_one_distribution_is_zero_on_average():
    found = [
        kernel_distance(*(RNG((seed, side)).normal(size=(30, 4)) for side in (0, 1)))
        for seed in range(200)
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(200)
    assert (
        kernel_distance(RNG(0).normal(size=(30, 4)), RNG(1).normal(2, 1, (30, 4))) > 1
    )


# PRDC ---------------------------------------------------------------------------------


def test_prdc_is_counted_ball_by_ball():
    real, made = RNG(0).normal(size=(40, 3)), RNG(1).normal(0.7, 1.0, (30, 3))
    own_real, own_made, between = (
        cdist(real, real),
        cdist(made, made),
        cdist(made, real),
    )
    reach = [sorted(own_real[n])[3] for n in range(40)]
    own = [sorted(own_made[n])[3] for n in range(30)]
    inside = [[between[m, n] < reach[n] for n in range(40)] for m in range(30)]
    found = prdc(real, made, k=3)
    assert found["precision"] == pytest.approx(np.mean([any(row) for row in inside]))
    assert found["density"] == pytest.approx(np.mean([sum(row) for row in inside]) / 3)
    covered = [min(between[:, n]) < reach[n] for n in range(40)]
    assert found["coverage"] == pytest.approx(np.mean(covered))
    recalled = [any(between[m, n] < own[m] for m in range(30)) for n in range(40)]
    assert found["recall"] == pytest.approx(np.mean(recalled))


def test_prdc_of_a_collapsed_model_is_precise_and_covers_little():
    real = RNG(0).normal(size=(100, 2))
    one_mode = real[0] + 1e-3 * RNG(1).normal(size=(100, 2))
    found = prdc(real, one_mode)
    assert found["precision"] == 1.0
    assert max(found["recall"], found["coverage"]) < 0.1
    far = prdc(real, real + 100)
    assert set(far.values()) == {0.0}


def test_standardised_features_are_in_units_of_the_reference():
    reference = RNG(0).normal(3, 5, (50, 3))
    reference[:, 2] = 7.0  # tells nothing
    found = standardised(reference, reference)
    assert found[:, :2].std(0) == pytest.approx(1)
    assert np.all(found[:, 2] == 0)


# 4-G-R-SSIM ---------------------------------------------------------------------------


def smooth(seed, shape=(14, 13, 12)):
    return RNG(seed).random(shape).astype(np.float32)


def banal(x, y, window=7):
    """By the letter, window by window: `x` is the original."""
    line = np.exp(-0.5 * (np.arange(window) - window // 2) ** 2 / 1.5**2)
    cube = np.einsum("i,j,k->ijk", line, line, line)
    cube /= cube.sum()
    gx, gy = gradient(x), gradient(y)
    e, (high, low) = window // 2, (0.12 * gx.max(), 0.06 * gx.max())
    sums = {1: [], 2: [], 3: [], 4: []}
    for i, j, k in np.ndindex(*(n - window + 1 for n in gx.shape)):
        at = (slice(i, i + window), slice(j, j + window), slice(k, k + window))
        inner = tuple(slice(s.start + 1, s.stop + 1) for s in at)
        a, b = (cube * x[inner]).sum(), (cube * y[inner]).sum()
        light = 2 * a * b / (a * a + b * b) if a * a + b * b > 0 else 1.0
        m, n = (cube * gx[at]).sum(), (cube * gy[at]).sum()
        s = np.sqrt(max((cube * gx[at] ** 2).sum() - m * m, 0))
        t = np.sqrt(max((cube * gy[at] ** 2).sum() - n * n, 0))
        s, t = (0.0 if v < 1e-9 else v for v in (s, t))
        cov = (cube * gx[at] * gy[at]).sum() - m * n
        contrast = 2 * s * t / (s * s + t * t) if s or t else 1.0
        structure = cov / (s * t) if s and t else float(not (s or t))
        p, q = gx[i + e, j + e, k + e], gy[i + e, j + e, k + e]
        if p > high and q > high:
            place = 1
        elif p > high or q > high:
            place = 2
        else:
            place = 3 if p < low else 4
        sums[place].append(light * contrast * structure)
    return max(np.mean([np.mean(v) for v in sums.values() if v]), 0)


def gradient(p):
    """Cross-correlation with the three 3 x 3 x 3 kernels, by torch."""
    across = np.full((3, 3), 0.05)
    across[1, 1] = 0.1
    along = np.stack([-across, 0 * across, across])
    kernels = [np.moveaxis(along, 0, axis) for axis in range(3)]
    weight = torch.from_numpy(np.stack(kernels))[:, None]
    found = functional.conv3d(
        torch.from_numpy(p.astype(np.float64))[None, None], weight
    )
    return found[0].abs().sum(0).numpy()


def test_gradient_of_a_ramp_is_its_slope():
    i, j, k = np.indices((5, 6, 7)).astype(float)
    found = gradient_magnitude(0.5 * i - 2 * j + 0.25 * k)
    assert found.shape == (3, 4, 5)
    np.testing.assert_allclose(found, 0.5 + 2 + 0.25)
    picture = smooth(0)
    np.testing.assert_allclose(
        gradient_magnitude(picture.astype(float)), gradient(picture), atol=1e-12
    )


@pytest.mark.parametrize("background", [False, True])
def test_gradient_ssim_is_the_definition_in_both_orders(background):
    x = smooth(0)
    y = np.clip(x + 0.3 * RNG(5).normal(size=x.shape), 0, 1).astype(np.float32)
    if background:  # flat places, and places that are flat in one picture only
        x[:, :, 6:], y[:, :, 9:] = 0, 0
        x[:, :9], y[:, :9] = 0, 0
    wanted = 0.5 * (banal(x, y) + banal(y, x))
    assert gradient_ssim(x, y) == pytest.approx(wanted, abs=1e-6)
    assert gradient_ssim(x, y) == gradient_ssim(y, x)


def test_gradient_ssim_of_equal_pictures_is_one_and_falls_with_noise():
    x = np.pad(smooth(1), 6)
    assert gradient_ssim(x, x) == pytest.approx(1.0)
    noise = RNG(2).normal(size=x.shape)
    found = [
        gradient_ssim(x, (x + sd * noise).astype(np.float32)) for sd in (0.05, 0.3)
    ]
    assert 1 > found[0] > found[1] >= 0


def test_pairs_are_different_pictures_once():
    assert pairs(4, 1000) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    some = pairs(50, 100)
    assert len(set(some)) == 100
    assert all(a < b for a, b in some)
    assert some == pairs(50, 100)


def test_the_window_is_the_papers_where_it_has_room():
    assert window_of((160, 224, 160)) == 7
    assert window_of((80, 96, 80)) == 5
    assert window_of((48, 48, 48)) == 3
    with pytest.raises(EngineError, match="48 voxels along every axis"):
        window_of((40, 48, 40))


def test_equal_pictures_have_no_variety():
    picture = smooth(3, (48, 48, 48))
    found = likeness_of_pairs([picture] * 3)
    assert found["MS-SSIM"] == pytest.approx(1, abs=1e-4)
    assert found["4-G-R-SSIM"] == pytest.approx(1)
    assert found["pairs"] == 3
    assert likeness_of_pairs([picture, smooth(4, picture.shape)])["MS-SSIM"] < 0.5


# Conditions ---------------------------------------------------------------------------


def test_fidelity_is_the_planted_line():
    x = np.linspace(1, 50, 30)
    found = fidelity(Series(x, 0.8 * x + 2), "ml")
    assert found["r"] == pytest.approx(1)
    assert found["r_5_to_95"] == pytest.approx(1)
    assert found["slope"] == pytest.approx(0.8)
    assert found["intercept_ml"] == pytest.approx(2)
    assert found["mae_ml"] == pytest.approx(np.abs(2 - 0.2 * x).mean())


# Features -----------------------------------------------------------------------------


def toy_grid(edge):
    from tests.trainer.toys import grid

    return grid(edge)


def test_a_random_projection_keeps_distances_on_average():
    grid = toy_grid(10)
    pictures = RNG(0).random((40, 10, 10, 10)).astype(np.float32)
    found = features.projected(grid).all_of(pictures)
    assert found.shape == (40, features.PROJECTED)
    true = cdist(pictures.reshape(40, -1), pictures.reshape(40, -1))
    ratio = cdist(found, found)[~np.eye(40, dtype=bool)] / true[~np.eye(40, dtype=bool)]
    assert (ratio**2).mean() == pytest.approx(1, abs=0.15)
    again = features.projected(grid).of(pictures[0])
    np.testing.assert_array_equal(found[0], again)


def test_segmenter_features_are_means_of_its_maps():
    from napari_brainldm.engine.segment import Segmenter, brain_region, scaled
    from napari_brainldm.engine.volume import Volume

    segmenter = Segmenter(tiny_segmenter(), "cpu", "float32")
    grid = segmenter.card.grid
    picture = RNG(0).random(grid.shape).astype(np.float32)
    found = features.of_segmenter(segmenter, grid).of(picture)
    x = torch.from_numpy(scaled(picture, brain_region(grid)))[None, None]
    with torch.no_grad():
        maps = tiny_segmenter().segmenter().features(x)
    wanted = np.concatenate([m.mean((0, 2, 3, 4)).numpy() for m in maps])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    twice = segmenter.features(Volume(2 * picture, grid.matrix))
    np.testing.assert_allclose(twice, wanted, atol=1e-4)


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory):
    """Random weights in the layout of MedicalNet's file, and the file."""
    path = tmp_path_factory.mktemp("weights") / "resnet_50_23dataset.pth"
    torch.manual_seed(0)
    network = ResNetFeatures("resnet50", pretrained=False)
    state = {f"module.{k}": v for k, v in network.state_dict().items()}
    torch.save({"state_dict": state}, path)
    return path, network.eval()


def test_med3d_widens_where_a_classifier_halves(resnet50):
    """Med3D's last maps are an eighth of the picture, a plain ResNet's a 32nd."""
    path, plain = resnet50
    network = dilated(medicalnet(path))
    x = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert [m.shape[-1] for m in plain(x)] == [16, 8, 4, 2, 1]
        maps = network(x)
    assert [m.shape[-1] for m in maps] == [16, 8, 4, 4, 4]
    block = network.layer4[0]  # the widened convolution, written out
    with torch.no_grad():
        inner = torch.rand(1, 512, 9, 9, 9)
        found = block.conv2(inner)
        wanted = functional.conv3d(inner, block.conv2.weight, padding=4, dilation=4)
    torch.testing.assert_close(found, wanted)


def test_med3d_features_are_those_of_the_z_scored_crop(resnet50):
    path, _ = resnet50
    picture = RNG(0).random((24, 24, 24)).astype(np.float32)
    found = features.med3d(path, "cpu").of(picture)
    assert found.shape == (2048,)
    x = torch.from_numpy((picture - picture.mean()) / picture.std())[None, None]
    with torch.no_grad():
        wanted = dilated(medicalnet(path))(x)[-1].mean((0, 2, 3, 4))
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-5)
    brighter = features.med3d(path, "cpu").of((0.5 * picture + 0.1).astype(np.float32))
    np.testing.assert_allclose(brighter, found, rtol=1e-2, atol=1e-4)


def test_other_weights_than_resnet50_are_refused(tmp_path):
    path = tmp_path / "resnet_10.pth"
    torch.save(ResNetFeatures("resnet10", pretrained=False).state_dict(), path)
    with pytest.raises(EngineError, match=r"MedicalNet ResNet \(resnet50\)"):
        features.med3d(path, "cpu")


def test_the_crop_is_the_middle_and_small_pictures_stay():
    picture = np.arange(6.0 * 4 * 5).reshape(6, 4, 5).astype(np.float32)
    found = features.cropped(picture, (2, 8, 3))
    np.testing.assert_array_equal(found, picture[2:4, :, 1:4])


def test_an_unknown_network_is_refused(tmp_path):
    with pytest.raises(EngineError, match="known is med3d"):
        features.feature_sets(toy_grid(8), {"inception": tmp_path}, "cpu")

"""Figures against scikit-image, closed forms and planted answers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.metrics.regression import compute_ssim_and_cs
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from napari_brainldm.engine.measure import measure
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Request,
    Sampler,
    Seed,
)
from napari_brainldm.engine.scan_file import save_volume
from napari_brainldm.engine.segment import Segmenter
from napari_brainldm.engine.similarity import (
    SCALES,
    diversity,
    kernel_of,
    ms_ssim,
    psnr,
    ssim,
)
from napari_brainldm.engine.volume import Volume, mni_grid
from tests.tiny import tiny_checkpoint, tiny_segmenter
from trainer.data.bids import Entry
from trainer.evaluate.brain_ldm import (
    Asked,
    Unseen,
    ask,
    condition_figures,
    measured,
    reader_figures,
    rebuilt_figures,
    sweep,
)
from trainer.evaluate.memorisation import nearest_ratio
from trainer.evaluate.metrics.distributions import distances
from trainer.evaluate.readers import cubes, fit_readers
from trainer.evaluate.run import _check_enough, _check_volumes, load_unseen

GRID = mni_grid(8.0)
NOTHING = np.zeros((1, 1, 1), np.float32)


def noisy(sd, seed=0):
    """A smooth picture on the 8 mm grid and its noisy copy."""
    axes = [np.linspace(-2, 2, n) for n in GRID.shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    truth = np.exp(-(x**2 + y**2 + z**2)).astype(np.float32)
    noise = np.random.default_rng(seed).normal(0, sd, truth.shape)
    return truth, np.clip(truth + noise, 0, 1).astype(np.float32)


# Similarity ---------------------------------------------------------------------------


def test_ssim_is_that_of_scikit_image():
    truth, copy = noisy(0.1)
    mask = truth > 0.3
    _, local = structural_similarity(
        truth.astype(float),
        copy.astype(float),
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    inner = (slice(5, -5),) * 3
    whole, masked = ssim(truth, copy, mask)
    assert whole == pytest.approx(local[inner].mean(), abs=1e-9)
    assert masked == pytest.approx(local[inner][mask[inner]].mean(), abs=1e-9)
    assert ssim(truth, truth, mask) == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize("window", [3, 4, 11])
def test_ssim_of_every_window_is_that_of_monai(window):
    truth, copy = noisy(0.1)
    mask = truth > 0.3
    local, _ = compute_ssim_and_cs(
        *(torch.from_numpy(p)[None, None] for p in (truth, copy)),
        spatial_dims=3,
        kernel_size=(window,) * 3,
        kernel_sigma=(1.5,) * 3,
    )
    values = local[0, 0].numpy()
    edge = (window - 1) // 2
    inner = tuple(slice(edge, edge + n) for n in values.shape)
    wanted = values.mean(), values[mask[inner]].mean()
    # MONAI subtracts means in float32
    assert ssim(truth, copy, mask, window) == pytest.approx(wanted, abs=5e-5)


def test_psnr_is_that_of_scikit_image_and_infinite_for_equal_pictures():
    truth, copy = noisy(0.1)
    wanted = peak_signal_noise_ratio(truth, copy, data_range=1.0)
    assert psnr(truth, copy) == pytest.approx(wanted, abs=1e-4)
    mask = truth > 0.3
    error = float(((truth - copy)[mask].astype(float) ** 2).mean())
    assert psnr(truth, copy, mask) == pytest.approx(-10 * math.log10(error))
    assert psnr(truth, truth) == math.inf


def test_ms_ssim_is_a_product_over_scales_and_one_for_equal_pictures():
    rng = np.random.default_rng(0)
    first = ndimage.gaussian_filter(rng.random((80, 96, 80)), 2).astype(np.float32)
    second = np.clip(first + rng.normal(0, 0.02, first.shape), 0, 1).astype(np.float32)
    assert kernel_of(first.shape) == 5
    assert kernel_of((160, 224, 160)) == 9
    assert kernel_of((400, 400, 400)) == 11
    assert ms_ssim(first, first) == pytest.approx(1.0, abs=1e-5)
    x, y, wanted = first, second, 1.0
    for last, weight in zip([False] * 4 + [True], SCALES, strict=True):
        whole, contrast = terms(x, y, 5)
        wanted *= max(whole if last else contrast, 0) ** weight
        x, y = (halved(p) for p in (x, y))
    assert ms_ssim(first, second) == pytest.approx(wanted, abs=2e-3)


def terms(x, y, kernel):
    """Means of SSIM and of its contrast-structure part, from scipy's filters."""
    line = np.exp(-0.5 * (np.arange(kernel) - kernel // 2) ** 2 / 1.5**2)
    line /= line.sum()

    def mean(p):
        for axis in range(3):
            p = ndimage.correlate1d(p.astype(float), line, axis)
        edge = kernel // 2
        return p[edge:-edge, edge:-edge, edge:-edge]

    a, b = mean(x), mean(y)
    spread = mean(x * x) - a * a + mean(y * y) - b * b
    contrast = (2 * (mean(x * y) - a * b) + 0.03**2) / (spread + 0.03**2)
    light = (2 * a * b + 0.01**2) / (a * a + b * b + 0.01**2)
    return float((light * contrast).mean()), float(contrast.mean())


def halved(p):
    i, j, k = (n // 2 for n in p.shape)
    cut = p[: 2 * i, : 2 * j, : 2 * k]
    return cut.reshape(i, 2, j, 2, k, 2).mean((1, 3, 5))


def test_diversity_pairs_every_picture_with_the_next():
    rng = np.random.default_rng(1)
    pictures = [rng.random((32, 32, 32)).astype(np.float32) for _ in range(3)]
    pairs = [(0, 1), (1, 2), (2, 0)]
    wanted = np.mean([ms_ssim(pictures[a], pictures[b]) for a, b in pairs])
    assert diversity(pictures) == pytest.approx(wanted)


# Memorisation -------------------------------------------------------------------------


def spread(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 20))


def ratio_of(samples, training, unseen):
    return nearest_ratio(distances(samples, training), distances(samples, unseen))


def test_distances_are_those_of_scipy():
    a, b = spread(7, 0), spread(5, 1)
    np.testing.assert_allclose(distances(a, b), cdist(a, b), atol=1e-9)


def test_samples_of_the_same_kind_are_no_copies():
    assert ratio_of(spread(60, 0), spread(120, 1), spread(60, 2)).holds_one


def test_more_training_scans_alone_do_not_look_like_copies():
    ratio = ratio_of(spread(60, 3), spread(2000, 4), spread(60, 5))
    assert ratio.value > 0.97


def test_planted_copies_are_found():
    training = spread(120, 1)
    copies = training[:60] + 0.05 * spread(60, 6)
    ratio = ratio_of(copies, training, spread(120, 2))
    assert not ratio.holds_one
    assert ratio.high < 0.9


# Readers ------------------------------------------------------------------------------


def people(count, seed):
    """Pictures whose brightness front and back tell age and sex."""
    rng = np.random.default_rng(seed)
    ages, sexes = rng.uniform(20, 90, count), rng.choice(["F", "M"], count)
    pictures = rng.normal(0.5, 0.02, (count, *GRID.shape)).astype(np.float32)
    pictures[:, :, :12] += ((ages - 55) / 350)[:, None, None, None]
    pictures[:, :, 12:] += np.where(sexes == "M", 0.05, 0)[:, None, None, None]
    return list(pictures), ages, sexes


def test_readers_find_planted_age_and_sex_in_unseen_pictures():
    readers = fit_readers(*people(80, 0), GRID)
    pictures, ages, sexes = people(40, 1)
    age, sex = readers.read(pictures)
    assert np.corrcoef(age, ages)[0, 1] > 0.95
    assert (sex == sexes).mean() > 0.9
    asked = [
        Asked(Conditions.of({"age": a, "sex": str(s)}), {}, p)
        for p, a, s in zip(pictures, ages, sexes, strict=True)
    ]
    figures = reader_figures(readers, asked)
    assert figures["age_r"] == pytest.approx(np.corrcoef(age, ages)[0, 1])
    assert figures["sex_accuracy"] == pytest.approx((sex == sexes).mean())


def test_cubes_are_means_over_8_mm():
    picture = np.arange(8**3, dtype=np.float32).reshape(8, 8, 8)
    grid = replace(mni_grid(2.0), shape=(8, 8, 8))
    found = cubes([picture], grid)[0]
    wanted = ndimage.uniform_filter(picture.astype(float), 4)[2::4, 2::4, 2::4]
    np.testing.assert_allclose(found, wanted.ravel())


# Tables -------------------------------------------------------------------------------


def asked(x, y):
    return [
        Asked(Conditions.of({"age": 60.0, "ventricles": a}), {"ventricles": b}, NOTHING)
        for a, b in zip(x, y, strict=True)
    ]


def test_agreement_is_r_slope_and_mean_error():
    x = np.array([10.0, 20.0, 40.0, 70.0])
    figures = condition_figures(asked(x, 0.5 * x + 3))
    assert figures["ventricles_r"] == pytest.approx(1.0)
    assert figures["ventricles_slope"] == pytest.approx(0.5)
    assert figures["ventricles_mae_ml"] == pytest.approx(abs(3 - 0.5 * x).mean())
    assert figures["ventricles_intercept_ml"] == pytest.approx(3.0)
    y = np.array([12.0, 18.0, 50.0, 61.0])
    r = condition_figures(asked(x, y))["ventricles_r"]
    assert r == pytest.approx(np.cov(x, y)[0, 1] / (x.std(ddof=1) * y.std(ddof=1)))


def test_the_usual_range_leaves_out_the_ends():
    x = np.arange(1.0, 42.0)
    y = x.copy()
    y[[0, -1]] = 500.0, -500.0
    figures = condition_figures(asked(x, y))
    assert figures["ventricles_r_5_to_95"] == pytest.approx(1.0)
    assert figures["ventricles_r"] < 0.5


@pytest.fixture(scope="module")
def renderer():
    return Renderer(tiny_checkpoint(), "cpu", "float32")


def test_rebuilt_pictures_are_judged_against_the_truth(renderer):
    pairs = [noisy(0.1, seed) for seed in (0, 1)]
    unseen = [Unseen(copy, truth, Conditions()) for truth, copy in pairs]
    figures = rebuilt_figures(renderer, unseen)
    brain = pairs[0][0] > 0
    wanted = np.mean([psnr(c, t, brain) for t, c in pairs])
    assert figures["input_psnr_brain"] == pytest.approx(wanted)
    rebuilt = [psnr(renderer.rebuild(c), t, brain) for t, c in pairs]
    assert figures["rebuilt_psnr_brain"] == pytest.approx(np.mean(rebuilt))
    assert len(figures) == 6


def test_a_dataset_without_truth_has_no_noise_ceiling(renderer):
    _, picture = noisy(0.1)
    figures = rebuilt_figures(renderer, [Unseen(picture, picture, Conditions())])
    assert {name.split("_")[0] for name in figures} == {"rebuilt"}
    assert all(math.isfinite(value) for value in figures.values())


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(tiny_segmenter(), "cpu", "float32")


def test_every_asked_picture_has_its_own_seed_and_is_measured(renderer, segmenter):
    wanted = [Conditions.of({"ventricles": v}) for v in (10.0, 10.0)]
    sampler = Sampler(steps=2)
    found = list(ask(renderer, segmenter, wanted, sampler, 5))
    assert [one.conditions.as_dict()["ventricles"] for one in found] == [10.0, 10.0]
    assert found[0].conditions.as_dict()["age"] == 55.0
    assert found[0].measured != found[1].measured
    request = Request(wanted[0], Seed(6), (), sampler)
    again = finish(renderer.render(request)).data
    np.testing.assert_array_equal(again, found[1].picture)


def test_measured_volumes_mean_what_the_card_means(renderer, segmenter):
    card = replace(renderer.card, head_size=1500.0)
    picture, _ = noisy(0.1)
    found = measured(segmenter, card, picture)
    volumes = measure(segmenter.segment(Volume(picture, GRID.matrix)))
    assert found["ventricles"] == volumes.ventricles
    assert found["brain"] == pytest.approx(volumes.brain / volumes.icv * 1500)


def test_a_sweep_goes_beyond_the_training_range(renderer, segmenter):
    found = sweep(renderer, segmenter, "ventricles", (-0.5, 1.9), 1)
    values = [renderer.card.covariate("ventricles").decode(c) for c in (-0.5, 1.9)]
    one = list(
        ask(renderer, segmenter, [Conditions.of({"ventricles": values[1]})], Sampler())
    )
    assert values[0] < 7 and values[1] > 67
    assert found[1] == pytest.approx(one[0].measured["ventricles"])


# Scans --------------------------------------------------------------------------------


def entry(folder, session="", truth=True, **covariates):
    clean, copy = noisy(0.1)
    parts = ["sub-01", *([session] if session else []), "anat"]
    stem = "_".join(["sub-01", *([session] if session else [])])
    path = folder.joinpath(*parts) / f"{stem}_T1w.nii.gz"
    path.parent.mkdir(parents=True)
    save_volume(Volume(copy, GRID.matrix), path)
    if truth:
        inner = folder / "derivatives" / "noisefree"
        inner.joinpath(*parts).mkdir(parents=True)
        name = f"{stem}_desc-noisefree_T1w.nii.gz"
        save_volume(Volume(clean, GRID.matrix), inner.joinpath(*parts) / name)
    return Entry("sub-01", session, path, tuple(covariates.items()))


@pytest.mark.parametrize("session", ["", "ses-02"])
def test_the_truth_of_a_simulated_scan_is_found(session, tmp_path):
    card = tiny_checkpoint().card
    found = load_unseen(entry(tmp_path, session, age=60.0), card)
    clean, _ = noisy(0.1)
    unit = np.percentile(clean[clean > 0], 99.5)
    np.testing.assert_allclose(found.truth, np.clip(clean / unit, 0, 1), atol=1e-6)
    assert np.abs(found.picture - found.truth).max() > 0.1
    assert found.conditions.as_dict() == {"age": 60.0}


def test_without_truth_the_picture_is_its_own(tmp_path):
    found = load_unseen(entry(tmp_path, truth=False), tiny_checkpoint().card)
    assert found.truth is found.picture


def test_a_table_without_volumes_gets_a_sentence():
    one = Unseen(NOTHING, NOTHING, Conditions.of({"age": 60.0}))
    with pytest.raises(EngineError, match="Map their columns in the config"):
        _check_volumes([one])


@pytest.mark.parametrize(("held_out", "n"), [(0, 10), (1, 10), (10, 1), (10, 0)])
def test_too_little_to_measure_gets_a_sentence(held_out, n):
    with pytest.raises(EngineError, match="at least 2 of each"):
        _check_enough(held_out, n)

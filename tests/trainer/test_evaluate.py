"""Figures against scikit-image, closed forms and planted answers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import Conditions, EngineError, Sampler
from napari_brainldm.engine.scan_file import save_volume
from napari_brainldm.engine.volume import Volume, mni_grid
from tests.tiny import tiny_checkpoint
from trainer.data.bids import Entry
from trainer.evaluate.brain_ldm import (
    Asked,
    Unseen,
    ask,
    condition_figures,
    rebuilt_figures,
)
from trainer.evaluate.meter import BOX, Meter, calibrate, counts
from trainer.evaluate.run import _check_enough, calibrated, load_unseen
from trainer.evaluate.similarity import psnr, ssim

GRID = mni_grid(8.0)


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
    assert whole == pytest.approx(local[inner].mean(), abs=1e-4)
    assert masked == pytest.approx(local[inner][mask[inner]].mean(), abs=1e-4)
    assert ssim(truth, truth, mask) == pytest.approx((1.0, 1.0))


def test_psnr_is_that_of_scikit_image_and_infinite_for_equal_pictures():
    truth, copy = noisy(0.1)
    wanted = peak_signal_noise_ratio(truth, copy, data_range=1.0)
    assert psnr(truth, copy) == pytest.approx(wanted, abs=1e-4)
    mask = truth > 0.3
    error = float(((truth - copy)[mask].astype(float) ** 2).mean())
    assert psnr(truth, copy, mask) == pytest.approx(-10 * math.log10(error))
    assert psnr(truth, truth) == math.inf


# The meter ----------------------------------------------------------------------------


def head(dark: int, bright: int) -> np.ndarray:
    """White matter, `dark` voxels of ventricle, a rim of fluid that `bright` thins."""
    data = np.ones(GRID.shape, np.float32)
    data[:, : 5 - bright] = 0.2  # behind the box
    data[9, 14, 8 : 8 + dark] = 0.2
    return data


def test_the_box_covers_the_ventricles_and_stays_on_the_grid():
    picture = np.zeros(GRID.shape, np.float32) + 1.0
    picture[10, 12, 10] = 0.2
    dark, _ = counts(picture, GRID)
    assert dark == pytest.approx(1.0)
    world = GRID.matrix[:3, :3] @ [10, 12, 10] + GRID.matrix[:3, 3]
    assert all(low <= w <= high for w, (low, high) in zip(world, BOX, strict=True))
    rows = [list(row) for row in GRID.affine]
    for row in rows[:3]:
        row[3] = 0.0  # a smaller grid, whose corner lies inside the box
    small = replace(GRID, affine=tuple(tuple(row) for row in rows))
    picture[:] = 1.0
    picture[0, 0, 0] = 0.2
    assert counts(picture, small)[0] == pytest.approx(1.0)


def test_a_picture_without_a_head_counts_nothing_bright():
    assert counts(np.zeros(GRID.shape, np.float32), GRID)[1] == 0.0


def test_the_meter_reads_what_it_was_calibrated_on():
    """Volumes that are a straight line of what is counted come back exactly."""
    pictures = [head(n, n) for n in range(6)]
    dark, bright = np.array([counts(p, GRID) for p in pictures]).T
    assert (np.diff(dark) > 0).all() and (np.diff(bright) > 0).all()
    meter = calibrate(pictures, 3 * dark + 5, 2000 * bright + 700, GRID)
    read = [meter.read(p) for p in pictures]
    assert [r["ventricles"] for r in read] == pytest.approx(list(3 * dark + 5))
    assert [r["brain"] for r in read] == pytest.approx(list(2000 * bright + 700))


# Tables -------------------------------------------------------------------------------


def asked(x, y):
    return [
        Asked(Conditions.of({"age": 60.0, "ventricles": a}), {"ventricles": b})
        for a, b in zip(x, y, strict=True)
    ]


def test_agreement_is_r_slope_and_mean_error():
    x = np.array([10.0, 20.0, 40.0, 70.0])
    figures = condition_figures(asked(x, 0.5 * x + 3))
    assert figures["ventricles_r"] == pytest.approx(1.0)
    assert figures["ventricles_slope"] == pytest.approx(0.5)
    assert figures["ventricles_mae_ml"] == pytest.approx(abs(3 - 0.5 * x).mean())
    y = np.array([12.0, 18.0, 50.0, 61.0])
    r = condition_figures(asked(x, y))["ventricles_r"]
    assert r == pytest.approx(np.cov(x, y)[0, 1] / (x.std(ddof=1) * y.std(ddof=1)))


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


def test_every_asked_picture_has_its_own_seed_and_is_measured(renderer):
    meter = calibrate(
        [head(n, n) for n in range(3)],
        np.arange(3.0),
        np.arange(3.0),
        GRID,
    )
    wanted = [Conditions.of({"ventricles": v}) for v in (10.0, 10.0)]
    found = list(ask(renderer, meter, wanted, Sampler(steps=2)))
    assert [one.conditions for one in found] == wanted
    assert isinstance(meter, Meter)
    assert found[0].measured != found[1].measured


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


def test_a_table_without_volumes_gets_a_sentence(tmp_path):
    one = entry(tmp_path, age=60.0)
    for entries in ((), (one,)):
        with pytest.raises(EngineError, match="Map their columns in the config"):
            calibrated(entries, tiny_checkpoint().card)


@pytest.mark.parametrize(("held_out", "n"), [(0, 10), (1, 10), (10, 1), (10, 0)])
def test_too_little_to_measure_gets_a_sentence(held_out, n):
    with pytest.raises(EngineError, match="at least 2 of each"):
        _check_enough(held_out, n)

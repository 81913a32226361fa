"""Figures of the segmenter against scikit-learn, SciPy, MONAI and planted answers."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.metrics import compute_dice
from scipy import stats
from sklearn.metrics import f1_score

from benchmarks import segmenter as benchmark
from napari_brainldm.engine.checkpoint import save_checkpoint
from napari_brainldm.engine.networks.segmenter import STRUCTURES
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.segment import Segmentation
from napari_brainldm.engine.volume import mni_grid
from tests.tiny import hard, tiny_segmenter
from trainer.data.template import NAMES, TISSUE
from trainer.evaluate.segmentation import (
    T1_CLASSES,
    Camera,
    Priors,
    agreement,
    as_structures,
    class_map,
    dice,
    draw_intensities,
    in_cohort,
    label_volumes,
    synthesise_t1,
)

STILL = Camera(blur=0.0, bias=0.0, noise=0.0)


def random_labels(seed, count=5, shape=(7, 8, 9)):
    return np.random.default_rng(seed).integers(0, count + 1, shape).astype(np.uint8)


# Overlap ------------------------------------------------------------------------------


def test_dice_is_the_f1_score_of_scikit_learn():
    truth, found = random_labels(0), random_labels(1)
    expected = f1_score(truth.ravel(), found.ravel(), labels=range(1, 6), average=None)
    assert dice(truth, found, 5) == pytest.approx(expected)


def test_dice_is_that_of_monai():
    truth, found = random_labels(2), random_labels(3)
    one_hot = [
        torch.nn.functional.one_hot(torch.from_numpy(m).long(), 6).movedim(-1, 0)[None]
        for m in (found, truth)
    ]
    expected = compute_dice(*one_hot, include_background=False)[0].numpy()
    assert dice(truth, found, 5) == pytest.approx(expected)


def test_dice_of_a_label_in_neither_map_is_no_number():
    labels = np.array([[[0, 1, 3]]])
    assert dice(labels, labels, 3).tolist() == pytest.approx(
        [1, np.nan, 1], nan_ok=True
    )


def test_both_parts_of_the_cerebellum_are_one_structure_of_the_cohort():
    grid, names = mni_grid(8.0), [s.name for s in STRUCTURES]
    memberships = np.zeros((1 + len(STRUCTURES), *grid.shape), np.float32)
    memberships[0] = 1
    parts = ("cerebellar_gray_matter", "cerebellar_white_matter", "brain_stem")
    rows = [1 + names.index(part) for part in parts]
    # none of the three is over a half, the two of the cerebellum are together
    memberships[[0, *rows], 5, 5, 5] = 0.0, 0.3, 0.3, 0.4
    found = in_cohort(Segmentation(memberships, grid, STRUCTURES, "planted"))
    assert found[5, 5, 5] == 1 + NAMES.index("cerebellum")
    assert np.count_nonzero(found) == 1


# Volumes ------------------------------------------------------------------------------


def test_agreement_is_that_of_scipy():
    rng = np.random.default_rng(4)
    true = rng.uniform(10, 60, 30)
    found = 1.1 * true - 2 + rng.normal(0, 3, 30)
    line = stats.linregress(true, found)
    fit = agreement(true, found)
    assert fit.r == pytest.approx(stats.pearsonr(true, found).statistic)
    assert (fit.slope, fit.intercept) == pytest.approx((line.slope, line.intercept))
    assert fit.median_error == pytest.approx(
        100 * np.median(np.abs(found - true) / true)
    )
    assert fit.mae == pytest.approx(np.mean(np.abs(found - true)))


def test_volumes_that_never_change_agree_with_nothing():
    fit = agreement([10, 20, 30], [15, 15, 15])
    assert (fit.r, fit.slope, fit.intercept) == (0, 0, 15)


def test_agreement_of_one_scan_is_refused():
    with pytest.raises(EngineError, match="at least two"):
        agreement([1.0], [1.0])


def test_volumes_of_a_label_map_are_those_planted():
    labels = np.zeros((10, 10, 10), np.int32)
    planted = {4: 20, 44: 5, 136: 3, 17: 7, 53: 6, 2: 50, 42: 40, 24: 30, 30: 2, 511: 9}
    places = np.repeat(list(planted), list(planted.values()))
    labels.ravel()[: len(places)] = places
    volumes = label_volumes(labels, STRUCTURES, 0.008)
    counts = {
        "ventricles": 28,  # inferior horn and choroid plexus included
        "hippocampus": 13,
        "brain": 103,
        "icv": 163,  # scalp (511) is outside
    }
    assert volumes == pytest.approx({k: 0.008 * n for k, n in counts.items()})


def test_a_label_map_as_structures_keeps_every_structure():
    indices = np.array([[[0, 511, *(s.left for s in STRUCTURES), 44, 15, 251, 85]]])
    found = as_structures(indices, STRUCTURES)[0, 0].tolist()
    rows = {s.name: n for n, s in enumerate(STRUCTURES, start=1)}
    also = ("lateral_ventricles", "other_ventricles", "white_matter")
    assert found[:2] == [0, 0]
    assert found[2:-4] == list(rows.values())
    assert found[-4:] == [*(rows[n] for n in also), rows["ventral_diencephalon"]]


# T1s from label maps ------------------------------------------------------------------


def priors(deviation=0.0):
    means = np.array([[10.0, 50.0, 160.0], [0.0, 5.0, 20.0]])
    deviations = np.array([[deviation] * 3, [0.0] * 3])
    return Priors(((0,), (4, 43), (2,)), means, deviations)


def blocks(edge=30):
    """Three slabs: background, ventricle (both sides), white matter."""
    labels = np.zeros((edge, edge, edge), np.int32)
    labels[edge // 3 : 2 * edge // 3] = 4
    labels[edge // 3 : edge // 2] = 43
    labels[2 * edge // 3 :] = 2
    return labels


def test_without_blur_every_class_has_the_intensity_drawn_for_it():
    labels, deviation = blocks(), 4.0
    scan = synthesise_t1(labels, np.eye(4), priors(deviation), 7, STILL)
    means, _ = draw_intensities(priors(deviation), np.random.default_rng(7))
    for n, group in enumerate(priors().classes):
        voxels = scan.data[np.isin(labels, group)]
        assert voxels.mean() == pytest.approx(means[n], abs=5 * deviation / 90)
        assert voxels.std() == pytest.approx(deviation, rel=0.05)


def test_intensities_drawn_follow_the_priors():
    rng = np.random.default_rng(0)
    drawn = np.array([draw_intensities(priors(), rng)[0] for _ in range(2000)])
    assert drawn.mean(0) == pytest.approx([10, 50, 160], rel=0.02)
    assert drawn.std(0) == pytest.approx([0, 5, 20], rel=0.1)


def test_no_intensity_is_below_zero():
    low = replace(priors(), means=np.array([[0.0] * 3, [50.0] * 3]))
    scan = synthesise_t1(blocks(), np.eye(4), low, 0, Camera())
    assert scan.data.min() >= 0


def test_the_same_seed_makes_the_same_scan_and_another_another():
    first, again, other = (
        synthesise_t1(blocks(), np.eye(4), priors(3.0), seed, Camera())
        for seed in (1, 1, 2)
    )
    assert first.digest == again.digest != other.digest


def test_blur_makes_partial_volumes_and_keeps_the_sum():
    sharp, soft = (
        synthesise_t1(blocks(), np.eye(4), priors(), 5, replace(STILL, blur=sd))
        for sd in (0.0, 1.0)
    )
    assert len(np.unique(sharp.data)) == 3
    assert len(np.unique(soft.data)) > 6
    assert soft.data.sum() == pytest.approx(sharp.data.sum(), rel=1e-4)


def test_bias_and_noise_are_as_strong_as_asked():
    still = synthesise_t1(blocks(), np.eye(4), priors(), 5, STILL).data
    shaded = synthesise_t1(blocks(), np.eye(4), priors(), 5, replace(STILL, bias=0.2))
    assert np.log(shaded.data / still).std() == pytest.approx(0.2, rel=1e-3)
    noisy = synthesise_t1(blocks(), np.eye(4), priors(), 5, replace(STILL, noise=0.02))
    white = blocks() == 2
    expected = 0.02 * still[white].mean()
    assert noisy.data[white].std() == pytest.approx(expected, rel=0.05)


def test_a_label_without_an_intensity_is_refused_by_name():
    with pytest.raises(EngineError, match="holds 99, of which"):
        class_map(np.array([[[0, 99]]]), T1_CLASSES)


def test_the_priors_cover_the_labels_of_synthsegs_maps(shared):
    folder = shared / "data" / "labelmaps"
    known = {n for group in T1_CLASSES for n in group}
    assert set(np.load(folder / "generation_labels.npy").tolist()) <= known
    assert np.load(folder / "prior_means_t1.npy").shape == (2, len(T1_CLASSES))


def test_volumes_of_synthsegs_maps_are_those_in_their_table(shared):
    folder = shared / "data" / "labelmaps"
    header, row, *_ = (folder / "volumes_mL.csv").read_text().split()
    table = dict(zip(header.split(","), row.split(","), strict=True))
    labels = np.asarray(
        nib.load(folder / f"training_seg_{table['map']}.nii.gz").dataobj
    )
    labels = labels.astype(np.int32)
    choroid = np.isin(labels, (136, 137, 163, 164)).sum() / 1000  # not in the table
    volumes = label_volumes(labels, STRUCTURES, 0.001)
    assert volumes["ventricles"] - choroid == pytest.approx(
        float(table["LV"]) + float(table["InfLV"]), abs=0.02
    )
    assert volumes["hippocampus"] == pytest.approx(float(table["Hipp"]), abs=0.01)
    # corpus callosum is white matter there; lesions and chiasm are not counted
    assert volumes["brain"] == pytest.approx(float(table["Brain"]), rel=0.01)


# The benchmark ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("segmenter") / "tiny.safetensors"
    save_checkpoint(tiny_segmenter(), path)
    return path


def test_a_quick_benchmark_reaches_its_end(checkpoint, capsys):
    arguments = ["--quick", "--json", "--checkpoint", str(checkpoint)]
    assert benchmark.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pass"] and report["quick"]
    assert set(report["thresholds"]) == set(benchmark.LIMITS)
    assert report["figures"]["people"] == 3
    assert tuple(report["figures"]["dice"]) == NAMES


def test_parts_are_held_to_their_limits_only_where_asked_for():
    chosen = type("Chosen", (), {"labelmaps": None, "freesurfer": None})
    assert set(benchmark.limits(chosen)) == set(benchmark.LIMITS)
    chosen.labelmaps, chosen.freesurfer = "folder", ["scan", "aseg", "norm"]
    wanted = benchmark.limits(chosen)
    assert "labelmaps_ventricles_worst_error_percent" in wanted
    assert wanted["freesurfer_brain_dice"].value == 0.94


def test_a_perfect_finding_agrees_with_its_label_map():
    grid = mni_grid(4.0)
    labels = np.zeros(grid.shape, np.int32)
    labels[5:35, 5:40, 5:35] = 2
    labels[15:25, 15:25, 15:25] = 4
    labels[10:12, 10:20, 10:12] = 17
    segmentation = hard(labels, grid, STRUCTURES, "planted")
    finding = benchmark.Finding(segmentation, np.eye(4), None, ())
    row = benchmark.compared("planted", finding, labels, grid.matrix)
    assert row.found == pytest.approx(row.true)
    known = [value for value in row.dice.values() if not np.isnan(value)]
    assert known == [1.0, 1.0, 1.0]


def test_sidecar_volumes_are_summed_as_measured():
    structures = {name: float(n) for n, name in enumerate(NAMES, start=1)}
    volumes = benchmark._cohort_volumes(structures)
    assert volumes["ventricles"] == structures["lateral_ventricles"]
    assert volumes["icv"] == sum(structures.values())
    assert volumes["brain"] == sum(structures[name] for name in TISSUE)


def test_a_refused_scan_counts_as_refused(monkeypatch, tmp_path):
    (tmp_path / "training_seg_01.nii.gz").touch()
    np.save(tmp_path / "prior_means_t1.npy", np.zeros((2, 25)))
    np.save(tmp_path / "prior_stds_t1.npy", np.zeros((2, 25)))

    def refuse(*_):
        raise EngineError("not a brain")

    monkeypatch.setattr(benchmark, "of_map", refuse)
    found = benchmark.of_labelmaps(None, tmp_path, benchmark.FULL, 0)
    assert found["labelmaps_refused"] == benchmark.FULL.pictures
    assert found["labelmaps_ventricles_worst_error_percent"] == 100

"""LDAE's tables: planted answers, closed forms, counted calls."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import wilcoxon
from sklearn.metrics import roc_auc_score

from napari_brainldm.engine.card import Card
from napari_brainldm.engine.checkpoint import Checkpoint, load_checkpoint
from napari_brainldm.engine.imports.find import find
from napari_brainldm.engine.imports.write import write_found
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import EngineError, Request, Sampler, Scan, Seed
from napari_brainldm.engine.volume import Volume
from tests import foreign
from trainer.config import load_config
from trainer.data.pictures import model_grid
from trainer.evaluate import probes, reconstruction, throughput, visits
from trainer.evaluate.moved import Moved, curve, monotone
from trainer.evaluate.reconstruction import own_code_share, rebuilt, without_code
from trainer.evaluate.table import Table, means
from trainer.evaluate.visits import (
    BLEND,
    FIRST,
    LDAE,
    NEAREST,
    SMOOTH,
    Predicted,
    Visit,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("ldae")
    settings = foreign.LDAE_SETTINGS | {"latent_shape": [2, 16, 16, 8]}
    path = folder / "small.safetensors"
    for _ in write_found(find(foreign.save_ldae(folder / "files", settings)), path):
        pass
    return load_checkpoint(path)


@pytest.fixture
def renderer(checkpoint: Checkpoint) -> Renderer:
    return Renderer(checkpoint, "cpu", "float32")


def picture(renderer: Renderer, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(renderer.card.grid.shape, np.float32)


def test_a_table_reads_as_markdown() -> None:
    rows = ({"model": "a", "SSIM": 0.98765}, {"model": "b", "SSIM": 1.0})
    text = Table("t", "Two models", rows, "Simulated.").markdown()
    assert text.splitlines() == [
        "### Two models",
        "",
        "| model | SSIM |",
        "| --- | --- |",
        "| a | 0.9877 |",
        "| b | 1 |",
        "",
        "Simulated.",
    ]
    assert means([{"x": 1.0}, {"x": 3.0}]) == {"x": 2.0}


# -- probes ----------------------------------------------------------------------------


def planted(count: int, seed: int) -> list[dict[str, str]]:
    """Rows of people whose hippocampi tell the ill, and whose ventricles tell age."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        ill, age = bool(rng.random() < 0.5), rng.uniform(55, 90)
        volumes = {
            "ventricles_ml": np.exp(2 + 0.02 * age + 0.05 * rng.normal()),
            "brain_ml": 1100 + 50 * rng.normal(),
            "hippocampus_ml": 7 * np.exp(-0.3 * ill + 0.1 * rng.normal()),
            "icv_ml": 1400 + 80 * rng.normal(),
        }
        told = {"diagnosis": "AD" if ill else "CN", "age": str(age)}
        rows.append(told | {k: str(v) for k, v in volumes.items()})
    return rows


def test_what_true_volumes_tell_is_found_on_other_people() -> None:
    train, unseen = planted(300, 0), planted(200, 1)
    kept, truth = probes.diagnosed(unseen, "AD", "CN")
    assert kept.all()
    odds = probes.volumes_odds(train, unseen, "AD", "CN")
    alone = -np.log([float(row["hippocampus_ml"]) for row in unseen])
    best = roc_auc_score(truth, alone)
    assert probes.classified(odds, truth)["ROC-AUC"] == pytest.approx(best, abs=0.02)
    error = probes.regressed(probes.volumes_age(train, unseen), probes.ages(unseen))
    # 0.05 of scatter at 0.02 a year are 2.5 years, whose mean size is 2.0
    assert error["RMSE"] == pytest.approx(2.5, rel=0.15)
    assert error["MAE"] == pytest.approx(2.0, rel=0.15)


def test_the_columns_of_a_classifier_are_those_of_its_counts() -> None:
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    odds = np.array([2, 1, 1, -1, 3, -1, -1, -2, -2, -3.0])  # 3 hits, 1 false alarm
    found = probes.classified(odds, truth)
    assert found["accuracy"] == pytest.approx(0.8)
    assert found["precision"] == pytest.approx(3 / 4)
    assert found["recall"] == pytest.approx(3 / 4)
    assert found["F1"] == pytest.approx(3 / 4)
    assert found["MCC"] == pytest.approx((3 * 5 - 1 * 1) / np.sqrt(4 * 4 * 6 * 6))
    pairs = np.sign(odds[truth == 1][:, None] - odds[truth == 0])
    assert found["ROC-AUC"] == pytest.approx(((pairs + 1) / 2).mean())


def test_a_table_without_volumes_is_told() -> None:
    with pytest.raises(EngineError, match="no column ventricles_ml"):
        probes.volumes_age([{"age": "60"}], [{"age": "61"}])


def test_others_than_the_two_diagnoses_are_left_out() -> None:
    rows = [{"diagnosis": name} for name in ("AD", "MCI", "CN", "")]
    kept, truth = probes.diagnosed(rows, "AD", "CN")
    assert kept.tolist() == [True, False, True, False]
    assert truth[kept].tolist() == [1.0, 0.0]


# -- reconstruction --------------------------------------------------------------------


def test_without_its_code_a_model_is_its_denoiser(renderer: Renderer) -> None:
    plain = Renderer(without_code(renderer.checkpoint), "cpu", "float32")
    request = Request(origin=Seed(3), sampler=Sampler("ddim", 5))
    first, second = (finish(r.render(request)).data for r in (renderer, plain))
    np.testing.assert_array_equal(first, second)
    with pytest.raises(EngineError):
        plain.card.direction("AD")


def test_every_model_rebuilds_every_scan(renderer: Renderer) -> None:
    scans = [picture(renderer, seed) for seed in (0, 1)]
    made = list(rebuilt(renderer, scans, (4, 6)))
    assert len(made) == 2 * (1 + 2 * 3)
    alone = [m.picture for m in made if m.model == reconstruction.AUTOENCODER]
    for scan, found in zip(scans, alone, strict=True):
        np.testing.assert_array_equal(found, renderer.rebuild(scan))
    # with many steps inversion and its way back meet
    fine = next(rebuilt(renderer, scans[:1], ()))
    steps = Sampler("ddim", 30)
    origin = Scan(renderer.keep(scans[0]))
    back = finish(renderer.render(Request(origin=origin, sampler=steps))).data
    assert np.abs(back - fine.picture).mean() < np.abs(scans[0] - fine.picture).mean()


class Knowing:
    """Stands where a renderer does; decodes each code into a picture of its own."""

    def __init__(self, pictures: list[np.ndarray], made: list[np.ndarray]) -> None:
        self.made = {p.tobytes(): m for p, m in zip(pictures, made, strict=True)}

    def keep(self, data: np.ndarray) -> str:
        self.made[data.tobytes().hex()[:64]] = self.made[data.tobytes()]
        return data.tobytes().hex()[:64]

    def render(self, request: Any) -> Generator[None, None, Volume]:
        yield None
        return Volume(self.made[request.origin.scan.digest], np.eye(4))


def test_codes_that_tell_scans_apart_win_every_pair() -> None:
    rng = np.random.default_rng(0)
    scans = [rng.random((3, 3, 3), np.float32) for _ in range(4)]
    knowing: Any = Knowing(scans, [s * 0.9 for s in scans])
    assert own_code_share(knowing, scans, 5) == 1.0
    one: Any = Knowing(scans, [scans[0]] * 4)
    assert own_code_share(one, scans, 5) == 0.0  # nobody is nearer than another
    turned: Any = Knowing(scans, [scans[1], scans[0], scans[3], scans[2]])
    assert own_code_share(turned, scans, 5) < 1


# -- movement --------------------------------------------------------------------------


def test_volumes_that_turn_back_once_are_not_monotone() -> None:
    found = [
        Moved((10.0, 11.0, 12.0), (7.0, 6.5, 6.0)),
        Moved((10.0, 13.0, 12.9), (7.0, 6.5, 6.0)),
        Moved((10.0, 11.0, 14.0), (7.0, 7.0, 6.0)),
        Moved((20.0, 22.0, 24.0), (8.0, 7.0, 6.0)),
    ]
    assert monotone(found) == {
        "ventricles grow": 0.75,
        "hippocampus shrinks": 0.75,
        "both": 0.5,
    }
    rows = curve([found[0], found[3]], (0.0, 1.0, 2.0))
    assert [row["ventricles change %"] for row in rows] == pytest.approx([0, 10, 20])
    assert rows[2]["ventricles ml"] == pytest.approx(18.0)


# -- visits ----------------------------------------------------------------------------


def test_every_triplet_is_predicted_and_every_visit_inverted_once(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = [], Renderer._invert

    def counted(self: Renderer, scan: Scan, *rest: Any) -> Any:
        calls.append(scan.digest)
        return (yield from real(self, scan, *rest))

    monkeypatch.setattr(Renderer, "_invert", counted)
    ages = (70.0, 70.5, 71.0, 72.0)
    person = [Visit(a, picture(renderer, n)) for n, a in enumerate(ages)]
    found = list(visits.predicted(renderer, [person], 4))
    assert len(found) == 4
    assert len(calls) == len(set(calls)) == 4
    gaps = [(t[0].prediction_gap, t[0].time_gap, t[0].position) for t in found]
    assert gaps[0] == pytest.approx((6, 12, 0.5))
    assert gaps[2] == pytest.approx((12, 24, 0.5))  # 70, 71, 72
    methods = [{one.method for one in triplet} for triplet in found]
    assert methods[0] == {LDAE, NEAREST, BLEND, FIRST, SMOOTH}  # between its neighbours
    assert methods[2] == {LDAE, NEAREST, BLEND, FIRST}
    first, second, third = (renderer.rebuild(v.picture) for v in person[:3])
    blend = next(one for one in found[0] if one.method == BLEND)
    error = np.mean((0.5 * first + 0.5 * third - second.astype(float)) ** 2)
    assert blend.figures["MSE"] == pytest.approx(error, rel=1e-5)


def made(person: int, method: str, gap: float, value: float) -> Predicted:
    return Predicted(person, method, gap, 2 * gap, 0.5, {"SSIM": value})


def test_people_are_compared_not_their_triplets() -> None:
    rng = np.random.default_rng(1)
    found, pairs = [], []
    for person in range(12):
        ours, theirs = rng.normal(0.95, 0.01), rng.normal(0.94, 0.01)
        pairs.append((ours, theirs))
        for shift in (-0.01, 0.01):  # cancels in the person's mean
            found += [
                made(person, LDAE, 6, ours + shift),
                made(person, NEAREST, 6, theirs + shift),
            ]
    told = visits.better(found, LDAE, NEAREST)
    difference = np.subtract(*np.array(pairs).T)
    assert told["difference"] == pytest.approx(difference.mean())
    expected = wilcoxon(difference, alternative="greater").pvalue
    assert told["p"] == pytest.approx(expected)


def test_gaps_are_grouped_with_their_numbers() -> None:
    found = [
        made(0, LDAE, gap, value) for gap, value in ((6, 1.0), (6, 0.8), (12, 0.5))
    ]
    rows = visits.by_gap(found, lambda one: one.prediction_gap, "gap")
    assert [(row["gap"], row["n"]) for row in rows] == [(6, 2), (12, 1)]
    assert rows[0]["SSIM"] == pytest.approx(0.9)


# -- throughput ------------------------------------------------------------------------


def test_the_voxel_baseline_of_the_demo_is_as_large_as_it() -> None:
    """Within the 10 % that a fair race allows, on the same grid."""
    config = load_config(Path("ldae_demo.toml"))
    spec = replace(config.ldm.spec, code_size=config.ldae.encoder.code_size)
    card = Card(
        "ldae",
        "LDAE",
        model_grid(config.data),
        load_config(Path("demo.toml")).autoencoder.spec,
        spec,
        config.ldae.encoder,
    )
    parts = {
        "autoencoder": card.autoencoder,
        "denoiser": card.denoiser,
        "encoder": card.encoder,
    }
    tensors = {
        f"{name}.{key}": value
        for name, part in parts.items()
        if part is not None
        for key, value in part.build().state_dict().items()
    }
    ours = Checkpoint(card, tensors)
    baseline = throughput.voxel_baseline(ours)
    ratio = throughput.size_of(baseline) / throughput.size_of(ours)
    assert 0.9 < ratio < 1.1
    assert baseline.card.latent_shape == (1, *ours.card.grid.shape)
    with torch.device("meta"):  # shapes alone: it can be run
        network = baseline.card.denoiser.build()
        x, code = torch.zeros(1, 1, 80, 96, 80), torch.zeros(1, spec.code_size)
        outputs = network.both(x, torch.zeros(1), code)
    assert all(out.shape == x.shape for out in outputs)

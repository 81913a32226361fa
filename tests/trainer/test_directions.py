"""Probes of planted codes: found, told with intervals, held apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

from napari_brainldm.engine.card import Card
from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoderSpec
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import mni_grid
from trainer.config import DirectionsConfig, Target
from trainer.linear import PENALTIES, logistic, ridge
from trainer.stages.directions import encode, with_directions

SIZE = 12
TARGETS = (
    Target("AD", "Alzheimer's disease", "diagnosis", "Towards AD.", "AD", "CN"),
    Target("age", "Age", "age"),
    Target("sex", "Sex", "sex", positive="M", negative="F"),
)
CONFIG = DirectionsConfig(TARGETS, ("age", "sex"), draws=200)


def planted(count: int, seed: int) -> tuple[np.ndarray, list[dict[str, str]]]:
    """Codes in which disease, age and sex each move an axis; the ill are older."""
    rng = np.random.default_rng(seed)
    ill = rng.uniform(size=count) < 0.5
    mild = rng.uniform(size=count) < 0.1
    age = rng.normal(70 + 6 * ill, 6)
    sex = rng.uniform(size=count) < 0.5
    codes = rng.standard_normal((count, SIZE))
    codes[:, 0] += 2.5 * ill
    codes[:, 1] += (age - 70) / 4
    codes[:, 2] += 3.0 * sex
    codes = 5 + codes * np.linspace(0.5, 2, SIZE)
    rows = [
        {
            "diagnosis": "MCI" if m else "AD" if i else "CN",
            "age": f"{a:.2f}",
            "sex": "M" if s else "F",
        }
        for i, m, a, s in zip(ill, mild, age, sex, strict=True)
    ]
    return codes, rows


@pytest.fixture(scope="module")
def base() -> Checkpoint:
    spec = SemanticEncoderSpec((4, 4, 8, SIZE), (1, 1, 1, 1), 32, 2, 0.0)
    card = Card("ldae", "Toy", mni_grid(4.0), encoder=spec)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = spec.build().state_dict()
    return Checkpoint(card, {f"encoder.{k}": v for k, v in weights.items()})


@pytest.fixture(scope="module")
def found(base: Checkpoint) -> Checkpoint:
    return with_directions(CONFIG, base, planted(600, 0), planted(300, 1))


def figures(checkpoint: Checkpoint, name: str) -> dict[str, float]:
    return dict(checkpoint.card.direction(name).figures)


def read(checkpoint: Checkpoint, name: str, codes: np.ndarray) -> np.ndarray:
    """What the stored probe says of codes (N, E)."""
    t = {k: v.double().numpy() for k, v in checkpoint.tensors.items()}
    normal = (codes - t["semantic.mean"]) / t["semantic.std"]
    return normal @ t[f"direction.{name}.weight"] + t[f"direction.{name}.bias"]


def test_planted_directions_are_found(found: Checkpoint) -> None:
    names = [d.name for d in found.card.directions]
    assert names == ["AD", "AD-held", "age", "sex"]
    for name, axis in (("AD", 0), ("age", 1), ("sex", 2)):
        weight = found.tensors[f"direction.{name}.weight"].abs()
        assert int(weight.argmax()) == axis


def test_figures_are_those_of_people_never_trained_on(found: Checkpoint) -> None:
    codes, rows = planted(300, 1)
    kept = [n for n, row in enumerate(rows) if row["diagnosis"] != "MCI"]
    truth = [rows[n]["diagnosis"] == "AD" for n in kept]
    told = figures(found, "AD")
    assert told["n"] == len(kept)
    expected = roc_auc_score(truth, read(found, "AD", codes[kept]))
    assert told["auc"] == pytest.approx(expected, abs=1e-6)
    assert told["auc_low"] < told["auc"] < told["auc_high"]
    ages = np.array([float(row["age"]) for row in rows])
    away = np.abs(read(found, "age", codes) - ages).mean()
    assert figures(found, "age")["mae"] == pytest.approx(away, rel=1e-4)
    assert figures(found, "age")["r"] > 0.85


@pytest.mark.parametrize("along", ["weight", "pattern"])
def test_an_amount_of_one_is_one_sd_of_the_training_codes(
    base: Checkpoint, along: str
) -> None:
    config = replace(CONFIG, along=along)
    codes, rows = planted(600, 0)
    made = with_directions(config, base, (codes, rows), planted(300, 1))
    for name in ("AD", "age", "sex"):
        move = made.tensors[f"direction.{name}.move"].double().numpy()
        before, after = (read(made, name, c) for c in (codes, codes + move))
        np.testing.assert_allclose(after - before, before.std(ddof=1), rtol=1e-3)


def visited(count: int, visits: int, seed: int) -> tuple[np.ndarray, list]:
    """As `planted`, everybody scanned `visits` times with the same code."""
    codes, rows = planted(count, seed)
    named = [row | {"participant_id": f"sub-{n:03d}"} for n, row in enumerate(rows)]
    return np.repeat(codes, visits, 0), [r for r in named for _ in range(visits)]


def test_visits_of_one_person_do_not_narrow_an_interval(base: Checkpoint) -> None:
    """Everybody scanned four times alike: nothing more is known than from once."""
    train = planted(300, 0)
    once, often = (
        with_directions(CONFIG, base, train, visited(60, visits, 1))
        for visits in (1, 4)
    )
    for name, figure in (("AD", "auc"), ("AD", "accuracy"), ("age", "mae")):
        first, second = (figures(made, name) for made in (once, often))
        for key in (figure, f"{figure}_low", f"{figure}_high"):
            assert second[key] == pytest.approx(first[key], rel=1e-6), key
    assert figures(often, "age")["n"] == 4 * figures(often, "age")["people"] == 240
    assert "people" not in figures(once, "age")


def test_people_who_come_back_are_on_one_side_of_every_fold() -> None:
    """Codes that name the person, not the answer: folds of scans would trust them.

    By memory the least penalty looks best; of other people nothing is known.
    """
    rng = np.random.default_rng(3)
    people = np.tile(np.arange(40), 3)
    x = np.tile(rng.standard_normal((40, 20)), (3, 1))
    ill = np.tile(rng.permutation(40) % 2, 3).astype(float)
    assert logistic(x, ill, people).C < 0.01 * logistic(x, ill).C
    age = np.tile(rng.normal(70, 8, 40), 3)
    trusting, careful = ridge(x, age), ridge(x, age, people)
    assert np.abs(careful.coef_).max() < 0.1 * np.abs(trusting.coef_).max()
    alone = np.arange(len(age))
    np.testing.assert_array_equal(ridge(x, age, alone).coef_, ridge(x, age).coef_)


def converting(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes of visits of people most of whom change over, and whose each is."""
    visits = rng.integers(1, 5, count)
    ill = [np.arange(n) >= rng.integers(0, n + 2) for n in visits]
    return np.concatenate(ill).astype(float), np.repeat(np.arange(count), visits)


def test_folds_that_lack_a_class_do_not_decide_the_penalty() -> None:
    """Their figure is not a number, and the least penalty of all would be taken."""
    met = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        y, people = converting(rng, 14)
        if min(len(set(people[y == c])) for c in (0.0, 1.0)) < 5:
            continue
        folds = StratifiedGroupKFold(5).split(y, y, people)
        if all(len(set(y[part])) == 2 for fold in folds for part in fold):
            continue
        x = rng.standard_normal((len(y), 30)) + 0.3 * y[:, None]
        fewer = StratifiedGroupKFold(4).split(y, y, people)
        if any(len(set(y[part])) < 2 for fold in fewer for part in fold):
            continue
        met += 1
        fewer = list(StratifiedGroupKFold(4).split(y, y, people))
        oracle = GridSearchCV(
            LogisticRegression(solver="newton-cholesky", max_iter=200),
            {"C": 1 / PENALTIES},
            scoring="roc_auc",
            cv=fewer,
        ).fit(x, y)
        assert oracle.best_params_["C"] == logistic(x, y, people).C
    assert met > 3


def test_people_who_cannot_be_dealt_are_refused() -> None:
    """One of them is ill, in every scan."""
    people = np.repeat(np.arange(6), 5)
    with pytest.raises(EngineError, match="cannot be dealt into two parts"):
        logistic(np.arange(30.0)[:, None], (people == 2).astype(float), people)


def test_many_scans_of_few_people_are_too_few(base: Checkpoint) -> None:
    config = DirectionsConfig((TARGETS[0],))
    with pytest.raises(EngineError, match="at least 5 of both"):
        with_directions(config, base, visited(6, 10, 0), planted(30, 1))
    config = DirectionsConfig((TARGETS[1],))
    with pytest.raises(EngineError, match="tells 6 training people apart"):
        with_directions(config, base, visited(6, 10, 0), planted(30, 1))


def test_scans_of_which_the_table_tells_nothing_are_left_out(base: Checkpoint) -> None:
    codes, rows = planted(60, 1)
    blank = [
        {**row, "age": text}
        for row, text in zip(rows, ("n/a", "nan", ""), strict=False)
    ]
    del blank[2]["age"]  # the columns of sessions.tsv are not everybody's
    held_out = codes, blank + rows[3:]
    made = with_directions(CONFIG, base, planted(300, 0), held_out)
    assert figures(made, "age")["n"] == 57


def test_held_attributes_stay_the_same(found: Checkpoint) -> None:
    codes, _ = planted(50, 2)
    free, held = (
        found.tensors[f"direction.{name}.move"].double().numpy()
        for name in ("AD", "AD-held")
    )
    for name in ("age", "sex"):
        change = read(found, name, codes + held) - read(found, name, codes)
        np.testing.assert_allclose(change, 0, atol=1e-3)
    effects = [
        read(found, "AD", codes + m) - read(found, "AD", codes) for m in (free, held)
    ]
    np.testing.assert_allclose(effects[0], effects[1], rtol=1e-3)


def test_correlated_attributes_are_told_by_their_angle(base: Checkpoint) -> None:
    """The ill are older, so along the pattern both point alike; held, they do not."""
    config = replace(CONFIG, along="pattern")
    made = with_directions(config, base, planted(600, 0), planted(300, 1))
    told = figures(made, "AD")
    assert told["degrees_to_age"] < 75
    assert told["degrees_to_sex"] > 80
    assert figures(made, "AD-held")["degrees_to_age"] > told["degrees_to_age"] + 10


def test_codes_are_the_encoders(base: Checkpoint) -> None:
    pictures = np.random.default_rng(0).random((3, 32, 32, 8)).astype(np.float16)
    codes = encode(base, pictures)
    with torch.no_grad():
        one = base.semantic_encoder()(torch.from_numpy(pictures[1:2, None]).float())
    np.testing.assert_allclose(codes[1], one[0].double().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Target("x", "X", "smoker"), "no column 'smoker'"),
        (Target("x", "X", "diagnosis"), "tells 0 training people apart"),
        (Target("x", "X", "sex", "", "M", "D"), "of 0 of 'D'; at least 5"),
    ],
)
def test_a_target_that_the_table_cannot_tell_is_refused(
    base: Checkpoint, target: Target, words: str
) -> None:
    config = DirectionsConfig((target,))
    with pytest.raises(EngineError, match=words):
        with_directions(config, base, planted(60, 0), planted(30, 1))


def test_configs_that_mean_nothing_are_refused() -> None:
    with pytest.raises(EngineError, match="'weight' and 'pattern'"):
        DirectionsConfig(along="sideways")
    with pytest.raises(EngineError, match="'age', which is no target"):
        DirectionsConfig((TARGETS[0],), ("age",))


def test_without_held_out_scans_there_are_no_figures(base: Checkpoint) -> None:
    nobody = encode(base, np.zeros((0, 32, 32, 8), np.float16)), []
    made = with_directions(CONFIG, base, planted(600, 0), nobody)
    assert figures(made, "AD")["n"] == 0 and "auc" not in figures(made, "AD")
    assert "mae" not in figures(made, "age")

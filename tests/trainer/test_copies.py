"""Copies of training scans: found when planted, not seen where there are none."""

from __future__ import annotations

import gzip
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_brainldm import cli
from napari_brainldm.commands.card_lines import card_lines
from napari_brainldm.engine.checkpoint import load_checkpoint, save_checkpoint
from napari_brainldm.engine.copy_test import (
    COPIES,
    FEW,
    INCONCLUSIVE,
    NONE_FOUND,
    CopyTest,
    refuse_copies,
)
from napari_brainldm.engine.joint import draw_conditions
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import EngineError
from tests.tiny import tiny_checkpoint, tiny_gm_ldm
from tests.trainer.toys import autoencoder_checkpoint, grid
from trainer import __main__ as trainer
from trainer.data.bids import Dataset, Entry
from trainer.data.vocabulary import joint_of, known_conditions
from trainer.evaluate import run
from trainer.evaluate.copies import (
    PLANTED,
    Marks,
    centred,
    every_second,
    judge_of,
    log_ratios,
    marks_of,
    planted,
)
from trainer.evaluate.memory import (
    Scans,
    Sides,
    _check,
    _check_kind,
    _near_table,
    examine,
    verdict,
)
from trainer.evaluate.metrics.features import projected
from trainer.evaluate.readers import cubes
from trainer.evaluate.run import Wish, evaluate

EDGE = 32
SECRET = "Hildegard_von-Bingen"
TEST = CopyTest(COPIES, 100, 7, 680, 120, 0.98, 0.01)


def person(seed):
    """A head of 32 voxels of 4 mm: an ellipsoid with folds of its own."""
    rng = np.random.default_rng((7, seed))
    i, j, k = (np.indices((EDGE,) * 3) - (EDGE - 1) / 2) / rng.uniform(
        10, 12, (3, 1, 1, 1)
    )
    folds = ndimage.gaussian_filter(rng.normal(size=(EDGE,) * 3), 2)
    inside = i**2 + j**2 + k**2 < 1
    picture = np.where(inside, 0.65 + 2.5 * folds, 0).clip(0, 1).astype(np.float32)
    noise = 0.02 * rng.normal(size=picture.shape)
    return np.clip(picture + noise, 0, 1).astype(np.float32)


SPACE = replace(grid(EDGE), affine=tuple(map(tuple, np.diag([4.0, 4, 4, 1]))))


def people(first, count):
    return Scans(
        [person(first + n) for n in range(count)],
        tuple(f"sub-{first + n}" for n in range(count)),
    )


@pytest.fixture(scope="module")
def sides(one_thread):
    """30 people trained on, 24 held out; a random autoencoder for the latent space."""
    renderer = Renderer(autoencoder_checkpoint(), "cpu", "float32")
    spaces = {
        "latent": lambda picture: renderer.latent_of(picture).ravel(),
        "features": projected(SPACE).of,
        "picture": lambda picture: cubes([picture], SPACE)[0],
    }
    return Sides(SPACE, people(0, 30), people(1000, 24), spaces)


def finished(steps):
    lines = []
    while True:
        try:
            lines.append(next(steps))
        except StopIteration as end:
            return end.value, lines


def test_planted_copies_are_found_and_new_people_are_not(sides):
    """Mirrored, noisy, 2 mm away: 95 % at 5 % false alarms, or it says nothing."""
    new = [person(5000 + n) for n in range(10)]
    (test, tables), lines = finished(examine(sides, new))
    assert test.copies_found >= 0.95
    assert test.false_alarms <= 0.05
    assert (test.verdict, test.flagged, test.pictures) == (NONE_FOUND, 0, 10)
    power, nearest = tables
    assert [row["change"] for row in power.rows] == list(PLANTED)
    assert {row["space"] for row in nearest.rows} == set(sides.spaces)
    assert all(row["low"] < 1.1 for row in nearest.rows)
    assert "30 training and 24 other scans" in lines[0]


def test_a_model_that_copies_is_told(sides):
    made = [person(5000 + n) for n in range(6)]
    made += [planted(person(n), "all three", 4.0, n) for n in (3, 17)]
    (test, _), _ = finished(examine(sides, made))
    assert (test.verdict, test.flagged) == (COPIES, 2)
    assert "2 of 8 pictures" in test.sentence()


def test_copies_lie_nearer_to_training_than_to_other_scans():
    """Mirrored ones too: of a sample's two views the nearer counts."""
    rng = np.random.default_rng(0)
    training, held_out, new = (
        Marks({"a": rng.normal(size=(n, 2, 5))}, ("",) * n) for n in (30, 25, 40)
    )
    copied = Marks({"a": training.spaces["a"][:, ::-1]}, training.subjects)
    [near] = _near_table(copied, training, held_out).rows
    assert near["high"] < 0.8
    [far] = _near_table(new, training, held_out).rows
    assert far["low"] < 1 < far["high"]


@pytest.mark.parametrize("way", PLANTED)
def test_a_changed_scan_is_still_nearest_to_itself(sides, way):
    """In every space, and over all of them, which is what is judged, far nearer."""
    training = marks_of(sides.training.pictures, sides.training.subjects, sides.spaces)
    held_out = marks_of(sides.held_out.pictures, sides.held_out.subjects, sides.spaces)
    copy = marks_of([planted(person(4), way, 4.0, 1)], [""], sides.spaces)
    stranger = marks_of([person(9999)], [""], sides.spaces)
    ratios = log_ratios(copy, training, held_out)
    others = log_ratios(stranger, training, held_out)
    lead = [others[space][0] - ratios[space][0] for space in sides.spaces]
    assert min(lead) > 0.05
    assert np.mean(lead) > 0.2


def test_ratios_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    spaces = [rng.normal(size=(n, 2, 3)) for n in (4, 6, 5)]
    samples, training, held_out = (
        Marks({"a": values}, ("",) * len(values)) for values in spaces
    )
    centre, spread = spaces[1][:, 0].mean(0), spaces[1][:, 0].std(0)
    unit = spread + spread.mean()
    found = log_ratios(samples, training, held_out)["a"]
    for n in range(4):
        nearest = [
            min(
                np.linalg.norm((spaces[0][n, view] - other[0]) / unit)
                for view, other in product((0, 1), side)
            )
            for side in spaces[1:]
        ]
        assert found[n] == pytest.approx(np.log(nearest[0] / nearest[1]))
    assert centre.shape == (3,)


def test_another_visit_of_a_person_is_no_other_person():
    """Held-out visits 0 and 1 are one person's: neither is the other's nearest."""
    values = np.array([0.0, 0.01, 5.0, 9.0])[:, None, None].repeat(2, 1)
    held_out = Marks({"a": values}, ("sub-1", "sub-1", "sub-2", "sub-3"))
    training = Marks({"a": values[:2] + 2}, ("sub-8", "sub-9"))
    found = log_ratios(held_out, training, held_out)["a"]
    assert found[0] == pytest.approx(np.log(2 / 5))


def test_nobody_is_in_both_halves():
    subjects = tuple(f"sub-{n // 3}" for n in range(15))  # three visits each
    held_out = Marks({"a": np.arange(15.0)[:, None, None]}, subjects)
    first, second = held_out.half(0), held_out.half(1)
    assert set(first.subjects) == {"sub-0", "sub-2", "sub-4"}
    assert not set(first.subjects) & set(second.subjects)
    assert len(first.subjects) + len(second.subjects) == 15
    assert every_second(subjects, 1) == second.spaces["a"].ravel().tolist()


def test_a_judge_flags_what_stands_out_of_new_people():
    """One space alone may err by chance; the mean of three errs less."""
    rng = np.random.default_rng(0)
    ratios = {s: rng.normal(-0.05, 0.1, 500) for s in "abc"}
    judge = judge_of(ratios)
    assert judge.spread == pytest.approx(1 / np.sqrt(3), rel=0.1)
    assert judge.flags(ratios).sum() <= 1
    copied, usual = np.array([-0.45, -0.05]), np.full(2, -0.05)
    assert list(judge.flags(dict.fromkeys("abc", copied))) == [True, False]
    assert not judge.flags({"a": copied, "b": usual, "c": usual}).any()


def test_centring_takes_a_shift_off():
    picture = person(1)
    moved = ndimage.shift(picture, (2, -3, 1), order=0)
    inner = (slice(6, -6),) * 3  # what left the grid is gone
    np.testing.assert_allclose(
        centred(moved)[inner], centred(picture)[inner], atol=1e-4
    )
    dark = np.full((5, 5, 5), 0.1, np.float32)
    np.testing.assert_array_equal(centred(dark), dark)


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        ((0.0, 1.0, 0.0), NONE_FOUND),
        ((0.01, 1.0, 0.0), COPIES),
        ((0.04, 1.0, 0.05), NONE_FOUND),
        ((0.06, 0.95, 0.05), COPIES),
        ((0.5, 0.94, 0.0), INCONCLUSIVE),
        ((0.0, 1.0, 0.06), INCONCLUSIVE),
    ],
)
def test_the_verdict_needs_a_test_with_power(shares, wanted):
    assert verdict(*shares) == wanted


def test_a_model_is_asked_for_what_it_knows_alone():
    entry = Entry("sub-1", "", Path(), (("age", 60.0), ("mood", 3.0)))
    assert known_conditions(entry, tiny_checkpoint().card).as_dict() == {"age": 60.0}


@pytest.mark.parametrize("model", [autoencoder_checkpoint, tiny_gm_ldm])
def test_what_makes_no_t1s_gets_a_sentence(model):
    with pytest.raises(EngineError, match="makes no T1-weighted pictures"):
        _check_kind(model().card)


def test_too_few_people_get_a_sentence():
    with pytest.raises(EngineError, match="9 held-out people"):
        _check(9, 100)
    with pytest.raises(EngineError, match="Raise --n"):
        _check(20, 0)


def scan_of(number: int, visit: str = "") -> Entry:
    told = (("age", 60.0 + number), ("sex", "F"), ("ventricles", 30.0), ("brain", 1e3))
    return Entry(f"sub-{number}", visit, Path(), told)


def test_the_joint_distribution_is_of_people_and_of_what_all_of_them_tell():
    known = tiny_checkpoint().card.vocabulary
    seen = [scan_of(n, visit) for n in range(7) for visit in ("ses-1", "ses-2")]
    [women] = joint_of(known, seen)
    assert women.people == 7
    assert joint_of(known, [*seen, Entry("sub-8", "", Path(), (("age", 60.0),))]) == ()
    [everyone] = joint_of((), seen)  # a model without conditions can be drawn from too
    assert (everyone.categories, everyone.people) == ((), 7)
    assert draw_conditions((everyone,), (), (0, 0)).as_dict() == {}


# Card, info, refusal ------------------------------------------------------------------


def saved(folder, copies):
    path = folder / f"{SECRET}.safetensors"
    found = tiny_checkpoint()
    save_checkpoint(replace(found, card=replace(found.card, copies=copies)), path)
    return path


def test_the_verdict_goes_into_the_card_and_info_shows_it(tmp_path, monkeypatch):
    """The figures that the card has stay."""
    before = tiny_checkpoint()
    card = replace(before.card, figures=(("ventricles_r", 0.98),))
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_checkpoint(replace(before, card=card), source)

    def tested(config, path, n):
        yield "tested"
        return TEST

    dataset = Dataset(tuple(map(scan_of, range(7))), (), 0.0)

    monkeypatch.setattr(run, "memorisation", tested)
    monkeypatch.setattr(run, "dataset_of", lambda config: dataset)
    lines = list(evaluate(None, "memorisation", Wish(source, 5, target)))
    assert lines[0] == "tested"
    found = load_checkpoint(target)
    assert found.card.copies == TEST
    assert found.card.figures == (("ventricles_r", 0.98),)
    assert [(g.categories, g.people) for g in found.card.joint] == [(("F",), 7)]
    told = "\n".join(card_lines(found))
    assert "7 of 100 pictures taken for copies of 680 training scans" in told
    assert "98 % of planted copies at 1 % false alarms" in told
    assert "not tested" in "\n".join(card_lines(load_checkpoint(source)))
    for name, weight in load_checkpoint(source).tensors.items():
        assert torch.equal(found.tensors[name], weight), name  # those that were tested
    assert target.stat().st_size == pytest.approx(source.stat().st_size, rel=0.1)
    again = tmp_path / "c.safetensors"
    half = save_checkpoint(found, tmp_path / "half.safetensors", torch.float16)
    assert half
    list(evaluate(None, "memorisation", Wish(tmp_path / "half.safetensors", 5, again)))
    assert again.stat().st_size < 0.7 * source.stat().st_size
    told = list(evaluate(None, "memorisation", Wish(source, 5)))
    assert "does not say so yet" in told[-1]


def test_many_pictures_of_a_model_that_copies_are_refused():
    with pytest.raises(EngineError, match="say --despite-copies"):
        refuse_copies(TEST, FEW + 1, False)
    refuse_copies(TEST, FEW, False)
    refuse_copies(TEST, 10**6, True)
    refuse_copies(None, 10**6, False)
    refuse_copies(replace(TEST, verdict=NONE_FOUND), 10**6, False)


def generated(path, plan, out):
    """The status of the trainer's command, in this process and unmeasured."""
    words = ("--plan", plan, "--checkpoint", path, "--out", out, "--steps", 2)
    here = ("--workers", 0, "--segmenter", "none", "--device", "cpu")
    return trainer.main(["generate", *map(str, (*words, *here))])


def test_a_plan_of_many_is_refused_before_the_first_picture(tmp_path, capsys):
    path, plan = saved(tmp_path, TEST), tmp_path / "plan.tsv"
    plan.write_text("age\n" + "70\n" * (FEW + 1))
    assert generated(path, plan, tmp_path / "out") == 2
    assert "copies training scans" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_refuses_many_too(tmp_path, capsys):
    words = [
        "generate",
        "--checkpoint",
        str(saved(tmp_path, TEST)),
        "--n",
        str(FEW + 1),
    ]
    out = ["--out", str(tmp_path / "out"), "--device", "cpu", "--steps", "1"]
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, *out])
    assert stop.value.code == 2
    assert "copies training scans" in capsys.readouterr().err
    cli.main([*words, *out, "--despite-copies"])
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == FEW + 1


def test_no_name_of_an_input_comes_out(tmp_path):
    """Names of the checkpoint's file, the plan's file and folder, a row's extra."""
    folder = tmp_path / SECRET
    folder.mkdir()
    path, plan = saved(folder, None), folder / f"{SECRET}.tsv"
    plan.write_text("age\n70\n71\n")
    out = tmp_path / "out"
    assert generated(path, plan, out) == 0
    files = [file for file in out.rglob("*") if file.is_file()]
    assert len(files) >= 6
    for file in files:
        assert SECRET.encode() not in contents(file)
        assert str(tmp_path).encode() not in contents(file)
        assert SECRET not in file.name


def contents(file: Path) -> bytes:
    raw = file.read_bytes()
    return gzip.decompress(raw) + raw[:256] if file.suffix == ".gz" else raw

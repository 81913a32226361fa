"""Plans of many pictures: tables, grids, and draws from the joint distribution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_brainldm.engine.joint import LEAST, draw_conditions, fit_joint
from napari_brainldm.engine.request import Conditions, EngineError, Sampler
from tests.tiny import VOCABULARY, tiny_checkpoint
from trainer.generate.plan import (
    plan_digest,
    plan_of_draws,
    plan_of_grid,
    plan_of_table,
    sampled_by,
)

CARD = tiny_checkpoint().card
PLAN = "participant_id\tage\tsex\tseed\nsub-A1\t70\tM\t5\nsub-B2\t30\tF\t\n"


def people(count: int) -> list[Conditions]:
    """Women and men of other ages; ventricles that grow with age, brains apart."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(count):
        sex = "F" if index % 3 else "M"
        age = float(rng.uniform(20, 60) if sex == "F" else rng.uniform(50, 90))
        ventricles = 10 + 0.5 * (age - 20) + float(rng.normal(0, 2))
        brain = float(rng.uniform(900, 1100) if sex == "F" else 1400)
        told = {"age": age, "sex": sex, "ventricles": ventricles, "brain": brain}
        found.append(Conditions.of(told))
    return found


def column(drawn, name, sex):
    """Values of one number among the people of one sex."""
    told = [c.as_dict() for c in drawn]
    return np.array([t[name] for t in told if t["sex"] == sex])


@pytest.fixture(scope="module")
def joint():
    return fit_joint(VOCABULARY, people(600))


def test_draws_keep_what_belongs_together(joint):
    drawn = [draw_conditions(joint, VOCABULARY, (3, n)) for n in range(4000)]
    share = np.mean([c.as_dict()["sex"] == "M" for c in drawn])
    assert share == pytest.approx(1 / 3, abs=0.04)
    assert column(drawn, "age", "F").max() <= 60
    assert column(drawn, "age", "M").min() >= 50
    assert set(column(drawn, "brain", "M")) == {1400.0}
    real = people(600)
    for sex in "FM":
        pairs = [
            np.corrcoef(column(some, "age", sex), column(some, "ventricles", sex))[0, 1]
            for some in (real, drawn)
        ]
        assert pairs[1] == pytest.approx(pairs[0], abs=0.03)
        for name in ("age", "ventricles"):
            middle = [np.median(column(some, name, sex)) for some in (real, drawn)]
            spread = np.std(column(real, name, sex))
            assert abs(middle[1] - middle[0]) < 0.15 * spread
    women = column(drawn, "age", "F"), column(drawn, "brain", "F")
    assert abs(np.corrcoef(*women)[0, 1]) < 0.15  # unrelated, as in the people


def test_a_draw_depends_on_its_seed_alone(joint):
    once = draw_conditions(joint, VOCABULARY, (1, 7))
    draw_conditions(joint, VOCABULARY, (1, 8))
    assert draw_conditions(joint, VOCABULARY, (1, 7)) == once
    assert draw_conditions(joint, VOCABULARY, (2, 7)) != once


def test_few_people_are_not_told_one_by_one():
    """A group below LEAST is left out; no quantile stands for less than LEAST."""
    known = people(60)
    few = [c.with_values({"sex": "M"}) for c in known[: LEAST - 1]]
    many = [c.with_values({"sex": "F"}) for c in known]
    [only] = fit_joint(VOCABULARY, few + many)
    assert only.categories == ("F",)
    assert len(only.quantiles[0]) - 1 <= 60 // LEAST


def test_a_plan_may_be_drawn_from_the_card(joint):
    card = replace(CARD, joint=joint)
    plan = plan_of_draws(5, card, seed=2)
    assert plan[:3] == plan_of_draws(3, card, seed=2)  # row i knows of no other row
    assert plan != plan_of_draws(5, card, seed=3)
    assert len({request.origin.value for _, request in plan}) == 5


def test_a_card_without_a_joint_distribution_gets_a_sentence():
    with pytest.raises(EngineError, match="does not tell the joint distribution"):
        plan_of_draws(2, CARD)


def test_a_grid_is_every_combination():
    plan = plan_of_grid(["age=40,60,80", "sex=F,M"], 2, CARD)
    asked = [r.conditions.as_dict() for _, r in plan]
    cells = [(a["age"], a["sex"]) for a in asked]
    assert sorted(set(cells)) == [(a, s) for a in (40.0, 60.0, 80.0) for s in "FM"]
    assert all(cells.count(cell) == 2 for cell in cells)
    assert {a["brain"] for a in asked} == {1200.0}  # not named: the reference
    assert len({r.origin.value for _, r in plan}) == 12
    assert [name for name, _ in plan][:2] == ["sub-000001", "sub-000002"]


@pytest.mark.parametrize(
    ("axes", "each", "sentence"),
    [
        (["mood=1"], 1, "'mood' is not a condition"),
        (["age"], 1, "holds no values"),
        (["age=old"], 1, "a number is needed"),
        (["age=1", "age=2"], 1, "names age twice"),
        (["age=1"], 0, "--each is 0"),
    ],
)
def test_a_grid_that_cannot_be_read_gets_a_sentence(axes, each, sentence):
    with pytest.raises(EngineError, match=sentence):
        plan_of_grid(axes, each, CARD)


def test_a_digest_tells_plans_apart():
    plan = plan_of_grid(["age=40,60"], 1, CARD)
    first = plan_digest(plan)
    assert plan_digest(sampled_by(plan, Sampler(), "bfloat16")) == first
    assert plan_digest(sampled_by(plan, Sampler("ddim", 50), "")) != first
    assert plan_digest(plan[::-1]) != first
    assert plan_digest(plan_of_grid(["age=40,60"], 1, CARD, seed=1)) != first


def test_a_row_becomes_a_request(tmp_path):
    path = tmp_path / "plan.tsv"
    path.write_text(PLAN)
    (first, one), (second, two) = plan_of_table(path, CARD)
    assert (first, second) == ("sub-A1", "sub-B2")
    assert one.origin.value == 5
    assert two.origin != plan_of_table(path, CARD, seed=1)[1][1].origin
    assert one.conditions.as_dict() == {
        "age": 70.0,
        "sex": "M",
        "ventricles": 20.0,
        "brain": 1200.0,
    }


def test_rows_without_names_are_numbered(tmp_path):
    path = tmp_path / "plan.tsv"
    path.write_text("age\n70\n71\n")
    names = [name for name, _ in plan_of_table(path, CARD)]
    assert names == ["sub-000001", "sub-000002"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("age\n", "has no rows"),
        ("mood\n3\n", "'mood' is not a condition"),
        ("age\told\n70\t\n", "'old' is not a condition"),
        ("age\nold\n", "a number is needed"),
        ("sex\tage\nF\n", "age is ''; a number is needed"),
        ("seed\tage\n-3\t70\n", "seed '-3' is not a whole number"),
        ("seed\tage\n99999999999999999999\t70\n", "at most 18 digits"),
        ("participant_id\tage\n../up\t70\n", r"sub- and then letters or digits"),
        ("participant_id\tage\nsub-1\t70\nsub-1\t71\n", "sub-1 2 times"),
    ],
)
def test_a_plan_that_cannot_be_followed_gets_a_sentence(tmp_path, text, sentence):
    path = tmp_path / "plan.tsv"
    path.write_text(text)
    with pytest.raises(EngineError, match=sentence):
        plan_of_table(path, CARD)


def test_a_missing_plan_gets_a_sentence(tmp_path):
    with pytest.raises(EngineError, match="There is no plan"):
        plan_of_table(tmp_path / "plan.tsv", CARD)

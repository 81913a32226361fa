"""Visits on a line of ages: places, conditions, and scans that are encoded once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from napari_brainldm.engine.codes import shares
from napari_brainldm.engine.conform import Conformed
from napari_brainldm.engine.quality import Quality
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Conditions, EngineError, Sampler, Scan
from napari_brainldm.engine.visits import (
    Course,
    Visit,
    check_ages,
    check_can_travel,
    encode_visits,
)
from napari_brainldm.engine.volume import Volume, mni_grid
from tests.tiny import tiny_checkpoint, tiny_segmenter

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card

CARD: Card = tiny_checkpoint().card
AGES = (70.0, 71.0, 74.0)


def visit(number: int, age: float, **values: Any) -> Visit:
    own = {"age": age, "sex": "F", "ventricles": 20.0, "brain": 1200.0} | values
    return Visit(Scan(str(number) * 64, Conditions.of(own)), age)


def course(*ages: float) -> Course:
    return Course(tuple(visit(n, age) for n, age in enumerate(ages)))


# -- the line ----------------------------------------------------------------------


def test_pictures_reach_half_the_time_between_and_five_years_at_most() -> None:
    assert course(70, 72).reach == (69, 73)
    assert course(40, 70).reach == (35, 75)
    assert course(0, 0.5).reach == (0, 0.75)  # years since the first visit
    assert course(1, 9).reach == (0, 13)


def test_where_an_age_lies_is_told() -> None:
    three = course(*AGES)
    assert three.where(70.0) == "at visit 1 of 3"
    assert three.where(72.5) == "between visit 2 and visit 3"
    assert three.where(75.3) == "extrapolated: 1.30 years beyond the last visit"
    assert three.where(69.5) == "extrapolated: 0.50 years before the first visit"
    assert [three.beyond(age) for age in (68.0, 72.0, 76.0)] == [-2.0, 0.0, 2.0]
    assert three.title == "Age"
    assert course(0, 1).title == "Time since the first visit"


@pytest.mark.parametrize(
    ("visits", "words"),
    [
        ([("A", 70.0)], "number given is 1"),
        ([], "number given is 0"),
        ([("A", 70.0), ("B", None)], "age at B is not known"),
        ([("A", 70.0), ("B", 72.0), ("C", 70.0)], "A and C have the same age, 70.00"),
    ],
)
def test_visits_that_cannot_be_lined_up_are_refused(
    visits: list[tuple[str, float | None]], words: str
) -> None:
    with pytest.raises(EngineError, match=words):
        check_ages(visits)


def test_visits_that_can_be_lined_up_pass_in_any_order() -> None:
    check_ages([("A", 72.0), ("B", 70.0), ("C", 70.01)])


def test_models_that_cannot_travel_are_refused() -> None:
    check_can_travel(CARD)
    for card in (replace(CARD, denoiser=None), tiny_segmenter().card):
        with pytest.raises(EngineError, match="Open a brain LDM or an LDAE"):
            check_can_travel(card)


def test_only_a_visit_between_two_others_can_be_left_out() -> None:
    assert course(*AGES).without(1).ages == (70.0, 74.0)
    for hidden in (0, 2, 7, -1):
        with pytest.raises(EngineError, match="no visit on both sides"):
            course(*AGES).without(hidden)


# -- conditions --------------------------------------------------------------------


@pytest.mark.parametrize("age", [69.0, 70.0, 70.3, 71.0, 72.0, 76.0])
def test_conditions_go_the_way_of_the_codes(age: float) -> None:
    """Straight lines against numpy; the smooth way against scipy's natural spline."""
    volumes = (20.0, 24.0, 27.0)
    three = Course(
        tuple(visit(n, AGES[n], ventricles=volumes[n]) for n in range(len(AGES)))
    )
    straight = three.conditions(CARD, age, "piecewise").as_dict()["ventricles"]
    slope = 4.0 if age <= 71 else 1.0
    assert straight == pytest.approx(24.0 + slope * (age - 71))
    smooth = three.conditions(CARD, age, "smooth").as_dict()["ventricles"]
    assert smooth == pytest.approx(
        float(CubicSpline(AGES, volumes, bc_type="natural")(age))
    )


def test_shares_add_up_and_are_those_of_one_visit_at_it() -> None:
    for curve in ("piecewise", "smooth"):
        for age in (66.0, 70.5, 73.0, 80.0):
            assert sum(shares(AGES, age, curve)) == pytest.approx(1.0)
        assert shares(AGES, 71.0, curve) == pytest.approx([0, 1, 0], abs=1e-12)


def test_a_category_is_that_of_the_first_visit_and_volumes_stay_above_zero() -> None:
    two = Course(
        (visit(0, 70, sex="M", ventricles=10.0), visit(1, 71, ventricles=1.0)),
    )
    for age in (70.0, 70.9, 71.5):
        assert two.conditions(CARD, age, "piecewise").as_dict()["sex"] == "M"
    assert two.conditions(CARD, 73, "piecewise").as_dict()["ventricles"] == 0.0


def test_a_model_without_conditions_has_none() -> None:
    card = tiny_checkpoint(conditional=False).card
    two = Course(tuple(Visit(Scan(str(n) * 64), 70.0 + n) for n in range(2)))
    request = two.request(card, 70.5, "smooth", Sampler("ddim", 2))
    assert request.conditions == Conditions()
    assert request.origin == two.through(70.5, "smooth")


# -- into the model ----------------------------------------------------------------


def scan_of(seed: int) -> Volume:
    grid = mni_grid(8.0)
    data = np.random.default_rng(seed).random(grid.shape, np.float32)
    return Volume(data, grid.matrix)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Scans that lie on the grid pass; what is done to them is written down."""
    done: dict[str, list[Any]] = {"placed": [], "encoded": [], "inverted": []}
    mean, invert = Renderer._mean, Renderer._invert

    def conformed(_: Any, scan: Volume, *__: Any) -> Conformed:
        done["placed"].append(scan.digest)
        brain, quality = scan.data > 0, Quality(0.9, 0.8, 0.7)
        return Conformed(scan, brain, np.eye(4), 1.0, quality, (), "told")

    def encoding(self: Renderer, picture: Any, *rest: Any) -> Any:
        done["encoded"].append(Volume(picture, np.eye(4)).digest)
        return mean(self, picture, *rest)

    def inverting(self: Renderer, scan: Scan, code: Any, steps: int, *rest: Any) -> Any:
        done["inverted"].append((scan.digest, steps))
        return invert(self, scan, code, steps, *rest)

    monkeypatch.setattr("napari_brainldm.engine.scans.conform_to", conformed)
    monkeypatch.setattr(Renderer, "_mean", encoding)
    monkeypatch.setattr(Renderer, "_invert", inverting)
    return done


def test_every_scan_is_placed_encoded_and_inverted_once(
    counted: dict[str, list[Any]],
) -> None:
    """The same scan at two ages too, and nothing when asked again or travelled."""
    renderer = Renderer(tiny_checkpoint(), "cpu", "float32")
    first, second = scan_of(0), scan_of(1)
    scans, ages = (second, first, first), (72.0, 70.0, 71.0)
    made = finish(encode_visits(renderer, scans, ages, (2, 3)))
    assert made.ages == (70.0, 71.0, 72.0)
    assert [v.scan.digest for v in made.visits] == [
        first.digest,
        first.digest,
        second.digest,
    ]
    again = finish(encode_visits(renderer, scans, (75.0, 73.0, 74.0), (2, 3)))
    assert [v.scan for v in again.visits] == [v.scan for v in made.visits]
    for age in (69.5, 71.0, 71.7):
        for steps in (2, 3):
            request = made.request(renderer.card, age, "smooth", Sampler("ddim", steps))
            finish(renderer.render(request))
    assert len(counted["placed"]) == 2
    assert len(counted["encoded"]) == 2
    expected = {(d, n) for d in (first.digest, second.digest) for n in (2, 3)}
    assert sorted(counted["inverted"]) == sorted(expected)


def test_at_a_visit_the_picture_is_its_own_reconstruction(
    counted: dict[str, list[Any]],
) -> None:
    from napari_brainldm.engine.request import Request

    renderer = Renderer(tiny_checkpoint(), "cpu", "float32")
    made = finish(encode_visits(renderer, (scan_of(0), scan_of(1)), (70, 72), (2,)))
    sampler = Sampler("ddim", 2)
    for one in made.visits:
        travelled = made.request(renderer.card, one.age, "piecewise", sampler)
        alone = Request(one.scan.conditions, one.scan, sampler=sampler)
        first, second = (finish(renderer.render(r)).data for r in (travelled, alone))
        np.testing.assert_allclose(first, second, atol=1e-4)


def test_a_scan_prepared_otherwise_is_encoded_anew(
    counted: dict[str, list[Any]],
) -> None:
    from napari_brainldm.engine.conform import Preparation

    renderer = Renderer(tiny_checkpoint(), "cpu", "float32")
    digest = renderer.admit(scan_of(0))
    renderer.estimate(digest)
    renderer.estimate(digest)
    assert len(counted["encoded"]) == 1
    renderer.admit(scan_of(0), Preparation(n4=True))
    renderer.estimate(digest)
    assert len(counted["encoded"]) == 2

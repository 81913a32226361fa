"""Claims about the simulated population, against closed forms and the sources."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from trainer.data.population import (
    PopulationConfig,
    Rates,
    Subject,
    draw_subject,
    median_volumes,
    visits,
)

MANY = 4000


@pytest.fixture(scope="module")
def people() -> list[Subject]:
    return [draw_subject(PopulationConfig(), 7, index) for index in range(MANY)]


@pytest.mark.parametrize(
    ("sex", "ventricles", "brain", "hippocampus", "icv"),
    [
        ("M", math.exp(10.168) / 1000, 1298.0, 8.105, 1495.0),
        ("F", math.exp(9.839) / 1000, 1161.7, 7.462, 1292.0),
    ],
)
def test_medians_at_65_are_the_constants_of_the_fits(
    sex: str, ventricles: float, brain: float, hippocampus: float, icv: float
) -> None:
    median = median_volumes(65.0, sex)
    assert median.ventricles_ml == pytest.approx(ventricles)
    assert median.brain_ml == pytest.approx(brain)
    assert median.hippocampus_ml == pytest.approx(hippocampus)
    assert median.icv_ml == pytest.approx(icv)


@pytest.mark.parametrize("sex", ["F", "M"])
def test_medians_change_smoothly_where_the_sources_meet(sex: str) -> None:
    ages = np.arange(30.0, 50.0, 0.5)
    brain = np.array([median_volumes(age, sex).brain_ml for age in ages])
    ventricles = np.array([median_volumes(age, sex).ventricles_ml for age in ages])
    assert np.abs(np.diff(np.log(brain))).max() < 0.01
    assert np.abs(np.diff(np.log(ventricles))).max() < 0.03


def test_alzheimer_changes_the_medians_by_the_published_factors() -> None:
    well, ill = median_volumes(75.0, "F"), median_volumes(75.0, "F", 1.0)
    assert ill.hippocampus_ml / well.hippocampus_ml == pytest.approx(0.85)
    assert ill.ventricles_ml / well.ventricles_ml == pytest.approx(1.5)
    assert ill.brain_ml / well.brain_ml == pytest.approx(0.965)
    assert ill.icv_ml == well.icv_ml


def test_the_same_numbers_draw_the_same_person() -> None:
    config = PopulationConfig()
    assert draw_subject(config, 3, 5) == draw_subject(config, 3, 5)
    assert draw_subject(config, 3, 5) != draw_subject(config, 3, 6)
    assert draw_subject(config, 3, 5) != draw_subject(config, 4, 5)


@pytest.mark.parametrize("name", ["ventricles_ml", "brain_ml", "hippocampus_ml"])
def test_drawn_medians_of_the_well_follow_the_curves(
    people: list[Subject], name: str
) -> None:
    ratios = [
        getattr(person.volumes, name)
        / getattr(median_volumes(person.age, person.sex), name)
        for person in people
        if person.diagnosis == "CN"
    ]
    assert np.median(ratios) == pytest.approx(1.0, abs=0.02)


def test_spread_given_the_head_is_the_published_one(people: list[Subject]) -> None:
    old = [p for p in people if p.diagnosis == "CN" and p.age > 50 and p.sex == "M"]
    logs = np.array(
        [
            [
                math.log(getattr(p.volumes, n) / getattr(median_volumes(p.age, "M"), n))
                for n in ("icv_ml", "ventricles_ml", "hippocampus_ml")
            ]
            for p in old
        ]
    )
    assert logs[:, 0].std() == pytest.approx(0.08, rel=0.15)
    for column, slope, sd in ((1, 1.9, 0.37), (2, 0.68, 0.072)):
        fitted = np.polyfit(logs[:, 0], logs[:, column], 1)
        residual = logs[:, column] - np.polyval(fitted, logs[:, 0])
        assert fitted[0] == pytest.approx(slope, abs=4 * sd / 0.08 / len(old) ** 0.5)
        assert residual.std() == pytest.approx(sd, rel=0.15)


def test_diagnoses_are_mixed_as_asked_above_55_only(people: list[Subject]) -> None:
    assert {p.diagnosis for p in people if p.age < 55} == {"CN"}
    old = Counter(p.diagnosis for p in people if p.age >= 55)
    total = sum(old.values())
    for diagnosis, share in (("CN", 0.6), ("MCI", 0.2), ("AD", 0.2)):
        assert old[diagnosis] / total == pytest.approx(share, abs=0.03)


def test_ages_fill_the_range_evenly(people: list[Subject]) -> None:
    counts, _ = np.histogram([p.age for p in people], bins=7, range=(20, 90))
    assert counts.min() > 0.85 * MANY / 7


def test_no_spread_gives_the_medians() -> None:
    person = draw_subject(PopulationConfig(spread=0.0, oldest=50.0), 1, 2)
    median = median_volumes(person.age, person.sex)
    assert person.volumes.brain_ml == pytest.approx(median.brain_ml)
    assert person.volumes.ventricles_ml == pytest.approx(median.ventricles_ml)


def test_brain_and_ventricles_leave_room_in_the_head(people: list[Subject]) -> None:
    for person in people:
        v = person.volumes
        assert v.brain_ml + 1.15 * v.ventricles_ml <= 0.9801 * v.icv_ml


def test_visits_compound_the_yearly_rates() -> None:
    person = draw_subject(PopulationConfig(), 0, 0)
    person = replace(person, rates=Rates(10.0, -1.0, -5.0))
    first, _, third = visits(person, (0.0, 1.0, 2.0))
    assert first.volumes == person.volumes
    assert third.age == pytest.approx(person.age + 2)
    grown = third.volumes.ventricles_ml / first.volumes.ventricles_ml
    assert grown == pytest.approx(1.21)
    shrunk = third.volumes.hippocampus_ml / first.volumes.hippocampus_ml
    assert shrunk == pytest.approx(0.9025)
    assert third.volumes.icv_ml == first.volumes.icv_ml


def test_without_an_effect_the_ill_change_as_the_well() -> None:
    ill = PopulationConfig(youngest=70.0, mix=(0.0, 0.0, 1.0), effect=0.0)
    well = replace(ill, mix=(1.0, 0.0, 0.0))
    for index in range(5):
        none, healthy = (draw_subject(c, 1, index) for c in (ill, well))
        assert (none.diagnosis, healthy.diagnosis) == ("AD", "CN")
        assert none.rates == healthy.rates
        assert none.volumes == healthy.volumes
    half = draw_subject(replace(ill, effect=0.5, spread=0.0), 1, 0)
    assert half.rates.ventricles == pytest.approx((4.2 + 9.9) / 2)


def test_courses_have_the_published_mean_rates(people: list[Subject]) -> None:
    means = {"CN": 4.2, "stable MCI": 5.2, "converter": 8.2, "AD": 9.9}
    for course, mean in means.items():
        drawn = [p.rates.ventricles for p in people if p.course == course]
        error = 5.3 / len(drawn) ** 0.5
        assert np.mean(drawn) == pytest.approx(mean, abs=4 * error)

"""The plan of many pictures: closed forms against a scheduler played through."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from benchmarks import generate_plan
from benchmarks.generate_plan import Times, assume, modelled, plan, simulated


@pytest.fixture
def immortal(monkeypatch):
    monkeypatch.setattr(generate_plan, "KILLED_AFTER", math.inf)
    monkeypatch.setattr(generate_plan.random.Random, "expovariate", lambda *_: math.inf)


@pytest.mark.parametrize(
    ("times", "each"),
    [
        (Times(10, (2.0,), (1.0,), 0.0, 2), 2.0),  # computing is slower
        (Times(10, (0.1,), (1.0,), 0.0, 3), 1.1 / 3),  # writing is slower
        (Times(10, (1.0, 3.0), (0.5,), 0.0, 4), 2.0),  # times that differ
    ],
)
@pytest.mark.parametrize("cards", [1, 8])
@pytest.mark.usefixtures("immortal")
def test_the_slower_of_computing_and_writing_counts(times, each, cards):
    expected = 10 + 4000 * each / cards
    assert modelled(times, 4000, cards) == pytest.approx(expected)
    assert simulated(times, 4000, cards, 0)[0] == pytest.approx(expected, rel=0.05)


@pytest.mark.usefixtures("immortal")
def test_no_number_of_cards_outruns_the_scheduler():
    times = Times(0, (1.0,), (0.1,), 0.05, 2)
    assert modelled(times, 1000, 64) == pytest.approx(50)
    assert simulated(times, 1000, 64, 0)[0] == pytest.approx(50, rel=0.05)


@pytest.mark.usefixtures("immortal")
def test_checking_and_collecting_come_after():
    """Every worker's threads read files again; one process reads all sidecars."""
    quick = Times(10, (1.0,), (0.5,), 0.0, 2)
    whole = replace(quick, check=0.2, collect=0.01)
    for seconds in (modelled, lambda *a: simulated(*a, 0)[0]):
        extra = seconds(whole, 1000, 4) - seconds(quick, 1000, 4)
        assert extra == pytest.approx(1000 * 0.2 / 8 + 1000 * 0.01)


def test_times_may_be_assumed():
    told = "compute=0.24 write=1 start=60 task=0.005 threads=8 batch=16 megabytes=10"
    times, size, where = assume(told)
    assert times == Times(60.0, (0.24,), (1.0,), 0.005, 8, 16)
    assert (size, told in where) == (1e7, True)
    found = plan("", 1, 2.5, 0, told)
    assert found["hours_1"] == pytest.approx((60 + 1e5 * 0.24) / 3600, rel=0.01)


def test_kills_cost_what_was_in_hand(monkeypatch):
    """Workers that live for 100 pictures lose two each time, and start again."""
    monkeypatch.setattr(generate_plan, "KILLED_AFTER", 100.0)
    times = Times(5, (1.0,), (0.5,), 0.0, 2)
    seconds, lost = simulated(times, 10_000, 4, 0)
    deaths = 10_000 / 100
    assert deaths < lost < 3 * deaths
    quiet = modelled(times, 10_000, 4)
    assert quiet < seconds < quiet * (1 + 2 * (5 + 2) / 100)

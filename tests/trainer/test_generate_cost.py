"""The plan of many pictures: closed forms against a scheduler played through."""

from __future__ import annotations

import math

import pytest

from benchmarks import generate_plan
from benchmarks.generate_plan import Times, modelled, simulated


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


def test_kills_cost_what_was_in_hand(monkeypatch):
    """Workers that live for 100 pictures lose two each time, and start again."""
    monkeypatch.setattr(generate_plan, "KILLED_AFTER", 100.0)
    times = Times(5, (1.0,), (0.5,), 0.0, 2)
    seconds, lost = simulated(times, 10_000, 4, 0)
    deaths = 10_000 / 100
    assert deaths < lost < 3 * deaths
    quiet = modelled(times, 10_000, 4)
    assert quiet < seconds < quiet * (1 + 2 * (5 + 2) / 100)

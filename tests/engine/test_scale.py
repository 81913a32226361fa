"""Round numbers for axes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_brainldm.engine.scale import room, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (69.0, 73.0, (69, 70, 71, 72, 73)),
        (0.0, 0.84, (0, 0.5)),
        (0.0, 1.0, (0, 0.5, 1.0)),
        (1093.2, 1127.9, (1100, 1110, 1120)),
        (-3.0, 14.0, (0, 5, 10)),
    ],
)
def test_ticks_are_round_and_inside(
    low: float, high: float, expected: tuple[float, ...]
) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4), st.integers(3, 8))
def test_there_are_never_more_than_asked_for(
    low: float, wide: float, most: int
) -> None:
    found = ticks(low, low + wide, most)
    assert len(found) <= most
    assert all(low - 1e-6 * wide <= t <= low + wide * (1 + 1e-6) for t in found)


def test_little_changes_are_not_blown_up() -> None:
    low, high = room([20.0, 20.1], 2.0)
    assert (low, high) == pytest.approx((20.05 - 1.2, 20.05 + 1.2))
    low, high = room([10.0, 30.0], 2.0)
    assert (low, high) == pytest.approx((8.0, 32.0))

"""Maps of groups, held against each other: planted likeness, and none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import pearsonr

from trainer.evaluate import group_difference as tested
from trainer.evaluate.group_difference import (
    agreement,
    difference,
    halves_alike,
    of_people,
    two_groups,
)

SHAPE = (18, 20, 18)


def ball() -> np.ndarray:
    """A mask that is no box."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    return np.sum(np.square(axes), axis=0) < 0.8


def smooth(seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(SHAPE)
    return np.asarray(gaussian_filter(drawn, 1.5), np.float32)


def test_unrelated_smooth_maps_are_rarely_called_alike(monkeypatch) -> None:
    monkeypatch.setattr(tested, "SURROGATES", 99)
    mask, trials = ball(), 60
    pairs = [(smooth(2 * n), smooth(2 * n + 1)) for n in range(trials)]
    naive = np.mean([pearsonr(a[mask], b[mask]).pvalue < 0.05 for a, b in pairs])
    found = np.mean([agreement(a, b, mask).p <= 0.05 for a, b in pairs])
    assert naive > 0.4  # what counting voxels would have said
    assert found <= 0.12  # binomial 99 % of a true 5 %


def test_a_planted_likeness_is_found() -> None:
    mask = ball()
    real = smooth(1)
    noisy = real + 0.5 * real.std() * smooth(2) / smooth(2).std()
    found = agreement(noisy, real, mask)
    assert found.r == pytest.approx(pearsonr(noisy[mask], real[mask])[0], abs=1e-5)
    assert found.p < 0.01 and abs(found.r) > found.chance


def test_the_second_group_less_the_first() -> None:
    names = ["patient", "control", "patient", "n/a", "control"]
    maps = np.arange(5, dtype=np.float32)[:, None, None, None] * np.ones((5, 2, 2, 2))
    groups = two_groups(names)
    assert groups == ("control", "patient")
    np.testing.assert_allclose(difference(maps, names, groups), 1 - 2.5)


def test_visits_of_one_person_are_not_in_both_halves() -> None:
    """Groups that do not differ: with a visit of each in either half r would be 0.9."""
    mask, rng = ball(), np.random.default_rng(0)
    people = [f"s{n}" for n in range(16)]
    groups = ("control", "patient")
    found = []
    for trial in range(12):
        own = [smooth(100 * trial + n) for n in range(16)]
        subjects = [person for person in people for _ in range(2)]
        maps = np.stack(
            [
                one + 0.1 * one.std() * smooth(int(rng.integers(10**6)))
                for one in own
                for _ in range(2)
            ]
        )
        alone = of_people(maps, subjects)
        np.testing.assert_allclose(alone[3], maps[6:8].mean(0), rtol=1e-6)
        names = [groups[n % 4 // 2] for n in range(16)]
        found.append(halves_alike(alone, names, groups, mask))
    assert abs(np.mean(found)) < 0.3


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a", "b"],
        ["a"] * 4,
        ["a", "a", "b", "b", "c", "c"],
        ["", "n/a"],
        ["a"] * 5 + ["NA"] * 5,
    ],
)
def test_without_two_groups_there_is_nothing_to_compare(names: list[str]) -> None:
    assert two_groups(names) is None

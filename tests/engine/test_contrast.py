"""Claims about differences, spread over seeds, and sweeps."""

from __future__ import annotations

import numpy as np
import pytest

from napari_brainldm.engine.contrast import (
    Running,
    Spread,
    across_seeds,
    difference,
    seeds_from,
)
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Between,
    Conditions,
    Derived,
    EngineError,
    Later,
    Request,
    Sampler,
    Scan,
    Seed,
    Variation,
)
from napari_brainldm.engine.sweep import DIRECTION, SEED, Axis, film, frames
from napari_brainldm.engine.volume import Volume
from tests.tiny import tiny_checkpoint

FEW = Sampler("dpm++2m", 2)
YOUNG = Request(Conditions.of({"age": 30.0}), Seed(5), sampler=FEW)
OLD = Request(Conditions.of({"age": 80.0}), Seed(9), sampler=FEW)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(tiny_checkpoint(), "cpu", "float32")


def driven(steps):
    """The result and all that was yielded."""
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as done:
            return done.value, seen


def test_running_mean_and_sd_are_numpys():
    data = np.random.default_rng(0).normal(size=(7, 3, 4, 5)).astype(np.float32)
    running = Running()
    for one in data:
        running.add(one)
    assert np.allclose(running.mean(), data.mean(0), atol=1e-6)
    assert np.allclose(running.sd(), data.std(0, ddof=1), atol=1e-6)


def test_a_single_picture_has_no_spread():
    running = Running()
    running.add(np.ones((2, 2, 2), np.float32))
    assert not running.sd().any()


def test_differences_of_other_grids_are_refused():
    first, second = (Volume(np.zeros((n, 2, 2), np.float32), np.eye(4)) for n in (2, 3))
    with pytest.raises(EngineError, match="different grids"):
        difference(first, second)


def test_seeds_follow_the_one_in_use():
    assert [one.origin.value for one in seeds_from(YOUNG, 3)] == [5, 6, 7]
    with pytest.raises(EngineError, match="at least 2"):
        seeds_from(YOUNG, 1)
    scan = Scan("a" * 64)
    varied = [one.origin for one in seeds_from(Request(origin=scan), 2)]
    assert varied == [Variation(scan, 0), Variation(scan, 1)]
    with pytest.raises(EngineError, match="between several scans"):
        seeds_from(Request(origin=Between(scan, scan, 0.5)), 3)
    with pytest.raises(EngineError, match="is a forecast"):  # years would be lost
        seeds_from(Request(origin=Later(scan, Conditions(), 5.0)), 3)


def test_directions_and_noise_are_swept_as_conditions_are():
    scan = Scan("a" * 64)
    request = Request(origin=scan, shift=(("AD", 1.0), ("age", 0.5)))
    axes = Axis("AD", (0.0, 2.0), DIRECTION), Axis("seed", (3, 4), SEED)
    found = [(dict(one.shift), one.origin) for one in frames(request, axes)]
    assert found == [
        ({"AD": ad, "age": 0.5}, Variation(scan, seed))
        for ad in (0.0, 2.0)
        for seed in (3, 4)
    ]
    drawn = frames(YOUNG, (Axis("seed", (1, 2), SEED),))
    assert [one.origin for one in drawn] == [Seed(1), Seed(2)]


def test_mean_and_sd_are_those_of_the_pictures_alone(renderer):
    spread, seen = driven(across_seeds(renderer, YOUNG, 3))
    pictures = np.array(
        [finish(renderer.render(one)).data for one in seeds_from(YOUNG, 3)]
    )
    assert np.allclose(spread.mean.data, pictures.mean(0), atol=1e-5)
    assert np.allclose(spread.sd.data, pictures.std(0, ddof=1), atol=1e-5)
    assert spread.change is None
    assert spread.sure(1.0) is None
    steps = [(step.index, step.total) for step in seen]
    assert steps == sorted(steps)
    assert steps[-1] == (299, 300)


def test_a_change_is_the_mean_of_pairs_with_the_same_noise(renderer):
    spread, _ = driven(across_seeds(renderer, OLD, 2, YOUNG))
    pairs = [
        finish(renderer.render(Request(OLD.conditions, Seed(s), sampler=FEW))).data
        - finish(renderer.render(Request(YOUNG.conditions, Seed(s), sampler=FEW))).data
        for s in (9, 10)
    ]
    assert np.allclose(spread.change.data, np.mean(pairs, 0), atol=1e-5)
    assert np.allclose(spread.change_sd.data, np.std(pairs, 0, ddof=1), atol=1e-5)
    assert len(spread.record.requests) == 4


def test_what_is_small_beside_its_spread_is_hidden():
    def volume(*values: float) -> Volume:
        return Volume(np.array(values, np.float32).reshape(1, 1, -1), np.eye(4))

    nothing = volume(0, 0, 0, 0)
    spread = Spread(
        nothing, nothing, volume(2, -2, 0.5, 0), volume(1, 1, 1, 0), Derived("", (), ())
    )
    assert spread.sure(1.5).data.ravel().tolist() == [2, -2, 0, 0]


def test_an_axis_goes_from_one_value_to_the_other():
    assert Axis.between("age", 80, 20, 4).values == (80, 60, 40, 20)
    with pytest.raises(EngineError, match="goes nowhere"):
        Axis.between("age", 20, 80, 1)


def test_frames_are_every_combination_the_last_axis_fastest():
    axes = Axis("age", (30.0, 60.0)), Axis("sex", ("F", "M"))
    asked = [one.conditions.as_dict() for one in frames(OLD, axes)]
    assert [(a["age"], a["sex"]) for a in asked] == [
        (30, "F"),
        (30, "M"),
        (60, "F"),
        (60, "M"),
    ]
    assert {one.origin for one in frames(OLD, axes)} == {OLD.origin}


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ((), "0 pictures"),
        ((Axis.between("age", 20, 80, 401),), "401 pictures"),
        ((Axis("age", (1.0,)), Axis("age", (2.0,))), "swept twice"),
    ],
)
def test_sweeps_that_cannot_be_are_refused(axes, words):
    with pytest.raises(EngineError, match=words):
        frames(OLD, axes)


def test_a_film_holds_the_pictures_of_its_requests(renderer):
    axes = (Axis.between("age", 30, 80, 3),)
    made, seen = driven(film(renderer, OLD, axes))
    assert made.captions == ("Age 30 years", "Age 55 years", "Age 80 years")
    for request, picture in zip(made.requests, made.pictures, strict=True):
        assert finish(renderer.render(request)).digest == picture.digest
    assert made.record.requests == made.requests
    assert [s.index for s in seen] == sorted(s.index for s in seen)
    with pytest.raises(EngineError, match="not a condition"):
        driven(film(renderer, OLD, (Axis("height", (1.0, 2.0)),)))

"""Films along age: in order, each picture made and measured once."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_brainldm.engine.ageing import Kept, film_along, measured_visits
from napari_brainldm.engine.measure import measure
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import EngineError, Request, Sampler
from napari_brainldm.engine.segment import Segmenter
from napari_brainldm.engine.sweep import MOST
from napari_brainldm.engine.visits import Course, encode_visits
from tests.engine.test_visits import counted, scan_of
from tests.tiny import tiny_checkpoint, tiny_segmenter

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Volume

__all__ = ["counted"]  # a fixture: scans that lie on the grid pass

SAMPLER = Sampler("ddim", 2)


@pytest.fixture
def renderer(counted: Any) -> Renderer:
    return Renderer(tiny_checkpoint(), "cpu", "float32")


@pytest.fixture
def course(renderer: Renderer) -> Course:
    return finish(encode_visits(renderer, (scan_of(0), scan_of(1)), (70.0, 72.0), (2,)))


@pytest.fixture
def rendered(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """The requests that were rendered."""
    asked: list[Request] = []
    render = renderer.render

    def counting(request: Request) -> Generator[Any, None, Volume]:
        asked.append(request)
        return render(request)

    monkeypatch.setattr(renderer, "render", counting)
    return asked


def film(renderer: Renderer, course: Course, ages: Any, kept: Kept, *more: Any) -> Any:
    return finish(film_along(renderer, course, ages, "piecewise", SAMPLER, kept, *more))


def test_a_film_holds_the_pictures_of_its_ages(
    renderer: Renderer, course: Course
) -> None:
    ages = (70.0, 71.0, 72.5)
    made, points = film(renderer, course, ages, Kept())
    assert made.axes[0].values == ages
    assert made.units == ("years",)
    assert made.captions == (
        "Age 70.00 years",
        "Age 71.00 years",
        "Age 72.50 years, extrapolated",
    )
    assert points == ()
    for request, picture, age in zip(made.requests, made.pictures, ages, strict=True):
        assert request.origin.place == age
        assert np.array_equal(finish(renderer.render(request)).data, picture.data)
    assert made.record.requests == made.requests


def test_a_picture_asked_for_again_is_not_made_again(
    renderer: Renderer, course: Course, rendered: list[Request]
) -> None:
    kept = Kept()
    film(renderer, course, (70.0, 71.0, 72.0), kept)
    film(renderer, course, (70.0, 70.5, 71.0, 71.5, 72.0), kept)
    assert sorted(r.origin.place for r in rendered) == [70.0, 70.5, 71.0, 71.5, 72.0]


def test_what_was_longest_unasked_for_makes_room(
    renderer: Renderer, course: Course, rendered: list[Request]
) -> None:
    one = np.prod(renderer.card.grid.shape) * 4
    kept = Kept(room=int(2 * one))
    film(renderer, course, (70.0, 71.0), kept)
    film(renderer, course, (70.0, 72.0), kept)  # 71 goes, 70 was asked for since
    film(renderer, course, (70.0,), kept)
    assert [r.origin.place for r in rendered] == [70.0, 71.0, 72.0]
    film(renderer, course, (71.0,), kept)
    assert rendered[-1].origin.place == 71.0


def test_the_points_are_the_volumes_of_the_pictures(
    renderer: Renderer, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = Segmenter(tiny_segmenter(), "cpu", "float32")
    made, points = film(renderer, course, (70.0, 71.0), kept := Kept(), segmenter)
    for age, picture, point in zip((70.0, 71.0), made.pictures, points, strict=True):
        assert point.age == age
        assert point.measured == measure(segmenter.segment(picture))
    monkeypatch.setattr(segmenter, "segment", None)  # it would fail
    assert film(renderer, course, (70.0, 71.0), kept, segmenter)[1] == points


def test_real_visits_are_measured_as_the_model_sees_them(
    renderer: Renderer, course: Course
) -> None:
    segmenter = Segmenter(tiny_segmenter(), "cpu", "float32")
    points = finish(measured_visits(renderer, course, segmenter))
    assert [point.age for point in points] == [70.0, 72.0]
    for point, seed in zip(points, (0, 1), strict=True):
        assert point.measured == measure(segmenter.segment(scan_of(seed)))


@pytest.mark.parametrize("count", [0, MOST + 1])
def test_too_few_or_too_many_pictures_are_refused(
    renderer: Renderer, course: Course, count: int
) -> None:
    with pytest.raises(EngineError, match=f"This sweep has {count} pictures"):
        film(renderer, course, tuple(70.0 + n / 1000 for n in range(count)), Kept())

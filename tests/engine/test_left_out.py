"""A visit left out: closed forms, and a planted person who changes steadily."""

from __future__ import annotations

from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_brainldm.engine.left_out import LeftOut, leave_out, likeness
from napari_brainldm.engine.renderer import finish
from napari_brainldm.engine.request import EngineError, Request, Sampler, Scan
from napari_brainldm.engine.visits import Course, Visit
from napari_brainldm.engine.volume import Volume, mni_grid
from tests.tiny import tiny_checkpoint

GRID = mni_grid(8.0)
SAMPLER = Sampler("ddim", 2)
BLUR = 0.05
"""What the autoencoder of these tests adds to a picture."""


def flat(value: float) -> Volume:
    return Volume(np.full(GRID.shape, value, np.float32), GRID.matrix)


def test_ssim_and_mse_of_flat_pictures_are_their_closed_forms() -> None:
    """SSIM of constants a, b: (2ab + C1) / (a2 + b2 + C1), C1 = 0.01^2 (Wang 2004)."""
    a, b, c1 = 0.4, 0.7, 0.01**2
    found = likeness(flat(a), flat(b), np.ones(GRID.shape, bool))
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    assert found.ssim == pytest.approx(expected, abs=1e-3)  # float32
    assert found.ssim_brain == pytest.approx(found.ssim)
    assert found.mse == pytest.approx((a - b) ** 2, rel=1e-5)
    same = likeness(flat(a), flat(a), np.ones(GRID.shape, bool))
    assert (same.ssim, same.mse) == pytest.approx((1.0, 0.0), abs=1e-6)


class Steady:
    """A renderer whose pictures are flat: intensity (age - 60) / 20, by interpolation.

    It knows the value of each scan by its digest, and looks at what was asked alone.
    """

    def __init__(self, values: dict[str, float]) -> None:
        self.card = tiny_checkpoint(conditional=False).card
        self.values = values
        self.asked: list[Request] = []

    def resolve(self, request: Request) -> Request:
        return request

    def render(self, request: Request) -> Generator[Any, None, Volume]:
        self.asked.append(request)
        origin = request.origin
        known = [self.values[scan.digest] for scan in origin.scans]
        yield None
        return flat(float(np.interp(origin.place, origin.places, known)) + BLUR)

    def conformed(self, digest: str) -> Any:
        volume = flat(self.values[digest])
        return SimpleNamespace(volume=volume, brain=volume.data > 0)

    def rebuild(self, picture: np.ndarray) -> np.ndarray:
        return picture + np.float32(BLUR)


def predict(values: tuple[float, ...], ages: tuple[float, ...], hidden: int) -> Any:
    digests = [str(n) * 64 for n in range(len(ages))]
    renderer: Any = Steady(dict(zip(digests, values, strict=True)))
    visits = (Visit(Scan(d), age) for d, age in zip(digests, ages, strict=True))
    work = leave_out(renderer, Course(tuple(visits)), hidden, "piecewise", SAMPLER)
    return renderer, finish(work)


def errors(found: LeftOut) -> dict[tuple[str, str], float]:
    return {(what, truth): one.mse for what, truth, one in found.likenesses}


def test_who_changes_steadily_is_predicted_and_only_the_autoencoder_errs() -> None:
    renderer, found = predict((0.2, 0.3, 0.6), (64.0, 66.0, 72.0), 1)
    assert found.age == 66.0
    assert np.abs(found.error.data).max() < 1e-6
    told = errors(found)
    assert told["Prediction", "its reconstruction"] == pytest.approx(0, abs=1e-10)
    assert told["Prediction", "the scan"] == pytest.approx(BLUR**2, rel=1e-3)
    # the nearest visit is the first, 2 years away, 0.1 darker
    assert told["Nearest visit", "its reconstruction"] == pytest.approx(0.01, rel=1e-3)
    assert told["Nearest visit", "the scan"] == pytest.approx((0.1 - BLUR) ** 2, 1e-3)
    hidden = "1" * 64
    (request,) = renderer.asked
    assert hidden not in request.to_json()
    assert request == found.request


def test_a_leap_is_seen_with_its_sign_and_size() -> None:
    """Prediction 0.4, truth 0.5: prediction minus reconstruction is -0.1."""
    _, found = predict((0.2, 0.5, 0.6), (60.0, 65.0, 70.0), 1)
    np.testing.assert_allclose(found.error.data, -0.1, atol=1e-6)
    assert errors(found)["Prediction", "its reconstruction"] == pytest.approx(0.01)


def test_the_first_and_the_last_cannot_be_left_out() -> None:
    for hidden in (0, 2):
        with pytest.raises(EngineError, match="no visit on both sides"):
            predict((0.2, 0.3, 0.6), (64.0, 66.0, 72.0), hidden)

"""Ways through more than two visits: pure moves of codes."""

from __future__ import annotations

import json

import pytest
import torch
from scipy.interpolate import CubicSpline

from napari_brainldm.engine.codes import Code, between, spline_weights, through
from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Request,
    Scan,
    Through,
    request_from_plain,
    to_plain,
)

AGES = (70.0, 71.0, 73.5, 76.0)
CURVES = ("piecewise", "smooth")


def visits(count: int = 4) -> list[Code]:
    generator = torch.Generator().manual_seed(0)
    return [
        Code(*(torch.randn(shape, generator=generator) for shape in SHAPES))
        for _ in range(count)
    ]


SHAPES = ((1, 2, 3, 3, 3), (1, 2, 3, 3, 3), (1, 8))


@pytest.mark.parametrize("curve", CURVES)
def test_at_a_visit_it_is_that_visit(curve: str) -> None:
    codes = visits()
    for code, age in zip(codes, AGES, strict=True):
        found = through(codes, AGES, age, curve)
        for name in ("latent", "stochastic", "semantic"):
            expected = getattr(code, name)
            torch.testing.assert_close(
                getattr(found, name), expected, atol=1e-5, rtol=1e-5
            )


@pytest.mark.parametrize("place", [69.0, 70.4, 71.0, 72.3])
def test_two_visits_are_the_way_between(place: float) -> None:
    codes = visits(2)
    expected = between(*codes, place - 70.0)
    for curve in CURVES:
        found = through(codes, (70.0, 71.0), place, curve)
        assert torch.equal(found.semantic, expected.semantic)
        assert torch.equal(found.stochastic, expected.stochastic)


@pytest.mark.parametrize("place", [66.0, 70.5, 72.0, 75.0, 79.0])
def test_steady_change_stays_steady(place: float) -> None:
    """On a straight line both curves are that line, beyond its ends too."""
    start, step = torch.randn(1, 8), torch.randn(1, 8)
    codes = [Code(start + age * step, None, start - age * step) for age in AGES]
    for curve in CURVES:
        found = through(codes, AGES, place, curve)
        torch.testing.assert_close(
            found.latent, start + place * step, atol=1e-4, rtol=1e-5
        )
        torch.testing.assert_close(
            found.semantic, start - place * step, atol=1e-4, rtol=1e-5
        )
        assert found.stochastic is None


def test_the_smooth_curve_is_the_natural_spline_of_scipy() -> None:
    codes = visits()
    stacked = torch.cat([c.semantic for c in codes if c.semantic is not None]).numpy()
    expected = CubicSpline(AGES, stacked, bc_type="natural")(72.2)
    found = through(codes, AGES, 72.2, "smooth").semantic
    torch.testing.assert_close(found[0].double(), torch.from_numpy(expected))
    assert sum(spline_weights(AGES, 72.2)) == pytest.approx(1)


def test_noise_keeps_the_length_of_noise() -> None:
    generator = torch.Generator().manual_seed(1)
    shape = (1, 4, 12, 12, 12)
    codes = [
        Code(torch.zeros(1), torch.randn(shape, generator=generator)) for _ in AGES
    ]
    for curve in CURVES:
        noise = through(codes, AGES, 72.2, curve).stochastic
        assert float(noise.std()) == pytest.approx(1.0, abs=0.05)


def test_a_request_through_visits_is_plain_data() -> None:
    scans = tuple(Scan(f"{n:064x}", Conditions.of({"age": 70.0 + n})) for n in range(3))
    request = Request(origin=Through(scans, (70.0, 71.0, 72.0), 71.4, "smooth"))
    plain = json.loads(json.dumps(to_plain(request)))
    assert request_from_plain(plain) == request
    assert hash(request) == hash(request_from_plain(plain))


@pytest.mark.parametrize(
    ("count", "places", "curve", "words"),
    [
        (1, (70.0,), "smooth", "two or more scans"),
        (2, (70.0,), "smooth", "each with a place"),
        (3, (70.0, 72.0, 71.0), "smooth", "rising order"),
        (2, (70.0, 70.0), "piecewise", "rising order"),
        (2, (70.0, 71.0), "wavy", "piecewise, smooth"),
    ],
)
def test_ways_that_cannot_be_gone_are_refused(
    count: int, places: tuple[float, ...], curve: str, words: str
) -> None:
    scans = tuple(Scan(f"{n:064x}") for n in range(count))
    with pytest.raises(EngineError, match=words):
        Through(scans, places, 70.5, curve)

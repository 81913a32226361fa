"""Requests are values: they hash, compare, and survive JSON."""

from __future__ import annotations

import json

import pytest

from napari_brainldm.engine.request import (
    Between,
    Conditions,
    Derived,
    EngineError,
    Request,
    Sampler,
    Scan,
    Seed,
)

OWN = Conditions.of({"age": 60.0, "sex": "F"})
REQUESTS = [
    Request(),
    Request(Conditions.of({"age": 71.5}), Seed(12), (("AD", 1.5),), guidance=2.0),
    Request(origin=Scan("ab" * 32, OWN), sampler=Sampler("ddim", 50)),
    Request(origin=Between(Scan("a", OWN), Scan("b"), 0.25), precision="bfloat16"),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_json_round_trip(request_):
    assert Request.from_json(request_.to_json()) == request_


def test_different_requests_have_different_digests():
    assert len({r.digest for r in REQUESTS} | {Request().digest}) == len(REQUESTS)
    assert len(set(REQUESTS)) == len(REQUESTS)


def test_the_order_of_conditions_does_not_matter():
    assert Conditions.of({"a": 1.0, "b": 2.0}) == Conditions.of({"b": 2.0, "a": 1.0})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"conditions": 3}', "null"])
def test_what_is_not_a_request_is_refused_in_a_sentence(text):
    with pytest.raises(EngineError, match="not a picture request"):
        Request.from_json(text)


def test_engine_errors_are_not_runtime_errors():
    """napari's generator workers drop every RuntimeError."""
    assert not issubclass(EngineError, RuntimeError)


def test_a_derived_record_is_plain_json():
    record = Derived("difference", (("mask", "brain"),), (REQUESTS[0], REQUESTS[1]))
    plain = json.loads(json.dumps(record.to_plain()))
    assert plain["requests"][1]["shift"] == {"AD": 1.5}

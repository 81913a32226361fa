"""Configs and cards are read strictly, with the place named in the sentence."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from napari_brainldm.engine.frozen import from_plain, to_plain
from napari_brainldm.engine.request import EngineError


@dataclass(frozen=True)
class Inner:
    size: int
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 1.0
    on: bool = False
    inner: Inner | None = None
    reference: float | str = 0.0
    pair: tuple[int, str] = (1, "a")
    many: tuple[Inner, ...] = ()
    coding: dict[str, str] = field(default_factory=dict)


def test_values_come_back_as_they_were():
    inner = Inner(3, (1, 2))
    full = Outer("x", 2.0, True, inner, "F", (2, "b"), (Inner(1),), {"1": "M"})
    assert from_plain(Outer, to_plain(full), "here") == full


def test_a_whole_number_serves_as_a_float_and_a_list_as_a_tuple():
    found = from_plain(Outer, {"name": "x", "rate": 2, "pair": [3, "c"]}, "here")
    assert (found.rate, found.pair) == (2.0, (3, "c"))
    assert isinstance(found.rate, float)


@pytest.mark.parametrize(
    ("plain", "sentence"),
    [
        ({"name": "x", "nane": 1}, r"run\.toml has the unknown entry 'nane'"),
        ({}, r"run\.toml lacks the entry 'name'"),
        ({"name": 3}, r"run\.toml: name is 3; str is needed"),
        ({"name": "x", "rate": "fast"}, "rate is 'fast'; float is needed"),
        ({"name": "x", "rate": True}, "rate is True; float is needed"),
        ({"name": "x", "inner": {"size": 1.5}}, "inner: size is 1.5; int is needed"),
        ({"name": "x", "pair": [1]}, "pair has 1 values; 2 are needed"),
        ({"name": "x", "many": "abc"}, "many is 'abc'; a list is needed"),
        ([1], "a table of named values is needed"),
    ],
)
def test_what_does_not_fit_is_named(plain, sentence):
    with pytest.raises(EngineError, match=sentence):
        from_plain(Outer, plain, "run.toml")

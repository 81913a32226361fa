"""Sweeps: the same brain while one condition, or two, go through their values."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.contrast import counted
from napari_brainldm.engine.request import Derived, EngineError, Request, Value
from napari_brainldm.engine.volume import Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.renderer import Progress, Renderer

MOST = 400
"""Pictures in one sweep: more would fill the memory of a laptop."""


@dataclass(frozen=True)
class Axis:
    """A condition and the values it goes through, in its own unit."""

    name: str
    values: tuple[Value, ...]

    @classmethod
    def between(cls, name: str, low: float, high: float, count: int) -> Axis:
        """`count` values from `low` to `high`, equally spaced; either may be larger."""
        if count < 2:
            raise EngineError(
                f"A sweep of {count} steps goes nowhere; choose 2 or more."
            )
        return cls(name, tuple(float(v) for v in np.linspace(low, high, count)))


@dataclass(frozen=True, eq=False)
class Film:
    """The pictures of a sweep.

    Attributes
    ----------
    axes
        What was swept; the last axis goes fastest.
    requests, pictures, captions
        One of each per frame, in that order; a caption is "Age 64 years".
    record
        How the whole of it came to be.
    units
        Of the axes; empty for one of categories.
    """

    axes: tuple[Axis, ...]
    requests: tuple[Request, ...]
    pictures: tuple[Volume, ...]
    captions: tuple[str, ...]
    record: Derived
    units: tuple[str, ...] = ()


def check_count(count: int) -> None:
    """Raise an EngineError unless a sweep can have `count` pictures."""
    if not 1 <= count <= MOST:
        raise EngineError(
            f"This sweep has {count} pictures; 1 to {MOST} are possible. "
            "Choose another number of steps."
        )


def frames(request: Request, axes: Sequence[Axis]) -> tuple[Request, ...]:
    """`request` under every combination of the values of `axes`, the last fastest.

    Raises
    ------
    EngineError
        If there are none or more than `MOST`, or two axes are the same condition.
    """
    names = [axis.name for axis in axes]
    if len(set(names)) != len(names):
        raise EngineError(
            f"{names[0]} is swept twice. Choose two different conditions, or one."
        )
    count = int(np.prod([len(axis.values) for axis in axes])) if axes else 0
    check_count(count)
    combinations = itertools.product(*(axis.values for axis in axes))
    return tuple(
        replace(
            request,
            conditions=request.conditions.with_values(
                dict(zip(names, values, strict=True))
            ),
        )
        for values in combinations
    )


def caption(card: Card, request: Request, axes: Sequence[Axis]) -> str:
    """The swept conditions of one frame in words, such as "Age 64 years"."""
    values = request.conditions.as_dict()
    return ", ".join(_told(card, axis.name, values[axis.name]) for axis in axes)


def _told(card: Card, name: str, value: Value) -> str:
    covariate = card.covariate(name)
    number = value if isinstance(value, str) else f"{value:.4g}"
    return f"{covariate.title} {number} {covariate.unit}".rstrip()


def film(
    renderer: Renderer, request: Request, axes: Sequence[Axis]
) -> Generator[Progress, None, Film]:
    """Render every frame; yields the progress of the whole."""
    asked = frames(request, axes)
    card = renderer.card
    resolved = tuple(renderer.resolve(one) for one in asked)  # bad values speak first
    pictures: list[Volume] = []
    for number, one in enumerate(asked):
        picture = yield from counted(renderer.render(one), number, len(asked))
        pictures.append(picture)
    swept = tuple((axis.name, float(len(axis.values))) for axis in axes)
    return Film(
        tuple(axes),
        resolved,
        tuple(pictures),
        tuple(caption(card, one, axes) for one in resolved),
        Derived("sweep", swept, resolved),
        tuple(card.covariate(axis.name).unit for axis in axes),
    )

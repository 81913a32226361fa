"""Sweeps: the same brain while a condition, a direction or the noise changes."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.contrast import counted
from napari_brainldm.engine.request import Derived, EngineError, Request, Value, redrawn
from napari_brainldm.engine.volume import Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.renderer import Progress, Renderer

MOST = 400
"""Pictures in one sweep: more would fill the memory of a laptop."""


CONDITION, DIRECTION, SEED = "condition", "direction", "seed"
"""What an axis can go through."""


@dataclass(frozen=True)
class Axis:
    """What goes through its values.

    Attributes
    ----------
    name
        Of the condition or the direction; of seeds it is only for people.
    values
        In its own unit; SD along a direction.
    kind
        CONDITION, DIRECTION or SEED. Other seeds of a scan are variations of it.
    """

    name: str
    values: tuple[Value, ...]
    kind: str = CONDITION

    @classmethod
    def between(
        cls, name: str, low: float, high: float, count: int, kind: str = CONDITION
    ) -> Axis:
        """`count` values from `low` to `high`, equally spaced; either may be larger."""
        if count < 2:
            raise EngineError(
                f"A sweep of {count} steps goes nowhere; choose 2 or more."
            )
        values = tuple(float(v) for v in np.linspace(low, high, count))
        return cls(name, values, kind)


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
            f"{names[0]} is swept twice. Choose two different things, or one."
        )
    count = int(np.prod([len(axis.values) for axis in axes])) if axes else 0
    check_count(count)
    return tuple(_under(request, axes, values) for values in _combined(axes))


def _combined(axes: Sequence[Axis]) -> list[tuple[Value, ...]]:
    return list(itertools.product(*(axis.values for axis in axes)))


def _under(request: Request, axes: Sequence[Axis], values: Sequence[Value]) -> Request:
    for axis, value in zip(axes, values, strict=True):
        request = _varied(request, axis, value)
    return request


def _varied(request: Request, axis: Axis, value: Value) -> Request:
    if axis.kind == CONDITION:
        conditions = request.conditions.with_values({axis.name: value})
        return replace(request, conditions=conditions)
    if axis.kind == DIRECTION:
        shift = dict(request.shift) | {axis.name: float(value)}
        return replace(request, shift=tuple(sorted(shift.items())))
    return redrawn(request, int(value))


def _caption(card: Card, axes: Sequence[Axis], values: Sequence[Value]) -> str:
    """What is swept, in the words of one frame, such as "Age 64 years"."""
    told = (_told(card, a, v) for a, v in zip(axes, values, strict=True))
    return ", ".join(told)


def _told(card: Card, axis: Axis, value: Value) -> str:
    title, unit = _titled(card, axis)
    number = value if isinstance(value, str) else f"{value:.4g}"
    return f"{title} {number} {unit}".rstrip()


def _titled(card: Card, axis: Axis) -> tuple[str, str]:
    """Title and unit of what `axis` goes along."""
    if axis.kind == SEED:
        return "Seed", ""
    if axis.kind == DIRECTION:
        direction = card.direction(axis.name)
        return direction.title, direction.unit
    covariate = card.covariate(axis.name)
    return covariate.title, covariate.unit


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
        tuple(_caption(card, axes, values) for values in _combined(axes)),
        Derived("sweep", swept, resolved),
        tuple(_titled(card, axis)[1] for axis in axes),
    )

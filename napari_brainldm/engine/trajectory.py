"""Where a scan lies among the training people, and how an edit moves it.

The plane is that of a linear discriminant analysis of the training codes (Lozupone
2025, Figure 5); the axes are those of the directions' probes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.codes import Code, along, meaning
from napari_brainldm.engine.request import Later, Request

if TYPE_CHECKING:
    from torch import Tensor

    from napari_brainldm.engine.checkpoint import Checkpoint


@dataclass(frozen=True)
class Place:
    """Where a code lies.

    Attributes
    ----------
    point
        In the plane, SD of the training people within their groups.
    values
        What each direction's probe says: log odds, or the value in its own unit.
    """

    point: tuple[float, float]
    values: Mapping[str, float]


@dataclass(frozen=True)
class Crowd:
    """A group of training people in the plane.

    Attributes
    ----------
    name, count
        Of the group, and how many they were.
    centre
        Their mean.
    radii, degrees
        Of the ellipse of one SD: along its long and short axis, and how far the long
        one is turned from the first axis of the plane.
    """

    name: str
    count: int
    centre: tuple[float, float]
    radii: tuple[float, float]
    degrees: float


def place(checkpoint: Checkpoint, code: Code, request: Request) -> Place:
    """Where `code` lies once `request` moved it: by its shift, and by a forecast.

    Raises
    ------
    EngineError
        If the code has no semantic part, or a direction is not known.
    """
    normal = _moved(checkpoint, code, request)
    point = normal @ checkpoint.tensors["plane.axes"].T
    return Place((float(point[0]), float(point[1])), _values(checkpoint, normal))


def readings(checkpoint: Checkpoint, code: Code, request: Request) -> dict[str, float]:
    """What each direction's probe says of `code` once `request` moved it.

    As `Place.values`, of a checkpoint that need not have a plane. Raises as `place`.
    """
    return _values(checkpoint, _moved(checkpoint, code, request))


def _moved(checkpoint: Checkpoint, code: Code, request: Request) -> Tensor:
    """The normalised code (E,) that `request` moved."""
    card, tensors = checkpoint.card, checkpoint.tensors
    steps = [
        (tensors[f"direction.{card.direction(name).name}.move"], amount)
        for name, amount in request.shift
    ]
    if isinstance(request.origin, Later):
        step = checkpoint.yearly(request.origin.person)
        steps.append((step, request.origin.years))
    moved = along(meaning(code, "A place among people"), steps)[0].cpu()
    return (moved - tensors["semantic.mean"]) / tensors["semantic.std"]


def _values(checkpoint: Checkpoint, normal: Tensor) -> dict[str, float]:
    tensors = checkpoint.tensors
    return {
        d.name: float(
            normal @ tensors[f"direction.{d.name}.weight"]
            + tensors[f"direction.{d.name}.bias"]
        )
        for d in checkpoint.card.directions
    }


def crowds(checkpoint: Checkpoint) -> tuple[Crowd, ...]:
    """The groups that the plane of `checkpoint` tells apart."""
    plane = checkpoint.card.plane
    if plane is None:
        return ()
    centres, spreads = (
        checkpoint.tensors[f"plane.{n}"] for n in ("centres", "spreads")
    )
    told = zip(plane.groups, plane.counts, centres, spreads, strict=True)
    return tuple(_crowd(name, count, c, s) for name, count, c, s in told)


def _crowd(name: str, count: int, centre: Tensor, spread: Tensor) -> Crowd:
    sizes, axes = np.linalg.eigh(spread.double().numpy())
    long = axes[:, 1]
    return Crowd(
        name,
        count,
        (float(centre[0]), float(centre[1])),
        (float(np.sqrt(sizes[1])), float(np.sqrt(sizes[0]))),
        float(np.degrees(np.arctan2(long[1], long[0]))),
    )

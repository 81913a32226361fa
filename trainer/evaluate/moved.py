"""What a direction does to volumes, measured: LDAE's Figures 6 and 7 in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.measure import measure
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Request, Sampler, Scan
from napari_brainldm.engine.volume import Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.segment import Segmenter
    from napari_brainldm.engine.volume import Array

AMOUNTS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""In SD along the direction."""

GROWS, SHRINKS = "ventricles", "hippocampus"
"""Towards Alzheimer's disease."""


@dataclass(frozen=True)
class Moved:
    """Volumes in ml of one person at each of the amounts."""

    ventricles: tuple[float, ...]
    hippocampus: tuple[float, ...]


def moved(
    renderer: Renderer,
    segmenter: Segmenter,
    picture: Array,
    direction: str,
    steps: int,
    amounts: Sequence[float] = AMOUNTS,
) -> Moved:
    """A scan (i, j, k) at each amount along `direction`, measured."""
    found = [
        measure(segmenter.segment(Volume(data, renderer.card.grid.matrix)))
        for data in along(renderer, picture, direction, steps, amounts)
    ]
    return Moved(
        tuple(one.ventricles for one in found),
        tuple(one.hippocampus for one in found),
    )


def along(
    renderer: Renderer,
    picture: Array,
    direction: str,
    steps: int,
    amounts: Sequence[float],
) -> list[Array]:
    """The scan (i, j, k), rebuilt and moved by each of `amounts`."""
    origin, sampler = Scan(renderer.keep(picture)), Sampler("ddim", steps)
    requests = [
        Request(origin=origin, shift=((direction, amount),), sampler=sampler)
        for amount in amounts
    ]
    return [finish(renderer.render(request)).data for request in requests]


def monotone(found: Sequence[Moved]) -> dict[str, float]:
    """Share of people whose ventricles grow, whose hippocampi shrink, and both."""
    grows = np.array([np.diff(one.ventricles).min() > 0 for one in found])
    shrinks = np.array([np.diff(one.hippocampus).max() < 0 for one in found])
    return {
        "ventricles grow": float(grows.mean()),
        "hippocampus shrinks": float(shrinks.mean()),
        "both": float((grows & shrinks).mean()),
    }


def curve(
    found: Sequence[Moved], amounts: Sequence[float] = AMOUNTS
) -> list[dict[str, str | float]]:
    """Mean volumes, and their change from amount 0 in percent, per amount."""
    tables = {
        name: np.array([getattr(one, name) for one in found])
        for name in (GROWS, SHRINKS)
    }
    rows: list[dict[str, str | float]] = []
    for column, amount in enumerate(amounts):
        row: dict[str, str | float] = {"amount (SD)": amount, "n": float(len(found))}
        for name, table in tables.items():
            row[f"{name} ml"] = float(table[:, column].mean())
            change = table[:, column] / table[:, 0] - 1
            row[f"{name} change %"] = float(100 * change.mean())
        rows.append(row)
    return rows

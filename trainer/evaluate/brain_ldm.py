"""The table of a brain LDM: rebuilt held-out brains, and conditions asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Conditions, Request, Sampler, Seed
from napari_brainldm.engine.volume import Array
from trainer.evaluate.similarity import psnr, ssim

if TYPE_CHECKING:
    from trainer.evaluate.meter import Meter


@dataclass(frozen=True, eq=False)
class Unseen:
    """A held-out scan: the picture (i, j, k), its noise-free truth, its covariates."""

    picture: Array
    truth: Array
    conditions: Conditions


@dataclass(frozen=True)
class Asked:
    """One generated picture: conditions asked for, volumes measured in ml."""

    conditions: Conditions
    measured: dict[str, float] = field(default_factory=dict)


def rebuilt_figures(renderer: Renderer, unseen: Sequence[Unseen]) -> dict[str, float]:
    """SSIM and PSNR of the autoencoder against the noise-free truth.

    Beside them the noise ceiling: the same figures of the picture itself, which is what
    the autoencoder was given.
    """
    rows = [_rebuilt_row(renderer, one) for one in unseen]
    return {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}


def _rebuilt_row(renderer: Renderer, one: Unseen) -> dict[str, float]:
    brain = one.truth > 0
    row = {}
    for name, picture in (
        ("rebuilt", renderer.rebuild(one.picture)),
        ("input", one.picture),
    ):
        row[f"{name}_ssim_grid"], row[f"{name}_ssim_brain"] = ssim(
            picture, one.truth, brain
        )
        row[f"{name}_psnr_brain"] = psnr(picture, one.truth, brain)
    return row


def ask(
    renderer: Renderer, meter: Meter, wanted: Sequence[Conditions], sampler: Sampler
) -> Iterator[Asked]:
    """Make one picture per entry of `wanted` (seeds 0, 1, ...) and measure it."""
    for seed, conditions in enumerate(wanted):
        request = Request(conditions, Seed(seed), (), sampler)
        yield Asked(conditions, meter.read(finish(renderer.render(request)).data))


def condition_figures(asked: Sequence[Asked]) -> dict[str, float]:
    """Pearson r, slope and mean absolute error in ml, asked against measured."""
    found: dict[str, float] = {}
    for name in asked[0].measured:
        x = np.array([float(a.conditions.as_dict()[name]) for a in asked])
        y = np.array([a.measured[name] for a in asked])
        found |= _agreement(name, x, y)
    return found


def ceiling_figures(meter: Meter, unseen: Sequence[Unseen]) -> dict[str, float]:
    """The same figures for held-out scans: what the meter itself can reach."""
    asked = [Asked(one.conditions, meter.read(one.picture)) for one in unseen]
    return {f"meter_{k}": v for k, v in condition_figures(asked).items()}


def _agreement(name: str, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    return {
        f"{name}_r": float(np.corrcoef(x, y)[0, 1]),
        f"{name}_slope": float(np.polyfit(x, y, 1)[0]),
        f"{name}_mae_ml": float(np.abs(y - x).mean()),
    }


def sweep(
    renderer: Renderer, meter: Meter, name: str, values: Sequence[float], seeds: int
) -> list[float]:
    """Measured `name` in ml at each asked value, mean over seeds 0 .. seeds - 1."""
    means = []
    for value in values:
        wanted = [Conditions.of({name: value})] * seeds
        asked = ask(renderer, meter, wanted, Sampler())
        means.append(float(np.mean([a.measured[name] for a in asked])))
    return means

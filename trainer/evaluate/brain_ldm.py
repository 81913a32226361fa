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
    the autoencoder was given. Left out where a picture is its own truth.
    """
    rows = [_rebuilt_row(renderer, one) for one in unseen]
    shared = [k for k in rows[0] if all(k in row for row in rows)]
    return {k: float(np.mean([row[k] for row in rows])) for k in shared}


def _rebuilt_row(renderer: Renderer, one: Unseen) -> dict[str, float]:
    brain = one.truth > 0
    pictures = {"rebuilt": renderer.rebuild(one.picture)}
    if one.truth is not one.picture:
        pictures["input"] = one.picture
    row = {}
    for name, picture in pictures.items():
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
        f"{name}_r": _r(x, y),
        f"{name}_slope": float(np.polyfit(x, y, 1)[0]),
        f"{name}_mae_ml": float(np.abs(y - x).mean()),
    }


def readout_figures(
    renderer: Renderer, unseen: Sequence[Unseen], pictures: int
) -> dict[str, float]:
    """Age and sex as the card's linear read-out sees them.

    `readout_age_r` over held-out scans is the ceiling, `asked_age_r` over generated
    pictures (asked against read), `age_swing_years` the change read from age 30 to 80.
    """
    truth = np.array([renderer.card.vector(one.conditions) for one in unseen])
    read = np.array([readout(renderer, one.picture) for one in unseen])
    made = [
        _made(renderer, unseen[n % len(unseen)].conditions, n) for n in range(pictures)
    ]
    asked = truth[np.arange(pictures) % len(unseen)]
    seen = np.array([readout(renderer, picture) for picture in made])
    age, sex = (_place(renderer, name) for name in ("age", "sex"))
    ends = [Conditions.of({"age": years}) for years in (30.0, 80.0)]
    young, old = (readout(renderer, _made(renderer, end, 1))[age] for end in ends)
    covariate = renderer.card.covariate("age")
    return {
        "readout_age_r": _r(truth[:, age], read[:, age]),
        "asked_age_r": _r(asked[:, age], seen[:, age]),
        "readout_sex_accuracy": float(((read[:, sex] > 0.5) == truth[:, sex]).mean()),
        "asked_sex_accuracy": float(((seen[:, sex] > 0.5) == asked[:, sex]).mean()),
        "age_swing_years": float(old - young) * (covariate.high - covariate.low),
    }


def readout(renderer: Renderer, picture: Array) -> np.ndarray:
    """The condition vector that the card's linear read-out sees in `picture`."""
    probe = renderer.checkpoint.part("probe")
    latent = renderer.latent_of(picture).ravel() * renderer.card.latent_scale
    found: np.ndarray = probe["weight"].numpy() @ latent + probe["bias"].numpy()
    return found


def _made(renderer: Renderer, conditions: Conditions, seed: int) -> Array:
    return finish(renderer.render(Request(conditions, Seed(seed)))).data


def _place(renderer: Renderer, name: str) -> int:
    return [c.name for c in renderer.card.vocabulary].index(name)


def _r(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1])


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

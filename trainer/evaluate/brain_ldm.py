"""The table of a brain LDM: rebuilt held-out brains, and conditions asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.measure import measure, normalised_brain
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Conditions, Request, Sampler, Seed
from napari_brainldm.engine.similarity import psnr, ssim
from napari_brainldm.engine.volume import Array, Volume
from trainer.evaluate.metrics.fidelity import Series, fidelity, pearson

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.segment import Segmenter
    from trainer.evaluate.readers import Readers


@dataclass(frozen=True, eq=False)
class Unseen:
    """A held-out scan: the picture (i, j, k), its noise-free truth, its covariates."""

    picture: Array
    truth: Array
    conditions: Conditions


@dataclass(frozen=True, eq=False)
class Asked:
    """One picture (i, j, k): conditions asked for, volumes measured in ml."""

    conditions: Conditions
    measured: dict[str, float]
    picture: Array


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
    renderer: Renderer,
    segmenter: Segmenter,
    wanted: Sequence[Conditions],
    sampler: Sampler,
    first_seed: int = 0,
) -> Iterator[Asked]:
    """Make one picture per entry of `wanted`, seeds counting up, and measure it."""
    for seed, conditions in enumerate(wanted, start=first_seed):
        picture = finish(renderer.render(Request(conditions, Seed(seed), (), sampler)))
        yield Asked(
            renderer.card.complete(conditions),
            measured(segmenter, renderer.card, picture.data),
            picture.data,
        )


def measured(segmenter: Segmenter, card: Card, picture: Array) -> dict[str, float]:
    """The volume conditions of `card` in ml, as they are in a picture (i, j, k)."""
    found = measure(segmenter.segment(Volume(picture, card.grid.matrix)))
    return {
        "ventricles": found.ventricles,
        "brain": normalised_brain(found, card.head_size),
    }


def seen(segmenter: Segmenter, card: Card, unseen: Sequence[Unseen]) -> list[Asked]:
    """Held-out scans as if they had been asked for: the segmenter's own ceiling."""
    return [
        Asked(one.conditions, measured(segmenter, card, one.picture), one.picture)
        for one in unseen
    ]


def condition_figures(asked: Sequence[Asked]) -> dict[str, float]:
    """Agreement of volumes asked for and measured: r, slope, intercept, error in ml."""
    found: dict[str, float] = {}
    for name in asked[0].measured:
        x = np.array([float(a.conditions.as_dict()[name]) for a in asked])
        y = np.array([a.measured[name] for a in asked])
        figures = fidelity(Series(x, y), "ml").items()
        found |= {f"{name}_{k}": v for k, v in figures}
    return found


def reader_figures(readers: Readers, asked: Sequence[Asked]) -> dict[str, float]:
    """Age and sex asked for against those that `readers` see."""
    conditions = [a.conditions.as_dict() for a in asked]
    age, sex = readers.read([a.picture for a in asked])
    asked_age = np.array([float(c["age"]) for c in conditions])
    asked_sex = np.array([str(c["sex"]) for c in conditions])
    return {
        "age_r": pearson(asked_age, age),
        "age_mae_years": float(np.abs(age - asked_age).mean()),
        "sex_accuracy": float((sex == asked_sex).mean()),
    }


def sweep(
    renderer: Renderer,
    segmenter: Segmenter,
    name: str,
    codes: Sequence[float],
    seeds: int,
) -> list[float]:
    """Measured `name` in ml at normalised values `codes`, mean over the same seeds.

    Codes below 0 and above 1 lie outside the training range (Pinaya 2022, Figure 4).
    """
    covariate, means = renderer.card.covariate(name), []
    for code in codes:
        wanted = [Conditions.of({name: covariate.decode(code)})] * seeds
        asked = ask(renderer, segmenter, wanted, Sampler())
        means.append(float(np.mean([a.measured[name] for a in asked])))
    return means

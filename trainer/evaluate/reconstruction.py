"""How well a scan comes back: LDAE's Table 6, and what the code alone keeps.

Every row goes down the renderer's road with deterministic DDIM of T steps; inversion
takes as many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Origin, Request, Sampler, Scan, Variation
from napari_brainldm.engine.similarity import mse, ssim
from napari_brainldm.engine.volume import Array
from trainer.evaluate.table import means

if TYPE_CHECKING:
    from trainer.stages.features import FeatureDistance

STEPS = (10, 20, 50, 100)
"""T of the paper's table."""

PAPER_WINDOW = 3
"""Of the SSIM in the paper's table, in voxels."""

AUTOENCODER = "autoencoder alone"
PLAIN = "denoiser without a code, inverted noise"
CODED = "LDAE, inverted noise"
DRAWN = "LDAE, new noise"


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """A picture (i, j, k) made from a scan by `model` in `steps`; 0 for none."""

    model: str
    steps: int
    picture: Array


def without_code(checkpoint: Checkpoint) -> Checkpoint:
    """The same denoiser as if no semantic encoder had been trained beside it."""
    card = replace(checkpoint.card, encoder=None, directions=())
    left_out = ("encoder.", "semantic.", "direction.")
    kept = {k: v for k, v in checkpoint.tensors.items() if not k.startswith(left_out)}
    return Checkpoint(card, kept)


def with_plain(renderer: Renderer) -> tuple[Renderer, Renderer]:
    """`renderer`, and one of its denoiser alone."""
    compute = renderer.compute
    plain = without_code(renderer.checkpoint)
    return renderer, Renderer(plain, compute.device, compute.precision)


def rebuilt(
    both: tuple[Renderer, Renderer],
    number: int,
    picture: Array,
    steps: Sequence[int],
    before: str = "",
) -> Iterator[Rebuilt]:
    """A picture (i, j, k) by every model, for each number of steps.

    `both` is `with_plain`; `number` seeds new noise; `before` stands before the
    models' names.
    """
    renderer, plain = both
    yield Rebuilt(before + AUTOENCODER, 0, renderer.rebuild(picture))
    own = Scan(renderer.keep(picture))
    plain.keep(picture)
    origins: tuple[tuple[str, Renderer, Origin], ...] = (
        (PLAIN, plain, own),
        (CODED, renderer, own),
        (DRAWN, renderer, Variation(own, number)),
    )
    for count in steps:
        sampler = Sampler("ddim", count)
        for model, by, origin in origins:
            request = Request(origin=origin, sampler=sampler)
            made = finish(by.render(request)).data
            yield Rebuilt(before + model, count, made)


def likeness(
    picture: Array, truth: Array, window: int, distance: FeatureDistance | None = None
) -> dict[str, float]:
    """SSIM (whole grid, paper's window; inside the brain, 11 voxels), MSE, features."""
    brain = truth > 0
    row = {
        "SSIM": ssim(picture, truth, brain, window)[0],
        "SSIM brain": ssim(picture, truth, brain)[1],
        "MSE": mse(picture, truth),
    }
    if distance is not None:
        both = (
            torch.from_numpy(p.astype(np.float32))[None, None] for p in (picture, truth)
        )
        with torch.no_grad():
            row["feature distance"] = float(distance(*both))
    return row


Figures = tuple[str, int, dict[str, float]]
"""Model, steps, and how like its picture is to the scan."""


def figures(
    made: Iterable[Rebuilt], picture: Array, distance: FeatureDistance
) -> list[Figures]:
    """How like the pictures `made` of a scan are to it (i, j, k)."""
    return [
        (one.model, one.steps, likeness(one.picture, picture, PAPER_WINDOW, distance))
        for one in made
    ]


def table_rows(found: Iterable[Figures]) -> list[dict[str, str | float]]:
    """One row per model and number of steps, means over scans."""
    groups: dict[tuple[str, int], list[dict[str, float]]] = {}
    for model, steps, row in found:
        groups.setdefault((model, steps), []).append(row)
    return [
        {"model": model, "T": str(steps or "-"), **means(rows)}
        for (model, steps), rows in groups.items()
    ]


def own_code_share(
    renderer: Renderer, pictures: Sequence[Array], steps: int, seed: int = 0
) -> float:
    """Share of pairs in which a scan's own code comes closer to it than another's.

    Every code is decoded from the same noise, so that only the codes differ.
    """
    sampler = Sampler("ddim", steps)
    made = []
    for picture in pictures:
        origin = Variation(Scan(renderer.keep(picture)), seed)
        request = Request(origin=origin, sampler=sampler)
        made.append(finish(renderer.render(request)).data)
    errors = np.array([[np.mean((m - truth) ** 2) for m in made] for truth in pictures])
    others = ~np.eye(len(errors), dtype=bool)
    return float((np.diag(errors)[:, None] < errors)[others].mean())

"""`python -m trainer evaluate TABLE`: figures as lines and as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_brainldm.engine.checkpoint import load_checkpoint, save_checkpoint
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import EngineError, Sampler
from napari_brainldm.engine.resources import bundled_segmenter
from napari_brainldm.engine.segment import Segmenter
from trainer.data.bids import Entry, read_dataset
from trainer.data.pictures import on_grid
from trainer.data.vocabulary import conditions
from trainer.evaluate.brain_ldm import (
    Unseen,
    ask,
    condition_figures,
    rebuilt_figures,
    seen,
)

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.volume import Array
    from trainer.config import RunConfig

TABLES = ("brain-ldm",)


def evaluate(
    config: RunConfig, table: str, path: Path, n: int, release: Path | None = None
) -> Iterator[str]:
    """Measure the checkpoint `path` on the held-out subjects of the run's data.

    With `release`, also write it there in 16 bits, with the figures in its card.

    Raises
    ------
    EngineError
        If there is too little to measure, or a file cannot be read.
    """
    renderer = Renderer(load_checkpoint(path))
    dataset = read_dataset(config.data)
    _check_enough(len(dataset.held_out), n)
    unseen = [load_unseen(e, renderer.card) for e in dataset.held_out]
    _check_volumes(unseen)
    segmenter = Segmenter(load_checkpoint(bundled_segmenter()))
    ceiling = condition_figures(seen(segmenter, renderer.card, unseen))
    figures = rebuilt_figures(renderer, unseen[:n])
    figures |= {f"scans_{name}": value for name, value in ceiling.items()}
    yield from _lines(figures)
    wanted = [unseen[i % len(unseen)].conditions for i in range(n)]
    asked = list(ask(renderer, segmenter, wanted, Sampler()))
    held = condition_figures(asked)
    yield from _lines(held)
    result = {"table": table, "pictures": n, "checkpoint": renderer.checkpoint.sha256}
    target = Path(config.out) / f"evaluate-{table}.json"
    target.write_text(json.dumps(result | {"figures": figures | held}, indent=1))
    yield f"Wrote {target}"
    if release is not None:
        card = replace(renderer.card, figures=tuple((figures | held).items()))
        measured = replace(renderer.checkpoint, card=card)
        sha = save_checkpoint(measured, release, torch.float16)
        yield f"Wrote {release} (sha256 {sha})"


def _check_enough(held_out: int, n: int) -> None:
    if min(held_out, n) < 2:
        raise EngineError(
            f"{n} pictures and {held_out} held-out scans are asked for; agreement "
            "needs at least 2 of each. Raise --n, or held_out in the config."
        )


def _lines(figures: dict[str, float]) -> list[str]:
    return [f"{name:24s} {value:.4f}" for name, value in figures.items()]


def load_unseen(entry: Entry, card: Card) -> Unseen:
    """A held-out scan of a simulated cohort with its noise-free truth.

    Both are scaled by the same rule; a dataset without truth is its own.
    """
    picture = on_grid(entry.path, card.grid, card.intensity)
    return Unseen(picture, _truth(entry, card, picture), conditions(entry))


def _truth(entry: Entry, card: Card, picture: Array) -> Array:
    root = entry.path.parents[2 + bool(entry.session)]
    name = entry.path.name.replace("_T1w", "_desc-noisefree_T1w")
    inside = entry.path.parent.relative_to(root)
    path = root / "derivatives" / "noisefree" / inside / name
    return on_grid(path, card.grid, card.intensity) if path.is_file() else picture


def _check_volumes(unseen: Sequence[Unseen]) -> None:
    if not {"ventricles", "brain"} <= set(unseen[0].conditions.as_dict()):
        raise EngineError(
            "This table measures ventricles and brain, but the dataset's covariates do "
            "not hold both. Map their columns in the config."
        )

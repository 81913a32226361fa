"""What stages begin with: scans on the grid, latents of them, where files lie."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_brainldm.engine.card import Provenance
from trainer.data.latents import Latents, encode_latents, latents_path, open_latents
from trainer.data.pictures import (
    Pictures,
    model_grid,
    open_pictures,
    pictures_path,
    prepare,
)
from trainer.data.split import keep_split, split_of

if TYPE_CHECKING:
    from napari_brainldm.engine.checkpoint import Checkpoint
    from trainer.config import RunConfig
    from trainer.data.bids import Dataset, Entry


GM_STAGES = ("gm_autoencoder", "gmldm")
MODEL = (
    "autoencoder",
    "ldm",
    "ldae",
    "directions",
    "forecast",
    "preview_decoder",
    *GM_STAGES,
)
"""The stages whose checkpoints make pictures."""


def stage_path(config: RunConfig, stage: str) -> Path:
    """Where the checkpoint of `stage` lies."""
    return Path(config.out) / f"{stage}.safetensors"


def dataset_of(config: RunConfig) -> Dataset:
    """The dataset of a run, split as the run was begun."""
    return split_of(config.data, Path(config.out))


def begun(config: RunConfig) -> Dataset:
    """As `dataset_of`; from now on its split is kept."""
    return keep_split(config.data, Path(config.out))


def _cache(config: RunConfig) -> Path:
    return Path(config.out) / "cache"


def prepared(config: RunConfig, dataset: Dataset, workers: int) -> Iterator[str]:
    """Put the scans on the grid, once; yields how far that is."""
    grid, intensity = model_grid(config.data), config.data.intensity
    for entries in (dataset.train, dataset.held_out):
        for done in prepare(entries, grid, intensity, _cache(config), workers):
            if done % 50 == 0 or done == len(entries):
                yield f"Prepared {done} of {len(entries)} pictures"


def pictures_of(config: RunConfig, entries: tuple[Entry, ...]) -> Pictures:
    """The prepared pictures of `entries`."""
    grid, intensity = model_grid(config.data), config.data.intensity
    return open_pictures(entries, grid, intensity, _cache(config))


def source_of(config: RunConfig, entries: tuple[Entry, ...]) -> str:
    """Names the files of `entries` as they lie there, and what is made of them."""
    grid, intensity = model_grid(config.data), config.data.intensity
    return pictures_path(entries, grid, intensity, _cache(config)).name


def provenance(
    config: RunConfig, dataset: Dataset, stages: Sequence[str]
) -> Provenance:
    """Where weights trained on `dataset` by `stages` come from."""
    description = Path(config.data.dataset) / "dataset_description.json"
    name = Path(config.data.dataset).name  # a path may tell of people and machines
    if description.is_file():
        name = json.loads(description.read_text()).get("Name", name)
    subjects = len({e.subject for e in dataset.train})
    return Provenance(
        trained_on=f"{name}: {len(dataset.train)} scans of {subjects} subjects",
        command=f"python -m trainer train {' | '.join(stages)} (config {config.name})",
    )


def after(before: Checkpoint, made: Provenance, told: str) -> Provenance:
    """`made` of weights that began as those of `before`: under their terms, and told.

    `told` begins the sentence on where they come from.
    """
    known = before.card.provenance
    origin = f"{told} {before.card.name} ({known.trained_on or 'unknown data'})."
    return replace(made, licence=known.licence, notes=(*made.notes, origin))


def latents_of(
    config: RunConfig,
    checkpoint: Checkpoint,
    entries: tuple[Entry, ...],
    mirrored: bool,
) -> Generator[str, None, Latents]:
    """Latents of the prepared pictures of `entries`, encoded once; mirrored or not."""
    grid, intensity = model_grid(config.data), config.data.intensity
    pictures = pictures_path(entries, grid, intensity, _cache(config))
    path = latents_path(pictures, checkpoint, mirrored)
    for done in encode_latents(
        checkpoint, pictures_of(config, entries), path, mirrored
    ):
        if done % 100 == 0 or done == len(entries):
            yield f"Encoded {done} of {len(entries)} pictures"
    return open_latents(path)

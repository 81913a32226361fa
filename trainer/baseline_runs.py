"""The stages that a brain LDM is held against, from the files of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_brainldm.engine.card import Card, Covariate
from napari_brainldm.engine.request import EngineError
from trainer.data.pictures import model_grid
from trainer.data.vocabulary import vocabulary
from trainer.prepared import pictures_of, provenance
from trainer.stages.gan import LsganStage, VaeganStage
from trainer.stages.reader import ReaderStage, Told

if TYPE_CHECKING:
    from trainer.config import RunConfig
    from trainer.data.bids import Dataset, Entry
    from trainer.loop import Stage
    from trainer.loop_config import LoopConfig

READERS = {"brain_age": "age", "sex": "sex"}
"""Stage -> the covariate that it reads."""

GANS = ("lsgan", "vaegan")
BASELINES = (*READERS, *GANS)


def baseline(
    config: RunConfig, stage: str, dataset: Dataset
) -> tuple[Stage, LoopConfig]:
    """One of BASELINES on the run's data."""
    if stage in READERS:
        return _reader(config, stage, dataset)
    card, flips = _card(config, stage, dataset), config.data.flips
    train = pictures_of(config, dataset.train)
    if stage == "lsgan":
        return LsganStage(config.lsgan, card, train, flips), config.lsgan.loop
    return VaeganStage(config.vaegan, card, train, flips), config.vaegan.loop


def _reader(
    config: RunConfig, stage: str, dataset: Dataset
) -> tuple[Stage, LoopConfig]:
    settings = {"brain_age": config.brain_age, "sex": config.sex}[stage]
    covariate = _covariate(config, dataset, READERS[stage])
    train, held_out = (
        _told(config, entries, covariate.name)
        for entries in (dataset.train, dataset.held_out)
    )
    card, flips = _card(config, stage, dataset), config.data.flips
    running = ReaderStage(stage, settings, card, covariate, train, held_out, flips)
    return running, settings.loop


def _covariate(config: RunConfig, dataset: Dataset, name: str) -> Covariate:
    for found in vocabulary(config.data.covariates, dataset.train):
        if found.name == name:
            return found
    raise EngineError(
        f"The config maps no covariate {name!r}, so it cannot be learnt. Add it to "
        "[[data.covariates]]."
    )


def _told(config: RunConfig, entries: tuple[Entry, ...], name: str) -> Told:
    values = tuple(dict(entry.covariates)[name] for entry in entries)
    return Told(pictures_of(config, entries), values)


def _card(config: RunConfig, stage: str, dataset: Dataset) -> Card:
    return Card(
        kind="reader" if stage in READERS else "gan",
        name=f"{config.name}: {stage}",
        grid=model_grid(config.data),
        intensity=config.data.intensity,
        head_size=dataset.head_size,
        provenance=provenance(config, dataset, (stage,)),
    )

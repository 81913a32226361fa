"""The autoencoder of a run: trained here, or taken from elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_brainldm.engine.card import Card
from napari_brainldm.engine.checkpoint import Checkpoint, load_checkpoint
from napari_brainldm.engine.request import EngineError
from trainer.data.pictures import model_grid
from trainer.data.vocabulary import vocabulary
from trainer.prepared import MODEL, after, pictures_of, provenance, stage_path
from trainer.stages.autoencoder import AutoencoderStage, started_from

if TYPE_CHECKING:
    from trainer.config import AutoencoderConfig, RunConfig
    from trainer.data.bids import Dataset
    from trainer.loop import Stage
    from trainer.loop_config import LoopConfig


def check_trained_here(config: AutoencoderConfig) -> None:
    """Refuse, before hours of preparing, an autoencoder that cannot be trained."""
    if config.checkpoint:
        raise EngineError(
            f"This run takes the autoencoder of {config.checkpoint} as it "
            "is, so there is none to train. Go on with the stage ldm, or set "
            "autoencoder.start instead of autoencoder.checkpoint to train on from it."
        )
    started_from(config)


def autoencoder_card(config: RunConfig, dataset: Dataset) -> Card:
    """The card of an autoencoder to be, trained on `dataset`."""
    return Card(
        kind="autoencoder",
        name=config.name,
        grid=model_grid(config.data),
        autoencoder=config.autoencoder.spec,
        vocabulary=vocabulary(config.data.covariates, dataset.train),
        intensity=config.data.intensity,
        head_size=dataset.head_size,
        provenance=provenance(config, dataset, MODEL),
    )


def autoencoder(config: RunConfig, dataset: Dataset) -> tuple[Stage, LoopConfig]:
    """Training anew, or from the checkpoint that the config names."""
    card = autoencoder_card(config, dataset)
    before = started_from(config.autoencoder)
    if before is not None:
        made = after(before, card.provenance, "Its autoencoder was fine-tuned from")
        card = replace(card, provenance=made)
    train_set, unseen = (
        pictures_of(config, e) for e in (dataset.train, dataset.held_out)
    )
    stage = AutoencoderStage(
        config.autoencoder, card, train_set, unseen, config.data.flips, before
    )
    return stage, config.autoencoder.loop


def trained_autoencoder(config: RunConfig, dataset: Dataset) -> Checkpoint:
    """Of this run, or the one that its config takes from elsewhere."""
    if not config.autoencoder.checkpoint:
        return load_checkpoint(stage_path(config, "autoencoder"))
    found = load_checkpoint(Path(config.autoencoder.checkpoint))
    grid = model_grid(config.data)
    if found.card.grid != grid or found.card.autoencoder is None:
        raise EngineError(
            f"{config.autoencoder.checkpoint} has pictures of {found.card.grid.shape} "
            f"voxels and this run {grid.shape}, or no autoencoder. Take one that was "
            "trained on the same grid."
        )
    made = provenance(config, dataset, MODEL)
    card = replace(
        found.card,
        kind="autoencoder",
        name=config.name,
        denoiser=None,
        preview=None,
        vocabulary=(),
        joint=(),
        latent_centred=False,
        latent_scale=1.0,
        intensity=config.data.intensity,
        head_size=dataset.head_size,
        provenance=after(found, made, "Its autoencoder is that of"),
        figures=(),
    )
    kept = {k: v for k, v in found.tensors.items() if k.startswith("autoencoder.")}
    return Checkpoint(card, kept, found.sha256)

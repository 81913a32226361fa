"""Weights stay under the terms of the weights they were made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from napari_brainldm.engine.card import Provenance
from napari_brainldm.engine.checkpoint import Checkpoint, save_checkpoint
from napari_brainldm.engine.networks.gm_autoencoder import GrayMatterAutoencoderSpec
from napari_brainldm.engine.volume import mni_grid
from tests.trainer.toys import autoencoder_checkpoint
from trainer.autoencoder_runs import trained_autoencoder
from trainer.config import (
    AutoencoderConfig,
    DataConfig,
    GmAutoencoderConfig,
    RunConfig,
)
from trainer.data.bids import Dataset
from trainer.gm_runs import gm_card

TERMS = "Non-profit research only"
NOBODY = Dataset((), (), 0.0)


def imported(path: Path) -> Checkpoint:
    """An autoencoder of somebody else, on the grid of the run."""
    known = autoencoder_checkpoint()
    told = Provenance(trained_on="ADNI", licence=TERMS)
    card = replace(known.card, name="Theirs", grid=mni_grid(8.0), provenance=told)
    found = replace(known, card=card)
    save_checkpoint(found, path)
    return found


def test_an_autoencoder_taken_as_it_is_keeps_its_terms(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    before = imported(path)
    spec = before.card.autoencoder
    config = RunConfig(
        "Mine",
        str(tmp_path / "run"),
        DataConfig(str(tmp_path), voxel_mm=8.0),
        autoencoder=AutoencoderConfig(spec, checkpoint=str(path)),
    )
    told = trained_autoencoder(config, NOBODY).card.provenance
    assert told.licence == TERMS
    assert told.notes == ("Its autoencoder is that of Theirs (ADNI).",)


def test_fine_tuned_gray_matter_keeps_its_terms(tmp_path: Path) -> None:
    before = imported(tmp_path / "theirs.safetensors")
    config = RunConfig(
        "Mine",
        str(tmp_path / "run"),
        DataConfig(str(tmp_path), maps="*.nii.gz"),
        gm_autoencoder=GmAutoencoderConfig(GrayMatterAutoencoderSpec()),
    )
    scaled = replace(config.data.intensity, scaling="probability")
    config = replace(config, data=replace(config.data, intensity=scaled))
    assert gm_card(config, NOBODY).provenance.licence == "BSD-3-Clause"
    told = gm_card(config, NOBODY, before).provenance
    assert told.licence == TERMS
    assert told.notes == ("Fine-tuned from Theirs (ADNI).",)

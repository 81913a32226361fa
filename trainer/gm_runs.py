"""The stages of GM-LDM, from the files of a run."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_brainldm.engine.card import Card
from napari_brainldm.engine.checkpoint import Checkpoint, load_checkpoint
from napari_brainldm.engine.fnc import FncTable, Vector, join
from napari_brainldm.engine.fnc_file import read_fnc
from napari_brainldm.engine.networks.voxel_space import VoxelSpec
from napari_brainldm.engine.request import EngineError
from trainer.data.pictures import model_grid
from trainer.prepared import (
    GM_STAGES,
    after,
    latents_of,
    pictures_of,
    provenance,
    stage_path,
)
from trainer.stages.gm_autoencoder import GmAutoencoderStage
from trainer.stages.gmldm import GmLdmStage

if TYPE_CHECKING:
    from trainer.config import RunConfig
    from trainer.data.bids import Dataset, Entry
    from trainer.loop import Stage
    from trainer.loop_config import LoopConfig

CITATION = "Hu et al. 2025, https://arxiv.org/abs/2506.12719"
USE = "Research: gray matter that goes with functional connectivity."


def gm_autoencoder(config: RunConfig, dataset: Dataset) -> tuple[Stage, LoopConfig]:
    """Pre-training, or fine-tuning of the checkpoint that the config names."""
    named = config.gm_autoencoder.checkpoint
    before = load_checkpoint(Path(named)) if named else None
    stage = GmAutoencoderStage(
        config.gm_autoencoder,
        gm_card(config, dataset, before),
        pictures_of(config, dataset.train),
        pictures_of(config, dataset.held_out),
        config.data.flips,
        before,
    )
    return stage, config.gm_autoencoder.loop


def gmldm(
    config: RunConfig, dataset: Dataset
) -> Generator[str, None, tuple[Stage, LoopConfig]]:
    """The denoiser under connectivity; scans without any are left out, and told."""
    _check_maps(config)
    table = fnc_of(config)
    yield from table.notes
    yield told_of(dataset, table)
    autoencoder = _autoencoder(config, dataset)
    parts = []
    for entries in (dataset.train, dataset.held_out):
        latents = yield from latents_of(config, autoencoder, entries, False)
        kept, vectors, told = with_fnc(entries, table)
        yield told
        parts.append((latents[kept], vectors))
    stage = GmLdmStage(config.gmldm, autoencoder, parts[0], parts[1], table.components)
    return stage, config.gmldm.loop


def with_fnc(
    entries: tuple[Entry, ...], table: FncTable
) -> tuple[list[int], Vector, str]:
    """Places of the scans that have connectivity, that connectivity, and a sentence."""
    if not entries:
        return [], table.vectors[:0], "No scans are held out."
    found = join(table, [entry.subject for entry in entries])
    rows = [row for _, row in found.rows]
    told = f"{len(rows)} scans have connectivity"
    if found.without_fnc:
        told += f"; left out: {', '.join(found.without_fnc)}"
    return [place for place, _ in found.rows], table.vectors[rows], told


def told_of(dataset: Dataset, table: FncTable) -> str:
    """How many of all scans and all rows of connectivity match, and which do not."""
    scans = (*dataset.train, *dataset.held_out)
    return join(table, [entry.subject for entry in scans]).told()


def fnc_of(config: RunConfig) -> FncTable:
    """The connectivity that the config names; an EngineError where it names none."""
    if not config.data.fnc:
        raise EngineError(
            "The config names no table of functional connectivity. Set data.fnc to a "
            "file within the dataset: derivatives/fnc/fnc.csv in a simulated cohort."
        )
    data, root = config.data, Path(config.data.dataset)
    table = read_fnc(
        root / data.fnc,
        data.fnc_scale,
        data.fnc_session,
        participants=root / data.fnc_ids if data.fnc_ids else None,
        components=root / data.components if data.components else None,
    )
    if table.numbered:
        raise EngineError(
            f"{data.fnc} names no participants, only {len(table.participants)} rows. "
            "Set data.fnc_ids to a text file within the dataset with one id per row, "
            "in the same order."
        )
    return table


def _autoencoder(config: RunConfig, dataset: Dataset) -> Checkpoint:
    """Of this run, or voxel space."""
    if config.gmldm.space == "latent":
        return load_checkpoint(stage_path(config, GM_STAGES[0]))
    return voxel_space(gm_card(config, dataset))


def voxel_space(card: Card) -> Checkpoint:
    """What stands for an autoencoder where voxels are diffused."""
    return Checkpoint(replace(card, autoencoder=VoxelSpec(1)), {}, sha256="voxel-space")


def gm_card(
    config: RunConfig, dataset: Dataset, before: Checkpoint | None = None
) -> Card:
    """The card of an autoencoder to be, trained on `dataset`, perhaps after another."""
    _check_maps(config)
    made = provenance(config, dataset, GM_STAGES)
    made = replace(made, citation=CITATION, intended_use=USE)
    return Card(
        kind="autoencoder",
        name=config.name,
        grid=model_grid(config.data),
        autoencoder=config.gm_autoencoder.spec,
        intensity=config.data.intensity,
        registration=config.data.registration,
        head_size=dataset.head_size,
        provenance=made if before is None else after(before, made, "Fine-tuned from"),
    )


def _check_maps(config: RunConfig) -> None:
    if not config.data.maps or config.data.intensity.scaling != "probability":
        raise EngineError(
            "GM-LDM is trained on gray-matter maps. Set data.maps to their pattern and "
            'data.intensity.scaling = "probability" in the config.'
        )
    if config.data.covariates:
        raise EngineError(
            f"GM-LDM knows functional connectivity alone, but the config maps "
            f"{len(config.data.covariates)} covariates. Take them out of the config."
        )

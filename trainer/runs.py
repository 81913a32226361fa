"""What each command of `python -m trainer` does: generators of lines to print."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_brainldm.engine.card import Card, Provenance
from napari_brainldm.engine.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from napari_brainldm.engine.networks.voxel_space import VoxelSpec
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import mni_grid
from trainer.autoencoder_runs import (
    autoencoder,
    autoencoder_card,
    check_trained_here,
    trained_autoencoder,
)
from trainer.baseline_runs import BASELINES, baseline
from trainer.data.bids import Dataset, subjects_of
from trainer.data.cohort import write_cohort
from trainer.data.template import build_template, load_template
from trainer.data.vocabulary import conditions, joint_of, vocabulary
from trainer.gm_runs import gm_autoencoder, gmldm
from trainer.log import RunLog, duration
from trainer.loop import Stage, train, trained
from trainer.prepared import (
    MODEL,
    begun,
    latents_of,
    pictures_of,
    prepared,
    stage_path,
)
from trainer.processes import first_alone, only_first, processes
from trainer.stages.directions import encode, with_directions
from trainer.stages.forecast import people_followed, with_forecast
from trainer.stages.ldae import LdaeStage
from trainer.stages.ldm import LdmStage
from trainer.stages.plane import with_plane
from trainer.stages.preview_decoder import PreviewStage
from trainer.stages.segmenter import SegmenterStage
from trainer.stages.supervised import SupervisedStage

if TYPE_CHECKING:
    from trainer.config import RunConfig
    from trainer.data.latents import Latents
    from trainer.loop import Report
    from trainer.loop_config import LoopConfig

STAGES = ("segmenter", *MODEL, "supervised", *BASELINES)


def train_stage(
    config: RunConfig, stage: str, resume: bool, device: str, workers: int
) -> Iterator[str]:
    """Prepare the data, train `stage` and save its checkpoint into the run's folder.

    In several processes, started by `accelerate launch`, the first one prepares, logs
    and saves; lines come from it alone.
    """
    here = processes(device)
    fitted = _fitted(config, stage, workers)
    if fitted is not None:
        yield from only_first(here, fitted)
        return
    running, loop = yield from first_alone(here, _stage(config, stage, workers))
    state = stage_path(config, stage).with_suffix(".state")
    reports = train(running, loop, state, resume, device)
    if not here.is_main_process:
        for _ in reports:
            pass
    else:
        yield from _logged(config, stage, reports, resume)
    yield from only_first(here, _saved(config, running, workers))


def _fitted(config: RunConfig, stage: str, workers: int) -> Iterator[str] | None:
    """The work of a stage that has no steps; None of one that is trained."""
    if stage == "directions":
        return _directions(config, workers, "ldae", "directions")
    if stage == "forecast":
        return _forecast(config, workers)
    if stage == "autoencoder" and isinstance(config.autoencoder.spec, VoxelSpec):
        return _voxel_space(config)
    return None


def _logged(
    config: RunConfig, stage: str, reports: Iterator[Report], resume: bool
) -> Iterator[str]:
    log = RunLog(Path(config.out) / "log" / stage, resume)
    for report in reports:
        log.write(report)
        yield log.line(report)


def _saved(config: RunConfig, running: Stage, workers: int) -> Iterator[str]:
    """Write the checkpoint of a stage whose training has ended."""
    path = stage_path(config, running.name)
    yield _saved_as(path, trained(running, path.with_suffix(".state")))
    if running.name == "supervised":  # its codes are read by probes, as those of others
        yield from _directions(config, workers, running.name, running.name)


def _stage(
    config: RunConfig, stage: str, workers: int
) -> Generator[str, None, tuple[Stage, LoopConfig]]:
    if stage == "segmenter":
        return _segmenter(config)
    return (yield from _on_dataset(config, stage, workers))


def _on_dataset(
    config: RunConfig, stage: str, workers: int
) -> Generator[str, None, tuple[Stage, LoopConfig]]:
    if stage == "autoencoder":
        check_trained_here(config.autoencoder)
    dataset = begun(config)
    yield f"{len(dataset.train)} scans to train on, {len(dataset.held_out)} held out"
    yield from prepared(config, dataset, workers)
    if stage == "autoencoder":
        return autoencoder(config, dataset)
    if stage == "ldm":
        return (yield from _ldm(config, dataset))
    if stage == "ldae":
        return (yield from _ldae(config, dataset))
    if stage == "supervised":
        return _supervised(config, dataset)
    if stage in BASELINES:
        return baseline(config, stage, dataset)
    if stage == "gm_autoencoder":
        return gm_autoencoder(config, dataset)
    if stage == "gmldm":
        return (yield from gmldm(config, dataset))
    return (yield from _preview_decoder(config, dataset))


def _voxel_space(config: RunConfig) -> Iterator[str]:
    """The checkpoint of a baseline without an autoencoder: nothing is trained."""
    card = autoencoder_card(config, begun(config))
    path = stage_path(config, "autoencoder")
    sha = save_checkpoint(Checkpoint(card, {}), path)
    yield f"Voxel space, nothing to train. Saved {path} (sha256 {sha})"


def _segmenter(config: RunConfig) -> tuple[Stage, LoopConfig]:
    grid = mni_grid(config.segmenter.voxel_mm)
    card = Card(
        kind="segmenter",
        name=f"Segmenter ({config.segmenter.voxel_mm:g} mm)",
        grid=grid,
        segmenter=config.segmenter.spec,
        provenance=Provenance(
            trained_on="Simulated labels of one template brain, looks drawn at random",
            command=f"python -m trainer train segmenter (config {config.name})",
            citation="Billot et al. 2023, https://doi.org/10.1016/j.media.2023.102789",
            intended_use="Research: volumes of brain structures in T1-weighted MRI.",
        ),
    )
    stage = SegmenterStage(config.segmenter, card, build_template(grid))
    return stage, config.segmenter.loop


def last_checkpoint(config: RunConfig) -> Path:
    """The checkpoint that was trained last.

    Raises
    ------
    EngineError
        If none was.
    """
    paths = [stage_path(config, stage) for stage in MODEL]
    found = [path for path in paths if path.is_file()]
    if found:
        return max(found, key=lambda path: path.stat().st_mtime)
    raise EngineError(
        f"The run {config.out} has no checkpoint yet. Train the stages "
        f"{', '.join(MODEL)} first, or name one with --checkpoint."
    )


def _ldm(
    config: RunConfig, dataset: Dataset
) -> Generator[str, None, tuple[Stage, LoopConfig]]:
    taken = trained_autoencoder(config, dataset)
    known = vocabulary(config.data.covariates, dataset.train)
    asked = [conditions(e) for e in dataset.train]
    joint = joint_of(known, dataset.train)
    told = replace(taken.card, vocabulary=known, joint=joint)
    taken = replace(taken, card=told)
    train_set, unseen, mirrored = yield from _all_latents(config, taken, dataset)
    stage = LdmStage(
        config.ldm,
        taken,
        (train_set, asked),
        (unseen, [conditions(e) for e in dataset.held_out]),
        mirrored,
    )
    return stage, config.ldm.loop


def _ldae(
    config: RunConfig, dataset: Dataset
) -> Generator[str, None, tuple[Stage, LoopConfig]]:
    checkpoint = load_checkpoint(stage_path(config, "ldm"))
    taken = trained_autoencoder(config, dataset)
    train_set, unseen, mirrored = yield from _all_latents(config, taken, dataset)
    stage = LdaeStage(
        config.ldae,
        checkpoint,
        (pictures_of(config, dataset.train), train_set),
        (pictures_of(config, dataset.held_out), unseen),
        mirrored,
    )
    return stage, config.ldae.loop


def _supervised(config: RunConfig, dataset: Dataset) -> tuple[Stage, LoopConfig]:
    stage = SupervisedStage(
        config.supervised,
        config.ldae.encoder,
        config.directions.targets,
        autoencoder_card(config, dataset),
        (pictures_of(config, dataset.train), [dict(e.row) for e in dataset.train]),
        (
            pictures_of(config, dataset.held_out),
            [dict(e.row) for e in dataset.held_out],
        ),
        config.data.flips,
        config.ldae.backbone,
    )
    return stage, config.supervised.loop


def _directions(
    config: RunConfig, workers: int, before: str, after: str
) -> Iterator[str]:
    """Fit the probes to the stage `before`: seconds, and nothing to resume."""
    dataset = begun(config)
    yield from prepared(config, dataset, workers)
    checkpoint = load_checkpoint(stage_path(config, before))
    parts = []
    for entries in (dataset.train, dataset.held_out):
        codes = encode(checkpoint, pictures_of(config, entries))
        parts.append((codes, [dict(e.row) for e in entries]))
        yield f"Encoded {len(entries)} pictures"
    found = with_directions(config.directions, checkpoint, parts[0], parts[1])
    found = with_plane(found, config.directions.targets, parts[0])
    for direction in found.card.directions:
        told = "  ".join(f"{name} {value:.4g}" for name, value in direction.figures)
        yield f"{direction.name}: {told}"
    yield _saved_as(stage_path(config, after), found)


def _saved_as(path: Path, found: Checkpoint) -> str:
    return f"Saved {path} (sha256 {save_checkpoint(found, path)})"


def _forecast(config: RunConfig, workers: int) -> Iterator[str]:
    """Fit the forecast to people followed over years: seconds once they are read."""
    unseen = subjects_of(begun(config).held_out)
    dataset = people_followed(config.data, config.forecast, unseen)
    yield from prepared(config, dataset, workers)
    checkpoint = load_checkpoint(stage_path(config, "directions"))
    pictures = pictures_of(config, dataset.train)
    codes = encode(checkpoint, pictures)
    asked = vocabulary(config.forecast.covariates, dataset.train)
    found = with_forecast(checkpoint, asked, dataset.train, codes)
    yield _saved_as(stage_path(config, "forecast"), found)


def _preview_decoder(
    config: RunConfig, dataset: Dataset
) -> Generator[str, None, tuple[Stage, LoopConfig]]:
    checkpoint = load_checkpoint(stage_path(config, "ldm"))
    # the latents are named by the autoencoder's checkpoint, which the ldm keeps
    taken = trained_autoencoder(config, dataset)
    train_set = yield from latents_of(config, taken, dataset.train, False)
    unseen = yield from latents_of(config, taken, dataset.held_out, False)
    stage = PreviewStage(config.preview_decoder, checkpoint, train_set, unseen)
    return stage, config.preview_decoder.loop


def _all_latents(
    config: RunConfig, taken: Checkpoint, dataset: Dataset
) -> Generator[str, None, tuple[Latents, Latents, Latents | None]]:
    """Of the training scans, of the held-out ones, and mirrored ones if wished."""
    train_set = yield from latents_of(config, taken, dataset.train, False)
    unseen = yield from latents_of(config, taken, dataset.held_out, False)
    mirrored = None
    if config.data.flips:
        mirrored = yield from latents_of(config, taken, dataset.train, True)
    return train_set, unseen, mirrored


def write(config: RunConfig, out: str, template: str, workers: int) -> Iterator[str]:
    """Write the simulated cohort of `config` into `out`."""
    pack = load_template(Path(template)) if template else None
    started, first = time.perf_counter(), None
    for progress in write_cohort(config.cohort, Path(out), workers, pack):
        first = progress.done if first is None else first
        if progress.done % 20 == 0 or progress.done == progress.total:
            each = (time.perf_counter() - started) / max(progress.done - first, 1)
            left = duration(each * (progress.total - progress.done))
            yield f"{progress.done} of {progress.total} subjects, {left} left"

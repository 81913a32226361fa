"""The five models of GM-LDM's table, trained fold by fold (Hu 2025, Table 1).

Everything that is trained or measured has a file of its own in the folder of its fold,
written when it is whole: a run that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from napari_brainldm.engine.components import Components
from napari_brainldm.engine.fnc import Vector
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import EngineError
from trainer.data.bids import Dataset, read_dataset
from trainer.data.pictures import Pictures
from trainer.gm_runs import fnc_of, gm_card, voxel_space, with_fnc
from trainer.log import RunLog
from trainer.loop import train, trained
from trainer.prepared import pictures_of, prepared
from trainer.stages.gm_autoencoder import GmAutoencoderStage, fits
from trainer.stages.gmldm import GmLdmStage

if TYPE_CHECKING:
    from trainer.config import RunConfig
    from trainer.data.latents import Latents
    from trainer.gm_config import GmLdmConfig, GmTableConfig
    from trainer.loop import Stage
    from trainer.loop_config import LoopConfig

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Arm:
    """One row of the table.

    Attributes
    ----------
    space, condition
        As in the config of the stage gmldm.
    pretrained
        Whether its autoencoder was trained on another dataset before.
    paper
        Pearson correlation that the paper found.
    """

    name: str
    space: str
    pretrained: bool
    condition: str
    paper: float


ARMS = (
    Arm("Baseline-1", "voxel", False, "random", 0.78),
    Arm("Baseline-2", "latent", False, "random", 0.79),
    Arm("Comparison-2", "latent", False, "fnc", 0.83),
    Arm("Comparison-1", "latent", True, "random", 0.86),
    Arm("GM-LDM", "latent", True, "fnc", 0.89),
)
"""In the order of the paper's figures."""


@dataclass(frozen=True, eq=False)
class People:
    """All scans that have connectivity.

    Attributes
    ----------
    subjects
        Whose each of the N scans is.
    pictures, vectors
        Maps (N, i, j, k) and connectivity (N, p), Fisher z.
    """

    dataset: Dataset
    subjects: tuple[str, ...]
    pictures: Pictures
    vectors: Vector
    components: Components


@dataclass(frozen=True, eq=False)
class Fold:
    """One part held out.

    Attributes
    ----------
    number
        From 1.
    held
        bool (N,): the scans of the people held out.
    folder
        Of its files.
    """

    number: int
    held: Mask
    folder: Path


def read_people(config: RunConfig) -> Generator[str, None, People]:
    """The dataset of `config`, nobody held out yet."""
    dataset = read_dataset(replace(config.data, held_out=0.0))
    table = fnc_of(config)
    places, vectors, told = with_fnc(dataset.train, table)
    yield told
    dataset = replace(dataset, train=tuple(dataset.train[n] for n in places))
    yield from prepared(config, dataset, 2)
    subjects = tuple(entry.subject for entry in dataset.train)
    pictures = pictures_of(config, dataset.train)
    return People(dataset, subjects, pictures, vectors, table.components)


def folds_of(people: People, table: GmTableConfig, out: Path) -> list[Fold]:
    """The people dealt into parts by subject, each held out once."""
    held = dealt(people.subjects, table.folds, table.seed)
    return [
        Fold(number, mask, out / f"fold-{number}")
        for number, mask in enumerate(held, start=1)
    ]


def dealt(subjects: Sequence[str], folds: int, seed: int) -> list[Mask]:
    """Which scans (N,) of `subjects` each of `folds` parts holds out.

    All scans of a subject are in one part; parts differ by one subject at most.

    Raises
    ------
    EngineError
        If there are fewer than two subjects for each part.
    """
    names = sorted(set(subjects))
    if len(names) < 2 * folds:
        raise EngineError(
            f"{len(names)} subjects cannot be dealt into {folds} parts of at least two "
            "people. Add subjects, or lower gm_table.folds in the config."
        )
    order = np.random.default_rng(seed).permutation(len(names))
    part = {names[n]: place % folds for place, n in enumerate(order)}
    parts = np.array([part[name] for name in subjects])
    return [parts == number for number in range(folds)]


def before_of(config: RunConfig) -> Checkpoint:
    """The pre-trained autoencoder that the rows with one begin with.

    Raises
    ------
    EngineError
        If the config names none, or it has other sizes within.
    """
    known = config.gm_autoencoder.checkpoint
    if not known:
        raise EngineError(
            "The table compares with a pre-trained autoencoder, but the config names "
            "none. Set gm_autoencoder.checkpoint to one of the stage gm_autoencoder, "
            "of another dataset."
        )
    before = load_checkpoint(Path(known))
    fits(config.gm_autoencoder.spec, before)
    return before


class FoldTrainer:
    """Trains the models of one fold, each once, on everybody who is not held out."""

    def __init__(self, config: RunConfig, people: People, fold: Fold) -> None:
        self.config, self.people, self.fold = config, people, fold
        fold.folder.mkdir(parents=True, exist_ok=True)
        entries = people.dataset.train
        left = tuple(e for e, out in zip(entries, fold.held, strict=True) if not out)
        self._dataset = replace(people.dataset, train=left)
        self._latents: dict[str, Latents] = {}

    def autoencoder(self, pretrained: bool) -> Generator[str, None, Checkpoint]:
        """Of the training people alone, or begun with the weights of another dataset.

        Both see the same steps of the same people.
        """
        name = "autoencoder, pre-trained" if pretrained else "autoencoder"
        path = self._path(name)
        if not path.is_file():
            before = before_of(self.config) if pretrained else None
            pictures, held = self.people.pictures, self.fold.held
            stage = GmAutoencoderStage(
                self.config.gm_autoencoder,
                gm_card(self.config, self._dataset, before),
                pictures[~held],
                pictures[held],
                self.config.data.flips,
                before,
            )
            loop = self.config.gm_autoencoder.loop
            yield from self._trained(stage, loop, name)
        return load_checkpoint(path)

    def model(self, arm: Arm) -> Generator[str, None, Checkpoint]:
        """The denoiser of `arm` on its autoencoder, or on voxels."""
        path = self._path(arm.name)
        if not path.is_file():
            if arm.space == "voxel":
                coder = voxel_space(gm_card(self.config, self._dataset))
            else:
                coder = yield from self.autoencoder(arm.pretrained)
            config = variant(self.config.gmldm, arm, self.config.gm_table)
            latents, held = self._encoded(coder), self.fold.held
            vectors = self.people.vectors
            stage = GmLdmStage(
                config,
                coder,
                (latents[~held], vectors[~held]),
                (latents[held], vectors[held]),
                self.people.components,
            )
            yield from self._trained(stage, config.loop, arm.name)
        return load_checkpoint(path)

    def _encoded(self, coder: Checkpoint) -> Latents:
        """Latents of everybody, kept while the fold is at work."""
        if coder.sha256 not in self._latents:
            renderer = Renderer(coder, precision="float32")
            found = [renderer.latent_of(_single(p)) for p in self.people.pictures]
            self._latents[coder.sha256] = np.stack(found)
        return self._latents[coder.sha256]

    def _path(self, name: str) -> Path:
        return self.fold.folder / f"{name.replace(', ', '-')}.safetensors"

    def _trained(self, stage: Stage, loop: LoopConfig, name: str) -> Iterator[str]:
        """Train `stage`, or go on with it; its state goes when its checkpoint is."""
        path = self._path(name)
        state = path.with_suffix(".state")
        for report in train(stage, loop, state, resume=True):
            yield f"fold {self.fold.number}, {name}: {RunLog.line(report)}"
        save_checkpoint(trained(stage, state), path)
        state.unlink()


def variant(config: GmLdmConfig, arm: Arm, table: GmTableConfig) -> GmLdmConfig:
    """`config` as `arm` has it; all that the names of the rows do not say is alike.

    But for the prior: the row in voxel space is plain diffusion, as the paper's is. A
    Gaussian of voxels would make maps of principal components by itself.
    """
    settings: dict[str, Any] = {"condition": arm.condition, "space": arm.space}
    if arm.condition == "random":
        settings["prior_codes"] = 0
    if arm.space == "voxel":
        settings["spec"] = replace(config.spec, patch=table.patch)
        settings["prior_rank"] = 0
    return replace(config, **settings)


def _single(picture: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(picture, np.float32)

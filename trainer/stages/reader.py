"""Stages brain_age and sex: a 3D CNN reads a covariate in a picture (Cole 2017).

Trained on the same scans as the generative model, as Pinaya 2022 did, to see whether
pictures look as old as they were asked to be. Its agreement on held-out scans is the
ceiling of what it can say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.networks.reader import Reader, ReaderSpec
from napari_brainldm.engine.request import EngineError
from trainer.data.pictures import Pictures
from trainer.evaluate.metrics.fidelity import pearson
from trainer.loop import Batch, Losses, Player

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card, Covariate
    from napari_brainldm.engine.volume import Array
    from trainer.baseline_config import ReaderConfig

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Told:
    """Pictures (N, i, j, k) in [0, 1] and what the table says of them (N,)."""

    pictures: Pictures
    values: tuple[float | str, ...]


class ReaderStage:
    """Absolute error for a number, cross-entropy for two categories.

    Parameters
    ----------
    name
        "brain_age" or "sex".
    card
        Grid and provenance of the run.
    covariate
        What is read; of the run's vocabulary.
    flips
        Mirror half of the samples left to right.
    """

    def __init__(
        self,
        name: str,
        config: ReaderConfig,
        card: Card,
        covariate: Covariate,
        train: Told,
        held_out: Told,
        flips: bool,
    ) -> None:
        self.name, self.config, self.flips = name, config, flips
        self.spec = _spec(config, card, covariate, train)
        self.card = replace(card, network=self.spec)
        self.train, self.unseen = train, held_out
        self.truth = _codes(self.spec, train.values)
        self.count = len(train.values)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            network = self.spec.build()
        self.players: tuple[Player, ...] = (Player(name, network, self._loss),)

    def _loss(
        self, network: nn.Module, items: Batch, _: Any, __: int
    ) -> tuple[Losses, None]:
        device = next(network.parameters()).device
        x = torch.stack([self._sample(item.index, item.seed) for item in items])
        said = network(x.to(device)).float()
        truth = self.truth[[item.index for item in items]].to(device)
        if self.spec.categories:
            error = functional.binary_cross_entropy_with_logits(said, truth)
        else:
            error = functional.l1_loss(said, truth)
        return {self.spec.reads: error}, None

    def _sample(self, index: int, seed: int) -> Tensor:
        """(1, i, j, k), mirrored and moved as `seed` says."""
        x = torch.from_numpy(np.asarray(self.train.pictures[index], np.float32))
        if self.flips and seed % 2:
            x = x.flip(0)
        most = self.config.shift
        moved = np.random.default_rng(seed).integers(-most, most + 1, 3)
        # the background is 0 on all sides, so that what leaves comes in as 0
        return torch.roll(x, tuple(int(n) for n in moved), (0, 1, 2))[None]

    def held_out(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """R and error in the covariate's unit, or accuracy, of held-out scans."""
        if len(self.unseen.values) < 2:
            return {}
        network = self.spec.build()
        network.load_state_dict(dict(weights))
        device = next(iter(weights.values())).device
        said = _read(network.to(device), self.spec, self.unseen.pictures)
        return agreement_of(self.spec, said, self.unseen.values)

    def pictures(self, weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """There is nothing to look at."""
        return {}

    def finish(self, weights: Mapping[str, Tensor]) -> Checkpoint:
        """A checkpoint of the kind "reader"."""
        return Checkpoint(
            self.card, {f"network.{k}": v.cpu().float() for k, v in weights.items()}
        )


def _spec(
    config: ReaderConfig, card: Card, covariate: Covariate, train: Told
) -> ReaderSpec:
    least = 2 ** len(config.channels)
    if min(card.grid.shape) < least or len(covariate.categories) not in (0, 2):
        raise EngineError(
            f"{covariate.name} cannot be read in pictures of {card.grid.shape} voxels: "
            f"at least {least} along every axis are needed, and a number or two "
            "categories. Take fewer channels, or another covariate."
        )
    spec = ReaderSpec(
        card.grid.shape,
        config.channels,
        covariate.name,
        covariate.categories,
    )
    if covariate.categories:
        return spec
    values = np.array([float(v) for v in train.values])
    return replace(spec, mean=float(values.mean()), spread=float(values.std()))


def _codes(spec: ReaderSpec, values: Iterable[float | str]) -> Tensor:
    """What the network is to say (N,)."""
    if spec.categories:
        return torch.tensor([float(spec.categories.index(str(v))) for v in values])
    return torch.tensor([(float(v) - spec.mean) / spec.spread for v in values])


@torch.no_grad()
def _read(network: nn.Module, spec: ReaderSpec, pictures: Iterable[Array]) -> Floats:
    """Values in the covariate's unit, or probabilities of the second category (N,)."""
    network.eval()
    device = next(network.parameters()).device
    said = [
        float(
            network(torch.from_numpy(np.asarray(p, np.float32))[None, None].to(device))
        )
        for p in pictures
    ]
    values: Floats = np.array(said)
    if spec.categories:
        return np.asarray(1 / (1 + np.exp(-values)), np.float64)
    return values * spec.spread + spec.mean


def read(checkpoint: Checkpoint, pictures: Iterable[Array], device: str) -> Floats:
    """What a reader sees in `pictures` (i, j, k) in [0, 1] of its grid: (N,).

    Values in the covariate's unit, or probabilities of the second category.
    """
    network = checkpoint.network()
    spec = checkpoint.card.network
    if not isinstance(spec, ReaderSpec) or not isinstance(network, Reader):
        raise EngineError(
            f"{checkpoint.card.name} is no reader of age or sex. Give a checkpoint of "
            "the stages brain_age or sex."
        )
    return _read(network.to(device), spec, pictures)


def agreement_of(
    spec: ReaderSpec, said: Floats, truth: Iterable[float | str]
) -> dict[str, float]:
    """Share of the right category; or r and mean absolute error."""
    if spec.categories:
        named = np.array(spec.categories)[(said > 0.5).astype(int)]
        right = named == np.array([str(v) for v in truth])
        return {f"{spec.reads}_accuracy": float(right.mean())}
    values = np.array([float(v) for v in truth])
    return {
        f"{spec.reads}_r": pearson(values, said),
        f"{spec.reads}_mae": float(np.abs(said - values).mean()),
    }

"""Stage supervised: the same encoder, taught what the directions are to mean.

What a semantic encoder could say if it were told the answers: the row that LDAE's
Table 7 is held against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.request import EngineError
from trainer.loop import Batch, Losses, Player
from trainer.stages.backbone import begin_backbone, told_backbone
from trainer.stages.directions import value_of

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.networks.semantic_encoder import (
        SemanticEncoder,
        SemanticEncoderSpec,
    )
    from trainer.config import SupervisedConfig, Target
    from trainer.data.pictures import Pictures

Rows = Sequence[Mapping[str, str]]


class Taught(nn.Module):
    """Encoder and a linear head per target."""

    def __init__(self, encoder: SemanticEncoder, code_size: int, targets: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(code_size, targets)

    def forward(self, picture: Tensor) -> Tensor:
        """Log odds, or normalised values (B, T), of pictures (B, 1, i, j, k)."""
        said: Tensor = self.head(self.encoder(picture))
        return said


class SupervisedStage:
    """Cross-entropy for categories, squared error for numbers of unit SD.

    Parameters
    ----------
    card
        Of the run; it is taken without its networks.
    train, held_out
        Pictures (N, i, j, k) in [0, 1] and what the tables say of them.
    flips
        Also train on left-right mirrored pictures.
    backbone
        File of the weights with which the encoder begins, as `ldae.backbone`; empty
        for random ones.
    """

    name = "supervised"

    def __init__(
        self,
        config: SupervisedConfig,
        encoder: SemanticEncoderSpec,
        targets: Sequence[Target],
        card: Card,
        train: tuple[Pictures, Rows],
        held_out: tuple[Pictures, Rows],
        flips: bool,
        backbone: str = "",
    ) -> None:
        if not targets:
            raise EngineError(
                "There is nothing to teach: the config names no directions. Add "
                "[[directions.targets]]."
            )
        self.encoder, self.targets = encoder, tuple(targets)
        notes = (*card.provenance.notes, *told_backbone(backbone))
        self.card = replace(
            card,
            provenance=replace(card.provenance, notes=notes),
            kind="ldae",
            autoencoder=None,
            denoiser=None,
            encoder=encoder,
            latent_centred=False,
        )
        self.pictures_, self.unseen = train[0], held_out[0]
        values = self._values(train[1])
        self.mean, self.std = _scale(values, self.targets)
        self.values = self._scaled(values)
        self.share = (~self.values.isnan()).double().mean(0)
        self.truth = self._scaled(self._values(held_out[1]))
        self.count = len(self.pictures_) * (2 if flips else 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            network = self._network()
        if backbone:
            begin_backbone(network.encoder.backbone, Path(backbone))
        self.players: tuple[Player, ...] = (Player("supervised", network, self._loss),)

    def _network(self) -> Taught:
        spec = self.encoder
        return Taught(spec.build(), spec.code_size, len(self.targets))

    def _values(self, rows: Rows) -> np.ndarray:
        """(N, T) of what the tables say; not a number where they do not."""
        told = [
            [value_of(t, row.get(t.column, "")) for t in self.targets] for row in rows
        ]
        values = np.array(told, dtype=np.float64)  # None becomes nan
        return values.reshape(len(rows), len(self.targets))  # of nobody too

    def _scaled(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy((values - self.mean) / self.std).float()

    def _loss(
        self, network: nn.Module, items: Batch, _: Any, __: int
    ) -> tuple[Losses, None]:
        device = next(network.parameters()).device
        count = len(self.pictures_)
        pictures = torch.stack([self._picture(item.index) for item in items])
        truth = self.values[[item.index % count for item in items]]
        found = self._errors(network(pictures.to(device)), truth.to(device))
        # a mean over all scans, told or not: a batch that is dealt out to processes has
        # the same loss, however those that are told fall
        told = (~truth.isnan()).double().mean(0) / self.share
        weights = zip(self.targets, told.tolist(), strict=True)
        return {t.name: found[t.name] * weight for t, weight in weights}, None

    def _picture(self, index: int) -> Tensor:
        """(1, i, j, k), from the count of pictures on mirrored."""
        data = torch.from_numpy(
            self.pictures_[index % len(self.pictures_)].astype(np.float32)
        )
        return (data.flip(0) if index >= len(self.pictures_) else data)[None]

    def _errors(self, said: Tensor, truth: Tensor) -> Losses:
        """Loss of every target over the scans whose table tells it."""
        found: Losses = {}
        for column, target in enumerate(self.targets):
            known = ~truth[:, column].isnan()
            x, y = said[known, column].float(), truth[known, column]
            error = (
                functional.binary_cross_entropy_with_logits
                if target.positive
                else functional.mse_loss
            )
            # a batch may know nothing of a target
            found[target.name] = error(x, y) if len(x) else said.sum() * 0
        return found

    @torch.no_grad()
    def held_out(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """The losses of a few held-out scans."""
        some = min(len(self.unseen), 16)
        if some == 0:
            return {}
        pictures = torch.from_numpy(self.unseen[:some].astype(np.float32))[:, None]
        errors = self._errors(self._trained(weights)(pictures), self.truth[:some])
        return {f"held_out_{name}": float(value) for name, value in errors.items()}

    def _trained(self, weights: Mapping[str, Tensor]) -> Taught:
        network = self._network()
        network.load_state_dict({k: v.cpu() for k, v in weights.items()})
        return network.eval()

    def pictures(self, weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """There is nothing to look at."""
        return {}

    def finish(self, weights: Mapping[str, Tensor]) -> Checkpoint:
        """The encoder alone; its codes are read by probes, as LDAE's are."""
        kept = {
            k: v.cpu().float() for k, v in weights.items() if k.startswith("encoder.")
        }
        return Checkpoint(self.card, kept)


def _scale(
    values: np.ndarray, targets: Sequence[Target]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and SD (T,) of numbers; 0 and 1 for categories."""
    classes = np.array([bool(t.positive) for t in targets])
    mean = np.where(classes, 0.0, np.nanmean(values, 0))
    std = np.where(classes, 1.0, np.nanstd(values, 0))
    return mean, np.maximum(std, 1e-12)

"""Stage segmenter: a small U-Net that finds structures in any T1-weighted picture.

Trained on simulated labels under domain randomisation (Billot 2023, SynthSeg); it never
sees a real scan, and no sample twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.losses.dice import DiceLoss
from torch import Tensor, nn
from torch.nn import functional

from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.segment import BRIGHTEST, settled
from trainer.data.randomise import Sample, draw_sample
from trainer.evaluate.segmentation import dice
from trainer.loop import Batch, Losses, Player
from trainer.stages.autoencoder import middle

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.networks.segmenter import SegmenterNet
    from trainer.config import SegmenterConfig
    from trainer.data.template import TemplatePack

UNSEEN = 2**62  # seeds of samples from here on are never trained on
SHOWN = 6


class SegmenterStage:
    """Cross-entropy with error of volumes, at first with Dice; soft memberships.

    All have their least at prediction = membership, partial volumes included, so that
    volumes are sums of predictions.

    Parameters
    ----------
    card
        Grid and provenance of the model to be.
    pack
        The template brain that samples are bent from, on the card's grid.
    """

    name = "segmenter"
    count = 1  # samples differ by their seed alone

    def __init__(self, config: SegmenterConfig, card: Card, pack: TemplatePack) -> None:
        self.config, self.card, self.pack = config, card, pack
        self.dice = DiceLoss(softmax=True, squared_pred=True, include_background=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            network = config.spec.build()
        self.players: tuple[Player, ...] = (Player("segmenter", network, self._loss),)

    def _loss(
        self, network: nn.Module, items: Batch, _: Any, step: int
    ) -> tuple[Losses, None]:
        device = next(network.parameters()).device
        if self.pack.t1.device != device:
            self.pack = self.pack.on(device)
        with torch.autocast(device.type, enabled=False), torch.no_grad():
            drawn = [self._sample(item.seed) for item in items]
        logits = network(torch.stack([s.picture for s in drawn])[:, None]).float()
        truth = torch.stack([s.memberships for s in drawn])
        return self.losses(logits, truth, step), None

    def losses(self, logits: Tensor, truth: Tensor, step: int) -> Losses:
        """Losses of logits against memberships, both (B, 1 + S, i, j, k)."""
        found = {"cross_entropy": functional.cross_entropy(logits, truth)}
        if step < self.config.dice_steps:
            found["dice"] = self.dice(logits, truth)
        if self.config.volume > 0:
            found["volume"] = self.config.volume * volume_loss(logits, truth)
        return found

    def _sample(self, seed: int) -> Sample:
        return draw_sample(self.pack, self.config.looks, seed)

    def _network(self, weights: Mapping[str, Tensor]) -> SegmenterNet:
        network = self.config.spec.build().eval()
        network.load_state_dict(dict(weights))
        return network.to(self.pack.t1.device)

    @torch.no_grad()
    def _found(self, weights: Mapping[str, Tensor]) -> list[tuple[Sample, Tensor]]:
        """Unseen samples and what the network finds in them (1 + S, i, j, k)."""
        network = self._network(weights)
        samples = [self._sample(UNSEEN + n) for n in range(SHOWN)]
        shares = [network(s.picture[None, None]).softmax(1)[0] for s in samples]
        return [(s, settled(f)) for s, f in zip(samples, shares, strict=True)]

    def held_out(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Dice of labels and error of volumes in unseen samples."""
        pairs = [(s.memberships, found) for s, found in self._found(weights)]
        overlaps = torch.stack([overlap(*pair) for pair in pairs])
        errors = torch.stack([_volume_error(*pair) for pair in pairs])
        names = [s.name for s in self.config.spec.structures]
        ventricles = names.index("lateral_ventricles")
        return {
            "held_out_dice": float(overlaps.mean()),
            "held_out_dice_least": float(overlaps.mean(0).min()),
            "held_out_ventricles_error": float(errors[:, ventricles].median()),
        }

    def pictures(self, weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Middle slices of unseen samples above truth and labels found."""
        columns = [
            np.vstack([middle(shown), _labels(s.memberships), _labels(f)])
            for s, f in self._found(weights)
            for shown in [(s.picture / BRIGHTEST).cpu().numpy()]
        ]
        return {"segmentation": np.hstack(columns)}

    def finish(self, weights: Mapping[str, Tensor]) -> Checkpoint:
        """A segmenter checkpoint."""
        tensors = {f"segmenter.{k}": v.cpu().float() for k, v in weights.items()}
        return Checkpoint(self.card, tensors)


def volume_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Relative error of each structure's volume as it will be measured, their mean.

    Cross-entropy alone comes to the right volumes last: a thin structure that is taken
    for a thicker one in every sample costs it little. Both are (B, 1 + S, i, j, k).
    """
    pairs = zip(logits.softmax(1), truth, strict=True)
    return torch.stack([_volume_error(t, settled(p)).mean() for p, t in pairs]).mean()


def overlap(truth: Tensor, found: Tensor) -> Tensor:
    """Dice (S,) of the most likely labels of memberships (1 + S, i, j, k)."""
    first, second = (m.argmax(0).cpu().numpy() for m in (truth, found))
    return torch.from_numpy(np.nan_to_num(dice(first, second, len(truth) - 1))).float()


def _volume_error(truth: Tensor, found: Tensor) -> Tensor:
    """Relative error (S,) of soft volumes."""
    true, seen = (m[1:].sum((1, 2, 3)) for m in (truth, found))
    return (seen - true).abs() / true.clamp(min=1)


def _labels(memberships: Tensor) -> np.ndarray:
    """Middle slice of the most likely labels, 0 to 1."""
    return middle((memberships.argmax(0) / (len(memberships) - 1)).cpu().numpy())

"""Stage gm_autoencoder: gray-matter maps into latents (Hu 2025, sections 3.2, 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.networks.gm_autoencoder import GrayMatterAutoencoderSpec
from napari_brainldm.engine.request import EngineError
from trainer.loop import Batch, Losses, Player
from trainer.stages.autoencoder import SHOWN, kl_divergence, middle, seeded_forward

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from trainer.data.pictures import Pictures
    from trainer.gm_config import GmAutoencoderConfig

CORE = "core."
"""Of the weights that do not depend on the shape of the maps."""

GRAY_LEVEL = 0.1
"""Mean share of gray matter from which a voxel belongs to the mask of figures."""


class GmAutoencoderStage:
    """alpha KL + (1 - alpha) MSE on whole maps.

    Parameters
    ----------
    card
        Grid and provenance of the model to be.
    train, held_out
        Maps (N, i, j, k).
    flips
        Mirror half of the samples left to right (axis i).
    before
        What to begin with: another run's checkpoint of this stage; None for fresh
        weights.
    """

    name = "gm_autoencoder"

    def __init__(
        self,
        config: GmAutoencoderConfig,
        card: Card,
        train: Pictures,
        held_out: Pictures,
        flips: bool,
        before: Checkpoint | None = None,
    ) -> None:
        self.spec = replace(config.spec, shape=card.grid.shape)
        self.config, self.card = config, replace(card, autoencoder=self.spec)
        self.train, self.unseen, self.flips = train, held_out, flips
        self.count = len(train)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            network = self.spec.build()
        # as for the brain LDM: a posterior of SD 1 would drown the latent at first
        spread = network.get_parameter("core.quant_conv_log_sigma.conv.bias")
        nn.init.constant_(spread, -6.0)
        if before is not None:
            network.load_state_dict(pretrained(self.spec, before, network.state_dict()))
        self.players: tuple[Player, ...] = (Player(self.name, network, self._loss),)

    def _loss(
        self, network: nn.Module, items: Batch, _: Any, __: int
    ) -> tuple[Losses, None]:
        device = next(network.parameters()).device
        maps = [self._map(item.index, item.seed) for item in items]
        x = torch.stack(maps).to(device)
        latent = self.spec.latent_shape(self.card.grid.shape)
        seeds = [item.seed for item in items]
        rebuilt, mean, sigma = seeded_forward(network, x, latent, seeds)
        alpha = self.config.alpha
        error = functional.mse_loss(rebuilt, x)
        losses = {"mse": (1 - alpha) * error, "kl": alpha * kl_divergence(mean, sigma)}
        return losses, None

    def _map(self, index: int, seed: int) -> Tensor:
        data = np.asarray(self.train[index], dtype=np.float32)
        if self.flips and seed % 2:
            data = data[::-1].copy()
        return torch.from_numpy(data)[None]

    @torch.no_grad()
    def _rebuilt(self, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Held-out maps and their reconstructions (SHOWN, 1, i, j, k)."""
        network = self.spec.build().eval()
        network.load_state_dict(dict(weights))
        network.to(next(iter(weights.values())).device)
        device = next(network.parameters()).device
        x = torch.from_numpy(np.asarray(self.unseen[:SHOWN], dtype=np.float32))[:, None]
        rebuilt = [network.decode(network.encode(one[None].to(device))[0]) for one in x]
        return x, torch.cat(rebuilt).float().cpu()

    def held_out(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """MSE, and Pearson correlation of whole maps and of their gray matter."""
        if len(self.unseen) == 0:
            return {}
        x, rebuilt = (part.numpy()[:, 0] for part in self._rebuilt(weights))
        mask = x.mean(0) > GRAY_LEVEL
        return {
            "held_out_mse": float(np.square(rebuilt - x).mean()),
            "held_out_r": correlation(x, rebuilt, np.ones_like(mask)),
            "held_out_r_gray": correlation(x, rebuilt, mask),
        }

    def pictures(self, weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Middle slices of held-out maps above their reconstructions."""
        if len(self.unseen) == 0:
            return {}
        x, rebuilt = self._rebuilt(weights)
        rows = [np.hstack([middle(one[0].numpy()) for one in s]) for s in (x, rebuilt)]
        return {"reconstruction": np.vstack(rows)}

    def finish(self, weights: Mapping[str, Tensor]) -> Checkpoint:
        """An autoencoder checkpoint."""
        tensors = {f"autoencoder.{k}": v.cpu().float() for k, v in weights.items()}
        return Checkpoint(self.card, tensors)


def pretrained(
    spec: GrayMatterAutoencoderSpec, before: Checkpoint, fresh: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights to fine-tune: those of `before`.

    Maps of another shape keep `fresh` interpolations: the core is the same for all.

    Raises
    ------
    EngineError
        If `before` is no gray-matter autoencoder, or has another core.
    """
    known = fits(spec, before)
    held = before.part("autoencoder")
    keep_all = known.shape == spec.shape
    return {
        name: held[name] if keep_all or name.startswith(CORE) else value
        for name, value in fresh.items()
    }


def fits(
    spec: GrayMatterAutoencoderSpec, before: Checkpoint
) -> GrayMatterAutoencoderSpec:
    """The sizes of `before`, if weights of `spec` can begin with it.

    Raises
    ------
    EngineError
        As `pretrained`.
    """
    known = before.card.autoencoder
    if not isinstance(known, GrayMatterAutoencoderSpec):
        raise EngineError(
            f"{before.card.name} holds no gray-matter autoencoder to begin with. Give "
            "a checkpoint of the stage gm_autoencoder."
        )
    if replace(known, shape=spec.shape) != spec:
        raise EngineError(
            f"The autoencoder of {before.card.name} has other sizes within than "
            "gm_autoencoder.spec says. Take the same core, channels and blocks."
        )
    return known


def correlation(first: np.ndarray, second: np.ndarray, mask: np.ndarray) -> float:
    """Mean Pearson correlation of pairs of maps (N, i, j, k) within `mask`."""
    pairs = zip(first, second, strict=True)
    return float(np.mean([np.corrcoef(a[mask], b[mask])[0, 1] for a, b in pairs]))

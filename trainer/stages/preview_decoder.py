"""Stage preview_decoder: a cheap decoder that copies the pictures of the full one.

Distilled as in TAESD: latents in, the full decoder's picture as the target, L1. The
predictions of the first denoising steps lie between people, so half of the latents are
mixtures of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.request import EngineError
from trainer.loop import Batch, Losses, Player
from trainer.stages.autoencoder import middle

if TYPE_CHECKING:
    from trainer.config import PreviewConfig
    from trainer.data.latents import Latents

SHOWN = 4


class PreviewStage:
    """L1 between the cheap and the full decode of the same latents.

    Parameters
    ----------
    checkpoint
        With an autoencoder; it is kept as it is.
    train, held_out
        Latents (N, C, i, j, k), unscaled.
    """

    name = "preview_decoder"

    def __init__(
        self,
        config: PreviewConfig,
        checkpoint: Checkpoint,
        train: Latents,
        held_out: Latents,
    ) -> None:
        spec = checkpoint.card.autoencoder
        if not isinstance(spec, AutoencoderSpec):
            raise EngineError(
                f"{checkpoint.card.name} holds no autoencoder of T1 pictures, so there "
                "is nothing to copy. Train the stage autoencoder first."
            )
        self.config, self.checkpoint, self.autoencoder = config, checkpoint, spec
        self.train, self.unseen = torch.from_numpy(train), torch.from_numpy(held_out)
        self.count = len(train)
        self.teacher = checkpoint.autoencoder().requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            network = config.spec.build(spec)
        self.players: tuple[Player, ...] = (Player("preview", network, self._loss),)

    def _loss(
        self, network: nn.Module, items: Batch, _: Any, __: int
    ) -> tuple[Losses, None]:
        device = next(network.parameters()).device
        self.teacher.to(device)
        latents = torch.stack([self._draw(i.index, i.seed) for i in items]).to(device)
        wanted = self._full(latents)
        return {"l1": functional.l1_loss(network(latents).float(), wanted)}, None

    @torch.no_grad()
    def _full(self, latents: Tensor) -> Tensor:
        decoded: Tensor = self.teacher.decode(latents)  # type: ignore[operator]
        return decoded.float()

    def _draw(self, index: int, seed: int) -> Tensor:
        """A latent, or a mixture with another one: both from the sample's seed."""
        generator = torch.Generator().manual_seed(seed)
        mixed, share = torch.rand(2, generator=generator)
        other = int(torch.randint(self.count, (), generator=generator))
        share = share * (mixed < 0.5)
        return torch.lerp(self.train[index], self.train[other], share)

    @torch.no_grad()
    def _pairs(self, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Full and cheap pictures of held-out latents, (n, 1, i, j, k) each."""
        network = self.config.spec.build(self.autoencoder).eval()
        network.load_state_dict(dict(weights))
        device = next(iter(weights.values())).device
        network.to(device)
        self.teacher.to(device)
        some = self.unseen[:SHOWN].to(device)
        pairs = [(self._full(one[None]), network(one[None])) for one in some]
        full, cheap = (torch.cat(part) for part in zip(*pairs, strict=True))
        return full.cpu(), cheap.float().cpu()

    def held_out(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """PSNR in dB of the cheap decode against the full one, held-out latents."""
        if len(self.unseen) == 0:
            return {}
        error = float(functional.mse_loss(*self._pairs(weights)))
        return {"held_out_psnr": -10 * float(np.log10(max(error, 1e-12)))}

    def pictures(self, weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Middle slices of full decodes above cheap ones."""
        if len(self.unseen) == 0:
            return {}
        pairs = self._pairs(weights)
        rows = [np.hstack([middle(one[0].numpy()) for one in part]) for part in pairs]
        return {"preview": np.vstack(rows)}

    def finish(self, weights: Mapping[str, Tensor]) -> Checkpoint:
        """The checkpoint it began with, and the preview decoder."""
        card = replace(self.checkpoint.card, preview=self.config.spec)
        kept = {
            k: v
            for k, v in self.checkpoint.tensors.items()
            if not k.startswith("preview.")
        }
        found = {f"preview.{k}": v.cpu().float() for k, v in weights.items()}
        return Checkpoint(card, kept | found)

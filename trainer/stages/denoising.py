"""What stages that train a denoiser of latents have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_brainldm.engine import diffusion

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from trainer.config import LdmConfig
    from trainer.gm_config import GmLdmConfig
    from trainer.loop import Batch, Losses, Player

PROBED = np.linspace(0.02, 0.98, 8)  # quantiles of the noise levels judged held out


class DenoisingStage:
    """Denoising of latents under condition vectors.

    Attributes
    ----------
    latents, unseen
        (N, C, i, j, k), scaled as the card says: of training and held-out subjects.
    vectors, unseen_vectors
        (N, n), their condition vectors.
    sigmas
        Noise levels of the schedule, descending.
    """

    card: Card
    config: LdmConfig | GmLdmConfig
    latents: Tensor
    vectors: Tensor
    unseen: Tensor
    unseen_vectors: Tensor
    sigmas: Tensor
    players: tuple[Player, ...]

    def _loss(
        self, network: nn.Module, items: Batch, _: Any, __: int
    ) -> tuple[Losses, None]:
        drawn = [self._draw(item.index, item.seed) for item in items]
        device = next(network.parameters()).device
        x0, eps, t, vector = (
            torch.stack(p).to(device) for p in zip(*drawn, strict=True)
        )
        return {"denoising": self._error(network, x0, eps, t, vector).mean()}, None

    def _draw(self, index: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latent, noise, timestep and conditions of one sample, all from its seed."""
        generator = torch.Generator().manual_seed(seed)
        x0 = self.latents[index]
        eps = diffusion.randn(x0.shape, generator)
        t = torch.randint(len(self.sigmas), (), generator=generator)
        dropped = torch.rand((), generator=generator) < self.config.drop
        vector = self.vectors[index]
        return x0, eps, t, torch.full_like(vector, torch.nan) if dropped else vector

    def _error(
        self, network: nn.Module, x0: Tensor, eps: Tensor, t: Tensor, vector: Tensor
    ) -> Tensor:
        """Squared error of the prediction, mean over each latent: (B,)."""
        levels = self.sigmas.flip(0).to(x0.device)[t][:, None, None, None, None]
        x = (x0 + levels * eps) / torch.sqrt(1 + levels**2)
        wanted = diffusion.target(self.card.schedule.prediction, x0, eps, levels)
        out = network(x, t.float(), vector if vector.shape[1] else None)
        return functional.mse_loss(out.float(), wanted, reduction="none").mean(
            (1, 2, 3, 4)
        )

    @torch.no_grad()
    def held_out(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Denoising error on held-out latents at fixed noise levels and noise."""
        if len(self.unseen) == 0:
            return {}
        network = self.card.denoiser.build().eval() if self.card.denoiser else None
        assert network is not None
        network.load_state_dict(dict(weights))
        network.to(next(iter(weights.values())).device)
        device = next(network.parameters()).device
        some = min(len(self.unseen), 16)
        x0, vector = (
            self.unseen[:some].to(device),
            self.unseen_vectors[:some].to(device),
        )
        errors = []
        for seed, quantile in enumerate(PROBED):
            level = int(quantile * (len(self.sigmas) - 1))
            t = torch.full((some,), level, device=device)
            noise = diffusion.randn(x0.shape, torch.Generator().manual_seed(seed))
            errors.append(self._error(network, x0, noise.to(device), t, vector).mean())
        return {"held_out_denoising": float(torch.stack(errors).mean())}

"""Stages lsgan and vaegan: the baselines of Pinaya 2022, in one pass from noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.networks.generator import Generator, GeneratorSpec
from napari_brainldm.engine.request import EngineError
from trainer.loop import Batch, Losses, Player
from trainer.stages.autoencoder import middle

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.volume import Array
    from trainer.baseline_config import LsganConfig, VaeganConfig
    from trainer.data.pictures import Pictures

SHOWN = 4
BETAS = (0.5, 0.9)  # a short memory: the opponent changes all the time


class Critic(nn.Module):
    """Numbers for pictures: one (a discriminator), or several (an encoder)."""

    def __init__(self, spec: GeneratorSpec, channels: Sequence[int], out: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            [
                nn.Conv3d(a, b, 4, stride=2, padding=1)
                for a, b in pairwise((1, *channels))
            ]
        )
        i, j, k = (n // 2 ** len(channels) for n in spec.shape)
        self.head = nn.Linear(channels[-1] * i * j * k, out)

    def features(self, x: Tensor) -> Tensor:
        """The last feature map (B, C, i, j, k) of pictures (B, 1, i, j, k)."""
        for level in self.levels:
            x = functional.leaky_relu(level(x), 0.2)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(B, out) of pictures (B, 1, i, j, k)."""
        said: Tensor = self.head(torch.flatten(self.features(x), 1))
        return said.float()


class VaeGan(nn.Module):
    """Encoder and generator, learnt together."""

    def __init__(self, encoder: Critic, generator: Generator) -> None:
        super().__init__()
        self.encoder, self.generator = encoder, generator

    def forward(
        self, x: Tensor, noise: Tensor, drawn: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rebuilt and drawn pictures, mean and log variance of the posterior (B, N)."""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        z = mean + torch.exp(0.5 * log_variance) * noise
        return self.generator(z), self.generator(drawn), mean, log_variance


class LsganStage:
    """Generator and discriminator with least-squares losses.

    Parameters
    ----------
    card
        Grid and provenance of the run.
    train
        Pictures (N, i, j, k) in [0, 1].
    flips
        Mirror half of the samples left to right.
    """

    name = "lsgan"

    def __init__(
        self,
        config: LsganConfig | VaeganConfig,
        card: Card,
        train: Pictures,
        flips: bool,
    ) -> None:
        self.spec = GeneratorSpec(card.grid.shape, config.noise, config.channels)
        _check(self.spec, config.critic)
        self.config, self.train, self.flips = config, train, flips
        self.card = replace(card, network=self.spec)
        self.count = len(train)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            first = self._first()
            self.discriminator = Critic(self.spec, config.critic, 1)
        self.players: tuple[Player, ...] = (
            Player("generator", first, self._loss, 1.0, BETAS),
            Player("discriminator", self.discriminator, self._rival_loss, 1.0, BETAS),
        )

    def _first(self) -> nn.Module:
        """The network that is kept, or holds what is kept."""
        return self.spec.build()

    def _loss(
        self, network: nn.Module, items: Batch, _: Any, __: int
    ) -> tuple[Losses, tuple[Tensor, Tensor]]:
        x = self._batch(items, next(network.parameters()).device)
        fake = network(self._noise(items, 0).to(x.device))
        return {"generator": self._fooled(fake)}, (x, fake.detach())

    def _fooled(self, fake: Tensor) -> Tensor:
        error: Tensor = 0.5 * (self.discriminator(fake) - 1).pow(2).mean()
        return error

    def _rival_loss(
        self, network: nn.Module, _: Batch, pair: tuple[Tensor, Tensor], __: int
    ) -> tuple[Losses, None]:
        real, fake = (network(x) for x in pair)
        error = 0.5 * ((real - 1).pow(2).mean() + fake.pow(2).mean())
        return {"discriminator": error}, None

    def _batch(self, items: Batch, device: torch.device) -> Tensor:
        pictures = []
        for item in items:
            x = torch.from_numpy(np.asarray(self.train[item.index], np.float32))
            pictures.append(x.flip(0) if self.flips and item.seed % 2 else x)
        return torch.stack(pictures)[:, None].to(device)

    def _noise(self, items: Batch, which: int) -> Tensor:
        """(B, N): of every sample its own, in any batch."""
        return torch.cat(
            [drawn(self.spec, (item.seed + which) % 2**62) for item in items]
        )

    def _kept(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The generator's weights among those of the first player."""
        return dict(weights)

    def held_out(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Mean SD of voxels over pictures: 0 is a collapsed model."""
        return {"spread": float(self._shown(weights).std(0).mean())}

    @torch.no_grad()
    def _shown(self, weights: Mapping[str, Tensor]) -> Tensor:
        network = self.spec.build()
        network.load_state_dict({k: v.cpu() for k, v in self._kept(weights).items()})
        noise = torch.cat([drawn(self.spec, seed) for seed in range(SHOWN)])
        found: Tensor = network(noise)
        return found

    def pictures(self, weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Middle slices of pictures."""
        shown = [middle(one[0].numpy()) for one in self._shown(weights)]
        return {"samples": np.hstack(shown)}

    def finish(self, weights: Mapping[str, Tensor]) -> Checkpoint:
        """A checkpoint of the kind "gan": the generator alone."""
        kept = self._kept(weights).items()
        return Checkpoint(self.card, {f"network.{k}": v.cpu().float() for k, v in kept})


class VaeganStage(LsganStage):
    """A VAE that is judged by a discriminator's features, and by its deception."""

    name = "vaegan"

    def __init__(
        self, config: VaeganConfig, card: Card, train: Pictures, flips: bool
    ) -> None:
        self.weights = config
        super().__init__(config, card, train, flips)

    def _first(self) -> nn.Module:
        encoder = Critic(self.spec, self.config.critic, 2 * self.spec.noise)
        return VaeGan(encoder, self.spec.build())

    def _loss(
        self, network: nn.Module, items: Batch, _: Any, __: int
    ) -> tuple[Losses, tuple[Tensor, Tensor]]:
        x = self._batch(items, next(network.parameters()).device)
        noise, prior = (self._noise(items, n).to(x.device) for n in (0, 1))
        rebuilt, made, mean, log_variance = network(x, noise, prior)
        both = torch.cat([rebuilt, made])
        features = self.discriminator.features
        distance = functional.mse_loss(features(rebuilt), features(x).detach())
        losses = {
            "likeness": self.weights.likeness * distance.float(),
            "kl": self.weights.kl * prior_distance(mean, log_variance),
            "generator": self.weights.adversarial * self._fooled(both),
        }
        return losses, (x, both.detach())

    def _kept(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        start = "generator."
        return {k[len(start) :]: v for k, v in weights.items() if k.startswith(start)}


def prior_distance(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of N(mean, variance) from N(0, 1), (B, N), summed over N, mean over batch."""
    each = mean.pow(2) + log_variance.exp() - log_variance - 1
    return 0.5 * each.sum(1).mean()


def drawn(spec: GeneratorSpec, seed: int) -> Tensor:
    """Noise (1, N) of a seed; on the CPU, the same on every device."""
    return torch.randn(1, spec.noise, generator=torch.Generator().manual_seed(seed))


def _check(spec: GeneratorSpec, critic: Sequence[int]) -> None:
    factor = max(spec.factor, 2 ** len(critic))
    if any(n % factor for n in spec.shape):
        raise EngineError(
            f"The grid has {spec.shape} voxels; this GAN halves every axis to a "
            f"1/{factor}. Choose a shape of multiples of {factor}, or fewer channels."
        )


class GanPictures:
    """A trained generator: picture by seed.

    Raises
    ------
    EngineError
        If the checkpoint holds no generator.
    """

    def __init__(self, checkpoint: Checkpoint, device: str) -> None:
        network, spec = checkpoint.network(), checkpoint.card.network
        if not isinstance(spec, GeneratorSpec):
            raise EngineError(
                f"{checkpoint.card.name} holds no generator of a GAN. Give a "
                "checkpoint of the stages lsgan or vaegan."
            )
        self.spec, self.device, self.network = spec, device, network.to(device)

    @torch.no_grad()
    def picture(self, seed: int) -> Array:
        """(i, j, k) in [0, 1]."""
        made = self.network(drawn(self.spec, seed).to(self.device))
        found: Array = made[0, 0].float().cpu().numpy()
        return found

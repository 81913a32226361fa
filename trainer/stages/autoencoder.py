"""Stage autoencoder: compress pictures into latents (Pinaya 2022, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.losses import PatchAdversarialLoss
from monai.losses.ssim_loss import SSIMLoss
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn
from torch.nn import functional

from napari_brainldm.engine.checkpoint import Checkpoint, load_checkpoint
from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.request import EngineError
from trainer.loop import Batch, Losses, Player
from trainer.stages.features import FeatureDistance, feature_network

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from trainer.config import AutoencoderConfig
    from trainer.data.pictures import Pictures

SHOWN = 4  # held-out pictures in figures and logs


class AutoencoderStage:
    """L1 + perceptual + patch-adversarial + KL on whole volumes.

    Parameters
    ----------
    card
        Grid, vocabulary and provenance of the model to be; its autoencoder spec is
        replaced by the config's.
    train, held_out
        Pictures (N, i, j, k) in [0, 1].
    flips
        Mirror half of the samples left to right (axis i).
    before
        What to begin with, of the config's spec (see `started_from`); None for fresh
        weights.
    """

    name = "autoencoder"

    def __init__(
        self,
        config: AutoencoderConfig,
        card: Card,
        train: Pictures,
        held_out: Pictures,
        flips: bool,
        before: Checkpoint | None = None,
    ) -> None:
        _check_grid(card.grid.shape, config.spec.factor)
        self.config, self.card = config, card
        self.train, self.unseen, self.flips = train, held_out, flips
        self.count = len(train)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            self._build(before)

    def _build(self, before: Checkpoint | None) -> None:
        config = self.config
        self.network = config.spec.build()
        # With the usual start the posterior's SD is 1 and drowns the latent, and
        # hundreds of steps go by before it shrinks; exp(-6 / 2) = 0.05 lets learning
        # begin at once.
        spread = self.network.get_parameter("quant_conv_log_sigma.conv.bias")
        nn.init.constant_(spread, -6.0)
        if before is not None:
            self.network.load_state_dict(before.part("autoencoder"))
        self.players: tuple[Player, ...] = (
            Player("autoencoder", self.network, self._generator_loss),
        )
        self.features: FeatureDistance | None = None
        if config.perceptual > 0:
            self.features = feature_network(config.features)
        if config.adversarial > 0:
            self.adversary = PatchAdversarialLoss(criterion="least_squares")
            self.discriminator = PatchDiscriminator(
                spatial_dims=3, channels=16, in_channels=1, num_layers_d=3
            )
            # the discriminator needs a short memory: its task changes all the time
            rival = Player(
                "discriminator", self.discriminator, self._rival_loss, 2.0, (0.5, 0.9)
            )
            self.players += (rival,)

    def _batch(self, items: Batch, device: torch.device) -> Tensor:
        pictures = [self._picture(item.index, item.seed) for item in items]
        return torch.stack(pictures).to(device)

    def _picture(self, index: int, seed: int) -> Tensor:
        data = np.asarray(self.train[index], dtype=np.float32)
        if self.flips and seed % 2:
            data = data[::-1].copy()
        return torch.from_numpy(data)[None]

    def _generator_loss(
        self, network: nn.Module, items: Batch, _: Any, step: int
    ) -> tuple[Losses, tuple[Tensor, Tensor]]:
        config = self.config
        x = self._batch(items, next(network.parameters()).device)
        latent = config.spec.latent_shape(self.card.grid.shape)
        seeds = [item.seed for item in items]
        rebuilt, mean, sigma = seeded_forward(network, x, latent, seeds)
        losses = {"l1": functional.l1_loss(rebuilt, x)}
        losses["kl"] = config.kl * kl_divergence(mean, sigma)
        if self.features is not None and step >= config.perceptual_start:
            losses["perceptual"] = config.perceptual * self.features(rebuilt, x)
        if config.adversarial > 0 and step >= config.adversarial_start:
            judged = self.discriminator(rebuilt)[-1].float()
            fooled = self.adversary(
                judged, target_is_real=True, for_discriminator=False
            )
            losses["adversarial"] = config.adversarial * fooled
        return losses, (x, rebuilt.detach())

    def _rival_loss(
        self, network: nn.Module, _: Batch, pair: tuple[Tensor, Tensor], step: int
    ) -> tuple[Losses, None]:
        if step < self.config.adversarial_start:
            return {}, None
        real, fake = (network(x)[-1].float() for x in pair)
        wrong = self.adversary(fake, target_is_real=False, for_discriminator=True)
        right = self.adversary(real, target_is_real=True, for_discriminator=True)
        return {"discriminator": 0.5 * (wrong + right)}, None

    def _rebuilder(self, weights: Mapping[str, Tensor]) -> Any:
        network = self.config.spec.build().eval()
        network.load_state_dict(dict(weights))
        return network.to(next(iter(weights.values())).device)

    @torch.no_grad()
    def _rebuilt(self, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Held-out pictures and their reconstructions (SHOWN, 1, i, j, k)."""
        network = self._rebuilder(weights)
        device = next(network.parameters()).device
        x = torch.from_numpy(np.asarray(self.unseen[:SHOWN], dtype=np.float32))[:, None]
        rebuilt = [network.decode(network.encode(one[None].to(device))[0]) for one in x]
        return x, torch.cat(rebuilt).float().cpu()

    def held_out(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """SSIM (Gaussian window 11), PSNR in dB and L1 of held-out pictures."""
        if len(self.unseen) == 0:
            return {}
        x, rebuilt = self._rebuilt(weights)
        error = float(functional.mse_loss(rebuilt, x))
        ssim = 1 - float(SSIMLoss(3, data_range=1.0, win_size=11)(rebuilt, x))
        return {
            "held_out_ssim": ssim,
            "held_out_psnr": -10 * float(np.log10(error)),
            "held_out_l1": float(functional.l1_loss(rebuilt, x)),
        }

    def pictures(self, weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Middle slices of held-out pictures above their reconstructions."""
        if len(self.unseen) == 0:
            return {}
        x, rebuilt = self._rebuilt(weights)
        rows = [np.hstack([middle(one[0].numpy()) for one in s]) for s in (x, rebuilt)]
        return {"reconstruction": np.vstack(rows)}

    def finish(self, weights: Mapping[str, Tensor]) -> Checkpoint:
        """An autoencoder checkpoint."""
        tensors = {f"autoencoder.{k}": v.cpu().float() for k, v in weights.items()}
        return Checkpoint(self.card, tensors)


def started_from(config: AutoencoderConfig) -> Checkpoint | None:
    """The checkpoint that training begins with; None for fresh weights.

    Its grid may be any, for the network is convolutional.

    Raises
    ------
    EngineError
        If the file cannot be opened, or its autoencoder is of another spec.
    """
    if not config.start:
        return None
    found = load_checkpoint(Path(config.start))
    told = _differences(found.card.autoencoder, config.spec)
    if told:
        raise EngineError(
            f"{config.start}, which autoencoder.start names, cannot begin this "
            f"training: {told}. Set [autoencoder.spec] to its sizes, or start from "
            "another one."
        )
    return found


def _differences(found: object, wanted: object) -> str:
    """What `found` has otherwise than the spec `wanted`; empty for nothing."""
    if not isinstance(found, AutoencoderSpec):
        return "it holds no autoencoder of this kind"
    pairs = [
        (f.name, getattr(found, f.name), getattr(wanted, f.name)) for f in fields(found)
    ]
    return ", ".join(
        f"its {n} are {a} and this run's {b}" for n, a, b in pairs if a != b
    )


def _check_grid(shape: tuple[int, int, int], factor: int) -> None:
    if any(n % factor for n in shape):
        raise EngineError(
            f"The grid has {shape} voxels; this autoencoder halves every axis to a "
            f"1/{factor}. Choose a shape of multiples of {factor} in the config."
        )


def seeded_forward(
    network: nn.Module, x: Tensor, latent: Sequence[int], seeds: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Reconstruction, mean and SD of the posterior, with noise seeded per sample.

    A sample gets the same noise in any batch, part of a batch, process and device.

    Parameters
    ----------
    x
        Pictures (B, 1, i, j, k).
    latent
        (C, a, b, c): shape of a picture's latent.
    seeds
        One per picture.
    """
    draws = [
        torch.randn(*latent, generator=torch.Generator().manual_seed(seed))
        for seed in seeds
    ]
    found = network(x, torch.stack(draws).to(x.device))
    rebuilt, mean, sigma = (part.float() for part in found)
    return rebuilt, mean, sigma


def kl_divergence(mean: Tensor, sigma: Tensor) -> Tensor:
    """KL of N(mean, sigma^2) from N(0, 1), summed over the latent, mean over batch."""
    each = mean.pow(2) + sigma.pow(2) - torch.log(sigma.pow(2)) - 1
    return 0.5 * each.sum(dim=(1, 2, 3, 4)).mean()


def middle(data: np.ndarray) -> np.ndarray:
    """Middle coronal slice (k down, i across) of data (i, j, k), clipped to [0, 1]."""
    slice_: np.ndarray = np.clip(np.rot90(data[:, data.shape[1] // 2]), 0, 1)
    return slice_

"""Stage ldae: what a scan means, on top of a frozen unconditional denoiser.

The semantic encoder sees the picture, the gradient estimator moves the denoiser's
prediction towards it; both are trained together, the denoiser and its shared encoder
stay as they are (Lozupone 2025, equation 9, https://arxiv.org/abs/2504.08635).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_brainldm.engine import diffusion
from napari_brainldm.engine.bound import Bound
from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.device import Compute
from napari_brainldm.engine.networks.gradient_estimator import (
    GradientEstimator,
    GradientEstimatorSpec,
)
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.sampling import noisy
from trainer.data.jitter import jittered
from trainer.loop import Batch, Losses, Player
from trainer.stages.autoencoder import middle
from trainer.stages.backbone import begin_backbone, told_backbone
from trainer.stages.ldm import PROBED
from trainer.stages.prior import fit_meaning
from trainer.stages.representation import even_weights_at, noise_left, weights_at

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Provenance
    from napari_brainldm.engine.networks.prior import GaussianPrior
    from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoder
    from trainer.config import LdaeConfig
    from trainer.data.latents import Latents
    from trainer.data.pictures import Pictures

NEW = ("label_emb", "shift_", "prior.meaning", "prior.left")
"""Beginnings of the names of the weights that this stage adds to the denoiser."""

CITATION = "Lozupone et al. 2025, https://arxiv.org/abs/2504.08635"

FITTED = 600
"""Pictures by which the untrained codes are scaled."""

SHOWN, STEPS = 3, 12
"""Held-out people shown in the log, and the denoising steps of their pictures."""


class Joint(nn.Module):
    """Semantic encoder and denoiser as one network to train."""

    def __init__(self, encoder: SemanticEncoder, denoiser: GradientEstimator) -> None:
        super().__init__()
        self.encoder, self.denoiser = encoder, denoiser

    def forward(self, picture: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Prediction and gradient (B, C, i, j, k) of x_t, given the picture of x_0."""
        return self.denoiser.both(x, t, self.encoder(picture))


def _provenance(before: Provenance, backbone: str) -> Provenance:
    """Of an LDAE on a denoiser that comes from `before`."""
    notes = (*before.notes, *told_backbone(backbone))
    return replace(before, citation=CITATION, notes=notes)


class LdaeStage:
    """The noise that a semantic code explains.

    Parameters
    ----------
    checkpoint
        An unconditional denoiser with two branches' sizes, trained by the stage ldm.
    train, held_out
        Pictures (N, i, j, k) in [0, 1] and their latents, unscaled.
    mirrored
        Latents of the training pictures mirrored left to right; None for none.
    """

    name = "ldae"

    def __init__(
        self,
        config: LdaeConfig,
        checkpoint: Checkpoint,
        train: tuple[Pictures, Latents],
        held_out: tuple[Pictures, Latents],
        mirrored: Latents | None = None,
    ) -> None:
        before = checkpoint.card.denoiser
        if not isinstance(before, GradientEstimatorSpec):
            raise EngineError(
                f"{checkpoint.card.name} holds no denoiser of LDAE's kind. Train the "
                "stage ldm with the sizes of one (ldm.spec with strides)."
            )
        spec = replace(before, code_size=config.encoder.code_size)
        self.card = replace(
            checkpoint.card,
            kind="ldae",
            denoiser=spec,
            encoder=config.encoder,
            provenance=_provenance(checkpoint.card.provenance, config.backbone),
        )
        self.config, self.checkpoint = config, checkpoint
        self.pictures_, latents = train
        if mirrored is not None:
            latents = np.concatenate([latents, mirrored])
        mean = checkpoint.latent_mean().numpy()
        scale = self.card.latent_scale
        self.latents = torch.from_numpy((latents - mean) * np.float32(scale))
        self.unseen_pictures = held_out[0]
        self.unseen = torch.from_numpy((held_out[1] - mean) * np.float32(scale))
        self.count = len(latents)
        self.schedule = self.card.schedule.build()
        self.sigmas = torch.tensor(self.schedule.sigmas).flip(0)
        self.weights = (
            even_weights_at(self.sigmas)
            if config.weighting == "v"
            else weights_at(self.sigmas, config.gamma)
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            network = self._network(checkpoint)
        self.players: tuple[Player, ...] = (Player("ldae", network, self._loss),)

    def _network(self, checkpoint: Checkpoint) -> Joint:
        """Both networks; the denoiser's first branch as it was trained, and frozen."""
        assert isinstance(self.card.denoiser, GradientEstimatorSpec)
        denoiser = self.card.denoiser.build()
        known = checkpoint.part("denoiser")
        grown = {
            k.replace("middle_block", "shift_middle_block", 1).replace(
                "output_blocks", "shift_output_blocks", 1
            ): v
            for k, v in known.items()
            if k.startswith(("middle_block", "output_blocks"))
        }
        # the second branch begins as the first, but gives no gradient yet
        denoiser.load_state_dict(denoiser.state_dict() | known | grown)
        for parameter in denoiser.shift_out[2].parameters():
            nn.init.zeros_(parameter)
        for name, parameter in denoiser.named_parameters():
            parameter.requires_grad_(name.startswith(NEW))
        encoder = self.config.encoder.build()
        if self.config.backbone:
            begin_backbone(encoder.backbone, Path(self.config.backbone))
        network = Joint(encoder, denoiser)
        if denoiser.prior is not None:
            self._begin(network, denoiser.prior)
        return network

    @torch.no_grad()
    def _begin(self, network: Joint, prior: GaussianPrior) -> None:
        """Let codes differ between people from the first step, and say what they tell.

        An untrained encoder gives nearly the same code for everybody, and a short
        training leaves it so. Scaled to unit SD by the data (as Mishkin 2016,
        https://arxiv.org/abs/1511.06422, does with layers) they can be told apart.
        """
        some = (
            np.linspace(0, self.count - 1, min(self.count, FITTED)).astype(int).tolist()
        )
        network.encoder.eval()
        codes = torch.cat([network.encoder(self._seen(n, n)[None]) for n in some])
        network.encoder.train()
        centre, spread = codes.mean(0), codes.std(0).clamp(min=1e-6)
        network.encoder.rescale(centre, spread)
        fit_meaning(prior, (codes - centre) / spread, self.latents[some])

    def picture(self, index: int) -> Tensor:
        """Training picture (1, i, j, k), from the count of pictures on mirrored."""
        place, turned = index % len(self.pictures_), index >= len(self.pictures_)
        data = torch.from_numpy(self.pictures_[place].astype(np.float32))
        return (data.flip(0) if turned else data)[None]

    def _seen(self, index: int, seed: int) -> Tensor:
        """The picture as the encoder is shown it: by a scanner of its own."""
        percentile = self.card.intensity.percentile
        return jittered(self.picture(index), self.config.jitter, seed, percentile)

    def _loss(
        self, network: nn.Module, items: Batch, _: Any, __: int
    ) -> tuple[Losses, None]:
        device = next(network.parameters()).device
        pictures = torch.stack([self._seen(item.index, item.seed) for item in items])
        drawn = [self._draw(item.index, item.seed) for item in items]
        x0, eps, t = (torch.stack(p).to(device) for p in zip(*drawn, strict=True))
        left, _ = self._left(network, pictures.to(device), x0, eps, t)
        return {"representation": left.mean()}, None

    def _draw(self, index: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latent, noise and timestep of one sample, all from its seed."""
        generator = torch.Generator().manual_seed(seed)
        x0 = self.latents[index]
        eps = diffusion.randn(x0.shape, generator)
        return x0, eps, torch.randint(len(self.sigmas), (), generator=generator)

    def _left(
        self, network: nn.Module, pictures: Tensor, x0: Tensor, eps: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Weighted squared noise (B,) unexplained with the code, and without it."""
        sigma = self.sigmas.to(x0)[t].view(-1, 1, 1, 1, 1)
        x = (x0 + sigma * eps) / torch.sqrt(1 + sigma**2)
        out, gradient = network(pictures, x, t.float())
        weight = self.weights.to(x0)[t]
        prediction = self.card.schedule.prediction
        with_code, without = (
            weight
            * noise_left(prediction, (out, g), (x0, eps), sigma).flatten(1).mean(1)
            for g in (gradient, torch.zeros_like(gradient))
        )
        return with_code, without.detach()

    @torch.no_grad()
    def held_out(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Share of the held-out noise, left by the denoiser, that is explained.

        `explained` by the second branch with the code, which may only better the first
        one; `by_code` by the person's own code beyond another person's.
        """
        if len(self.unseen) == 0:
            return {}
        network = self._trained(weights)
        some = min(len(self.unseen), 8)
        pictures = self._unseen(some)
        sums = np.zeros(3)
        for seed, quantile in enumerate(PROBED):
            t = torch.full((some,), int(quantile * (len(self.sigmas) - 1)))
            noise = diffusion.randn(
                self.unseen[:some].shape, torch.Generator().manual_seed(seed)
            )
            rest = self.unseen[:some], noise, t
            own, without = self._left(network, pictures, *rest)
            swapped, _ = self._left(network, pictures.roll(1, 0), *rest)
            sums += [float(part.mean()) for part in (own, without, swapped)]
        return {
            "held_out_left": sums[0],
            "held_out_explained": 1 - sums[0] / sums[1],
            "held_out_by_code": 1 - sums[0] / sums[2],
        }

    def _unseen(self, count: int) -> Tensor:
        data = self.unseen_pictures[:count].astype(np.float32)
        return torch.from_numpy(data)[:, None]

    def _trained(self, weights: Mapping[str, Tensor]) -> Joint:
        assert isinstance(self.card.denoiser, GradientEstimatorSpec)
        network = Joint(self.config.encoder.build(), self.card.denoiser.build())
        network.load_state_dict({k: v.cpu() for k, v in weights.items()})
        return network.eval()

    @torch.no_grad()
    def pictures(self, weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Held-out people: picture, autoencoder, code with new noise: middle slices."""
        if len(self.unseen) == 0:
            return {}
        network = self._trained(weights)
        coder: Any = self.checkpoint.autoencoder()
        bound = Bound(network.denoiser, self.card, Compute("cpu", "float32"))
        mean, rows = self.checkpoint.latent_mean(), []
        for n in range(min(SHOWN, len(self.unseen))):
            picture = self._unseen(n + 1)[n:]
            made = self._remade(bound, network.encoder(picture))
            decoded = [
                coder.decode(z / self.card.latent_scale + mean)[0, 0].numpy()
                for z in (self.unseen[n : n + 1], made)
            ]
            row = (picture[0, 0].numpy(), *decoded)
            rows.append(np.hstack([middle(data) for data in row]))
        return {"picture_autoencoder_code": np.vstack(rows)}

    def _remade(self, bound: Bound, code: Tensor) -> Tensor:
        """A latent (1, C, i, j, k) from a code and new noise."""
        spec = self.card.schedule
        sigmas = diffusion.sampling_sigmas(self.schedule, STEPS, spec.spacing)
        noise = diffusion.noise(self.card.latent_shape, 0)
        x = noisy(bound.network, noise, sigmas[0], None, code)
        for step in diffusion.walk(bound.coded(code), x, sigmas):
            x = step.x
        return x

    def finish(self, weights: Mapping[str, Tensor]) -> Checkpoint:
        """An LDAE: autoencoder, both branches, semantic encoder."""
        kept = {
            k: v
            for k, v in self.checkpoint.tensors.items()
            if not k.startswith("denoiser.")
        }
        return Checkpoint(
            self.card, kept | {k: v.cpu().float() for k, v in weights.items()}
        )

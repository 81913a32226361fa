"""Stage ldm: a conditional denoiser on the latents of a frozen autoencoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.networks.gradient_estimator import GradientEstimatorSpec
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Conditions, EngineError, Request, Seed
from trainer.loop import Player
from trainer.stages.autoencoder import middle
from trainer.stages.denoising import PROBED as PROBED
from trainer.stages.denoising import DenoisingStage
from trainer.stages.prior import MOST, fit_prior, prior_spec
from trainer.stages.readout import fit_readout

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.networks.unet import UNetSpec
    from trainer.config import LdmConfig
    from trainer.data.latents import Latents


class LdmStage(DenoisingStage):
    """Denoising of latents under the paper's hybrid conditioning.

    Parameters
    ----------
    checkpoint
        The autoencoder; its card holds the vocabulary.
    train, held_out
        Latents and their conditions.
    mirrored
        Latents of the training pictures mirrored left to right; None for none.
    """

    name = "ldm"

    def __init__(
        self,
        config: LdmConfig,
        checkpoint: Checkpoint,
        train: tuple[Latents, Sequence[Conditions]],
        held_out: tuple[Latents, Sequence[Conditions]],
        mirrored: Latents | None = None,
    ) -> None:
        latents, asked = train
        self.subjects = len(latents)
        if mirrored is not None:
            latents, asked = np.concatenate([latents, mirrored]), [*asked, *asked]
        self.mean = latents.mean(0) if config.centred else np.zeros((), np.float32)
        latents = latents - self.mean
        scale = 1.0 / float(latents.std())
        spec = _spec(config, checkpoint.card, latents.shape)
        self.card = replace(
            checkpoint.card,
            kind="ldae" if isinstance(spec, GradientEstimatorSpec) else "brain-ldm",
            denoiser=spec,
            schedule=config.schedule,
            latent_scale=scale,
            latent_centred=config.centred,
        )
        self.config, self.checkpoint = config, checkpoint
        self.latents = torch.from_numpy(latents) * scale
        self.vectors = torch.tensor([self.card.vector(c) for c in asked])
        self.unseen = torch.from_numpy(held_out[0] - self.mean) * scale
        self.unseen_vectors = torch.tensor([self.card.vector(c) for c in held_out[1]])
        self.count = len(latents)
        self.sigmas = torch.tensor(config.schedule.build().sigmas)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            network = spec.build()
        if network.prior is not None:
            levels = self.sigmas.flip(0).tolist()
            fit_prior(network.prior, self.latents, self.vectors, levels)
        self.players: tuple[Player, ...] = (Player("denoiser", network, self._loss),)

    def pictures(self, weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Each covariate at both ends of its range, one seed: middle slices."""
        renderer = Renderer(self.finish(weights))
        rows = [_ends(renderer, covariate.name) for covariate in self.card.vocabulary]
        rows = rows or [[finish(renderer.render(Request(origin=Seed(1)))).data]]
        return {
            "sweeps": np.vstack([np.hstack([middle(p) for p in row]) for row in rows])
        }

    def finish(self, weights: Mapping[str, Tensor]) -> Checkpoint:
        """A brain LDM: the autoencoder, the denoiser and the linear read-out."""
        tensors = dict(self.checkpoint.tensors.items())
        tensors |= {f"denoiser.{k}": v.cpu().float() for k, v in weights.items()}
        if self.config.centred:
            tensors["latent.mean"] = torch.from_numpy(self.mean)
        if self.card.vocabulary:
            tensors |= self._readout
        return Checkpoint(self.card, tensors)

    @cached_property
    def _readout(self) -> dict[str, Tensor]:
        """The read-out depends on the latents alone, so it is fitted once."""
        # one of each: a mirrored copy would leak between folds
        some = slice(min(self.subjects, MOST))
        weight, bias = fit_readout(
            self.latents[some].numpy(), self.vectors[some].numpy()
        )
        found = {"probe.weight": weight, "probe.bias": bias}
        return {name: torch.from_numpy(array) for name, array in found.items()}


def _spec(
    config: LdmConfig, card: Card, shape: tuple[int, ...]
) -> UNetSpec | GradientEstimatorSpec:
    """Sizes of the denoiser for latents of `shape` (N, C, i, j, k)."""
    prior = prior_spec(config, shape, "ldm")
    if isinstance(config.spec, GradientEstimatorSpec):
        if card.vocabulary:
            raise EngineError(
                "ldm.spec is LDAE's denoiser, which knows no conditions, but the config"
                f" maps {len(card.vocabulary)} covariates. Take them out of the config."
            )
        return replace(config.spec, latent_channels=shape[1], code_size=0, prior=prior)
    known = len(card.vocabulary)
    return replace(
        config.spec,
        latent_channels=shape[1],
        condition_size=known,
        droppable=config.drop > 0 and known > 0,
        prior=prior,
    )


def _ends(renderer: Renderer, name: str) -> list[np.ndarray]:
    covariate = renderer.card.covariate(name)
    values = [covariate.decode(code) for code in (0.05, 0.5, 0.95)]
    requests = [Request(Conditions.of({name: value}), Seed(1)) for value in values]
    return [finish(renderer.render(request)).data for request in requests]

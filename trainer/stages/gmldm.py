"""Stage gmldm: gray matter from functional connectivity (Hu 2025, section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from napari_brainldm.engine import diffusion
from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.components import Components, Connectivity
from napari_brainldm.engine.fnc import Fnc, Vector
from napari_brainldm.engine.fnc_edit import FncLaw, law_of
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Conditions, EngineError, Request, Seed
from trainer.loop import Player
from trainer.stages.autoencoder import middle
from trainer.stages.denoising import DenoisingStage
from trainer.stages.prior import fit_places, fit_prior, prior_spec

if TYPE_CHECKING:
    from napari_brainldm.engine.networks.vit_denoiser import CodedPrior, ViTSpec
    from trainer.data.latents import Latents
    from trainer.gm_config import GmLdmConfig

SHOWN = 3  # held-out people in the pictures of the log


class GmLdmStage(DenoisingStage):
    """Denoising of latents of gray matter under connectivity.

    Parameters
    ----------
    checkpoint
        The autoencoder, or voxel space.
    train, held_out
        Latents (N, C, i, j, k) and connectivity (N, p), Fisher z, scan by scan.
    components
        What the rows of a connectivity matrix stand for.
    """

    name = "gmldm"
    config: GmLdmConfig

    def __init__(
        self,
        config: GmLdmConfig,
        checkpoint: Checkpoint,
        train: tuple[Latents, Vector],
        held_out: tuple[Latents, Vector],
        components: Components,
    ) -> None:
        latents, asked = train
        self.config, self.checkpoint = config, checkpoint
        self.law = law_of(asked, config.law_rank)
        gain = 1.0 / float((asked - self.law.mean).std())
        self.mean = latents.mean(0) if config.centred else np.zeros((), np.float32)
        scale = 1.0 / float((latents - self.mean).std())
        spec = _spec(config, latents.shape, len(components))
        self.card = replace(
            checkpoint.card,
            kind="gm-ldm",
            denoiser=spec,
            schedule=config.schedule,
            latent_scale=scale,
            latent_centred=config.centred,
            fnc=Connectivity(components, gain, len(self.law.factors)),
        )
        self.latents, self.unseen = (
            torch.from_numpy(part - self.mean) * scale
            for part in (latents, held_out[0])
        )
        self.vectors, self.unseen_vectors = (
            torch.from_numpy(gain * (part - self.law.mean))
            for part in (asked, held_out[1])
        )
        self.count = len(latents)
        self.sigmas = torch.tensor(config.schedule.build().sigmas)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.loop.seed)
            network = spec.build()
        if network.prior is not None:
            self._fit(network.prior)
        self.players: tuple[Player, ...] = (Player("denoiser", network, self._loss),)

    def _fit(self, prior: CodedPrior) -> None:
        """The Gaussian of the latents, its mean where the connectivity puts it."""
        levels = self.sigmas.flip(0).tolist()
        if prior.compress.shape[1]:
            fit_places(prior, self.latents, self.vectors, levels)
        else:
            none = self.vectors.new_empty(len(self.latents), 0)
            fit_prior(prior.gaussian, self.latents, none, levels)

    def _draw(self, index: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As for the brain LDM; a random condition is new in every sample."""
        x0, eps, t, vector = super()._draw(index, seed)
        if self.config.condition == "random":
            generator = torch.Generator().manual_seed(seed + 1)
            vector = diffusion.randn(vector.shape, generator)
        return x0, eps, t, vector

    def pictures(self, weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Middle slices: maps asked for by FNC above those of the held-out people."""
        if len(self.unseen) == 0:
            return {}
        found = self.finish(weights)
        renderer = Renderer(found)
        assert self.card.fnc is not None
        some = self.unseen_vectors[:SHOWN].numpy() / self.card.fnc.gain + self.law.mean
        digests = [renderer.fnc.admit(Fnc(np.asarray(v, np.float32))) for v in some]
        asked = [Request(Conditions(fnc=digest), Seed(1)) for digest in digests]
        made = [finish(renderer.render(request)).data for request in asked]
        own = self._decoded(found, self.unseen[:SHOWN])
        rows = [np.hstack([middle(one) for one in row]) for row in (made, own)]
        return {"asked_and_own": np.vstack(rows)}

    @torch.no_grad()
    def _decoded(self, found: Checkpoint, latents: Tensor) -> list[np.ndarray]:
        """What the autoencoder makes of latents (N, C, i, j, k): maps (i, j, k)."""
        network: Any = found.autoencoder()
        raw = latents / self.card.latent_scale + found.latent_mean()
        return [network.decode(one[None])[0, 0].numpy() for one in raw]

    def finish(self, weights: Mapping[str, Tensor]) -> Checkpoint:
        """A GM-LDM: the autoencoder, the denoiser and the law of connectivity."""
        tensors = dict(self.checkpoint.tensors.items())
        tensors |= {f"denoiser.{k}": v.cpu().float() for k, v in weights.items()}
        tensors |= {
            f"fnc.{field.name}": torch.from_numpy(getattr(self.law, field.name))
            for field in fields(FncLaw)
        }
        if self.config.centred:
            tensors["latent.mean"] = torch.from_numpy(self.mean)
        return Checkpoint(self.card, tensors)


def _spec(config: GmLdmConfig, shape: tuple[int, ...], components: int) -> ViTSpec:
    """Sizes of the denoiser for latents of `shape` (N, C, i, j, k)."""
    if config.condition == "random" and config.prior_codes:
        raise EngineError(
            "gmldm.prior_codes lets the prior follow the connectivity, but gmldm."
            'condition is "random". Set prior_codes = 0.'
        )
    if config.prior_codes > config.prior_rank:
        raise EngineError(
            f"gmldm.prior_codes is {config.prior_codes}, but the prior has only "
            f"{config.prior_rank} directions. Set prior_codes to at most prior_rank."
        )
    prior = prior_spec(config, shape, "gmldm")
    i, j, k = shape[2:]
    return replace(
        config.spec,
        latent_channels=shape[1],
        grid=(i, j, k),
        components=components,
        droppable=config.drop > 0,
        prior=prior,
        prior_codes=config.prior_codes if prior is not None else 0,
    )

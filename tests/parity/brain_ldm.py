"""Every output of a parity set of the MONAI brain LDM bundle."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_brainldm.engine import diffusion

if TYPE_CHECKING:
    from tests.parity.sets import Opened


@torch.no_grad()
def outputs(set_: Opened) -> dict[str, Tensor]:
    """By name, computed with the product's networks and walk."""
    io, network = set_.io, set_.checkpoint.autoencoder()
    mean, sigma = network.encode(io["ae.in.image"])
    schedule = set_.checkpoint.card.schedule.build()
    context = io["unet.in.context"]
    eps = set_.checkpoint.denoiser()(
        io["unet.in.latent"], io["unet.in.timesteps"], context[:, 0]
    )
    found = {
        "ae.out.z_mu": mean,
        "ae.out.z_sigma": sigma,
        "ae.out.decoded": network.decode(io["ae.in.latent"]),
        "ae.out.reconstruction": network.decode(mean),
        "unet.out.eps": eps,
        "scheduler.alphas_cumprod": 1 / (1 + torch.tensor(schedule.sigmas[::-1]) ** 2),
    }
    counts = {m.group(1) for m in map(re.compile(r"ddim(\d+)\.").match, io) if m}
    for count in sorted(counts, key=int):
        found |= _ddim(set_, int(count))
    return found


def _ddim(set_: Opened, steps: int) -> dict[str, Tensor]:
    io, name = set_.io, f"ddim{steps}"
    noise, conditions = io["ddim10.in.noise"], io["ddim10.in.cond"][:, 0]
    card = set_.checkpoint.card
    visited = diffusion.timesteps(card.schedule.steps, steps, card.schedule.spacing)
    eps, latents = _walked(set_, noise, conditions, steps)
    last = latents[-1]
    picture = set_.checkpoint.autoencoder().decode(last / card.latent_scale)
    both = set_.io["unet.in.context"][:, 0]
    repeated = noise.expand(len(both), -1, -1, -1, -1)
    return {
        f"{name}.timesteps": torch.tensor(visited),
        f"{name}.traj.eps": torch.cat(eps),
        f"{name}.traj.latent": torch.cat(latents),
        f"{name}.out.latent": last,
        f"{name}.out.image": picture,
        f"{name}.out.nifti_uint8": _as_saved(picture),
        f"{name}.batch2.out.latent": _walked(set_, repeated, both, steps)[1][-1],
    }


def _walked(
    set_: Opened, noise: Tensor, conditions: Tensor, steps: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Predicted noise and x_t after every step."""
    spec = set_.checkpoint.card.schedule
    sigmas = diffusion.sampling_sigmas(spec.build(), steps, spec.spacing)
    x = noise * diffusion.vp_scale(sigmas[0])
    eps, latents = [], []
    walk = diffusion.walk(set_.bound.under(conditions), x, sigmas)
    for step, sigma, after in zip(walk, sigmas[:-1], sigmas[1:], strict=True):
        eps.append((x - step.x0) / sigma)
        x = step.x
        latents.append(x / diffusion.vp_scale(after))
    return eps, latents


def _as_saved(picture: Tensor) -> Tensor:
    """Cropped and scaled to bytes, as the bundle's old saver writes it."""
    inside = picture[0, 0, 5:-5, 5:-5, :-15].numpy()
    low, high = inside.min(), inside.max()
    return torch.from_numpy(((inside - low) / (high - low) * 255).astype(np.uint8))

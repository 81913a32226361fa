"""How a request walks down the noise levels: its sampler, checked and chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_brainldm.engine import diffusion
from napari_brainldm.engine.request import EngineError, Later, Request, drawn_from

if TYPE_CHECKING:
    from torch import nn

    from napari_brainldm.engine.card import Card

SAMPLERS = ("ddim", "ddpm", "dpm++2m")

MOST_YEARS = 100.0
"""From a scan to its forecast."""

ROUNDS = 2
"""Of fixed-point iterations in a step of an inversion."""


def check_sampler(request: Request) -> None:
    """Refuse what no picture can be made by."""
    sampler = request.sampler
    if sampler.name not in SAMPLERS:
        raise EngineError(
            f"The sampler {sampler.name!r} was asked for; known are "
            f"{', '.join(SAMPLERS)}. Choose one of these."
        )
    if sampler.eta and sampler.name != "ddim":
        raise EngineError(
            f"An eta of {sampler.eta:g} was asked for with {sampler.name}, which knows "
            "none. Choose the sampler ddim, or leave eta out."
        )
    seed = drawn_from(request.origin) or 0
    years = request.origin.years if isinstance(request.origin, Later) else 0.0
    for name, value, low, high in (
        ("seed", seed, 0, 2**62),
        ("eta", sampler.eta, 0, 1),
        ("number of years", years, -MOST_YEARS, MOST_YEARS),
        ("guidance", request.guidance, 0, 100),
    ):
        if not low <= value <= high:  # false for nan too
            raise EngineError(
                f"The {name} is {value}; {low} to {high} is possible. Choose such a "
                "number."
            )
    retraced = sampler.name == "ddim" and sampler.eta == 0.0
    if drawn_from(request.origin) is None and not retraced:
        raise EngineError(
            f"A picture of a scan was asked for with {sampler.name}, eta "
            f"{sampler.eta:g}; a scan is inverted by deterministic DDIM and must come "
            "back the same way. Choose the sampler ddim with eta 0."
        )


def sigmas_of(request: Request, card: Card) -> tuple[float, ...]:
    """Noise levels down which this picture is walked."""
    multistep = request.sampler.name == "dpm++2m"
    spacing = "karras" if multistep else card.schedule.spacing
    steps = request.sampler.steps
    return diffusion.sampling_sigmas(card.schedule.build(), steps, spacing)


def solver(
    requests: Sequence[Request],
    denoise: diffusion.Denoise,
    x: Tensor,
    sigmas: tuple[float, ...],
) -> Iterator[diffusion.Step]:
    """Steps down `sigmas` from `x` (B, C, i, j, k), a row for each of `requests`.

    They share the sampler; fresh noise comes from each one's own seed.
    """
    sampler = requests[0].sampler
    if sampler.name == "dpm++2m":
        return diffusion.multistep(denoise, x, sigmas)
    eta = 1.0 if sampler.name == "ddpm" else sampler.eta
    seeds = [drawn_from(request.origin) or 0 for request in requests]
    # another stream than the starting noise, which the same seed draws
    own = [torch.Generator().manual_seed(seed ^ 0x5EED) for seed in seeds]
    return diffusion.walk(denoise, x, sigmas, eta, own)


def raised(latent: Tensor, sigma: float, card: Card) -> Tensor:
    """Where inversion begins: `latent` in the sigma frame at the least noise.

    With the spacing "endpoints" the latent counts as x_t there.
    """
    endpoints = card.schedule.spacing == diffusion.ENDPOINTS
    return latent * diffusion.vp_scale(sigma) if endpoints else latent


def inverted(
    denoise: diffusion.Denoise, latent: Tensor, sigmas: tuple[float, ...], card: Card
) -> Iterator[diffusion.Step]:
    """Steps up `sigmas` from `latent` (1, C, i, j, k) to its noise.

    With the spacing "endpoints", or a clamp, as models of that kind are published: by
    DDIM's own inversion. Others are retraced: what comes back is then the latent, and
    the noise as long as noise is.
    """
    x, schedule = raised(latent, sigmas[0], card), card.schedule
    if schedule.spacing == diffusion.ENDPOINTS or schedule.clamp:
        return diffusion.walk(denoise, x, sigmas)
    if schedule.spacing == diffusion.LEADING:
        sigmas = (0.0, *sigmas)  # the least noise is a step of its own on the way down
    return diffusion.retraced(denoise, x, sigmas, ROUNDS)


def settled(x: Tensor, sigma: float) -> Tensor:
    """The latent that sampling ends with: x_t of its last level, which may be 0."""
    return x / diffusion.vp_scale(sigma) if sigma > 0 else x


def noisy(
    network: nn.Module,
    noise: Tensor,
    sigma: float,
    conditions: Tensor | None,
    semantic: Tensor | None = None,
) -> Tensor:
    """Where sampling begins: `noise` (1, C, i, j, k) as latents are at `sigma`.

    Latents have unit variance, or what the network's Gaussian prior knows of them
    under the conditions (1, n) or the semantic code (1, E).
    """
    prior = getattr(network, "prior", None)
    if prior is None:
        return noise * diffusion.vp_scale(sigma)
    with torch.no_grad():
        found: Tensor = prior.noisy(noise, sigma, *_told(conditions, semantic))
    return found


def noise_of(
    network: nn.Module,
    x: Tensor,
    sigma: float,
    conditions: Tensor | None,
    semantic: Tensor | None = None,
) -> Tensor:
    """Inverse of `noisy`: what an inverted scan is beside what the model was told."""
    prior = getattr(network, "prior", None)
    if prior is None:
        return x / diffusion.vp_scale(sigma)
    with torch.no_grad():
        found: Tensor = prior.noise_of(x, sigma, *_told(conditions, semantic))
    return found


def retold(network: nn.Module, noise: Tensor, sigma: float, semantic: Tensor) -> Tensor:
    """The noise that begins under a code (1, E) where `noise` begins without one."""
    return noise_of(network, noisy(network, noise, sigma, None), sigma, None, semantic)


def _told(conditions: Tensor | None, semantic: Tensor | None) -> tuple[Any, ...]:
    """What a prior is told; most know no semantic codes."""
    return (conditions,) if semantic is None else (conditions, semantic)


def stepwise(steps: Iterator[diffusion.Step]) -> Iterator[diffusion.Step]:
    """The same steps, computed without gradients although the caller is a generator."""
    while True:
        with torch.no_grad():
            step = next(steps, None)
        if step is None:
            return
        yield step

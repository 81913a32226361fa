"""Noise schedules, training targets and the one walk between noise and picture.

Everything here lives in the sigma frame: x = x0 + sigma * eps. A variance-preserving
model (DDPM, DDIM) sees x / sqrt(1 + sigma^2), which is its own x_t, since
sigma = sqrt((1 - abar) / abar). In this frame DDIM is Euler's method for the
probability-flow ODE, its inversion the same steps taken upwards, and DDPM the same
steps with noise put back (Song 2021, https://arxiv.org/abs/2010.02502;
Karras 2022, https://arxiv.org/abs/2206.00364).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from napari_brainldm.engine.request import EngineError

Denoise = Callable[[Tensor, float], Tensor]
"""x (B, C, i, j, k) at noise level sigma -> the clean x0 it predicts."""

LEADING = "leading"
"""The spacing whose last step leaves from the least training noise."""

ENDPOINTS = "endpoints"
"""The spacing that treats a latent as x_t of the least training noise, both ways."""

TwoBranches = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""As `Network`, with the gradient of a semantic code beside the prediction."""

Network = Callable[[Tensor, Tensor], Tensor]
"""x_t (B, C, i, j, k), timesteps (B,) -> the prediction, conditions already bound."""


@dataclass(frozen=True)
class Schedule:
    """The noise levels of training.

    Attributes
    ----------
    sigmas
        Descending, one per training timestep; the last is the least noise.
    """

    sigmas: tuple[float, ...]

    def timestep(self, sigma: float) -> float:
        """Training timestep of `sigma`, interpolated in log sigma; 0 is least noise."""
        ascending = np.log(np.array(self.sigmas[::-1]))
        return float(np.interp(math.log(sigma), ascending, np.arange(len(ascending))))

    def at(self, timesteps: Sequence[int]) -> tuple[float, ...]:
        """Sigmas of the training `timesteps`."""
        last = len(self.sigmas) - 1
        return tuple(self.sigmas[last - t] for t in timesteps)


def linear(steps: int, beta_start: float, beta_end: float) -> Schedule:
    """Betas evenly spaced (Ho 2020; the paper's "fixed linear variance schedule")."""
    return _from_betas(np.linspace(beta_start, beta_end, steps))


def scaled_linear(steps: int, beta_start: float, beta_end: float) -> Schedule:
    """Square roots of the betas evenly spaced (Rombach 2022)."""
    return _from_betas(np.linspace(beta_start**0.5, beta_end**0.5, steps) ** 2)


def _from_betas(betas: np.ndarray) -> Schedule:
    alpha_bar = np.cumprod(1.0 - betas.astype(np.float64))
    sigmas = np.sqrt((1.0 - alpha_bar) / alpha_bar)
    return Schedule(tuple(float(s) for s in sigmas[::-1]))


def timesteps(train_steps: int, steps: int, spacing: str) -> tuple[int, ...]:
    """Training timesteps visited in `steps` steps, descending.

    "leading" is 0, n, 2n, ... with n = train_steps // steps (the public brain LDM);
    "trailing" ends at the last training timestep, so that sampling starts from the
    noise level that pure noise really has (Lin 2024, https://arxiv.org/abs/2305.08891).
    "endpoints" has both ends of the schedule, so one timestep more than steps (LDAE).
    """
    if not 1 <= steps <= train_steps:
        raise EngineError(
            f"{steps} denoising steps were asked for; this checkpoint takes 1 to "
            f"{train_steps}. Choose a number in that range."
        )
    if spacing == LEADING:
        return tuple(int(t) for t in np.arange(steps)[::-1] * (train_steps // steps))
    if spacing == ENDPOINTS:
        return tuple(int(t) for t in np.linspace(0, train_steps - 1, steps + 1)[::-1])
    ends = np.round(np.arange(steps, 0, -1) * (train_steps / steps))
    return tuple(int(t) - 1 for t in ends)


def sampling_sigmas(
    schedule: Schedule, steps: int, spacing: str = "trailing"
) -> tuple[float, ...]:
    """Noise levels of a sampling run, descending: `steps` + 1, the last of them 0.

    "leading" and "trailing" are training timesteps; "karras" spaces sigma^(1/7) evenly
    (Karras 2022, equation 5), which ends near the least noise even in a few steps.
    With "endpoints" the last level is the least training noise, not 0.
    """
    visited = timesteps(len(schedule.sigmas), steps, spacing)
    if spacing == "karras":
        roots = np.linspace(schedule.sigmas[0] ** (1 / 7), _floor(schedule), steps)
        return (*(float(s) for s in roots**7), 0.0)
    if spacing == ENDPOINTS:
        return schedule.at(visited)
    return (*schedule.at(visited), 0.0)


def _floor(schedule: Schedule) -> float:
    return float(schedule.sigmas[-1] ** (1 / 7))


def inversion_sigmas(sigmas: Sequence[float], schedule: Schedule) -> tuple[float, ...]:
    """The way back up `sigmas`, from the least training noise, where eps is defined."""
    least = schedule.sigmas[-1]  # where "endpoints" begins as it is
    return (least, *(s for s in sorted(sigmas) if s > least))


def vp_scale(sigma: float) -> float:
    """Standard deviation of x in the sigma frame when x0 and eps have unit variance."""
    return math.sqrt(1.0 + sigma * sigma)


def denoiser(network: Network, schedule: Schedule, prediction: str) -> Denoise:
    """Wrap a variance-preserving `network` as x0 = D(x, sigma).

    `prediction` is what the network was trained to give: "epsilon", "v" or "sample".
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        scale = vp_scale(sigma)
        t = torch.full((x.shape[0],), schedule.timestep(sigma), device=x.device)
        out = network(x / scale, t).to(x.dtype)
        return to_x0(prediction, x, out, sigma)

    return denoise


def shifted(network: TwoBranches, schedule: Schedule, prediction: str) -> Denoise:
    """As `denoiser`, moved along the estimated gradient G of a semantic code."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        scale = vp_scale(sigma)
        t = torch.full((x.shape[0],), schedule.timestep(sigma), device=x.device)
        out, gradient = (part.to(x.dtype) for part in network(x / scale, t))
        return to_x0(prediction, x, drifted(prediction, out, gradient, sigma), sigma)

    return denoise


def drifted(
    prediction: str, out: Tensor, gradient: Tensor, sigma: float | Tensor
) -> Tensor:
    """The output `out` of a network, moved along the gradient G of a semantic code.

    A noise is taken to be eps - sqrt(1 - abar) G (Zhang 2022, PDAE; LDAE). In other
    predictions G is in their own unit, v - G and x0 + G: at high noise, where the
    attributes of a whole brain are decided, eps hardly depends on them.
    """
    if prediction == "epsilon":
        return out - (sigma / (1.0 + sigma * sigma) ** 0.5) * gradient
    return out - gradient if prediction == "v" else out + gradient


def clamped(denoise: Denoise, limit: float) -> Denoise:
    """`denoise` with its x0 kept within -limit to limit."""
    return lambda x, sigma: denoise(x, sigma).clamp(-limit, limit)


def to_x0(prediction: str, x: Tensor, out: Tensor, sigma: float | Tensor) -> Tensor:
    """Predicted x0 from the network's output `out` at `x` = x0 + sigma eps."""
    if prediction == "epsilon":
        return x - sigma * out
    if prediction == "v":  # v = (eps - sigma x0) / sqrt(1 + sigma^2), Salimans 2022
        scale = (1.0 + sigma * sigma) ** 0.5
        return x / scale**2 - (sigma / scale) * out
    if prediction == "sample":
        return out
    raise _unknown_prediction(prediction)


def target(prediction: str, x0: Tensor, eps: Tensor, sigma: Tensor) -> Tensor:
    """What the network is trained to give; `sigma` broadcasts over (B, C, i, j, k)."""
    if prediction == "epsilon":
        return eps
    if prediction == "v":
        return (eps - sigma * x0) / torch.sqrt(1.0 + sigma**2)
    if prediction == "sample":
        return x0
    raise _unknown_prediction(prediction)


def _unknown_prediction(prediction: str) -> EngineError:
    return EngineError(
        f"The card says the denoiser predicts {prediction!r}; this program knows "
        "'epsilon', 'v' and 'sample'. Import the weights with one of these."
    )


def guided(conditional: Denoise, unconditional: Denoise, weight: float) -> Denoise:
    """Classifier-free guidance (Ho 2021): away from the unconditional prediction."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        base = unconditional(x, sigma)
        return base + weight * (conditional(x, sigma) - base)

    return denoise


@dataclass(frozen=True, eq=False)
class Step:
    """One finished step of a walk.

    Attributes
    ----------
    index, total
        Steps done and steps in all.
    x
        (B, C, i, j, k) in the sigma frame, at the noise level just reached.
    x0
        (B, C, i, j, k), the clean picture predicted in this step.
    """

    index: int
    total: int
    x: Tensor
    x0: Tensor


def walk(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    eta: float = 0.0,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> Iterator[Step]:
    """Follow the probability-flow ODE through `sigmas`: down samples, up inverts.

    With `eta` > 0 each step down puts fresh noise back: eta 1 through all training
    timesteps is DDPM's ancestral sampling, eta between 0 and 1 is DDIM's family
    (Song 2021, equation 16, written in the sigma frame). `generator` may be one for
    each picture of the batch.
    """
    for index, (sigma, sigma_next) in enumerate(pairwise(sigmas), start=1):
        x0 = denoise(x, sigma)
        eps = (x - x0) / sigma
        fresh = eta * fresh_noise(sigma, sigma_next)
        x = x0 + math.sqrt(sigma_next**2 - fresh**2) * eps
        if fresh > 0:
            x = x + fresh * randn(x.shape, generator).to(x)
        yield Step(index, len(sigmas) - 1, x, x0)


def retraced(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], rounds: int
) -> Iterator[Step]:
    """Up `sigmas` to where `walk` down the same levels, and on to 0, comes back to `x`.

    `sigmas` may begin with 0, where the way down visits the least noise by itself.
    DDIM's inversion takes the noise of a step from its lower end; the step down will
    take it from the upper one. Each step solves for the place from which that comes
    back, in `rounds` fixed-point iterations (Pan 2023, AIDI,
    https://arxiv.org/abs/2309.04907).
    """
    for index, (sigma, above) in enumerate(pairwise(sigmas), start=1):
        x0 = guess = x
        if sigma > 0:  # else there is no noise yet to follow
            x0 = denoise(x, sigma)
            guess = x0 + above * (x - x0) / sigma
        below = 0.0 if index == 1 else sigma  # the way down ends without noise
        for _ in range(rounds):
            x0 = denoise(guess, above)
            guess = x + (above - below) * (guess - x0) / above
        x = guess
        yield Step(index, len(sigmas) - 1, x, x0)


def fresh_noise(sigma: float, sigma_next: float) -> float:
    """SD of the noise an ancestral step from `sigma` down to `sigma_next` adds."""
    if sigma_next >= sigma:
        return 0.0
    return sigma_next * math.sqrt(sigma**2 - sigma_next**2) / sigma


def multistep(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Iterator[Step]:
    """DPM-Solver++(2M) down `sigmas` (Lu 2022, https://arxiv.org/abs/2211.01095).

    In the sigma frame alpha is 1 and lambda is -ln sigma; the step to sigma 0 is the
    first-order one, x0 itself.
    """
    previous: Tensor | None = None
    step_before = 0.0
    for index, (sigma, sigma_next) in enumerate(pairwise(sigmas), start=1):
        x0 = denoise(x, sigma)
        step = math.log(sigma / sigma_next) if sigma_next > 0 else math.inf
        slope = x0
        if previous is not None and sigma_next > 0:
            slope = x0 + (step / (2 * step_before)) * (x0 - previous)
        x = (sigma_next / sigma) * x - math.expm1(-step) * slope
        previous, step_before = x0, step
        yield Step(index, len(sigmas) - 1, x, x0)


def randn(
    shape: Sequence[int], generator: torch.Generator | Sequence[torch.Generator] | None
) -> Tensor:
    """Unit Gaussian noise from the CPU generator: the same numbers for any device.

    With several generators each draws its own row of `shape`.
    """
    if isinstance(generator, Sequence):
        return torch.cat([randn((1, *shape[1:]), own) for own in generator])
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


def noise(shape: Sequence[int], seed: int) -> Tensor:
    """Unit Gaussian noise (1, C, i, j, k) of `seed`, on the CPU."""
    return randn((1, *shape), torch.Generator().manual_seed(seed))

"""What a Gaussian fitted to the training latents knows: the denoiser's first guess.

At high noise the best denoiser of any data is nearly that of the Gaussian with the same
mean and covariance (Wang & Vastola 2024, TMLR, "The unreasonable effectiveness of
Gaussian score approximation"). Given to the network, which then predicts what is left,
it saves a short training the slowest part: where a brain is, how large, and how the
conditions move it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PriorSpec:
    """Sizes of a Gaussian prior.

    Attributes
    ----------
    rank
        Directions with variances of their own.
    grid
        (i, j, k) of the latents.
    steps
        Timesteps of the schedule.
    """

    rank: int
    grid: tuple[int, int, int]
    steps: int = 1000

    def build(self, latent_channels: int, condition_size: int) -> GaussianPrior:
        """The prior before it is fitted."""
        shape = (latent_channels, *self.grid)
        return GaussianPrior(shape, condition_size, self.rank, self.steps)


class GaussianPrior(nn.Module):
    """The least-squares denoiser of latents that are Gaussian under the conditions.

    The mean is a linear function of the condition vector; the covariance has `rank`
    directions with variances of their own and one variance for all others.

    Parameters
    ----------
    shape
        (C, i, j, k) of the latents.
    condition_size
        Length of the condition vector.
    rank
        Number of directions.
    steps
        Timesteps of the schedule.

    Attributes
    ----------
    slopes
        (n, D): how the mean moves with each condition; D = C i j k.
    centre
        (n,): the conditions at which the mean is 0.
    basis
        (rank, D), orthonormal rows.
    variances
        (rank,), along `basis`.
    rest
        () along all other directions.
    sigmas
        (steps,): noise level of each timestep, rising.
    """

    slopes: Tensor
    centre: Tensor
    basis: Tensor
    variances: Tensor
    rest: Tensor
    sigmas: Tensor

    def __init__(
        self, shape: tuple[int, ...], condition_size: int, rank: int, steps: int
    ) -> None:
        super().__init__()
        size = math.prod(shape)
        self.register_buffer("slopes", torch.zeros(condition_size, size))
        self.register_buffer("centre", torch.zeros(condition_size))
        self.register_buffer("basis", torch.zeros(rank, size))
        self.register_buffer("variances", torch.ones(rank))
        self.register_buffer("rest", torch.ones(()))
        self.register_buffer("sigmas", torch.linspace(0.01, 100.0, steps))

    def forward(self, x: Tensor, t: Tensor, conditions: Tensor | None) -> Tensor:
        """The velocity v predicted from x (B, C, i, j, k), of unit variance, at t (B,).

        A row of NaN in `conditions` (B, n), or None, is a dropped condition: the mean
        is then that at `centre`.
        """
        with torch.autocast(x.device.type, enabled=False):
            sigma = self._sigma(t)[:, None]
            scale = torch.sqrt(1 + sigma**2)
            flat = x.float().flatten(1)
            clean = self._clean(flat * scale, sigma, self._mean(flat, conditions))
            return ((flat / scale - clean) * scale / sigma).view_as(x)

    def noisy(self, noise: Tensor, sigma: float, conditions: Tensor | None) -> Tensor:
        """What latents under `conditions` are at `sigma`: x0 + sigma eps, in law.

        `noise` (B, C, i, j, k) is standard normal. At the end of a schedule latents are
        not yet pure noise; sampling that began as if they were would lose what the
        conditions say of the mean, and spread along the leading directions.
        """
        flat = noise.float().flatten(1)
        lengths, rest = self._lengths(sigma)
        scaled = self._scaled(flat, lengths, rest, self._mean(flat, conditions))
        return scaled.view_as(noise)

    def noise_of(self, x: Tensor, sigma: float, conditions: Tensor | None) -> Tensor:
        """Inverse of `noisy`."""
        flat = x.float().flatten(1)
        flat = flat - self._mean(flat, conditions)
        lengths, rest = self._lengths(sigma)
        return self._scaled(flat, 1 / lengths, 1 / rest).view_as(x)

    def _lengths(self, sigma: float) -> tuple[Tensor, Tensor]:
        """SDs at `sigma` along `basis` (rank,) and along all other directions ()."""
        return (self.variances + sigma**2).sqrt(), (self.rest + sigma**2).sqrt()

    def _clean(self, x: Tensor, sigma: Tensor, mean: Tensor) -> Tensor:
        """E[x0 | x] of x = x0 + sigma eps (B, D): the Wiener filter about `mean`."""
        rest = self.rest / (self.rest + sigma**2)
        gains = self.variances / (self.variances + sigma**2)
        return self._scaled(x - mean, gains, rest, mean)

    def _scaled(
        self, x: Tensor, along: Tensor, rest: Tensor, mean: Tensor | float = 0.0
    ) -> Tensor:
        """`mean` and x (B, D) times `along` in the basis, `rest` across it."""
        parts = (x @ self.basis.T) * (along - rest)
        return mean + rest * x + parts @ self.basis

    def _mean(self, x: Tensor, conditions: Tensor | None) -> Tensor:
        if conditions is None or not len(self.slopes):
            return torch.zeros_like(x)
        away = torch.nan_to_num(conditions.to(x) - self.centre)
        return away.expand(len(x), -1) @ self.slopes

    def _sigma(self, t: Tensor) -> Tensor:
        """Noise levels at timesteps t (B,); between two, as `diffusion.Schedule`."""
        last = len(self.sigmas) - 1
        t = t.float().clamp(0, last)
        below = t.floor().long().clamp(max=max(last - 1, 0))
        low, high = self.sigmas[below], self.sigmas[(below + 1).clamp(max=last)]
        return low * (high / low) ** (t - below)

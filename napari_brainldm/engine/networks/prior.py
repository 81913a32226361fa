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

    def build(
        self, latent_channels: int, condition_size: int, code_size: int = 0
    ) -> GaussianPrior:
        """The prior before it is fitted."""
        shape = (latent_channels, *self.grid)
        return GaussianPrior(shape, condition_size, self.rank, self.steps, code_size)


class GaussianPrior(nn.Module):
    """The least-squares denoiser of latents that are Gaussian under the conditions.

    The mean is a linear function of the condition vector; the covariance has `rank`
    directions with variances of their own and one variance for all others. A semantic
    code, too, may tell: where a latent lies along these directions is then a linear
    function of the code, and the variance that is left is a share of the whole.

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
    code_size
        Length of a semantic code; 0 for none.

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
    meaning
        Where a code places a latent along `basis`, in SD; it begins at 0.
    left
        (rank,): log odds of the share of `variances` that is left under a code.
    """

    slopes: Tensor
    centre: Tensor
    basis: Tensor
    variances: Tensor
    rest: Tensor
    sigmas: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        condition_size: int,
        rank: int,
        steps: int,
        code_size: int = 0,
    ) -> None:
        super().__init__()
        size = math.prod(shape)
        self.register_buffer("slopes", torch.zeros(condition_size, size))
        self.register_buffer("centre", torch.zeros(condition_size))
        self.register_buffer("basis", torch.zeros(rank, size))
        self.register_buffer("variances", torch.ones(rank))
        self.register_buffer("rest", torch.ones(()))
        self.register_buffer("sigmas", torch.linspace(0.01, 100.0, steps))
        if code_size:
            self.meaning = nn.Linear(code_size, rank)
            nn.init.zeros_(self.meaning.weight)
            nn.init.zeros_(self.meaning.bias)
            self.left = nn.Parameter(torch.full((rank,), 2.0))

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

    def gradient(self, x: Tensor, t: Tensor, code: Tensor) -> Tensor:
        """What a semantic code (B, E) takes from the velocity predicted without it.

        The difference of two Wiener filters, that without the code and that about the
        place where the code says the latent lies.
        """
        with torch.autocast(x.device.type, enabled=False):
            sigma = self._sigma(t)[:, None]
            scale = torch.sqrt(1 + sigma**2)
            seen = (x.float().flatten(1) * scale) @ self.basis.T
            mean, variances = self._told(code)
            clean = mean + variances / (variances + sigma**2) * (seen - mean)
            moved = clean - self.variances / (self.variances + sigma**2) * seen
            return ((moved @ self.basis) * scale / sigma).view_as(x)

    def noisy(
        self,
        noise: Tensor,
        sigma: float,
        conditions: Tensor | None,
        code: Tensor | None = None,
    ) -> Tensor:
        """What latents under `conditions` are at `sigma`: x0 + sigma eps, in law.

        `noise` (B, C, i, j, k) is standard normal. At the end of a schedule latents are
        not yet pure noise; sampling that began as if they were would lose what the
        conditions, or a semantic code (B, E), say of the mean, and spread along the
        leading directions.
        """
        flat = noise.float().flatten(1)
        mean, lengths, rest = self._law(flat, sigma, conditions, code)
        return self._scaled(flat, lengths, rest, mean).view_as(noise)

    def noise_of(
        self,
        x: Tensor,
        sigma: float,
        conditions: Tensor | None,
        code: Tensor | None = None,
    ) -> Tensor:
        """Inverse of `noisy`."""
        flat = x.float().flatten(1)
        mean, lengths, rest = self._law(flat, sigma, conditions, code)
        return self._scaled(flat - mean, 1 / lengths, 1 / rest).view_as(x)

    def _law(
        self, x: Tensor, sigma: float, conditions: Tensor | None, code: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (B, D) and SDs at `sigma`: along `basis` (rank,), and across it ()."""
        mean, variances = self._mean(x, conditions), self.variances
        if code is not None:
            place, variances = self._told(code)
            mean = mean + place @ self.basis
        return mean, (variances + sigma**2).sqrt(), (self.rest + sigma**2).sqrt()

    def _told(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, rank) and variances (rank,) along `basis` under a code (B, E)."""
        place: Tensor = self.meaning(code.float())
        return place * self.variances.sqrt(), self.variances * torch.sigmoid(self.left)

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

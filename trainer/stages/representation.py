"""What LDAE's second training minimises: the noise that semantic codes explain.

https://arxiv.org/abs/2504.08635, equation 9, as its authors' weights were trained: the
gradient enters with DDPM's coefficient, and steps weigh by a power of their signal to
noise ratio (Zhang 2022, PDAE, https://arxiv.org/abs/2212.12990).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_brainldm.engine import diffusion

if TYPE_CHECKING:
    from napari_brainldm.engine.diffusion import Schedule

GAMMA = 0.1
"""Power of the signal to noise ratio in the weights."""


def weights_at(sigmas: Tensor, gamma: float = GAMMA) -> Tensor:
    """Weight of each noise level: SNR^gamma / (1 + SNR); SNR is 1 / sigma^2."""
    snr = 1.0 / sigmas.double() ** 2
    return snr**gamma / (1 + snr)


def even_weights_at(sigmas: Tensor) -> Tensor:
    """Weight of each noise level that turns squared noise into squared error of v."""
    return 1 + sigmas.double() ** 2


def weights(schedule: Schedule, gamma: float = GAMMA) -> Tensor:
    """Weight of each timestep (T,), least noise first."""
    return weights_at(torch.from_numpy(_ascending(schedule)), gamma)


def noise_left(
    prediction: str,
    outputs: tuple[Tensor, Tensor],
    truth: tuple[Tensor, Tensor],
    sigma: Tensor,
) -> Tensor:
    """Squared noise (B, C, i, j, k) that prediction and gradient do not explain.

    The gradient enters as in sampling, `diffusion.drifted`.

    Parameters
    ----------
    prediction
        What the denoiser gives: "epsilon", "v" or "sample".
    outputs
        Its prediction and the gradient, (B, C, i, j, k).
    truth
        x_0 and the noise, (B, C, i, j, k).
    sigma
        Noise levels, which broadcast over these.
    """
    out, gradient = (part.float() for part in outputs)
    x0, eps = truth
    x = x0 + sigma * eps
    moved = diffusion.drifted(prediction, out, gradient, sigma)
    clean = diffusion.to_x0(prediction, x, moved, sigma)
    return (eps - (x - clean) / sigma) ** 2


def gradient_coefficients(schedule: Schedule) -> Tensor:
    """What the gradient is multiplied by at each timestep (T,), least noise first.

    -sqrt(alpha_t) (1 - abar_{t-1}) / sqrt(1 - abar_t), the mean of DDPM's step.
    """
    alpha_bar = 1.0 / (1.0 + _ascending(schedule) ** 2)
    before = np.concatenate([[1.0], alpha_bar[:-1]])
    alpha = alpha_bar / before
    return torch.from_numpy(-np.sqrt(alpha) * (1 - before) / np.sqrt(1 - alpha_bar))


def _ascending(schedule: Schedule) -> np.ndarray:
    return np.array(schedule.sigmas[::-1], np.float64)


def representation_loss(
    schedule: Schedule,
    predicted: tuple[Tensor, Tensor],
    noise: Tensor,
    t: Tensor,
) -> Tensor:
    """Weighted mean square of the noise that is not explained, ().

    Parameters
    ----------
    predicted
        Noise and gradient (B, C, i, j, k) of the two branches at x_t.
    noise
        (B, C, i, j, k), what was put into x_t.
    t
        (B,), timesteps.
    """
    eps, gradient = predicted
    weight, coefficient = (
        table.to(noise)[t].view(-1, 1, 1, 1, 1)
        for table in (weights(schedule), gradient_coefficients(schedule))
    )
    return (weight * (noise - (eps + coefficient * gradient)) ** 2).mean()

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

if TYPE_CHECKING:
    from napari_brainldm.engine.diffusion import Schedule

GAMMA = 0.1
"""Power of the signal to noise ratio in the weights."""


def weights(schedule: Schedule, gamma: float = GAMMA) -> Tensor:
    """Weight of each timestep (T,), least noise first: SNR^gamma / (1 + SNR)."""
    snr = 1.0 / _ascending(schedule) ** 2
    return torch.from_numpy(snr**gamma / (1 + snr))


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

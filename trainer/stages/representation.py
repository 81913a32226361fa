"""What LDAE's second training minimises: the noise that semantic codes explain.

https://arxiv.org/abs/2504.08635, equation 9, but that the gradient enters as it does in
sampling; steps weigh by a power of their signal to noise ratio (Zhang 2022, PDAE,
https://arxiv.org/abs/2212.12990).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_brainldm.engine import diffusion

if TYPE_CHECKING:
    from torch import Tensor

GAMMA = 0.1
"""Power of the signal to noise ratio in the weights."""


def weights_at(sigmas: Tensor, gamma: float = GAMMA) -> Tensor:
    """Weight of each noise level: SNR^gamma / (1 + SNR); SNR is 1 / sigma^2."""
    snr = 1.0 / sigmas.double() ** 2
    return snr**gamma / (1 + snr)


def even_weights_at(sigmas: Tensor) -> Tensor:
    """Weight of each noise level that turns squared noise into squared error of v."""
    return 1 + sigmas.double() ** 2


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

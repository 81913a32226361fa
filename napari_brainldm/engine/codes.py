"""What a scan becomes inside a model, and the pure moves between such codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PARALLEL = 1e-4  # radians below which slerp's division loses all digits


@dataclass(frozen=True, eq=False)
class Code:
    """The code of one scan.

    Attributes
    ----------
    latent
        (1, C, i, j, k), the autoencoder's mean latent, centred and scaled as
        the card says.
    stochastic
        (1, C, i, j, k), the latent walked up to the most noise; unit variance. None
        when the scan was encoded by an autoencoder alone.
    semantic
        (1, E), what the semantic encoder says of the picture; None without one.
    """

    latent: Tensor
    stochastic: Tensor | None = None
    semantic: Tensor | None = None


def lerp(first: Tensor, second: Tensor, fraction: float) -> Tensor:
    """Straight line from `first` (fraction 0) to `second` (1), or beyond."""
    return first + fraction * (second - first)


def slerp(first: Tensor, second: Tensor, fraction: float) -> Tensor:
    """Along the arc from `first` to `second` (any equal shapes), flattened.

    Keeps the norm of Gaussian noise, which a straight line shrinks (Shoemake 1985).
    """
    a, b = first.double().flatten(), second.double().flatten()
    cosine = torch.dot(a, b) / (a.norm() * b.norm())
    angle = torch.arccos(cosine.clamp(-1.0, 1.0))
    if angle < PARALLEL:
        return lerp(first, second, fraction)
    left = torch.sin((1 - fraction) * angle) / torch.sin(angle)
    right = torch.sin(fraction * angle) / torch.sin(angle)
    return (left * first.double() + right * second.double()).to(first.dtype)


def between(first: Code, second: Code, fraction: float) -> Code:
    """The code at `fraction` of the way: noise by slerp, the others by lerp."""
    latent = lerp(first.latent, second.latent, fraction)
    noise = semantic = None
    if first.stochastic is not None and second.stochastic is not None:
        noise = slerp(first.stochastic, second.stochastic, fraction)
    if first.semantic is not None and second.semantic is not None:
        semantic = lerp(first.semantic, second.semantic, fraction)
    return Code(latent, noise, semantic)

"""Pictures as another scanner might have made them, for what must not mind scanners."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

COARSE = 4
"""Nodes of the slow shading along each axis."""


def jittered(
    picture: Tensor, amount: float, seed: int, percentile: float = 99.5
) -> Tensor:
    """A picture (1, i, j, k) in [0, 1] under another contrast, shading and noise.

    Parameters
    ----------
    amount
        SD of the logarithms of gamma and of the shading; a quarter of it is that of the
        noise. 0 leaves the picture as it is.
    seed
        The same seed, the same scanner.
    percentile
        Of the brain, which is where the picture is above 0; becomes 1 again.
    """
    if amount == 0:
        return picture
    generator = torch.Generator().manual_seed(seed)
    brain = picture > 0
    gamma = torch.exp(amount * torch.randn((), generator=generator))
    nodes = torch.randn((1, 1, *(COARSE,) * 3), generator=generator)
    shading = functional.interpolate(
        nodes, picture.shape[1:], mode="trilinear", align_corners=True
    )[0]
    made = picture.clamp(min=0) ** gamma * torch.exp(amount * shading)
    made = made + amount / 4 * torch.randn(picture.shape, generator=generator)
    made = torch.where(brain, made.clamp(min=0), 0.0)
    seen = made[brain][:: max(1, int(brain.sum()) // 20_000)]
    unit = torch.quantile(seen, percentile / 100) if len(seen) else torch.tensor(1.0)
    return (made / unit.clamp(min=1e-6)).clamp(max=1.0)

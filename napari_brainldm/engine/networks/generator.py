"""The generator of the GAN baselines: noise to picture in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class GeneratorSpec:
    """Sizes of a generator.

    Attributes
    ----------
    shape
        Voxels (i, j, k) of its pictures, multiples of 2 to the number of levels.
    noise
        Numbers that a picture is made of.
    channels
        Feature channels, coarsest first; each level after the first doubles every axis,
        and so does the last layer.
    """

    shape: tuple[int, int, int]
    noise: int = 128
    channels: tuple[int, ...] = (256, 128, 64, 32)

    @property
    def factor(self) -> int:
        """The coarsest level's axes are the picture's over this."""
        return int(2 ** len(self.channels))

    @property
    def start(self) -> tuple[int, int, int]:
        """Voxels (i, j, k) of the coarsest level."""
        i, j, k = (n // self.factor for n in self.shape)
        return i, j, k

    def build(self) -> Generator:
        """The network with fresh weights."""
        return Generator(self)


class Generator(nn.Module):
    """Pictures in [0, 1] from standard normal noise."""

    def __init__(self, spec: GeneratorSpec) -> None:
        super().__init__()
        self.start = (spec.channels[0], *spec.start)
        i, j, k = spec.start
        self.spread = nn.Linear(spec.noise, spec.channels[0] * i * j * k)
        pairs = pairwise(spec.channels)
        self.levels = nn.ModuleList([_level(a, b) for a, b in pairs])
        self.last = nn.Conv3d(spec.channels[-1], 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, 1, i, j, k) of noise (B, N)."""
        x = functional.relu(self.spread(z)).reshape(len(z), *self.start)
        for level in self.levels:
            x = level(_doubled(x))
        picture: Tensor = torch.sigmoid(self.last(_doubled(x)).float())
        return picture


def _level(before: int, after: int) -> nn.Module:
    # instance statistics: a 3D batch is too small for those of a batch
    return nn.Sequential(
        nn.Conv3d(before, after, 3, padding=1),
        nn.InstanceNorm3d(after, affine=True),
        nn.ReLU(),
    )


def _doubled(x: Tensor) -> Tensor:
    # by repetition and a convolution: transposed ones leave a chequered pattern
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")

"""The network that reads age or sex in a picture: Cole's 3D CNN."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ReaderSpec:
    """Sizes of a reader (Cole 2017) and what it reads.

    Attributes
    ----------
    shape
        Voxels (i, j, k) of its pictures.
    channels
        Of every block; each halves every axis. The paper's are 8 to 128.
    reads
        Covariate that it reads: "age", "sex".
    categories
        Of a covariate of two categories, coded 0 and 1; empty for a number.
    mean, spread
        Of a number in the training set: the network gives (value - mean) / spread.
    """

    shape: tuple[int, int, int]
    channels: tuple[int, ...] = (8, 16, 32, 64, 128)
    reads: str = "age"
    categories: tuple[str, ...] = ()
    mean: float = 0.0
    spread: float = 1.0

    def build(self) -> Reader:
        """The network with fresh weights."""
        return Reader(self)


class Reader(nn.Module):
    """One number for pictures in [0, 1]: normalised value, or log odds."""

    def __init__(self, spec: ReaderSpec) -> None:
        super().__init__()
        blocks = [_block(a, b) for a, b in pairwise((1, *spec.channels))]
        self.blocks = nn.Sequential(*blocks)
        factor = 2 ** len(spec.channels)
        i, j, k = (n // factor for n in spec.shape)
        self.head = nn.Linear(spec.channels[-1] * i * j * k, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B,) of pictures (B, 1, i, j, k)."""
        said: Tensor = self.head(torch.flatten(self.blocks(x), 1))
        return said[:, 0]


def _block(before: int, after: int) -> nn.Module:
    """Two convolutions, the second normalised, and a maximum over 2 x 2 x 2."""
    return nn.Sequential(
        nn.Conv3d(before, after, 3, padding=1),
        nn.ReLU(),
        nn.Conv3d(after, after, 3, padding=1),
        nn.BatchNorm3d(after),
        nn.ReLU(),
        nn.MaxPool3d(2),
    )

"""No autoencoder at all: voxels in blocks, so that a diffusion model sees them all.

The comparison of a latent with a voxel-space diffusion model then differs in this one
part: a "latent" voxel is a block of voxels, each a channel, and nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_brainldm.engine.networks.preview import folded, unfolded

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class PatchesSpec:
    """Sizes of the blocks.

    Attributes
    ----------
    shape
        (i, j, k) of the maps, padded with 0 to whole blocks.
    edge
        Voxels of a block along each axis.
    """

    shape: Shape
    edge: int = 8

    @property
    def factor(self) -> int:
        """Voxels per block along each axis."""
        return self.edge

    @property
    def latent_channels(self) -> int:
        """Voxels of a block."""
        return self.edge**3

    def latent_shape(self, shape: Shape) -> tuple[int, int, int, int]:
        """(C, a, b, c) of the blocks of maps of `shape`."""
        a, b, c = (-(-n // self.edge) for n in shape)
        return (self.latent_channels, a, b, c)

    def build(self) -> Patches:
        """The network, which has nothing to learn."""
        return Patches(self)


class Patches(nn.Module):
    """Maps (B, 1, i, j, k) to blocks (B, edge^3, a, b, c) and back, unchanged."""

    def __init__(self, spec: PatchesSpec) -> None:
        super().__init__()
        self.spec = spec

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The blocks, and an SD of 0."""
        edge = self.spec.edge
        ends = [(-n) % edge for n in reversed(self.spec.shape)]
        padded = functional.pad(x, [p for end in ends for p in (0, end)])
        found = folded(padded, edge)
        return found, torch.zeros_like(found)

    def decode(self, z: Tensor) -> Tensor:
        """Inverse of `encode`."""
        i, j, k = self.spec.shape
        return unfolded(z, self.spec.edge)[..., :i, :j, :k]

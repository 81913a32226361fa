"""No compression: the latent is the picture, as in the baselines in voxel space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class VoxelSpec:
    """What stands for an autoencoder in a model that diffuses voxels.

    Attributes
    ----------
    voxel_channels
        Channels of the pictures; 1 is possible.
    """

    voxel_channels: int

    @property
    def factor(self) -> int:
        """Voxels of the picture per voxel of the latent along each axis."""
        return 1

    def latent_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """(C, i, j, k) of the latent of a picture of `shape`."""
        return (self.voxel_channels, *shape)

    def build(self) -> VoxelSpace:
        """The network; it has no weights."""
        return VoxelSpace()


class VoxelSpace(nn.Module):
    """Encodes and decodes as an autoencoder does, without changing anything."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and SD (B, C, i, j, k) of pictures: they themselves, and 0."""
        return x, torch.zeros_like(x)

    def decode(self, z: Tensor) -> Tensor:
        """Pictures of latents."""
        return z

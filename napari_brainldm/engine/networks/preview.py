"""A cheap decoder for live pictures: all its work is done on the latent's own grid.

As in TAESD (a distilled decoder for live previews of image latents) it learns to copy
the pictures of the full decoder. Here every block of voxels that a latent voxel stands
for is one vector of channels until the very end, so that no feature map is ever as
large as the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec


@dataclass(frozen=True)
class PreviewSpec:
    """Sizes of the preview decoder.

    Attributes
    ----------
    channels
        Feature channels.
    blocks
        Residual blocks; each sees one latent voxel further.
    """

    channels: int = 64
    blocks: int = 2

    def build(self, autoencoder: AutoencoderSpec) -> PreviewDecoder:
        """The network with fresh weights, for the latents of `autoencoder`."""
        return PreviewDecoder(self, autoencoder.latent_channels, autoencoder.factor)


class PreviewDecoder(nn.Module):
    """Latents (B, C, i, j, k) to pictures (B, 1, f i, f j, f k), f the `factor`."""

    def __init__(self, spec: PreviewSpec, latent_channels: int, factor: int) -> None:
        super().__init__()
        width = spec.channels
        self.factor = factor
        self.first = nn.Conv3d(latent_channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(spec.blocks))
        self.last = nn.Conv3d(width, factor**3, 3, padding=1)

    def forward(self, latent: Tensor) -> Tensor:
        """The picture, unclipped."""
        x = self.first(latent)
        for block in self.blocks:
            x = block(x)
        return unfolded(self.last(x), self.factor)


class Block(nn.Module):
    """Two convolutions beside the identity; no norm, so that intensities stay true."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.SiLU(),
            nn.Conv3d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv3d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, width, i, j, k) again."""
        found: Tensor = x + self.body(x)
        return found


def unfolded(blocks: Tensor, factor: int) -> Tensor:
    """Channels (B, f^3, i, j, k) as voxels (B, 1, f i, f j, f k)."""
    batch, _, i, j, k = blocks.shape
    f = factor
    parts = blocks.view(batch, f, f, f, i, j, k).permute(0, 4, 1, 5, 2, 6, 3)
    return parts.reshape(batch, 1, f * i, f * j, f * k)


def folded(picture: Tensor, factor: int) -> Tensor:
    """Inverse of `unfolded`: voxels (B, 1, f i, f j, f k) as (B, f^3, i, j, k)."""
    batch, _, *shape = picture.shape
    i, j, k = (n // factor for n in shape)
    f = factor
    parts = picture.view(batch, i, f, j, f, k, f).permute(0, 2, 4, 6, 1, 3, 5)
    return parts.reshape(batch, f**3, i, j, k)


def neighbourhoods(latent: Tensor) -> Tensor:
    """Every latent voxel with its 26 neighbours and a 1: (i j k, 27 C + 1)."""
    padded = nn.functional.pad(latent[0], (1,) * 6)
    windows = padded.unfold(1, 3, 1).unfold(2, 3, 1).unfold(3, 3, 1)
    rows = windows.permute(1, 2, 3, 0, 4, 5, 6).flatten(3).flatten(0, 2)
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)

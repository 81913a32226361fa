"""The autoencoder that compresses a picture into a latent: MONAI's AutoencoderKL."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL
from torch import Tensor


@dataclass(frozen=True)
class AutoencoderSpec:
    """Sizes of the AutoencoderKL (Pinaya 2022, section 2.2).

    Attributes
    ----------
    channels
        Feature channels per level; each level after the first halves every axis.
    latent_channels
        Channels of the latent.
    res_blocks
        Residual blocks per level.
    groups
        Groups of the group normalisation.
    """

    channels: tuple[int, ...] = (64, 128, 128, 128)
    latent_channels: int = 3
    res_blocks: int = 2
    groups: int = 32

    @property
    def factor(self) -> int:
        """Voxels of the picture per voxel of the latent along each axis."""
        return int(2 ** (len(self.channels) - 1))

    def latent_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """(C, i, j, k) of the latent of a picture of `shape`."""
        i, j, k = (n // self.factor for n in shape)
        return (self.latent_channels, i, j, k)

    def build(self) -> SampledAutoencoder:
        """The network with fresh weights; pictures (B, 1, i, j, k) in [0, 1]."""
        return SampledAutoencoder(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            channels=self.channels,
            latent_channels=self.latent_channels,
            num_res_blocks=self.res_blocks,
            norm_num_groups=self.groups,
            attention_levels=(False,) * len(self.channels),
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )


class SampledAutoencoder(AutoencoderKL):
    """MONAI's network, which may be told the noise of a draw of its latents."""

    def forward(
        self, x: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures rebuilt from a draw of their latents, and mean and SD of these.

        Parameters
        ----------
        x
            Pictures (B, 1, i, j, k).
        noise
            Standard normal numbers of the latents' shape; None draws them.
        """
        mean, sd = self.encode(x)
        return self.decode(drawn(mean, sd, noise)), mean, sd


def drawn(mean: Tensor, sd: Tensor, noise: Tensor | None) -> Tensor:
    """A draw of latents (B, C, a, b, c) by noise of that shape; None draws that too."""
    return mean + sd * (torch.randn_like(sd) if noise is None else noise)

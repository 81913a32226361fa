"""The autoencoder that compresses a picture into a latent: MONAI's AutoencoderKL."""

from __future__ import annotations

from dataclasses import dataclass

from monai.networks.nets.autoencoderkl import AutoencoderKL


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

    def build(self) -> AutoencoderKL:
        """The network with fresh weights; pictures (B, 1, i, j, k) in [0, 1]."""
        return AutoencoderKL(
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

"""GM-LDM's autoencoder: a fixed core between two learnable interpolations.

J1 brings a map of any shape to the core's, J2 brings the core's answer back (Hu 2025,
section 3.2, https://arxiv.org/abs/2506.12719). The core is MONAI's AutoencoderKL with
attention at its deepest level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL
from torch import Tensor, nn

from napari_brainldm.engine.networks.autoencoder import drawn

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class GrayMatterAutoencoderSpec:
    """Sizes of the gray-matter autoencoder.

    Attributes
    ----------
    shape
        (i, j, k) of the maps; what J1 begins with and J2 ends with.
    core
        (i, j, k) within: multiples of `factor`.
    channels
        Feature channels per level; each level after the first halves every axis.
    latent_channels
        Channels of the latent; 256 in the paper.
    res_blocks, groups
        Residual blocks per level; groups of the group normalisation.
    """

    shape: Shape = (121, 145, 121)
    core: Shape = (128, 144, 128)
    channels: tuple[int, ...] = (64, 128, 128, 256)
    latent_channels: int = 256
    res_blocks: int = 2
    groups: int = 32

    @property
    def factor(self) -> int:
        """Voxels of the core per voxel of the latent along each axis."""
        return int(2 ** (len(self.channels) - 1))

    def latent_shape(self, shape: Shape) -> tuple[int, int, int, int]:
        """(C, i, j, k) of the latent, which the shape of the maps does not change."""
        del shape
        i, j, k = (n // self.factor for n in self.core)
        return (self.latent_channels, i, j, k)

    def build(self) -> GrayMatterAutoencoder:
        """The network with fresh weights; maps (B, 1, i, j, k), about 0 to 1."""
        return GrayMatterAutoencoder(self)


class GrayMatterAutoencoder(nn.Module):
    """Maps (B, 1, i, j, k) to latents (B, C, a, b, c) and back."""

    def __init__(self, spec: GrayMatterAutoencoderSpec) -> None:
        super().__init__()
        if any(n % spec.factor for n in spec.core):
            raise ValueError(f"the core {spec.core} is no multiple of {spec.factor}")
        levels = len(spec.channels)
        self.first = Interpolation(spec.shape, spec.core)
        self.core = AutoencoderKL(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            channels=spec.channels,
            latent_channels=spec.latent_channels,
            num_res_blocks=spec.res_blocks,
            norm_num_groups=spec.groups,
            attention_levels=(False,) * (levels - 1) + (True,),
            with_encoder_nonlocal_attn=True,
            with_decoder_nonlocal_attn=True,
        )
        self.last = Interpolation(spec.core, spec.shape)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and SD (B, C, a, b, c) of the latents of maps."""
        mean, sd = self.core.encode(self.first(x))
        return mean, sd

    def decode(self, z: Tensor) -> Tensor:
        """Maps (B, 1, i, j, k) of latents."""
        found: Tensor = self.last(self.core.decode(z))
        return found

    def forward(
        self, x: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Maps rebuilt from a draw of their latents, and mean and SD of these.

        `noise` is standard normal numbers of the latents' shape; None draws them.
        """
        mean, sd = self.encode(x)
        return self.decode(drawn(mean, sd, noise)), mean, sd


class Interpolation(nn.Module):
    """A learnable linear map along each axis from one shape to another.

    Begins as linear interpolation between the voxels' centres, over as many voxels as
    one of the coarser grid covers; for equal shapes as the identity.
    """

    def __init__(self, before: Shape, after: Shape) -> None:
        super().__init__()
        self.axes = nn.ParameterList(
            nn.Parameter(interpolation_matrix(b, a))
            for b, a in zip(before, after, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, i, j, k) in the shape after."""
        a, b, c = self.axes
        x = torch.einsum("xi,ncijk->ncxjk", a, x)
        x = torch.einsum("yj,ncxjk->ncxyk", b, x)
        return torch.einsum("zk,ncxyk->ncxyz", c, x)


def interpolation_matrix(before: int, after: int) -> Tensor:
    """(after, before): weights of linear interpolation along an axis; rows sum to 1."""
    step = before / after
    width = max(step, 1.0)
    places = (torch.arange(after, dtype=torch.float64) + 0.5) * step - 0.5
    away = torch.arange(before, dtype=torch.float64) - places[:, None]
    weights = (1 - away.abs() / width).clamp(min=0)
    return (weights / weights.sum(1, keepdim=True)).float()

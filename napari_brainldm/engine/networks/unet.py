"""The denoiser of the brain LDM: MONAI's U-Net under the paper's hybrid conditioning.

The condition vector enters twice (Rombach 2022, section 3.3; Pinaya 2022, section 2.2):
broadcast over space and concatenated behind the latent channels, and as the one token
of cross-attention. MONAI's inferers do one or the other, not both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import Tensor, nn

from napari_brainldm.engine.networks.prior import GaussianPrior, PriorSpec


@dataclass(frozen=True)
class UNetSpec:
    """Sizes of the conditional U-Net.

    Attributes
    ----------
    channels, attention_levels, head_channels
        Per level: feature channels, whether it attends, channels per attention head.
    res_blocks, groups
        Residual blocks per level; groups of the group normalisation.
    latent_channels
        Channels of the latent.
    condition_size
        Length of the condition vector; 0 builds an unconditional denoiser.
    droppable
        Whether conditions were dropped in training, so that guidance is possible. The
        network then sees one more channel: 1 with conditions, all zeros without.
    condition_gain
        Multiplies the conditions. Min-max normalised volumes of a skewed population
        vary by a tenth, which a short training hardly hears; 1 in the paper.
    prior
        Of what the network corrects, see `networks.prior`; None for a network that
        predicts by itself, as the paper's.
    """

    channels: tuple[int, ...] = (256, 512, 768)
    attention_levels: tuple[bool, ...] = (False, True, True)
    head_channels: tuple[int, ...] = (0, 512, 768)
    res_blocks: int = 2
    groups: int = 32
    latent_channels: int = 3
    condition_size: int = 4
    droppable: bool = False
    condition_gain: float = 1.0
    prior: PriorSpec | None = None

    @property
    def context_size(self) -> int:
        """Channels that the conditions add to the input."""
        return self.condition_size + int(self.droppable)

    def build(self) -> HybridUNet:
        """The network with fresh weights."""
        return HybridUNet(self)


class HybridUNet(nn.Module):
    """DiffusionModelUNet whose conditions are both concatenated and attended to."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.spec = spec
        conditional = spec.condition_size > 0
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=spec.latent_channels + spec.context_size,
            out_channels=spec.latent_channels,
            channels=spec.channels,
            attention_levels=spec.attention_levels,
            num_head_channels=spec.head_channels,
            num_res_blocks=spec.res_blocks,
            norm_num_groups=spec.groups,
            resblock_updown=True,
            with_conditioning=conditional,
            cross_attention_dim=spec.context_size if conditional else None,
            upcast_attention=True,
        )
        self.prior: GaussianPrior | None = None
        if spec.prior is not None:
            self.prior = spec.prior.build(spec.latent_channels, spec.condition_size)

    def forward(self, x: Tensor, t: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Predict from x (B, C, i, j, k) at timesteps t (B,) under `conditions` (B, n).

        None, or a row of NaN, is the dropped condition of a droppable network.
        """
        out = self._network(x, t, conditions)
        return out if self.prior is None else out + self.prior(x, t, conditions)

    def _network(self, x: Tensor, t: Tensor, conditions: Tensor | None) -> Tensor:
        if self.spec.condition_size == 0:
            plain: Tensor = self.unet(x, t)
            return plain
        context = self._context(x, conditions)
        maps = context[:, :, None, None, None].expand(-1, -1, *x.shape[2:])
        both = torch.cat([x, maps], dim=1)
        out: Tensor = self.unet(both, t, context=context[:, None, :])
        return out

    def _context(self, x: Tensor, conditions: Tensor | None) -> Tensor:
        if conditions is None:
            conditions = x.new_full((x.shape[0], self.spec.condition_size), torch.nan)
        conditions = self.spec.condition_gain * conditions.to(x)
        conditions = conditions.expand(x.shape[0], -1)
        if not self.spec.droppable:
            return conditions
        present = ~torch.isnan(conditions).any(dim=1, keepdim=True)
        return torch.cat([torch.nan_to_num(conditions) * present, present.to(x)], dim=1)

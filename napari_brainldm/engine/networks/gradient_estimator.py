"""LDAE's decoder: a denoiser, and beside it an estimator of what a semantic code adds.

Both branches share one encoder and its skips. The first predicts the noise as any
unconditional denoiser; the second the gradient G by which a semantic code moves that
prediction (Zhang 2022, PDAE, https://arxiv.org/abs/2212.12990; Lozupone 2025,
https://arxiv.org/abs/2504.08635). Names of the layers are those of the published
weights, so that these load as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_brainldm.engine.networks.prior import GaussianPrior, PriorSpec


@dataclass(frozen=True)
class GradientEstimatorSpec:
    """Sizes of the two-branch U-Net; the defaults are the published ones.

    Attributes
    ----------
    channels, attention_levels
        Per level: feature channels, whether it attends.
    res_blocks, groups
        Residual blocks per level; groups of the group normalisation.
    latent_channels
        Channels of the latent.
    code_size
        Length of the semantic code; 0 leaves the second branch out.
    strides
        By how much each level shrinks the latent along (i, j, k). The published
        network keeps the first axis.
    heads, head_channels
        Attention heads, or the channels of each where that is not 0.
    split_first
        Whether queries, keys and values are told apart before the heads are.
    dropout
        In training.
    prior
        Of what both branches correct, see `networks.prior`; None for a network
        that predicts by itself, as the published one.
    """

    channels: tuple[int, ...] = (256, 512, 768)
    attention_levels: tuple[bool, ...] = (False, True, True)
    res_blocks: int = 2
    groups: int = 32
    latent_channels: int = 3
    code_size: int = 768
    strides: tuple[int, int, int] = (1, 2, 2)
    heads: int = 1
    head_channels: int = 0
    split_first: bool = False
    dropout: float = 0.1
    prior: PriorSpec | None = None

    @property
    def condition_size(self) -> int:
        """Length of the condition vector: it has none."""
        return 0

    @property
    def droppable(self) -> bool:
        """Whether conditions can be dropped: there are none."""
        return False

    def heads_of(self, channels: int) -> int:
        """Attention heads of a layer with `channels`."""
        return channels // self.head_channels if self.head_channels else self.heads

    def build(self) -> GradientEstimator:
        """The network with fresh weights."""
        return GradientEstimator(self)


class GradientEstimator(nn.Module):
    """Noise and gradient from x_t (B, C, i, j, k), timesteps (B,) and codes (B, E)."""

    def __init__(self, spec: GradientEstimatorSpec) -> None:
        super().__init__()
        self.spec = spec
        base = spec.channels[0]
        self.time_embed = nn.Sequential(
            nn.Linear(base, 4 * base), nn.SiLU(), nn.Linear(4 * base, 4 * base)
        )
        self.input_blocks, widths = _way_down(spec)
        self.middle_block = _middle(spec, coded=False)
        self.output_blocks = _way_up(spec, widths, coded=False)
        self.out = _last(spec)
        self.prior: GaussianPrior | None = None
        if spec.prior is not None:
            self.prior = spec.prior.build(spec.latent_channels, 0, spec.code_size)
        if spec.code_size:
            self.label_emb = nn.Linear(spec.code_size, 4 * base)
            self.shift_middle_block = _middle(spec, coded=True)
            self.shift_output_blocks = _way_up(spec, widths, coded=True)
            self.shift_out = _last(spec)

    def forward(self, x: Tensor, t: Tensor, code: Tensor | None = None) -> Tensor:
        """The unconditional prediction alone; `code` is not looked at."""
        time = self._time(t, x)
        features, skips = self._down(x, time)
        return self._plain(x, t, (features, skips, time))

    def both(self, x: Tensor, t: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """The unconditional prediction and the gradient of `code` (B, E)."""
        time = self._time(t, x)
        features, skips = self._down(x, time)
        code = code.to(time).expand(len(x), -1)
        gradient = self._up("shift_", features, skips, time, self.label_emb(code))
        if self.prior is not None:
            gradient = gradient + self.prior.gradient(x, t, code)
        return self._plain(x, t, (features, skips, time)), gradient

    def _plain(
        self, x: Tensor, t: Tensor, seen: tuple[Tensor, list[Tensor], Tensor]
    ) -> Tensor:
        """The first branch, from what the encoder saw."""
        out = self._up("", *seen, None)
        return out if self.prior is None else out + self.prior(x, t, None)

    def _time(self, t: Tensor, x: Tensor) -> Tensor:
        waves = sinusoids(t.expand(len(x)), self.spec.channels[0]).to(x)
        found: Tensor = self.time_embed(waves)
        return found

    def _down(self, x: Tensor, time: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for block in self.input_blocks:
            x = block(x, time, None)
            skips.append(x)
        return x, skips

    def _up(
        self,
        branch: str,
        x: Tensor,
        skips: list[Tensor],
        time: Tensor,
        code: Tensor | None,
    ) -> Tensor:
        x = getattr(self, f"{branch}middle_block")(x, time, code)
        blocks = getattr(self, f"{branch}output_blocks")
        for block, skip in zip(blocks, reversed(skips), strict=True):
            x = block(torch.cat([x, skip], dim=1), time, code)
        found: Tensor = getattr(self, f"{branch}out")(x)
        return found


class Chain(nn.ModuleList):
    """Layers in a row; residual blocks hear time and code, the others do not."""

    def forward(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        """Features (B, C, i, j, k) again."""
        for layer in self:
            x = layer(x, time, code) if isinstance(layer, ResBlock) else layer(x)
        return x


class ResBlock(nn.Module):
    """Two convolutions beside the identity, scaled and shifted by time, then by code.

    Adaptive group normalisation: h = GN(h) (1 + s) + b of the time embedding, then the
    same of the code, without another normalisation. `resize` shrinks ("down") or grows
    ("up") the latent within the block.
    """

    def __init__(
        self,
        spec: GradientEstimatorSpec,
        before: int,
        after: int,
        *,
        coded: bool,
        resize: str = "",
    ) -> None:
        super().__init__()
        embedding = 4 * spec.channels[0]
        self.resize, self.strides = resize, spec.strides
        self.in_layers = nn.Sequential(
            nn.GroupNorm(spec.groups, before),
            nn.SiLU(),
            nn.Conv3d(before, after, 3, padding=1),
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * after))
        if coded:
            self.emb_z_layers = nn.Sequential(
                nn.SiLU(), nn.Linear(embedding, 2 * after)
            )
        self.out_layers = nn.Sequential(
            nn.GroupNorm(spec.groups, after),
            nn.SiLU(),
            nn.Dropout(spec.dropout),
            nn.Conv3d(after, after, 3, padding=1),
        )
        self.skip_connection: nn.Module = (
            nn.Identity() if before == after else nn.Conv3d(before, after, 1)
        )

    def forward(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        """Features (B, `before`, i, j, k) to (B, `after`, ...)."""
        h = self.in_layers[2](self._resized(self.in_layers[:2](x)))
        h = modulated(self.out_layers[0](h), self.emb_layers(time))
        if code is not None:
            h = modulated(h, self.emb_z_layers(code))
        found: Tensor = self.skip_connection(self._resized(x)) + self.out_layers[1:](h)
        return found

    def _resized(self, x: Tensor) -> Tensor:
        if self.resize == "down":
            return functional.avg_pool3d(x, self.strides, self.strides)
        if self.resize == "up":
            scale = tuple(float(n) for n in self.strides)
            return functional.interpolate(x, scale_factor=scale, mode="nearest")
        return x


class Attention(nn.Module):
    """Every latent voxel attends to all others."""

    def __init__(self, spec: GradientEstimatorSpec, channels: int) -> None:
        super().__init__()
        self.heads, self.split_first = spec.heads_of(channels), spec.split_first
        self.norm = nn.GroupNorm(spec.groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, i, j, k) again."""
        batch, channels, *shape = x.shape
        flat = x.reshape(batch, channels, -1)
        parts = self._parts(self.qkv(self.norm(flat)))
        q, k, v = (part.transpose(-1, -2) for part in parts)
        seen = functional.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        out: Tensor = flat + self.proj_out(seen.reshape(batch, channels, -1))
        return out.reshape(batch, channels, *shape)

    def _parts(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values (B, heads, C / heads, voxels) from (B, 3 C, voxels)."""
        batch, width, voxels = qkv.shape
        each = width // (3 * self.heads)
        if self.split_first:
            q, k, v = qkv.view(batch, 3, self.heads, each, voxels).unbind(1)
        else:
            q, k, v = qkv.view(batch, self.heads, 3, each, voxels).unbind(2)
        return q, k, v


def modulated(h: Tensor, embedding: Tensor) -> Tensor:
    """`h` (B, C, i, j, k) scaled and shifted by an embedding (B, 2 C)."""
    scale, shift = embedding[:, :, None, None, None].chunk(2, dim=1)
    return h * (1 + scale) + shift


def sinusoids(t: Tensor, size: int, longest: float = 10_000.0) -> Tensor:
    """Cosines, then sines of timesteps t (B,): (B, size) (Vaswani 2017)."""
    half = size // 2
    steps = torch.arange(half, device=t.device, dtype=torch.float32) / half
    angles = t.float()[:, None] * torch.exp(-math.log(longest) * steps)
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)


def _way_down(spec: GradientEstimatorSpec) -> tuple[nn.ModuleList, list[int]]:
    """The shared encoder, and the channels of its skips."""
    width = spec.channels[0]
    first = nn.Conv3d(spec.latent_channels, width, 3, padding=1)
    blocks, widths = [Chain([first])], [width]
    for level, channels in enumerate(spec.channels):
        for _ in range(spec.res_blocks):
            layers: list[nn.Module] = [ResBlock(spec, width, channels, coded=False)]
            width = channels
            if spec.attention_levels[level]:
                layers.append(Attention(spec, width))
            blocks.append(Chain(layers))
            widths.append(width)
        if level < len(spec.channels) - 1:
            down = ResBlock(spec, width, width, coded=False, resize="down")
            blocks.append(Chain([down]))
            widths.append(width)
    return nn.ModuleList(blocks), widths


def _middle(spec: GradientEstimatorSpec, *, coded: bool) -> Chain:
    width = spec.channels[-1]
    return Chain(
        [
            ResBlock(spec, width, width, coded=coded),
            Attention(spec, width),
            ResBlock(spec, width, width, coded=coded),
        ]
    )


def _way_up(
    spec: GradientEstimatorSpec, widths: list[int], *, coded: bool
) -> nn.ModuleList:
    left, width, blocks = list(widths), spec.channels[-1], []
    for level in reversed(range(len(spec.channels))):
        channels = spec.channels[level]
        for index in range(spec.res_blocks + 1):
            before = width + left.pop()
            layers: list[nn.Module] = [ResBlock(spec, before, channels, coded=coded)]
            width = channels
            if spec.attention_levels[level]:
                layers.append(Attention(spec, width))
            if level and index == spec.res_blocks:
                layers.append(ResBlock(spec, width, width, coded=coded, resize="up"))
            blocks.append(Chain(layers))
    return nn.ModuleList(blocks)


def _last(spec: GradientEstimatorSpec) -> nn.Sequential:
    width = spec.channels[0]
    return nn.Sequential(
        nn.GroupNorm(spec.groups, width),
        nn.SiLU(),
        nn.Conv3d(width, spec.latent_channels, 3, padding=1),
    )

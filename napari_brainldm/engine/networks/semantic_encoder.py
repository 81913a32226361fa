"""LDAE's semantic encoder: a 2D ConvNeXt per axial slice, pooled by attention.

ConvNeXt (Liu 2022, https://arxiv.org/abs/2201.03545) sees each slice by itself; soft
attention over the slices gives a query, cross-attention of that query with all slices
the code (Lozupone 2025, https://arxiv.org/abs/2504.08635). Names of the layers are
those of the published weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

EPS = 1e-6
"""Of ConvNeXt's layer normalisations."""


@dataclass(frozen=True)
class SemanticEncoderSpec:
    """Sizes of the encoder; the defaults are the published ones (ConvNeXt-Small).

    Attributes
    ----------
    channels, blocks
        Per level of the ConvNeXt: feature channels, number of blocks. The last level's
        channels are the length of the code.
    slices
        Most axial slices that have a position.
    heads
        Attention heads of the cross-attention.
    dropout
        Of the attention, in training.
    """

    channels: tuple[int, ...] = (96, 192, 384, 768)
    blocks: tuple[int, ...] = (3, 3, 27, 3)
    slices: int = 128
    heads: int = 8
    dropout: float = 0.1

    @property
    def code_size(self) -> int:
        """Length of the semantic code."""
        return self.channels[-1]

    def build(self) -> SemanticEncoder:
        """The network with fresh weights."""
        return SemanticEncoder(self)


class SemanticEncoder(nn.Module):
    """Pictures (B, 1, i, j, k) in [0, 1] to semantic codes (B, E)."""

    def __init__(self, spec: SemanticEncoderSpec) -> None:
        super().__init__()
        size = spec.code_size
        self.spec = spec
        self.backbone = ConvNeXt(spec)
        self.positional_encoding = Positions(spec.slices, size)
        self.soft_attention = SoftAttention(size)
        self.query_projection = nn.Linear(size, size)
        self.key_projection = nn.Linear(size, size)
        self.value_projection = nn.Linear(size, size)
        self.cross_attention = nn.MultiheadAttention(
            size, spec.heads, dropout=spec.dropout, batch_first=True
        )
        self.layer_norm_after_attention = nn.LayerNorm(size)

    def forward(self, x: Tensor) -> Tensor:
        """Semantic codes (B, E) of pictures (B, 1, i, j, k); slices lie along k."""
        features = self.positional_encoding(self.slices(x))
        query = self.query_projection(self.soft_attention(features))[:, None]
        keys, values = self.key_projection(features), self.value_projection(features)
        seen, _ = self.cross_attention(query, keys, values, need_weights=False)
        found: Tensor = self.layer_norm_after_attention(seen[:, 0])
        return found

    @torch.no_grad()
    def rescale(self, centre: Tensor, spread: Tensor) -> None:
        """Let codes be (code - centre) / spread from now on; both (E,)."""
        last = self.layer_norm_after_attention
        last.weight.div_(spread)
        last.bias.sub_(centre).div_(spread)

    def slices(self, x: Tensor) -> Tensor:
        """Features (B, k, E) of every axial slice by itself."""
        batch, _, i, j, k = x.shape
        axial = x.permute(0, 4, 1, 2, 3).reshape(batch * k, 1, i, j)
        features: Tensor = self.backbone(axial).view(batch, k, -1)
        return features


class Positions(nn.Module):
    """Adds the sinusoids of each slice's index (Vaswani 2017)."""

    pe: Tensor

    def __init__(self, most: int, size: int) -> None:
        super().__init__()
        place = torch.arange(most, dtype=torch.float32)[:, None]
        waves = torch.exp(torch.arange(0, size, 2) * (-math.log(10_000.0) / size))
        pe = torch.zeros(1, most, size)
        pe[0, :, 0::2] = torch.sin(place * waves)
        pe[0, :, 1::2] = torch.cos(place * waves)[:, : size // 2]
        self.register_buffer("pe", pe)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, k, E) again."""
        return x + self.pe[:, : x.shape[1]].to(x)


class SoftAttention(nn.Module):
    """The mean of all slices, weighted by what one linear layer makes of each."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, 1)

    def weights(self, x: Tensor) -> Tensor:
        """Weight (B, k) of each slice of (B, k, E); they sum to 1."""
        return torch.softmax(self.linear(x)[..., 0], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Weighted mean (B, E)."""
        return torch.einsum("bk,bke->be", self.weights(x), x)


class ConvNeXt(nn.Module):
    """Slices (B, 1, i, j) to features (B, E)."""

    def __init__(self, spec: SemanticEncoderSpec) -> None:
        super().__init__()
        widths = spec.channels
        stem = nn.Sequential(
            nn.Conv2d(1, widths[0], 4, stride=4), ChannelNorm(widths[0])
        )
        layers: list[nn.Module] = [stem]
        for level, (width, count) in enumerate(zip(widths, spec.blocks, strict=True)):
            if level:
                before = widths[level - 1]
                shrink = nn.Conv2d(before, width, 2, stride=2)
                layers.append(nn.Sequential(ChannelNorm(before), shrink))
            layers.append(nn.Sequential(*(Block(width) for _ in range(count))))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(ChannelNorm(widths[-1]))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, E), averaged over the slice."""
        pooled = self.features(x).mean((2, 3), keepdim=True)
        found: Tensor = self.classifier(pooled).flatten(1)
        return found


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (B, C, i, j)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, i, j) again."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """ConvNeXt's block: a wide depthwise convolution, then a small MLP per pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer_scale = nn.Parameter(torch.full((width, 1, 1), 1e-6))
        self.block = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            nn.Identity(),  # keeps the published numbers of the layers
            nn.LayerNorm(width, eps=EPS),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, i, j) again."""
        h = self.block[0](x).permute(0, 2, 3, 1)
        h = self.block[2:](h).permute(0, 3, 1, 2)
        found: Tensor = x + self.layer_scale * h
        return found

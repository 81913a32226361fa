"""GM-LDM's denoiser: a vision transformer that attends to functional connectivity.

The encoder's layers attend among the voxels of the latent. Each layer of the decoder
also attends to what a CNN sees in the connectivity matrix, at another of its stages;
parallel MLPs give the channels of the answer (Hu 2025, section 3.4,
https://arxiv.org/abs/2506.12719). Time enters by scale, shift and gate of each layer
(Peebles 2023, DiT, https://arxiv.org/abs/2212.09748).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_brainldm.engine.networks.gradient_estimator import sinusoids
from napari_brainldm.engine.networks.preview import folded, unfolded
from napari_brainldm.engine.networks.prior import GaussianPrior, PriorSpec

Shape = tuple[int, int, int]
_PARTS = 9  # scale, shift and gate of self-attention, cross-attention and MLP


@dataclass(frozen=True)
class ViTSpec:
    """Sizes of the transformer.

    Attributes
    ----------
    width, heads
        Features of a token; attention heads.
    encoder_blocks, decoder_blocks
        Layers without and with cross-attention.
    mlp
        Features within a layer's MLP, times `width`.
    outputs
        Parallel MLPs, each of which gives its share of the latent's channels.
    state_channels
        Channels of the stages of the CNN on the connectivity matrix; each halves it.
    latent_channels, grid
        Channels and (i, j, k) of the latent.
    patch
        Voxels of the latent per token along each axis; more than 1 for a model that
        diffuses the voxels of maps, whose only channel they are.
    components
        Components n of the connectivity, whose n (n - 1) / 2 values are the condition.
    droppable
        Whether conditions were dropped in training, so that guidance is possible.
    prior
        Of what the network corrects, see `networks.prior`; None for a network that
        predicts by itself, as the paper's.
    prior_codes
        Directions of the latents along which the prior's mean follows connectivity.
    """

    width: int = 768
    heads: int = 12
    encoder_blocks: int = 8
    decoder_blocks: int = 4
    mlp: int = 4
    outputs: int = 4
    state_channels: tuple[int, ...] = (64, 128, 256)
    latent_channels: int = 256
    grid: Shape = (16, 18, 16)
    patch: int = 1
    components: int = 53
    droppable: bool = False
    prior: PriorSpec | None = None
    prior_codes: int = 0

    @property
    def condition_size(self) -> int:
        """Length of the condition vector: the upper triangle of the matrix."""
        return self.components * (self.components - 1) // 2

    @property
    def token_size(self) -> int:
        """Numbers of the latent in one token."""
        return self.latent_channels * self.patch**3

    @property
    def token_grid(self) -> Shape:
        """Tokens along (i, j, k)."""
        i, j, k = (-(-n // self.patch) for n in self.grid)
        return i, j, k

    def build(self) -> ViTDenoiser:
        """The network with fresh weights."""
        return ViTDenoiser(self)


class ViTDenoiser(nn.Module):
    """Predicts from x_t (B, C, i, j, k), timesteps (B,) and connectivity (B, p)."""

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        if spec.width % spec.heads or spec.token_size % spec.outputs:
            raise ValueError("width by heads and token by outputs must be whole")
        if spec.patch > 1 and spec.latent_channels > 1:
            raise ValueError("patches are of latents with one channel")
        self.spec, width = spec, spec.width
        self.embed = nn.Linear(spec.token_size, width)
        self.positions = nn.Parameter(_places(spec.token_grid, width))
        self.time = nn.Sequential(
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, _PARTS * width),
        )
        self.state = StateEncoder(spec)
        self.encoder = nn.ModuleList(
            Layer(spec, crossed=False) for _ in range(spec.encoder_blocks)
        )
        self.decoder = nn.ModuleList(
            Layer(spec, crossed=True) for _ in range(spec.decoder_blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.outputs = nn.ModuleList(_output(spec) for _ in range(spec.outputs))
        self.prior: CodedPrior | None = None
        if spec.prior is not None:
            self.prior = CodedPrior(spec, spec.prior)

    def forward(self, x: Tensor, t: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Predict from x (B, C, i, j, k) at timesteps t (B,) under `conditions` (B, p).

        None, or a row of NaN, is the dropped condition of a droppable network.
        """
        out = self._network(x, t, conditions)
        return out if self.prior is None else out + self.prior(x, t, conditions)

    def _network(self, x: Tensor, t: Tensor, conditions: Tensor | None) -> Tensor:
        blocks = self._blocks(x)
        tokens = self.embed(blocks.flatten(2).transpose(1, 2)) + self.positions
        waves = sinusoids(t.expand(len(x)), self.spec.width).to(x)
        time = self.time(waves).view(len(x), _PARTS, 1, self.spec.width)
        for layer in self.encoder:
            tokens = layer(tokens, time)
        seen = self.state(_whole(conditions, x, self.spec.condition_size))
        for index, layer in enumerate(self.decoder):
            tokens = layer(tokens, time, seen[index % len(seen)])
        tokens = self.norm(tokens)
        found = torch.cat([output(tokens) for output in self.outputs], dim=2)
        return self._voxels(found.transpose(1, 2).reshape(blocks.shape))

    def _blocks(self, x: Tensor) -> Tensor:
        """X in blocks of `patch` voxels (B, C patch^3, a, b, c), padded with 0."""
        if self.spec.patch == 1:
            return x
        ends = [(-n) % self.spec.patch for n in reversed(self.spec.grid)]
        padded = functional.pad(x, [p for end in ends for p in (0, end)])
        return folded(padded, self.spec.patch)

    def _voxels(self, blocks: Tensor) -> Tensor:
        """Inverse of `_blocks`."""
        if self.spec.patch == 1:
            return blocks
        i, j, k = self.spec.grid
        return unfolded(blocks, self.spec.patch)[..., :i, :j, :k]


class StateEncoder(nn.Module):
    """Tokens of a CNN's stages from connectivity (B, p), the deepest stage first.

    Every stage brings one token per place of its feature map and one of the whole
    matrix. A second channel says whether there is a condition at all.
    """

    def __init__(self, spec: ViTSpec) -> None:
        super().__init__()
        self.edge = spec.components
        self.stages, self.keys = nn.ModuleList(), nn.ModuleList()
        self.places = nn.ParameterList()
        before, edge = 2, self.edge
        for channels in spec.state_channels:
            edge = (edge + 1) // 2
            self.stages.append(_stage(before, channels))
            self.keys.append(nn.Linear(channels, spec.width))
            self.places.append(nn.Parameter(0.02 * torch.randn(edge**2, spec.width)))
            before = channels
        self.whole = nn.Linear(before * edge**2, spec.width)

    def forward(self, conditions: Tensor) -> list[Tensor]:
        """One (B, tokens, width) per stage; a row of NaN is no condition."""
        x = self._matrix(conditions)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        whole = self.whole(x.flatten(1))[:, None]
        found = [
            torch.cat([keys(one.flatten(2).transpose(1, 2)) + places, whole], dim=1)
            for one, keys, places in zip(maps, self.keys, self.places, strict=True)
        ]
        return found[::-1]

    def _matrix(self, conditions: Tensor) -> Tensor:
        """Symmetric matrices (B, 2, n, n): values, and 1 where there are any."""
        there = ~torch.isnan(conditions).any(1)
        batch = len(conditions)
        matrix = conditions.new_zeros(batch, 2, self.edge, self.edge)
        values = torch.nan_to_num(conditions) * there[:, None]
        edge, device = self.edge, matrix.device
        rows, columns = torch.triu_indices(edge, edge, 1, device=device)
        matrix[:, 0, rows, columns] = values
        matrix[:, 0, columns, rows] = values
        matrix[:, 1] = there.to(matrix)[:, None, None]
        return matrix


class Layer(nn.Module):
    """Self-attention, cross-attention if asked for, and an MLP, beside the identity."""

    def __init__(self, spec: ViTSpec, *, crossed: bool) -> None:
        super().__init__()
        width = spec.width
        self.heads = spec.heads
        self.own = nn.Parameter(torch.zeros(_PARTS, 1, width))
        self.norms = nn.ModuleList(
            nn.LayerNorm(width, elementwise_affine=False) for _ in range(3)
        )
        self.qkv, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        if crossed:
            self.query, self.keys = nn.Linear(width, width), nn.LayerNorm(width)
            self.key_value = nn.Linear(width, 2 * width)
            self.crossed = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, spec.mlp * width),
            nn.GELU(),
            nn.Linear(spec.mlp * width, width),
        )

    def forward(self, x: Tensor, time: Tensor, state: Tensor | None = None) -> Tensor:
        """Tokens (B, N, W) again; `time` (B, 9, 1, W), `state` (B, S, W)."""
        part = (time + self.own).unbind(1)
        h = _modulated(self.norms[0](x), part[0], part[1])
        x = x + part[2] * self.joined(self._attend(*self.qkv(h).chunk(3, dim=2)))
        if state is not None:
            h = self.query(_modulated(self.norms[1](x), part[3], part[4]))
            key, value = self.key_value(self.keys(state)).chunk(2, dim=2)
            x = x + (1 + part[5]) * self.crossed(self._attend(h, key, value))
        h = _modulated(self.norms[2](x), part[6], part[7])
        found: Tensor = x + part[8] * self.mlp(h)
        return found

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (
            one.view(*one.shape[:2], self.heads, -1).transpose(1, 2)
            for one in (query, key, value)
        )
        seen = functional.scaled_dot_product_attention(q, k, v)
        return seen.transpose(1, 2).flatten(2)


class CodedPrior(nn.Module):
    """A Gaussian prior whose mean follows the connectivity along some directions.

    Attributes
    ----------
    compress
        (p, k): connectivity to its k codes.
    gaussian
        The prior under these codes.
    """

    compress: Tensor

    def __init__(self, spec: ViTSpec, prior: PriorSpec) -> None:
        super().__init__()
        codes = spec.prior_codes
        self.register_buffer("compress", torch.zeros(spec.condition_size, codes))
        self.gaussian: GaussianPrior = prior.build(spec.latent_channels, codes)

    def codes(self, conditions: Tensor | None) -> Tensor | None:
        """Codes (B, k) of connectivity (B, p); NaN where it was dropped."""
        if conditions is None or not self.compress.shape[1]:
            return None
        return conditions.float() @ self.compress

    def forward(self, x: Tensor, t: Tensor, conditions: Tensor | None) -> Tensor:
        """As `GaussianPrior.forward`."""
        with torch.autocast(x.device.type, enabled=False):
            found: Tensor = self.gaussian(x, t, self.codes(conditions))
        return found

    def noisy(self, noise: Tensor, sigma: float, conditions: Tensor | None) -> Tensor:
        """As `GaussianPrior.noisy`."""
        return self.gaussian.noisy(noise, sigma, self.codes(conditions))

    def noise_of(self, x: Tensor, sigma: float, conditions: Tensor | None) -> Tensor:
        """As `GaussianPrior.noise_of`."""
        return self.gaussian.noise_of(x, sigma, self.codes(conditions))


def _whole(conditions: Tensor | None, x: Tensor, size: int) -> Tensor:
    """Conditions (B, p) for every sample of x; NaN where there are none."""
    if conditions is None:
        return x.new_full((len(x), size), torch.nan)
    return conditions.to(x).expand(len(x), -1)


def _modulated(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return h * (1 + scale) + shift


def _stage(before: int, after: int) -> nn.Sequential:
    """Halves a map (B, before, n, n): (B, after, (n + 1) // 2, ...)."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Conv2d(after, after, 3, padding=1),
        nn.GELU(),
    )


def _output(spec: ViTSpec) -> nn.Sequential:
    """One MLP of the parallel ones: it begins by answering 0."""
    last = nn.Linear(spec.width, spec.token_size // spec.outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(spec.width, spec.width), nn.GELU(), last)


def _places(grid: Shape, width: int) -> Tensor:
    """Sinusoids (tokens, width) of the three indices of every voxel."""
    third = 2 * (width // 6)
    axes = [torch.arange(n) for n in grid]
    voxels = [v.flatten() for v in torch.meshgrid(*axes, indexing="ij")]
    waves = torch.cat([sinusoids(v, third, 100.0) for v in voxels], dim=1)
    return functional.pad(waves, (0, width - waves.shape[1]))

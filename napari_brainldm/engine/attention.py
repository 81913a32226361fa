"""Where the denoiser's cross-attention goes in the connectivity: descriptive alone.

A voxel can attend to what changes nothing, and follow what it hardly attends to, so
attention is no evidence of use (Jain & Wallace 2019,
https://arxiv.org/abs/1902.10186). It is read off queries and keys that the network
computes anyway; what the network answers stays as it is, bit for bit.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from napari_brainldm.engine import diffusion
from napari_brainldm.engine.attribution import Worked
from napari_brainldm.engine.bound import Bound
from napari_brainldm.engine.compared_regions import region_means_of
from napari_brainldm.engine.components import members
from napari_brainldm.engine.heat import pairs_of
from napari_brainldm.engine.request import EngineError, Seed, drawn_from
from napari_brainldm.engine.saliency import ByBlock
from napari_brainldm.engine.sampling import noisy, sigmas_of, solver, stepwise

if TYPE_CHECKING:
    from napari_brainldm.engine.atlas import Atlas
    from napari_brainldm.engine.components import Components
    from napari_brainldm.engine.fnc import Fnc
    from napari_brainldm.engine.networks.vit_denoiser import ViTDenoiser, ViTSpec
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.request import Request

Blocks = tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Attended(ByBlock):
    """How much more than evenly voxels attend to each block: 0 is evenly, 1 twice.

    Mean over heads, layers, steps and seeds.

    Attributes
    ----------
    whole
        Share of attention that goes to the token of the whole matrix, which names no
        block.
    bypassed
        Whether a prior follows the connectivity too, which attends to nothing.
    """

    whole: float
    bypassed: bool

    def told(self) -> str:
        """What was found, in a few sentences."""
        words = (
            "Descriptive: attention tells where the network looks, not what it uses. "
            "0 is as much as evenly, 1 twice that. "
            f"{100 * self.whole:.0f} % goes to the whole matrix, which names no block."
        )
        if self.bypassed:
            words += " The prior, which follows the connectivity too, attends to none."
        return words


class Watch:
    """Sums up the cross-attention of a denoiser while it works.

    Parameters
    ----------
    network
        A GM-LDM's denoiser.
    blocks
        (S, B) per stage, in the order of the decoder's keys: the share of each of S
        tokens that belongs to each of B blocks.
    """

    def __init__(self, network: ViTDenoiser, blocks: list[Tensor]) -> None:
        self._network, self._blocks = network, blocks
        self._query: Tensor | None = None
        self._there: Tensor | None = None
        self._ratio: Tensor = torch.zeros(())
        self._whole, self.count = 0.0, 0

    @property
    def ratio(self) -> NDArray[np.float32]:
        """Attention to each block over even attention, (tokens, B), mean so far."""
        found: NDArray[np.float32] = (self._ratio / max(self.count, 1)).cpu().numpy()
        return found

    @property
    def whole(self) -> float:
        """Share of attention that goes to the token of the whole matrix."""
        return self._whole / max(self.count, 1)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Watch within."""
        hooks = [self._network.state.register_forward_pre_hook(self._on_state)]
        for index, layer in enumerate(self._network.decoder):
            stage: Any = _Stage(self, self._blocks[index % len(self._blocks)])
            one: Any = layer
            hooks.append(one.query.register_forward_hook(self._on_query))
            hooks.append(one.key_value.register_forward_hook(stage.on_keys))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _on_state(self, _: Any, given: tuple[Tensor, ...]) -> None:
        # without a condition, as guidance asks for too, nothing is attended to
        self._there = ~torch.isnan(given[0]).any(1)

    def _on_query(self, _: Any, __: Any, query: Tensor) -> None:
        self._query = query

    def add(self, keys: Tensor, blocks: Tensor) -> None:
        """Take in the attention to `keys` (B, S, W)."""
        assert self._query is not None
        assert self._there is not None
        if not bool(self._there.any()):
            return
        query, keys = self._query[self._there], keys[self._there]
        with torch.autocast(query.device.type, enabled=False):  # sums want float32
            weights = attention(query, keys, self._network.spec.heads)
            blocks = blocks.to(weights)
            even = blocks.sum(0) / len(blocks)
            self._ratio = (weights @ blocks).mean(0) / even + self._ratio
            self._whole += float(weights[..., -1].mean())
        self.count += 1


class _Stage:
    """Hands keys on to a watch, with the blocks that they stand for."""

    def __init__(self, watch: Watch, blocks: Tensor) -> None:
        self._watch, self._blocks = watch, blocks

    def on_keys(self, _: Any, __: Any, found: Tensor) -> None:
        self._watch.add(found.chunk(2, dim=2)[0], self._blocks)


def attention(query: Tensor, keys: Tensor, heads: int) -> Tensor:
    """Weights (B, N, S) of queries (B, N, W) over keys (B, S, W), mean over heads."""
    q, k = (
        one.float().view(*one.shape[:2], heads, -1).transpose(1, 2)
        for one in (query, keys)
    )
    weights: Tensor = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(3)
    return weights.mean(1)


def token_blocks(spec: ViTSpec, components: Components, blocks: Blocks) -> list[Tensor]:
    """Share (S, B) of every token that belongs to each block, deepest stage first.

    A stage's place stands for the cells of the matrix that it lies over; its last
    token, that of the whole matrix, for no block.
    """
    count = len(components)
    places = np.full((count, count), -1)
    for number, (first, second) in enumerate(blocks):
        one, two = members(components, first), members(components, second)
        places[np.ix_(one, two)] = places[np.ix_(two, one)] = number
    np.fill_diagonal(places, -1)
    rows, columns = np.indices(places.shape)
    found, edge = [], count
    for stage in range(1, len(spec.state_channels) + 1):
        edge = (edge + 1) // 2
        token = (rows >> stage) * edge + (columns >> stage)
        cells = np.bincount(token.ravel(), minlength=edge**2)
        shares = np.zeros((edge**2 + 1, len(blocks)), np.float32)
        there = places >= 0
        np.add.at(shares, (token[there], places[there]), 1)
        shares[:-1] /= cells[:, None]
        found.append(torch.from_numpy(shares))
    return found[::-1]


def attended(
    renderer: Renderer,
    request: Request,
    fnc: Fnc,
    components: Components,
    atlas: Atlas,
    seeds: int = 1,
) -> Generator[Worked, None, Attended]:
    """Watch what voxels attend to while the latent of `fnc` is denoised.

    `atlas` is brought onto the grid.

    Raises
    ------
    EngineError
        If the model knows no connectivity.
    """
    card, compute = renderer.card, renderer.compute
    if card.fnc is None:
        raise EngineError(
            f"{card.name} knows no functional connectivity, so nothing is attended to. "
            "Load a GM-LDM checkpoint."
        )
    network: Any = renderer.checkpoint.denoiser().to(compute.device)
    vector = renderer.fnc.vector(renderer.fnc.admit(fnc)).to(compute.device)
    blocks, first = pairs_of(components), drawn_from(request.origin) or 0
    watch = Watch(network, token_blocks(network.spec, components, blocks))
    denoise = Bound(network, card, compute).under(vector, request.guidance)
    for seed in range(seeds):
        seeded = replace(request, origin=Seed(first + seed))
        sigmas = sigmas_of(seeded, card)
        noise = diffusion.noise(card.latent_shape, first + seed).to(compute.device)
        x = noisy(network, noise, sigmas[0], vector)
        with watch.on():
            for step in stepwise(solver([seeded], denoise, x, sigmas)):
                done = seed * step.total + step.index
                yield Worked("attention", done, seeds * step.total)
    maps = _on_grid(watch.ratio.T - 1, network.spec, card.grid.shape)
    placed = atlas.on(card.grid)
    table = np.asarray(region_means_of(placed)(maps), np.float32)
    bypassed = network.spec.prior is not None
    return Attended(blocks, placed, table, maps, watch.whole, bypassed)


def _on_grid(
    values: NDArray[np.float32], spec: ViTSpec, shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Values (B, tokens) as maps (B, i, j, k), linear between the tokens."""
    i, j, k = spec.grid
    tokens = torch.from_numpy(values).float().reshape(len(values), *spec.token_grid)
    full = [n * spec.patch for n in spec.token_grid]
    latent = _resized(tokens[:, None], full)[:, :, :i, :j, :k]
    found: NDArray[np.float32] = _resized(latent, shape)[:, 0].numpy()
    return found


def _resized(maps: Tensor, shape: Any) -> Tensor:
    return functional.interpolate(maps, tuple(shape), mode="trilinear")

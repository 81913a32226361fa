"""LDAE against the same networks in voxel space, timed side by side: LDAE's Table 5."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.networks.gradient_estimator import GradientEstimatorSpec
from napari_brainldm.engine.networks.voxel_space import VoxelSpec
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import EngineError, Request, Sampler, Scan

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.volume import Array


def voxel_baseline(checkpoint: Checkpoint) -> Checkpoint:
    """An untrained diffusion autoencoder of voxels, nearly as large as `checkpoint`.

    The same networks and levels on the same grid, without an autoencoder and without
    a Gaussian prior; the two lower levels are widened to make up for what they held.
    Time does not depend on what weights are.
    """
    spec = checkpoint.card.denoiser
    if not isinstance(spec, GradientEstimatorSpec):
        raise EngineError(
            f"{checkpoint.card.name} is no LDAE, so it has no counterpart in voxel "
            "space. Give the checkpoint of the stage ldae or directions."
        )
    wanted = size_of(checkpoint)
    extras = itertools.product(range(8), range(4))
    cards = [_card(checkpoint.card, spec, *extra) for extra in extras]
    card = min(cards, key=lambda c: abs(_size(c) - wanted))
    assert card.denoiser is not None
    assert card.encoder is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = {"denoiser": card.denoiser.build(), "encoder": card.encoder.build()}
    tensors = {
        f"{part}.{key}": value
        for part, network in parts.items()
        for key, value in network.state_dict().items()
    }
    return Checkpoint(card, tensors)


def _card(card: Card, spec: GradientEstimatorSpec, plain: int, attending: int) -> Card:
    """Wider at lower levels by steps: whole heads where they attend."""
    head = math.lcm(spec.groups, spec.head_channels or spec.heads)
    steps = [
        attending * head if attends else plain * spec.groups
        for attends in spec.attention_levels
    ]
    more = zip(spec.channels, (0, *steps[1:]), strict=True)
    wider = tuple(channels + step for channels, step in more)
    return replace(
        card,
        autoencoder=VoxelSpec(1),
        denoiser=replace(spec, channels=wider, latent_channels=1, prior=None),
        preview=None,
        directions=(),
        latent_centred=False,
        latent_scale=1.0,
    )


def size_of(checkpoint: Checkpoint) -> int:
    """Parameters of the networks of `checkpoint`."""
    names = ("autoencoder", "denoiser", "encoder")
    return sum(t.numel() for n in names for t in checkpoint.part(n).values())


def _size(card: Card) -> int:
    with torch.device("meta"):
        networks = [part.build() for part in (card.denoiser, card.encoder) if part]
    return sum(v.numel() for net in networks for v in net.state_dict().values())


def seconds(renderer: Renderer, picture: Array, steps: int) -> float:
    """Encode, invert, denoise and decode one scan (i, j, k), in `steps` steps each."""
    scan = Scan(renderer.keep(picture))
    started = time.perf_counter()
    finish(renderer.render(Request(origin=scan, sampler=Sampler("ddim", steps))))
    return time.perf_counter() - started


def throughput(
    renderer: Renderer, pictures: list[Array], steps: int
) -> dict[str, float]:
    """Seconds per scan of LDAE and of its counterpart in voxel space, in turn.

    Both start with renderers of their own: `renderer` may keep codes of these scans
    and would not encode them again. `pictures` are two different scans or more; the
    first one is a warm-up of one step and not counted.
    """
    baseline = voxel_baseline(renderer.checkpoint)
    compute = renderer.compute
    latent, voxels = (
        Renderer(checkpoint, compute.device, compute.precision)
        for checkpoint in (renderer.checkpoint, baseline)
    )
    for one in (latent, voxels):
        seconds(one, pictures[0], 1)
    pairs = [
        (seconds(latent, picture, steps), seconds(voxels, picture, steps))
        for picture in pictures[1:]
    ]
    ours, theirs = (sum(side) / len(pairs) for side in zip(*pairs, strict=True))
    return {
        "LDAE s": ours,
        "voxel DAE s": theirs,
        "times faster": theirs / ours,
        "LDAE parameters": float(size_of(renderer.checkpoint)),
        "voxel DAE parameters": float(size_of(baseline)),
        "parameters ratio": size_of(baseline) / size_of(renderer.checkpoint),
        "T": float(steps),
        "scans": float(len(pairs)),
    }

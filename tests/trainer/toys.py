"""Stages small enough to train for hundreds of steps in a test.

As a program it trains one of them and kills itself in the middle of a step, as a lost
machine would: `python -m tests.trainer.toys NAME FOLDER KILL_STEP`.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from napari_brainldm.engine.card import Card, Covariate, ScheduleSpec
from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.networks.segmenter import SegmenterSpec
from napari_brainldm.engine.networks.unet import UNetSpec
from napari_brainldm.engine.request import Conditions
from napari_brainldm.engine.volume import Grid
from trainer.config import AutoencoderConfig, LdmConfig, LoopConfig
from trainer.loop import Player, train
from trainer.stages.autoencoder import AutoencoderStage
from trainer.stages.ldm import LdmStage

LOOP = LoopConfig(
    steps=200,
    batch=2,
    learning_rate=1e-3,
    warmup=10,
    ema=0.9,
    precision="no",
    seed=3,
    save_every=100,
    log_every=50,
    picture_every=10**6,
)
SPEC = AutoencoderSpec((4, 8), 2, 1, 4)
DEEP = UNetSpec((8, 16), (False, True), (0, 8), 1, 4)
AGE = Covariate("age", "Age", "years", low=20.0, high=80.0, reference=50.0)


def grid(edge: int) -> Grid:
    identity = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))
    return Grid((edge, edge, edge), identity)


def card(edge: int, vocabulary: tuple[Covariate, ...] = (AGE,)) -> Card:
    return Card("autoencoder", "Toy", grid(edge), SPEC, vocabulary=vocabulary)


def pictures(count: int, edge: int) -> np.ndarray:
    """Smooth blobs (count, edge, edge, edge) float16 in [0, 1]."""
    rng = np.random.default_rng(0)
    axis = np.linspace(-1, 1, edge)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    centres = rng.uniform(-0.5, 0.5, (count, 3))
    found = [
        np.exp(-4 * ((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2)) for a, b, c in centres
    ]
    return np.array(found, np.float16)


def autoencoder_stage(
    loop: LoopConfig = LOOP, edge: int = 12, count: int = 5, **config
) -> AutoencoderStage:
    data = pictures(count, edge)
    settings = AutoencoderConfig(SPEC, loop, **config)
    return AutoencoderStage(settings, card(edge), data, data[:2], flips=True)


def autoencoder_checkpoint(vocabulary: tuple[Covariate, ...] = (AGE,)) -> Checkpoint:
    """Random weights; pictures of 8 voxels, latents 2 x 4 x 4 x 4."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = SPEC.build().state_dict()
    tensors = {f"autoencoder.{k}": v for k, v in weights.items()}
    return Checkpoint(card(8, vocabulary), tensors)


def segmenter() -> Checkpoint:
    """Random weights; features of 16 voxels and more."""
    spec = SegmenterSpec((8, 8, 8, 8, 8, 8))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = spec.build().state_dict()
    tensors = {f"segmenter.{k}": v for k, v in weights.items()}
    return Checkpoint(Card("segmenter", "Toy", grid(16), segmenter=spec), tensors)


def planted(count: int) -> tuple[np.ndarray, list[Conditions]]:
    """Latents (count, 2, 4, 4, 4) that are the age's code, from -1 to 1, and noise."""
    rng = np.random.default_rng(1)
    ages = np.linspace(20, 80, count)
    level = ((ages - 50) / 30)[:, None, None, None, None]
    latents = level + 0.1 * rng.standard_normal((count, 2, 4, 4, 4))
    return latents.astype(np.float32), [Conditions.of({"age": a}) for a in ages]


def ldm_stage(
    loop: LoopConfig = LOOP,
    count: int = 12,
    conditional: bool = True,
    spec: UNetSpec = DEEP,
    **config,
) -> LdmStage:
    latents, asked = planted(count)
    if not conditional:
        asked = [Conditions()] * count
    settings = LdmConfig(spec, ScheduleSpec(prediction="v"), loop, **config)
    base = autoencoder_checkpoint((AGE,) if conditional else ())
    return LdmStage(settings, base, (latents, asked), (latents[:2], asked[:2]))


def gan_stage(loop: LoopConfig = LOOP) -> AutoencoderStage:
    """An autoencoder stage with both players; 24 voxels are the least it takes."""
    return autoencoder_stage(loop, edge=24, adversarial=0.1, adversarial_start=4)


def small_stage(loop: LoopConfig = LOOP) -> AutoencoderStage:
    """Steps of milliseconds; too small for the SSIM of held-out pictures."""
    stage = autoencoder_stage(loop, edge=4)
    stage.unseen = stage.unseen[:0]
    return stage


def shallow_stage(loop: LoopConfig = LOOP, **config) -> LdmStage:
    return ldm_stage(loop, spec=UNetSpec((8,), (True,), (8,), 1, 4), **config)


class Line:
    """Learns y = w x from noisy samples: a stage of two numbers."""

    name = "line"

    def __init__(self, count: int = 7) -> None:
        torch.manual_seed(0)
        self.count, self.seen = count, []
        self.players = (Player("line", nn.Linear(3, 1), self._loss),)

    def _loss(self, network, items, _, step):
        self.seen += [(step, item.index, item.seed) for item in items]
        noise = [torch.Generator().manual_seed(item.seed) for item in items]
        x = torch.stack([torch.randn(3, generator=g) for g in noise])
        y = torch.tensor([float(item.index) for item in items])[:, None]
        return {"error": (network(x) - y).pow(2).mean()}, None

    def finish(self, weights):
        return dict(weights)

    def pictures(self, weights):
        return {}

    def held_out(self, weights):
        return {"bias": float(weights["bias"])}


class Blurred(Line):
    """As Line, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        line = self.players[0]
        blurred = nn.Sequential(nn.Dropout(0.5), line.network)
        self.players = (replace(line, network=blurred),)

    def held_out(self, weights):
        return {}


STAGES = {"autoencoder": small_stage, "ldm": shallow_stage, "gan": gan_stage}
SHORT = replace(LOOP, steps=14, batch=1, save_every=7, log_every=7)
LOOPS = {"autoencoder": LOOP, "ldm": LOOP, "gan": SHORT}


def recorded(stage, seen: list, fatal: int = -1):
    """`stage`, telling `seen` every sample; killed in the middle of step `fatal`."""
    first = stage.players[0]

    def loss(network, items, carried, step):
        seen.extend((step, item.index, item.seed) for item in items)
        found = first.loss(network, items, carried, step)
        if step == fatal:
            sum(found[0].values()).backward()
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    stage.players = (replace(first, loss=loss), *stage.players[1:])
    return stage


def main(name: str, folder: str, fatal: str) -> None:
    torch.set_num_threads(1)
    seen: list = []
    stage = recorded(STAGES[name](), seen, int(fatal))
    for _ in train(stage, LOOPS[name], Path(folder) / "toy.state", False, "cpu"):
        # the order so far: written before every kill, at the reports
        np.save(Path(folder) / "seen.npy", np.array(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Ask whether the paper's sizes run here: 160 x 224 x 160, 553 million parameters.

    python -m benchmarks.paper_size [--quick] [--json] [--seed S]

Builds the networks of pinaya2022.toml with random weights, takes two DDIM steps in
bfloat16 and decodes. It says what time and memory a picture takes, not what it shows.
`--quick` stops after the first step.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import AT_MOST, Limit, finish, options
from napari_brainldm.engine.card import Card, Covariate
from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import Request, Sampler, Seed
from trainer.config import load_config
from trainer.data.pictures import model_grid

LIMITS = {"peak_memory_gib": Limit(AT_MOST, 20.0)}


def paper_model(seed: int) -> Checkpoint:
    """The paper's networks with random weights."""
    config = load_config(Path("pinaya2022.toml"))
    known = tuple(
        Covariate(c.name, c.title, reference=0.5) for c in config.data.covariates
    )
    card = Card(
        kind="brain-ldm",
        name="Paper size, random weights",
        grid=model_grid(config.data),
        autoencoder=config.autoencoder.spec,
        denoiser=config.ldm.spec,
        schedule=config.ldm.schedule,
        vocabulary=known,
    )
    torch.manual_seed(seed)
    parts = {"autoencoder": card.autoencoder, "denoiser": config.ldm.spec}
    tensors = {
        f"{name}.{key}": value
        for name, spec in parts.items()
        for key, value in spec.build().state_dict().items()
    }
    return Checkpoint(card, tensors)


def measure(seed: int, quick: bool) -> dict[str, Any]:
    """Seconds of a step and of the decode, peak memory in GiB."""
    renderer = Renderer(paper_model(seed), precision="bfloat16")
    figures: dict[str, Any] = {"device": renderer.compute.device}
    steps = renderer.render(Request(origin=Seed(seed), sampler=Sampler("ddim", 2)))
    start = time.perf_counter()
    while True:
        try:
            progress = next(steps)
        except StopIteration as done:
            figures["shape"] = "x".join(str(n) for n in done.value.data.shape)
            figures["finite"] = bool(math.isfinite(float(done.value.data.sum())))
            figures["seconds_decode"] = time.perf_counter() - start
            break
        if progress.stage == "denoise":
            figures["seconds_step"] = time.perf_counter() - start
            if quick:
                break
        start = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return figures | {"peak_memory_gib": peak / 2**20}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print one JSON object; 0 if all is within limits."""
    chosen = options("paper_size", __doc__).parse_args(arguments)
    return finish(chosen, LIMITS, lambda: measure(chosen.seed, chosen.quick))


if __name__ == "__main__":
    sys.exit(main())

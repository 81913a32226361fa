"""Ask what oneDNN's convolutions save on a processor without bfloat16 instructions.

    python -m benchmarks.convolution [--quick] [--json] [--seed S]

The bundled brain LDM in float32, with `QuickConv3d` and with torch's own choice of
kernels, in turn in one run: a step of the denoiser, the preview, the full picture.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from benchmarks.report import AT_LEAST, AT_MOST, Limit, finish, options
from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.networks.convolution import QuickConv3d
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.renderer import finish as finished
from napari_brainldm.engine.request import Request, Sampler, Seed
from napari_brainldm.engine.resources import bundled_checkpoint

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array

LIMITS = {
    "steps_times_faster": Limit(AT_LEAST, 1.2),
    "picture_times_faster": Limit(AT_LEAST, 1.1),
    "largest_difference": Limit(AT_MOST, 1e-2),
}
FEW, MANY = 2, 10
"""Steps of two pictures; what they take apart is the denoiser's alone."""


def measure(rounds: int, seed: int) -> dict[str, Any]:
    """Shortest of `rounds` turns, in seconds, and their ratios."""
    renderer = Renderer(load_checkpoint(bundled_checkpoint()), "cpu", "float32")
    requests = {
        "few": Request(origin=Seed(seed), sampler=Sampler("dpm++2m", FEW)),
        "many": Request(origin=Seed(seed), sampler=Sampler("dpm++2m", MANY)),
        "picture": Request(origin=Seed(seed)),
    }
    times: dict[str, list[float]] = {}
    made: dict[str, Array] = {}
    for _ in range(rounds):
        for way, context in (("", nullcontext()), ("_plain", _by_torch())):
            with context:
                for name, request in requests.items():
                    start = time.perf_counter()
                    made[name + way] = finished(renderer.render(request)).data
                    spent = time.perf_counter() - start
                    times.setdefault(name + way, []).append(spent)
    least = {name: min(spent) for name, spent in times.items()}
    steps = {
        way: (least[f"many{way}"] - least[f"few{way}"]) / (MANY - FEW)
        for way in ("", "_plain")
    }
    away = np.abs(made["picture"] - made["picture_plain"])
    return {
        "step_seconds": steps[""],
        "step_seconds_plain": steps["_plain"],
        "picture_seconds": least["picture"],
        "picture_seconds_plain": least["picture_plain"],
        "steps_times_faster": steps["_plain"] / steps[""],
        "picture_times_faster": least["picture_plain"] / least["picture"],
        "largest_difference": float(away.max()),
    }


def _by_torch() -> AbstractContextManager[Any]:
    return patch.object(QuickConv3d, "_plain", lambda *_: False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print one JSON object; 0 if all is within limits."""
    chosen = options("convolution", __doc__).parse_args(arguments)
    rounds = 1 if chosen.quick else 5
    return finish(chosen, LIMITS, lambda: measure(rounds, chosen.seed))


if __name__ == "__main__":
    sys.exit(main())

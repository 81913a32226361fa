"""Parity sets: folders of weights as published, inputs, and the originals' outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from napari_brainldm.engine.bound import Bound
from napari_brainldm.engine.checkpoint import Checkpoint, load_checkpoint
from napari_brainldm.engine.device import Compute
from napari_brainldm.engine.imports.find import find
from napari_brainldm.engine.imports.write import write_found

DIRECT, INVERTED = 2e-5, 2e-4
"""Relative errors allowed: of a pass or a sampling, and of what was inverted."""

Outputs = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Opened:
    """A set, imported by the product's own road.

    Attributes
    ----------
    io
        Inputs and expected outputs by name.
    config
        Of the set, as it came.
    """

    checkpoint: Checkpoint
    io: dict[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bound(self) -> Bound:
        """The denoiser on the CPU in float32."""
        compute = Compute("cpu", "float32")
        return Bound(self.checkpoint.denoiser(), self.checkpoint.card, compute)


def opened(source: Path, io: Path, folder: Path) -> Opened:
    """Import `source` into `folder`, load it, and read inputs and outputs."""
    path = folder / "imported.safetensors"
    for _ in write_found(find(source), path):
        pass
    config = io.parent / "config.json"
    plain = json.loads(config.read_text()) if config.is_file() else {}
    return Opened(load_checkpoint(path), load_file(io), plain)


def allowed(name: str) -> float:
    """Relative error allowed to the output `name`."""
    inverted = ("z_T", "roundtrip", "interp", "manip.out.z", "manip.out.image")
    paths = ("traj.encode", "small.", "interp.out")
    return INVERTED if any(word in name for word in (*inverted, *paths)) else DIRECT


def error(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected| in float64; of uint8, a share of one step."""
    if expected.dtype == torch.uint8:
        away = (found.int() - expected.int()).abs().max()
        return DIRECT * float(away)
    a, b = found.double().reshape(-1), expected.double().reshape(-1)
    if a.shape != b.shape:
        return float("inf")
    return float((a - b).norm() / b.norm().clamp(min=1e-30))


def is_output(name: str) -> bool:
    """Whether `name` of a set is to be met; the others are inputs, or mistakes."""
    told = name.startswith(("schedule.", "scheduler.")) or "timesteps" in name
    answer = ".out." in name or name.startswith("out.") or ".traj." in name or told
    return answer and ".in." not in name and not name.endswith("_WRONG")


def compared(set_: str, found: Outputs, io: Outputs) -> list[str]:
    """A line for each output of the set; prints them; returns those that fail."""
    failed = []
    print(f"\n{set_}")
    for name in sorted(filter(is_output, io)):
        if name not in found:
            failed.append(f"{name}: not computed")
            continue
        off, limit = error(found[name], io[name]), allowed(name)
        line = f"{name:45s} {off:9.2e}  (limit {limit:.0e})"
        print(f"  {line}")
        if not off <= limit:
            failed.append(line)
    return failed

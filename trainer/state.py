"""The state of a training run on disk: one safetensors file, no pickle.

Tensors of networks, averaged weights and optimizers under slash-separated names; the
few plain numbers of the optimizers in the header. Written atomically.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from napari_brainldm.engine.files import put_whole
from napari_brainldm.engine.request import EngineError

Parts = dict[str, dict[str, Tensor]]


def save_state(
    path: Path,
    step: int,
    parts: Mapping[str, Mapping[str, Tensor]],
    optimizers: Any,
    precision: str = "",
) -> None:
    """Write step, network `parts`, optimizer state dictionaries and precision.

    Raises
    ------
    EngineError
        If the disk refuses; the state before it stays as it was.
    """
    tensors = {
        f"{part}|{k}": v for part, held in parts.items() for k, v in held.items()
    }
    groups = {}
    for name, state in optimizers.items():
        groups[name] = state["param_groups"]
        for index, moments in state["state"].items():
            tensors |= {f"optimizer/{name}|{index}/{k}": v for k, v in moments.items()}
    plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    told = {"step": str(step), "groups": json.dumps(groups), "precision": precision}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # straight to the file: a copy in memory would double the need of a large model
        put_whole(path, lambda beside: save_file(plain, beside, metadata=told))
    except (OSError, SafetensorError) as error:
        raise EngineError(
            f"{path.parent} cannot take the state of step {step} ({error}). Make room "
            "on its disk, then go on with --resume: the state before it is whole."
        ) from error


def load_state(path: Path) -> tuple[int, Parts, dict[str, Any]]:
    """Read what `save_state` wrote: step, parts, optimizer state dictionaries."""
    with _read(path) as file:
        header = file.metadata() or {}
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        step, groups = int(header["step"]), json.loads(header["groups"])
    parts: Parts = {}
    for key, value in tensors.items():
        part, _, name = key.partition("|")
        parts.setdefault(part, {})[name] = value
    return step, parts, {n: _optimizer(parts, n, g) for n, g in groups.items()}


def saved_precision(path: Path) -> str:
    """The precision in which the run of a state was going; empty if it is not told."""
    with _read(path) as file:
        return str((file.metadata() or {}).get("precision", ""))


@contextmanager
def _read(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise EngineError(
            f"{path} is not the state of a training run ({error}). "
            "Start the stage again without --resume."
        ) from error


def _optimizer(parts: Parts, name: str, groups: Any) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in parts.get(f"optimizer/{name}", {}).items():
        index, _, moment = key.partition("/")
        state.setdefault(int(index), {})[moment] = value
    return {"state": state, "param_groups": groups}

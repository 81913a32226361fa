"""Reading weights that others saved: tensors only, mapped, nothing is executed."""

from __future__ import annotations

import json
import math
import pickle
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_brainldm.engine.checkpoint import FOREIGN
from napari_brainldm.engine.request import EngineError

CONFIGS = ("config.json", "configs/inference.json")
"""Where settings stand, from the folder of the weights or the one above."""

STARTS = (b"PK", b"\x80")
"""First bytes of torch's files, since 2020 and before."""

DAMAGED = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
)
"""What torch raises when the bytes of a file are not what they say."""

WRAPPERS = ("module.", "_orig_mod.")
"""Put before every key by torch's own wrappers of networks."""


@dataclass(frozen=True, eq=False)
class Weights:
    """What one file holds.

    Attributes
    ----------
    path
        The file.
    tensors
        By the names they were saved under, still on the disk (memory-mapped).
    lone
        The tensor of a file that holds only one, without a name.
    settings
        Hyper-parameters that a training program left beside the weights.
    """

    path: Path
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    lone: Tensor | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def weight_files(folder: Path) -> list[Path]:
    """Files of weights in `folder` and in its `models`, in the order of their names."""
    places = (folder, folder / "models")
    found = (p for place in places if place.is_dir() for p in place.iterdir())
    return sorted(p for p in found if p.suffix in FOREIGN and p.is_file())


def read_weights(path: Path) -> Weights:
    """The tensors in `path`, on the CPU; no code in the file is ever run.

    Raises
    ------
    EngineError
        If it is no file of torch's, or holds other things than weights.
    """
    with path.open("rb") as file:
        if not file.read(2).startswith(STARTS):
            raise EngineError(
                f"{path.name} is not a file that torch saved. Choose a file of "
                f"weights ({', '.join(FOREIGN)})."
            )
    try:
        found = _loaded(path)
    except pickle.UnpicklingError as error:
        raise EngineError(
            f"{path.name} holds more than weights, and such a file can run programs "
            "when it is opened, so it was left closed. Save its state_dict alone and "
            "import that."
        ) from error
    except DAMAGED as error:
        raise EngineError(
            f"{path.name} cannot be read as weights that torch saved "
            f"({_first_line(error)}). Download or copy it again."
        ) from error
    return _sorted_out(path, found)


def _loaded(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch cannot read, it refuses
        return _mapped(path)


def _mapped(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):  # the format before 2020 cannot be mapped
            raise
        return torch.load(path, map_location="cpu", weights_only=True)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:120]


def _sorted_out(path: Path, found: Any) -> Weights:
    if isinstance(found, Tensor):
        return Weights(path, lone=found)
    if not isinstance(found, Mapping):
        raise EngineError(
            f"{path.name} holds a {type(found).__name__}, not weights. Choose a file "
            "with a network's state_dict."
        )
    settings = found.get("hyper_parameters", {})
    state = found.get("state_dict", found)
    tensors = _plain(path, state)
    if not tensors:
        raise EngineError(
            f"{path.name} holds no weights. Choose a file with a network's state_dict."
        )
    usable = settings if isinstance(settings, Mapping) else {}
    return Weights(path, _unwrapped(tensors), settings=usable)


def _plain(path: Path, state: Any) -> dict[str, Tensor]:
    """The tensors of a state_dict, without what a training left on them."""
    held = state.items() if isinstance(state, Mapping) else ()
    found = {str(k): v.detach() for k, v in held if isinstance(v, Tensor)}
    if any(v.layout != torch.strided or v.is_quantized for v in found.values()):
        raise EngineError(
            f"{path.name} holds sparse or quantised weights. Save them as plain ones."
        )
    return found


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if all(key.startswith(wrapper) for key in tensors):
            bare = {key[len(wrapper) :]: v for key, v in tensors.items()}
            return _unwrapped(bare)
    return tensors


def settings_near(path: Path) -> dict[str, Any]:
    """Plain values of the config files around the weights at `path`.

    Only JSON's own values are taken; expressions ("$...") and references ("@...") of
    bundle configs stay text that nobody evaluates.
    """
    found: dict[str, Any] = {}
    for place in _config_places(path.parent):
        try:
            plain = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(plain, dict):
            found = plain | found
    return found


def _config_places(folder: Path) -> Iterator[Path]:
    for base in (folder, folder.parent):
        for name in CONFIGS:
            if (base / name).is_file():
                yield base / name


def number(settings: Mapping[str, Any], name: str, default: float) -> float:
    """The number `name` of `settings`; `default` where it is absent or no number."""
    value = settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return float(value) if math.isfinite(value) else default


def whole(settings: Mapping[str, Any], name: str, default: int) -> int:
    """As `number`, an integer above 0."""
    value = number(settings, name, default)
    return int(value) if value == int(value) and value > 0 else default


def section(settings: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """The first table of `settings` under one of `names`; empty without one."""
    for name in names:
        value = settings.get(name)
        if isinstance(value, Mapping):
            return value
    return {}

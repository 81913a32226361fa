"""A foreign checkpoint as one of our files: tensor by tensor, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_brainldm.engine.checkpoint import check_finite, check_shapes, metadata
from napari_brainldm.engine.files import writing_into

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from torch import Tensor

    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.imports.found import Found

ALIGNED = 8
"""Bytes to which safetensors pads its header."""


@dataclass(frozen=True)
class Written:
    """How far the import is, in bytes."""

    done: int
    total: int


def write_found(found: Found, path: Path) -> Generator[Written, None, None]:
    """Write `found` at `path`; yields after every tensor.

    Only one tensor at a time is in memory beside what the system maps of the source.
    Whoever drives this may stop it between two tensors: nothing is then left.

    Raises
    ------
    EngineError
        If the weights are not exactly those of the card, not finite, or the disk
        refuses.
    """
    check_shapes(found.card.name, found.card, found.tensors)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with writing_into(path.parent):
        try:
            yield from _stream(found, beside)
            os.replace(beside, path)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


def _stream(found: Found, path: Path) -> Generator[Written, None, None]:
    total, done = 4 * sum(v.numel() for v in found.tensors.values()), 0
    with path.open("wb") as file:
        file.write(_header(found.card, found.tensors))
        for name, tensor in sorted(found.tensors.items()):
            check_finite(found.card.name, {name: tensor})
            file.write(tensor.to(torch.float32).contiguous().numpy().data)
            done += 4 * tensor.numel()
            yield Written(done, total)
        file.flush()
        os.fsync(file.fileno())


def _header(card: Card, tensors: Mapping[str, Tensor]) -> bytes:
    """Of a safetensors file: its length, then names, shapes and places as JSON."""
    entries: dict[str, object] = {"__metadata__": metadata(card)}
    start = 0
    for name, tensor in sorted(tensors.items()):
        end = start + 4 * tensor.numel()
        entries[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNED)
    return len(text).to_bytes(8, "little") + text

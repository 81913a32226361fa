"""The state of an exploration as one JSON file: model, pictures, history, view."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_brainldm.engine.files import write_whole, writing_into
from napari_brainldm.engine.lineage import Lineage
from napari_brainldm.engine.recreate import Original, original
from napari_brainldm.engine.request import (
    UNREADABLE,
    EngineError,
    Request,
    request_from_plain,
    to_plain,
)

SUFFIX = ".workspace.json"
VERSION = 1


@dataclass(frozen=True)
class Workspace:
    """What a workspace file holds.

    Attributes
    ----------
    checkpoint
        Where the model's file was; its name and sha256 stand in `picture`.
    picture, reference
        The final picture shown and the pinned one; None for none pinned.
    requests, place
        Of undo and redo: all requests in order, and which of them is shown.
    view
        How it is looked at, as plain values; whoever shows it knows the keys.
    lineages
        How connectivity of `requests` was drawn or edited, by its digest.
    """

    checkpoint: Path
    picture: Original
    reference: Original | None = None
    requests: tuple[Request, ...] = ()
    place: int = -1
    view: dict[str, Any] = field(default_factory=dict)
    lineages: dict[str, Lineage] = field(default_factory=dict)


def write_workspace(
    path: Path,
    checkpoint: Path,
    picture: dict[str, Any],
    reference: dict[str, Any] | None,
    history: tuple[tuple[Request, ...], int],
    view: dict[str, Any],
    lineages: dict[str, Lineage],
) -> None:
    """Write a workspace; `picture` and `reference` are records of `engine.export`."""
    requests, place = history
    plain = {
        "Workspace": VERSION,
        "CheckpointFile": str(checkpoint.resolve()),
        "Picture": picture,
        "Reference": reference,
        "History": {"requests": [to_plain(r) for r in requests], "place": place},
        "View": view,
        "Connectivity": {name: one.to_plain() for name, one in lineages.items()},
    }
    with writing_into(path.parent):
        write_whole(path, json.dumps(plain, indent=1, sort_keys=True).encode())


def read_workspace(path: Path) -> Workspace:
    """The workspace in the file at `path`.

    Raises
    ------
    EngineError
        If it holds none, or one of a later version.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        version = int(plain["Workspace"])
        return _workspace(plain) if version <= VERSION else _later(path, version)
    except (OSError, *UNREADABLE) as error:
        raise EngineError(
            f"{path.name} is not a workspace of this program ({error!r}). Choose a "
            f"file that was saved with Save workspace, *{SUFFIX}."
        ) from error


def _workspace(plain: dict[str, Any]) -> Workspace:
    reference, history = plain["Reference"], plain["History"]
    lineages = plain.get("Connectivity", {})  # files of older versions have none
    return Workspace(
        Path(plain["CheckpointFile"]),
        original(plain["Picture"]),
        None if reference is None else original(reference),
        tuple(request_from_plain(one) for one in history["requests"]),
        int(history["place"]),
        dict(plain["View"]),
        {name: Lineage.from_plain(one) for name, one in lineages.items()},
    )


def _later(path: Path, version: int) -> Workspace:
    raise EngineError(
        f"{path.name} is a workspace of version {version}; this program knows "
        f"{VERSION}. Update napari-brainldm to open it."
    )

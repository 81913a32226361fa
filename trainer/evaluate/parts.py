"""What a run has measured already, in files: one for a part, one for a person in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from napari_brainldm.engine.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path, made_of: str) -> Any:
    """What was found when all was as `made_of` says; None without it."""
    if not path.is_file():
        return None
    held = json.loads(path.read_text())
    return held["found"] if held["made_of"] == made_of else None


def write(path: Path, made_of: str, found: Any) -> None:
    """Keep what was found, of plain lists, dicts, words and numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = {"made_of": made_of, "found": found}
    write_whole(path, json.dumps(held).encode())


def each(
    folder: Path, made_of: str, count: int, make: Callable[[int], Any]
) -> Iterator[Any]:
    """What `make` finds for each number: a run that was stopped makes the others."""
    for number in range(count):
        path = folder / f"{number}.json"
        found = read(path, made_of)
        if found is None:
            found = make(number)
            write(path, made_of, found)
        yield found

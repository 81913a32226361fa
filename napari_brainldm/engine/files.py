"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from napari_brainldm.engine.request import EngineError

ENDINGS = (
    ".nii.gz",
    ".nii",
    ".mgz",
    ".mgh",
    ".tsv",
    ".json",
    ".gif",
    ".png",
    ".mp4",
)
"""Of the files that are read or written here."""


def stem_of(path: Path) -> str:
    """The name of `path` without its ending, as far as that is one of ENDINGS."""
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.name


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path` so that a crash leaves the old file or the new one."""
    put_whole(path, lambda beside: beside.write_bytes(content))


def put_whole(path: Path, write: Callable[[Path], object]) -> None:
    """As `write_whole`, for content that `write` puts into a file it is given."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        write(beside)
        with beside.open("r+b") as stream:  # Windows flushes writable files only
            os.fsync(stream.fileno())
        if path.exists():
            shutil.copymode(path, beside)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Make `folder`; what the disk refuses inside becomes an EngineError sentence."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise EngineError(
            f"{folder} cannot be written to ({error.strerror}). Choose a folder you "
            "may write to, on a disk with room."
        ) from error


def check_empty(folder: Path, what: str) -> None:
    """Raise an EngineError if `folder` holds anything but hidden files.

    `what` will be written there: a folder of somebody's own data stays as it is.
    """
    held = sorted(folder.iterdir()) if folder.is_dir() else []
    named = [path.name for path in held if not path.name.startswith(".")]
    if named:
        raise EngineError(
            f"{folder} holds {named[0]} and {len(named) - 1} more; {what} would be "
            "mixed with that. Choose an empty or a new folder."
        )

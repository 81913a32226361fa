"""Where to write, asked: nothing written before is overwritten without a question.

A file dialog asks about the name that was typed. What is written has another one (with
the mark of synthetic pictures), or there are many of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog

from napari_brainldm.engine.export import MARK, marked
from napari_brainldm.engine.files import stem_of
from napari_brainldm.widgets.looks import agreed

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

Lost = Callable[[Path], list[Path]]
"""Named path -> the files there that would be overwritten or mixed with new ones."""


def ask_where(
    parent: QWidget, title: str, proposal: str, kinds: str, lost: Lost
) -> Path | None:
    """The path that somebody has named and agreed to; None for none."""
    name, _ = QFileDialog.getSaveFileName(parent, title, proposal, kinds)
    if not name:
        return None
    path = Path(name)
    there = lost(path)
    if not there:
        return path
    more = f" and {len(there) - 1} more" if len(there) > 1 else ""
    question = f"{there[0].name}{more} exists already. Write over it?"
    details = "Files of the same name that are not written anew stay as they are."
    return path if agreed(parent, title, question, details, "Write over") else None


def picture_at(path: Path) -> list[Path]:
    """The synthetic picture that would be written as `path`, if it is there."""
    stem = marked(stem_of(path).removesuffix("_T1w"))
    target = path.with_name(f"{stem}_T1w.nii.gz")
    return [target] if target.is_file() else []


def group_at(path: Path) -> list[Path]:
    """Maps and tables that begin with the name of `path`."""
    return _matching(path, rf"(_[A-Za-z0-9-]+)?_{MARK}_.*")


def film_at(path: Path) -> list[Path]:
    """Frames that begin with the name of `path`, where frames are asked for."""
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return []  # one file, which the dialog has asked about
    return _matching(path, rf"_frame-\d+_{MARK}_.*")


def _matching(path: Path, ending: str) -> list[Path]:
    pattern = re.compile(re.escape(stem_of(path)) + ending)
    if not path.parent.is_dir():
        return []
    return sorted(p for p in path.parent.iterdir() if pattern.fullmatch(p.name))

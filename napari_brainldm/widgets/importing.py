"""Public weights opened in the dock: understood, agreed to, written, then loaded."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_brainldm.engine.imports.find import find, recognise
from napari_brainldm.engine.imports.write import write_found
from napari_brainldm.engine.request import EngineError
from napari_brainldm.widgets.job import Step, Task, Tick
from napari_brainldm.widgets.looks import agreed

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_brainldm.engine.imports.found import Found
    from napari_brainldm.widgets.desk import Desk

MEGABYTE = 2**20


class Importing(QObject):
    """Asks the user about public weights, and the desk's worker to write them."""

    opening = Signal(object)  # Path of the new checkpoint

    def __init__(self, parent: QWidget, desk: Desk) -> None:
        super().__init__(parent)
        self._desk = desk
        self._source = Path()

    def begin(self, source: Path) -> None:
        """Look what `source` is; the user is asked when that is known."""
        self._source = source
        work = partial(_understood, source)
        self._desk.background(Task("import", work, self._on_found))

    def _on_found(self, told: tuple[Found, tuple[str, ...]]) -> None:
        found, sentences = told
        dock = cast("QWidget", self.parent())  # not kept: it would keep the dock
        if not import_agreed(dock, found, sentences):
            return
        name = f"{found.card.kind}-{self._source.stem}.safetensors"
        words = "Keep the imported checkpoint as"
        chosen, _ = QFileDialog.getSaveFileName(
            dock, words, str(self._source.parent / name), "*.safetensors"
        )
        if chosen:
            work = partial(_written, found, Path(chosen))
            self._desk.background(Task("import", work, self.opening.emit))


def import_agreed(parent: QWidget, found: Found, sentences: tuple[str, ...]) -> bool:
    """Ask whether to import; what was found, its terms and its citation are shown."""
    terms, origin = found.terms, found.card.provenance
    parts = (
        "\n".join(sentences),
        "\n".join(origin.notes),
        f"Trained on: {origin.trained_on}." if origin.trained_on else "",
        f"Terms: {terms.text}",
        f"Cite: {origin.citation}" if origin.citation else "",
    )
    details = "\n\n".join(part for part in parts if part)
    question = f"Import {found.card.name}?"
    yes = "Import" if terms.open else "I agree to the terms: import"
    return agreed(parent, "Import public weights", question, details, yes)


def _understood(
    source: Path,
) -> Generator[Step, None, tuple[Found, tuple[str, ...]]]:
    yield Tick("understand", 0, 1)
    found = find(source)
    steps, megabytes = recognise(found, source), 0
    while True:
        try:
            megabytes = next(steps) // MEGABYTE
        except StopIteration as done:
            return found, (*found.told, *done.value)
        yield Tick("recognise", megabytes, 0)


def _written(found: Found, chosen: Path) -> Generator[Step, None, Path]:
    path = chosen
    if chosen.suffix != ".safetensors":  # the dialog asked about another name
        path = chosen.with_name(f"{chosen.name}.safetensors")
        if path.exists():
            raise EngineError(
                f"{path} is there already. Import again and choose another name."
            )
    for written in write_found(found, path):
        done, total = (n // MEGABYTE for n in (written.done, written.total))
        yield Tick("import", done, total)
    return path

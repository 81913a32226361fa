"""One per viewer: the renderer, the job, and where pictures go."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.export import record
from napari_brainldm.engine.renderer import Progress, Renderer
from napari_brainldm.engine.request import Request
from napari_brainldm.engine.volume import Volume
from napari_brainldm.widgets import layers
from napari_brainldm.widgets.job import Job, Step, Task, Tick


@dataclass(frozen=True, eq=False)
class Picture:
    """A rendered picture, the request it answers, its record, and its price."""

    volume: Volume
    request: Request
    record: dict[str, Any]
    seconds: float


class Desk(QObject):
    """Loads a checkpoint, renders requests, hands pictures to one layer.

    Parameters
    ----------
    viewer
        The napari viewer; pictures go there.
    """

    opened = Signal(object)  # Card
    shown = Signal(object, bool)  # Picture, whether it is a preview
    saved = Signal(list)  # paths
    progressed = Signal(object)  # Tick
    changed = Signal(str)  # name of the running task, empty at rest
    failed = Signal(str)  # a sentence

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._job = Job()
        self._loading = False
        self.renderer: Renderer | None = None
        self.layer: Any = None
        self._job.progressed.connect(self.progressed)
        self._job.changed.connect(self._on_job_changed)
        self._job.failed.connect(self.failed)

    @property
    def busy(self) -> bool:
        """Whether a task runs or waits."""
        return self._job.busy

    def open(self, path: Path) -> None:
        """Load the checkpoint at `path`; `opened` or `failed` tells the end."""
        self._loading = True
        self._job.ask(Task("load", partial(_load, path), self._on_renderer_loaded))

    def ask(self, request: Request, preview: bool = False) -> None:
        """Make the picture of `request`; the newest request wins.

        Not while a checkpoint is loading: the request belongs to the one before.
        """
        if self.renderer is None or self._loading:
            return
        name = "preview" if preview else "picture"
        work = partial(_render, self.renderer, request)
        receive = partial(self._on_picture_made, preview)
        self._job.ask(Task(name, work, receive, patient=preview))

    def save(self, path: Path) -> None:
        """Write the picture shown as marked NIfTI with its sidecar."""
        volume = layers.volume_of(self.layer)  # a copy: the layer may go on changing
        work = partial(_save, volume, dict(self.layer.metadata["record"]), path)
        self._job.ask(Task("save", work, self.saved.emit, patient=True))

    def cancel(self) -> None:
        """Stop after the current step and forget what waits."""
        self._job.cancel()

    def close(self) -> None:
        """Stop, call nobody back, let the weights go."""
        self._job.close()
        self.renderer = self.layer = self._viewer = None

    def _on_job_changed(self, name: str) -> None:
        if not name:
            self._loading = False
        self.changed.emit(name)

    def _on_renderer_loaded(self, renderer: Renderer) -> None:
        self._loading = False
        self.renderer = renderer
        self.opened.emit(renderer.card)

    def _on_picture_made(self, preview: bool, picture: Picture) -> None:
        self.layer = layers.show(
            self._viewer, self.layer, picture.volume, picture.record
        )
        if not preview:
            layers.finish(self.layer)
        self.shown.emit(picture, preview)


def _load(path: Path) -> Generator[Step, None, Renderer]:
    yield Tick("load", 0, 2)
    checkpoint = load_checkpoint(path)
    yield Tick("load", 1, 2)
    return Renderer(checkpoint)


def _render(renderer: Renderer, request: Request) -> Generator[Progress, None, Picture]:
    start = time.perf_counter()
    volume = yield from renderer.render(request)
    seconds = time.perf_counter() - start
    return Picture(volume, request, record(renderer, request, volume), seconds)


def _save(
    volume: Volume, sidecar: dict[str, Any], path: Path
) -> Generator[Step, None, list[str]]:
    yield Tick("save", 0, 1)
    return layers.write_volume(volume, sidecar, path)

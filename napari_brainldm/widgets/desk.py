"""One per viewer: the renderer, the job, and where pictures go."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_brainldm.engine.asked import Findings, find
from napari_brainldm.engine.checkpoint import Checkpoint, load_checkpoint
from napari_brainldm.engine.export import record, request_record
from napari_brainldm.engine.renderer import Progress, Renderer
from napari_brainldm.engine.request import EngineError, Request
from napari_brainldm.engine.resources import bundled_segmenter
from napari_brainldm.engine.segment import Segmenter
from napari_brainldm.engine.volume import Volume
from napari_brainldm.widgets import layers, overlays
from napari_brainldm.widgets.job import Job, Step, Task, Tick
from napari_brainldm.widgets.preferences import Preferences, preferences, refused

TITLES = {
    "import": "An import",
    "sweep": "A sweep",
    "seeds": "The spread over seeds",
    "contrast": "A comparison",
    "saliency": "A saliency map",
    "voxels": "A test of voxels",
}
"""Work in the background, as sentences name it."""

BACKGROUND = tuple(TITLES)
"""Tasks during which the rest of a dock can be used."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A rendered picture, the request it answers, its record, and its price."""

    volume: Volume
    request: Request
    record: dict[str, Any]
    seconds: float


class Desk(QObject):
    """Loads a checkpoint, renders requests, hands pictures to one layer.

    Every final picture is segmented and measured after it is shown.

    Parameters
    ----------
    viewer
        The napari viewer; pictures go there.
    segmenter
        File of the segmenter, loaded when first needed; None for the bundled one.

    Attributes
    ----------
    picture
        The final picture shown; None when there is none or a preview is shown.
    findings
        What was found in `picture`; None until it is measured.
    unmeasured
        Why pictures cannot be measured, a sentence; empty when they can.
    """

    opened = Signal(object)  # Card
    shown = Signal(object, bool)  # Picture, whether it is a preview
    measured = Signal(object)  # Findings
    unlabelled = Signal()  # the user has deleted the layer of the structures
    saved = Signal(list)  # paths
    progressed = Signal(object)  # Tick
    changed = Signal(str)  # name of the running task, empty at rest
    failed = Signal(str)  # a sentence

    def __init__(self, viewer: Any, segmenter: Path | None = None) -> None:
        super().__init__()
        self._viewer = viewer
        self._job = Job()
        self._labelling = False
        self.renderer: Renderer | None = None
        self.picture: Picture | None = None
        self.findings: Findings | None = None
        self.layer: Any = None
        self._structures: Any = None
        self._segmenter: Segmenter | None = None
        self._segmenter_file, self.unmeasured = _segmenter_at_hand(segmenter)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        viewer.dims.events.ndisplay.connect(self._on_ndisplay_changed)
        self._job.progressed.connect(self.progressed)
        self._job.changed.connect(self.changed)
        self._job.failed.connect(self.failed)

    @property
    def busy(self) -> bool:
        """Whether a task runs or waits."""
        return self._job.busy

    @property
    def pressing(self) -> bool:
        """Whether a task that is not in the background runs or waits."""
        return self._job.pressing

    @property
    def loading(self) -> bool:
        """Whether another checkpoint is on its way."""
        return self._job.holds("load")

    def open(self, path: Path) -> None:
        """Load the checkpoint at `path`; `opened` or `failed` tells the end."""
        self._job.ask(Task("load", partial(_load, path), self._on_renderer_loaded))

    def ask(self, request: Request, preview: bool = False) -> None:
        """Make the picture of `request`; the newest request wins.

        Not while a checkpoint is loading: the request belongs to the one before.
        """
        if self.renderer is None or self.loading:
            return
        if preview:
            self._job.ask(self._preview(self.renderer, request))
        else:
            work = partial(_render, self.renderer, request)
            self._job.ask(Task("picture", work, self._on_picture_made))

    def _preview(self, renderer: Renderer, request: Request) -> Task:
        shown = self._on_preview_made
        work = partial(_sketch, renderer, request)
        return Task("preview", work, shown, patient=True, along=shown)

    @property
    def segmenter(self) -> Segmenter | Path | None:
        """What measures pictures: loaded, or its file; None when there is none.

        None for maps of gray matter too: it knows heads, and would find nonsense.
        """
        if self.renderer is not None and self.renderer.card.fnc is not None:
            return None
        return self._segmenter or self._segmenter_file

    def keep(self, segmenter: Segmenter | None) -> None:
        """Measure with `segmenter`, which other work has loaded, from now on."""
        self._segmenter = segmenter

    def measure(self) -> None:
        """Segment and measure the picture shown; `measured` or `failed` tells the end.

        Not while anything else runs or waits: that may be a newer picture.
        """
        segmenter = self.segmenter
        if self.picture is None or segmenter is None or self._job.pressing:
            return
        assert self.renderer is not None
        work = partial(_measure, segmenter, self.renderer, self.picture)
        self._job.ask(Task("measure", work, self._on_picture_measured))

    def show_structures(self, wanted: bool) -> None:
        """Show the structures of this and of later pictures, or no longer."""
        self._labelling = wanted
        if not wanted:
            self._drop_structures()
        elif self.findings is not None:
            self._label(self.findings)
        else:
            self.measure()

    def save(self, path: Path) -> None:
        """Write the picture shown as marked NIfTI with its sidecar."""
        volume = layers.volume_of(self.layer)  # a copy: the layer may go on changing
        work = partial(_save, volume, dict(self.layer.metadata["record"]), path)
        self._job.ask(Task("save", work, self.saved.emit, kept=True))

    def run(self, task: Task) -> None:
        """Do other long work in the one worker; not in place of a load."""
        if self.loading and not task.kept:
            self.failed.emit(
                "A model is being loaded. Wait for its end, or cancel it, and try "
                "again."
            )
            return
        self._job.ask(task)

    def background(self, task: Task) -> bool:
        """Do other long work whenever no newer picture is asked for.

        It takes the place of work of its own kind; other kinds are not given up for it:
        then it is refused, and False returned.
        """
        behind = self._job.behind
        if behind not in ("", task.name):
            self.failed.emit(
                f"{TITLES.get(behind, behind)} is still at work. Wait for its end, or "
                "cancel it first (press Cancel until it is gone)."
            )
            return False
        self._job.ask(replace(task, background=True))
        return True

    def cancel(self) -> None:
        """Stop after the current step and forget what waits."""
        self._job.cancel()

    def close(self) -> None:
        """Stop, call nobody back, let the weights go."""
        self._job.close()
        if self._viewer is not None:
            events = self._viewer.layers.events, self._viewer.dims.events
            events[0].removed.disconnect(self._on_layer_removed)
            events[1].ndisplay.disconnect(self._on_ndisplay_changed)
        self.renderer = self._segmenter = self.picture = self.findings = None
        self.layer = self._structures = self._viewer = None

    def _on_renderer_loaded(self, renderer: Renderer) -> None:
        self.renderer = renderer
        self.picture = self.findings = None  # what is shown is of another model
        behind = self._job.behind
        if behind not in ("", "import"):  # its pictures would be told as of this model
            self._job.give_up_background()
        self.opened.emit(renderer.card)
        if behind not in ("", "import"):
            self.failed.emit(
                f"{TITLES.get(behind, behind)} of the model before was given up. Begin "
                "it again under this one, or open that model again."
            )

    def _on_preview_made(self, picture: Picture) -> None:
        self.picture = None
        self._show(picture)
        self.shown.emit(picture, True)

    def _on_picture_made(self, picture: Picture) -> None:
        self.picture = picture
        self._show(picture)
        layers.finish(self.layer)
        self.shown.emit(picture, False)
        self.measure()

    def _show(self, picture: Picture) -> None:
        self.findings = None
        overlays.veil(self._structures)
        overlays.show_words(self._viewer, "")  # they are about an older picture
        layer = layers.show(self._viewer, self.layer, picture.volume, picture.record)
        if layer is not self.layer:
            self._drop_structures()  # they would lie under a new layer
        self.layer = layer

    def _on_picture_measured(self, told: tuple[Segmenter, Findings]) -> None:
        self._segmenter, self.findings = told
        if self._labelling:
            self._label(self.findings)
        self.measured.emit(self.findings)

    def _label(self, findings: Findings) -> None:
        self._structures = overlays.show_structures(
            self._viewer, self._structures, findings
        )

    def _drop_structures(self) -> None:
        layer, self._structures = self._structures, None
        overlays.remove(self._viewer, layer)

    def _on_layer_removed(self, event: Any) -> None:
        # equal, not identical: napari hands plugins layers in a wrapper
        if self._structures is not None and event.value == self._structures:
            self._structures, self._labelling = None, False
            self.unlabelled.emit()

    def _on_ndisplay_changed(self, event: Any) -> None:
        overlays.suit_structures(self._structures, event.value)


def _segmenter_at_hand(path: Path | None) -> tuple[Path | None, str]:
    """The segmenter's file, or None and why there is none."""
    try:
        return path or bundled_segmenter(), ""
    except EngineError as error:
        return None, str(error)


def _load(path: Path) -> Generator[Step, None, Renderer]:
    yield Tick("load", 0, 2)
    checkpoint = load_checkpoint(path)
    yield Tick("load", 1, 2)
    return preferred_renderer(checkpoint)


def preferred_renderer(checkpoint: Checkpoint) -> Renderer:
    """A renderer as the preferences say; EngineError if they cannot be met here."""
    wishes = preferences()
    try:
        return Renderer(checkpoint, wishes.device, wishes.precision)
    except EngineError as error:
        if wishes == Preferences():
            raise
        raise refused(error) from error


def _render(renderer: Renderer, request: Request) -> Generator[Progress, None, Picture]:
    start = time.perf_counter()
    volume = yield from renderer.render(request)
    seconds = time.perf_counter() - start
    return Picture(volume, request, record(renderer, request, volume), seconds)


def _sketch(renderer: Renderer, request: Request) -> Generator[Step, None, Picture]:
    """A preview, with what every step predicts as news on the way.

    Its record lacks the digest, which costs time that a moving hand does not have.
    """
    start = time.perf_counter()
    notes = request_record(renderer, request) | {"Preview": True}

    def told(volume: Volume) -> Picture:
        return Picture(volume, request, notes, time.perf_counter() - start)

    steps = renderer.sketch(request)
    while True:
        try:
            step = next(steps)
        except StopIteration as done:
            return told(done.value)
        seen = None if step.x0 is None else renderer.preview(step.x0)
        news = None if seen is None else told(seen)
        yield Tick(step.stage, step.index, step.total, news)


def _measure(
    segmenter: Segmenter | Path, renderer: Renderer, picture: Picture
) -> Generator[Step, None, tuple[Segmenter, Findings]]:
    yield Tick("segment", 0, 1)
    loaded = ready(segmenter, renderer)
    yield Tick("segment", 0, 1)
    conditions = picture.request.conditions
    return loaded, find(loaded, picture.volume, renderer.card, conditions)


def ready(segmenter: Segmenter | Path, renderer: Renderer) -> Segmenter:
    """`segmenter`, loaded onto the device of `renderer` if it is but a file."""
    if not isinstance(segmenter, Path):
        return segmenter
    compute = renderer.compute
    return Segmenter(load_checkpoint(segmenter), compute.device, compute.precision)


def _save(
    volume: Volume, sidecar: dict[str, Any], path: Path
) -> Generator[Step, None, list[str]]:
    yield Tick("save", 0, 1)
    return layers.write_volume(volume, sidecar, path)

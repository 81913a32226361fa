"""Asks the desk for comparisons of connectivity; shows, tests and writes them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_brainldm.engine.compared import Sharpened
from napari_brainldm.engine.contrast_export import (
    Reading,
    map_record,
    maps_of,
    write_contrast,
)
from napari_brainldm.engine.contrast_flags import Judged, judge
from napari_brainldm.engine.fnc_contrast import (
    Contrasted,
    contrasted,
    pairs_against,
)
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Volume
from napari_brainldm.engine.voxelwise import LEVEL, VoxelTested, voxel_test
from napari_brainldm.widgets import overlays
from napari_brainldm.widgets.contrast_panel import EFFECT
from napari_brainldm.widgets.contrast_tables import REGIONS, ContrastTables
from napari_brainldm.widgets.job import Step, Task, Tick

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from napari_brainldm.engine.atlas import Atlas
    from napari_brainldm.engine.fnc import Fnc
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.request import Derived, Request
    from napari_brainldm.widgets.desk import Desk

NAMES = {
    "A": ("A", "picture"),
    "B": ("B", "picture"),
    "sd": ("SD of A − B", "size"),
    "effect": ("Effect of A − B", "change"),
    "percentile": ("Percentile in the null", "size"),
    "adjusted": ("A − B, less its mean", "change"),
    "difference": ("A − B", "change"),
}
"""Key of a map -> name of its layer, and how it is shown; the last is on top."""

CHANGE = NAMES["difference"][0]
OUTLINE = "Outline of A − B"
SURE = f"p ≤ {LEVEL:g}"
COLOURS = {"largest t": "#f48fb1", "TFCE": "#4dd0e1"}
"""Of the outlines of what a test finds; none is that of the effect's."""


class Contrasts(QObject):
    """Keeps the last comparison, its layers, its tables, and its test.

    Attributes
    ----------
    made
        The last comparison that came to its end; None without one.
    tested
        The test of its voxels; None without one.
    tables
        What is shown of it below the canvas.
    """

    begun = Signal()  # of the last one nothing is kept
    sharpened = Signal(int, int)  # pairs done, of how many
    told = Signal(object, object)  # Contrasted, Judged
    tested_voxels = Signal(str)  # what the test says
    failed = Signal(str)

    def __init__(self, viewer: Any, desk: Desk) -> None:
        super().__init__()
        self._viewer, self._desk = viewer, desk
        self.made: Contrasted | None = None
        self.tested: VoxelTested | None = None
        self.tables = ContrastTables(viewer, desk)
        self._layers: dict[str, Any] = {}
        self._threshold = EFFECT
        desk.opened.connect(self.forget)

    @property
    def panel(self) -> Any:
        """The table of regions; None before it is asked for."""
        return self.tables.panels.get(REGIONS)

    def forget(self, *_: object) -> None:
        """There is no comparison of the model in use."""
        self.made = self.tested = None
        self.tables.tell(None, self._threshold)

    def compare(
        self,
        request: Request,
        people: Sequence[Fnc],
        against: str,
        others: Sequence[Fnc],
        counts: tuple[int, int],
    ) -> None:
        """Compare in the background; `counts` are seeds and pairs of the null."""
        renderer = self._desk.renderer
        if renderer is None:
            return
        try:
            pairs = pairs_against(renderer, request, people, against, others)
        except EngineError as error:
            self.failed.emit(str(error))
            return
        work = partial(_contrasted, renderer, pairs, against, counts)
        task = Task("contrast", work, self._on_made, along=self._on_sharpened)
        if self._desk.background(task):
            self.forget()
            self._drop(*tuple(self._layers))
            self.begun.emit()

    def outline(self, threshold: float) -> None:
        """Outline where the effect is at least `threshold`; 0 for nowhere."""
        self._threshold = threshold
        if self.made is not None:
            self._show_outline(self.made)
            self.tables.outline(threshold)

    def test(self, flips: int, enhanced: bool) -> None:
        """Test every voxel in the background."""
        if self.made is not None:
            work = partial(_tested, self.made, flips, enhanced)
            receive = partial(self._on_tested, self.made)
            self._desk.background(Task("voxels", work, receive))

    def write(self, path: Path) -> None:
        """Write maps, tables, figures, summary; `path` names what all begin with."""
        if self.made is None or self._desk.renderer is None:
            return
        read = self.tables.atlases(), self._threshold, self.tested
        work = partial(_write, self._desk.renderer, self.made, read, path)
        self._desk.run(Task("save", work, self._desk.saved.emit, kept=True))

    def close(self) -> None:
        """Let go of viewer and layers; what is shown stays."""
        self.tables.close()
        self._viewer = None
        self._layers.clear()

    def _on_sharpened(self, so_far: Sharpened) -> None:
        self._show("difference", so_far.mean, so_far.record)
        self.sharpened.emit(so_far.done, so_far.total)

    def _on_made(self, told: tuple[Contrasted, Judged]) -> None:
        self.made, judged = told
        maps = maps_of(self.made)
        for name in NAMES:
            if name in maps:
                self._show(name, maps[name], self.made.compared.record)
        self._show_outline(self.made)
        self.told.emit(self.made, judged)
        self.tables.tell(self.made, self._threshold)

    def _on_tested(self, made: Contrasted, tested: VoxelTested) -> None:
        if made is not self.made:
            return  # of an older comparison
        self.tested = tested
        affine = made.compared.first.affine
        for name, kept in tested.beyond().items():
            title = f"{SURE} ({name})"
            self._drop(title)
            if kept.any():
                volume = Volume(kept, affine)  # type: ignore[arg-type]
                self._layers[title] = overlays.show_outline(
                    self._viewer, title, volume, COLOURS[name]
                )
        self.tested_voxels.emit(tested.told())

    def _drop(self, *names: str) -> None:
        for name in names:
            overlays.remove(self._viewer, self._layers.pop(name, None))

    def _show(self, name: str, picture: Volume, came: Derived) -> None:
        title, kind = NAMES[name]
        before = self._layers.get(name)
        assert self._desk.renderer is not None
        notes = map_record(self._desk.renderer, came, picture, name)
        layer = overlays.show_map(self._viewer, before, title, picture, kind, notes)
        if layer is not before and name != "difference":
            overlays.hide(layer)  # the difference is what was asked for
        self._layers[name] = layer

    def _show_outline(self, made: Contrasted) -> None:
        self._drop(OUTLINE)
        if self._threshold > 0:
            volume = Volume(made.beyond(self._threshold), made.compared.first.affine)  # type: ignore[arg-type]
            self._layers[OUTLINE] = overlays.show_outline(self._viewer, OUTLINE, volume)


def _contrasted(
    renderer: Renderer, pairs: Any, against: str, counts: tuple[int, int]
) -> Generator[Step, None, tuple[Contrasted, Judged]]:
    """A comparison, its running mean as news on the way."""
    steps = contrasted(renderer, pairs, against, *counts)
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            made: Contrasted = end.value
            return made, judge(made)
        if isinstance(step, Sharpened):
            yield Tick("pair", step.done, step.total, step)
        else:
            yield Tick(step.stage, step.index, step.total)


def _tested(
    made: Contrasted, flips: int, enhanced: bool
) -> Generator[Step, None, VoxelTested]:
    return (
        yield from voxel_test(made.compared.differences, made.mask, flips, enhanced)
    )


def _write(
    renderer: Renderer,
    made: Contrasted,
    read: tuple[Callable[[], tuple[Atlas, ...]], float, VoxelTested | None],
    path: Path,
) -> Generator[Step, None, list[str]]:
    yield Tick("save", 0, 1)
    atlases, threshold, tested = read
    regions, clusters = atlases()
    reading = Reading(regions, threshold, tested, clusters)
    return [str(one) for one in write_contrast(renderer, made, reading, path)]

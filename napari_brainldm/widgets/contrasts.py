"""Asks the desk for comparisons of connectivity; shows, tables and writes them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_brainldm.engine.atlas import bundled
from napari_brainldm.engine.compared import Sharpened
from napari_brainldm.engine.contrast_export import (
    ContrastTable,
    contrast_table,
    maps_of,
    write_contrast,
)
from napari_brainldm.engine.contrast_flags import Judged, judge
from napari_brainldm.engine.export import derived_record
from napari_brainldm.engine.fnc_contrast import (
    Contrasted,
    contrasted,
    pairs_against,
)
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Volume
from napari_brainldm.widgets import layers, overlays
from napari_brainldm.widgets.job import Step, Task, Tick
from napari_brainldm.widgets.regions import load_atlas
from napari_brainldm.widgets.regions_panel import BUNDLED, RegionsPanel

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_brainldm.engine.atlas import Atlas
    from napari_brainldm.engine.fnc import Fnc
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.request import Request
    from napari_brainldm.widgets.desk import Desk

NAMES = {
    "A": ("A", "picture"),
    "B": ("B", "picture"),
    "sd": ("SD of A − B", "size"),
    "effect": ("Effect of A − B", "change"),
    "percentile": ("Percentile in the null", "size"),
    "difference": ("A − B", "change"),
}
"""Key of a map -> name of its layer, and how it is shown; the last is on top."""

CHANGE = NAMES["difference"][0]
OUTLINE = "Outline of A − B"


class Contrasts(QObject):
    """Keeps the last comparison, its layers and its table.

    Attributes
    ----------
    made
        The last comparison that came to its end; None without one.
    """

    sharpened = Signal(int, int)  # pairs done, of how many
    told = Signal(object, object)  # Contrasted, Judged
    tabled = Signal(str)  # name of the atlas
    failed = Signal(str)

    def __init__(self, viewer: Any, desk: Desk) -> None:
        super().__init__()
        self._viewer, self._desk = viewer, desk
        self.made: Contrasted | None = None
        self.panel: RegionsPanel | None = None
        self._layers: dict[str, Any] = {}
        self._atlases: dict[object, Atlas] = {}
        self._threshold = 1.0
        desk.opened.connect(self.forget)

    def forget(self, *_: object) -> None:
        """There is no comparison of the model in use."""
        self.made = None

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
        self.made = None
        work = partial(_contrasted, renderer, pairs, against, counts)
        task = Task("contrast", work, self._on_made, along=self._on_sharpened)
        self._desk.background(task)

    def outline(self, threshold: float) -> None:
        """Outline where the effect is at least `threshold`; 0 for nowhere."""
        self._threshold = threshold
        if self.made is not None:
            self._show_outline(self.made)

    def show_table(self) -> None:
        """Show the regions below the canvas; made and docked when first asked for."""
        if self.panel is None:
            self.panel = RegionsPanel(of_structures=False)
            self.panel.wanted.connect(self._on_panel_wanted)
            self.panel.gone_to.connect(partial(layers.go_to, self._viewer))
            self.panel.failed.connect(self.failed)
        dock = self.panel.parentWidget()
        dock = dock or self._viewer.window.add_dock_widget(
            self.panel, name="Regions of the comparison", area="bottom"
        )
        dock.show()
        self._refresh()

    def write(self, path: Path) -> None:
        """Write maps, table and summary; `path` names what all begin with."""
        if self.made is None or self._desk.renderer is None:
            return
        atlas = self._atlases.get(self._chosen)
        work = partial(_write, self._desk.renderer, self.made, atlas, path)
        self._desk.run(Task("save", work, self._desk.saved.emit, patient=True))

    def close(self) -> None:
        """Let go of viewer and layers; what is shown stays."""
        self._viewer = self.panel = None
        self._layers.clear()
        self._atlases.clear()

    @property
    def _chosen(self) -> object:
        return BUNDLED if self.panel is None else self.panel.chosen

    def _on_sharpened(self, so_far: Sharpened) -> None:
        self._show("difference", so_far.mean)
        self.sharpened.emit(so_far.done, so_far.total)

    def _on_made(self, told: tuple[Contrasted, Judged]) -> None:
        self.made, judged = told
        maps = maps_of(self.made)
        for name in NAMES:
            if name in maps:
                self._show(name, maps[name])
        self._show_outline(self.made)
        self.told.emit(self.made, judged)
        if self.panel is not None:
            self._refresh()

    def _show(self, name: str, picture: Volume) -> None:
        title, kind = NAMES[name]
        before = self._layers.get(name)
        layer = overlays.show_map(self._viewer, before, title, picture, kind)
        if layer is not before and name != "difference":
            overlays.hide(layer)  # the difference is what was asked for
        if self.made is not None and self._desk.renderer is not None:
            record = self.made.compared.record
            layer.metadata["record"] = derived_record(
                self._desk.renderer, record, picture
            )
        self._layers[name] = layer

    def _show_outline(self, made: Contrasted) -> None:
        before = self._layers.pop(OUTLINE, None)
        overlays.remove(self._viewer, before)
        if self._threshold > 0:
            volume = Volume(made.beyond(self._threshold), made.compared.first.affine)  # type: ignore[arg-type]
            self._layers[OUTLINE] = overlays.show_outline(self._viewer, OUTLINE, volume)

    def _refresh(self) -> None:
        assert self.panel is not None
        chosen, renderer = self.panel.chosen, self._desk.renderer
        if self.made is None or renderer is None:
            return
        work = partial(_tabled, chosen, self._atlases.get(chosen), self.made)
        self._desk.run(Task("table", work, partial(self._on_tabled, chosen)))

    def _on_panel_wanted(self, _: object) -> None:
        self._refresh()

    def _on_tabled(self, chosen: object, told: tuple[Atlas, ContrastTable]) -> None:
        self._atlases[chosen], table = told
        if self.panel is not None and self.panel.chosen == chosen:
            self.panel.show_table(table)
        self.tabled.emit(self._atlases[chosen].name)


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


def _tabled(
    chosen: object, atlas: Atlas | None, made: Contrasted
) -> Generator[Step, None, tuple[Atlas, ContrastTable]]:
    yield Tick("table", 0, 1)
    found = atlas or load_atlas(chosen)
    yield Tick("table", 0, 1)
    return found, contrast_table(made, found)


def _write(
    renderer: Renderer, made: Contrasted, atlas: Atlas | None, path: Path
) -> Generator[Step, None, list[str]]:
    yield Tick("save", 0, 1)
    table = contrast_table(made, atlas or bundled())
    return [str(one) for one in write_contrast(renderer, made, table, path)]

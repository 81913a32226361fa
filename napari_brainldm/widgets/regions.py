"""Keeps the region table, and the atlas over the picture, true to what is shown."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_brainldm.engine.atlas import Atlas, bundled, read_atlas
from napari_brainldm.engine.atlas_fetch import SOURCES, fetch
from napari_brainldm.engine.regions import Table, of_atlas, of_structures
from napari_brainldm.widgets import layers, overlays
from napari_brainldm.widgets.job import Step, Task, Tick
from napari_brainldm.widgets.regions_panel import (
    BUNDLED,
    EMPTY,
    STRUCTURES,
    RegionsPanel,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_brainldm.engine.asked import Findings
    from napari_brainldm.engine.card import Card
    from napari_brainldm.widgets.comparison import Comparison
    from napari_brainldm.widgets.desk import Desk, Picture

AREA, READING = "bottom", "atlas"

NOTHING = replace(
    EMPTY, title="The picture shown is not measured; a full picture will be."
)
NO_STRUCTURES = replace(
    EMPTY, title="No structures are looked for in these pictures; choose an atlas."
)


class Regions(QObject):
    """Fills a `RegionsPanel` whenever a final picture or its findings are new.

    Parameters
    ----------
    viewer
        The napari viewer; the panel docks below its canvas when first shown.
    desk, comparison
        Whose picture is told, and against which reference.
    """

    failed = Signal(str)

    def __init__(self, viewer: Any, desk: Desk, comparison: Comparison) -> None:
        super().__init__()
        self._viewer, self._desk, self._comparison = viewer, desk, comparison
        self.panel: RegionsPanel | None = None
        self._atlases: dict[object, Atlas] = {}  # on the grid of the model in use
        self._layer: Any = None
        self._lacking = False  # whether the atlas that is wanted is still to be read
        desk.opened.connect(self._on_desk_opened)
        desk.changed.connect(self._on_desk_changed)
        desk.measured.connect(self._on_news)
        desk.shown.connect(self._on_desk_shown)
        comparison.changed.connect(self._on_news)

    def show(self) -> None:
        """Show the panel; made and docked when first asked for."""
        if self.panel is None:
            self.panel = RegionsPanel()
            self.panel.wanted.connect(self._on_panel_wanted)
            self.panel.gone_to.connect(partial(layers.go_to, self._viewer))
            self.panel.failed.connect(self.failed)
        window = self._viewer.window
        dock = self.panel.parentWidget()  # none: it is new, or the user removed it
        dock = dock or window.add_dock_widget(self.panel, name="Regions", area=AREA)
        dock.show()
        self.refresh()

    def close(self) -> None:
        """Let go of viewer and layers."""
        self._viewer = self._layer = self.panel = None
        self._atlases.clear()

    def refresh(self) -> None:
        """Bring the table up to date with the picture shown.

        Until there are numbers of it, the older table stays.
        """
        if self.panel is None:
            return
        chosen = self.panel.chosen
        table = self._structures() if chosen == STRUCTURES else self._means(chosen)
        if table is not None:
            self.panel.show_table(table)

    def _empty(self) -> None:
        """Keep no numbers of an older picture where none of this one will come."""
        if self.panel is None:
            return
        of_structures = self.panel.chosen == STRUCTURES
        held = self._desk.findings if of_structures else self._desk.picture
        if held is None:
            unknown = of_structures and self._desk.segmenter is None
            self.panel.show_table(NO_STRUCTURES if unknown else NOTHING)

    def _structures(self) -> Table | None:
        found: Findings | None = self._desk.findings
        if found is None:
            return None
        return of_structures(found, self._comparison.pinned_findings)

    def _means(self, chosen: object) -> Table | None:
        picture, pinned = self._desk.picture, self._comparison.pinned
        atlas = self._atlases.get(chosen)
        if picture is None or atlas is None:
            return EMPTY if atlas is None else None
        reference = None if pinned is None else pinned.volume
        return of_atlas(atlas, picture.volume, reference)

    def _on_panel_wanted(self, chosen: object) -> None:
        overlays.remove(self._viewer, self._layer)
        self._layer = None
        if chosen in self._atlases:
            self._layer = overlays.show_atlas(self._viewer, self._atlases[chosen])
        self._lacking = chosen != STRUCTURES and self._layer is None
        self._fetch()
        self.refresh()

    def _fetch(self) -> None:
        """Read the atlas that is wanted, in nobody's place: when nothing presses."""
        if self.panel is None or not self._lacking or self._desk.pressing:
            return
        if self._desk.renderer is not None:
            chosen = self.panel.chosen
            work = partial(_load, chosen, self._desk.renderer.card.grid)
            receive = partial(self._on_atlas_loaded, chosen)
            self._desk.run(Task(READING, work, receive))

    def _on_atlas_loaded(self, chosen: object, atlas: Atlas) -> None:
        self._atlases[chosen] = atlas
        # a download takes long, and by now another table may be wanted
        if self.panel is not None and self.panel.chosen == chosen:
            self._on_panel_wanted(chosen)

    def _on_desk_opened(self, card: Card) -> None:
        """Take the atlases anew where the grid is another one."""
        if any(atlas.grid != card.grid for atlas in self._atlases.values()):
            self._atlases.clear()
            overlays.remove(self._viewer, self._layer)
            self._layer = None
            self._lacking = self.panel is not None and self.panel.chosen != STRUCTURES

    def _on_desk_changed(self, task: str) -> None:
        if task == READING:  # whatever comes of it: it may fail, or be cancelled
            self._lacking = False
        if not self._desk.pressing:
            self._empty()
            self._fetch()

    def _on_desk_shown(self, _: Picture, preview: bool) -> None:
        if not preview and self.panel is not None and self.panel.chosen != STRUCTURES:
            self.refresh()

    def _on_news(self, *_: object) -> None:
        self.refresh()


def _load(chosen: object, grid: Any) -> Generator[Step, None, Atlas]:
    yield Tick("atlas", 0, 1)
    return load_atlas(chosen).on(grid)


def load_atlas(chosen: object) -> Atlas:
    """The atlas that `RegionsPanel.wanted` asks for, on its own grid."""
    if chosen == BUNDLED:
        return bundled()
    if chosen in SOURCES:
        return fetch(SOURCES[str(chosen)])
    assert isinstance(chosen, tuple)
    picture, names = (Path(path) for path in chosen)
    return read_atlas(picture, names)

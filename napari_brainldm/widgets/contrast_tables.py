"""What a comparison shows below the canvas: regions, clusters, figures."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_brainldm.engine.cluster_table import cluster_table
from napari_brainldm.engine.contrast_export import contrast_table
from napari_brainldm.engine.contrast_figures import encoded, figures
from napari_brainldm.widgets import layers
from napari_brainldm.widgets.figures_panel import FiguresPanel
from napari_brainldm.widgets.job import Step, Task, Tick
from napari_brainldm.widgets.regions import AREA, load_atlas
from napari_brainldm.widgets.regions_panel import BUNDLED, EMPTY, RegionsPanel

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from napari_brainldm.engine.atlas import Atlas
    from napari_brainldm.engine.fnc_contrast import Contrasted
    from napari_brainldm.widgets.desk import Desk

REGIONS, CLUSTERS, FIGURES = "regions", "clusters", "figures"
TITLES = {
    REGIONS: "Regions of the comparison",
    CLUSTERS: "Clusters of the comparison",
    FIGURES: "Figures of the comparison",
}


class ContrastTables(QObject):
    """Fills tables and figures of whatever comparison it was last told of.

    Attributes
    ----------
    panels
        By kind, those that were asked for.
    """

    tabled = Signal(str)  # what was filled
    failed = Signal(str)

    def __init__(self, viewer: Any, desk: Desk) -> None:
        super().__init__()
        self._viewer, self._desk = viewer, desk
        self.panels: dict[str, Any] = {}
        self._atlases: dict[object, Atlas] = {}
        self._made: Contrasted | None = None
        self._threshold = 0.0
        # a table takes the place of nothing that was asked for: it is filled at rest
        self._stale: set[str] = set()
        desk.changed.connect(self._on_desk_changed)
        desk.failed.connect(self._on_desk_failed)

    def atlases(self) -> Callable[[], tuple[Atlas, ...]]:
        """What reads the atlases of regions and clusters; known ones at once."""
        wanted = [self._chosen(kind) for kind in (REGIONS, CLUSTERS)]
        return partial(_read, wanted, dict(self._atlases))

    def show(self, kind: str) -> None:
        """Show a panel; made and docked when first asked for."""
        if kind not in self.panels:
            self.panels[kind] = self._panel(kind)
        panel, window = self.panels[kind], self._viewer.window
        dock = panel.parentWidget()  # none: it is new, or the user removed it
        dock = dock or window.add_dock_widget(
            panel, name=TITLES[kind], area=AREA, tabify=True
        )
        dock.show()
        dock.raise_()
        self._refresh(kind)

    def tell(self, made: Contrasted | None, threshold: float) -> None:
        """What is compared now; None for nothing, of which there is nothing to tell."""
        self._made, self._threshold = made, threshold
        if made is not None:
            self._refresh(*self.panels)
            return
        self._stale.clear()
        for kind, panel in self.panels.items():
            panel.clear() if kind == FIGURES else panel.show_table(EMPTY)

    def outline(self, threshold: float) -> None:
        """Clusters and figures begin at another effect; regions know none."""
        self._threshold = threshold
        self._refresh(CLUSTERS, FIGURES)

    def close(self) -> None:
        """Let go of viewer and atlases."""
        self._viewer = self._made = None
        self.panels.clear()
        self._atlases.clear()

    def _panel(self, kind: str) -> Any:
        if kind == FIGURES:
            return FiguresPanel()
        panel = RegionsPanel(of_structures=False, file=f"{kind}.tsv")
        panel.wanted.connect(self._on_panel_wanted)
        panel.gone_to.connect(partial(layers.go_to, self._viewer))
        panel.failed.connect(self.failed)
        return panel

    def _chosen(self, kind: str) -> object:
        """The atlas that a panel wants; figures show the regions of the table."""
        panel = self.panels.get(REGIONS if kind == FIGURES else kind)
        return BUNDLED if panel is None else panel.chosen

    def _refresh(self, *kinds: str) -> None:
        self._stale |= {kind for kind in kinds if kind in self.panels}
        if self._made is None or not self._stale or self._desk.pressing:
            return
        wanted = {kind: self._chosen(kind) for kind in self._stale}
        made, threshold = self._made, self._threshold
        work = partial(_filled, wanted, dict(self._atlases), made, threshold)
        receive = partial(self._on_filled, wanted, made, threshold)
        self._desk.run(Task("table", work, receive, patient=True))

    def _on_filled(
        self,
        wanted: dict[str, object],
        made: Contrasted,
        threshold: float,
        told: tuple[dict[object, Atlas], dict[str, Any]],
    ) -> None:
        atlases, found = told
        self._atlases |= atlases
        for kind, value in found.items():
            panel = self.panels.get(kind)
            older = made is not self._made or threshold != self._threshold
            if panel is None or older or wanted[kind] != self._chosen(kind):
                continue
            panel.show_figures(value) if kind == FIGURES else panel.show_table(value)
            self._stale.discard(kind)
            told_of = self._atlases[wanted[kind]].name
            self.tabled.emit(f"{kind.capitalize()} of {told_of}")

    def _on_panel_wanted(self, _: object) -> None:
        self._refresh(*self.panels)

    def _on_desk_changed(self, _: str) -> None:
        self._refresh()

    def _on_desk_failed(self, _: str) -> None:
        self._stale.clear()


def _read(wanted: list[object], known: dict[object, Atlas]) -> tuple[Atlas, ...]:
    return tuple(known[one] if one in known else load_atlas(one) for one in wanted)


def _filled(
    wanted: dict[str, object],
    atlases: dict[object, Atlas],
    made: Contrasted,
    threshold: float,
) -> Generator[Step, None, tuple[dict[object, Atlas], dict[str, Any]]]:
    """Atlases by what asked for them, and what each panel is to show."""
    found: dict[str, Any] = {}
    for done, (kind, chosen) in enumerate(wanted.items()):
        yield Tick(kind, done, len(wanted))
        if chosen not in atlases:
            atlases[chosen] = load_atlas(chosen)
        atlas = atlases[chosen]
        if kind == CLUSTERS:
            found[kind] = cluster_table(made, atlas, threshold)
            continue
        table = contrast_table(made, atlas)
        found[kind] = table
        if kind == FIGURES:
            drawn = figures(made, table, threshold)
            found[kind] = {name: encoded(one, "png") for name, one in drawn.items()}
    return atlases, found

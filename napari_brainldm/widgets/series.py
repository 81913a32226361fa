"""Many pictures made in the background: sweeps, and spread over seeds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_brainldm.engine.contrast import Spread, across_seeds
from napari_brainldm.engine.export import derived_record, table_record
from napari_brainldm.engine.film_file import write_moving, write_series
from napari_brainldm.engine.sweep import Axis, Film, film
from napari_brainldm.widgets import overlays
from napari_brainldm.widgets.job import Step, Task, Tick

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.request import Request
    from napari_brainldm.engine.volume import Volume
    from napari_brainldm.widgets.desk import Desk

MEAN, SD, CHANGE = "Mean of seeds", "SD of seeds", "Sure change"
KINDS = {MEAN: "picture", SD: "size", CHANGE: "change"}


class Series(QObject):
    """Asks the desk for series, shows them as layers and writes them.

    Attributes
    ----------
    made
        The last sweep; None when there is none of the checkpoint in use.
    spread
        The last spread over seeds; None likewise.
    """

    swept = Signal(object)  # Film
    spreading = Signal(object)  # Spread

    def __init__(self, viewer: Any, desk: Desk) -> None:
        super().__init__()
        self._viewer, self._desk = viewer, desk
        self.made: Film | None = None
        self.spread: Spread | None = None
        self._maps: dict[str, Any] = {}
        self._film: Any = None
        self._least = 1.0
        desk.opened.connect(self._on_desk_opened)
        desk.shown.connect(self._on_desk_shown)

    def sweep(self, request: Request, axes: Sequence[Axis]) -> None:
        """Render `request` along `axes` in the background."""
        renderer = self._desk.renderer
        if renderer is not None:
            work = partial(film, renderer, request, axes)
            self._desk.background(Task("sweep", work, self.take))

    def vary(self, request: Request, count: int, reference: Request | None) -> None:
        """Render `request`, and `reference` beside it, under `count` seeds."""
        renderer = self._desk.renderer
        if renderer is not None:
            work = partial(across_seeds, renderer, request, count, reference)
            self._desk.background(Task("seeds", work, self._on_spread_made))

    def write(self, path: Path) -> None:
        """Write the last sweep: NIfTI by NIfTI, or as one moving picture."""
        if self.made is not None and self._desk.renderer is not None:
            work = partial(_write, self._desk.renderer, self.made, path)
            self._desk.run(Task("save", work, self._desk.saved.emit, kept=True))

    def take(self, made: Film) -> Any:
        """Show a film that is made; it can be written from now on. Its layer."""
        assert self._desk.renderer is not None
        self.made = made
        notes = table_record(self._desk.renderer, made.record)
        self._film = overlays.show_film(self._viewer, made, made.units, notes)
        self.swept.emit(made)
        return self._film

    def set_least(self, least: float) -> None:
        """Show the change only where |mean| / SD is at least `least`."""
        self._least = least
        self._show_change()

    def close(self) -> None:
        """Let go of viewer and layers; what is shown stays."""
        self._viewer = self._film = None
        self._maps.clear()

    def _on_desk_shown(self, *_: object) -> None:
        """Make room for a newer picture, which would lie under all of these."""
        for layer in filter(None, (self._film, *self._maps.values())):
            overlays.hide(layer)

    def _on_desk_opened(self, _: object) -> None:
        self.made = self.spread = None

    def _on_spread_made(self, spread: Spread) -> None:
        self.spread = spread
        self._show(MEAN, spread.mean)
        self._show(SD, spread.sd, seen=False)  # it would hide the mean
        self._show_change()
        self.spreading.emit(spread)

    def _show_change(self) -> None:
        if self.spread is None:
            return
        change = self.spread.sure(self._least)
        if change is None:  # without a reference; that of an older one says nothing
            overlays.remove(self._viewer, self._maps.pop(CHANGE, None))
        else:
            self._show(CHANGE, change, LeastMeanOverSd=self._least)

    def _show(
        self, name: str, picture: Volume, seen: bool = True, **told: float
    ) -> None:
        assert self.spread is not None
        assert self._desk.renderer is not None
        record = derived_record(self._desk.renderer, self.spread.record, picture)
        layer = overlays.show_map(
            self._viewer,
            self._maps.get(name),
            name,
            picture,
            KINDS[name],
            record | {"Map": name} | told,
        )
        layer.visible = seen
        self._maps[name] = layer


def _write(
    renderer: Renderer, made: Film, path: Path
) -> Generator[Step, None, list[str]]:
    yield Tick("save", 0, 1)
    if path.name.lower().endswith((".nii", ".nii.gz")):
        stem = path.name.partition(".nii")[0]
        return [str(p) for p in write_series(renderer, made, path.parent, stem)]
    return [str(write_moving(made, path))]

"""The layers of the Visits dock: placed scans, and what a left-out visit tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari_brainldm.engine.export import derived_record, record
from napari_brainldm.engine.request import Derived, Request, Scan
from napari_brainldm.widgets import overlays

if TYPE_CHECKING:
    from napari_brainldm.engine.left_out import LeftOut
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.volume import Volume

PREDICTED, REBUILT, ERROR = (
    "Left out, predicted",
    "Left out, reconstruction",
    "Left out, error",
)


class VisitLayers:
    """Shows them and remembers which they are."""

    def __init__(self, viewer: Any) -> None:
        self._viewer: Any = viewer
        self._placed: list[Any] = []
        self._left_out: dict[str, Any] = {}
        self._film: Any = None
        self._words: tuple[str, ...] = ()  # of the frames of the film
        viewer.dims.events.current_step.connect(self._on_step_changed)
        viewer.layers.events.removed.connect(self._on_layer_removed)

    def show_placed(self, scans: Sequence[tuple[Any, Volume]]) -> None:
        """Lay placed scans under everything, each hidden as the layer it came from.

        The eyes in napari's list bring them back.
        """
        self.drop()
        for source, volume in reversed(scans):
            overlays.hide(source)  # it lies elsewhere than the placed one
            name = f"{source.name}, placed"
            layer = overlays.show_scan(self._viewer, None, volume, name)
            overlays.hide(layer)
            self._placed.append(layer)

    def show_left_out(self, renderer: Renderer, found: LeftOut) -> None:
        """Show prediction, reconstruction (hidden) and error of a left-out visit."""
        told = (("age", found.age), ("scan", found.hidden))
        own = renderer.resolve(Request(origin=Scan(found.hidden)))
        rebuilt = Derived("autoencoder reconstruction", told, (own,))
        error = Derived("prediction minus reconstruction", told, (found.request,))
        notes = derived_record(renderer, rebuilt, found.reconstruction)
        self._show(REBUILT, found.reconstruction, "picture", notes)
        notes = record(renderer, found.request, found.predicted)
        self._show(PREDICTED, found.predicted, "picture", notes)
        notes = derived_record(renderer, error, found.error)
        self._show(ERROR, found.error, "change", notes)
        overlays.hide(self._left_out[REBUILT])

    def hide_left_out(self) -> None:
        """Make room for a newer picture."""
        for layer in self._left_out.values():
            overlays.hide(layer)

    def follow(self, film: Any, words: Sequence[str]) -> None:
        """Say the words of the frame seen, while the layer `film` is."""
        self._film, self._words = film, tuple(words)
        self._on_step_changed()

    def say(self, words: str) -> None:
        """Write `words` into the canvas; empty takes them away."""
        overlays.show_words(self._viewer, words)

    def drop(self) -> None:
        """Take all of them away: other visits are in hand."""
        for layer in (*self._placed, *self._left_out.values()):
            overlays.remove(self._viewer, layer)
        self._placed, self._left_out = [], {}

    def close(self) -> None:
        """Let go of viewer and layers; what is shown stays, but for the words."""
        if self._viewer is None:
            return
        self.say("")  # nobody would take them away any more
        self._viewer.dims.events.current_step.disconnect(self._on_step_changed)
        self._viewer.layers.events.removed.disconnect(self._on_layer_removed)
        self._viewer = self._film = None
        self._placed, self._left_out = [], {}

    def _on_step_changed(self, _: Any = None) -> None:
        if self._film is not None and self._film.visible:
            frame = self._viewer.dims.current_step[0]
            self.say(self._words[min(frame, len(self._words) - 1)])

    def _on_layer_removed(self, event: Any) -> None:
        if self._film is not None and event.value == self._film:
            self._film = None
        if not any("record" in layer.metadata for layer in self._viewer.layers):
            self.say("")  # there is nothing left that they are about

    def _show(
        self, name: str, picture: Volume, kind: str, notes: dict[str, Any]
    ) -> None:
        before = self._left_out.get(name)
        layer = overlays.show_map(self._viewer, before, name, picture, kind, notes)
        layer.visible = True
        self._left_out[name] = layer

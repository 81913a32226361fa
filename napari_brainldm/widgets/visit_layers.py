"""The layers of the Visits dock: placed scans, and what a left-out visit tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari_brainldm.engine.export import derived_record, record
from napari_brainldm.engine.request import Derived
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
        parameters = (("age", found.age),)
        rebuilt = Derived("autoencoder reconstruction", parameters, (found.request,))
        error = Derived(
            "prediction minus reconstruction", *(parameters, (found.request,))
        )
        notes = record(renderer, found.request, found.predicted)
        self._show(REBUILT, found.reconstruction, "picture")
        self._show(PREDICTED, found.predicted, "picture")
        self._show(ERROR, found.error, "change")
        records = {
            PREDICTED: notes,
            REBUILT: derived_record(renderer, rebuilt, found.reconstruction),
            ERROR: derived_record(renderer, error, found.error),
        }
        for name, layer in self._left_out.items():
            layer.metadata["record"] = records[name]
        overlays.hide(self._left_out[REBUILT])

    def hide_left_out(self) -> None:
        """Make room for a newer picture."""
        for layer in self._left_out.values():
            overlays.hide(layer)

    def say(self, words: str) -> None:
        """Write `words` into the canvas; empty takes them away."""
        overlays.show_words(self._viewer, words)

    def drop(self) -> None:
        """Take all of them away: other visits are in hand."""
        for layer in (*self._placed, *self._left_out.values()):
            overlays.remove(self._viewer, layer)
        self._placed, self._left_out = [], {}

    def close(self) -> None:
        """Let go of viewer and layers; what is shown stays."""
        self._viewer = None
        self._placed, self._left_out = [], {}

    def _show(self, name: str, picture: Volume, kind: str) -> None:
        layer = overlays.show_map(
            self._viewer, self._left_out.get(name), name, picture, kind
        )
        layer.visible = True
        self._left_out[name] = layer

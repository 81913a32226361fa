"""A pinned reference, and what later pictures change against it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_brainldm.engine.contrast import difference
from napari_brainldm.engine.export import difference_record
from napari_brainldm.engine.request import Later, Origin, Request, Through
from napari_brainldm.widgets import orthogonal, overlays

if TYPE_CHECKING:
    from napari_brainldm.engine.asked import Findings
    from napari_brainldm.widgets.desk import Desk, Picture


def _start(request: Request) -> Origin:
    """Where a picture starts: a forecast from its scan, all between visits alike."""
    origin = request.origin
    if isinstance(origin, Later):
        return origin.scan
    return replace(origin, place=0.0) if isinstance(origin, Through) else origin


class Comparison(QObject):
    """Keeps one final picture; shows later final ones minus it, and it beside them.

    Parameters
    ----------
    viewer
        The napari viewer; reference and difference are layers of their own there.
    desk
        Whose pictures are compared.

    Attributes
    ----------
    pinned, pinned_findings
        The reference and what was measured in it; None when there is none.
    compared_at
        When a picture was last compared with the reference, in seconds of a clock.
    """

    changed = Signal()  # pinned, unpinned, or another picture is compared

    def __init__(self, viewer: Any, desk: Desk) -> None:
        super().__init__()
        self._viewer, self._desk = viewer, desk
        self.pinned: Picture | None = None
        self.pinned_findings: Findings | None = None
        self.differing = True
        self.beside = False
        self.compared_at = 0.0
        self._difference: Any = None
        self._reference: Any = None
        desk.shown.connect(self._on_desk_shown)
        desk.measured.connect(self._on_desk_measured)
        desk.opened.connect(self.unpin)

    @property
    def same_noise(self) -> bool:
        """Whether reference and picture shown start alike, so that they compare."""
        now = self._desk.picture
        if self.pinned is None or now is None:
            return True
        return _start(now.request) == _start(self.pinned.request)

    def pin(self) -> None:
        """Keep the final picture shown as the reference; a preview is not kept."""
        if self._desk.picture is None:
            return
        self._drop()
        self.pinned = self._desk.picture
        self.pinned_findings = self._desk.findings
        self._refresh()

    def unpin(self, *_: object) -> None:
        """Forget the reference and take its layers away."""
        self.pinned = self.pinned_findings = None
        self._drop()
        if self.beside:  # another dock may have switched it on
            self._viewer.canvas.grid.enabled = False
        self.beside = False
        self.changed.emit()

    def show_difference(self, wanted: bool) -> None:
        """Show picture minus reference as a layer, or no longer."""
        self.differing = wanted
        self._refresh()

    def show_beside(self, wanted: bool) -> None:
        """Show reference and picture side by side in linked views, or no longer."""
        self.beside = wanted and self.pinned is not None
        self._refresh()
        self._viewer.canvas.grid.enabled = self.beside

    def flicker(self) -> None:
        """Swap reference and picture in the same place; again to swap back."""
        if self.pinned is None or self._desk.layer is None or self.beside:
            return
        self._place_reference()
        now = self._desk.layer
        now.visible = not now.visible
        self._reference.visible = not now.visible
        if self._difference is not None:
            self._difference.visible = now.visible and self.differing

    def show_orthogonal(self) -> None:
        """Show three slices at once, or one again; needs a plugin."""
        orthogonal.toggle(self._viewer)

    def close(self) -> None:
        """Let go of viewer and layers; what is shown stays."""
        self._viewer = self._difference = self._reference = self.pinned = None

    def _on_desk_shown(self, picture: Picture, preview: bool) -> None:
        if preview:
            overlays.veil(self._difference)  # it is that of an older picture
            if self._reference is not None and not self.beside:
                self._show_reference()  # no longer in the place of what moves
        else:
            self._refresh()

    def _on_desk_measured(self, findings: Findings) -> None:
        if self.pinned is not None and self._desk.picture is self.pinned:
            self.pinned_findings = findings  # it was pinned before it was measured
            self.changed.emit()

    def _refresh(self) -> None:
        if self._viewer is None:
            return
        self._show_reference()
        self._show_difference()
        if self.pinned is not None:
            self.compared_at = time.monotonic()
        self.changed.emit()

    def _show_reference(self) -> None:
        if self.pinned is not None and self.beside:
            self._place_reference()
            self._reference.visible = True
        else:
            overlays.remove(self._viewer, self._reference)
            self._reference = None
            if self._desk.layer is not None:
                self._desk.layer.visible = True

    def _place_reference(self) -> None:
        assert self.pinned is not None
        self._reference = overlays.show_reference(
            self._viewer, self._reference, self.pinned.volume, self.pinned.record
        )

    def _show_difference(self) -> None:
        now = self._desk.picture
        wanted = self.differing and not self.beside
        if not wanted or self.pinned is None or now is None or now is self.pinned:
            overlays.remove(self._viewer, self._difference)
            self._difference = None
            return
        changed = difference(now.volume, self.pinned.volume)
        assert self._desk.renderer is not None
        self._difference = overlays.show_difference(
            self._viewer,
            self._difference,
            changed,
            difference_record(
                self._desk.renderer, (now.request, self.pinned.request), changed
            ),
        )

    def _drop(self) -> None:
        for layer in (self._difference, self._reference):
            overlays.remove(self._viewer, layer)
        self._difference = self._reference = None

"""Pictures made again from what was recorded: one of a sidecar, or a workspace."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_brainldm.engine.checkpoint import file_sha256
from napari_brainldm.engine.lineage import lineages_of
from napari_brainldm.engine.recreate import (
    Original,
    check_model,
    make_connectivity,
    read_sidecar,
    verdict,
)
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.workspace import Workspace, read_workspace, write_workspace
from napari_brainldm.widgets.recent import Recent

if TYPE_CHECKING:
    from pathlib import Path

    from napari_brainldm.widgets.comparison import Comparison
    from napari_brainldm.widgets.desk import Desk, Picture
    from napari_brainldm.widgets.history_row import HistoryRow

SAME = "the same voxels, bit for bit"


class Revival(QObject):
    """Asks for recorded pictures in their order and compares what comes.

    It gives up what is left when the user goes another way, which the dock tells by
    `drop`, and when the desk comes to rest without what was asked for.

    Parameters
    ----------
    viewer, desk, comparison, past
        Of the dock; a workspace tells the state of all four.
    """

    opening = Signal(object)  # Path of the checkpoint that is needed
    wanted = Signal(object)  # Request to be shown
    told = Signal(str)  # how it ended, well
    failed = Signal(str)  # a sentence

    def __init__(
        self, viewer: Any, desk: Desk, comparison: Comparison, past: HistoryRow
    ) -> None:
        super().__init__()
        self._viewer, self._desk = viewer, desk
        self._comparison, self._past = comparison, past
        self._waiting: list[Original] = []
        self._workspace: Workspace | None = None
        self._verdicts: list[str] = []

    def listen(self) -> None:
        """Hear the desk's news, from now on and after whoever heard them before."""
        self._desk.opened.connect(self._on_desk_opened)
        self._desk.shown.connect(self._on_desk_shown)
        self._desk.measured.connect(self._on_desk_measured)
        self._desk.failed.connect(self._on_desk_failed)
        self._desk.changed.connect(self._on_desk_changed)

    def recreate(self, sidecar: Path) -> None:
        """Make the picture that `sidecar` describes again."""
        self.drop()
        renderer = self._desk.renderer
        if renderer is None:
            return
        try:
            found = read_sidecar(sidecar)
            check_model(found, renderer)
            make_connectivity(found, renderer)
        except EngineError as error:
            self.failed.emit(str(error))
            return
        self._waiting = [found]
        self._next()

    def save(self, path: Path, checkpoint: Path) -> None:
        """Write the state of the dock; `checkpoint` is the file of the model in use."""
        picture, pinned = self._desk.picture, self._comparison.pinned
        if picture is None:
            self.failed.emit(
                "Only a preview is shown, which no workspace can hold. Wait for the "
                "full picture, then save again."
            )
            return
        assert self._desk.renderer is not None  # it made the picture
        reference = None if pinned is None else pinned.record
        history, view = self._past.history.state, self._view()
        digests = [request.conditions.fnc for request in history[0]]
        made = lineages_of(digests, self._desk.renderer.fnc)
        try:
            write_workspace(
                path, checkpoint, picture.record, reference, history, view, made
            )
        except EngineError as error:
            self.failed.emit(str(error))
        else:
            self.told.emit(f"Wrote {path.name}")

    def reopen(self, path: Path) -> None:
        """Bring back the state that is kept in the file at `path`."""
        self.drop()
        try:
            workspace = read_workspace(path)
            checkpoint = self._checkpoint_of(workspace)
        except EngineError as error:
            self.failed.emit(str(error))
            return
        self._workspace = workspace
        if checkpoint is None:
            self._begin(workspace)
        else:
            self.opening.emit(checkpoint)

    def drop(self, *_: object) -> None:
        """Ask for nothing more."""
        self._waiting, self._workspace, self._verdicts = [], None, []

    def close(self) -> None:
        """Let go of the viewer."""
        self.drop()
        self._viewer = None

    # -- one picture after the other -------------------------------------------

    def _checkpoint_of(self, workspace: Workspace) -> Path | None:
        """The file of the model that is needed; None if it is in use."""
        renderer, wanted = self._desk.renderer, workspace.picture
        sha = wanted.checkpoint_sha256
        if renderer is not None and renderer.checkpoint.sha256 == sha:
            return None
        for path in (workspace.checkpoint, *Recent().paths()):
            if path.is_file() and file_sha256(path) == sha:
                return path
        raise EngineError(
            f"The workspace was made with {wanted.checkpoint_name} (sha256 "
            f"{sha[:12]}...), which is neither at {workspace.checkpoint} any more nor "
            "among the checkpoints opened before. Open that checkpoint, then the "
            "workspace again."
        )

    def _on_desk_opened(self, _: object) -> None:
        workspace = self._workspace
        if workspace is None:
            self.drop()
            return
        assert self._desk.renderer is not None
        try:
            check_model(workspace.picture, self._desk.renderer)
        except EngineError as error:
            self.drop()
            self.failed.emit(str(error))
        else:
            self._begin(workspace)

    def _begin(self, workspace: Workspace) -> None:
        assert self._desk.renderer is not None
        known = self._desk.renderer.fnc
        parts = workspace.reference, workspace.picture
        waiting = [part for part in parts if part is not None]
        try:
            for part in waiting:
                make_connectivity(part, self._desk.renderer)
        except EngineError as error:
            self.drop()
            self.failed.emit(str(error))
            return
        for digest, lineage in workspace.lineages.items():
            with suppress(EngineError):  # undo says so, if it comes to that step
                lineage.again(digest, known)
        self._comparison.unpin()
        self._waiting = waiting
        self._next()

    def _next(self) -> None:
        self.wanted.emit(self._waiting[0].request)

    def _on_desk_shown(self, picture: Picture, preview: bool) -> None:
        # another picture may have been too far to be stopped
        if not self._waiting or preview or picture.request != self._waiting[0].request:
            return
        assert self._desk.renderer is not None
        found = self._waiting.pop(0)
        if picture.volume.digest != found.picture_sha256:
            words = verdict(found, picture.volume, self._desk.renderer)
            self._verdicts.append(words)
        if not self._waiting:
            self._finish()
            return
        self._comparison.pin()
        if self._desk.unmeasured:
            self._next()

    def _on_desk_measured(self, _: object) -> None:
        if self._pinned:  # the reference has its numbers
            self._next()

    def _on_desk_failed(self, _: object) -> None:
        if self._pinned:  # it could not be measured, and is shown nevertheless
            self._next()
        else:
            self.drop()

    def _on_desk_changed(self, task: str) -> None:
        if task or not self._waiting:
            return
        self.drop()
        self.failed.emit(
            "What was kept was not shown to its end, because something else came "
            "between. Open it again."
        )

    @property
    def _pinned(self) -> bool:
        """Whether the reference is shown and pinned, and a picture still to come."""
        now = self._desk.picture
        return (
            bool(self._waiting) and now is not None and now is self._comparison.pinned
        )

    def _finish(self) -> None:
        workspace, verdicts = self._workspace, self._verdicts
        self.drop()
        if workspace is not None:
            self._past.restore(workspace.requests, workspace.place)
            self._show(workspace.view)
        if verdicts:
            self.failed.emit(verdicts[0])
        else:
            made = "Re-created" if workspace is None else "Workspace reopened"
            self.told.emit(f"{made}: {SAME}.")

    # -- the view --------------------------------------------------------------

    def _view(self) -> dict[str, Any]:
        camera, dims = self._viewer.scene.camera, self._viewer.dims
        return {
            "camera": {
                "center": list(camera.center),
                "zoom": float(camera.zoom),
                "angles": list(camera.angles),
            },
            "ndisplay": dims.ndisplay,
            "order": list(dims.order),
            "point": list(dims.point),
            "difference": self._comparison.differing,
            "beside": self._comparison.beside,
        }

    def _show(self, view: dict[str, Any]) -> None:
        """Look as `view` tells; what does not fit any more stays as it is."""
        camera, dims = self._viewer.scene.camera, self._viewer.dims
        self._comparison.show_difference(bool(view.get("difference", True)))
        self._comparison.show_beside(bool(view.get("beside", False)))
        with suppress(KeyError, TypeError, ValueError):  # edited by hand
            if len(view["order"]) == dims.ndim:
                dims.ndisplay = int(view["ndisplay"])
                dims.order = tuple(view["order"])
                dims.point = tuple(view["point"])
            for name in ("center", "zoom", "angles"):
                setattr(camera, name, view["camera"][name])

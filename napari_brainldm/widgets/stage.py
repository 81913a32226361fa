"""Where a reader sees the pictures of a trial: one layer that tells nothing else."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image as NapariImage
from qtpy.QtCore import QObject, Qt, QTimer, Signal
from qtpy.QtOpenGLWidgets import QOpenGLWidget

from napari_brainldm.engine.request import EngineError
from napari_brainldm.review.display import Screen, mask
from napari_brainldm.review.session import View
from napari_brainldm.widgets.curtain import main_window_of
from napari_brainldm.widgets.layers import AXES, UNITS
from napari_brainldm.widgets.letters import UPRIGHT, orient
from napari_brainldm.widgets.overlays import show_words

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from napari_brainldm.engine.volume import Grid

NAME = "Picture"
TURN_MS = 700
"""How long each of two pictures stays that take turns."""

UNDRAWN_MS = 250
"""A window that draws nothing (it is covered) is not waited for any longer."""

DISTURBED = (
    "Another dock has put a picture into the viewer, and the study was left; what was "
    "confirmed is kept. Open the study in a viewer of its own."
)

NOTHING = dict.fromkeys(
    ("layer_name", "layer_base", "source_type", "plugin", "coordinates", "coords"), ""
) | {"value": ""}


class Image(NapariImage):
    """A picture about which the pointer learns neither name nor value."""

    def get_status(self, *_: Any, **__: Any) -> dict[str, str]:
        """Nothing, for the status bar."""
        return dict(NOTHING)

    def _get_tooltip_text(self, *_: Any, **__: Any) -> str:
        return ""


class Stage(QObject):
    """Shows frames, one slice at a time, and knows what was looked at.

    Attributes
    ----------
    turn
        Which of two frames is seen, 0 or 1.
    """

    drawn = Signal()  # what was shown last is on the screen
    masked = Signal()  # a timed picture is gone
    turned = Signal(int)
    pointed = Signal(list)  # voxel (i, j, k)
    disturbed = Signal(str)  # a layer that is none of ours came, a sentence

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._layer: Any = None
        self._canvas: Any = None
        self._frames: tuple[Screen, ...] = ()
        self._scale: tuple[float, ...] = (1.0, 1.0, 1.0)
        self._limits = 0.0, 1.0
        self._home: tuple[Any, float] = ((0.0, 0.0, 0.0), 1.0)
        self._camera: Any = None
        self._visited: set[int] = set()
        self._swaps = self._turns = 0
        self._since, self._exposure = 0.0, 0.0
        self._waiting = self._masked = False
        self.turn = 0
        self._flip, self._late = QTimer(self), QTimer(self)
        self._flip.setInterval(TURN_MS)
        self._flip.timeout.connect(self._on_flip_timeout)
        self._late.setSingleShot(True)
        self._late.timeout.connect(self._on_late_timeout)

    # -- before and after ----------------------------------------------------------

    def open(self, dock: QWidget, grid: Grid, window: tuple[int, int]) -> None:
        """Make room for pictures of `grid`; EngineError if the viewer is not empty."""
        if len(self._viewer.layers):
            raise EngineError(
                f"The viewer holds {len(self._viewer.layers)} layers, whose names and "
                "pictures would be seen. Close them, or open the study in a new viewer."
            )
        self._scale = tuple(reversed(grid.voxel_size))
        self._limits = float(window[0]), float(window[1])
        orient(self._viewer)
        show_words(self._viewer, "")  # of a dock that was here before
        scene = self._viewer.scene.camera
        self._camera = scene.orientation
        scene.orientation = UPRIGHT
        self._viewer.dims.ndisplay = 2
        around = main_window_of(dock)
        centre = None if around is None else around.centralWidget()
        self._canvas = None if centre is None else centre.findChild(QOpenGLWidget)
        if self._canvas is not None:
            self._canvas.frameSwapped.connect(self._on_canvas_swapped)
        self._viewer.dims.events.current_step.connect(self._on_step_changed)
        self._hear_presses(True)
        self._viewer.layers.events.inserted.connect(self._on_layer_inserted)
        self._place(np.zeros((1, 2, 2), np.uint16))
        self._layer.visible = False

    def leave(self) -> None:
        """Take the layer away; the viewer is as it was."""
        if self._layer is None:
            return
        self.blank()
        self._viewer.dims.events.current_step.disconnect(self._on_step_changed)
        self._hear_presses(False)
        self._viewer.layers.events.inserted.disconnect(self._on_layer_inserted)
        if self._canvas is not None:
            with suppress(RuntimeError):  # the window went first, its canvas with it
                self._canvas.frameSwapped.disconnect(self._on_canvas_swapped)
        if self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)
        self._viewer.scene.camera.orientation = self._camera
        self._layer = self._canvas = None
        self._frames = ()

    def _hear_presses(self, wanted: bool) -> None:
        """Hear the mouse on the canvas, or no longer.

        The list is set anew: the viewer that napari hands to plugins gives a copy.
        """
        others = self._viewer.mouse_drag_callbacks
        kept = [one for one in others if one != self._on_canvas_pressed]
        ours = [self._on_canvas_pressed] if wanted else []
        self._viewer.mouse_drag_callbacks = kept + ours

    def close(self) -> None:
        """Leave, and let the viewer go."""
        self.leave()
        self._viewer = None

    # -- pictures ------------------------------------------------------------------

    def show(self, frames: tuple[Screen, ...], exposure_ms: float = 0.0) -> None:
        """Show `frames`; `drawn` tells when they are on the screen.

        Two take turns. After `exposure_ms`, where it is given, a mask follows.
        """
        self._frames, self.turn = frames, 0
        self._exposure = exposure_ms
        self._put(frames[0])
        self._go_home(frames[0].shape[0] // 2)
        self._visited, self._turns = {self.slice}, 0
        self._waiting, self._masked, self._swaps = True, False, 0
        visible = self._canvas is not None and self._canvas.isVisible()
        if visible:
            self._canvas.update()
        self._late.start(UNDRAWN_MS if visible else 0)

    def blank(self) -> None:
        """Take the pictures off the screen."""
        self._flip.stop()
        self._late.stop()
        self._waiting, self._exposure = False, 0.0
        if self._layer is not None:
            self._layer.visible = False

    def step(self, slices: int) -> None:
        """Go up by so many slices, down where negative."""
        if self._layer is None:
            return
        last = self._layer.data.shape[0] - 1
        self._viewer.dims.set_current_step(0, min(max(self.slice + slices, 0), last))

    @property
    def slice(self) -> int:
        """Index of the slice that is seen, from the bottom."""
        return int(self._viewer.dims.current_step[0])

    def view(self, path: float) -> View:
        """What is to be recorded of the trial; `path` of the pointer in pixels."""
        size, ratio, note = (0, 0), 1.0, ""
        if self._canvas is not None:
            size = self._canvas.width(), self._canvas.height()
            ratio = float(self._canvas.devicePixelRatioF())
            screen = self._canvas.screen()
            note = f"{screen.name()}, {screen.refreshRate():.0f} Hz" if screen else ""
        seen = self._frames[self.turn][self.slice]
        return View(
            frames_shown=self._swaps,
            slices_visited=tuple(sorted(self._visited)),
            cursor_path_len=round(path, 1),
            zoom=float(self._viewer.scene.camera.zoom),
            window=self._limits,
            flicker_count=self._turns,
            viewport_px=size,
            device_pixel_ratio=ratio,
            display_note=note,
            pixel_sha256=hashlib.sha256(seen.tobytes()).hexdigest(),
        )

    # -- inside --------------------------------------------------------------------

    def _put(self, frame: Screen) -> None:
        if self._layer is None or self._layer.data.shape != frame.shape:
            self._place(frame)
        else:
            np.copyto(self._layer.data, frame)
            self._layer.refresh(thumbnail=False, extent=False, highlight=False)
        self._layer.visible = True

    def _place(self, frame: Screen) -> None:
        """A layer for `frame` in place of the one that is there."""
        old = self._layer
        layer = Image(
            frame.copy(),
            name=NAME,
            colormap="gray",
            contrast_limits=self._limits,
            interpolation2d="linear",
            scale=self._scale,
            units=UNITS,
            axis_labels=AXES,
        )
        self._layer = self._viewer.add_layer(layer)
        if old is not None:
            self._viewer.layers.remove(old)
            self._layer.name = NAME  # napari counts layers of one name
        self._viewer.layers.selection.clear()
        self._viewer.reset_view()
        camera = self._viewer.scene.camera
        self._home = camera.center, camera.zoom

    def _go_home(self, middle: int) -> None:
        self._viewer.dims.set_current_step(0, middle)
        camera = self._viewer.scene.camera
        camera.center, camera.zoom = self._home

    def _on_canvas_swapped(self) -> None:
        if not self._masked:
            self._swaps += 1
        if self._waiting:
            self._appeared()
        if self._exposure:
            self._expose()

    def _on_late_timeout(self) -> None:
        if self._waiting:
            self._appeared()
        if self._exposure:
            self._expose()

    def _appeared(self) -> None:
        self._waiting = False
        self._since = time.monotonic()
        self._late.stop()
        if len(self._frames) > 1:
            self._flip.start()
        self.drawn.emit()

    def _expose(self) -> None:
        """Let the timed picture stand until its time is over, counting its frames."""
        if 1000 * (time.monotonic() - self._since) < self._exposure:
            if self._canvas is not None and self._canvas.isVisible():
                self._canvas.update()
            else:
                self._late.start(5)
            return
        self._exposure = 0.0
        self._masked = True
        self._put(mask(self._frames[0].shape, int(self._limits[1])))
        self.masked.emit()

    def _on_flip_timeout(self) -> None:
        self.turn = 1 - self.turn
        self._turns += 1
        self._put(self._frames[self.turn])
        self.turned.emit(self.turn)

    def _on_step_changed(self, event: Any = None) -> None:
        self._visited.add(self.slice)

    def _on_layer_inserted(self, event: Any) -> None:
        if not isinstance(event.value, Image):
            self.disturbed.emit(DISTURBED)

    def _on_canvas_pressed(self, viewer: Any, event: Any) -> None:
        if self._layer is None or event.button not in (1, Qt.MouseButton.LeftButton):
            return
        place = [round(float(x)) for x in self._layer.world_to_data(event.position)]
        shape = self._layer.data.shape
        if all(0 <= x < n for x, n in zip(place, shape, strict=True)):
            self.pointed.emit(place[::-1])

"""Which way the picture faces: letters R L A P S I at the edges of the canvas.

Canvas overlays, not a layer of points: they follow every turn of the camera, take no
cell of the grid mode and cannot be deleted or saved by mistake.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.components.overlays import TextOverlay

from napari_brainldm.widgets.preferences import preferences

UPRIGHT = ("towards", "up", "right")
"""Camera orientation that shows (S, A, R) arrays as they are, right on the right.

napari's own default ("towards", "down", "right") shows a mirror image in 3D and turns
slices upside down.
"""

RADIOLOGICAL = ("away", "up", "left")
"""The same seen from the feet, as radiologists do: right on the left."""

NAMES = (("I", "S"), ("P", "A"), ("L", "R"))
"""Letters of the low and the high end of the world axes (S, A, R)."""

EDGES = ("middle_left", "middle_right", "bottom_center", "top_center")
OBLIQUE = 0.35
"""From this share of the edge's direction on, a further letter is written."""

_KEY = "brainldm_{}"


def orient(viewer: Any) -> None:
    """Show (S, A, R) layers unmirrored and upright, with letters; once per viewer.

    Left so when the dock is closed: the pictures stay, and must not turn into their
    mirror images.
    """
    overlays = viewer.canvas.overlays
    if _KEY.format(EDGES[0]) in overlays:
        return
    shown = preferences().radiological
    viewer.scene.camera.orientation = RADIOLOGICAL if shown else UPRIGHT
    texts = {edge: _text(edge) for edge in EDGES}
    for edge, text in texts.items():
        overlays[_KEY.format(edge)] = text
    _follow(viewer.dims, viewer.scene.camera, texts)


def _text(edge: str) -> TextOverlay:
    # in a box: a black letter of the light theme must show on a black picture
    return TextOverlay(position=edge, font_size=14, gridded=True, visible=True)


def _follow(dims: Any, camera: Any, texts: dict[str, TextOverlay]) -> None:
    """Keep the letters right, whatever way the camera or the slice turns."""

    def update(event: Any = None) -> None:
        if mirrored(dims, camera):
            camera.orientation = _other_depth(camera.orientation)
        for edge, letters in edge_letters(dims, camera).items():
            if texts[edge].text != letters:
                texts[edge].text = letters

    for emitter in (
        dims.events.order,
        dims.events.ndisplay,
        dims.events.ndim,
        camera.events.angles,
        camera.events.orientation,
    ):
        emitter.connect(update)
    update()


def edge_letters(dims: Any, camera: Any) -> dict[str, str]:
    """Edge of the canvas to the letters of the direction towards it."""
    if dims.ndim < 3:
        return dict.fromkeys(EDGES, "")
    right, up = screen_axes(dims, camera)
    return {
        "middle_left": letters_of(-right),
        "middle_right": letters_of(right),
        "bottom_center": letters_of(-up),
        "top_center": letters_of(up),
    }


def mirrored(dims: Any, camera: Any) -> bool:
    """Whether the 3D view is a mirror image: an odd number of swaps and flips.

    Transposing the axes swaps two of them; showing right on the left, as radiologists
    do, flips one. Both are fine in slices, and need the depth turned around in 3D.
    """
    axes = dims.order[-3:]
    swaps = sum(a > b for place, a in enumerate(axes) for b in axes[place + 1 :])
    ends = zip(camera.orientation, UPRIGHT, strict=True)
    return bool((swaps + sum(str(end) != upright for end, upright in ends)) % 2)


def _other_depth(orientation: tuple[Any, Any, Any]) -> tuple[str, str, str]:
    depth, vertical, horizontal = (str(word) for word in orientation)
    return ("away" if depth == "towards" else "towards"), vertical, horizontal


def letters_of(direction: np.ndarray) -> str:
    """Letters of a unit direction (S, A, R), the largest share first: "R", "AR"."""
    order = np.argsort(-np.abs(direction), kind="stable")
    shares = [(axis, direction[axis]) for axis in order]
    return "".join(NAMES[a][int(s > 0)] for a, s in shares if abs(s) > OBLIQUE)


def screen_axes(dims: Any, camera: Any) -> tuple[np.ndarray, np.ndarray]:
    """Unit directions (S, A, R) that point right and up on the canvas."""
    last = dims.ndim - 3  # axes before the three of space, such as time
    axes = [axis - last for axis in dims.displayed]
    right, up = _right_and_up(camera, len(axes))
    return _embed(right, axes), _embed(up, axes)


def _right_and_up(camera: Any, ndisplay: int) -> tuple[np.ndarray, np.ndarray]:
    """Right and up in the displayed axes, slowest first: (2,) or (3,)."""
    _, vertical, horizontal = (str(word) for word in camera.orientation)
    if ndisplay == 2:
        right = np.array([0.0, 1.0 if horizontal == "right" else -1.0])
        up = np.array([1.0 if vertical == "up" else -1.0, 0.0])
        return right, up
    up = np.asarray(camera.up_direction, dtype=float)
    across = np.cross(camera.view_direction, up)
    # what napari calls right-handed counts its axes in reversed order
    return (across if str(camera.handedness) == "right" else -across), up


def _embed(direction: np.ndarray, axes: list[int]) -> np.ndarray:
    full = np.zeros(3)
    for axis, share in zip(axes, direction, strict=True):
        if 0 <= axis < 3:
            full[axis] = share
    return full

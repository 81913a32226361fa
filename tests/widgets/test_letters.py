"""Right is right: a lopsided phantom in real screenshots, 2D and 3D."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_brainldm.widgets import layers
from napari_brainldm.widgets.letters import (
    EDGES,
    NAMES,
    edge_letters,
    letters_of,
    orient,
)

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Volume

LEFT, RIGHT, BOTTOM, TOP = EDGES

# dims.order, slice through the lump (S, A, R) in mm, letters left right bottom top
SLICES = {
    "axial": ((0, 1, 2), "LRPA"),
    "coronal": ((1, 0, 2), "LRIS"),
    "sagittal": ((2, 0, 1), "PAIS"),
}
LUMP_MM = (12.0, -3.0, 11.0)  # S, A, R of the lump's centre

# view direction and up (S, A, R), letters left right bottom top
VIEWS = {
    "from above": ((-1, 0, 0), (0, 1, 0), "LRPA"),
    "from below": ((1, 0, 0), (0, 1, 0), "RLPA"),
    "from the front": ((0, -1, 0), (1, 0, 0), "RLIS"),
    "from behind": ((0, 1, 0), (1, 0, 0), "LRIS"),
    "from the right": ((0, 0, -1), (1, 0, 0), "PAIS"),
    "from the left": ((0, 0, 1), (1, 0, 0), "APIS"),
}


@pytest.fixture
def viewer(make_napari_viewer: Any, phantom: Volume) -> Any:
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(700, 600)
    layers.show(viewer, None, phantom, {})
    return viewer


def picture(viewer: Any) -> np.ndarray:
    """The canvas in gray (row, column), its letters hidden."""
    for key, overlay in viewer.canvas.overlays.items():
        if key.startswith("brainldm"):
            overlay.visible = False
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3].mean(axis=-1)


def lump_letters(viewer: Any) -> set[str]:
    """Letters of the edges towards which the bright lump lies in the body."""
    canvas = picture(viewer)
    # the edge is where the body begins; the lump is brighter than the body
    body, lump = np.argwhere(canvas > 20), np.argwhere(canvas > 220)
    assert len(lump) > 50
    row, column = lump.mean(axis=0) - (body.min(axis=0) + body.max(axis=0)) / 2
    letters = edge_letters(viewer.dims, viewer.scene.camera)
    found = {
        letters[RIGHT if column > 0 else LEFT],
        letters[TOP if row < 0 else BOTTOM],
    }
    assert min(abs(row), abs(column)) > 5
    return found


@pytest.mark.parametrize("name", SLICES)
def test_slices_are_upright_and_neurological(viewer: Any, name: str) -> None:
    order, letters = SLICES[name]
    viewer.dims.order = order
    viewer.dims.set_point(order[0], LUMP_MM[order[0]])
    viewer.reset_view()
    assert "".join(
        edge_letters(viewer.dims, viewer.scene.camera)[e] for e in EDGES
    ) == (letters)
    # the lump is right, front and top, so these are the letters it lies next to
    assert lump_letters(viewer) == {"R", "A", "S"} & set(letters)


@pytest.mark.parametrize("name", VIEWS)
def test_the_brain_is_not_mirrored_in_3d(viewer: Any, name: str) -> None:
    view, up, letters = VIEWS[name]
    viewer.dims.ndisplay = 3
    viewer.layers[0].rendering = "mip"
    viewer.reset_view()
    viewer.scene.camera.set_view_direction(view, up)
    assert "".join(
        edge_letters(viewer.dims, viewer.scene.camera)[e] for e in EDGES
    ) == (letters)
    assert lump_letters(viewer) == {"R", "A", "S"} & set(letters)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("horizontal", ["right", "left"])
def test_the_near_side_is_in_front_whatever_the_order(
    viewer: Any, order: tuple[int, ...], horizontal: str
) -> None:
    """Depth too: a bright top before a dim bottom is bright from above only."""
    data = viewer.layers[0].data
    data[:] = 0
    data[2:5, 4:-4, 4:-4], data[11:14, 4:-4, 4:-4] = 0.4, 1.0
    viewer.layers[0].refresh()
    viewer.dims.ndisplay = 3
    viewer.dims.order = order
    viewer.scene.camera.orientation2d = ("up", horizontal)
    viewer.layers[0].attenuation = 1.0
    viewer.reset_view()
    seen = {}
    for name, view in {"above": (-1, 0, 0), "below": (1, 0, 0)}.items():
        turned = [np.array(v, float)[list(order)] for v in (view, (0, 1, 0))]
        viewer.scene.camera.set_view_direction(*map(tuple, turned))
        letters = edge_letters(viewer.dims, viewer.scene.camera)
        # the anatomy says where right is, from above and from below
        assert letters[RIGHT] == {"above": "R", "below": "L"}[name]
        assert letters[TOP] == "A"
        seen[name] = picture(viewer).max()
    assert seen["above"] > seen["below"] + 30


def test_the_letters_are_drawn_and_follow_the_camera(viewer: Any) -> None:
    overlay = viewer.canvas.overlays[f"brainldm_{RIGHT}"]
    assert (overlay.visible, overlay.text) == (True, "R")
    with_letters = viewer.screenshot(canvas_only=True, flash=False)[..., :3].mean(-1)
    assert (with_letters - picture(viewer)).max() > 50
    viewer.dims.order = (2, 0, 1)
    assert overlay.text == "A"
    viewer.dims.order = (0, 1, 2)
    viewer.dims.ndisplay = 3
    viewer.scene.camera.set_view_direction((0, -1, 0), (1, 0, 0))
    assert overlay.text == "L"


def test_radiological_slices_have_right_on_the_left(viewer: Any) -> None:
    viewer.scene.camera.orientation2d = ("up", "left")
    viewer.dims.set_point(0, LUMP_MM[0])
    assert viewer.canvas.overlays[f"brainldm_{LEFT}"].text == "R"
    assert lump_letters(viewer) == {"R", "A"}


def test_an_oblique_view_shows_every_letter_that_counts() -> None:
    assert letters_of(np.array([0.0, 0.6, 0.8])) == "RA"
    assert letters_of(np.array([-0.95, 0.3, 0.0])) == "I"
    assert sorted("".join(a + b for a, b in NAMES)) == sorted("IPLSAR")


def test_orienting_twice_leaves_the_users_camera_alone(viewer: Any) -> None:
    viewer.scene.camera.orientation = ("away", "up", "left")
    assert viewer.canvas.overlays[f"brainldm_{RIGHT}"].text == "L"
    orient(viewer)
    assert str(viewer.scene.camera.orientation[2]) == "left"

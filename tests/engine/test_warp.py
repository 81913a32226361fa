"""A planted bend is found again, and the way back undoes it."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from napari_brainldm.engine import warp
from napari_brainldm.engine.placement import Placement, Template, mni_template
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.volume import Volume, mni_grid
from napari_brainldm.engine.warp import Warp, bend

SHIFT = np.array([4.0, -6.0, 3.0])


@pytest.fixture(scope="module")
def template() -> Template:
    return mni_template()


@pytest.fixture(scope="module")
def bent(template: Template) -> Volume:
    """The template's brain, its front pushed 8 mm up by a smooth bump, then moved."""
    picture = template.picture
    data = np.where(template.brain, picture.data, np.float32(0))
    places = np.indices(data.shape).astype(np.float64)
    front = np.array([45.0, 85.0, 45.0])  # voxels of 2 mm
    away = ((places - front[:, None, None, None]) ** 2).sum(0)
    places[2] -= 4.0 * np.exp(-away / (2 * 12.0**2))
    moved = ndimage.map_coordinates(data, places, order=1).astype(np.float32)
    affine = picture.affine.copy()
    affine[:3, 3] += SHIFT
    return Volume(700 * moved, affine)


@pytest.fixture(scope="module")
def placement() -> Placement:
    to_scan = np.eye(4)
    to_scan[:3, 3] = SHIFT
    return Placement(to_scan, 1.0, 0.0)


@pytest.fixture(scope="module")
def found(bent: Volume, placement: Placement, template: Template) -> Warp:
    return bend(bent, placement, template)


def test_a_planted_bend_is_found(
    found: Warp, bent: Volume, template: Template, placement: Placement
) -> None:
    inside, grid = template.brain, template.picture.grid
    truth = template.picture.data[inside]
    straight = resample(bent, grid, placement.to_scan)[inside]
    after = found.onto(bent, grid)[inside]
    before = np.corrcoef(straight, truth)[0, 1]
    assert before < 0.96
    assert np.corrcoef(after, truth)[0, 1] > 0.985
    front = found.there[45, 85, 45]  # the bump's middle went 8 mm up
    assert front == pytest.approx([0.0, 0.0, 8.0], abs=2.0)


def test_the_way_back_undoes_it(found: Warp, bent: Volume, template: Template) -> None:
    onto = Volume(found.onto(bent, template.picture.grid), template.picture.affine)
    back = found.into_scan(onto, bent.grid)
    inside = bent.data > 100
    assert np.corrcoef(back[inside], bent.data[inside])[0, 1] > 0.97


def test_nothing_is_random(
    found: Warp, bent: Volume, placement: Placement, template: Template
) -> None:
    again = bend(bent, placement, template)
    assert np.array_equal(again.there, found.there)
    assert np.array_equal(again.back, found.back)


def test_antspyx_is_used_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
    bent: Volume,
    placement: Placement,
    template: Template,
) -> None:
    """A stand-in with antspyx's functions that moves every point by a known step."""
    step = np.array([3.0, 5.0, -7.0])  # in ITK's LPS

    def points(_: int, rows: Any, transforms: list[str], whichtoinvert: Any) -> Any:
        sign = {"there": 1.0, "back": -1.0}[transforms[0]]
        return rows + sign * step

    ants = SimpleNamespace(
        from_numpy=lambda data, **place: (data, place),
        registration=lambda fixed, moving, type_of_transform: {
            "fwdtransforms": ["there"],
            "invtransforms": ["back"],
        },
        apply_transforms_to_points=points,
    )
    monkeypatch.setitem(sys.modules, "ants", ants)
    monkeypatch.setattr(warp.importlib.util, "find_spec", lambda name: name)
    found = bend(bent, placement, template)
    assert found.method == "SyN (antspyx)"
    expected = np.array([-3.0, -5.0, -7.0])  # RAS+
    np.testing.assert_allclose(found.there[10, 20, 30], expected, atol=1e-4)
    np.testing.assert_allclose(found.back[40, 50, 60], -expected, atol=1e-4)


def test_points_are_where_the_fields_say() -> None:
    """A constant field is a shift, both ways, on any grid."""
    grid = mni_grid(4.0)
    shift = np.broadcast_to(np.float32([8.0, 0.0, -4.0]), (*grid.shape, 3))
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = (0, 12, 0)
    field = Warp(affine, shift, -shift, grid, "planted")
    data = np.zeros(grid.shape, np.float32)
    data[20, 24, 18] = 1.0
    scan = Volume(data, grid.matrix)
    seen = field.onto(scan, grid)
    assert np.unravel_index(seen.argmax(), seen.shape) == (18, 21, 19)
    back = field.into_scan(Volume(seen, grid.matrix), grid)
    assert np.unravel_index(back.argmax(), back.shape) == (20, 24, 18)

"""Scans become what the public models were trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_brainldm.engine.card import Card, Intensity
from napari_brainldm.engine.conform import Preparation, conform, in_scan_space
from napari_brainldm.engine.convention import TEMPLATE_GRID, conform_to, minmax
from napari_brainldm.engine.imports import brain_ldm, ldae
from napari_brainldm.engine.imports.find import find
from napari_brainldm.engine.placement import mni_template
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.volume import Grid, Volume
from tests import foreign


@pytest.fixture(scope="module")
def head() -> Volume:
    """The template's brain in a bright shell, 9 mm off, of made-up units."""
    template = mni_template()
    data = np.where(template.brain, 600 * template.picture.data, np.float32(0))
    affine = template.picture.affine.copy()
    affine[:3, 3] += (9.0, -5.0, 4.0)
    return Volume(data.astype(np.float32), affine)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Card:
    """The bundle's card with a grid of 4 mm, to save time."""
    card = find(foreign.save_bundle(tmp_path_factory.mktemp("a") / "zoo")).card
    x, y, z = brain_ldm.ORIGIN_MM
    rows = ((-4.0, 0.0, 0.0, x), (0.0, 4.0, 0.0, y), (0.0, 0.0, 4.0, z))
    return replace(card, grid=Grid((40, 56, 40), (*rows, (0.0, 0.0, 0.0, 1.0))))


@pytest.fixture(scope="module")
def lozupone(tmp_path_factory: pytest.TempPathFactory) -> Card:
    folder = tmp_path_factory.mktemp("b") / "ldae"
    return replace(find(foreign.save_ldae(folder)).card, grid=ldae._grid({}, 8))


def test_the_bundle_sees_all_of_the_picture_rigidly(head: Volume, bundle: Card) -> None:
    done = conform_to(bundle, head, None, Preparation())
    assert (done.volume.data.min(), done.volume.data.max()) == (0.0, 1.0)
    template = mni_template().picture
    expected = resample(template, bundle.grid)
    inside = expected > 0.2
    found = done.volume.data[inside]
    assert np.corrcoef(found, expected[inside])[0, 1] > 0.97
    assert done.warp is None
    assert "Least and greatest intensity became 0 and 1." in done.steps
    assert "expect a poorer picture" in done.steps[-1]  # a brain without its head


def test_ldae_sees_the_brain_bent_onto_the_template(
    head: Volume, lozupone: Card
) -> None:
    done = conform_to(lozupone, head, None, Preparation())
    assert done.volume.data.shape == (128, 160, 128)
    np.testing.assert_allclose(done.volume.affine, lozupone.grid.matrix, atol=1e-9)
    assert (done.volume.data.min(), done.volume.data.max()) == (0.0, 1.0)
    template = mni_template()
    expected = resample(template.picture, lozupone.grid)
    inside = expected > 0.2
    found = done.volume.data[inside]
    assert np.corrcoef(found, expected[inside])[0, 1] > 0.95
    assert done.n4
    assert any("Bent onto the MNI152 template" in step for step in done.steps)
    back = in_scan_space(done.volume, done, head.grid)
    there = head.data > 100
    assert np.corrcoef(back.data[there], head.data[there])[0, 1] > 0.95


def test_a_scan_already_prepared_for_ldae_is_not_bent_again(lozupone: Card) -> None:
    data = np.random.default_rng(0).random(lozupone.grid.shape, np.float32) + 3
    scan = Volume(data, lozupone.grid.matrix)
    done = conform_to(lozupone, scan, None, Preparation())
    np.testing.assert_array_equal(done.volume.data, minmax(data)[0])
    assert done.warp is None
    assert "taken as prepared" in done.steps[0]


def test_the_template_grid_is_the_one_that_the_authors_used() -> None:
    """FSL's and ANTs' MNI152 at 1 mm: LAS, voxel (90, 126, 72) at the origin."""
    middle = TEMPLATE_GRID.matrix @ np.array([90, 126, 72, 1])
    np.testing.assert_array_equal(middle, [0, 0, 0, 1])
    assert np.linalg.det(TEMPLATE_GRID.matrix) < 0


def test_a_scan_with_negative_intensities_has_an_empty_background(
    head: Volume, lozupone: Card
) -> None:
    """As z-scored scans have; what is dark in the brain is not less than nothing."""
    noise = np.random.default_rng(0).normal(0, 20, head.data.shape).astype(np.float32)
    inside = head.data > 0
    scored = np.where(inside, (head.data + noise - 300) / 150, np.float32(-2.0))
    scan = Volume(scored.astype(np.float32), head.affine)
    done = conform_to(lozupone, scan, None, Preparation())
    assert done.volume.data[0, 0, 0] == 0.0
    assert 0.2 < done.brain.mean() < 0.45


def test_our_own_cards_are_conformed_as_ever(head: Volume, bundle: Card) -> None:
    card = replace(bundle, intensity=Intensity())
    done = conform_to(card, head, None, Preparation())
    expected = conform(head, card.grid)
    np.testing.assert_array_equal(done.volume.data, expected.volume.data)
    assert done.steps == expected.steps

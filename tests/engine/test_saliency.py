"""What pictures follow in the connectivity, and whether saying so can be believed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_brainldm.engine.atlas import Atlas, Region
from napari_brainldm.engine.attribution import (
    Attributed,
    RegionMean,
    integrated_gradients,
)
from napari_brainldm.engine.components import Component
from napari_brainldm.engine.fnc import Fnc
from napari_brainldm.engine.fnc_edit import swapped
from napari_brainldm.engine.heat import pairs_of
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Request,
    Sampler,
    Seed,
)
from napari_brainldm.engine.saliency import (
    GRAY,
    Changed,
    Sanity,
    occluded,
    paired_difference,
    randomised,
    sanity,
    sanity_of,
)
from napari_brainldm.engine.saliency_export import saliency_of, write_saliency
from tests.tiny import tiny_gm_ldm

ASKED = Request(origin=Seed(5), sampler=Sampler("ddim", 3))
MEAN = Fnc(tiny_gm_ldm().fnc_law().mean, "training mean")
KNOWN = tuple(
    Component(n, f"C{n}", domain) for n, domain in enumerate("AABBC", start=1)
)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(tiny_gm_ldm(), "cpu", "float32")


@pytest.fixture(scope="module")
def somebody() -> Fnc:
    rng = np.random.default_rng(4)
    return Fnc(rng.normal(0, 0.8, 10).astype(np.float32), "somebody")


@pytest.fixture(scope="module")
def halves(renderer: Renderer) -> Atlas:
    grid = renderer.card.grid
    labels = np.ones(grid.shape, np.int32)
    labels[grid.shape[0] // 2 :] = 2
    return Atlas("halves", labels, grid, (Region(1, "left"), Region(2, "right")))


def picture(renderer: Renderer, fnc: Fnc, seed: int) -> np.ndarray:
    digest = renderer.fnc.admit(fnc)
    asked = replace(ASKED, conditions=Conditions(fnc=digest), origin=Seed(seed))
    return finish(renderer.render(asked)).data


def test_blocks_are_all_pairs_that_hold_a_connection() -> None:
    assert pairs_of(KNOWN) == (
        ("A", "A"),
        ("A", "B"),
        ("A", "C"),
        ("B", "B"),
        ("B", "C"),
    )


def test_occlusion_is_the_difference_by_hand(renderer, somebody, halves) -> None:
    found = finish(occluded(renderer, ASKED, somebody, KNOWN, halves, seeds=2))
    mean = renderer.fnc.of(renderer.fnc.mean)
    place = found.blocks.index(("A", "C"))
    case = swapped(somebody, mean, KNOWN, "A", "C")
    by_hand = np.mean(
        [picture(renderer, somebody, s) - picture(renderer, case, s) for s in (5, 6)],
        axis=0,
    )
    np.testing.assert_allclose(found.maps[place], by_hand, atol=1e-6)
    half = by_hand.shape[0] // 2
    means = by_hand[:half].mean(), by_hand[half:].mean()
    np.testing.assert_allclose(found.table[place], means, atol=1e-6)
    heat = found.heat()
    assert heat.rows[place] == "A–C" and heat.columns == ("left", "right")


def test_what_is_at_the_mean_already_occludes_nothing(renderer, halves) -> None:
    mean = renderer.fnc.of(renderer.fnc.mean)
    found = finish(occluded(renderer, ASKED, mean, KNOWN, halves))
    assert np.abs(found.maps).max() == 0


# gradients ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def left(renderer, halves) -> RegionMean:
    return RegionMean(renderer.checkpoint, halves.labels == 1)


@pytest.mark.parametrize(
    ("name", "guidance"), [("ddim", 1.0), ("dpm++2m", 1.0), ("ddim", 2.0)]
)
def test_the_differentiable_road_makes_the_same_picture(
    renderer, somebody, halves, left, name: str, guidance: float
) -> None:
    digest = renderer.fnc.admit(somebody)
    asked = replace(
        ASKED,
        conditions=Conditions(fnc=digest),
        sampler=Sampler(name, 3),
        guidance=guidance,
    )
    made = finish(renderer.render(asked)).data
    with torch.no_grad():
        found = float(left.at(asked, left.vector(somebody)))
    assert found == pytest.approx(made[halves.labels == 1].mean(), abs=1e-5)


def test_the_gradient_is_that_of_finite_differences(left, somebody) -> None:
    vector = left.vector(somebody)
    gradient = left.gradient(ASKED, vector)[0]
    place, step = int(gradient.abs().argmax()), 5e-3
    moved = torch.zeros_like(vector)
    moved[0, place] = step
    with torch.no_grad():
        ends = left.at(ASKED, vector + moved), left.at(ASKED, vector - moved)
    slope = float(ends[0] - ends[1]) / (2 * step)
    assert slope == pytest.approx(float(gradient[place]), rel=0.05)


def test_attributions_sum_up_to_the_change(left, somebody) -> None:
    few = finish(integrated_gradients(left, ASKED, somebody, points=2))
    many = finish(integrated_gradients(left, ASKED, somebody, points=48))
    assert many.vector.shape == (10,)
    assert many.error <= 0.05
    assert many.change == pytest.approx(few.change)
    assert "sum up to it within" in many.told()
    assert "take more points" in Attributed(np.ones(2, np.float32), 3.0).told()


def test_a_region_without_voxels_has_no_gradient(renderer, halves) -> None:
    with pytest.raises(EngineError, match="no voxel"):
        RegionMean(renderer.checkpoint, halves.labels == 9)


# sanity -------------------------------------------------------------------------------


def test_randomised_weights_keep_their_values_and_lose_their_places(renderer) -> None:
    before, after = renderer.checkpoint, randomised(renderer.checkpoint)
    for name, value in before.tensors.items():
        other = after.tensors[name]
        if not name.startswith("denoiser."):
            assert torch.equal(value, other)
        else:
            assert torch.equal(value.flatten().sort()[0], other.flatten().sort()[0])
    moved = "denoiser.decoder.0.qkv.weight"
    assert not torch.equal(before.tensors[moved], after.tensors[moved])


def test_a_map_is_told_from_that_of_randomised_weights(renderer, somebody) -> None:
    trained = finish(paired_difference(renderer, ASKED, somebody, 2)).change
    other = Renderer(randomised(renderer.checkpoint), "cpu", "float32")
    shuffled = finish(paired_difference(other, ASKED, somebody, 2)).change
    assert np.isfinite(shuffled).all()
    assert sanity(trained, trained).spearman == pytest.approx(1)
    assert not sanity(trained, trained).passed
    assert abs(sanity(trained, shuffled).spearman) < 1
    assert Sanity(-0.1).passed and not Sanity(-0.4).passed
    assert "Do not read it" in Sanity(0.5).told()
    with pytest.raises(EngineError, match="same everywhere"):
        sanity(np.zeros(5), trained)


def test_a_map_is_compared_in_gray_matter_alone() -> None:
    rng, shape = np.random.default_rng(0), (10, 10, 10)
    reference = np.zeros(shape, np.float32)
    reference[:3] = GRAY  # 30 % of the voxels
    change = rng.normal(size=shape).astype(np.float32)
    other = rng.normal(size=shape).astype(np.float32)
    other[:3] = change[:3]  # nothing in it was learned
    trained, shuffled = Changed(change, reference), Changed(other, 0 * reference)
    assert abs(sanity(change, other).spearman) < 0.5
    assert sanity_of(trained, shuffled).spearman == pytest.approx(1)
    with pytest.raises(EngineError, match="shows no gray matter"):
        sanity_of(shuffled, trained)


def test_gray_matter_is_that_of_the_mean_connectivity(renderer, somebody) -> None:
    found = finish(paired_difference(renderer, ASKED, somebody, 1))
    mean = renderer.fnc.of(renderer.fnc.mean)
    np.testing.assert_allclose(found.reference, picture(renderer, mean, 5), atol=1e-6)


# files --------------------------------------------------------------------------------


def written(renderer, value, known, folder: Path) -> tuple[list[list[str]], dict]:
    """Rows of the table, and the sidecar."""
    derived = saliency_of(renderer, ASKED, MEAN, "method", {"seeds": 2.0}, True)
    paths = write_saliency(renderer, value, known, derived, {}, folder / "s.tsv")
    assert all("desc-synthetic" in path.name for path in paths)
    lines = paths[0].read_text().splitlines()
    return [line.split("\t") for line in lines], json.loads(paths[1].read_text())


def test_tables_hold_what_was_found(renderer, somebody, halves, tmp_path) -> None:
    found = finish(occluded(renderer, ASKED, somebody, KNOWN, halves))
    rows, told = written(renderer, found, (KNOWN, halves), tmp_path)
    assert rows[0] == ["network_1", "network_2", "left", "right"]
    assert rows[2][:2] == ["A", "B"] and len(rows) == 1 + len(found.blocks)
    numbers = np.array([row[2:] for row in rows[1:]], float)
    np.testing.assert_allclose(numbers, found.table, rtol=1e-4)
    assert told["Synthetic"] is True and len(told["Derived"]["requests"]) == 4
    vector = np.arange(10, dtype=np.float32)
    rows, _ = written(renderer, Attributed(vector, 1.0), (KNOWN, halves), tmp_path)
    assert rows[2] == ["1 C1 (A)", "3 C3 (B)", "1"] and len(rows) == 11
    change = np.ones(renderer.card.grid.shape, np.float32)
    change[halves.labels == 2] = -2
    value = Changed(change, change)
    rows, told = written(renderer, value, (KNOWN, halves), tmp_path)
    half = str(change.size // 2)
    assert rows[1:] == [["1", "left", half, "1"], ["2", "right", half, "-2"]]
    assert told["Atlas"]["name"] == "halves"

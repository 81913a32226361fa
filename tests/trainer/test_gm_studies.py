"""Group studies of planted and of no effects, against closed forms. Toy sizes."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import gmldm as benchmark
from benchmarks.gm_studies import (
    GRAY_VOXEL,
    NEW_PEOPLE,
    Pool,
    area,
    atlas_on,
    false_alarms,
    new_people,
    on_top,
    planted_labels,
    planted_studies,
    render_pool,
    unplanted_areas,
)
from napari_brainldm.engine.atlas import Atlas, Region
from napari_brainldm.engine.fnc import Fnc, connections
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.saliency import GRAY
from napari_brainldm.engine.volume import Grid, mni_grid
from tests.tiny import tiny_gm_ldm
from trainer.data.connectivity import ConnectivityConfig, Shift, draw_fnc

LABELS = (11, 12, 8, 17, 18, 26, 50, 51, 47, 53, 54, 58)
PLANTED = (7, 8, 46, 47, 11, 50, 12, 51)
FEW = ConnectivityConfig(components=5, shifts=(Shift("all", "all", 0.2),))
TINY = benchmark.Sizes(4, 4, 5, 3, 20, 4, 3, 2, 1, 20)


def slabs(people: int, effect: float, seed: int = 0) -> Pool:
    """Noise, shifted by `effect` in every planted region; one slab of 40 each."""
    rng = np.random.default_rng(seed)
    sides = ("Left", "Right")
    regions = tuple(Region(n, f"{sides[n > 40]}-{n}") for n in sorted(LABELS))
    labels = np.repeat(LABELS, 40).reshape(len(LABELS), 8, 5).astype(np.int32)
    maps = rng.standard_normal((people, *labels.shape)).astype(np.float32)
    maps += effect * np.isin(labels, PLANTED).astype(np.float32)
    identity = np.eye(4)
    atlas = Atlas("slabs", labels, Grid.of(labels.shape, identity), regions)
    return Pool(maps, np.full(labels.shape, 0.5, np.float32), atlas, PLANTED)


def test_the_area_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(80) < 0.3
    scores = np.round(rng.random(80) + 0.3 * truth, 1)  # with ties
    assert area(scores, truth) == pytest.approx(roc_auc_score(truth, scores))


def test_a_planted_effect_is_found_in_every_study() -> None:
    found = planted_studies(slabs(40, 2.0), 12, 10, np.random.default_rng(0))
    assert all(one.by_difference and one.by_effect for one in found)
    assert min(one.areas.effect for one in found) > 0.95
    assert max(one.areas.loss for one in found) < 0.05  # it was no loss
    lost = planted_studies(slabs(40, -2.0), 4, 10, np.random.default_rng(0))
    assert min(one.areas.loss for one in lost) > 0.95


def test_without_an_effect_the_map_is_at_chance_and_alarms_are_few() -> None:
    pool = slabs(60, 0.0)
    rng = np.random.default_rng(2)
    found = astuple(unplanted_areas(pool, 60, 20, rng))
    assert found == pytest.approx((0.5, 0.5, 0.5), abs=0.02)
    # 200 tests at 0.05: two standard errors are 0.031
    assert false_alarms(pool, 200, 15, 200, rng) == pytest.approx(0.05, abs=0.031)
    # people of a pool with an effect whose signs are drawn anew have none either
    assert false_alarms(slabs(60, 3.0), 40, 15, 100, rng) < 0.2


def test_every_planted_region_must_be_on_top_on_both_sides() -> None:
    pool = slabs(4, 0.0)
    names = [region.index for region in pool.atlas.regions]
    size = np.isin(names, PLANTED).astype(float)
    assert on_top(pool, size)
    one = size.copy()
    one[names.index(50)] = -1.0
    assert not on_top(pool, one)
    regions = tuple(r for r in pool.atlas.regions if r.index != 12)  # lost by the grid
    lost = replace(pool, atlas=replace(pool.atlas, regions=regions))
    assert not on_top(lost, np.delete(size, names.index(12)))


def test_a_speck_of_the_atlas_takes_no_place() -> None:
    plain = slabs(4, 0.0)
    labels = plain.atlas.labels.copy()
    labels[LABELS.index(12), 0, :2] = 30
    held = (*plain.atlas.regions, Region(30, "Left-speck"))
    regions = tuple(sorted(held, key=lambda region: region.index))
    pool = replace(plain, atlas=replace(plain.atlas, labels=labels, regions=regions))
    names = np.array([region.index for region in regions])
    size = np.isin(names, PLANTED) + 2.0 * (names == 30)
    assert on_top(pool, size)
    labels[LABELS.index(17)] = 30  # 40 voxels more: a region like others
    assert not on_top(replace(pool, atlas=replace(pool.atlas, labels=labels)), size)


def test_new_people_are_of_the_population_and_of_no_cohort() -> None:
    config = ConnectivityConfig()
    ill = new_people(config, 12, "patient", 3)
    assert all(fnc.name.startswith("patient") for fnc in ill)
    numbers = [int(fnc.name.split()[1]) for fnc in ill]
    assert min(numbers) >= NEW_PEOPLE
    known = draw_fnc(config, 12, numbers[1], "").vector
    np.testing.assert_array_equal(ill[1].vector, known)
    calm = new_people(replace(config, strength=0.0), 12, "patient", 3)
    moved = np.flatnonzero(~np.isclose(ill[0].vector, calm[0].vector, atol=1e-6))
    assert 0 < len(moved) < connections(53) / 2  # three pairs of networks alone


def test_the_planted_structures_lie_in_the_atlas() -> None:
    labels = planted_labels(ConnectivityConfig())
    assert set(labels) == set(PLANTED)
    atlas = atlas_on(mni_grid(4.0))
    there = {region.index for region in atlas.regions}
    assert there & set(PLANTED) == {8, 47, 11, 50, 12, 51}
    assert not np.isin(atlas.labels, (7, 46)).any()


def test_a_pool_holds_pairs_under_one_noise() -> None:
    renderer = Renderer(tiny_gm_ldm(), "cpu", "float32")
    rng = np.random.default_rng(4)
    one, two = (Fnc(rng.normal(0, 0.5, 10).astype(np.float32)) for _ in range(2))
    pool = render_pool(renderer, [(one, two), (one, one), (two, one)], FEW)
    assert not pool.differences[1].any()
    assert pool.differences[0].any()
    assert pool.values.shape == (3, len(pool.atlas.regions))
    assert pool.inside.shape[1] == (pool.reference >= GRAY_VOXEL).sum()
    assert GRAY == GRAY_VOXEL  # the window tests its maps in the same voxels


def test_the_benchmark_walks_to_its_end() -> None:
    asked = benchmark.Asked(tiny_gm_ldm(), FEW, 12, TINY, 0)
    found = benchmark.measure(asked, tiny_gm_ldm())
    assert set(benchmark.LIMITS) <= set(found)
    exact = ("identical_max", "t_off", "dz_off", "nilearn_t_off", "region_means_off")
    for name in (*exact, "regions_lost", "nilearn_p_off"):
        assert benchmark.LIMITS[name].holds(found[name]), name
    assert found["regions_flagged_dropped"] > 0  # at 8 mm some have no voxel
    assert 0 <= found["null_model_auc"] <= 1

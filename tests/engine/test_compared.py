"""Paired contrasts of people, and their region table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_brainldm.engine.atlas import Atlas, Region
from napari_brainldm.engine.compared import Compared, Sharpened, compare
from napari_brainldm.engine.compared_regions import (
    COLUMNS,
    region_contrasts,
    side_of,
    to_tsv,
)
from napari_brainldm.engine.fnc import Fnc
from napari_brainldm.engine.inference import null_weights, sign_flip_test
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Between,
    Conditions,
    Derived,
    EngineError,
    Request,
    Sampler,
    Scan,
    Seed,
)
from napari_brainldm.engine.volume import Grid, Volume
from tests.tiny import tiny_gm_ldm

SHAPE = (12, 10, 8)
GRID = Grid.of(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(tiny_gm_ldm(), "cpu", "float32")


def request(renderer: Renderer, seed: int) -> Request:
    rng = np.random.default_rng(seed)
    digest = renderer.fnc.admit(Fnc(rng.normal(0, 0.5, 10).astype(np.float32)))
    return Request(Conditions(fnc=digest), Seed(3), sampler=Sampler("ddim", 2))


def driven(steps) -> tuple[list[Sharpened], Compared]:
    met = []
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return met, end.value
        if isinstance(step, Sharpened):
            met.append(step)


def test_pairs_share_their_noise_and_people_are_the_sample(renderer) -> None:
    people = [(request(renderer, n), request(renderer, 9)) for n in range(2)]
    met, found = driven(compare(renderer, people, seeds=2))
    assert [s.done for s in met] == [1, 2, 3, 4] and met[0].total == 4
    by_hand = []
    for first, second in people:
        halves = []
        for seed in (3, 4):
            one, other = (
                finish(renderer.render(replace(half, origin=Seed(seed))))
                for half in (first, second)
            )
            halves.append(one.data - other.data)
        by_hand.append(np.mean(halves, axis=0))
    np.testing.assert_allclose(found.differences, by_hand, atol=1e-6)
    np.testing.assert_allclose(met[-1].mean.data, np.mean(by_hand, axis=0), atol=1e-6)
    assert len(found.record.requests) == 8
    assert found.sentence().startswith("2 subjects, 2 seeds each")


def test_equal_conditions_differ_by_exactly_0(renderer) -> None:
    same = request(renderer, 1)
    _, found = driven(compare(renderer, [(same, same)], seeds=2))
    assert np.abs(found.differences).max() == 0
    assert np.abs(found.seed_sd).max() == 0
    assert "no p-values" in found.sentence()
    with pytest.raises(EngineError, match="table of several subjects"):
        found.effect  # noqa: B018


def test_it_can_be_stopped_after_any_pair(renderer) -> None:
    steps = compare(renderer, [(request(renderer, 1), request(renderer, 2))], seeds=9)
    for step in steps:
        if isinstance(step, Sharpened):
            break
    assert (step.done, step.total) == (1, 9)
    steps.close()


def test_what_cannot_be_compared_is_refused(renderer) -> None:
    with pytest.raises(EngineError, match="at least one of each"):
        next(compare(renderer, [], 3))
    several = Request(origin=Between(Scan("x"), Scan("y"), 0.5))
    with pytest.raises(EngineError, match="starts from a scan"):
        next(compare(renderer, [(several, several)], 3))


# Regions ------------------------------------------------------------------------------


def atlas() -> Atlas:
    labels = np.zeros(SHAPE, np.int32)
    labels[:3], labels[3:6], labels[6:9] = 7, 2, 40
    labels[11, 9, 7] = 5  # one voxel
    names = {2: "Left-Putamen", 5: "dot", 7: "ctx-rh-insula", 40: "Brain-Stem"}
    regions = tuple(Region(n, names[n]) for n in sorted(names))
    return Atlas("toy", labels, GRID, regions)


def compared(people: int = 12, effect: float = 1.0) -> Compared:
    rng = np.random.default_rng(people)
    differences = 0.3 * rng.standard_normal((people, *SHAPE))
    differences += 0.1 * rng.standard_normal((people, 1, 1, 1))
    differences[:, 3:6] += effect
    base = Volume(np.full(SHAPE, 2.0, np.float32), GRID.matrix)
    spread = np.full((people, *SHAPE), 0.5, np.float32)
    first = Volume(np.float32(2 + differences.mean(0)), GRID.matrix)
    record = Derived("paired contrast", (), ())
    return Compared(first, base, np.float32(differences), spread, 4, record)


def test_a_row_is_what_a_loop_over_voxels_says() -> None:
    held, known = compared(), atlas()
    mask = np.zeros(SHAPE, bool)
    mask[:, :5] = True
    rows = region_contrasts(known, held, mask, flips=300)
    assert [row.roi_id for row in rows] == [2, 5, 7, 40]
    values = np.array(
        [
            [d[known.labels == region.index].mean() for region in known.regions]
            for d in held.differences
        ]
    )
    np.testing.assert_allclose([r.diff for r in rows], values.mean(0), atol=1e-6)
    effects = values.mean(0) / values.std(0, ddof=1)
    np.testing.assert_allclose([r.dz for r in rows], effects, rtol=1e-4)
    tested = sign_flip_test(values, 300)
    np.testing.assert_allclose([r.p_fwe for r in rows], tested.p_fwe, atol=1e-6)
    assert rows[0].frac_in_mask == pytest.approx(0.5)
    assert rows[0].n_vox == 3 * 10 * 8 and rows[0].mm3 == rows[0].n_vox * 8
    assert rows[0].diff_pct == pytest.approx(50 * rows[0].diff, rel=1e-5)
    assert [row.flags for row in rows] == [(), ("small",), (), ()]


def test_the_planted_region_comes_first() -> None:
    rows = region_contrasts(atlas(), compared(), np.ones(SHAPE, bool), flips=500)
    first = min(rows, key=lambda row: row.rank)
    assert (first.name, first.hemi) == ("Left-Putamen", "L")
    assert first.p_fwe < 0.01 and first.sign_consistency == 1
    assert first.ci_lo < first.diff < first.ci_hi


def test_one_persons_null_is_the_95th_percentile_of_its_pairs() -> None:
    null = np.random.default_rng(1).standard_normal((40, *SHAPE)).astype(np.float32)
    rows = region_contrasts(atlas(), compared(1), np.ones(SHAPE, bool), null=null)
    own = np.abs([n[atlas().labels == 2].mean() for n in null])
    assert rows[0].null95 == pytest.approx(np.percentile(own, 95), rel=1e-4)


def test_a_mean_of_people_is_held_against_means_of_as_many_null_pairs() -> None:
    # pairs of SD 1: the mean of n is normal with SD 1 / sqrt(n) in closed form
    pairs, people = 400, 25
    weights = null_weights(pairs, people)
    means = weights @ np.random.default_rng(2).standard_normal((pairs, 300))
    assert means.std() == pytest.approx(1 / np.sqrt(people), rel=0.03)
    limit = np.percentile(np.abs(means), 95)
    assert limit == pytest.approx(1.96 / np.sqrt(people), rel=0.05)
    np.testing.assert_array_equal(null_weights(7, 1), np.eye(7))


def test_one_person_alone_has_no_p_values() -> None:
    rows = region_contrasts(atlas(), compared(1), np.ones(SHAPE, bool))
    assert all(row.p_fwe is None and row.dz is None for row in rows)
    assert rows[0].rank == 1 and rows[0].sd_seed == pytest.approx(0.5)


def test_a_region_that_the_grid_loses_is_told_not_dropped() -> None:
    known = atlas()
    coarse = np.diag([8.0, 8.0, 8.0, 1.0])
    held = compared()
    small = Volume(np.zeros((3, 3, 2), np.float32), coarse)
    few = Compared(
        small,
        small,
        np.random.default_rng(0).random((5, 3, 3, 2)).astype(np.float32),
        np.zeros((5, 3, 3, 2), np.float32),
        held.seeds,
        held.record,
    )
    rows = region_contrasts(known, few, np.ones((3, 3, 2), bool), flips=20)
    assert [row.roi_id for row in rows] == [2, 5, 7, 40]
    assert rows[1].flags == ("dropped",) and rows[1].diff is None
    lines = to_tsv(rows).splitlines()
    assert lines[0].split("\t") == list(COLUMNS) and len(lines) == 5
    assert "n/a" in lines[2] and "dropped" in lines[2]


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("Left-Caudate", "L"),
        ("ctx-rh-insula", "R"),
        ("Insula L", "L"),
        ("Brain-Stem", ""),
        ("Rolandic_Oper_R", "R"),
    ],
)
def test_sides_are_read_from_names(name: str, side: str) -> None:
    assert side_of(name) == side

"""Contrasts of connectivity: their pairs, their null, their flags, their files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_brainldm.engine.atlas import Atlas, Region
from napari_brainldm.engine.cluster_table import COLUMNS as OF_CLUSTERS
from napari_brainldm.engine.cluster_table import cluster_table
from napari_brainldm.engine.compared import Compared, compare
from napari_brainldm.engine.compared_regions import COLUMNS
from napari_brainldm.engine.contrast_export import (
    Reading,
    contrast_table,
    maps_of,
    write_contrast,
)
from napari_brainldm.engine.contrast_figures import encoded, figures
from napari_brainldm.engine.contrast_flags import flagged, judge
from napari_brainldm.engine.fnc import Fnc
from napari_brainldm.engine.fnc_contrast import (
    AGAINST,
    SEEDS_APART,
    Contrasted,
    contrasted,
    pairs_against,
)
from napari_brainldm.engine.fnc_edit import random, scaled, without
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Conditions,
    Derived,
    EngineError,
    Request,
    Sampler,
    Seed,
)
from napari_brainldm.engine.volume import Grid, Volume
from napari_brainldm.engine.voxelwise import voxel_test
from tests.tiny import tiny_gm_ldm

ASKED = Request(origin=Seed(3), sampler=Sampler("ddim", 2))
SHAPE = (16, 14, 12)
DRAWN = ("glass-brain", "slices", "region-bars")
GRID = Grid.of(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(tiny_gm_ldm(), "cpu", "float32")


def people(count: int) -> list[Fnc]:
    rng = np.random.default_rng(1)
    return [
        Fnc(rng.normal(0, 0.5, 10).astype(np.float32), f"sub-{n}", person=f"sub-{n}")
        for n in range(count)
    ]


def atlas(grid: Grid) -> Atlas:
    labels = np.zeros(grid.shape, np.int32)
    labels[: grid.shape[0] // 2], labels[grid.shape[0] // 2 :] = 1, 2
    labels[0, 0, :3] = 3
    regions = Region(1, "left half"), Region(2, "right half"), Region(3, "crumb")
    return Atlas("halves", labels, grid, regions)


def made_of(differences: np.ndarray, first: np.ndarray, error: float = 0.0):
    record = Derived("paired contrast", (("against", "x"),), (ASKED,))
    base = Volume(first.astype(np.float32), GRID.matrix)
    compared = Compared(
        base,
        Volume(base.data - differences.mean(0).astype(np.float32), GRID.matrix),
        differences.astype(np.float32),
        np.full_like(differences, 0.01, dtype=np.float32),
        2,
        record,
    )
    none = np.zeros((0, *SHAPE), np.float32)
    return Contrasted(compared, "mean", none, np.full(SHAPE, error, np.float32))


# pairs --------------------------------------------------------------------------------


@pytest.mark.parametrize("against", AGAINST)
def test_both_of_a_pair_differ_by_the_condition_alone(renderer, against: str) -> None:
    three = people(3)
    for number, (first, second) in enumerate(
        pairs_against(renderer, ASKED, three, against, people(4))
    ):
        assert first.conditions.fnc == three[number].digest
        assert first.origin == second.origin and first.sampler == second.sampler
        same = first.conditions == second.conditions and first.guidance == (
            second.guidance
        )
        assert not same
        assert (second.guidance == 0) is (against == "none")


def test_people_share_no_noise(renderer) -> None:
    """Seeds of one person never reach those of the next."""
    pairs = pairs_against(renderer, ASKED, people(3), "mean")
    seeds = [first.origin.value for first, _ in pairs]
    assert seeds[0] == ASKED.origin.value
    assert np.diff(seeds).tolist() == [SEEDS_APART] * 2
    compared = finish(compare(renderer, pairs[:2], 2))
    own = finish(compare(renderer, pairs[1:2], 2))
    np.testing.assert_array_equal(compared.differences[1], own.differences[0])


def test_one_person_meets_another_random_vector_under_every_seed(renderer) -> None:
    pairs = pairs_against(renderer, ASKED, people(1), "random")
    made = finish(contrasted(renderer, pairs, "random", 3, 2))
    asked = made.compared.record.requests
    firsts, seconds = asked[::2], asked[1::2]
    assert len({one.conditions.fnc for one in firsts}) == 1
    assert len({one.conditions.fnc for one in seconds}) == 3
    assert [a.origin for a in firsts] == [b.origin for b in seconds]
    assert seconds[0].conditions.fnc == pairs[0][1].conditions.fnc


def test_another_subject_is_from_outside_in_turn_so_the_mean_is_not_0(
    renderer,
) -> None:
    five = people(5)
    pairs = pairs_against(renderer, ASKED, five[:3], "another", five)
    firsts, seconds = (
        [one.conditions.fnc for one in side] for side in zip(*pairs, strict=True)
    )
    assert seconds == [five[n].digest for n in (3, 4, 3)]
    assert not set(firsts) & set(seconds)
    change = [
        renderer.fnc.of(first).vector - renderer.fnc.of(second).vector
        for first, second in zip(firsts, seconds, strict=True)
    ]
    assert np.abs(np.mean(change, axis=0)).max() > 0.1
    (alone,) = pairs_against(renderer, ASKED, five[:1], "another", five)
    assert alone[1].conditions.fnc == five[1].digest


def test_where_nobody_is_left_the_sentence_says_what_to_choose(renderer) -> None:
    three = people(3)
    with pytest.raises(EngineError, match=r"Choose a group for A, or .* the mean"):
        pairs_against(renderer, ASKED, three, "another", three)
    with pytest.raises(EngineError, match="no other subject"):
        pairs_against(renderer, ASKED, three[:1], "another", three[:1])


def test_edited_connectivity_is_never_compared_with_its_own_person(renderer) -> None:
    three, known = people(3), renderer.card.fnc.components
    group = known[0].domain
    edited = scaled(three[0], known, group, group, 0.5)
    edited = without(edited, known, group)
    ((_, other),) = pairs_against(renderer, ASKED, [edited], "another", three)
    assert other.conditions.fnc == three[1].digest
    with pytest.raises(EngineError, match="no other subject"):
        pairs_against(renderer, ASKED, [edited], "another", three[:1])
    # nobody's connectivity is nobody: all are others
    drawn = random(renderer.checkpoint.fnc_law(), 1)
    ((_, first),) = pairs_against(renderer, ASKED, [drawn], "another", three)
    assert first.conditions.fnc == three[0].digest


def test_no_condition_is_the_dropped_one(renderer) -> None:
    ((_, none),) = pairs_against(renderer, ASKED, people(1), "none")
    found = finish(renderer.render(none)).data
    other = Request(
        Conditions(fnc=renderer.fnc.mean), ASKED.origin, (), ASKED.sampler, 0.0
    )
    # whatever condition it was that is dropped
    np.testing.assert_allclose(found, finish(renderer.render(other)).data, atol=1e-6)
    plain = Renderer(tiny_gm_ldm(droppable=False), "cpu", "float32")
    with pytest.raises(EngineError, match="without dropped conditions"):
        pairs_against(plain, ASKED, people(1), "none")


def test_identical_conditions_differ_by_exactly_nothing(renderer) -> None:
    mean = renderer.fnc.of(renderer.fnc.mean)
    pairs = pairs_against(renderer, ASKED, [mean], "mean")
    made = finish(contrasted(renderer, pairs, "mean", 2, 0))
    assert np.abs(made.compared.mean.data).max() == 0
    assert judge(made).flags.count("global") == 0


def test_the_null_is_of_random_pairs_under_one_noise(renderer) -> None:
    pairs = pairs_against(renderer, ASKED, people(1), "mean")
    made = finish(contrasted(renderer, pairs, "mean", 2, 3))
    assert made.null.shape == (3, *renderer.card.grid.shape)
    assert all(np.abs(one).max() > 0 for one in made.null)
    percentile = made.percentile()
    assert percentile is not None
    mean = np.abs(made.compared.mean.data)
    by_hand = sum((np.abs(one) < mean).astype(float) for one in made.null) / 3
    np.testing.assert_allclose(percentile.data, 100 * by_hand, atol=1e-4)
    record = dict(made.compared.record.parameters)
    assert record["against"] == AGAINST["mean"]


def test_random_people_are_within_their_null_and_none_is_lost(renderer) -> None:
    """A group whose pairs are null pairs; one pair's limit would be far too wide."""
    law = renderer.checkpoint.fnc_law()
    group = [random(law, n) for n in range(8)]
    pairs = pairs_against(renderer, ASKED, group, "random")
    made = finish(contrasted(renderer, pairs, "random", 1, 8))
    mean = np.abs(made.compared.mean.data[made.mask]).mean()
    single = np.percentile(np.abs(made.null[:, made.mask]).mean(1), 95)
    limit = judge(made).null95
    assert limit is not None and limit < 0.7 * single
    assert mean < 1.5 * limit


# flags --------------------------------------------------------------------------------


def box() -> np.ndarray:
    """A body of smooth ups and downs."""
    i, j, k = np.indices(SHAPE)
    return 0.5 + 0.2 * np.sin(i / 2) * np.cos(j / 2) * np.cos(k / 3)


def test_a_shifted_picture_is_flagged_as_edges() -> None:
    waves = np.broadcast_to(
        0.5 + 0.2 * np.sin(np.arange(18) / 2)[:, None, None], (18, *SHAPE[1:])
    )
    shift = (waves[2:] - waves[:-2]) / 2
    assert "edge" in judge(made_of(shift[None], waves[1:-1])).flags
    noise = np.random.default_rng(0).normal(0, 0.1, (1, *SHAPE))
    assert "edge" not in judge(made_of(noise, box())).flags


def test_a_change_of_everything_is_flagged_as_global() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (1, *SHAPE))
    assert "global" not in judge(made_of(noise, box())).flags
    assert "global" in judge(made_of(noise + 0.2, box())).flags


def test_less_than_the_decoder_errs_is_flagged_by_region() -> None:
    rng = np.random.default_rng(0)
    change = rng.normal(0, 0.01, (1, *SHAPE))
    change[:, : SHAPE[0] // 2] *= 20
    made = made_of(change, box(), error=0.05)
    rows = contrast_table(made, atlas(GRID)).contrasts
    flags = {row.name: row.flags for row in rows}
    assert "decoder" in flags["right half"]
    assert "decoder" not in flags["left half"]
    assert "small" in flags["crumb"]
    assert flagged(rows, atlas(GRID), made)  # again on flagged rows is fine


def test_a_small_change_of_everybody_is_outlined_only_above_the_decoders_error() -> (
    None
):
    rng = np.random.default_rng(0)
    change = 0.01 + rng.normal(0, 0.001, (6, *SHAPE))  # everybody, everywhere, a little
    change[:, 2:5, 2:5, 2:5] += 0.2
    made = made_of(change, box(), error=0.05)
    here = np.zeros(SHAPE, bool)
    here[2:5, 2:5, 2:5] = True
    assert (np.abs(made.effect.data[made.mask]) > 0.8).all()
    np.testing.assert_array_equal(made.beyond(0.8), here & made.mask)
    np.testing.assert_array_equal(made.beyond(0.0), made.mask)
    table = cluster_table(made, atlas(GRID), 0.8)
    assert [row.values[0] for row in table.rows] == [np.count_nonzero(here & made.mask)]
    assert "above 0.05" in table.title


# table and files ----------------------------------------------------------------------


def test_one_subject_alone_gets_no_p_value() -> None:
    rng = np.random.default_rng(0)
    made = made_of(rng.normal(0, 0.1, (1, *SHAPE)), box())
    table = contrast_table(made, atlas(GRID))
    assert not {"p (FWE)", "q", "t", "g"} & set(table.heads)
    lines = table.to_tsv().splitlines()
    assert lines[0].split("\t") == list(COLUMNS)
    cells = [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines[1:]]
    assert all(c["p_fwe"] == c["p_perm"] == c["q_fdr"] == "n/a" for c in cells)
    assert "no p-values" in table.title


def test_one_seed_of_one_subject_has_no_spread() -> None:
    rng = np.random.default_rng(0)
    many = made_of(rng.normal(0, 0.1, (1, *SHAPE)), box())
    assert {"sd", "effect"} <= set(maps_of(many))
    alone = replace(many, compared=replace(many.compared, seeds=1))
    assert not {"sd", "effect"} & set(maps_of(alone))
    assert all(
        row.sd_seed is None for row in contrast_table(alone, atlas(GRID)).contrasts
    )
    assert "two seeds or more" in alone.compared.sentence()
    assert "two seeds" not in many.compared.sentence()


def test_the_table_begins_with_the_largest_effect() -> None:
    rng = np.random.default_rng(0)
    change = rng.normal(0, 0.05, (8, *SHAPE))
    change[:, SHAPE[0] // 2 :] += 0.5
    table = contrast_table(made_of(change, box()), atlas(GRID))
    assert table.rows[0].name == "right half"
    assert table.contrasts[0].rank == 1
    assert "p (FWE)" in table.heads
    assert len({len(row.values) for row in table.rows}) == 1
    assert len(table.heads) == 1 + len(table.rows[0].values)


def test_everything_is_written_with_its_sentence(renderer, tmp_path: Path) -> None:
    two = people(2)
    pairs = pairs_against(renderer, ASKED, two, "mean")
    made = finish(contrasted(renderer, pairs, "mean", 2, 2))
    places = atlas(renderer.card.grid)
    tested = finish(voxel_test(made.compared.differences, made.mask, 20))
    other = replace(places, name="Elsewhere")
    reading = Reading(places, 0.5, tested, other)
    written = write_contrast(renderer, made, reading, tmp_path / "study.nii.gz")
    assert all(path.is_file() for path in written)
    ends = {path.name.partition("synthetic_")[2] for path in written}
    assert {"regions.tsv", "clusters.tsv", "summary.json"} <= ends
    drawn = {f"{name}.{kind}" for name in DRAWN for kind in ("png", "svg")}
    assert drawn <= ends
    further = {"mask", "ci-low", "ci-high", "sd-seeds", "same-sign", "q", "t"}
    further |= {"tfce", "logp-max-t", "logp-max-tfce"}
    names = {path.name.partition("_desc")[0].removeprefix("study_") for path in written}
    assert further <= names
    (q,) = [
        p for p in written if p.name.startswith("study_q_") and "json" not in p.name
    ]
    assert nib.load(q).get_fdata().max() <= 1
    (change,) = [p for p in written if "_difference_" in p.name]
    np.testing.assert_allclose(
        nib.load(change).get_fdata(), made.compared.mean.data, atol=1e-6
    )
    (path,) = [p for p in written if p.name.endswith("summary.json")]
    told = json.loads(path.read_text())
    assert told["Inference"] == made.compared.sentence()
    assert told["VoxelTest"] == tested.told() and told["Threshold"] == 0.5
    assert told["Atlas"]["sha256"] == places.digest
    assert told["RegionTable"].startswith(places.name)
    assert told["AtlasOfClusters"]["name"] == "Elsewhere"
    assert "Elsewhere" in told["ClusterTable"]
    assert told["Subjects"] == 2 and told["Seeds"] == 2 and told["Synthetic"]
    assert set(told["Connectivity"].values()) == {"sub-0", "sub-1", "training mean"}
    sidecar = json.loads(change.with_name(change.name[:-7] + ".json").read_text())
    for key in ("Inference", "Smoothing", "Mask", "Atlas"):
        assert sidecar[key] == told[key]
    assert (sidecar["Map"], sidecar["Intensity"]) == ("difference", "A minus B")
    held = {
        told["Map"]: told["Intensity"]
        for path in tmp_path.glob("*_T1w.json")
        for told in [json.loads(path.read_text())]
    }
    assert held["A"] == held["B"] == renderer.card.intensity.scaling
    assert held["logp-max-t"] == "-log10 p (family-wise)"
    assert len(set(held.values())) > 10  # no map passes for a picture
    assert len(sidecar["Derived"]["requests"]) == 8


def planted(people: int) -> Contrasted:
    """A above B in a block of the right half, below it in one of the left."""
    rng = np.random.default_rng(2)
    change = rng.normal(0, 0.02, (people, *SHAPE))
    change[:, 10:14, 4:8, 4:8] += 0.2
    change[:, 2:5, 4:8, 4:8] -= 0.2
    return made_of(change, box())


def test_clusters_of_both_signs_are_tabled() -> None:
    table = cluster_table(planted(6), atlas(GRID), 3.0)
    assert [row.name[-5:] for row in table.rows] == ["A > B", "A < B"]
    head, first, second = (line.split("\t") for line in table.to_tsv().splitlines())
    assert tuple(head) == OF_CLUSTERS
    told = [dict(zip(head, cells, strict=True)) for cells in (first, second)]
    assert [one["sign"] for one in told] == ["positive", "negative"]
    assert [one["n_vox"] for one in told] == ["64", "48"]
    assert [one["place_1"] for one in told] == ["right half", "left half"]
    assert all(one["place_2"] == one["overlap_pct_2"] == "n/a" for one in told)
    # g = J dz, J = 1 - 3 / (4 df - 1), df = 5
    for one in told:
        assert float(one["mean_effect"]) == pytest.approx(
            float(one["mean_dz"]) * (1 - 3 / 19), rel=1e-4
        )
    assert "no test" in table.title


def test_clusters_of_one_subject_have_no_dz_and_none_without_a_threshold() -> None:
    table = cluster_table(planted(1), atlas(GRID), 3.0)
    lines = [line.split("\t") for line in table.to_tsv().splitlines()]
    place = lines[0].index("mean_dz")
    assert len(lines) > 1 and all(line[place] == "n/a" for line in lines[1:])
    assert not cluster_table(planted(6), atlas(GRID), 0.0).rows
    assert "Outline from" in cluster_table(planted(6), atlas(GRID), 0.0).title


def test_a_global_shift_is_shown_beside_what_is_left_without_it() -> None:
    rng = np.random.default_rng(0)
    made = made_of(rng.normal(0.2, 0.1, (4, *SHAPE)), box())
    left = maps_of(made)["adjusted"].data
    mean = made.compared.mean.data
    np.testing.assert_allclose(left, mean - mean[made.mask].mean(), atol=1e-6)
    assert "adjusted" not in maps_of(planted(4))


def test_every_row_names_the_edition_of_its_atlas() -> None:
    places = atlas(GRID)
    rows = contrast_table(planted(3), places).contrasts
    assert {row.atlas_version for row in rows} == {f"sha256 {places.digest[:12]}"}
    other = Atlas("halves", places.labels[::-1].copy(), GRID, places.regions)
    assert other.digest != places.digest


@pytest.mark.parametrize("people", [1, 6])
def test_figures_are_drawn_without_a_window(people: int) -> None:
    import matplotlib.pyplot as plt

    made = planted(people)
    table = contrast_table(made, atlas(GRID))
    drawn = figures(made, table, 3.0)
    assert tuple(drawn) == DRAWN
    for figure in drawn.values():
        assert encoded(figure, "png").startswith(b"\x89PNG")
        words = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
        assert made.compared.sentence() in words and words.startswith("Synthetic")
    assert not plt.get_fignums()
    bars = drawn["region-bars"]
    assert encoded(bars, "svg") == encoded(bars, "svg")
    (axes,) = bars.axes
    lengths = {patch.get_width() for patch in axes.patches}
    values = {row.diff for row in table.contrasts if row.n_vox >= 20}
    assert sorted(lengths) == pytest.approx(sorted(values))
    assert any("p < 0.05" in text.get_text() for text in bars.texts) is (people > 1)


def test_a_map_of_nothing_can_be_drawn() -> None:
    made = made_of(np.zeros((2, *SHAPE)), box())
    for figure in figures(made, contrast_table(made, atlas(GRID)), 1.0).values():
        assert encoded(figure, "png")

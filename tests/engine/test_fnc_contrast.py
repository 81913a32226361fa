"""Contrasts of connectivity: their pairs, their null, their flags, their files."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_brainldm.engine.atlas import Atlas, Region
from napari_brainldm.engine.compared import Compared
from napari_brainldm.engine.compared_regions import COLUMNS
from napari_brainldm.engine.contrast_export import contrast_table, write_contrast
from napari_brainldm.engine.contrast_flags import flagged, judge
from napari_brainldm.engine.fnc import Fnc
from napari_brainldm.engine.fnc_contrast import (
    AGAINST,
    Contrasted,
    contrasted,
    pairs_against,
)
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
from tests.tiny import tiny_gm_ldm

ASKED = Request(origin=Seed(3), sampler=Sampler("ddim", 2))
SHAPE = (16, 14, 12)
GRID = Grid.of(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(tiny_gm_ldm(), "cpu", "float32")


def people(count: int) -> list[Fnc]:
    rng = np.random.default_rng(1)
    return [
        Fnc(rng.normal(0, 0.5, 10).astype(np.float32), f"sub-{n}") for n in range(count)
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
        pairs_against(renderer, ASKED, three, against)
    ):
        assert first.conditions.fnc == three[number].digest
        assert first.origin == second.origin and first.sampler == second.sampler
        same = first.conditions == second.conditions and first.guidance == (
            second.guidance
        )
        assert not same
        assert (second.guidance == 0) is (against == "none")


def test_another_subject_is_everybodys_next_and_never_oneself(renderer) -> None:
    three = people(3)
    pairs = pairs_against(renderer, ASKED, three, "another")
    seconds = [second.conditions.fnc for _, second in pairs]
    assert seconds == [three[n].digest for n in (1, 2, 0)]
    (alone,) = pairs_against(renderer, ASKED, three[:1], "another", three)
    assert alone[1].conditions.fnc == three[1].digest
    with pytest.raises(EngineError, match="no other subject"):
        pairs_against(renderer, ASKED, three[:1], "another", three[:1])


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
    table = contrast_table(made, atlas(renderer.card.grid))
    written = write_contrast(renderer, made, table, tmp_path / "study.nii.gz")
    assert all(path.is_file() for path in written)
    (change,) = [p for p in written if "_difference_" in p.name]
    np.testing.assert_allclose(
        nib.load(change).get_fdata(), made.compared.mean.data, atol=1e-6
    )
    (path,) = [p for p in written if p.name.endswith("summary.json")]
    told = json.loads(path.read_text())
    assert told["Inference"] == made.compared.sentence()
    assert told["Subjects"] == 2 and told["Seeds"] == 2 and told["Synthetic"]
    assert set(told["Connectivity"].values()) == {"sub-0", "sub-1", "training mean"}
    sidecar = json.loads(change.with_name(change.name[:-7] + ".json").read_text())
    assert sidecar["Inference"] == told["Inference"]
    assert len(sidecar["Derived"]["requests"]) == 8

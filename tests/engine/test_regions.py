"""Claims about tables of regions."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest

from napari_brainldm.engine.asked import Findings, findings
from napari_brainldm.engine.atlas import Atlas, Region
from napari_brainldm.engine.networks.segmenter import STRUCTURES
from napari_brainldm.engine.regions import of_atlas, of_structures
from napari_brainldm.engine.request import Conditions
from napari_brainldm.engine.volume import Volume, mni_grid
from tests.tiny import hard, tiny_checkpoint

GRID = mni_grid(4.0)


def found(width: int) -> Findings:
    """A left caudate (11) `width` voxels wide, and a right one (50) of 2."""
    labels = np.zeros(GRID.shape, np.int32)
    labels[10 : 10 + width, 20:24, 20:24] = 11
    labels[28:30, 20:24, 20:24] = 50
    segmentation = hard(labels, GRID, STRUCTURES, "a test")
    return findings(segmentation, tiny_checkpoint().card, Conditions())


def row(table, name):
    return next(one for one in table.rows if one.name == name)


def test_change_is_now_minus_the_reference():
    table = of_structures(found(3), found(2))
    now, before = 3 * 16 * 0.064, 2 * 16 * 0.064
    assert row(table, "Left caudate").values == pytest.approx(
        (now, before, now - before, 50.0)
    )
    assert row(table, "Right caudate").values[2:] == pytest.approx((0, 0))
    x, y, z = row(table, "Left caudate").centre
    inverse = np.linalg.inv(GRID.matrix)
    assert (inverse @ [x, y, z, 1])[0] == pytest.approx(11)


def test_without_a_reference_only_the_volumes_stand_there():
    values = row(of_structures(found(3), None), "Left caudate").values
    assert values[1:] == (None, None, None)


def test_what_was_not_there_before_grew_without_bound():
    before = found(2)
    gone = tuple(replace(e, ml=0.0) if e.index == 11 else e for e in before.legend)
    values = row(of_structures(found(3), replace(before, legend=gone)), "Left caudate")
    assert values.values[3] == math.inf


def test_structures_without_a_voxel_have_no_place():
    assert row(of_structures(found(3), None), "Left putamen").centre is None


def test_an_atlas_is_brought_onto_the_picture():
    labels = np.zeros(mni_grid(2.0).shape, np.int32)
    labels[:40], labels[40:] = 1, 2
    regions = Region(1, "left half"), Region(2, "right half")
    atlas = Atlas("halves", labels, mni_grid(2.0), regions, "free")
    data = np.zeros(GRID.shape, np.float32)
    data[:20] = 0.5
    table = of_atlas(atlas, Volume(data, GRID.matrix), Volume(0 * data, GRID.matrix))
    assert row(table, "left half").values[:3] == pytest.approx((0.5, 0, 0.5), abs=0.02)
    assert row(table, "right half").values[:3] == pytest.approx((0, 0, 0), abs=0.02)
    assert "free" in table.title


def test_a_table_can_be_read_back():
    table = of_structures(found(3), None)
    lines = list(csv.DictReader(io.StringIO(table.to_tsv()), delimiter="\t"))
    assert len(lines) == len(table.rows)
    caudate = next(line for line in lines if line["structure"] == "Left caudate")
    assert float(caudate["ml"]) == pytest.approx(3 * 16 * 0.064, rel=1e-5)
    assert caudate["reference ml"] == "n/a"
    assert float(caudate["x_mm"]) == row(table, "Left caudate").centre[0]

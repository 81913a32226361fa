"""Asked against got: the table's numbers, and the names of a label map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_brainldm.engine.asked import (
    Entry,
    Findings,
    Line,
    beside,
    compare,
    findings,
    legend,
    volumes_asked,
)
from napari_brainldm.engine.card import Card
from napari_brainldm.engine.measure import Measured
from napari_brainldm.engine.networks.segmenter import STRUCTURES
from napari_brainldm.engine.request import Conditions
from napari_brainldm.engine.volume import mni_grid
from tests.tiny import VOCABULARY, hard

CARD = Card("brain-ldm", "Tiny", mni_grid(8.0), vocabulary=VOCABULARY, head_size=1500.0)
MEASURED = Measured(
    ventricles=22.0,
    brain=1100.0,
    hippocampus=7.0,
    icv=1650.0,
    structures=tuple((s.name, 3.0, 4.0) for s in STRUCTURES),
)
ASKED = Conditions.of({"ventricles": 20.0, "brain": 1250.0})


def lines(card: Card = CARD, measured: Measured | None = MEASURED) -> dict[str, Line]:
    return {line.name: line for line in compare(card, ASKED, measured)}


def test_a_line_gives_the_difference_in_ml_and_percent() -> None:
    line = lines()["ventricles"]
    assert (line.asked, line.got) == (20.0, 22.0)
    assert (line.difference, line.percent) == pytest.approx((2.0, 10.0))


def test_where_nobody_asks_two_pictures_are_compared() -> None:
    silent = replace(CARD, vocabulary=())
    then = replace(MEASURED, ventricles=20.0)
    now, before = (compare(silent, Conditions(), m) for m in (MEASURED, then))
    found = {line.name: line for line in beside(now, before)}
    assert found["ventricles"].difference == pytest.approx(2.0)
    assert found["hippocampus"].difference == 0.0
    asking = compare(CARD, ASKED, MEASURED)
    assert beside(asking, asking) == ()


def test_the_brain_is_scaled_to_the_head_size_of_the_card() -> None:
    line = lines()["brain"]
    assert line.got == pytest.approx(1100.0 * 1500.0 / 1650.0)
    assert line.percent == pytest.approx(-20.0)
    assert "head of 1500 ml" in line.note
    assert "in the picture: 1100 ml" in line.note


def test_without_a_head_size_the_brain_is_measured_only() -> None:
    line = lines(replace(CARD, head_size=0.0))["brain"]
    assert (line.asked, line.got, line.difference) == (None, 1100.0, None)


def test_only_volumes_that_can_be_asked_for_become_conditions() -> None:
    wanted = {"ventricles": 22.0, "brain": pytest.approx(1000.0)}
    assert volumes_asked(CARD, MEASURED) == wanted
    ageless = replace(CARD, vocabulary=VOCABULARY[:2])
    assert volumes_asked(ageless, MEASURED) == {}


def test_hippocampus_and_head_are_measured_only() -> None:
    found = lines()
    assert [found[n].asked for n in ("hippocampus", "icv")] == [None, None]
    assert [found[n].got for n in ("hippocampus", "icv")] == [7.0, 1650.0]
    assert "Left 3.0 ml, right 4.0 ml." in found["hippocampus"].note


def test_a_condition_left_out_was_asked_at_its_reference_value() -> None:
    [line, *_] = compare(CARD, Conditions(), MEASURED)
    assert line.asked == 20.0


def test_a_condition_that_is_no_volume_in_ml_is_not_compared() -> None:
    scores = tuple(replace(c, unit="") for c in VOCABULARY)
    found = lines(replace(CARD, vocabulary=scores))
    assert [line.asked for line in found.values()] == [None] * 4


def test_nothing_is_invented_before_the_measurement() -> None:
    for line in lines(measured=None).values():
        assert (line.got, line.difference, line.percent) == (None, None, None)


def test_zero_asked_has_a_difference_but_no_percent() -> None:
    line = Line("ventricles", "", "", 0.0, 3.0)
    assert (line.difference, line.percent) == (3.0, None)


def test_the_legend_names_every_index_once_and_adds_up() -> None:
    entries = legend(STRUCTURES, MEASURED)
    assert len({entry.index for entry in entries}) == len(entries)
    assert sum(entry.ml for entry in entries) == pytest.approx(7.0 * len(STRUCTURES))
    assert Entry(17, "Left hippocampus", 3.0) in entries
    assert Entry(43, "Right lateral ventricle", 4.0) in entries
    assert Entry(24, "CSF", 7.0) in entries
    assert Entry(14, "Other ventricles", 7.0) in entries


def test_findings_of_a_label_map_are_its_voxels() -> None:
    grid = mni_grid(8.0)
    labels = np.full(grid.shape, 2, np.uint16)
    labels[10:] = 41
    labels[9, :5], labels[10, :5] = 4, 43
    found = findings(hard(labels, grid, STRUCTURES, "hand"), CARD, ASKED)
    assert isinstance(found, Findings)
    assert np.array_equal(found.labels, labels)
    assert found.lines[0].got == pytest.approx(2 * 5 * 20 * 0.512)
    named = {entry.name: entry.ml for entry in found.legend}
    assert named["Left lateral ventricle"] == pytest.approx(5 * 20 * 0.512)
    assert found.method == "hand"

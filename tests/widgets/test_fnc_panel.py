"""Claims about the matrix of connectivity: what it begins with, and goes back to."""

from __future__ import annotations

import numpy as np
import pytest

from napari_brainldm.engine.components import Component
from napari_brainldm.engine.fnc import FncTable
from napari_brainldm.engine.fnc_edit import law_of
from napari_brainldm.engine.lineage import without
from napari_brainldm.widgets.fnc_panel import FncPanel
from napari_brainldm.widgets.fnc_source import DRAWN, TRAINING

COMPONENTS = tuple(Component(n, "", d) for n, d in enumerate("AABBB", start=1))


def people(centre: float) -> np.ndarray:
    rng = np.random.default_rng(round(10 + 10 * centre))
    return rng.normal(centre, 0.2, (9, 10)).astype(np.float32)


@pytest.fixture
def panel(qtbot) -> FncPanel:
    made = FncPanel()
    qtbot.addWidget(made)
    made.prepare(law_of(people(0.3)), COMPONENTS)
    return made


@pytest.fixture
def table() -> FncTable:
    names = tuple(f"sub-{n:02d}" for n in range(1, 10))
    return FncTable(names, people(0.5), COMPONENTS)


@pytest.mark.parametrize("begun", [TRAINING, DRAWN])
def test_another_model_begins_with_its_own_mean(panel, begun):
    panel.source.pick(begun)
    other = law_of(people(-0.3))
    panel.prepare(other, COMPONENTS)
    assert np.array_equal(panel.fnc.vector, other.mean)
    assert panel.source.picker.currentData() == TRAINING


def test_another_model_keeps_a_person_and_what_was_changed(panel, table):
    panel.show_table(table)
    panel.source.pick("sub-03")
    panel.zero.click()
    edited = panel.fnc.digest
    panel.prepare(law_of(people(-0.3)), COMPONENTS)
    assert panel.fnc.digest == edited
    assert panel.source.picker.currentData() == "sub-03"
    panel.reset.click()
    assert panel.fnc.digest == table.of("sub-03").digest


def test_a_former_request_brings_its_person_into_the_list(panel, table):
    panel.show_table(table)
    panel.source.pick("sub-02")
    former = without(table.of("sub-01"), COMPONENTS, "A")
    panel.show_fnc(former)
    assert panel.source.picker.currentData() == "sub-01"
    panel.reset.click()
    assert panel.fnc.digest == table.of("sub-01").digest


def test_a_person_who_is_not_loaded_is_nobody_of_the_list(panel, table):
    panel.show_fnc(table.of("sub-04"))
    assert panel.source.picker.currentIndex() == -1
    panel.zero.click()
    panel.reset.click()
    assert panel.fnc.digest == table.of("sub-04").digest

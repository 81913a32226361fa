"""What a comparison leads to: clusters, figures, a test of voxels; and the sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_brainldm.engine import resources
from napari_brainldm.engine.attention import Attended
from napari_brainldm.engine.fnc_contrast import Contrasted
from napari_brainldm.engine.fnc_sample import sample_fnc
from napari_brainldm.engine.lineage import scaled
from napari_brainldm.engine.request import EngineError
from napari_brainldm.widgets import samples
from napari_brainldm.widgets.connectivity import ConnectivityDock
from napari_brainldm.widgets.contrast_tables import CLUSTERS, FIGURES, REGIONS
from napari_brainldm.widgets.figures_panel import TITLES
from tests.widgets.bundle import PEOPLE, bundle_tiny, people
from tests.widgets.conftest import assert_settled, settle

PLUGIN = "napari-brainldm"


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "resources"
    folder.mkdir()
    return bundle_tiny(folder, monkeypatch)


@pytest.fixture
def dock(
    make_napari_viewer_proxy: Any, qtbot: Any, bundle: Path, docks: list[Any]
) -> ConnectivityDock:
    """A dock that was told no checkpoint."""
    viewer = make_napari_viewer_proxy(strict_qt="raise")
    dock = ConnectivityDock(viewer)
    viewer.window.add_dock_widget(dock, name="Connectivity")
    docks.append(dock)
    assert_settled(qtbot, dock)
    dock.form.sampler.steps.setValue(2)  # type: ignore[union-attr]
    assert_settled(qtbot, dock)
    return dock


def compare(qtbot: Any, dock: ConnectivityDock, whose: str = "everybody") -> None:
    """Compare with the mean, under one seed each."""
    panel = dock.contrast
    panel.whose.setCurrentIndex(panel.whose.findData(whose))
    panel.against.setCurrentIndex(panel.against.findData("mean"))
    panel.seeds.setValue(1 if whose == "everybody" else 2)
    panel.nulls.setValue(0)
    panel.begin.click()
    assert_settled(qtbot, dock)


@pytest.fixture
def compared(qtbot: Any, dock: ConnectivityDock, tmp_path: Path) -> ConnectivityDock:
    """Six of the simulated people, compared."""
    table = sample_fnc()
    few = table.participants[:6]
    some = type(table)(few, table.vectors[:6], table.components)
    dock.matrices.show_table(some)
    dock.contrast.prepare(some)
    assert_settled(qtbot, dock)
    compare(qtbot, dock)
    return dock


# -- the sample --------------------------------------------------------------------


def test_the_dock_works_at_once_on_its_sample(
    qtbot: Any, dock: ConnectivityDock
) -> None:
    assert dock.desk.renderer is not None  # nobody pressed Open
    assert dock.matrices.source.sample.isEnabled()
    dock.matrices.source.sample.click()
    assert_settled(qtbot, dock)
    source = dock.matrices.source
    assert source.words.text().startswith("Simulated people. 40 participants")
    assert source.picker.currentText() == "sub-00"
    assert dock.matrices.first.count() == 2  # named by the table beside it
    offered = [dock.contrast.whose.itemText(n) for n in range(2)]
    assert offered[1] == f"All {PEOPLE} subjects of the table"
    fnc = dock.matrices.fnc
    assert fnc is not None
    np.testing.assert_allclose(fnc.vector, people(1)[0].vector, rtol=1e-5, atol=1e-5)


def test_open_sample_brings_dock_and_people(
    make_napari_viewer_proxy: Any,
    qtbot: Any,
    bundle: Path,
    docks: list[Any],
    root: Path,
    npe2pm: Any,
) -> None:
    viewer = make_napari_viewer_proxy()
    with npe2pm.tmp_plugin(manifest=str(root / "napari.yaml")):
        [layer] = viewer.open_sample(PLUGIN, "fnc")
        # the dock is there, its model still on its way
        _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Connectivity")
    docks.append(dock)
    assert_settled(qtbot, dock)
    assert dock.matrices.source.table.participants == sample_fnc().participants
    assert dock.desk.layer is not None and dock.desk.layer.visible
    assert layer.data.shape == (PEOPLE, 5, 5) and not layer.visible
    np.testing.assert_allclose(layer.data[3], people(4)[3].matrix, atol=1e-5)
    low, high = layer.contrast_limits
    assert low == -high


def test_without_the_files_nothing_is_offered(
    make_napari_viewer_proxy: Any, docks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_found", lambda _: None)
    assert resources.bundled_fnc() is None
    with pytest.raises(EngineError, match="No simulated connectivity comes with"):
        samples.connectivity()
    dock = ConnectivityDock(make_napari_viewer_proxy())
    docks.append(dock)
    assert dock.matrices.source.sample.isHidden()


def test_matrices_are_made_without_a_viewer(bundle: Path) -> None:
    [(data, keywords, kind)] = samples.connectivity()
    assert data.shape == (PEOPLE, 5, 5) and kind == "image" and keywords["visible"]


# -- clusters and figures ----------------------------------------------------------


def test_clusters_follow_the_outline(
    qtbot: Any, compared: ConnectivityDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nothing is above the error of an autoencoder that was never trained
    compared.contrast.threshold.setValue(0.2)
    compared.contrast.clusters.click()
    assert_settled(qtbot, compared)
    assert not compared.contrasts.tables.panels[CLUSTERS].model.table.rows
    monkeypatch.setattr(Contrasted, "least", 0.0)
    compared.contrast.threshold.setValue(0.3)
    compared.contrast.clusters.click()
    assert_settled(qtbot, compared)
    panel = compared.contrasts.tables.panels[CLUSTERS]
    few = panel.model.table
    assert few.rows and "Both signs" in few.title
    compared.contrast.threshold.setValue(0.1)
    assert_settled(qtbot, compared)
    more = panel.model.table
    voxels = [sum(c.n_vox for c in table.clusters) for table in (few, more)]
    assert voxels[1] > voxels[0]
    panel.view.clicked.emit(panel.sorted.index(0, 0))
    x, y, z = more.rows[0].centre
    assert compared._viewer.dims.point == pytest.approx((z, y, x), abs=8)
    compared.contrast.threshold.setValue(0.0)
    assert_settled(qtbot, compared)
    assert not panel.model.table.rows and "No threshold" in panel.words.text()


def test_figures_are_looked_at_before_they_are_written(
    qtbot: Any, compared: ConnectivityDock
) -> None:
    compared.contrast.figures.click()
    assert_settled(qtbot, compared)
    tabs = compared.contrasts.tables.panels[FIGURES].tabs
    names = [tabs.tabText(n) for n in range(tabs.count())]
    assert names == list(TITLES.values())
    assert all(
        not tabs.widget(n).widget().picture.isNull() for n in range(tabs.count())
    )
    compared.contrast.begin.click()
    assert tabs.count() == 0  # they are of what is compared no more
    assert_settled(qtbot, compared)
    assert tabs.count() == 3


def test_an_impatient_hand_gets_all_it_asked_for(
    qtbot: Any, compared: ConnectivityDock
) -> None:
    panel = compared.contrast
    for button in (panel.figures, panel.table, panel.clusters, panel.table):
        button.click()
    panel.threshold.setValue(0.4)
    assert_settled(qtbot, compared)
    panels = compared.contrasts.tables.panels
    assert panels[FIGURES].tabs.count() == 3
    assert len(panels[REGIONS].model.table.rows) > 60
    assert "≥ 0.4" in panels[CLUSTERS].words.text()


# -- a test of voxels --------------------------------------------------------------


def test_an_edited_person_is_compared_with_whom_is_chosen(
    qtbot: Any, dock: ConnectivityDock
) -> None:
    """And never with its own original, though that one comes first."""
    dock.open_sample()
    assert_settled(qtbot, dock)
    panel, table = dock.contrast, dock.matrices.source.table
    assert table is not None and dock.matrices.fnc is not None
    dock.matrices.show_fnc(scaled(table.people()[0], table.components, "SC", "CB", 0.5))
    assert not panel.whom.isEnabled()
    panel.against.setCurrentIndex(panel.against.findData("another"))
    assert panel.whom.isEnabled() and panel.whom.count() == 1 + PEOPLE
    panel.seeds.setValue(1)
    panel.nulls.setValue(0)
    for chosen, other in (("", 1), ("sub-07", 7)):
        panel.whom.setCurrentIndex(panel.whom.findData(chosen))
        panel.begin.click()
        assert_settled(qtbot, dock)
        made = dock.contrasts.made
        assert made is not None
        _, second = made.compared.record.requests
        assert second.conditions.fnc == table.people()[other].digest
    panel.whom.setCurrentIndex(panel.whom.findData("sub-00"))
    panel.begin.click()
    assert "no other subject" in dock.error.words.text()


def test_voxels_are_tested_told_and_written(
    qtbot: Any, compared: ConnectivityDock, tmp_path: Path
) -> None:
    voxels = compared.contrast.voxels
    assert voxels.begin.isEnabled() and voxels.flips.value() == 5000
    voxels.flips.setValue(100)
    voxels.begin.click()
    assert_settled(qtbot, compared)
    tested = compared.contrasts.tested
    assert tested is not None and tested.flips == 100
    assert voxels.words.text() == tested.told()
    for name, kept in tested.beyond().items():
        shown = f"p ≤ 0.05 ({name})" in compared._viewer.layers
        assert shown is bool(kept.any())
    compared.contrasts.write(tmp_path / "study.nii.gz")
    assert_settled(qtbot, compared)
    names = {path.name for path in tmp_path.iterdir()}
    assert "study_logp-max-tfce_desc-synthetic_T1w.nii.gz" in names
    assert "study_desc-synthetic_glass-brain.svg" in names
    compared.contrast.begin.click()
    assert compared.contrasts.tested is None
    assert_settled(qtbot, compared)


def test_a_comparison_that_is_refused_leaves_the_one_there_is(
    qtbot: Any, compared: ConnectivityDock
) -> None:
    made, layers = compared.contrasts.made, list(compared._viewer.layers)
    compared.contrast.voxels.flips.setValue(5000)
    compared.contrast.voxels.begin.click()
    compared.contrast.begin.click()
    assert "A test of voxels is still at work" in compared.error.words.text()
    assert compared.contrasts.made is made
    assert list(compared._viewer.layers) == layers
    compared.cancel()
    settle(qtbot, compared)


def test_one_subject_cannot_be_tested(qtbot: Any, dock: ConnectivityDock) -> None:
    dock.matrices.source.pick("random")
    assert_settled(qtbot, dock)
    compare(qtbot, dock, "this connectivity")
    voxels = dock.contrast.voxels
    assert not voxels.begin.isEnabled()
    assert "no p-value" in voxels.words.text()
    assert dock.contrast.figures.isEnabled()


# -- attention ---------------------------------------------------------------------


def test_attention_comes_last_and_is_called_descriptive(
    qtbot: Any, dock: ConnectivityDock
) -> None:
    panel = dock.saliency
    dock.matrices.source.sample.click()
    assert_settled(qtbot, dock)
    last = panel.method.count() - 1
    assert panel.method.itemData(last) == "attention"
    assert "descriptive" in panel.method.itemText(last)
    panel.method.setCurrentIndex(last)
    panel.begin.click()
    assert_settled(qtbot, dock)
    found = dock.salient.found
    assert found is not None and isinstance(found.value, Attended)
    assert ": sub-00. Descriptive: " in panel.words.text()
    assert found.sanity is not None
    assert f"Spearman {found.sanity.spearman:.2f}" in panel.sanity.text()
    panel.blocks.clicked.emit(1, 3)
    layer = dock._viewer.layers["Attention to SC–CB"]
    np.testing.assert_array_equal(layer.data.T, found.value.maps[1])

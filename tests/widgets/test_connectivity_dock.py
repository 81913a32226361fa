"""The Connectivity dock: matrices, edits of them, and the gray matter made of them."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import QToolTip

from napari_brainldm.engine.checkpoint import save_checkpoint
from napari_brainldm.engine.components import Component
from napari_brainldm.engine.fnc import Fnc
from napari_brainldm.engine.fnc_contrast import pairs_against
from napari_brainldm.engine.fnc_edit import mean_of, scaled, swapped, without
from napari_brainldm.engine.fnc_file import write_fnc
from napari_brainldm.engine.heat import Heat, heat_of_fnc
from napari_brainldm.engine.renderer import finish
from napari_brainldm.widgets.connectivity import ConnectivityDock
from napari_brainldm.widgets.heat_map import HeatMap
from napari_brainldm.widgets.looks import DARK, LIGHT
from tests.tiny import tiny_gm_ldm
from tests.widgets.bundle import DOMAINS, people
from tests.widgets.conftest import assert_settled, close_for_good, is_gone, settle


@pytest.fixture(scope="session")
def gm_ldm_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gm_ldm") / "gm_ldm.safetensors"
    save_checkpoint(tiny_gm_ldm(), path)
    return path


@pytest.fixture
def table_file(tmp_path: Path) -> Path:
    path = tmp_path / "fnc.csv"
    path.write_text(write_fnc(people(3)))
    (tmp_path / "names.tsv").write_text(DOMAINS)
    return path


@pytest.fixture
def dock(
    make_napari_viewer_proxy: Any, qtbot: Any, gm_ldm_file: Path, docks: list[Any]
) -> ConnectivityDock:
    viewer = make_napari_viewer_proxy(strict_qt="raise")
    dock = ConnectivityDock(viewer, gm_ldm_file)
    viewer.window.add_dock_widget(dock, name="Connectivity")
    docks.append(dock)
    assert_settled(qtbot, dock)
    dock.form.sampler.steps.setValue(3)  # type: ignore[union-attr]
    assert_settled(qtbot, dock)
    return dock


def load(qtbot: Any, dock: ConnectivityDock, path: Path, named: bool = True) -> None:
    source = dock.matrices.source
    source.reading.scale.setCurrentIndex(source.reading.scale.findData("z"))
    if named:
        source.reading.set_path(source.reading.names, path.with_name("names.tsv"))
    source.opening.emit(source.reading.reading(path))
    settle(qtbot, dock)


def shown(dock: ConnectivityDock) -> np.ndarray:
    return np.array(dock.desk.layer.data)


def rendered(dock: ConnectivityDock, fnc: Fnc) -> np.ndarray:
    """What the engine alone makes of `fnc` with the controls as they are."""
    renderer = dock.desk.renderer
    assert renderer is not None and dock.desk.picture is not None
    digest = renderer.fnc.admit(fnc)
    request = dock.desk.picture.request
    conditions = type(request.conditions)(request.conditions.values, digest)
    asked = type(request)(conditions, request.origin, sampler=request.sampler)
    return finish(renderer.render(asked)).data.T


# -- loading -----------------------------------------------------------------------


def test_the_dock_begins_with_the_training_mean(dock: ConnectivityDock) -> None:
    fnc = dock.matrices.fnc
    assert fnc is not None
    np.testing.assert_array_equal(fnc.vector, tiny_gm_ldm().fnc_law().mean)
    assert "training mean" in dock.matrices.words.text()
    assert not dock.matrices.others.isEnabled()
    np.testing.assert_array_equal(shown(dock), rendered(dock, fnc))


def test_people_of_a_file_make_their_own_pictures(
    qtbot: Any, dock: ConnectivityDock, table_file: Path
) -> None:
    before = shown(dock)
    load(qtbot, dock, table_file)
    source = dock.matrices.source
    assert "3 participants, 5 components." in source.words.text()
    first = shown(dock)
    assert not np.array_equal(first, before)
    source.pick("sub-02")
    assert_settled(qtbot, dock)
    assert dock.matrices.fnc is not None
    np.testing.assert_allclose(
        dock.matrices.fnc.vector, people(3)[2].vector, atol=1e-5, rtol=1e-5
    )
    assert not np.array_equal(shown(dock), first)
    np.testing.assert_array_equal(shown(dock), rendered(dock, dock.matrices.fnc))
    dock.past.undo.click()
    assert_settled(qtbot, dock)
    np.testing.assert_array_equal(shown(dock), first)
    assert dock.matrices.words.text() == "sub-00"


def test_the_people_of_another_file_take_the_place_of_the_first(
    qtbot: Any, dock: ConnectivityDock, table_file: Path
) -> None:
    load(qtbot, dock, table_file)
    renamed = table_file.with_name("later.csv")
    renamed.write_text(table_file.read_text().replace("sub-", "pat-"))
    load(qtbot, dock, renamed)
    others = dock.matrices.others
    names = [others.itemText(n) for n in range(1, others.count())]
    assert len(names) >= 2 and all(name.startswith("pat-") for name in names)
    before = shown(dock)
    others.activated.emit(others.count() - 1)
    assert_settled(qtbot, dock)
    assert not np.array_equal(shown(dock), before)


def test_random_connectivity_is_another_one_each_time(
    qtbot: Any, dock: ConnectivityDock, table_file: Path
) -> None:
    load(qtbot, dock, table_file)
    source, seen = dock.matrices.source, []
    for what in ("random", "random", "mean of the table"):
        source.pick(what)
        assert dock.matrices.fnc is not None
        seen.append(dock.matrices.fnc)
    assert seen[0].digest != seen[1].digest
    assert source.table is not None
    assert seen[2].digest == mean_of(source.table).digest


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("fnc.csv", "Id,a\n1,2\n", "is no connectivity"),
        ("fnc.npy", b"nonsense", "cannot be read"),
        ("fnc.docx", "", "no file of connectivity"),
        ("six.csv", write_fnc(people(2, 6)), "has 6 components; Tiny GM-LDM knows 5"),
    ],
)
def test_what_cannot_be_read_is_told(
    qtbot: Any, dock: ConnectivityDock, tmp_path: Path, name: str, content: Any, words
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = dock.matrices.fnc
    load(qtbot, dock, path, named=False)
    assert words in dock.error.words.text().replace("holds numbers of the shape", "")
    assert dock.matrices.fnc is before
    assert dock.matrices.source.table is None


def test_a_model_without_connectivity_says_what_is_needed(
    qtbot: Any, dock: ConnectivityDock, tiny_checkpoint: Path
) -> None:
    dock.open(tiny_checkpoint)
    settle(qtbot, dock)
    assert "choose a GM-LDM checkpoint" in dock.error.words.text()
    assert dock.matrices.fnc is None
    assert not dock.matrices.source.isEnabled()
    dock.ask()
    assert not dock.desk.busy  # nothing is made


def test_without_a_bundled_model_the_dock_asks_for_one(
    make_napari_viewer_proxy: Any, docks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_brainldm.engine.resources._found", lambda _: None)
    dock = ConnectivityDock(make_napari_viewer_proxy())
    docks.append(dock)
    assert "Press Open… and choose one" in dock.error.words.text()


# -- edits -------------------------------------------------------------------------


def test_edits_are_those_of_the_engine(
    qtbot: Any, dock: ConnectivityDock, table_file: Path
) -> None:
    load(qtbot, dock, table_file)
    panel = dock.matrices
    table = panel.source.table
    assert table is not None
    known, own, other = table.components, table.of("sub-00"), table.of("sub-01")
    qtbot.mouseClick(
        panel.matrix,
        Qt.MouseButton.LeftButton,
        pos=panel.matrix.centre_of(0, 4).toPoint(),
    )
    assert (panel.first.currentText(), panel.second.currentText()) == ("SC", "CB")
    panel.slider.setValue(0.5)
    expected = scaled(own, known, "SC", "CB", 0.5)
    assert panel.fnc is not None and panel.fnc.digest == expected.digest
    assert panel.words.text() == "sub-00, SC-CB x 0.5"
    panel.others.setCurrentIndex(2)
    panel.others.activated.emit(2)
    expected = swapped(expected, other, known, "SC", "CB")
    assert panel.fnc.digest == expected.digest
    assert panel.slider.value() == 1.0  # what it did is kept
    panel.zero.click()
    assert panel.fnc.digest == without(expected, known, "SC").digest
    assert_settled(qtbot, dock)
    np.testing.assert_array_equal(shown(dock), rendered(dock, panel.fnc))
    panel.reset.click()
    assert panel.fnc.digest == own.digest


def test_a_moving_hand_sees_previews_alone(
    qtbot: Any, dock: ConnectivityDock, table_file: Path
) -> None:
    load(qtbot, dock, table_file)
    slider, seen = dock.matrices.slider, []
    dock.desk.shown.connect(lambda _, preview: seen.append(preview))
    slider.setSliderDown(True)
    for value in (0.8, 0.4, 0.0, -0.4):
        slider.setValue(value)
        qtbot.wait(30)
    qtbot.waitUntil(lambda: any(seen), timeout=30_000)
    assert all(seen)
    slider.setSliderDown(False)
    assert_settled(qtbot, dock)
    assert seen[-1] is False
    assert dock.matrices.fnc is not None
    np.testing.assert_array_equal(shown(dock), rendered(dock, dock.matrices.fnc))


def test_what_no_one_has_is_marked(qtbot: Any, dock: ConnectivityDock) -> None:
    assert dock.matrices.warning.text() == ""
    dock.matrices.slider.setValue(3.0)
    assert "Stronger than any connectivity" in dock.matrices.warning.text()


def test_maps_of_gray_matter_are_not_segmented(dock: ConnectivityDock) -> None:
    assert dock.desk.segmenter is None
    assert dock.desk.findings is None
    assert dock.asked.isHidden()


# -- another session ---------------------------------------------------------------


def later(
    qtbot: Any, viewer: Any, model: Path, docks: list[Any], table: Path | None
) -> ConnectivityDock:
    """A dock of another session, with the people of `table` loaded or with nobody."""
    dock = ConnectivityDock(viewer, model)
    docks.append(dock)
    assert_settled(qtbot, dock)
    if table is not None:
        load(qtbot, dock, table)
    return dock


def alter(qtbot: Any, dock: ConnectivityDock) -> None:
    """Every edit there is, of what is shown."""
    panel = dock.matrices
    panel.first.setCurrentText("SC")
    panel.second.setCurrentText("CB")
    panel.slider.setValue(0.123456789)
    panel.others.setCurrentIndex(3)
    panel.others.activated.emit(3)
    panel.second.setCurrentText("SC")
    panel.slider.setValue(-1.7)
    panel.first.setCurrentText("CB")
    panel.zero.click()
    panel.slider.setValue(1.0)
    panel.first.setCurrentText("SC")
    panel.slider.setValue(2.0 / 3)
    dock.ask()
    assert_settled(qtbot, dock)


def exported(qtbot: Any, dock: ConnectivityDock, folder: Path) -> tuple[Path, Any]:
    """The sidecar of the picture shown, and its voxels."""
    with qtbot.waitSignal(dock.desk.saved):
        dock.desk.save(folder / "one.nii.gz")
    assert_settled(qtbot, dock)
    return next(folder.glob("one*.json")), shown(dock)


@pytest.mark.parametrize(
    ("begin", "edited"),
    [("sub-02", False), ("mean of the table", False), ("random", True)],
)
def test_a_sidecar_comes_back_in_another_session(
    make_napari_viewer_proxy: Any,
    qtbot: Any,
    dock: ConnectivityDock,
    gm_ldm_file: Path,
    table_file: Path,
    tmp_path: Path,
    docks: list[Any],
    begin: str,
    edited: bool,
) -> None:
    load(qtbot, dock, table_file)
    dock.matrices.source.pick(begin)
    assert_settled(qtbot, dock)
    if edited:
        alter(qtbot, dock)
    sidecar, before = exported(qtbot, dock, tmp_path)
    assert dock.matrices.fnc is not None
    name = dock.matrices.fnc.name
    other = later(qtbot, dock._viewer, gm_ldm_file, docks, table_file)
    assert not np.array_equal(shown(other), before)
    other.past.opened.emit(sidecar)
    assert_settled(qtbot, other)
    assert other.error.isHidden(), other.error.words.text()
    assert "bit for bit" in other.status.words.text()
    np.testing.assert_array_equal(shown(other), before)
    assert other.matrices.words.text() == name.replace("random 1", "random")


def test_what_nobody_loaded_is_asked_for_and_no_matrix_is_written(
    qtbot: Any,
    dock: ConnectivityDock,
    gm_ldm_file: Path,
    table_file: Path,
    tmp_path: Path,
    docks: list[Any],
) -> None:
    load(qtbot, dock, table_file)
    alter(qtbot, dock)
    sidecar, _ = exported(qtbot, dock, tmp_path)
    told = json.loads(sidecar.read_text())["Connectivity"]
    assert "drawn" not in told  # a person's matrix is no output
    assert [edit["edit"] for edit in told["edits"]] == [
        *("scaled", "swapped", "scaled", "without", "scaled")
    ]
    other = later(qtbot, dock._viewer, gm_ldm_file, docks, None)
    other.past.opened.emit(sidecar)
    assert "Load that file first" in other.error.words.text()
    load(qtbot, other, table_file)
    other.past.opened.emit(sidecar)
    assert_settled(qtbot, other)
    assert "bit for bit" in other.status.words.text()


def test_a_changed_recipe_is_refused(
    qtbot: Any, dock: ConnectivityDock, tmp_path: Path
) -> None:
    dock.matrices.slider.setValue(0.5)
    dock.ask()
    assert_settled(qtbot, dock)
    sidecar, _ = exported(qtbot, dock, tmp_path)
    told = json.loads(sidecar.read_text())
    for change, words in (
        ({"factor": 0.25}, "did not come out of the edits"),
        ({"domains": ["all"]}, "the connectivity of 1 components is recorded"),
        ({"networks": []}, "is not the sidecar of a picture"),
    ):
        edit = told["Connectivity"]["edits"][0] | change
        changed = told | {"Connectivity": told["Connectivity"] | {"edits": [edit]}}
        sidecar.write_text(json.dumps(changed))
        dock.past.opened.emit(sidecar)
        assert words in dock.error.words.text()


def test_a_workspace_brings_back_what_was_drawn_and_edited(
    qtbot: Any,
    dock: ConnectivityDock,
    gm_ldm_file: Path,
    tmp_path: Path,
    docks: list[Any],
) -> None:
    dock.matrices.source.pick("random")
    assert_settled(qtbot, dock)
    drawn = shown(dock)
    dock.matrices.zero.click()
    assert_settled(qtbot, dock)
    edited, path = shown(dock), tmp_path / "one.workspace.json"
    dock.below.kept.emit(path)
    other = later(qtbot, dock._viewer, gm_ldm_file, docks, None)
    other.below.reopened.emit(path)
    assert_settled(qtbot, other)
    assert other.error.isHidden(), other.error.words.text()
    np.testing.assert_array_equal(shown(other), edited)
    other.past.undo.click()
    assert_settled(qtbot, other)
    np.testing.assert_array_equal(shown(other), drawn)


def test_a_model_opened_later_knows_the_people_loaded(
    qtbot: Any, dock: ConnectivityDock, gm_ldm_file: Path, table_file: Path
) -> None:
    load(qtbot, dock, table_file)
    dock.open(gm_ldm_file)
    assert_settled(qtbot, dock)
    assert dock.desk.renderer is not None
    table = dock.matrices.source.table
    assert table is not None
    for fnc in (*table.people(), mean_of(table)):
        assert dock.desk.renderer.fnc.of(fnc.digest) is not None


def test_nobody_is_compared_with_the_same_draw(
    dock: ConnectivityDock,
) -> None:
    dock.matrices.source.pick("random")
    fnc, renderer = dock.matrices.fnc, dock.desk.renderer
    assert fnc is not None and renderer is not None
    asked = dock.form.request()  # type: ignore[union-attr]
    [(own, other)] = pairs_against(renderer, asked, [fnc], "random")
    assert own.conditions.fnc != other.conditions.fnc


# -- comparisons -------------------------------------------------------------------


def test_a_group_of_the_table_is_compared(
    qtbot: Any, dock: ConnectivityDock, table_file: Path
) -> None:
    told = {"Groups": {"sub-00": "ill", "sub-02": "ill"}}
    table_file.with_suffix(".json").write_text(json.dumps(told))
    load(qtbot, dock, table_file)
    assert_settled(qtbot, dock)
    offered = dock.contrast.whose
    texts = [offered.itemText(n) for n in range(offered.count())]
    assert "The 2 of group ill" in texts
    compare(qtbot, dock, "group: ill", seeds=1)
    assert_settled(qtbot, dock)
    assert "2 subjects" in dock.contrast.words.text()


def compare(qtbot: Any, dock: ConnectivityDock, whose: str, seeds: int = 2) -> None:
    panel = dock.contrast
    panel.whose.setCurrentIndex(panel.whose.findData(whose))
    panel.against.setCurrentIndex(panel.against.findData("mean"))
    panel.seeds.setValue(seeds)
    panel.nulls.setValue(1)
    panel.begin.click()


def compare_alone(qtbot: Any, dock: ConnectivityDock, seeds: int) -> None:
    dock.matrices.source.pick("random")
    assert_settled(qtbot, dock)
    compare(qtbot, dock, "this connectivity", seeds)


def test_a_comparison_sharpens_and_is_tabled_and_written(
    qtbot: Any, dock: ConnectivityDock, table_file: Path, tmp_path: Path
) -> None:
    load(qtbot, dock, table_file)
    assert_settled(qtbot, dock)
    seen: list[int] = []
    dock.contrasts.sharpened.connect(lambda done, _: seen.append(done))
    compare(qtbot, dock, "everybody")
    assert_settled(qtbot, dock)
    made = dock.contrasts.made
    assert made is not None
    assert seen and seen == sorted(seen) and seen[-1] <= 6
    assert made.compared.people == 3 and len(made.null) == 1
    assert dock.contrast.words.text() == made.compared.sentence()
    there = {layer.name: layer for layer in dock._viewer.layers}
    assert {"A", "B", "A − B", "SD of A − B", "Effect of A − B"} <= there.keys()
    np.testing.assert_array_equal(there["A − B"].data.T, made.compared.mean.data)
    low, high = there["A − B"].contrast_limits
    assert low == -high and there["A − B"].visible and not there["A"].visible
    outline = there["Outline of A − B"]
    np.testing.assert_array_equal(outline.data.T, made.beyond(1.0))
    dock.contrast.threshold.setValue(0.2)
    outline = dock._viewer.layers["Outline of A − B"]
    np.testing.assert_array_equal(outline.data.T, made.beyond(0.2))
    dock.contrast.table.click()
    assert_settled(qtbot, dock)
    assert dock.contrasts.panel is not None
    table = dock.contrasts.panel.model.table
    assert "p (FWE)" in table.heads and len(table.rows) > 60
    model, voxels = dock.contrasts.panel.model, table.heads.index("voxels")
    assert model.data(model.index(0, voxels)) == str(table.contrasts[0].n_vox)
    assert dock.status.words.text().startswith("Regions of Desikan")
    dock.contrasts.write(tmp_path / "out" / "study.nii.gz")
    assert_settled(qtbot, dock)
    assert (tmp_path / "out" / "study_desc-synthetic_summary.json").is_file()


def test_one_subject_has_no_p_value_on_screen(
    qtbot: Any, dock: ConnectivityDock
) -> None:
    compare_alone(qtbot, dock, 1)
    assert_settled(qtbot, dock)
    assert "no p-values" in dock.contrast.words.text()
    assert "needs two seeds" in dock.contrast.words.text()
    assert "Effect of A − B" not in dock._viewer.layers
    dock.contrast.table.click()
    assert_settled(qtbot, dock)
    assert dock.contrasts.panel is not None
    heads = dock.contrasts.panel.model.table.heads
    assert not any("p (" in head or head == "q" for head in heads)


def test_a_stopped_comparison_leaves_its_map(
    qtbot: Any, dock: ConnectivityDock
) -> None:
    compare_alone(qtbot, dock, 200)
    qtbot.waitUntil(lambda: "A − B" in dock._viewer.layers, timeout=30_000)
    dock.cancel()
    assert_settled(qtbot, dock)
    assert dock.contrasts.made is None
    assert "A − B" in dock._viewer.layers
    assert not dock.contrast.export.isEnabled()
    told = dock._viewer.layers["A − B"].metadata["record"]
    assert told["Synthetic"] is True
    derived = told["Derived"]
    assert derived["operation"] == "paired contrast, unfinished"
    assert len(derived["requests"]) == 2 * derived["parameters"]["pairs"] < 400


def test_a_comparison_that_is_begun_leaves_nothing_of_the_last(
    qtbot: Any, dock: ConnectivityDock
) -> None:
    compare_alone(qtbot, dock, 2)
    assert_settled(qtbot, dock)
    assert dock.contrast.export.isEnabled()
    assert "Effect of A − B" in dock._viewer.layers
    dock.contrast.begin.click()
    dock.cancel()
    assert not dock.contrast.export.isEnabled()
    assert "One subject" not in dock.contrast.words.text()
    assert not any("A − B" in layer.name for layer in dock._viewer.layers)
    assert_settled(qtbot, dock)


def test_without_another_subject_the_reason_is_told(
    qtbot: Any, dock: ConnectivityDock
) -> None:
    panel = dock.contrast
    panel.against.setCurrentIndex(panel.against.findData("another"))
    panel.begin.click()
    assert "no other subject" in dock.error.words.text()


# -- saliency ----------------------------------------------------------------------


def find_out(qtbot: Any, dock: ConnectivityDock, method: str) -> None:
    panel = dock.saliency
    panel.method.setCurrentIndex(panel.method.findData(method))
    panel.begin.click()
    settle(qtbot, dock)


def test_a_click_on_a_block_shows_its_map(
    qtbot: Any, dock: ConnectivityDock, table_file: Path
) -> None:
    load(qtbot, dock, table_file)
    assert_settled(qtbot, dock)
    find_out(qtbot, dock, "blocks")
    assert dock.error.isHidden(), dock.error.words.text()
    found = dock.salient.found
    assert found is not None and found.sanity is not None
    value = found.value
    assert value.blocks == (("SC", "SC"), ("SC", "CB"), ("CB", "CB"))
    assert f"Spearman {found.sanity.spearman:.2f}" in dock.saliency.sanity.text()
    shown = dock.saliency.blocks
    assert shown.heat is not None and shown.heat.rows[1] == "SC–CB"
    shown.resize(300, 200)
    shown.clicked.emit(1, 3)
    layer = dock._viewer.layers["Saliency: SC–CB"]
    np.testing.assert_array_equal(layer.data.T, value.maps[1])


def test_gradients_tell_their_completeness(
    qtbot: Any, dock: ConnectivityDock, table_file: Path
) -> None:
    load(qtbot, dock, table_file)
    assert_settled(qtbot, dock)
    dock.saliency.points.setValue(4)
    dock.saliency.check.setChecked(False)
    find_out(qtbot, dock, "gradients")
    assert dock.error.isHidden(), dock.error.words.text()
    found = dock.salient.found
    assert found is not None
    region = dock.saliency.region.currentText()
    dock.saliency.region.setCurrentIndex(1)  # the words are of what was looked for
    told = f"Integrated gradients of a region ({region}): sub-00. {found.value.told()}"
    assert dock.saliency.words.text() == told
    assert "Not tested" in dock.saliency.sanity.text()
    heat = dock.saliency.matrix.heat
    assert heat is not None
    np.testing.assert_array_equal(heat.values[0, 1:], found.value.vector[:4])


def test_saliency_is_saved_and_written_as_synthetic(
    qtbot: Any, dock: ConnectivityDock, table_file: Path, tmp_path: Path
) -> None:
    load(qtbot, dock, table_file)
    assert_settled(qtbot, dock)
    assert not dock.saliency.export.isEnabled()
    dock.saliency.check.setChecked(False)
    find_out(qtbot, dock, "difference")
    layer = dock._viewer.layers["Saliency: paired difference"]
    first = layer.metadata["record"]
    assert first["Synthetic"] is True
    find_out(qtbot, dock, "blocks")
    dock.saliency.blocks.clicked.emit(1, 3)
    layer = dock._viewer.layers["Saliency: SC–CB"]
    told = layer.metadata["record"]["Derived"]  # no longer that of the map before
    assert told["operation"] == "Occlusion of network blocks"
    assert told["parameters"]["block"] == "SC–CB"
    saved = layer.save(str(tmp_path / "map.nii.gz"), plugin="napari-brainldm")
    assert "desc-synthetic" in Path(saved[0]).name
    assert "EditedAfterwards" not in json.loads(Path(saved[1]).read_text())
    dock.saliency.writing.emit(tmp_path / "found.tsv")
    assert_settled(qtbot, dock)
    assert dock.status.words.text() == "Wrote found_desc-synthetic_blocks.tsv"
    told = json.loads((tmp_path / "found_desc-synthetic_blocks.json").read_text())
    assert told["Synthetic"] is True and told["RandomisedWeights"] is None


def test_the_mean_itself_has_no_saliency(qtbot: Any, dock: ConnectivityDock) -> None:
    find_out(qtbot, dock, "difference")
    assert "Choose connectivity other than the mean" in dock.error.words.text()


# -- the matrix --------------------------------------------------------------------

KNOWN = tuple(Component(n, f"C{n}", "SC" if n < 3 else "CB") for n in range(1, 5))


def matrix(qtbot: Any, vector: list[float]) -> HeatMap:
    shown = HeatMap("Connectivity", square=True)
    qtbot.addWidget(shown)
    shown.resize(270, 270)
    shown.show_heat(heat_of_fnc(Fnc(np.array(vector, np.float32)), KNOWN))
    return shown


@pytest.mark.parametrize("colours", [DARK, LIGHT])
def test_cells_have_the_colour_of_their_sign(qtbot: Any, colours: Any) -> None:
    shown = matrix(qtbot, [0.5, -0.5, 0, 0, 0, 0])
    shown.set_colours(colours)
    picture = shown.grab().toImage()
    ratio = picture.devicePixelRatio()

    def at(row: int, column: int) -> tuple[int, int, int]:
        place = shown.centre_of(row, column) * ratio
        return picture.pixelColor(place.toPoint()).getRgb()[:3]

    red, blue, none = at(0, 1), at(0, 2), at(0, 3)
    assert red[0] > red[2] + 60 and blue[2] > blue[0] + 60
    assert max(none) - min(none) < 20
    assert at(1, 0) == red and at(2, 0) == blue
    assert (sum(none) < 150) is (colours is DARK)


def test_a_cell_tells_names_and_value(qtbot: Any) -> None:
    shown = matrix(qtbot, [0.5, -0.25, 0, 0, 0, 0])
    place = shown.centre_of(0, 2).toPoint()
    asked = QHelpEvent(QHelpEvent.Type.ToolTip, place, shown.mapToGlobal(place))
    shown.show()
    shown.event(asked)
    assert QToolTip.text() == "1 C1 (SC) – 3 C3 (CB): -0.25 z"
    assert shown.cell_at(QPoint(1, 1)) is None


def test_levels_are_even_about_zero() -> None:
    values = np.array([[-2.0, -1, 0, 1, 2]], np.float32)
    heat = Heat(values, ("",), ("",) * 5, ("",), ("",) * 5)
    assert heat.limit == pytest.approx(2, abs=0.05)
    levels = heat.levels()[0].astype(int)
    assert levels.tolist() == [0, levels[1], 127, 254 - levels[1], 254]
    assert abs(levels[1] - 63.5) <= 2


def test_nothing_of_a_closed_dock_stays(
    make_napari_viewer_proxy: Any, qtbot: Any, gm_ldm_file: Path, table_file: Path
) -> None:
    viewer = make_napari_viewer_proxy()
    dock = ConnectivityDock(viewer, gm_ldm_file)
    inside = viewer.window.add_dock_widget(dock, name="Connectivity")
    settle(qtbot, dock)
    load(qtbot, dock, table_file)
    dock.matrices.slider.setValue(0.5)
    settle(qtbot, dock)
    compare(qtbot, dock, "everybody", 1)
    settle(qtbot, dock)
    dock.contrast.table.click()
    settle(qtbot, dock)
    find_out(qtbot, dock, "difference")
    gone = weakref.ref(dock)
    close_for_good(viewer, inside, dock)
    del dock, inside
    assert is_gone(gone)
    viewer.layers.clear()

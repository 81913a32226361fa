"""The whole state as one file; presets; preferences."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QInputDialog

from napari_brainldm.engine.checkpoint import load_checkpoint, save_checkpoint
from napari_brainldm.engine.presets import percentile
from napari_brainldm.engine.request import EngineError, Seed
from napari_brainldm.widgets import desk as desks
from napari_brainldm.widgets import explore, letters
from napari_brainldm.widgets.explore import ExploreDock
from napari_brainldm.widgets.preferences import BEST, Preferences, preferences
from napari_brainldm.widgets.recent import Recent
from tests.widgets.conftest import settle
from tests.widgets.test_comparing import layer, move_age, shown
from tests.widgets.test_explore import age, count_renders

MakeDock = Callable[..., ExploreDock]


@pytest.fixture
def dock(make_dock: MakeDock) -> ExploreDock:
    return make_dock(strict_qt="raise")


@pytest.fixture
def saved(qtbot: Any, dock: ExploreDock, tmp_path: Path) -> Path:
    """A workspace: pinned at 40 years, shown at 77, one picture undone, turned."""
    move_age(qtbot, dock, 40.0)
    dock.compare.pin.click()
    move_age(qtbot, dock, 77.0)
    move_age(qtbot, dock, 80.0)
    dock.past.undo.click()
    settle(qtbot, dock)
    viewer = dock._viewer
    viewer.dims.ndisplay = 3
    viewer.scene.camera.angles = (10.0, 20.0, 30.0)
    viewer.scene.camera.zoom = 3.5
    path = tmp_path / "one.workspace.json"
    dock.below.kept.emit(path)
    assert path.is_file()
    return path


def open_other(qtbot: Any, dock: ExploreDock, tiny: Path, folder: Path) -> None:
    """Open the same model under another name."""
    checkpoint = load_checkpoint(tiny)
    path = folder / "other.safetensors"
    card = replace(checkpoint.card, name="Other")
    save_checkpoint(replace(checkpoint, card=card), path)
    dock.open(path)
    settle(qtbot, dock)


# -- workspace ---------------------------------------------------------------------


def test_another_viewer_reopens_the_same_state(
    qtbot: Any, dock: ExploreDock, saved: Path, make_dock: MakeDock
) -> None:
    second = make_dock()
    second.open_workspace(saved)
    settle(qtbot, second)
    assert second.error.isHidden()
    assert "bit for bit" in second.status.words.text()
    assert np.array_equal(shown(second), shown(dock))
    assert second.comparison.pinned is not None
    assert age(second).value() == 77.0
    change = layer(second, "Difference").data
    assert np.array_equal(change, layer(dock, "Difference").data)
    camera = second._viewer.scene.camera
    assert camera.angles == pytest.approx((10.0, 20.0, 30.0))
    assert camera.zoom == pytest.approx(3.5)
    assert second._viewer.dims.ndisplay == 3
    second.past.redo.click()
    settle(qtbot, second)
    assert age(second).value() == 80.0


def test_the_reference_has_its_numbers_again(
    qtbot: Any, dock: ExploreDock, saved: Path
) -> None:
    settle(qtbot, dock)
    before = dock.comparison.pinned_findings
    assert before is not None
    dock.open_workspace(saved)
    settle(qtbot, dock)
    after = dock.comparison.pinned_findings
    assert after is not None
    assert after is not before
    assert after.measured == before.measured


def test_the_checkpoint_that_is_needed_is_opened(
    qtbot: Any, dock: ExploreDock, saved: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    open_other(qtbot, dock, tiny_checkpoint, tmp_path)
    assert dock.models.picker.currentText() == "Other"
    dock.open_workspace(saved)
    settle(qtbot, dock)
    assert dock.models.picker.currentText() == "Tiny"
    assert "bit for bit" in dock.status.words.text()
    assert age(dock).value() == 77.0


def changed(path: Path, **parts: Any) -> Path:
    plain = json.loads(path.read_text())
    path.write_text(json.dumps(plain | parts))
    return path


def test_a_checkpoint_that_is_gone_is_told(dock: ExploreDock, saved: Path) -> None:
    picture = json.loads(saved.read_text())["Picture"]
    picture["Checkpoint"] = {"name": "Gone", "sha256": "0" * 64}
    nowhere = str(saved.parent / "gone.safetensors")
    before = shown(dock).copy()
    dock.open_workspace(changed(saved, Picture=picture, CheckpointFile=nowhere))
    assert "neither at" in dock.error.words.text()
    assert np.array_equal(shown(dock), before)


def test_another_model_under_the_same_name_is_told(
    qtbot: Any, dock: ExploreDock, saved: Path
) -> None:
    picture = json.loads(saved.read_text())["Picture"]
    picture["Checkpoint"] = {"name": "Tiny", "sha256": "0" * 64}
    dock.open_workspace(changed(saved, Picture=picture))
    settle(qtbot, dock)
    assert "neither at" in dock.error.words.text()
    assert dock.comparison.pinned is not None  # nothing of the session is lost


def test_a_checkpoint_that_was_renamed_is_found_among_the_recent(
    qtbot: Any, dock: ExploreDock, saved: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    copied = tmp_path / "renamed.safetensors"
    copied.write_bytes(tiny_checkpoint.read_bytes())
    Recent().add(copied)
    open_other(qtbot, dock, tiny_checkpoint, tmp_path)
    dock.open_workspace(
        changed(saved, CheckpointFile=str(tmp_path / "gone.safetensors"))
    )
    settle(qtbot, dock)
    assert "bit for bit" in dock.status.words.text()


def test_other_voxels_than_then_are_told(
    qtbot: Any, dock: ExploreDock, saved: Path
) -> None:
    picture = json.loads(saved.read_text())["Picture"]
    picture["PictureSha256"] = "0" * 64
    picture["Versions"] = {**picture["Versions"], "torch": "1.0"}
    dock.open_workspace(changed(saved, Picture=picture))
    settle(qtbot, dock)
    assert "torch 1.0 then" in dock.error.words.text()
    assert age(dock).value() == 77.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", "is not a workspace"),
        ("{}", "is not a workspace"),
        ('{"Workspace": 9}', "of version 9"),
        ('{"Workspace": Infinity}', "is not a workspace"),
    ],
)
def test_what_is_no_workspace_is_told(
    dock: ExploreDock, tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "bad.workspace.json"
    path.write_text(text)
    dock.open_workspace(path)
    assert words in dock.error.words.text()


def test_a_hand_at_a_slider_ends_what_is_left_of_reopening(
    qtbot: Any, dock: ExploreDock, saved: Path
) -> None:
    dock.open_workspace(saved)
    with qtbot.waitSignal(dock.comparison.changed):
        qtbot.waitUntil(lambda: dock.comparison.pinned is not None, timeout=20_000)
    move_age(qtbot, dock, 51.0)
    assert age(dock).value() == 51.0
    assert dock.desk.picture.request.conditions.as_dict()["age"] == 51.0


def test_a_picture_on_its_way_does_not_come_between(
    qtbot: Any, dock: ExploreDock, saved: Path
) -> None:
    settle(qtbot, dock)
    now = dock.desk.picture
    assert now is not None
    stray = replace(now, request=replace(now.request, origin=Seed(5)))
    dock.open_workspace(saved)
    dock.desk.shown.emit(stray, False)  # it was being decoded
    settle(qtbot, dock)
    assert "bit for bit" in dock.status.words.text()
    assert age(dock).value() == 77.0


def test_compare_is_looked_at_as_it_was(
    qtbot: Any, dock: ExploreDock, saved: Path
) -> None:
    view = {**json.loads(saved.read_text())["View"], "difference": False}
    dock.open_workspace(changed(saved, View={**view, "beside": True}))
    settle(qtbot, dock)
    assert dock._viewer.canvas.grid.enabled
    assert dock.compare.beside.isChecked()
    assert not dock.compare.difference.isChecked()
    dock.compare.beside.click()
    assert not dock._viewer.canvas.grid.enabled


def test_a_workspace_names_the_model_in_use(
    qtbot: Any, dock: ExploreDock, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    wrong = tmp_path / "holiday.safetensors"
    wrong.write_bytes(b"no weights")
    dock.open(wrong)
    settle(qtbot, dock)
    dock.below.kept.emit(tmp_path / "one.workspace.json")
    plain = json.loads((tmp_path / "one.workspace.json").read_text())
    assert plain["CheckpointFile"] == str(tiny_checkpoint.resolve())


def test_a_move_ends_what_is_left_of_reopening(
    qtbot: Any, dock: ExploreDock, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dock.desk.picture is not None
    other = replace(dock.desk.picture.request, origin=Seed(99))
    asked = count_renders(dock, monkeypatch)
    dock.open_workspace(saved)
    dock.past.chosen.emit(other)
    settle(qtbot, dock)
    assert asked[-1] == other
    assert age(dock).value() == other.conditions.as_dict()["age"]
    assert "bit for bit" not in dock.status.words.text()


def test_a_preview_is_no_workspace(
    qtbot: Any, dock: ExploreDock, tmp_path: Path
) -> None:
    age(dock).slider.setSliderDown(True)
    with qtbot.waitSignal(dock.desk.shown, timeout=20_000):
        age(dock).box.setValue(80.0)
    dock.below.kept.emit(tmp_path / "none.workspace.json")
    assert "Only a preview is shown" in dock.error.words.text()
    assert not list(tmp_path.glob("*.json"))


def test_a_dropped_workspace_opens_in_the_dock(
    make_napari_viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(ExploreDock, "open", lambda *_: None)
    monkeypatch.setattr(
        ExploreDock, "open_workspace", lambda _, path: opened.append(path)
    )
    path = tmp_path / "one.workspace.json"
    path.write_text("{}")
    make_napari_viewer().open(str(path), plugin="napari-brainldm")
    assert opened == [path]


# -- presets -----------------------------------------------------------------------


def entries(menu: Any) -> dict[str, Any]:
    menu.aboutToShow.emit()
    return {action.text(): action for action in menu.actions() if action.text()}


def test_a_preset_sets_every_condition_in_one_picture(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = count_renders(dock, monkeypatch)
    assert dock.form is not None
    entries(dock.form.presets.menu())["High lateral ventricles"].trigger()
    settle(qtbot, dock)
    final = [r for r in asked if r.sampler.steps == 15]
    assert len(final) == 1
    assert dock.desk.renderer is not None
    card = dock.desk.renderer.card
    values = final[0].conditions.as_dict()
    wanted = percentile(card.covariate("ventricles"), 95)
    assert values["ventricles"] == pytest.approx(wanted, abs=0.06)
    assert values["age"] == pytest.approx(card.covariate("age").reference, abs=0.06)


def test_own_presets_stay_until_forgotten(
    qtbot: Any,
    dock: ExploreDock,
    make_dock: MakeDock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    move_age(qtbot, dock, 33.0)
    monkeypatch.setattr(QInputDialog, "getText", lambda *_: ("Mine", True))
    assert dock.form is not None
    entries(dock.form.presets.menu())["Keep these conditions…"].trigger()
    second = make_dock()
    assert second.form is not None
    entries(second.form.presets.menu())["Mine"].trigger()
    settle(qtbot, second)
    assert age(second).value() == 33.0
    menu = entries(second.form.presets.menu())
    entries(menu["Forget"].menu())["Mine"].trigger()
    assert "Mine" not in entries(dock.form.presets.menu())


# -- preferences -------------------------------------------------------------------


@pytest.fixture
def settings(plugin_settings: Any, npe2pm: Any) -> Iterator[Any]:
    from napari.settings import get_plugin_settings

    npe2pm.register(str(Path(__file__).parents[2] / "napari.yaml"))
    yield get_plugin_settings("napari-brainldm")


def test_the_defaults_of_the_manifest_are_ours(settings: Any) -> None:
    assert preferences() == Preferences()


def test_preferences_are_read_as_they_are_set(settings: Any) -> None:
    settings.compute.device = "cuda:1"
    settings.compute.precision = "float32"
    settings.compute.preview_steps = 2
    settings.viewing.convention = "radiological"
    assert preferences() == Preferences("cuda:1", "float32", 2, radiological=True)
    settings.compute.device = BEST
    assert preferences().device == ""


def test_radiologists_see_the_right_on_the_left(
    make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "preferences", lambda: Preferences(radiological=True))
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((4, 5, 6)))
    letters.orient(viewer)
    for shown_in in (2, 3):
        viewer.dims.ndisplay = shown_in
        found = letters.edge_letters(viewer.dims, viewer.scene.camera)
        assert (found["middle_left"], found["top_center"]) == ("R", "A")
        assert not letters.mirrored(viewer.dims, viewer.scene.camera)


def test_preview_steps_are_the_users(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explore, "preferences", lambda: Preferences(preview_steps=2))
    asked = count_renders(dock, monkeypatch)
    move_age(qtbot, dock, 70.0)
    assert [request.sampler.steps for request in asked] == [2, 15]


def test_a_device_that_is_not_there_says_where_it_was_chosen(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path
) -> None:
    wish = Preferences(device="cuda:77")
    monkeypatch.setattr(desks, "preferences", lambda: wish)
    with pytest.raises(EngineError, match="Preferences > Brain LDM"):
        list(desks._load(tiny_checkpoint))

"""Pin and compare, undo and redo, copy, paste and re-create."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtGui import QGuiApplication, QShortcut

from napari_brainldm.engine.request import Conditions, Request, Sampler, Seed
from napari_brainldm.widgets import layers, orthogonal
from napari_brainldm.widgets.asked_panel import AskedPanel
from napari_brainldm.widgets.compare_panel import FLICKER_KEY, OTHER_NOISE
from napari_brainldm.widgets.explore import ExploreDock
from napari_brainldm.widgets.history import MOST, History
from tests.widgets.conftest import settle
from tests.widgets.test_explore import age, count_renders

MakeDock = Callable[..., ExploreDock]


@pytest.fixture
def dock(make_dock: MakeDock) -> ExploreDock:
    return make_dock(strict_qt="raise")


def names(dock: ExploreDock) -> list[str]:
    return [layer.name for layer in dock._viewer.layers]


def layer(dock: ExploreDock, name: str) -> Any:
    return dock._viewer.layers[name]


def shown(dock: ExploreDock) -> np.ndarray:
    return layers.volume_of(dock.desk.layer).data


def move_age(qtbot: Any, dock: ExploreDock, value: float) -> None:
    age(dock).box.setValue(value)
    settle(qtbot, dock)


# -- history -----------------------------------------------------------------------


def requests(count: int) -> list[Request]:
    return [Request(origin=Seed(n)) for n in range(count)]


def test_undo_and_redo_walk_through_what_was_visited():
    history, (a, b, c, d) = History(), requests(4)
    for one in (a, b, c):
        history.visit(one)
    assert (history.undo(), history.undo(), history.undo()) == (b, a, None)
    assert history.redo() == b
    history.visit(b)  # the picture of what was redone: nothing new
    assert history.can_redo
    history.visit(d)
    assert not history.can_redo
    assert history.undo() == b


def test_a_step_counts_when_its_picture_is_shown():
    history, (a, b, c) = History(), requests(3)
    for one in (a, b, c):
        history.visit(one)
    assert (history.undo(), history.undo()) == (b, a)
    history.stay()  # refused, stopped, or failed
    assert history.state == ((a, b, c), 2)
    assert not history.can_redo
    assert history.undo() == b
    history.visit(b)
    assert history.state[1] == 1


def test_the_oldest_are_forgotten():
    history = History()
    for one in requests(MOST + 5):
        history.visit(one)
    steps = 0
    while history.undo():
        steps += 1
    assert steps == MOST - 1


def test_undo_brings_back_the_same_bits(qtbot: Any, dock: ExploreDock) -> None:
    first = shown(dock).copy()
    move_age(qtbot, dock, 80.0)
    second = shown(dock).copy()
    dock.past.undo.click()
    settle(qtbot, dock)
    assert np.array_equal(shown(dock), first)
    assert age(dock).value() == 64.0
    dock.past.redo.click()
    settle(qtbot, dock)
    assert np.array_equal(shown(dock), second)
    assert not np.array_equal(first, second)


def test_a_copied_request_makes_the_same_picture(qtbot: Any, dock: ExploreDock) -> None:
    move_age(qtbot, dock, 71.0)
    first = shown(dock).copy()
    dock.past.copy.click()
    move_age(qtbot, dock, 30.0)
    dock.past.paste.click()
    settle(qtbot, dock)
    assert np.array_equal(shown(dock), first)
    assert age(dock).value() == 71.0


def test_a_pasted_request_is_asked_for_exactly(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More digits than a box shows, and a seed larger than a box holds."""
    asked = count_renders(dock, monkeypatch)
    request = Request(
        Conditions.of({"age": 64.123456}),
        Seed(2**60),
        sampler=Sampler("ddim", 3, eta=0.5),
    )
    QGuiApplication.clipboard().setText(request.to_json())
    dock.past.paste.click()
    settle(qtbot, dock)
    assert asked == [request]
    assert dock.form is not None
    assert dock.form.sampler.steps.value() == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", "no picture request"),
        ("[1]", "no picture request"),
        (Request(Conditions.of({"height": 1.8})).to_json(), "'height' is not a"),
        (Request(shift=(("AD", 1.0),)).to_json(), "is not a direction"),
    ],
)
def test_what_cannot_be_pasted_is_told_and_changes_nothing(
    qtbot: Any, dock: ExploreDock, text: str, words: str
) -> None:
    before = shown(dock).copy()
    QGuiApplication.clipboard().setText(text)
    dock.past.paste.click()
    settle(qtbot, dock)
    assert words in dock.error.words.text()
    assert np.array_equal(shown(dock), before)


def test_a_sidecar_is_re_created_bit_for_bit(
    qtbot: Any, dock: ExploreDock, tmp_path: Path
) -> None:
    move_age(qtbot, dock, 77.0)
    with qtbot.waitSignal(dock.desk.saved):
        dock.desk.save(tmp_path / "one.nii.gz")
    first = shown(dock).copy()
    move_age(qtbot, dock, 40.0)
    sidecar = next(tmp_path.glob("*.json"))
    dock.past.opened.emit(sidecar)
    settle(qtbot, dock)
    assert np.array_equal(shown(dock), first)
    assert "bit for bit" in dock.status.words.text()
    assert dock.error.isHidden()


def test_a_sidecar_of_another_model_is_refused(
    qtbot: Any, dock: ExploreDock, tmp_path: Path
) -> None:
    record = dict(dock.desk.layer.metadata["record"])
    record["Checkpoint"] = {"name": "Other", "sha256": "0" * 64}
    path = tmp_path / "other.json"
    path.write_text(json.dumps(record))
    dock.past.opened.emit(path)
    assert "Open that checkpoint first" in dock.error.words.text()


# -- comparison --------------------------------------------------------------------


def test_the_difference_is_picture_minus_reference(
    qtbot: Any, dock: ExploreDock
) -> None:
    reference = shown(dock).copy()
    dock.compare.pin.click()
    assert "Difference" not in names(dock)  # nothing differs yet
    move_age(qtbot, dock, 80.0)
    change = layer(dock, "Difference")
    found = layers.volume_of(change).data
    assert np.array_equal(found, shown(dock) - reference)
    low, high = change.contrast_limits
    assert low == -high
    limits = tuple(change.contrast_limits)
    move_age(qtbot, dock, 90.0)
    assert np.array_equal(layers.volume_of(change).data, shown(dock) - reference)
    assert tuple(change.contrast_limits) == limits
    assert change.metadata["record"]["Derived"]["operation"] == "difference"
    assert dock.comparison.same_noise


def test_a_preview_hides_the_difference_until_the_picture_is_there(
    qtbot: Any, dock: ExploreDock
) -> None:
    dock.compare.pin.click()
    move_age(qtbot, dock, 80.0)
    slider = age(dock).slider
    slider.setSliderDown(True)
    with qtbot.waitSignal(dock.desk.shown, timeout=20_000):
        slider.setValue(70.0)
    qtbot.waitUntil(lambda: not dock.desk.busy)
    assert not layer(dock, "Difference").visible
    slider.setSliderDown(False)
    settle(qtbot, dock)
    assert layer(dock, "Difference").visible


def test_unpinning_takes_the_layers_away(qtbot: Any, dock: ExploreDock) -> None:
    dock.compare.pin.click()
    move_age(qtbot, dock, 80.0)
    dock.compare.unpin.click()
    assert names(dock) == ["Synthetic brain"]
    assert not dock.compare.difference.isEnabled()
    move_age(qtbot, dock, 70.0)
    assert names(dock) == ["Synthetic brain"]


def test_another_noise_is_told(qtbot: Any, dock: ExploreDock) -> None:
    assert dock.form is not None
    dock.compare.pin.click()
    dock.form.seed.box.setValue(7)
    settle(qtbot, dock)
    assert OTHER_NOISE in dock.compare.words.text()
    dock.form.seed.box.setValue(0)
    settle(qtbot, dock)
    assert OTHER_NOISE not in dock.compare.words.text()


def test_side_by_side_shows_both_in_a_grid(qtbot: Any, dock: ExploreDock) -> None:
    reference = shown(dock).copy()
    dock.compare.pin.click()
    move_age(qtbot, dock, 80.0)
    dock.compare.beside.setChecked(True)
    assert names(dock) == ["Reference", "Synthetic brain"]
    assert dock._viewer.canvas.grid.enabled
    assert np.array_equal(layers.volume_of(layer(dock, "Reference")).data, reference)
    dock.compare.beside.setChecked(False)
    assert not dock._viewer.canvas.grid.enabled
    assert "Reference" not in names(dock)
    assert "Difference" in names(dock)


def test_flicker_swaps_and_swaps_back(qtbot: Any, dock: ExploreDock) -> None:
    dock.compare.pin.click()
    move_age(qtbot, dock, 80.0)
    dock.compare.flicker.click()
    seen = {one.name: one.visible for one in dock._viewer.layers}
    assert seen == {"Reference": True, "Synthetic brain": False, "Difference": False}
    keys = {one.key().toString(): one for one in dock.findChildren(QShortcut)}
    keys[FLICKER_KEY].activated.emit()
    seen = {one.name: one.visible for one in dock._viewer.layers}
    assert seen == {"Reference": False, "Synthetic brain": True, "Difference": True}
    dock.compare.flicker.click()
    move_age(qtbot, dock, 70.0)  # a new picture must be seen
    assert layer(dock, "Synthetic brain").visible


def test_a_moving_hand_is_seen_after_a_flicker(qtbot: Any, dock: ExploreDock) -> None:
    dock.compare.pin.click()
    move_age(qtbot, dock, 80.0)
    dock.compare.flicker.click()
    slider = age(dock).slider
    slider.setSliderDown(True)
    with qtbot.waitSignal(dock.desk.shown, timeout=20_000):
        slider.setValue(70.0)
    qtbot.waitUntil(lambda: not dock.desk.busy)
    assert layer(dock, "Synthetic brain").visible
    assert "Reference" not in names(dock)
    slider.setSliderDown(False)
    settle(qtbot, dock)


def test_two_docks_of_a_viewer_do_not_disable_each_other(
    qtbot: Any,
    dock: ExploreDock,
    docks: list[Any],
    tiny_checkpoint: Path,
    segmenter_file: Path,
) -> None:
    viewer = dock._viewer
    dock.compare.pin.click()
    move_age(qtbot, dock, 80.0)
    dock.compare.beside.setChecked(True)
    other = ExploreDock(viewer, tiny_checkpoint, segmenter_file)
    viewer.window.add_dock_widget(other, name="Another")
    docks.append(other)
    settle(qtbot, other)
    assert viewer.canvas.grid.enabled  # nothing of the other was beside anything
    dock.compare.beside.setChecked(False)
    [key] = [
        one
        for one in other.findChildren(QShortcut)
        if one.key().toString() == FLICKER_KEY
    ]
    key.activatedAmbiguously.emit()  # whichever dock Qt calls
    assert not dock.desk.layer.visible
    assert other.desk.layer.visible
    other.compare.pin.click()
    key.activatedAmbiguously.emit()  # it compared last
    assert not other.desk.layer.visible


def test_numbers_are_told_against_the_reference_in_use(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock.compare.pin.click()
    pinned = dock.desk.findings
    move_age(qtbot, dock, 80.0)
    told: list[Any] = []
    monkeypatch.setattr(
        AskedPanel, "tell", lambda _, found, pinned=None: told.append((found, pinned))
    )
    now = dock.desk.findings
    dock.compare.unpin.click()
    assert told[-1] == (now, None)
    dock.compare.pin.click()
    assert told[-1] == (now, now)
    assert now is not pinned


def test_another_checkpoint_unpins(
    qtbot: Any, dock: ExploreDock, tiny_checkpoint: Path
) -> None:
    dock.compare.pin.click()
    dock.open(tiny_checkpoint)
    settle(qtbot, dock)
    assert dock.comparison.pinned is None
    assert not dock.past.undo.isEnabled()


def test_the_user_may_delete_the_layers(qtbot: Any, dock: ExploreDock) -> None:
    dock.compare.pin.click()
    move_age(qtbot, dock, 80.0)
    dock._viewer.layers.remove("Difference")
    move_age(qtbot, dock, 70.0)
    assert "Difference" in names(dock)
    dock.compare.flicker.click()
    dock._viewer.layers.remove("Reference")
    move_age(qtbot, dock, 60.0)
    assert layer(dock, "Synthetic brain").visible


# -- orthogonal views --------------------------------------------------------------


def test_orthogonal_views_are_offered_where_their_plugin_is(
    npe2pm: Any, make_dock: MakeDock
) -> None:
    assert not orthogonal.installed()
    without = make_dock()
    assert without.compare.orthogonal.isHidden()
    toggled: list[Any] = []
    with npe2pm.tmp_plugin(name=orthogonal.PLUGIN) as plugin:
        plugin.contribute.command(id=orthogonal.COMMAND)(toggled.append)
        assert orthogonal.installed()
        dock = make_dock()
        assert not dock.compare.orthogonal.isHidden()
        dock.compare.orthogonal.click()
        assert toggled == [dock._viewer]
    assert not orthogonal.installed()

"""Asked against got, and the structures: whose numbers are seen, and when."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_brainldm.engine.asked import Findings, Line, find
from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.renderer import Progress
from napari_brainldm.engine.request import EngineError, Request
from napari_brainldm.engine.segment import Segmenter
from napari_brainldm.widgets import desk as desk_module
from napari_brainldm.widgets import layers, overlays
from napari_brainldm.widgets.asked_panel import AskedPanel, signed, told
from napari_brainldm.widgets.explore import ExploreDock
from napari_brainldm.widgets.preferences import Preferences
from tests.widgets.conftest import settle

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Volume

MakeDock = Callable[..., ExploreDock]
Gate = threading.Semaphore


@pytest.fixture
def dock(make_dock: MakeDock) -> ExploreDock:
    return make_dock(strict_qt="raise")


def age(dock: ExploreDock) -> Any:
    assert dock.form is not None
    return dock.form.rows["age"]


def numbers(dock: ExploreDock) -> dict[str, tuple[str, ...]]:
    """Name of each line to what its labels show."""
    lines = dock.asked._lines.items()
    return {name: tuple(label.text() for label in ls.numbers) for name, ls in lines}


def colour(dock: ExploreDock) -> str:
    return dock.asked._lines["ventricles"].got.styleSheet()


def structures(dock: ExploreDock) -> list[Any]:
    return [layer for layer in dock._viewer.layers if layer.name == "Structures"]


def expected(dock: ExploreDock, segmenter_file: Path) -> Findings:
    """What the engine says of the picture shown, asked without a window."""
    assert dock.desk.renderer is not None
    record = dock.desk.layer.metadata["record"]
    conditions = Request.from_json(json.dumps(record["Request"])).conditions
    compute = dock.desk.renderer.compute
    checkpoint = load_checkpoint(segmenter_file)
    segmenter = Segmenter(checkpoint, compute.device, compute.precision)
    picture = layers.volume_of(dock.desk.layer)
    return find(segmenter, picture, dock.desk.renderer.card, conditions)


def count_findings(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """One entry for every picture that is measured from now on."""
    found: list[Any] = []

    def counted(*arguments: Any) -> Findings:
        found.append(arguments)
        return find(*arguments)

    monkeypatch.setattr(desk_module, "find", counted)
    return found


def gated_find(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Let every measurement wait for the test's permission."""
    gate = threading.Semaphore(0)

    def slow(*arguments: Any) -> Findings:
        assert gate.acquire(timeout=20)
        return find(*arguments)

    monkeypatch.setattr(desk_module, "find", slow)
    return gate


def gated_render(dock: ExploreDock, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Let every picture wait for the test's permission."""
    assert dock.desk.renderer is not None
    gate, render = threading.Semaphore(0), dock.desk.renderer.render

    def slow(request: Request) -> Generator[Progress, None, Volume]:
        yield Progress("denoise", 0, 1)
        assert gate.acquire(timeout=20)
        return (yield from render(request))

    monkeypatch.setattr(dock.desk.renderer, "render", slow)
    return gate


# -- numbers -----------------------------------------------------------------------


def test_the_numbers_are_those_of_the_picture_shown(
    qtbot: Any, dock: ExploreDock, segmenter_file: Path
) -> None:
    age(dock).box.setValue(71.0)
    settle(qtbot, dock)
    assert dock.desk.findings is not None
    assert dock.desk.findings.lines == expected(dock, segmenter_file).lines
    shown = numbers(dock)["ventricles"]
    [line, *_] = dock.desk.findings.lines
    assert float(shown[0]) == 30.0
    assert float(shown[1]) == pytest.approx(line.got, abs=0.5)
    assert shown[3].endswith(" %")
    assert dock.asked.state.text() == ""


def test_what_no_one_asked_for_is_measured_only(dock: ExploreDock) -> None:
    for name in ("hippocampus", "icv"):
        asked, got, difference, percent = numbers(dock)[name]
        assert (asked, difference, percent) == ("", "", "")
        assert float(got) >= 0


def test_each_final_picture_is_measured_once_and_no_preview(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = count_findings(monkeypatch)
    previews: list[bool] = []
    dock.desk.shown.connect(lambda _, preview: previews.append(preview))
    for tick in range(20):
        age(dock).slider.setValue(50.0 + tick)
    settle(qtbot, dock)
    assert previews[-1:] == [False]
    assert all(previews[:-1])
    assert len(previews) > 2  # what the steps predict is shown on the way
    assert len(found) == 1


def test_a_preview_never_changes_a_number(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, before, fresh = count_findings(monkeypatch), numbers(dock), colour(dock)
    slider = age(dock).slider
    slider.setSliderDown(True)
    with qtbot.waitSignal(dock.desk.shown, timeout=20_000):
        slider.setValue(80.0)
    qtbot.waitUntil(lambda: not dock.desk.busy)
    qtbot.wait(50)
    # the hand rests on the slider: older numbers, and they look like it
    assert (found, numbers(dock)) == ([], before)
    assert dock.asked.state.text() == "updating …"
    assert colour(dock) != fresh
    slider.setSliderDown(False)
    settle(qtbot, dock)
    assert (len(found), dock.asked.state.text()) == (1, "")
    assert colour(dock) == fresh


def test_numbers_are_dimmed_while_a_newer_picture_is_made(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, gate = colour(dock), gated_render(dock, monkeypatch)
    dock.ask()
    qtbot.waitUntil(lambda: dock.asked.state.text() == "updating …")
    assert colour(dock) != fresh
    gate.release(100)
    settle(qtbot, dock)
    assert colour(dock) == fresh


def test_a_cancelled_picture_leaves_the_numbers_of_the_one_shown(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, fresh = numbers(dock), colour(dock)
    gate = gated_render(dock, monkeypatch)
    dock.ask()
    qtbot.waitUntil(lambda: dock.asked.state.text() == "updating …")
    dock.cancel()
    gate.release(100)
    settle(qtbot, dock)
    assert (numbers(dock), colour(dock)) == (before, fresh)
    assert dock.asked.state.text() == ""


def test_a_preview_that_stays_has_no_numbers(qtbot: Any, dock: ExploreDock) -> None:
    with qtbot.waitSignal(dock.desk.shown, timeout=20_000):
        age(dock).box.setValue(80.0)
    dock.cancel()
    settle(qtbot, dock)
    assert dock.desk.layer.metadata["record"]["Request"]["sampler"]["steps"] == (
        Preferences().preview_steps
    )
    assert dock.asked.state.text() == "not measured"
    assert numbers(dock)["ventricles"] == ("", "–", "", "")


def test_the_picture_does_not_wait_for_its_numbers(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = gated_find(monkeypatch)
    with qtbot.waitSignal(dock.desk.shown, timeout=20_000):
        dock.ask()
    qtbot.waitUntil(lambda: "Measuring" in dock.status.words.text())
    assert dock.desk.findings is None
    gate.release(1)
    settle(qtbot, dock)
    assert dock.desk.findings is not None
    assert dock.status.words.text().startswith("Full picture, 15 steps")


def test_cancel_while_measuring_keeps_the_picture(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dock.desk, "_segmenter", None)  # loading it is a step
    load, reached = desk_module.load_checkpoint, threading.Event()
    gate = threading.Event()

    def slow(path: Path) -> Any:
        reached.set()
        assert gate.wait(20)
        return load(path)

    monkeypatch.setattr(desk_module, "load_checkpoint", slow)
    dock.ask()
    qtbot.waitUntil(reached.is_set, timeout=20_000)
    dock.status.cancel.click()
    gate.set()
    settle(qtbot, dock)
    assert dock.asked.state.text() == "not measured"
    assert dock.status.words.text().startswith("Full picture, 15 steps")


def test_a_newer_request_replaces_the_measurement(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = gated_find(monkeypatch)
    with qtbot.waitSignal(dock.desk.shown, timeout=20_000):
        dock.ask()
    age(dock).box.setValue(79.0)
    gate.release(100)
    settle(qtbot, dock)
    assert dock.desk.picture is not None
    assert dock.desk.picture.request.conditions.as_dict()["age"] == 79.0
    assert dock.asked.state.text() == ""


# -- errors, closing, no segmenter -------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("tried to allocate 9 GiB"), "9 GiB"),
        (EngineError("The picture is dark. Choose another."), "The picture is dark"),
    ],
)
def test_an_error_is_one_sentence_and_trying_again_measures(
    qtbot: Any,
    dock: ExploreDock,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    words: str,
) -> None:
    def fail(*arguments: Any) -> Findings:
        raise error

    pictures: list[Any] = []
    with monkeypatch.context() as broken:
        broken.setattr(desk_module, "find", fail)
        dock.ask()
        settle(qtbot, dock)
    assert words in dock.error.words.text()
    assert dock.asked.state.text() == "not measured"
    dock.desk.shown.connect(lambda *picture: pictures.append(picture))
    dock.error.retry.click()
    settle(qtbot, dock)
    assert (dock.asked.state.text(), pictures) == ("", [])
    assert dock.error.isHidden()


def test_a_damaged_segmenter_is_one_sentence(
    qtbot: Any, make_napari_viewer_proxy: Any, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"not a checkpoint")
    viewer = make_napari_viewer_proxy()
    dock = ExploreDock(viewer, tiny_checkpoint, damaged)
    viewer.window.add_dock_widget(dock)
    settle(qtbot, dock)
    assert "damaged.safetensors" in dock.error.words.text()
    assert dock.desk.layer is not None
    assert dock.asked.state.text() == "not measured"
    dock.desk.close()


def test_without_a_segmenter_the_dock_says_so_and_works(
    qtbot: Any,
    make_napari_viewer_proxy: Any,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> Path:
        raise EngineError("segmenter.safetensors is not there. Install it again.")

    monkeypatch.setattr(desk_module, "bundled_segmenter", missing)
    viewer = make_napari_viewer_proxy()
    dock = ExploreDock(viewer, tiny_checkpoint)
    viewer.window.add_dock_widget(dock)
    settle(qtbot, dock)
    assert not dock.asked.excuse.isHidden()
    assert dock.asked.excuse.text() == "No segmenter at hand: not measured."
    assert "is not there" in dock.asked.excuse.toolTip()
    assert dock.asked.table.isHidden()
    assert dock.asked.structures.isHidden()
    assert dock.error.isHidden()
    assert dock.status.words.text().startswith("Full picture")
    dock.desk.close()


def test_closing_while_measuring_leaks_nothing(
    qtbot: Any,
    make_napari_viewer: Any,
    tiny_checkpoint: Path,
    segmenter_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    viewer = make_napari_viewer(strict_qt="raise")
    dock = ExploreDock(viewer, tiny_checkpoint, segmenter_file)
    viewer.window.add_dock_widget(dock)
    settle(qtbot, dock)
    gate, desk, told_of = gated_find(monkeypatch), dock.desk, []
    desk.measured.connect(told_of.append)
    with qtbot.waitSignal(desk.shown, timeout=20_000):
        dock.ask()
    qtbot.waitUntil(lambda: desk.busy)
    del dock
    viewer.close()
    qtbot.waitUntil(lambda: desk.renderer is None, timeout=10_000)
    gate.release(10)
    qtbot.waitUntil(
        lambda: not any(t.name.startswith("brainldm") for t in threading.enumerate())
    )
    gc.collect()
    assert told_of == []
    assert (desk._segmenter, desk.findings, desk.picture) == (None, None, None)


# -- structures --------------------------------------------------------------------


def test_structures_are_off_until_wanted_and_then_those_measured(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert structures(dock) == []
    found = count_findings(monkeypatch)
    dock.asked.structures.setChecked(True)
    settle(qtbot, dock)
    [layer] = structures(dock)
    assert found == []  # nothing is measured twice
    assert dock.desk.findings is not None
    assert np.array_equal(layer.data.T, dock.desk.findings.labels)
    assert (layer.visible, layer.opacity, layer.editable) == (True, 0.4, False)
    dock.asked.structures.setChecked(False)
    assert structures(dock) == []


def test_structures_lie_where_the_picture_lies(dock: ExploreDock) -> None:
    dock.asked.structures.setChecked(True)
    [layer], picture = structures(dock), dock.desk.layer
    assert layer.axis_labels == picture.axis_labels
    assert layer.units == picture.units
    # of one centre, though the tiny segmenter's voxels are smaller
    ends = [
        [one.data_to_world(p) for p in ((-0.5,) * 3, np.array(one.data.shape) - 0.5)]
        for one in (layer, picture)
    ]
    assert np.array(ends[0]) == pytest.approx(np.array(ends[1]))


def test_structures_follow_the_newest_picture_and_stay_locked(
    qtbot: Any, dock: ExploreDock
) -> None:
    dock.asked.structures.setChecked(True)
    [layer] = structures(dock)
    layer.opacity = 0.7
    dock.form.seed.box.setValue(5)  # type: ignore[union-attr]
    settle(qtbot, dock)
    assert structures(dock) == [layer]
    assert dock.desk.findings is not None
    assert np.array_equal(layer.data.T, dock.desk.findings.labels)
    assert (layer.visible, layer.opacity, layer.editable) == (True, 0.7, False)


def test_structures_of_an_older_picture_are_not_laid_over_a_newer(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock.asked.structures.setChecked(True)
    [layer] = structures(dock)
    gate = gated_find(monkeypatch)
    with qtbot.waitSignal(dock.desk.shown, timeout=20_000):
        dock.ask()
    assert not layer.visible
    gate.release(1)
    settle(qtbot, dock)
    assert layer.visible


def test_structures_hidden_by_the_eye_stay_hidden(
    qtbot: Any, dock: ExploreDock
) -> None:
    dock.asked.structures.setChecked(True)
    [layer] = structures(dock)
    layer.visible = False
    dock.ask()
    settle(qtbot, dock)
    assert not layer.visible


def test_deleting_the_layer_unticks_the_box(qtbot: Any, dock: ExploreDock) -> None:
    dock.asked.structures.setChecked(True)
    dock._viewer.layers.remove(structures(dock)[0])
    assert not dock.asked.structures.isChecked()
    dock.ask()
    settle(qtbot, dock)
    assert structures(dock) == []


def test_hovering_names_the_structure_and_its_volume(dock: ExploreDock) -> None:
    dock.asked.structures.setChecked(True)
    [layer] = structures(dock)
    assert dock.desk.findings is not None
    entry = max(dock.desk.findings.legend, key=lambda e: e.ml)
    voxel = np.argwhere(layer.data == entry.index)[0]
    status = layer.get_status(layer.data_to_world(voxel), world=True)
    assert f"structure: {entry.name}, volume: {entry.ml:.1f} ml" in status["value"]
    # napari tells of the selected layer
    assert dock._viewer.layers.selection.active == layer


def test_deep_structures_are_seen_through_the_mantle_in_3d(dock: ExploreDock) -> None:
    dock.asked.structures.setChecked(True)
    [layer] = structures(dock)
    cortex, hippocampus = 3, 17
    alphas = lambda: [layer.colormap.map(n)[3] for n in (cortex, hippocampus)]  # noqa: E731
    assert alphas() == [1, 1]
    dock._viewer.dims.ndisplay = 3
    assert alphas() == [0, 1]
    dock._viewer.dims.ndisplay = 2
    assert alphas() == [1, 1]


def test_every_structure_has_a_colour(dock: ExploreDock) -> None:
    assert dock.desk.findings is not None
    coloured = {index for indices in overlays.COLOURS for index in indices}
    assert {entry.index for entry in dock.desk.findings.legend} == coloured
    assert len(set(overlays.COLOURS.values())) == len(overlays.COLOURS)


# -- the panel by itself -----------------------------------------------------------

LINES = (
    Line("ventricles", "Ventricles", "Both.", 133.8, 167.4),
    Line("brain", "Brain, scaled", "Scaled.", 1291.5, 1154.3),
    Line("icv", "Intracranial", "All.", None, 1443.5),
)


def test_a_line_is_told_in_words_for_screen_readers() -> None:
    assert told(LINES[0]) == "Ventricles: asked 134 ml, got 167 ml (+34 ml, +25 %)."
    assert told(LINES[2]) == "Intracranial: got 1444 ml."
    small = Line("ventricles", "Ventricles", "", 20.0, 19.0)
    assert told(small) == "Ventricles: asked 20.0 ml, got 19.0 ml (−1.0 ml, −5.0 %)."


def test_no_difference_has_no_sign() -> None:
    assert [signed(v, 1) for v in (0.0, -0.04, 0.04)] == ["0.0", "0.0", "0.0"]


def test_the_panel_is_reachable_and_told_as_a_whole(dock: ExploreDock) -> None:
    from qtpy.QtCore import Qt

    assert dock.asked.accessibleName() == "Asked against got"
    assert dock.asked.accessibleDescription().startswith("Ventricles: asked 30")
    assert dock.asked.focusPolicy() == Qt.FocusPolicy.TabFocus


@pytest.mark.parametrize("scale", [1.0, 1.25, 2.0])
def test_nothing_is_cut_whatever_the_size_of_the_letters(
    qtbot: Any, make_dock: MakeDock, scale: float
) -> None:
    dock = make_dock(show=True)
    dock.setStyleSheet(f"QLabel {{ font-size: {round(12 * scale)}px; }}")
    dock.asked.prepare(LINES)
    dock.asked.tell(SimpleNamespace(lines=LINES, method="segmenter"))
    qtbot.wait(100)
    heights = {label.title.height() for label in dock.asked._lines.values()}
    assert min(heights) >= 12 * scale
    for labels in dock.asked._lines.values():
        for label in (labels.title, *labels.numbers):
            need = label.fontMetrics().horizontalAdvance(label.text())
            assert need <= label.contentsRect().width(), label.text()


def test_the_panel_fits_the_dock_at_its_widest_numbers(qtbot: Any) -> None:
    panel = AskedPanel()
    qtbot.addWidget(panel)
    panel.prepare(LINES)
    panel.tell(SimpleNamespace(lines=LINES, method="segmenter"))
    assert panel.minimumSizeHint().width() <= 300

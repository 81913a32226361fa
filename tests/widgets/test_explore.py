"""The Explore dock: what a user sees and may rely on."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QFileDialog,
)

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.renderer import Progress, Renderer, finish
from napari_brainldm.engine.request import EngineError, Request, Seed
from napari_brainldm.widgets import explore, layers
from napari_brainldm.widgets.explore import ExploreDock
from napari_brainldm.widgets.preferences import Preferences
from tests import foreign
from tests.widgets.conftest import close_for_good, is_gone, settle

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Volume

PREVIEW_STEPS = Preferences().preview_steps
MakeDock = Callable[..., ExploreDock]


@pytest.fixture
def dock(make_dock: MakeDock) -> ExploreDock:
    return make_dock(strict_qt="raise")


def count_renders(dock: ExploreDock, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """Requests that reach the renderer from now on."""
    assert dock.desk.renderer is not None
    asked: list[Request] = []

    def counted(make: Callable[[Request], Any], request: Request) -> Any:
        asked.append(request)
        return make(request)

    for name in ("render", "sketch"):
        make = getattr(dock.desk.renderer, name)
        monkeypatch.setattr(dock.desk.renderer, name, partial(counted, make))
    return asked


def slow(dock: ExploreDock, monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Let every step wait for the test's permission."""
    assert dock.desk.renderer is not None
    gate, render = threading.Semaphore(0), dock.desk.renderer.render

    def gated(request: Request) -> Generator[Progress, None, Volume]:
        steps = render(request)
        while True:
            assert gate.acquire(timeout=20)
            try:
                step = next(steps)
            except StopIteration as done:
                return done.value
            yield step

    monkeypatch.setattr(dock.desk.renderer, "render", gated)
    return gate


def age(dock: ExploreDock) -> Any:
    assert dock.form is not None
    return dock.form.rows["age"]


# -- pictures ----------------------------------------------------------------------


def test_the_first_picture_is_the_one_the_controls_say(
    dock: ExploreDock, tiny_checkpoint: Path
) -> None:
    assert dock.form is not None
    request = dock.form.request()
    assert request.conditions.as_dict() == {
        "age": 64.0,
        "sex": "F",
        "ventricles": 30.0,
        "brain": 1150.0,
    }
    expected = finish(Renderer(load_checkpoint(tiny_checkpoint)).render(request))
    shown = layers.volume_of(dock.desk.layer)
    assert np.array_equal(shown.data, expected.data)
    assert np.array_equal(shown.affine, expected.affine)


def test_the_layer_can_make_its_picture_again(
    qtbot: Any, dock: ExploreDock, tiny_checkpoint: Path
) -> None:
    age(dock).box.setValue(77.0)
    settle(qtbot, dock)
    record = dock.desk.layer.metadata["record"]
    request = Request.from_json(json.dumps(record["Request"]))
    assert request.conditions.as_dict()["age"] == 77.0
    checkpoint = load_checkpoint(tiny_checkpoint)
    assert record["Checkpoint"]["sha256"] == checkpoint.sha256
    again = finish(Renderer(checkpoint).render(request))
    assert again.digest == record["PictureSha256"]
    assert layers.volume_of(dock.desk.layer).digest == again.digest


def test_a_hundred_ticks_make_one_preview_and_one_picture(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = count_renders(dock, monkeypatch)
    for tick in range(100):
        age(dock).slider.setValue(50.0 + tick / 10)
    settle(qtbot, dock)
    assert [request.sampler.steps for request in asked] == [PREVIEW_STEPS, 15]
    assert {request.conditions.as_dict()["age"] for request in asked} == {59.9}


def test_dragging_previews_and_letting_go_renders(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = count_renders(dock, monkeypatch)
    slider = age(dock).slider
    slider.setSliderDown(True)
    slider.setValue(70.0)
    qtbot.waitUntil(lambda: len(asked) == 1)
    qtbot.wait(3 * explore.SETTLE_MS // 2)
    assert len(asked) == 1  # a resting hand is not yet done
    slider.setSliderDown(False)
    settle(qtbot, dock)
    assert [request.sampler.steps for request in asked] == [PREVIEW_STEPS, 15]


def test_a_preview_is_shown_after_the_first_step_and_says_what_it_is(
    qtbot: Any, dock: ExploreDock
) -> None:
    marks: list[bool] = []
    dock.desk.shown.connect(
        lambda picture, _: marks.append(picture.record.get("Preview", False))
    )
    age(dock).slider.setValue(80.0)
    settle(qtbot, dock)
    assert sum(marks) >= 2
    assert not marks[-1]
    assert "Preview" not in dock.desk.layer.metadata["record"]


def test_without_live_preview_only_full_pictures_are_made(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dock.form is not None
    dock.form.sampler.live.setChecked(False)
    asked = count_renders(dock, monkeypatch)
    age(dock).slider.setValue(70.0)
    settle(qtbot, dock)
    assert [request.sampler.steps for request in asked] == [15]


def test_pictures_follow_in_one_layer(qtbot: Any, dock: ExploreDock) -> None:
    before = dock.desk.layer.data.copy()
    age(dock).box.setValue(80.0)
    settle(qtbot, dock)
    viewer_layers = dock._viewer.layers
    assert [layer.name for layer in viewer_layers] == ["Synthetic brain"]
    assert not np.array_equal(before, dock.desk.layer.data)


def test_a_locked_seed_stays_and_an_open_one_changes(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dock.form is not None
    seeds = lambda asked: {request.origin.value for request in asked}  # noqa: E731
    asked = count_renders(dock, monkeypatch)
    age(dock).box.setValue(70.0)
    settle(qtbot, dock)
    assert seeds(asked) == {0}
    dock.form.seed.lock.setChecked(False)
    asked.clear()
    age(dock).box.setValue(71.0)
    settle(qtbot, dock)
    assert seeds(asked[-1:]) != {0}
    assert dock.form.seed.box.value() in seeds(asked)


def test_reset_moves_every_slider_and_makes_one_picture(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dock.form is not None
    reference = dock.form.request()
    for name, value in (("age", 50.0), ("ventricles", 99.0), ("sex", "M")):
        dock.form.rows[name].set_value(value)
    dock.ask()
    settle(qtbot, dock)
    asked = count_renders(dock, monkeypatch)
    dock.form.reset.click()
    settle(qtbot, dock)
    assert len(asked) == 2  # its preview and its full picture
    assert asked[-1] == reference


# -- cancel, errors, closing -------------------------------------------------------


def test_cancel_stops_within_one_step_and_keeps_the_picture(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dock.desk.layer.data.copy()
    gate, ticks = slow(dock, monkeypatch), []
    dock.desk.progressed.connect(ticks.append)
    dock.ask()
    gate.release(2)
    qtbot.waitUntil(lambda: len(ticks) == 2)
    assert dock.status.cancel.isEnabled()
    dock.status.cancel.click()
    gate.release(100)
    settle(qtbot, dock)
    assert len(ticks) <= 3
    assert dock.status.words.text() == "Cancelled"
    assert not dock.status.cancel.isEnabled()
    assert np.array_equal(before, dock.desk.layer.data)


def test_escape_is_bound_to_cancel(
    qtbot: Any, make_dock: MakeDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = make_dock(show=True)
    gate = slow(dock, monkeypatch)
    dock.activateWindow()
    age(dock).slider.setFocus()
    dock.ask()
    gate.release(1)
    qtbot.waitUntil(lambda: dock.status.cancel.isEnabled())
    qtbot.keyClick(age(dock).slider, Qt.Key.Key_Escape)
    gate.release(100)
    settle(qtbot, dock)
    assert dock.status.words.text() == "Cancelled"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("no kernel image"), "no kernel image"),
        (torch.OutOfMemoryError("tried to allocate 9 GiB"), "9 GiB"),
        (EngineError("Memory ran out on cuda. Close other programs."), "Memory ran"),
    ],
)
def test_an_error_is_one_sentence_and_the_next_picture_comes(
    qtbot: Any,
    dock: ExploreDock,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    words: str,
) -> None:
    def fail(request: Request) -> Generator[Progress, None, Volume]:
        yield Progress("denoise", 1, 2)
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(dock.desk.renderer, "render", fail)
        dock.ask()
        settle(qtbot, dock)
    assert not dock.error.isHidden()
    assert words in dock.error.words.text()
    assert dock.status.words.text() == "Stopped by an error"
    dock.error.retry.click()
    settle(qtbot, dock)
    assert dock.error.isHidden()
    assert dock.status.words.text().startswith("Full picture, 15 steps")


def test_closing_the_viewer_in_the_middle_of_a_run_is_clean(
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
    gate, ticks, shown = slow(dock, monkeypatch), [], []
    desk = dock.desk
    desk.progressed.connect(ticks.append)
    desk.shown.connect(lambda *picture: shown.append(picture))
    dock.ask()
    gate.release(1)
    qtbot.waitUntil(lambda: len(ticks) == 1)
    del dock
    viewer.close()
    qtbot.waitUntil(lambda: desk.renderer is None, timeout=10_000)
    gate.release(100)
    qtbot.wait(300)
    gc.collect()
    assert (len(ticks), shown) == (1, [])
    assert not any(t.name.startswith("brainldm") for t in threading.enumerate())


def test_nothing_of_a_closed_dock_stays(
    qtbot: Any,
    make_napari_viewer_proxy: Any,
    tiny_checkpoint: Path,
    segmenter_file: Path,
) -> None:
    viewer = make_napari_viewer_proxy()
    dock = ExploreDock(viewer, tiny_checkpoint, segmenter_file)
    inside = viewer.window.add_dock_widget(dock, name="Explore")
    settle(qtbot, dock)
    gone = weakref.ref(dock)
    close_for_good(viewer, inside, dock)
    del dock, inside
    assert is_gone(gone)


def test_two_viewers_are_independent(
    qtbot: Any, make_dock: MakeDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_dock(), make_dock()
    before = second.desk.layer.data.copy()
    age(first).box.setValue(81.0)
    first.ask()
    settle(qtbot, first)
    assert np.array_equal(before, second.desk.layer.data)
    assert not np.array_equal(before, first.desk.layer.data)
    assert age(second).value() == 64.0


# -- what is seen ------------------------------------------------------------------


def test_outside_the_training_range_is_said_in_words_and_colour(
    dock: ExploreDock,
) -> None:
    row = dock.form.rows["ventricles"]  # type: ignore[union-attr]
    assert row.note.text() == "training range 7–172 ml"
    calm = row.note.styleSheet()
    row.slider.setValue(190.0)
    assert row.note.text() == "⚠ outside training range 7–172 ml"
    assert row.note.styleSheet() != calm
    row.slider.setValue(100.0)
    assert row.note.text() == "training range 7–172 ml"


def test_sliders_reach_beyond_training_but_not_below_zero(dock: ExploreDock) -> None:
    rows = dock.form.rows  # type: ignore[union-attr]
    slider = rows["age"].slider
    assert (slider.minimum(), slider.maximum()) == pytest.approx((34.5, 91.5))
    assert rows["ventricles"].slider.minimum() == 0.0


def test_a_typed_value_may_go_further_than_the_slider(
    qtbot: Any, dock: ExploreDock
) -> None:
    age(dock).box.setValue(120.0)
    settle(qtbot, dock)
    record = dock.desk.layer.metadata["record"]
    assert record["Request"]["conditions"]["age"] == 120.0
    assert record["OutOfTrainingRange"] == ["age"]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_words_can_be_read_in_both_themes(dock: ExploreDock, theme: str) -> None:
    from napari.utils.theme import get_theme
    from qtpy.QtGui import QColor

    dock._viewer.theme = theme
    background = QColor(*get_theme(theme).background.as_rgb_tuple()[:3])
    colours = dock.status.colours
    for name in ("text", "faint", "accent", "warning", "error"):
        assert contrast(QColor(getattr(colours, name)), background) >= 4.5, name
    dock._viewer.theme = "dark"


def contrast(a: Any, b: Any) -> float:
    """WCAG 2 contrast ratio of two colours."""

    def luminance(colour: Any) -> float:
        parts = [colour.redF(), colour.greenF(), colour.blueF()]
        linear = [
            p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
        ]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    bright, dark = sorted([luminance(a), luminance(b)], reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_every_control_has_a_name_a_tooltip_and_the_keyboard(dock: ExploreDock) -> None:
    kinds = (QAbstractButton, QAbstractSlider, QAbstractSpinBox)
    controls = [w for kind in kinds for w in dock.findChildren(kind)]
    ours = [w for w in controls if not w.objectName().startswith("qt_")]
    ours = [w for w in ours if type(w).__name__ != "QScrollBar"]
    assert len(ours) > 15
    for control in ours:
        text = getattr(control, "text", str)()
        assert control.accessibleName() or text, control
        assert control.focusPolicy() != Qt.FocusPolicy.NoFocus, control


def test_the_notice_of_the_card_is_visible(dock: ExploreDock) -> None:
    assert dock.desk.renderer is not None
    assert dock.notice.text() == dock.desk.renderer.card.provenance.notice
    assert not dock.notice.isHidden()


def test_the_dock_fits_320_pixels(dock: ExploreDock) -> None:
    dock.error.show_sentence("A long sentence about what went wrong. " * 5)
    dock.form.advanced.expand(animate=False)  # type: ignore[union-attr]
    assert dock.minimumSizeHint().width() <= 320
    assert dock.form.minimumSizeHint().width() <= 300  # type: ignore[union-attr]


# -- checkpoints and files ---------------------------------------------------------


def test_a_missing_bundled_model_is_one_sentence_and_open_helps(
    qtbot: Any,
    make_napari_viewer_proxy: Any,
    tiny_checkpoint: Path,
    segmenter_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> Path:
        raise EngineError("brain_ldm_demo.safetensors is not there. Open another.")

    monkeypatch.setattr(ExploreDock, "bundled", staticmethod(missing))
    viewer = make_napari_viewer_proxy()
    dock = ExploreDock(viewer, segmenter=segmenter_file)
    viewer.window.add_dock_widget(dock)
    assert "is not there" in dock.error.words.text()
    chosen = (str(tiny_checkpoint), "")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: chosen)
    dock.models.browse.click()
    settle(qtbot, dock)
    assert dock.error.isHidden()
    assert dock.models.picker.currentText() == "Tiny"
    assert dock.desk.layer is not None


def test_a_file_that_is_no_checkpoint_leaves_the_model_in_use(
    qtbot: Any, dock: ExploreDock, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"not a checkpoint")
    dock.open(wrong)
    settle(qtbot, dock)
    assert "wrong.safetensors" in dock.error.words.text()
    assert dock.models.picker.currentText() == "Tiny"
    age(dock).box.setValue(70.0)
    settle(qtbot, dock)
    assert dock.desk.layer.metadata["record"]["Request"]["conditions"]["age"] == 70.0


def test_the_export_has_the_true_affine_and_the_mark(
    qtbot: Any, dock: ExploreDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered: list[str] = []

    def choose(parent: Any, title: str, name: str, kinds: str) -> tuple[str, str]:
        offered.append(name)
        return str(tmp_path / name), kinds

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    dock.below.export.click()
    settle(qtbot, dock)
    assert offered == ["age-64_brain-1150_sex-F_ventricles-30_seed-0.nii.gz"]
    [path] = tmp_path.glob("*_desc-synthetic_T1w.nii.gz")
    image = nib.load(path)
    assert dock.desk.renderer is not None
    assert np.array_equal(image.affine, dock.desk.renderer.card.grid.matrix)
    sidecar = json.loads(path.with_name(path.name[:-7] + ".json").read_text())
    assert sidecar["Synthetic"] is True
    assert "EditedAfterwards" not in sidecar
    shown = layers.volume_of(dock.desk.layer)
    assert np.array_equal(np.asarray(image.dataobj), shown.data)
    assert dock.status.words.text() == f"Wrote {path.name}"


def test_widgets_import_no_torch_of_their_own(root: Path) -> None:
    code = (
        "import sys;"
        "import napari_brainldm.widgets.layers, napari_brainldm.widgets.job;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    assert done.stdout.strip() == "False"


def test_no_value_is_cut_off(qtbot: Any, make_dock: MakeDock) -> None:
    dock = make_dock(show=True)
    qtbot.wait(50)
    for name in ("age", "ventricles", "brain"):
        box = dock.form.rows[name].box  # type: ignore[union-attr]
        box.setValue(dock.form.rows[name].slider.maximum())  # type: ignore[union-attr]
        text = box.fontMetrics().horizontalAdvance(box.text())
        assert text <= box.lineEdit().width(), box.text()
    settle(qtbot, dock)


def test_a_generated_brain_is_moved_along_a_direction(
    qtbot: Any, make_dock: MakeDock, tmp_path: Path
) -> None:
    """Amount 0 is the same noise under the code of its own picture."""
    dock = make_dock()
    dock.open(foreign.known_ldae(tmp_path))
    settle(qtbot, dock)
    assert dock.desk.picture is not None
    assert dock.desk.picture.request.shift == (("AD", 0.0),)
    still = dock.desk.picture.volume.data
    dock.form.ways["AD"].box.setValue(2.0)
    settle(qtbot, dock)
    picture = dock.desk.picture
    assert picture.request.origin == Seed(dock.form.seed.box.value())
    assert picture.request.shift == (("AD", 2.0),)
    assert not np.allclose(picture.volume.data, still, atol=1e-4)
    dock.past.undo.click()
    settle(qtbot, dock)
    np.testing.assert_array_equal(dock.desk.picture.volume.data, still)
    assert dock.form.ways["AD"].value() == 0.0

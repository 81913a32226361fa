"""Twelve stories of a user at the Explore dock, told by what they press and see.

With BRAINLDM_STORIES set to a folder, the bundled model plays them in a visible window
and a picture of each is left there; without it a tiny one does, unseen.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QFileDialog
from superqt import QCollapsible

from napari_brainldm.engine.resources import bundled_checkpoint, bundled_segmenter
from napari_brainldm.widgets import layers
from napari_brainldm.widgets.explore import ExploreDock
from napari_brainldm.widgets.series import CHANGE, MEAN, SD
from tests.widgets.conftest import settle

FOLDER = os.environ.get("BRAINLDM_STORIES", "")
LEFT = Qt.MouseButton.LeftButton


class Story:
    """A dock in a viewer, the user's hand, and what they see."""

    def __init__(self, qtbot: Any, viewer: Any, dock: ExploreDock, name: str) -> None:
        self.qtbot, self.viewer, self.dock, self.name = qtbot, viewer, dock, name

    def press(self, button: Any) -> None:
        """Click a button, which must be there and enabled."""
        assert button.isEnabled()
        if FOLDER:
            self.dock.area.ensureWidgetVisible(button)
            self.qtbot.waitUntil(button.isVisible)
            self.qtbot.wait(50)
        self.qtbot.mouseClick(button, LEFT)

    def tick(self, box: Any) -> None:
        """Click the box of a check box."""
        assert box.isEnabled()
        self.qtbot.mouseClick(box, LEFT, pos=QPoint(8, box.height() // 2))

    def unfold(self, title: str) -> None:
        """Open a section of the dock."""
        sections = self.dock.findChildren(QCollapsible)
        section = next(s for s in sections if s.text() == title)
        section.expand(animate=False)
        self.qtbot.wait(50)

    def type(self, name: str, text: str) -> None:
        """Type a value for a condition and wait for its picture."""
        assert self.dock.form is not None
        box = self.dock.form.rows[name].box  # type: ignore[union-attr]
        box.selectAll()
        self.qtbot.keyClicks(box.lineEdit(), text)
        self.qtbot.keyClick(box, Qt.Key.Key_Return)
        self.settle()

    def settle(self) -> None:
        """Wait until the dock has nothing more to do."""
        settle(self.qtbot, self.dock)

    @property
    def picture(self) -> np.ndarray:
        """The picture that is shown."""
        return layers.volume_of(self.dock.desk.layer).data

    @property
    def said(self) -> str:
        """The last words of the dock, and its error if there is one."""
        error = self.dock.error
        words = "" if error.isHidden() else error.words.text()
        return f"{self.dock.status.words.text()} {words}".strip()

    def names(self) -> list[str]:
        """Layers, from the lowest."""
        return [layer.name for layer in self.viewer.layers]

    def photograph(self) -> None:
        """Leave a picture of the window, if anybody wants to look."""
        if FOLDER:
            self.qtbot.wait(300)
            path = Path(FOLDER) / f"{self.name}.png"
            self.viewer.screenshot(str(path), canvas_only=False, flash=False)


Open = Callable[[], Story]


@pytest.fixture
def open_story(
    request: Any,
    make_napari_viewer: Any,
    qtbot: Any,
    tiny_checkpoint: Path,
    segmenter_file: Path,
    docks: list[ExploreDock],
) -> Open:
    def begin() -> Story:
        files = (tiny_checkpoint, segmenter_file)
        if FOLDER:
            Path(FOLDER).mkdir(parents=True, exist_ok=True)
            files = (bundled_checkpoint(), bundled_segmenter())
        viewer = make_napari_viewer(show=bool(FOLDER), strict_qt="raise")
        viewer.window.resize(1400, 900)
        dock = ExploreDock(viewer, *files)
        viewer.window.add_dock_widget(dock, name="Explore")
        docks.append(dock)
        name = request.node.name.removeprefix("test_")
        story = Story(qtbot, viewer, dock, name)
        story.settle()
        return story

    return begin


@pytest.fixture
def story(open_story: Open) -> Story:
    return open_story()


def test_01_drag_fast(story: Story) -> None:
    """A hand that never rests sees previews, and in the end what it last asked for."""
    slider = story.dock.form.rows["ventricles"].slider
    seen: list[bool] = []
    story.dock.desk.shown.connect(lambda _, preview: seen.append(preview))
    slider.setSliderDown(True)
    for value in np.linspace(20, 60, 60):
        slider.setValue(float(value))
        story.qtbot.wait(5)
    story.qtbot.waitUntil(lambda: any(seen), timeout=30_000)
    assert all(seen)  # previews alone while the handle is held
    slider.setSliderDown(False)
    story.settle()
    assert seen[-1] is False
    asked = story.dock.desk.picture.request.conditions.as_dict()
    assert asked["ventricles"] == 60.0
    assert story.said.startswith("Full picture")
    story.photograph()


def test_02_cancel(story: Story) -> None:
    """A long run is stopped by its button; the former picture stays."""
    before = story.picture.copy()
    story.unfold("Sweep")
    story.dock.sweeps.first.steps.setValue(40)
    story.press(story.dock.sweeps.begin)
    story.qtbot.waitUntil(lambda: story.dock.status.cancel.isEnabled())
    story.photograph()
    story.press(story.dock.status.cancel)
    story.settle()
    assert np.array_equal(story.picture, before)
    assert story.said == "Cancelled"
    assert not any(name.startswith("Sweep") for name in story.names())


def test_03_close_in_the_middle(open_story: Open) -> None:
    """The window is closed while a picture is made: no thread and no word is left."""
    story = open_story()
    desk, qtbot = story.dock.desk, story.qtbot
    story.photograph()
    story.dock.ask()
    story.viewer.close()
    qtbot.waitUntil(lambda: desk.renderer is None, timeout=20_000)
    running = partial(map, lambda thread: thread.name, threading.enumerate())
    qtbot.waitUntil(
        lambda: not any(name.startswith("brainldm") for name in running()),
        timeout=20_000,
    )


def test_04_out_of_range(story: Story) -> None:
    """Beyond the training people a picture is made, and the dock says so."""
    row = story.dock.form.rows["ventricles"]
    story.type("ventricles", f"{row.covariate.high * 1.3:.1f}")
    assert row.note.text().startswith("⚠ outside training range")
    assert story.dock.desk.picture.record["OutOfTrainingRange"] == ["ventricles"]
    assert story.dock.error.isHidden()
    story.photograph()


def test_05_pin_and_compare(story: Story) -> None:
    """What a slider changes is seen as a signed layer over the picture."""
    story.unfold("Compare")
    reference = story.picture.copy()
    story.press(story.dock.compare.pin)
    story.type("ventricles", "90")
    change = story.viewer.layers["Difference"]
    assert np.array_equal(change.data, (story.picture - reference).T)
    low, high = change.contrast_limits
    assert low == -high
    story.photograph()


def test_06_undo(story: Story) -> None:
    """Two steps back, the picture has the same bits as it had."""
    first = story.picture.copy()
    story.type("age", "80")
    story.type("ventricles", "70")
    story.press(story.dock.past.undo)
    story.settle()
    story.press(story.dock.past.undo)
    story.settle()
    assert np.array_equal(story.picture, first)
    story.photograph()


def test_07_sweep(story: Story) -> None:
    """One condition from end to end is a layer that napari's slider plays."""
    story.unfold("Sweep")
    story.dock.sweeps.first.steps.setValue(5)
    story.press(story.dock.sweeps.begin)
    story.settle()
    layer = story.viewer.layers[-1]
    assert layer.name.startswith("Sweep")
    assert layer.data.shape[0] == 5
    assert story.viewer.dims.ndim == 4
    story.photograph()


def test_08_uncertainty(story: Story) -> None:
    """Is the change more than the noise's? Eight seeds tell."""
    story.unfold("Compare")
    story.press(story.dock.compare.pin)
    story.type("ventricles", "90")
    story.unfold("Spread over seeds")
    story.dock.seeds.count.setValue(3)
    story.press(story.dock.seeds.begin)
    story.settle()
    assert {MEAN, SD, CHANGE} <= set(story.names())
    mean = story.dock.series.spread.mean.data
    assert np.array_equal(story.viewer.layers[MEAN].data, mean.T)
    story.photograph()


def test_09_regions(story: Story) -> None:
    """The table is searched, and a click goes to the structure."""
    story.press(story.dock.below.table)
    panel = story.dock.regions.panel
    assert panel is not None
    story.qtbot.keyClicks(panel.search, "hippo")
    names = [
        panel.sorted.index(row, 0).data() for row in range(panel.sorted.rowCount())
    ]
    assert names == ["Left hippocampus", "Right hippocampus"]
    row = next(r for r in panel.model.table.rows if r.name == names[0])
    if row.centre is not None:  # random weights may find none
        panel.view.clicked.emit(panel.sorted.index(0, 0))
        assert story.viewer.dims.point == pytest.approx(row.centre[::-1], abs=8)
    story.photograph()


def test_10_workspace(
    story: Story, open_story: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved in one window, reopened in another: the same bits."""
    story.unfold("Compare")
    story.press(story.dock.compare.pin)
    story.type("ventricles", "70")
    chosen = (str(tmp_path / "mine.workspace.json"), "")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: chosen)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: chosen)
    story.dock.below.ask_keep()
    other = open_story()
    other.dock.below.ask_reopen()
    other.settle()
    assert np.array_equal(other.picture, story.picture)
    assert "bit for bit" in other.said
    assert "Difference" in other.names()
    other.photograph()


def test_11_wrong_file_dropped(story: Story, tmp_path: Path) -> None:
    """A file that is no checkpoint is told in one sentence; nothing is lost."""
    before = story.picture.copy()
    path = tmp_path / "holiday.safetensors"
    path.write_bytes(b"no weights at all")
    story.dock.open(path)
    story.settle()
    assert "holiday.safetensors" in story.said
    assert story.said.endswith(".")
    assert np.array_equal(story.picture, before)
    story.photograph()
    story.type("age", "70")
    assert story.dock.error.isHidden()


def test_12_out_of_memory(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out in the decoder: one sentence with the way out, then go on."""
    renderer = story.dock.desk.renderer
    assert renderer is not None

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 9 GiB")

    before = story.picture.copy()
    with monkeypatch.context() as broken:
        broken.setattr(renderer, "decode", fail)
        story.dock.ask()
        story.settle()
        assert "Memory ran out" in story.said
        assert np.array_equal(story.picture, before)
        story.photograph()
    story.press(story.dock.error.retry)
    story.settle()
    assert story.dock.error.isHidden()
    assert story.said.startswith("Full picture")

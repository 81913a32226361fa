"""Ten stories of a user at the Connectivity dock, told by what they press and see.

With BRAINLDM_STORIES set to a folder, the bundled model and its simulated people play
them in a visible window and a picture of each is left there; without it a tiny model
and tiny people do, unseen.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resources import bundled_fnc, bundled_gm_ldm
from napari_brainldm.widgets.connectivity import ConnectivityDock
from napari_brainldm.widgets.contrast_tables import CLUSTERS, FIGURES, REGIONS
from tests.widgets.bundle import bundle_tiny
from tests.widgets.test_stories import FOLDER, Story

CHANGE = "A − B"


class Tale(Story):
    """A story at this dock."""

    dock: ConnectivityDock

    def choose(self, box: Any, key: str) -> None:
        """Choose an entry of a list."""
        box.setCurrentIndex(box.findData(key))
        box.activated.emit(box.currentIndex())

    def sample(self) -> None:
        """Load the simulated people."""
        self.press(self.dock.matrices.source.sample)
        self.settle()
        assert self.dock.matrices.source.table is not None, self.said

    def compare(self, whose: str, against: str = "mean", seeds: int = 1) -> None:
        """Begin a comparison."""
        panel = self.dock.contrast
        self.unfold("Compare")
        self.choose(panel.whose, whose)
        self.choose(panel.against, against)
        panel.seeds.setValue(seeds)
        panel.nulls.setValue(2)
        self.press(panel.begin)

    def find_out(self, method: str) -> None:
        """Ask for a saliency map and wait for it."""
        self.unfold("Saliency")
        self.choose(self.dock.saliency.method, method)
        self.press(self.dock.saliency.begin)
        self.settle()


Open = Callable[[], Tale]


@pytest.fixture
def open_story(
    request: Any,
    make_napari_viewer: Any,
    qtbot: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    docks: list[Any],
) -> Open:
    if FOLDER:
        try:
            bundled_gm_ldm()
        except EngineError:
            pytest.skip("needs resources/gm_ldm_demo.safetensors and its table")
        if bundled_fnc() is None:
            pytest.skip("needs resources/gm_ldm_fnc.csv")
    else:
        folder = tmp_path / "resources"
        folder.mkdir()
        bundle_tiny(folder, monkeypatch)

    def begin() -> Tale:
        Path(FOLDER or tmp_path).mkdir(parents=True, exist_ok=True)
        viewer = make_napari_viewer(show=bool(FOLDER), strict_qt="raise")
        viewer.window.resize(1400, 900)
        dock = ConnectivityDock(viewer)
        viewer.window.add_dock_widget(dock, name="Connectivity")
        docks.append(dock)
        name = "connectivity_" + request.node.name.removeprefix("test_")
        story = Tale(qtbot, viewer, dock, name)
        story.settle()
        dock.form.sampler.steps.setValue(5 if FOLDER else 2)  # type: ignore[union-attr]
        story.settle()
        return story

    return begin


@pytest.fixture
def story(open_story: Open) -> Tale:
    return open_story()


def test_01_at_once(story: Tale) -> None:
    """Nothing was opened: a map is there, and simulated people are one click away."""
    assert story.dock.desk.layer is not None and not story.dock.desk.busy
    before = story.picture.copy()
    story.sample()
    assert not np.array_equal(story.picture, before)
    assert story.dock.contrast.whose.count() == 2
    story.photograph()


def test_02_drag_a_network_pair(story: Tale) -> None:
    """A click in the matrix, a drag: previews, the full map, and a name for it."""
    story.sample()
    panel, seen = story.dock.matrices, []
    story.dock.desk.shown.connect(lambda _, preview: seen.append(preview))
    last = len(panel.components) - 1
    story.qtbot.mouseClick(
        panel.matrix,
        Qt.MouseButton.LeftButton,
        pos=panel.matrix.centre_of(0, last).toPoint(),
    )
    panel.slider.setSliderDown(True)
    for value in np.linspace(1, -1, 30):
        panel.slider.setValue(float(value))
        story.qtbot.wait(5)
    panel.slider.setSliderDown(False)
    story.settle()
    assert seen and seen[-1] is False
    assert panel.words.text().endswith("x -1")
    story.photograph()


def test_03_a_comparison_is_stopped(story: Tale) -> None:
    """The map sharpens on screen; Cancel keeps it and promises nothing of it."""
    story.sample()
    story.compare("everybody", seeds=50)
    story.qtbot.waitUntil(lambda: CHANGE in story.names(), timeout=120_000)
    story.press(story.dock.status.cancel)
    story.settle()
    assert CHANGE in story.names()
    assert story.dock.contrasts.made is None
    assert not story.dock.contrast.figures.isEnabled()
    story.photograph()


def test_04_from_table_to_paper(
    story: Tale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All subjects: regions, clusters, figures, and everything in a folder."""
    story.sample()
    story.compare("everybody")
    story.settle()
    panel, panels = story.dock.contrast, story.dock.contrasts.tables.panels
    panel.threshold.setValue(0.3)
    for button in (panel.table, panel.clusters, panel.figures):
        story.press(button)
        story.settle()
        story.photograph()
        story.name += "+"
    assert "p (FWE)" in panels[REGIONS].model.table.heads
    assert "Both signs" in panels[CLUSTERS].words.text()
    assert panels[FIGURES].tabs.count() == 3
    chosen = (str(tmp_path / "study.nii.gz"), "")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: chosen)
    story.press(panel.export)
    story.settle()
    assert story.said.startswith("Wrote study_A")
    assert len(list(tmp_path.glob("study*"))) > 20


def test_05_one_subject_has_no_p_value(story: Tale) -> None:
    """However many seeds: the dock says that it describes the model."""
    story.sample()
    story.compare("this connectivity", "another", seeds=3)
    story.settle()
    assert "no p-values" in story.dock.contrast.words.text()
    assert not story.dock.contrast.voxels.begin.isEnabled()
    story.photograph()


def test_06_voxels_are_tested(story: Tale) -> None:
    """A long test is cancelled without harm, a shorter one tells its counts."""
    story.sample()
    story.compare("everybody")
    story.settle()
    voxels = story.dock.contrast.voxels
    voxels.flips.setValue(100_000)
    story.press(voxels.begin)
    story.qtbot.waitUntil(lambda: story.dock.status.cancel.isEnabled())
    story.press(story.dock.status.cancel)
    story.settle()
    assert story.dock.contrasts.tested is None
    assert story.dock.contrasts.made is not None
    voxels.flips.setValue(100)
    if voxels.enhanced.isChecked():
        story.tick(voxels.enhanced)
    story.press(voxels.begin)
    story.settle()
    assert "100 sign flips" in voxels.words.text()
    story.photograph()


def test_07_which_networks(story: Tale) -> None:
    """A click on a cell of the occlusion table shows the map of its block."""
    story.sample()
    story.find_out("blocks")
    heat = story.dock.saliency.blocks
    assert heat.heat is not None
    assert "Spearman" in story.dock.saliency.sanity.text()
    if FOLDER:
        story.dock.area.ensureWidgetVisible(heat)
    else:  # nobody has laid it out
        heat.resize(300, 200)
    place = heat.centre_of(1, 3).toPoint()
    story.qtbot.mouseClick(heat, Qt.MouseButton.LeftButton, pos=place)
    assert f"Saliency: {heat.heat.rows[1]}" in story.names()
    story.photograph()


def test_08_attention_is_no_evidence(story: Tale) -> None:
    """It comes last, and says by itself what it is."""
    story.sample()
    story.find_out("attention")
    words = story.dock.saliency.words.text()
    assert "Descriptive: " in words and "not what it uses" in words
    story.photograph()


def test_09_wrong_files(story: Tale, tmp_path: Path) -> None:
    """A table of another kind is refused in a sentence; nothing is lost."""
    story.sample()
    before, table = story.picture.copy(), story.dock.matrices.source.table
    for name, text in (("notes.csv", "Id,a\n1,2\n"), ("broken.npy", "no array")):
        path = tmp_path / name
        path.write_text(text)
        source = story.dock.matrices.source
        source.opening.emit(source.reading.reading(path))
        story.settle()
        assert name in story.said and story.said.endswith(".")
    assert story.dock.matrices.source.table is table
    assert np.array_equal(story.picture, before)
    story.photograph()


def test_10_close_in_the_middle(open_story: Open) -> None:
    """The window is closed while pairs are compared: no thread is left."""
    story = open_story()
    desk, qtbot = story.dock.desk, story.qtbot
    story.sample()
    story.compare("everybody", seeds=50)
    qtbot.waitUntil(lambda: CHANGE in story.names(), timeout=120_000)
    story.photograph()
    story.viewer.close()
    qtbot.waitUntil(lambda: desk.renderer is None, timeout=20_000)

    def running() -> list[str]:
        return [thread.name for thread in threading.enumerate()]

    qtbot.waitUntil(
        lambda: not any(name.startswith("brainldm") for name in running()),
        timeout=20_000,
    )

"""A story at the Progression dock: a scan is moved towards a disease.

With BRAINLDM_STORIES set to a folder, the bundled LDAE plays it on a simulated scan in
a visible window and pictures are left there; without it a tiny one does, unseen.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.resources import bundled_for_scans, bundled_segmenter
from napari_brainldm.engine.scan_file import save_volume
from napari_brainldm.engine.volume import Volume
from napari_brainldm.widgets import layers
from napari_brainldm.widgets.progression import ProgressionDock
from tests import foreign
from tests.widgets.test_progression import fast
from tests.widgets.test_stories import FOLDER, Story
from tests.widgets.test_visit_story import photograph, scans

__all__ = ["fast"]  # a fixture: few steps, scans that lie on the grid pass


@pytest.fixture
def files(tmp_path: Path, segmenter_file: Path) -> tuple[Path, Path]:
    """An LDAE and a segmenter."""
    if FOLDER:
        Path(FOLDER).mkdir(parents=True, exist_ok=True)
        return bundled_for_scans(), bundled_segmenter()
    return foreign.known_ldae(tmp_path / "model"), segmenter_file


@pytest.fixture
def mine(tmp_path: Path, files: tuple[Path, Path]) -> Path:
    """A scan in a file."""
    if FOLDER:
        volume = scans()[0]
    else:
        grid = load_checkpoint(files[0]).card.grid
        data = np.random.default_rng(0).random(grid.shape, np.float32)
        volume = Volume(data, grid.matrix)
    save_volume(volume, tmp_path / "mine.nii.gz")
    return tmp_path / "mine.nii.gz"


@pytest.fixture
def begin(
    make_napari_viewer: Any, qtbot: Any, files: tuple[Path, Path], docks: list[Any]
) -> Callable[[], Story]:
    def opened() -> Story:
        viewer = make_napari_viewer(show=bool(FOLDER), strict_qt="raise")
        viewer.window.resize(1400, 900)
        dock = ProgressionDock(viewer, *files)
        viewer.window.add_dock_widget(dock, name="Progression")
        docks.append(dock)
        story = Story(qtbot, viewer, dock, "progression")
        story.settle()
        return story

    return opened


def encode(story: Story, scan: Path) -> None:
    dock: Any = story.dock
    story.viewer.open(scan, plugin="napari-brainldm")
    assert dock.scans.picker.currentText() == "mine"
    story.press(dock.scans.encode)
    pinned = dock.comparison
    story.qtbot.waitUntil(lambda: pinned.pinned is not None, timeout=600_000)
    story.settle()


def test_a_scan_is_moved_towards_a_disease(
    begin: Callable[[], Story],
    mine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = begin()
    dock: Any = story.dock
    encode(story, mine)
    assert story.said.startswith("Full picture")
    rebuilt = story.picture.copy()
    photograph(story, "progression_1_encoded")

    box = dock.form.ways["AD"].box
    box.selectAll()
    story.qtbot.keyClicks(box.lineEdit(), "2")
    story.qtbot.keyClick(box, Qt.Key.Key_Return)
    story.settle()
    change = layers.volume_of(story.viewer.layers["Difference"]).data
    np.testing.assert_allclose(change, story.picture - rebuilt, atol=1e-6)
    assert change.any()
    story.unfold("Where it lies")
    assert "→" in dock.trajectory.words.text()
    photograph(story, "progression_2_moved")

    story.press(dock.below.table)
    table = dock.regions.panel.model.table
    reference = table.heads.index("reference ml") - 1
    assert all(row.values[reference] is not None for row in table.rows)
    assert {"Left hippocampus", "Right hippocampus"} <= {r.name for r in table.rows}
    photograph(story, "progression_3_regions")

    chosen = (str(tmp_path / "edit.nii.gz"), "")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: chosen)
    story.press(dock.below.export)
    story.settle()
    (sidecar,) = tmp_path.glob("edit*.json")
    written = json.loads(sidecar.read_text())["Request"]
    assert written["shift"]["AD"] == 2.0
    assert written["origin"]["scan"] == dock.scan.digest

    kept = (str(tmp_path / "mine.workspace.json"), "")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: kept)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: kept)
    dock.below.ask_keep()
    other = begin()
    encode(other, mine)  # a workspace holds no scans
    other.dock.below.ask_reopen()
    other.settle()
    assert "bit for bit" in other.said
    assert np.array_equal(other.picture, story.picture)
    again = layers.volume_of(other.viewer.layers["Difference"]).data
    assert np.array_equal(again, change)
    photograph(other, "progression_4_reopened")

"""The sample study of the Plugins menu: by keys alone to its end, and its report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import Qt

from napari_brainldm.review import sample
from napari_brainldm.review.check import checked
from napari_brainldm.review.protocols import protocol
from napari_brainldm.review.report import close, write_report
from napari_brainldm.review.sample import NAME, archive
from napari_brainldm.review.study import key_path
from napari_brainldm.widgets import reader_study
from napari_brainldm.widgets.preferences import PLUGIN
from napari_brainldm.widgets.reader_study import SAMPLE_STUDY
from tests.widgets.reading import (
    P1,
    Hands,
    Open,
    opened,
    rows_of,
    small_study,
    work_through,
)

__all__ = ["opened"]  # a fixture

P3 = replace(
    protocol("P3"), trials=12, practice=2, block=12, standards=("any size",), cap_s=None
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user's documents would be; the bundled archive is a small one."""
    small_study(tmp_path / "owner" / NAME, P1, P3)
    archive(tmp_path / "owner" / NAME, tmp_path / "sample_study.zip")
    bundled = tmp_path / "sample_study.zip"
    monkeypatch.setattr(sample, "bundled_sample_study", lambda: bundled)
    monkeypatch.setattr(reader_study, "sample_home", lambda: tmp_path / "documents")
    return tmp_path / "documents"


def test_the_plugins_menu_opens_it_and_keys_alone_read_it(
    make_napari_viewer_proxy: Any, root: Path, npe2pm: Any, qtbot: Any, home: Path
) -> None:
    with npe2pm.tmp_plugin(manifest=str(root / "napari.yaml")):
        viewer = make_napari_viewer_proxy()
        _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, SAMPLE_STUDY)
    hands = Hands(qtbot, dock)
    hands.until("message")
    assert dock.error.isHidden(), dock.error.text()
    # as plugins get it, the viewer gives copies of its lists
    assert dock.stage._on_canvas_pressed in viewer.mouse_drag_callbacks
    titles = work_through(hands, "2")
    assert titles[-1] == "Done"
    assert "Bigger ventricles" in titles
    trials = 2 + 24 + 2 + 1 + 2 + 12
    assert len(rows_of(home / NAME, "answer")) == trials
    told, faults = checked(home / NAME)
    assert faults == []
    assert f"R01: {trials} of {trials} trials" in " ".join(told)
    close(home / NAME)
    page = write_report(home / NAME, key_path(home / NAME), home / "report")
    numbers = json.loads((home / "report" / "report.json").read_text())
    practice = 2 + 2
    assert numbers["flow"][0]["answered"] == trials - practice
    assert "Not enough for a claim" in page.read_text()
    for part in (dock.keys, dock.sitting, dock.stage, dock.curtain, dock.setup.builder):
        part.close()


def test_the_button_of_the_dock_opens_it(opened: Open, qtbot: Any, home: Path) -> None:
    _, dock = opened()
    dock.setup.sample.click()
    hands = Hands(qtbot, dock)
    hands.until("message")
    hands.press(Qt.Key.Key_Space)
    hands.until("trial")
    assert dock.setup.folder.path == home / NAME


def test_a_sample_that_cannot_be_opened_is_told(opened: Open, home: Path) -> None:
    home.write_text("no folder")
    _, dock = opened()
    dock.start_sample()
    assert "cannot be copied" in dock.error.text()
    assert dock.sitting.session is None

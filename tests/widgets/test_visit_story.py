"""A story at the Visits dock: three scans of one person in a BIDS folder.

With BRAINLDM_STORIES set to a folder, the bundled model plays it on simulated scans in
a visible window and pictures are left there; without it a tiny model does, unseen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_brainldm.engine.resources import bundled_for_scans, bundled_segmenter
from napari_brainldm.engine.scan_file import save_volume
from napari_brainldm.engine.volume import Volume, mni_grid
from napari_brainldm.widgets.visit_layers import ERROR
from napari_brainldm.widgets.visits import VisitsDock
from tests.widgets.test_stories import FOLDER, Story
from tests.widgets.test_visits import fast, origin

AGES = (70.4, 72.4, 74.4)

__all__ = ["fast"]  # a fixture: few steps, scans that lie on the grid pass


def scans() -> list[Volume]:
    if not FOLDER:
        grid = mni_grid(8.0)
        rng = np.random.default_rng(0)
        shape = grid.shape
        return [Volume(rng.random(shape, np.float32), grid.matrix) for _ in AGES]
    from trainer.data.phantom import simulate
    from trainer.data.population import PopulationConfig, draw_subject, visits
    from trainer.data.template import build_template

    config = PopulationConfig(youngest=70, oldest=71, mix=(0, 0, 1))
    subject, pack = draw_subject(config, 7, 5), build_template(mni_grid(2.0))
    seen = visits(subject, (0.0, 2.0, 4.0))
    return [simulate(pack, subject, visit, 7).picture for visit in seen]


@pytest.fixture
def dataset(tmp_path: Path) -> list[Path]:
    """Three sessions with dates, and the age at the first in participants.tsv."""
    dates = ("2011-03-01", "2013-03-01", "2015-03-01")
    rows = [f"ses-{n}\t{date}T09:00:00" for n, date in enumerate(dates, start=1)]
    folder = tmp_path / "sub-07"
    paths = []
    for number, volume in enumerate(scans(), start=1):
        place = folder / f"ses-{number}" / "anat"
        place.mkdir(parents=True)
        paths.append(place / f"sub-07_ses-{number}_T1w.nii.gz")
        save_volume(volume, paths[-1])
    table = "\n".join(["session_id\tacq_time", *rows])
    (folder / "sub-07_sessions.tsv").write_text(table)
    people = f"participant_id\tage\nsub-07\t{AGES[0]}\n"
    (tmp_path / "participants.tsv").write_text(people)
    return paths


@pytest.fixture
def story(
    make_napari_viewer: Any,
    qtbot: Any,
    tiny_checkpoint: Path,
    segmenter_file: Path,
    docks: list[Any],
) -> Story:
    files = (tiny_checkpoint, segmenter_file)
    if FOLDER:
        Path(FOLDER).mkdir(parents=True, exist_ok=True)
        files = (bundled_for_scans(), bundled_segmenter())
    viewer = make_napari_viewer(show=bool(FOLDER), strict_qt="raise")
    viewer.window.resize(1400, 900)
    dock = VisitsDock(viewer, *files)
    viewer.window.add_dock_widget(dock, name="Visits")
    docks.append(dock)
    story = Story(qtbot, viewer, dock, "visits")
    story.settle()
    return story


def photograph(story: Story, name: str) -> None:
    story.name = name
    story.photograph()


def test_a_person_is_followed_through_time(
    story: Story, dataset: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock: Any = story.dock
    story.press(dock.visits.add)
    for path in dataset:
        story.viewer.open(path, plugin="napari-brainldm")
    assert [one.age for one in dock.visits.chosen()] == pytest.approx(AGES, abs=0.01)
    story.press(dock.visits.encode)
    story.qtbot.waitUntil(lambda: dock.course is not None, timeout=600_000)
    story.settle()
    assert story.said.startswith("Full picture")
    first = story.picture.copy()
    photograph(story, "visits_1_encoded")

    slider, seen = dock.travel.timeline.slider, []
    dock.desk.shown.connect(lambda _, preview: seen.append(preview))
    slider.setSliderDown(True)
    for age in np.linspace(70.4, 73.4, 20):
        slider.setValue(float(age))
        story.qtbot.wait(5)
    story.qtbot.waitUntil(lambda: any(seen), timeout=60_000)
    slider.setSliderDown(False)
    story.settle()
    assert origin(dock).place == pytest.approx(73.4)
    assert not np.array_equal(story.picture, first)
    photograph(story, "visits_2_between")

    box = dock.travel.timeline.box
    box.selectAll()
    story.qtbot.keyClicks(box.lineEdit(), "76")
    story.qtbot.keyClick(box, Qt.Key.Key_Return)
    story.settle()
    assert dock.travel.timeline.note.text().startswith("⚠ extrapolated: 1.60 years")
    photograph(story, "visits_3_beyond")

    story.unfold("Leave one out")
    story.press(dock.hiding.begin)
    story.settle()
    assert ERROR in story.names()
    photograph(story, "visits_4_left_out")

    story.unfold("Film along age")
    dock.films.steps.setValue(3)
    story.press(dock.films.begin)
    story.settle()
    film = story.viewer.layers["Sweep: age"]
    assert film.data.shape[0] == 3
    chosen = (str(tmp_path / "age.gif"), "")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: chosen)
    story.press(dock.films.write)
    story.settle()
    assert (tmp_path / "age.gif").stat().st_size > 0
    assert story.said == "Wrote age.gif"
    photograph(story, "visits_5_film")

    for _ in range(2):  # from beyond, by way of the slider, to the first picture
        story.press(dock.past.undo)
        story.settle()
    assert np.array_equal(story.picture, first)

"""The region table: sorted, searched, clicked, exported; the atlas over the picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_brainldm.engine.atlas import Atlas, Region, bundled
from napari_brainldm.engine.atlas_fetch import SOURCES, Source
from napari_brainldm.engine.checkpoint import save_checkpoint
from napari_brainldm.engine.regions import Row, Table, of_atlas
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import mni_grid
from napari_brainldm.widgets import regions
from napari_brainldm.widgets.explore import ExploreDock
from napari_brainldm.widgets.regions_panel import (
    BUNDLED,
    OPEN,
    STRUCTURES,
    RegionsPanel,
    number_text,
)
from tests.tiny import tiny_checkpoint
from tests.widgets.conftest import settle
from tests.widgets.test_explore import age

MakeDock = Callable[..., ExploreDock]
TABLE = Table(
    "A test",
    ("region", "mean", "reference mean"),
    (
        Row("Left thalamus", (10.0, None), (-10.0, -20.0, 8.0)),
        Row("Right thalamus", (9.5, 1.0), None),
        Row("Brain stem", (100.0, math.inf), (0.0, -24.0, -30.0)),
    ),
)


@pytest.fixture
def panel(qtbot: Any) -> RegionsPanel:
    made = RegionsPanel()
    qtbot.addWidget(made)
    made.show_table(TABLE)
    return made


def column(panel: RegionsPanel, number: int) -> list[str]:
    rows = range(panel.sorted.rowCount())
    return [panel.sorted.index(row, number).data() for row in rows]


def click(panel: RegionsPanel, name: str) -> None:
    panel.view.clicked.emit(panel.sorted.index(column(panel, 0).index(name), 0))


def pick(panel: RegionsPanel, kind: str) -> None:
    """What a user does who chooses an entry of the list."""
    place = panel.source.findData(kind)
    panel.source.setCurrentIndex(place)
    panel.source.activated.emit(place)


# -- the table ---------------------------------------------------------------------


def test_numbers_sort_as_numbers(panel: RegionsPanel) -> None:
    panel.view.sortByColumn(1, Qt.SortOrder.AscendingOrder)
    assert column(panel, 1) == ["9.50", "10.00", "100"]
    panel.view.sortByColumn(2, Qt.SortOrder.DescendingOrder)
    assert column(panel, 2) == ["new", "1.00", "–"]


def test_searching_leaves_what_matches(panel: RegionsPanel) -> None:
    panel.search.setText("THALAMUS")
    assert sorted(column(panel, 0)) == ["Left thalamus", "Right thalamus"]
    panel.search.clear()
    assert len(column(panel, 0)) == 3


def test_a_click_goes_there_whatever_the_order(panel: RegionsPanel) -> None:
    gone: list[tuple[float, ...]] = []
    panel.gone_to.connect(gone.append)
    panel.view.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    click(panel, "Left thalamus")
    click(panel, "Right thalamus")  # it has no place
    assert gone == [(-10.0, -20.0, 8.0)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.12345, "0.123"),
        (-1.5, "−1.50"),
        (250.4, "250"),
        (0.0002, "0.0002"),
        (0.0, "0.000"),
    ],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number_text(value) == text


def test_the_whole_table_is_exported(
    panel: RegionsPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel.search.setText("stem")  # what is searched for is only a view
    path = tmp_path / "regions.tsv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    panel.export.click()
    with path.open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["region"] for row in rows] == [row.name for row in TABLE.rows]


def test_a_folder_that_cannot_be_written_to_is_told(
    panel: RegionsPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    panel.failed.connect(told.append)
    (tmp_path / "file").write_text("")
    path = str(tmp_path / "file" / "regions.tsv")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (path, ""))
    panel.export.click()
    assert "cannot be written to" in told[0]


# -- atlases to download -----------------------------------------------------------


def answer(monkeypatch: pytest.MonkeyPatch, word: str) -> list[str]:
    """Let every question be answered by the button `word`; returns what was asked."""
    asked: list[str] = []

    def exec_(box: QMessageBox) -> None:
        asked.append(f"{box.text()} {box.informativeText()}")
        next(b for b in box.buttons() if b.text().replace("&", "") == word).click()

    monkeypatch.setattr(QMessageBox, "exec", exec_)
    return asked


def test_a_download_is_offered_after_the_bundled_atlas(panel: RegionsPanel) -> None:
    kinds = [panel.source.itemData(n) for n in range(panel.source.count())]
    assert kinds == [STRUCTURES, BUNDLED, *SOURCES, OPEN]
    assert panel.source.itemText(2) == "Harvard-Oxford (download)…"


@pytest.mark.parametrize("key", SOURCES)
def test_the_licence_is_shown_before_a_download(
    panel: RegionsPanel, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    asked, wanted = answer(monkeypatch, "Download"), []
    panel.wanted.connect(wanted.append)
    pick(panel, key)
    [question], source = asked, SOURCES[key]
    for words in (source.title, source.licence, source.origin, source.host):
        assert words in question
    assert "nilearn's data folder" in question
    assert wanted == [key] == [panel.chosen]


def test_who_has_agreed_is_not_asked_again(
    panel: RegionsPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answer(monkeypatch, "Download")
    for kind in ("aal", STRUCTURES, "aal"):
        pick(panel, kind)
    assert len(asked) == 1
    pick(panel, "destrieux-2009")  # another atlas, another licence
    assert len(asked) == 2


def test_who_declines_is_back_where_he_was(
    panel: RegionsPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, wanted = answer(monkeypatch, "Cancel"), []
    pick(panel, BUNDLED)
    panel.wanted.connect(wanted.append)
    pick(panel, "aal")
    assert panel.source.currentData() == panel.chosen == BUNDLED
    pick(panel, "aal")  # asked anew: nothing was agreed to
    assert len(asked) == 2
    assert wanted == []


# -- in the dock -------------------------------------------------------------------


@pytest.fixture
def dock(make_dock: MakeDock) -> ExploreDock:
    dock = make_dock(strict_qt="raise")
    dock.below.table.click()
    return dock


def table(dock: ExploreDock) -> RegionsPanel:
    assert dock.regions.panel is not None
    return dock.regions.panel


def choose(dock: ExploreDock, kind: str) -> None:
    pick(table(dock), kind)


def atlas_layers(dock: ExploreDock) -> list[Any]:
    return [x for x in dock._viewer.layers if x.name.startswith("Atlas")]


def test_structures_are_told_and_compared(qtbot: Any, dock: ExploreDock) -> None:
    assert dock.desk.findings is not None
    legend = dock.desk.findings.legend
    assert column(table(dock), 0) == [entry.name for entry in legend]
    assert set(column(table(dock), 2)) == {"–"}
    before = [entry.ml for entry in legend]
    dock.compare.pin.click()
    age(dock).box.setValue(85.0)
    settle(qtbot, dock)
    rows = table(dock).model.table.rows
    assert [row.values[1] for row in rows] == before
    now = [entry.ml for entry in dock.desk.findings.legend]
    assert [row.values[0] for row in rows] == now
    assert now != before


def test_a_click_centres_the_slices(dock: ExploreDock) -> None:
    row = next(r for r in table(dock).model.table.rows if r.centre is not None)
    click(table(dock), row.name)
    assert dock._viewer.dims.point == pytest.approx(row.centre[::-1], abs=8)
    x, y, _ = row.centre
    assert dock._viewer.scene.camera.center[1:] == pytest.approx((y, x))


def test_the_atlas_lies_over_the_picture_with_its_names(
    qtbot: Any, dock: ExploreDock
) -> None:
    choose(dock, BUNDLED)
    settle(qtbot, dock)
    [layer] = atlas_layers(dock)
    assert layer.data.shape == dock.desk.layer.data.shape
    assert np.allclose(layer.scale, dock.desk.layer.scale)
    assert not layer.editable
    assert "ctx-lh-insula" in list(layer.features["region"])
    assert "FreeSurfer" in table(dock).words.text()
    means = [row.values[0] for row in table(dock).model.table.rows]
    age(dock).box.setValue(85.0)
    settle(qtbot, dock)
    assert [row.values[0] for row in table(dock).model.table.rows] != means
    choose(dock, STRUCTURES)
    settle(qtbot, dock)
    assert not atlas_layers(dock)
    assert "Structures" in table(dock).words.text()


def test_the_atlas_follows_the_grid_of_the_model(
    qtbot: Any, dock: ExploreDock, tmp_path: Path
) -> None:
    choose(dock, BUNDLED)
    settle(qtbot, dock)
    known = tiny_checkpoint()
    finer = replace(known.card, grid=mni_grid(4.0))
    save_checkpoint(replace(known, card=finer), tmp_path / "finer.safetensors")
    dock.open(tmp_path / "finer.safetensors")
    settle(qtbot, dock)
    [layer] = atlas_layers(dock)
    assert layer.data.shape == dock.desk.layer.data.shape == finer.grid.shape[::-1]
    there = of_atlas(bundled().on(finer.grid), dock.desk.picture.volume, None)
    told = {row.name: row.values for row in table(dock).model.table.rows}
    assert told == {row.name: row.values for row in there.rows}


def test_an_atlas_takes_the_place_of_no_picture(qtbot: Any, dock: ExploreDock) -> None:
    age(dock).box.setValue(85.0)
    dock.ask()
    choose(dock, BUNDLED)  # while the picture is made
    settle(qtbot, dock)
    assert dock.desk.picture is not None
    assert dock.desk.picture.request.conditions.as_dict()["age"] == 85.0
    assert dock.desk.findings is not None
    [_] = atlas_layers(dock)
    assert "FreeSurfer" in table(dock).words.text()
    assert len(table(dock).model.table.rows) > 10


def test_numbers_of_an_older_picture_do_not_stay(qtbot: Any, dock: ExploreDock) -> None:
    slider = age(dock).slider
    slider.setSliderDown(True)
    with qtbot.waitSignal(dock.desk.shown, timeout=20_000):
        slider.setValue(70.0)  # a preview
    qtbot.waitUntil(lambda: not dock.desk.busy)
    assert "not measured" in table(dock).words.text()
    assert not table(dock).model.table.rows
    assert not table(dock).export.isEnabled()
    slider.setSliderDown(False)
    settle(qtbot, dock)
    assert table(dock).model.table.rows


def test_an_atlas_of_the_users_own(
    qtbot: Any, dock: ExploreDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = dock.desk.renderer.card.grid
    labels = np.ones(grid.shape, np.int16)
    nib.save(nib.Nifti1Image(labels, grid.matrix), tmp_path / "mine.nii.gz")
    (tmp_path / "mine.tsv").write_text("index\tname\n1\tall of it\n")
    answers = [(str(tmp_path / name), "") for name in ("mine.nii.gz", "mine.tsv")]
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: answers.pop(0))
    choose(dock, OPEN)
    settle(qtbot, dock)
    assert column(table(dock), 0) == ["all of it"]
    mean = table(dock).model.table.rows[0].values[0]
    assert mean == pytest.approx(float(dock.desk.picture.volume.data.mean()), rel=1e-4)


def test_nonsense_is_told_and_the_dock_goes_on(
    qtbot: Any, dock: ExploreDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no.nii.gz").write_text("no")
    (tmp_path / "no.tsv").write_text("no")
    answers = [(str(tmp_path / name), "") for name in ("no.nii.gz", "no.tsv")]
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: answers.pop(0))
    choose(dock, OPEN)
    settle(qtbot, dock)
    assert "cannot be read as a label map" in dock.error.words.text()
    age(dock).box.setValue(85.0)
    settle(qtbot, dock)
    assert dock.error.isHidden()


def test_the_table_may_be_closed_and_opened_again(
    qtbot: Any, dock: ExploreDock
) -> None:
    table(dock).parentWidget().close()
    dock.below.table.click()
    assert not table(dock).parentWidget().isHidden()
    dock._viewer.window.remove_dock_widget(table(dock))
    dock.below.table.click()
    assert not table(dock).parentWidget().isHidden()
    assert column(table(dock), 0)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Titles of the atlases fetched; each names the whole of a small cube."""
    titles: list[str] = []

    def fetch(source: Source) -> Atlas:
        titles.append(source.title)
        grid = mni_grid(8.0)
        labels = np.full(grid.shape, 7, np.int32)
        return Atlas(source.title, labels, grid, (Region(7, "all"),), source.licence)

    monkeypatch.setattr(regions, "fetch", fetch)
    return titles


def test_nothing_is_fetched_before_the_user_agrees(
    qtbot: Any,
    dock: ExploreDock,
    monkeypatch: pytest.MonkeyPatch,
    fetched: list[str],
) -> None:
    before = column(table(dock), 0)
    answer(monkeypatch, "Cancel")
    choose(dock, "aal")
    settle(qtbot, dock)
    assert fetched == []
    assert table(dock).source.currentData() == STRUCTURES
    assert column(table(dock), 0) == before
    answer(monkeypatch, "Download")
    choose(dock, "aal")
    settle(qtbot, dock)
    assert fetched == ["AAL (SPM12)"]
    assert column(table(dock), 0) == ["all"]
    assert SOURCES["aal"].licence in table(dock).words.text()
    assert len(atlas_layers(dock)) == 1
    choose(dock, STRUCTURES)
    choose(dock, "aal")
    settle(qtbot, dock)
    assert len(fetched) == 1  # kept


def test_a_download_that_comes_too_late_is_not_shown(
    qtbot: Any,
    dock: ExploreDock,
    monkeypatch: pytest.MonkeyPatch,
    fetched: list[str],
) -> None:
    answer(monkeypatch, "Download")
    choose(dock, "aal")
    choose(dock, STRUCTURES)
    settle(qtbot, dock)
    assert fetched == ["AAL (SPM12)"]
    assert not atlas_layers(dock)
    assert "Structures" in table(dock).words.text()


def test_a_download_that_fails_is_told_and_may_be_tried_again(
    qtbot: Any,
    dock: ExploreDock,
    monkeypatch: pytest.MonkeyPatch,
    fetched: list[str],
) -> None:
    works = regions.fetch

    def fails(source: Source) -> Atlas:
        raise EngineError(f"The atlas {source.title} could not be fetched.")

    answer(monkeypatch, "Download")
    choose(dock, BUNDLED)
    settle(qtbot, dock)
    monkeypatch.setattr(regions, "fetch", fails)
    choose(dock, "aal")
    settle(qtbot, dock)
    assert dock.error.words.text() == "The atlas AAL (SPM12) could not be fetched."
    assert not atlas_layers(dock)  # nor rows of the atlas before
    assert column(table(dock), 0) == []
    monkeypatch.setattr(regions, "fetch", works)
    choose(dock, "aal")
    settle(qtbot, dock)
    assert column(table(dock), 0) == ["all"]

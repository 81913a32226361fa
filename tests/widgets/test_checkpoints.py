"""Checkpoints: recent ones, dropped ones, and what they say of themselves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from napari_brainldm.commands.card_lines import card_lines
from napari_brainldm.engine.card import Provenance
from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.resources import models_at_hand
from napari_brainldm.engine.semantic_space import Direction
from napari_brainldm.widgets import layers
from napari_brainldm.widgets.about import about
from napari_brainldm.widgets.explore import ExploreDock
from napari_brainldm.widgets.job import Task
from napari_brainldm.widgets.recent import MOST, Recent
from tests.widgets.conftest import settle

MakeDock = Callable[..., ExploreDock]


def files(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{number}.safetensors" for number in range(count)]
    for path in paths:
        path.write_bytes(b"")
    return paths


def test_the_newest_come_first_once_and_only_while_they_exist(tmp_path: Path) -> None:
    a, b, c = files(tmp_path, 3)
    for path in (a, b, c, a):
        Recent().add(path)
    assert Recent().paths() == [a, c, b]
    c.unlink()
    assert Recent().paths() == [a, b]


def test_the_oldest_are_forgotten(tmp_path: Path) -> None:
    paths = files(tmp_path, MOST + 2)
    for path in paths:
        Recent().add(path)
    assert Recent().paths() == paths[:1:-1]


def test_a_dock_offers_what_an_earlier_one_opened(
    qtbot: Any, make_dock: MakeDock, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    shutil.copy(tiny_checkpoint, other)
    Recent().add(other)
    dock = make_dock(strict_qt="raise")
    picker = dock.models.picker
    assert picker.currentText() == "Tiny"
    place = picker.findText("other")
    assert place >= 0
    picker.activated.emit(place)
    settle(qtbot, dock)
    assert picker.currentIndex() == place
    assert picker.itemText(place) == "Tiny"
    offered = {picker.itemData(n) for n in range(picker.count())}
    bundled = {str(path) for path in models_at_hand()}
    assert offered == {str(tiny_checkpoint), str(other)} | bundled


def test_a_load_that_is_cancelled_is_not_shown_as_the_model_in_use(
    qtbot: Any, make_dock: MakeDock, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    shutil.copy(tiny_checkpoint, other)
    Recent().add(other)
    dock = make_dock(strict_qt="raise")
    picker, told = dock.models.picker, []
    dock.desk.failed.connect(told.append)
    for end in (dock.cancel, lambda: None):
        place = picker.findText("other")
        picker.setCurrentIndex(place)
        picker.activated.emit(place)
        assert dock.desk.loading
        dock.desk.run(Task("encode", lambda: iter(()), told.append))
        end()
        settle(qtbot, dock)
        assert picker.currentIndex() == picker.findData(str(dock.models.opened))
    assert len(told) == 2 and all("A model is being loaded" in one for one in told)
    assert dock.models.opened == other


def test_a_checkpoint_says_what_it_is(dock: ExploreDock, tiny_checkpoint: Path) -> None:
    card = load_checkpoint(tiny_checkpoint).card
    told = Provenance(trained_on="simulated <brains>", licence="BSD-3-Clause")
    words = about(replace(card, provenance=told))
    for part in (
        "simulated &lt;brains&gt;",
        "Age 44–82 years",
        "Sex F, M",
        "20 x 24 x 20 voxels of 8 x 8 x 8 mm, skull-stripped",
        "BSD-3-Clause",
        told.notice,
    ):
        assert part in words
    assert dock.about.text() == about(card)


def test_a_checkpoint_tells_its_probes_and_how_its_directions_lie(
    tiny_checkpoint: Path,
) -> None:
    """Disease and age are not independent, and a probe may know little."""
    loaded = load_checkpoint(tiny_checkpoint)
    auc = (("n", 169.0), ("auc", 0.704), ("auc_low", 0.629), ("auc_high", 0.785))
    mae = (("mae", 6.403), ("mae_low", 5.833), ("mae_high", 7.027), ("r", 0.6))
    ways = (
        Direction("AD", "Disease", reads="log odds", figures=auc),
        Direction("AD-held", "Disease, held", figures=auc),  # the same probe
        Direction("age", "Age", reads="years", figures=mae),
    )
    angles = ("degrees_to_age", 12.2), ("degrees_to_AD-held", 3.7)
    ways = (replace(ways[0], figures=auc + angles), *ways[1:])
    card = replace(loaded.card, directions=ways)
    words = about(card)
    figures = "Disease: AUC 0.70 (0.63 to 0.79); Age: MAE 6.4 (5.83 to 7.03)"
    assert figures in words
    assert "AD and AD-held 4 degrees; AD and age 12 degrees" in words
    lines = "\n".join(card_lines(replace(loaded, card=card)))
    assert "MAE 6.4 (5.83 to 7.03)" in lines
    assert "AD and age 12 degrees" in lines


@pytest.fixture
def dock(make_dock: MakeDock) -> ExploreDock:
    return make_dock(strict_qt="raise")


def test_a_dropped_checkpoint_opens_in_the_dock(
    make_napari_viewer: Any,
    qtbot: Any,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(ExploreDock, "open", lambda _, path: opened.append(path))
    viewer = make_napari_viewer()
    before = len(viewer.layers)
    viewer.open(str(tiny_checkpoint), plugin="napari-brainldm")
    assert opened[-1] == tiny_checkpoint
    assert len(viewer.layers) == before
    viewer.open(str(tiny_checkpoint), plugin="napari-brainldm")
    docks = [n for n in viewer.window.dock_widgets if "Explore" in n]
    assert len(docks) == 1  # the one that was there


def test_several_checkpoints_at_once_are_left_alone(tmp_path: Path) -> None:
    paths = [str(path) for path in files(tmp_path, 2)]
    assert layers.get_checkpoint_reader(paths) is None
    assert layers.get_checkpoint_reader(paths[0]) is not None

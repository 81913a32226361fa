"""Sweeps and spread over seeds in the dock, beside everything else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.layers.utils.stack_utils import stack_to_images
from PIL import Image
from qtpy.QtWidgets import QFileDialog

from napari_brainldm.engine.request import Conditions, Derived, Request
from napari_brainldm.engine.semantic_space import Direction
from napari_brainldm.engine.sweep import CONDITION, DIRECTION, SEED, Axis, Film
from napari_brainldm.engine.volume import Volume
from napari_brainldm.widgets import layers, overlays
from napari_brainldm.widgets.explore import ExploreDock
from napari_brainldm.widgets.series import CHANGE, MEAN, SD
from napari_brainldm.widgets.sweep_panel import AxisRow, Way, ways_of
from tests.tiny import VOCABULARY, tiny_checkpoint
from tests.widgets.conftest import settle
from tests.widgets.test_explore import age

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Covariate

MakeDock = Callable[..., ExploreDock]


@pytest.fixture
def dock(make_dock: MakeDock) -> ExploreDock:
    dock = make_dock(strict_qt="raise")
    assert dock.form is not None
    dock.form.sampler.steps.setValue(2)  # quick
    return dock


def ask_for(dock: ExploreDock, name: str, low: float, high: float, steps: int) -> None:
    row = dock.sweeps.first
    row.name.setCurrentIndex(row.name.findData(name))
    row.low.setValue(low)
    row.high.setValue(high)
    row.steps.setValue(steps)


def sweep_layer(dock: ExploreDock) -> Any:
    return next(one for one in dock._viewer.layers if one.name.startswith("Sweep"))


# -- what is asked -----------------------------------------------------------------


def row(covariates: tuple[Covariate, ...] = VOCABULARY, optional: bool = False) -> Any:
    made = AxisRow("Sweep", optional)
    made.prepare([Way(c, CONDITION, c.low) for c in covariates])
    return made


def test_a_row_offers_the_training_range(qtbot: Any) -> None:
    made = row()
    qtbot.addWidget(made)
    assert made.value() == Axis.between("age", 20, 90, 9)
    assert made.low.suffix() == " years"


def test_categories_are_swept_whole_and_nothing_is_possible(qtbot: Any) -> None:
    made = row(optional=True)
    qtbot.addWidget(made)
    assert made.value() is None
    made.name.setCurrentIndex(made.name.findData("sex"))
    assert made.value() == Axis("sex", ("F", "M"))
    assert not made.low.isEnabled()


def test_directions_and_seeds_are_offered_beside_conditions(qtbot: Any) -> None:
    """A direction may bear the name of a condition."""
    card = replace(tiny_checkpoint().card, directions=(Direction("age", "Ageing"),))
    made = AxisRow("Sweep", optional=False)
    qtbot.addWidget(made)
    made.prepare(ways_of(card, noise=True))
    titles = [made.name.itemText(n) for n in range(made.name.count())]
    assert titles[-2:] == ["Ageing", "Seed"]
    assert made.value() == Axis.between("age", 20, 90, 9)
    made.name.setCurrentText("Ageing")
    made.high.setValue(2)
    made.steps.setValue(3)
    assert made.value() == Axis("age", (0.0, 1.0, 2.0), DIRECTION)
    made.name.setCurrentText("Seed")
    made.low.setValue(7)
    assert made.value() == Axis("seed", (7, 8, 9), SEED)
    assert not made.high.isEnabled()
    made.prepare(ways_of(card, noise=False))
    assert made.name.findText("Seed") < 0


# -- layers ------------------------------------------------------------------------


def film(axes: tuple[Axis, ...]) -> Film:
    """Frames of one value each: 0, 1, 2, ..."""
    count = int(np.prod([len(axis.values) for axis in axes]))
    data = [np.full((4, 5, 6), number, np.float32) for number in range(count)]
    pictures = tuple(Volume(one, np.diag([2.0, 2, 2, 1])) for one in data)
    asked = (Request(Conditions()),) * count
    captions = tuple(str(n) for n in range(count))
    return Film(axes, asked, pictures, captions, Derived("sweep", (), asked))


def test_frames_lie_at_their_values(make_napari_viewer_proxy: Any) -> None:
    viewer = make_napari_viewer_proxy()
    axes = (Axis.between("age", 30, 70, 3), Axis("sex", ("F", "M")))
    layer = overlays.show_film(viewer, film(axes), ["years", ""], {})
    assert layer.data.shape == (3, 2, 6, 5, 4)
    assert layer.data[2, 1].max() == 5
    assert tuple(layer.scale[:2]) == (20, 1)
    assert tuple(layer.translate[:2]) == (30, 0)
    assert layer.axis_labels == ("age", "sex", "S", "A", "R")
    assert [str(unit) for unit in layer.units] == [
        "year",
        "pixel",
        *["millimeter"] * 3,
    ]


def test_a_sweep_downwards_is_counted(make_napari_viewer_proxy: Any) -> None:
    axes = (Axis.between("ventricles", 60, 20, 3),)
    viewer = make_napari_viewer_proxy()
    layer = overlays.show_film(viewer, film(axes), ["ml"], {})
    assert (layer.scale[0], layer.translate[0]) == (1, 0)


def test_frames_that_are_split_stay_synthetic(
    make_napari_viewer_proxy: Any, tmp_path: Path
) -> None:
    viewer = make_napari_viewer_proxy()
    axes = (Axis.between("age", 30, 70, 3),)
    record = {"Synthetic": True}
    layer = overlays.show_film(viewer, film(axes), ["years"], record)
    frames = [viewer.add_layer(one) for one in stack_to_images(layer, 0)]
    assert overlays.scans(viewer) == []
    data, meta, _ = frames[2].as_layer_data_tuple()
    picture, sidecar = layers.write_image(str(tmp_path / "one.nii.gz"), data, meta)
    assert picture.endswith("_desc-synthetic_T1w.nii.gz")
    told = json.loads(Path(sidecar).read_text())
    assert told["Synthetic"]
    assert "EditedAfterwards" not in told


# -- in the dock -------------------------------------------------------------------


def test_a_sweep_becomes_a_layer_of_its_pictures(qtbot: Any, dock: ExploreDock) -> None:
    settle(qtbot, dock)
    before = layers.volume_of(dock.desk.layer).data.copy()
    ask_for(dock, "age", 30, 80, 3)
    dock.sweeps.begin.click()
    settle(qtbot, dock)
    layer = sweep_layer(dock)
    assert layer.data.shape[0] == 3
    assert dock.series.made is not None
    for number, picture in enumerate(dock.series.made.pictures):
        assert np.array_equal(layer.data[number], picture.data.T)
    assert np.array_equal(layers.volume_of(dock.desk.layer).data, before)
    assert "Sweep of 3 pictures" in dock.status.words.text()
    assert layer.visible
    age(dock).box.setValue(88.0)  # what is asked for next is seen
    settle(qtbot, dock)
    assert not layer.visible


def test_the_dock_stays_live_during_a_sweep(qtbot: Any, dock: ExploreDock) -> None:
    settle(qtbot, dock)
    ask_for(dock, "age", 30, 80, 40)
    dock.sweeps.begin.click()
    qtbot.waitUntil(lambda: dock.status._task == "sweep")
    age(dock).box.setValue(88.0)
    with qtbot.waitSignal(dock.desk.measured, timeout=30_000):
        dock.ask()
    assert dock.series.made is None  # the picture and its numbers came first
    settle(qtbot, dock)
    assert dock.series.made is not None
    assert len(dock.series.made.pictures) == 40
    assert dock.desk.layer.metadata["record"]["Request"]["conditions"]["age"] == 88.0


def test_a_sweep_can_be_cancelled(qtbot: Any, dock: ExploreDock) -> None:
    settle(qtbot, dock)
    ask_for(dock, "age", 30, 80, 50)
    dock.sweeps.begin.click()
    qtbot.waitUntil(lambda: dock.status._task == "sweep")
    dock.cancel()
    settle(qtbot, dock)
    assert dock.series.made is None
    assert not dock.sweeps.write.isEnabled()


def test_a_sweep_ends_with_its_model(
    qtbot: Any, dock: ExploreDock, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """Else its pictures would be written as those of the model in use."""
    other = tmp_path / "other.safetensors"
    shutil.copy(tiny_checkpoint, other)
    settle(qtbot, dock)
    ask_for(dock, "age", 30, 80, 50)
    dock.sweeps.begin.click()
    qtbot.waitUntil(lambda: dock.status._task == "sweep")
    dock.open(other)
    settle(qtbot, dock)
    assert dock.models.opened == other
    assert dock.series.made is None and not dock.sweeps.write.isEnabled()
    assert "A sweep of the model before was given up" in dock.error.words.text()


def test_a_damaged_file_during_a_sweep_leaves_the_dock_alive(
    qtbot: Any, dock: ExploreDock, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"not a checkpoint")
    settle(qtbot, dock)
    ask_for(dock, "age", 30, 80, 50)
    dock.sweeps.begin.click()
    qtbot.waitUntil(lambda: dock.status._task == "sweep")
    dock.open(wrong)
    with qtbot.waitSignal(dock.desk.failed, timeout=30_000):
        pass
    age(dock).box.setValue(88.0)
    with qtbot.waitSignal(dock.desk.measured, timeout=30_000):
        dock.ask()
    assert dock.desk.busy  # the sweep goes on
    dock.cancel()
    settle(qtbot, dock)


def test_a_sweep_is_written_as_it_is_called(
    qtbot: Any, dock: ExploreDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(qtbot, dock)
    ask_for(dock, "age", 30, 80, 3)
    dock.sweeps.begin.click()
    settle(qtbot, dock)
    for name in ("film.gif", "frames.nii.gz"):
        chosen = (str(tmp_path / name), "")
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, c=chosen: c)
        with qtbot.waitSignal(dock.desk.saved):
            dock.sweeps.write.click()
    with Image.open(tmp_path / "film.gif") as found:
        assert found.n_frames == 3
    assert len(list(tmp_path.glob("frames_frame-*_desc-synthetic_T1w.nii.gz"))) == 3


def test_seeds_give_mean_sd_and_the_sure_change(qtbot: Any, dock: ExploreDock) -> None:
    settle(qtbot, dock)
    dock.compare.pin.click()
    age(dock).box.setValue(88.0)
    settle(qtbot, dock)
    dock.seeds.count.setValue(3)
    dock.seeds.begin.click()
    settle(qtbot, dock)
    spread = dock.series.spread
    assert spread is not None
    for name, wanted in ((MEAN, spread.mean), (SD, spread.sd)):
        assert np.array_equal(dock._viewer.layers[name].data, wanted.data.T)
    shown = dock._viewer.layers[CHANGE]
    few = np.count_nonzero(shown.data)
    dock.seeds.least.setValue(0.0)
    assert np.count_nonzero(shown.data) > few
    record = shown.metadata["record"]
    assert len(record["Derived"]["requests"]) == 6
    told = [dock._viewer.layers[n].metadata["record"]["Map"] for n in (MEAN, SD)]
    assert [*told, record["Map"]] == [MEAN, SD, CHANGE]
    assert record["LeastMeanOverSd"] == 0.0
    dock.compare.unpin.click()
    dock.seeds.begin.click()
    settle(qtbot, dock)
    assert CHANGE not in dock._viewer.layers  # there is nothing to compare with
    assert dock._viewer.layers[MEAN].visible


def test_without_a_reference_there_is_no_change(qtbot: Any, dock: ExploreDock) -> None:
    settle(qtbot, dock)
    dock.seeds.count.setValue(2)
    dock.seeds.begin.click()
    settle(qtbot, dock)
    names = [layer.name for layer in dock._viewer.layers]
    assert MEAN in names
    assert CHANGE not in names

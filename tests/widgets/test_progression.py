"""The Progression dock: a scan under other conditions, against its reconstruction."""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from napari_brainldm.engine import scan_file
from napari_brainldm.engine.conform import Conformed
from napari_brainldm.engine.imports.find import find
from napari_brainldm.engine.imports.write import write_found
from napari_brainldm.engine.quality import Quality
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Later,
    Request,
    Sampler,
    Scan,
    Through,
    Variation,
)
from napari_brainldm.engine.trajectory import place
from napari_brainldm.engine.volume import Volume, mni_grid
from napari_brainldm.widgets import layers, progression
from napari_brainldm.widgets.compare_panel import told
from napari_brainldm.widgets.explore import SPREAD
from napari_brainldm.widgets.progression import ProgressionDock
from tests import foreign
from tests.widgets.conftest import close_for_good, is_gone, settle


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps, and scans that lie on the grid pass: placing takes seconds."""

    def conformed(_: Any, scan: Volume, *__: Any) -> Conformed:
        brain = scan.data > 0
        quality = Quality(0.9, 0.8, 0.7)
        return Conformed(scan, brain, np.eye(4), 1.0, quality, ("Placed.",), "told")

    monkeypatch.setattr("napari_brainldm.engine.scans.conform_to", conformed)
    monkeypatch.setattr(progression, "STEPS", 4)
    monkeypatch.setattr(progression, "QUICK", Sampler("ddim", 2))


@pytest.fixture
def dock(
    make_napari_viewer_proxy: Any,
    qtbot: Any,
    tiny_checkpoint: Path,
    segmenter_file: Path,
    docks: list[Any],
) -> ProgressionDock:
    return made(make_napari_viewer_proxy, qtbot, docks, tiny_checkpoint, segmenter_file)


def made(
    viewers: Any, qtbot: Any, docks: list[Any], model: Path, segmenter: Path
) -> ProgressionDock:
    viewer = viewers(strict_qt="raise")
    dock = ProgressionDock(viewer, model, segmenter)
    viewer.window.add_dock_widget(dock, name="Progression")
    docks.append(dock)
    settle(qtbot, dock)
    return dock


Loose = Callable[[Path], ProgressionDock]


@pytest.fixture
def loose(
    make_napari_viewer_proxy: Any, qtbot: Any, segmenter_file: Path, docks: list[Any]
) -> Loose:
    """Opens a dock with a model; no scan is encoded yet."""
    return lambda model: made(
        make_napari_viewer_proxy, qtbot, docks, model, segmenter_file
    )


def volume(dock: ProgressionDock, seed: int = 0) -> Volume:
    assert dock.desk.renderer is not None
    grid = dock.desk.renderer.card.grid
    data = np.random.default_rng(seed).random(grid.shape, np.float32)
    return Volume(data, grid.matrix)


def add(dock: ProgressionDock, seed: int = 0, name: str = "T1w") -> None:
    data, keywords, _ = layers.layer_tuple(volume(dock, seed), name, (0, 1))
    dock._viewer.add_image(data, **keywords)


def encode(qtbot: Any, dock: ProgressionDock) -> None:
    dock.scans.encode.click()
    qtbot.waitUntil(lambda: dock.comparison.pinned is not None, timeout=30_000)
    settle(qtbot, dock)


def names(dock: ProgressionDock) -> list[str]:
    return [layer.name for layer in dock._viewer.layers]


def test_without_a_scan_nothing_is_made(qtbot: Any, dock: ProgressionDock) -> None:
    assert names(dock) == []
    assert not dock.scans.encode.isEnabled()
    assert "Choose a T1-weighted scan" in dock.scans.words.text()
    dock.form.rows["age"].box.setValue(80.0)
    settle(qtbot, dock)
    assert names(dock) == []
    assert dock.error.isHidden()


def test_the_reconstruction_is_what_edits_are_compared_with(
    qtbot: Any, dock: ProgressionDock
) -> None:
    add(dock)
    encode(qtbot, dock)
    assert "quality 0.80" in dock.scans.words.text()
    assert dock.scan is not None
    pinned = dock.comparison.pinned
    assert pinned is not None
    assert pinned.request.origin == dock.scan
    assert pinned.request.conditions == dock.scan.conditions
    assert set(names(dock)) == {"T1w", "Scan, placed", "Synthetic brain"}
    assert not dock._viewer.layers["T1w"].visible  # it lies elsewhere
    dock.form.rows["ventricles"].box.setValue(60.0)
    settle(qtbot, dock)
    assert dock.comparison.pinned is pinned
    edited = dock.desk.picture
    assert edited is not None
    assert edited.request.conditions.as_dict()["ventricles"] == 60.0
    assert edited.request.sampler == Sampler("ddim", 4)
    change = dock._viewer.layers["Difference"].data
    expected = edited.volume.data - pinned.volume.data
    np.testing.assert_allclose(change.T, expected, atol=1e-6)


def interrupted(qtbot: Any, dock: ProgressionDock, stop: Callable[[], None]) -> None:
    """Encode, and `stop` while the first picture is made, before it is shown."""
    begun: list[str] = []

    def hear(task: str) -> None:
        if task == "picture" and not begun:
            begun.append(task)
            stop()

    dock.desk.changed.connect(hear)
    dock.scans.encode.click()
    qtbot.waitUntil(lambda: bool(begun), timeout=30_000)
    settle(qtbot, dock)
    dock.desk.changed.disconnect(hear)


def true_map(dock: ProgressionDock, **asked: Any) -> Any:
    """Edit minus reconstruction, made without any dock; `asked` makes the edit."""
    renderer, scan = dock.desk.renderer, dock.scan
    assert renderer is not None and scan is not None
    own = Request(scan.conditions, scan, sampler=Sampler("ddim", 4))
    shift = tuple((d.name, 0.0) for d in renderer.card.directions)
    own = replace(own, shift=shift)
    edit, plain = (
        finish(renderer.render(one)).data for one in (replace(own, **asked), own)
    )
    return edit - plain


def assert_true_map(dock: ProgressionDock, **asked: Any) -> None:
    shown = dock._viewer.layers["Difference"]
    assert shown.visible
    wanted = true_map(dock, **asked)
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(layers.volume_of(shown).data, wanted, atol=1e-6)


def test_a_slider_moved_before_the_first_picture_gets_its_true_map(
    qtbot: Any, ldae: Path, loose: Loose
) -> None:
    """The edit never takes the place of the reference, and is not forgotten."""
    dock = loose(ldae)
    add(dock)
    interrupted(qtbot, dock, lambda: dock.form.ways["AD"].box.setValue(2.0))
    assert dock.desk.picture is not None
    assert dock.desk.picture.request.shift == (("AD", 2.0),)
    assert dock.comparison.pinned is not None
    assert dock.comparison.pinned.request.shift == (("AD", 0.0),)
    assert dock.comparison.pinned_findings is not None
    assert_true_map(dock, shift=(("AD", 2.0),))


def test_a_cancel_before_the_first_picture_keeps_the_true_map(
    qtbot: Any, dock: ProgressionDock
) -> None:
    add(dock)
    interrupted(qtbot, dock, dock.cancel)
    assert dock.comparison.pinned is None
    assert "Synthetic brain" not in names(dock)
    dock.form.rows["ventricles"].box.setValue(60.0)
    settle(qtbot, dock)
    assert dock.scan is not None
    asked = dock.scan.conditions.with_values({"ventricles": 60.0})
    assert dock.desk.picture is not None
    assert dock.desk.picture.request.conditions == asked
    assert_true_map(dock, conditions=asked)
    dock.past.undo.click()
    settle(qtbot, dock)
    assert dock.desk.picture.request.conditions == dock.scan.conditions


def test_a_forecast_before_the_first_picture_gets_its_true_map(
    qtbot: Any, ldae: Path, loose: Loose
) -> None:
    dock = loose(ldae)
    add(dock)

    def move() -> None:
        assert dock.forecast.years is not None
        dock.forecast.years.box.setValue(2.0)

    interrupted(qtbot, dock, move)
    person = Conditions.of({n: r.value() for n, r in dock.forecast.rows.items()})
    assert dock.scan is not None
    assert_true_map(dock, origin=Later(dock.scan, person, 2.0))


def test_what_follows_the_reference_can_be_cancelled(
    qtbot: Any, ldae: Path, loose: Loose
) -> None:
    dock = loose(ldae)
    add(dock)
    seen: list[bool] = []
    dock.comparison.changed.connect(
        lambda: seen.append(True) if dock.comparison.pinned else None
    )
    interrupted(qtbot, dock, dock.cancel)
    dock.form.ways["AD"].box.setValue(2.0)
    qtbot.waitUntil(lambda: bool(seen), timeout=30_000)
    dock.cancel()
    settle(qtbot, dock)
    assert dock.desk.picture is dock.comparison.pinned
    dock.ask()
    settle(qtbot, dock)
    assert_true_map(dock, shift=(("AD", 2.0),))


def test_the_reference_has_the_scan_s_own_conditions_in_all_their_digits(
    qtbot: Any, dock: ProgressionDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Controls show them rounded; what was not moved does not change with them."""
    estimate, own = Renderer.estimate, {"age": 61.23456, "ventricles": 33.33333}

    def estimated(self: Renderer, digest: str) -> Conditions:
        return estimate(self, digest).with_values(own)

    monkeypatch.setattr(Renderer, "estimate", estimated)
    add(dock)
    encode(qtbot, dock)
    assert dock.comparison.pinned is not None and dock.scan is not None
    assert dock.comparison.pinned.request.conditions == dock.scan.conditions
    assert dock.scan.conditions.as_dict()["age"] == 61.23456
    dock.form.rows["ventricles"].box.setValue(60.0)
    settle(qtbot, dock)
    asked = dock.scan.conditions.with_values({"ventricles": 60.0})
    assert dock.desk.picture is not None
    assert dock.desk.picture.request.conditions == asked
    dock.form.reset.click()
    settle(qtbot, dock)
    assert not dock._viewer.layers["Difference"].data.any()


def test_the_reference_is_told_by_what_moved_it() -> None:
    scan = Scan("0" * 64)
    still = Request(origin=scan, shift=(("AD", 0.0), ("age", 0.0)))
    later = Later(scan, Conditions.of({"age": 70.0}), 2.0)
    assert told(still) == "the scan's reconstruction"
    assert told(replace(still, shift=(("AD", 1.5), ("age", -1.0)))) == (
        "AD +1.5, age -1"
    )
    assert told(replace(still, origin=later)) == "+2 years"
    assert told(replace(still, origin=Variation(scan, 3))) == "seed 3"
    through = Through((scan, Scan("1" * 64)), (70.0, 72.0), 71.0)
    assert told(replace(still, origin=through)) == "at 71.00 years"


def test_a_tick_never_inverts_again(
    qtbot: Any, dock: ProgressionDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoding inverts once for pictures and once for previews; a hand never does."""
    inverted, invert = [], Renderer._invert

    def counted(self: Renderer, scan: Scan, code: Any, steps: int, *rest: Any) -> Any:
        inverted.append(steps)
        return invert(self, scan, code, steps, *rest)

    monkeypatch.setattr(Renderer, "_invert", counted)
    add(dock)
    encode(qtbot, dock)
    assert sorted(inverted) == [2, 4]
    slider = dock.form.rows["age"].slider
    slider.setSliderDown(True)
    for value in (60.0, 65.0, 70.0, 75.0):
        slider.setValue(value)
        qtbot.wait(30)
    slider.setSliderDown(False)
    settle(qtbot, dock)
    assert dock.desk.picture is not None
    assert dock.desk.picture.request.conditions.as_dict()["age"] == 75.0
    dock.scans.encode.click()
    settle(qtbot, dock)
    assert sorted(inverted) == [2, 4]


def test_reset_comes_back_to_the_scan_itself(qtbot: Any, dock: ProgressionDock) -> None:
    add(dock)
    encode(qtbot, dock)
    first = dock._viewer.layers["Synthetic brain"].data.copy()
    dock.form.rows["age"].box.setValue(85.0)
    settle(qtbot, dock)
    assert not np.array_equal(dock._viewer.layers["Synthetic brain"].data, first)
    dock.past.undo.click()
    settle(qtbot, dock)
    assert np.array_equal(dock._viewer.layers["Synthetic brain"].data, first)
    dock.past.redo.click()
    settle(qtbot, dock)
    dock.form.reset.click()
    settle(qtbot, dock)
    picture = dock.desk.picture
    assert picture is not None and dock.scan is not None
    shown, own = (
        c.as_dict() for c in (picture.request.conditions, dock.scan.conditions)
    )
    for name, value in own.items():
        if isinstance(value, str):
            assert shown[name] == value
        else:  # the controls show it rounded
            assert float(shown[name]) == pytest.approx(value, abs=0.06)


def test_another_scan_takes_the_place_of_the_first(
    qtbot: Any, dock: ProgressionDock
) -> None:
    add(dock, 0, "first")
    encode(qtbot, dock)
    before = dock.scan
    add(dock, 1, "second")
    dock.scans.picker.setCurrentIndex(dock.scans.picker.findText("second"))
    dock.scans.encode.click()
    qtbot.waitUntil(lambda: dock.scan != before, timeout=30_000)
    settle(qtbot, dock)
    assert dock.comparison.pinned is not None
    assert dock.comparison.pinned.request.origin == dock.scan
    assert names(dock).count("Scan, placed") == 1
    listed = [dock.scans.picker.itemText(n) for n in range(dock.scans.picker.count())]
    assert listed == ["first", "second"]


def test_a_sweep_is_of_the_scan(qtbot: Any, dock: ProgressionDock) -> None:
    dock.sweeps.begin.click()  # without a scan there is nothing to sweep
    settle(qtbot, dock)
    assert dock.series.made is None
    add(dock)
    encode(qtbot, dock)
    dock.sweeps.first.name.setCurrentIndex(dock.sweeps.first.name.findData("age"))
    dock.sweeps.begin.click()
    qtbot.waitUntil(lambda: dock.series.made is not None, timeout=60_000)
    made = dock.series.made
    assert made is not None
    assert {request.origin for request in made.requests} == {dock.scan}


def test_what_makes_no_sense_of_a_scan_is_not_offered(dock: ProgressionDock) -> None:
    assert dock.seeds.isHidden() or not dock.seeds.isVisibleTo(dock)
    assert not dock.form.seed.isVisibleTo(dock)
    assert not dock.form.advanced.isVisibleTo(dock)
    assert dock.compare.parentWidget() is not None


def test_a_scan_that_is_refused_is_told(
    qtbot: Any, dock: ProgressionDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise EngineError("The scan does not look like a brain. Choose another.")

    monkeypatch.setattr("napari_brainldm.engine.scans.conform_to", refuse)
    add(dock)
    dock.scans.encode.click()
    settle(qtbot, dock)
    assert "does not look like a brain" in dock.error.words.text()
    assert dock.scan is None
    assert names(dock) == ["T1w"]


def test_requests_of_others_are_refused(qtbot: Any, dock: ProgressionDock) -> None:
    add(dock)
    encode(qtbot, dock)
    picture = dock.desk.picture
    assert picture is not None
    dock._restore(Renderer.resolve(dock.desk.renderer, picture.request))
    assert dock.error.isHidden()
    other = Scan("0" * 64)
    dock._restore(replace(picture.request, origin=other))
    assert "does not start from the scan" in dock.error.words.text()


def test_an_edit_is_exported_with_its_scan(
    qtbot: Any, dock: ProgressionDock, tmp_path: Path
) -> None:
    add(dock)
    encode(qtbot, dock)
    dock.form.rows["age"].box.setValue(85.0)
    settle(qtbot, dock)
    dock.desk.save(tmp_path / "edit.nii.gz")
    settle(qtbot, dock)
    (file,) = tmp_path.glob("*.nii.gz")
    sidecar = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert sidecar["Request"]["origin"]["scan"] == dock.scan.digest
    assert sidecar["Scan"]
    assert nib.load(file).shape == mni_grid(8.0).shape


@pytest.fixture(scope="module")
def ldae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign.known_ldae(tmp_path_factory.mktemp("ldae"))


@pytest.fixture
def coded(
    make_napari_viewer_proxy: Any,
    qtbot: Any,
    segmenter_file: Path,
    docks: list[Any],
    ldae: Path,
) -> ProgressionDock:
    """A dock with the tiny LDAE and a scan that is encoded."""
    dock = made(make_napari_viewer_proxy, qtbot, docks, ldae, segmenter_file)
    add(dock)
    encode(qtbot, dock)
    return dock


def test_a_checkpoint_with_directions_shows_their_sliders(
    qtbot: Any, coded: ProgressionDock
) -> None:
    dock = coded
    assert list(dock.form.ways) == ["AD"]
    row = dock.form.ways["AD"]
    assert "0 changes nothing" in row.note.text()
    before = dock.asked._lines["hippocampus"].got.text()
    row.box.setValue(2.0)
    settle(qtbot, dock)
    heads = [head.text() for head in dock.asked._heads]  # nobody asks for volumes
    assert heads == ["ml", "reference", "now", "difference"]
    assert dock.asked._lines["hippocampus"].asked.text() == before
    picture = dock.desk.picture
    assert picture is not None
    assert picture.request.shift == (("AD", 2.0),)
    assert dock._viewer.layers["Difference"].data.any()
    dock.form.reset.click()
    settle(qtbot, dock)
    assert dock.desk.picture is not None
    assert dock.desk.picture.request.shift == (("AD", 0.0),)


def test_the_plane_shows_how_an_edit_moves_the_scan(
    qtbot: Any, coded: ProgressionDock
) -> None:
    plot = coded.trajectory.plot
    assert [group.name for group in plot.groups] == ["CN", "AD"]
    assert plot.here == plot.there
    coded.form.ways["AD"].box.setValue(2.0)
    assert plot.here != plot.there  # at once, before any picture
    assert "→" in coded.trajectory.words.text()
    assert "log odds" in coded.trajectory.words.text()
    settle(qtbot, coded)
    assert coded.desk.picture is not None
    assert plot.there == place(
        coded.desk.renderer.checkpoint,
        coded.trajectory._code,
        coded.desk.picture.request,
    )
    assert not coded.grab().isNull()  # it is painted


def test_probes_speak_without_a_plane(qtbot: Any, tmp_path: Path, loose: Loose) -> None:
    """An imported LDAE has a direction and its probe, but no training people."""
    settings = foreign.LDAE_SETTINGS | {"latent_shape": [2, 16, 16, 8]}
    path = tmp_path / "ldae.safetensors"
    for _ in write_found(find(foreign.save_ldae(tmp_path / "files", settings)), path):
        pass
    dock = loose(path)
    add(dock)
    encode(qtbot, dock)
    words = dock.trajectory.words
    assert re.fullmatch(r"Alzheimer's disease: -?[\d.]+ log odds", words.text())
    dock.form.ways["AD"].box.setValue(2.0)
    before, after = map(float, re.findall(r"-?\d+\.\d", words.text()))
    assert after > before  # towards the disease
    assert dock.trajectory.plot.here is None
    assert "no plane" in dock.trajectory.plot.excuse


def test_a_forecast_starts_from_the_scan_and_asks_about_the_person(
    qtbot: Any, coded: ProgressionDock
) -> None:
    panel = coded.forecast
    assert list(panel.rows) == ["age", "diagnosis"]
    panel.rows["age"].box.setValue(80.0)
    panel.years.box.setValue(2.0)
    settle(qtbot, coded)
    picture = coded.desk.picture
    assert picture is not None
    person = Conditions.of({"age": 80.0, "diagnosis": "CN"})
    assert picture.request.origin == Later(coded.scan, person, 2.0)
    assert coded._viewer.layers["Difference"].data.any()
    assert coded.trajectory.plot.here != coded.trajectory.plot.there
    coded.past.undo.click()
    settle(qtbot, coded)
    assert coded.desk.picture.request.origin == coded.scan
    assert panel.years.value() == 0.0
    panel.years.box.setValue(3.0)
    settle(qtbot, coded)
    coded.form.reset.click()
    settle(qtbot, coded)
    assert coded.desk.picture.request.origin == coded.scan
    assert panel.years.value() == 0.0


def test_variations_of_a_scan_are_spread_and_swept(
    qtbot: Any, coded: ProgressionDock
) -> None:
    coded.seeds.count.setValue(3)
    coded.seeds.begin.click()
    settle(qtbot, coded)
    spread = coded.series.spread
    assert spread is not None
    origins = [one.origin for one in spread.record.requests[:3]]
    assert origins == [Variation(coded.scan, seed) for seed in range(3)]
    assert spread.sd.data.max() > 0
    row = coded.sweeps.first
    row.name.setCurrentText("Seed")
    row.steps.setValue(2)
    coded.sweeps.begin.click()
    settle(qtbot, coded)
    assert coded.series.made is not None
    assert len(coded.series.made.pictures) == 2


def test_a_model_without_a_code_offers_neither(dock: ProgressionDock) -> None:
    assert dock.sections["Where it lies"].isHidden()
    assert dock.sections["Forecast"].isHidden()
    assert dock.sections[SPREAD].isHidden()
    assert dock.sweeps.first.name.findText("Seed") < 0


def test_a_scan_is_opened_from_a_file(
    qtbot: Any, dock: ProgressionDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.nii.gz"
    scan_file.save_volume(volume(dock), path)
    answers = [(str(path), ""), (str(tmp_path / "no.nii"), ""), ("", "")]
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: answers.pop(0))
    add(dock, 3, "other")
    dock.scans.file.click()
    assert dock.scans.picker.currentText() == "mine"
    encode(qtbot, dock)
    assert dock.scan.digest == volume(dock).digest
    dock.scans.file.click()
    assert "no.nii" in dock.error.words.text()
    dock.scans.file.click()  # given up
    assert dock.scans.picker.currentText() == "mine"


def test_nothing_of_a_closed_dock_stays(
    make_napari_viewer_proxy: Any,
    qtbot: Any,
    tiny_checkpoint: Path,
    segmenter_file: Path,
) -> None:
    viewer = make_napari_viewer_proxy()
    dock = ProgressionDock(viewer, tiny_checkpoint, segmenter_file)
    inside = viewer.window.add_dock_widget(dock, name="Progression")
    settle(qtbot, dock)
    add(dock)
    encode(qtbot, dock)
    gone = weakref.ref(dock)
    close_for_good(viewer, inside, dock)
    del dock, inside
    assert is_gone(gone)
    viewer.layers.clear()  # tells nobody who is gone

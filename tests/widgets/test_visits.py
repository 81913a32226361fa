"""The Visits dock: several scans of one person, and the pictures between them."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import QPointF, Qt
from qtpy.QtWidgets import QFileDialog

from napari_brainldm.engine.conform import Conformed
from napari_brainldm.engine.imports.find import find
from napari_brainldm.engine.imports.write import write_found
from napari_brainldm.engine.quality import Quality
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import EngineError, Sampler, Scan, Seed, Through
from napari_brainldm.engine.volume import Volume, mni_grid
from napari_brainldm.widgets import layers, visits
from napari_brainldm.widgets.looks import DARK, LIGHT
from napari_brainldm.widgets.progression import ProgressionDock
from napari_brainldm.widgets.visit_layers import ERROR, PREDICTED, REBUILT
from napari_brainldm.widgets.visits import VisitsDock
from tests import foreign
from tests.widgets.conftest import close_for_good, is_gone, settle

AGES = (70.0, 71.5, 74.0)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps, and scans that lie on the grid pass: placing takes seconds."""

    def conformed(_: Any, scan: Volume, *__: Any) -> Conformed:
        brain = scan.data > 0
        quality = Quality(0.9, 0.8, 0.7)
        return Conformed(scan, brain, np.eye(4), 1.0, quality, ("Placed.",), "told")

    monkeypatch.setattr("napari_brainldm.engine.scans.conform_to", conformed)
    monkeypatch.setattr(visits, "STEPS", 4)
    monkeypatch.setattr(visits, "QUICK", Sampler("ddim", 2))


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What is encoded and inverted is written down."""
    told: dict[str, list[Any]] = {"encoded": [], "inverted": []}
    mean, invert = Renderer._mean, Renderer._invert

    def encoding(self: Renderer, picture: Any, *rest: Any) -> Any:
        told["encoded"].append(Volume(picture, np.eye(4)).digest)
        return mean(self, picture, *rest)

    def inverting(self: Renderer, scan: Scan, code: Any, steps: int, *rest: Any) -> Any:
        told["inverted"].append((scan.digest, steps))
        return invert(self, scan, code, steps, *rest)

    monkeypatch.setattr(Renderer, "_mean", encoding)
    monkeypatch.setattr(Renderer, "_invert", inverting)
    return told


@pytest.fixture
def dock(
    make_napari_viewer_proxy: Any,
    qtbot: Any,
    tiny_checkpoint: Path,
    segmenter_file: Path,
    docks: list[Any],
) -> VisitsDock:
    return made(make_napari_viewer_proxy, qtbot, docks, tiny_checkpoint, segmenter_file)


def made(
    viewers: Any, qtbot: Any, docks: list[Any], model: Path, segmenter: Path
) -> VisitsDock:
    viewer = viewers(strict_qt="raise")
    dock = VisitsDock(viewer, model, segmenter)
    viewer.window.add_dock_widget(dock, name="Visits")
    docks.append(dock)
    settle(qtbot, dock)
    return dock


def volume(dock: VisitsDock, seed: int = 0) -> Volume:
    assert dock.desk.renderer is not None
    grid = dock.desk.renderer.card.grid
    data = np.random.default_rng(seed).random(grid.shape, np.float32)
    return Volume(data, grid.matrix)


def add(dock: VisitsDock, seed: int = 0, name: str = "T1w") -> None:
    data, keywords, _ = layers.layer_tuple(volume(dock, seed), name, (0, 1))
    dock._viewer.add_image(data, **keywords)


def fill(dock: VisitsDock, ages: tuple[float, ...] = AGES) -> None:
    """A scan per age, typed into the table."""
    while len(dock.visits.rows) < len(ages):
        dock.visits.add.click()
    for place, (row, age) in enumerate(zip(dock.visits.rows, ages, strict=True)):
        add(dock, place, f"visit {place + 1}")
        row.age.setValue(age)


def encode(qtbot: Any, dock: VisitsDock, ages: tuple[float, ...] = AGES) -> None:
    fill(dock, ages)
    dock.visits.encode.click()
    qtbot.waitUntil(lambda: dock.course is not None, timeout=60_000)
    settle(qtbot, dock)


def names(dock: VisitsDock) -> list[str]:
    return [layer.name for layer in dock._viewer.layers]


def origin(dock: VisitsDock) -> Through:
    assert dock.desk.picture is not None
    found = dock.desk.picture.request.origin
    assert isinstance(found, Through)
    return found


def go(qtbot: Any, dock: VisitsDock, age: float) -> None:
    dock.travel.timeline.box.setValue(age)
    settle(qtbot, dock)


# -- the table ---------------------------------------------------------------------


def test_without_visits_nothing_is_made(qtbot: Any, dock: VisitsDock) -> None:
    assert names(dock) == []
    assert not dock.visits.encode.isEnabled()
    assert not dock.travel.timeline.isEnabled()
    assert not dock.films.isEnabled()
    assert not dock.hiding.begin.isEnabled()
    assert dock.error.isHidden()


def test_the_ldae_is_opened_by_itself(
    make_napari_viewer_proxy: Any,
    qtbot: Any,
    tiny_checkpoint: Path,
    segmenter_file: Path,
    docks: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As by the Progression dock: semantic codes travel, not conditions."""
    ldae = foreign.known_ldae(tmp_path)
    at_hand = "napari_brainldm.engine.resources.models_at_hand"
    monkeypatch.setattr(at_hand, lambda: [tiny_checkpoint, ldae])
    viewer = make_napari_viewer_proxy(strict_qt="raise")
    dock = VisitsDock(viewer, segmenter=segmenter_file)
    docks.append(dock)
    settle(qtbot, dock)
    assert dock.models.opened == ldae.resolve()
    assert VisitsDock.bundled is ProgressionDock.bundled


def test_rows_take_scans_as_they_come(dock: VisitsDock) -> None:
    add(dock, 0, "first")
    add(dock, 1, "second")
    assert [one.name for one in dock.visits.chosen()] == ["first", "second"]
    assert [one.age for one in dock.visits.chosen()] == [None, None]
    assert not dock.visits.rows[0].remove.isEnabled()  # two are needed
    dock.visits.add.click()
    assert len(dock.visits.chosen()) == 2  # no third scan yet
    add(dock, 2, "third")
    assert [one.name for one in dock.visits.chosen()] == ["first", "second", "third"]
    dock.visits.rows[1].remove.click()
    assert [one.name for one in dock.visits.chosen()] == ["first", "third"]
    dock._viewer.layers.remove("first")
    assert [one.name for one in dock.visits.chosen()] == ["second", "third"]


def retype(qtbot: Any, box: Any, text: str) -> None:
    """As with the keyboard: the number is replaced, Enter ends it."""
    box.setFocus()
    box.selectAll()
    qtbot.keyClicks(box, text)
    qtbot.keyClick(box, Qt.Key.Key_Return)


def typed_ages(dock: VisitsDock) -> list[float | None]:
    ages = [one.age for one in dock.visits.chosen()]
    return [None if age is None else round(age, 2) for age in ages]


def test_dates_can_be_typed(qtbot: Any, dock: VisitsDock) -> None:
    for place in range(2):
        add(dock, place, f"visit {place + 1}")
    first, second = (row.age for row in dock.visits.rows)
    retype(qtbot, first, "2019-05-31")
    assert typed_ages(dock) == [0.0, None]
    assert "2019-05-31" in first.toolTip()
    retype(qtbot, second, "2018-11-29")  # 183 days earlier
    assert typed_ages(dock) == [0.5, 0.0]
    retype(qtbot, first, "72")
    assert typed_ages(dock) == [72.0, 71.5]
    assert second.text() == "71.50 years"
    retype(qtbot, second, "70")
    assert typed_ages(dock) == [72.0, 70.0]


def test_dates_of_a_dataset_become_ages_with_one_age(
    qtbot: Any, dock: VisitsDock, tmp_path: Path, phantom: Volume
) -> None:
    days = {"ses-1": "2019-05-31", "ses-2": "2020-08-12"}
    for session, day in days.items():
        folder = tmp_path / "sub-01" / session / "anat"
        folder.mkdir(parents=True)
        image = nib.Nifti1Image(phantom.data, phantom.affine)
        nib.save(image, folder / f"sub-01_{session}_T1w.nii.gz")
        text = f"filename\tacq_time\nanat/sub-01_{session}_T1w.nii.gz\t{day}\n"
        (folder.parent / f"sub-01_{session}_scans.tsv").write_text(text)
    for path in sorted(tmp_path.glob("sub-01/*/anat/*")):
        dock._viewer.open(path, plugin="napari-brainldm")
    assert typed_ages(dock) == [0.0, 1.2]
    retype(qtbot, dock.visits.rows[0].age, "65")
    assert typed_ages(dock) == [65.0, 66.2]


def test_a_date_that_says_nothing_is_told(qtbot: Any, dock: VisitsDock) -> None:
    for place in range(2):
        add(dock, place, f"visit {place + 1}")
    first, second = (row.age for row in dock.visits.rows)
    retype(qtbot, first, "70.25")
    retype(qtbot, second, "2019-02-30")
    assert "2019-02-30 is no date" in dock.error.words.text()
    assert (second.text(), typed_ages(dock)) == ("age?", [70.25, None])
    retype(qtbot, second, "2019-05-31")
    assert "Visit 2 has a date, but other visits" in dock.error.words.text()
    assert typed_ages(dock) == [70.25, None]
    retype(qtbot, first, "2018-05-31")
    assert typed_ages(dock) == [70.25, 71.25]


@pytest.mark.parametrize(
    ("ages", "words"),
    [
        ((70.0, -1.0), "age at visit 2 is not known"),
        ((70.0, 70.0), "visit 1 and visit 2 have the same age"),
    ],
)
def test_ages_that_make_no_line_are_told(
    qtbot: Any, dock: VisitsDock, ages: tuple[float, ...], words: str
) -> None:
    fill(dock, ages)
    dock.visits.encode.click()
    settle(qtbot, dock)
    assert words in dock.error.words.text()
    assert dock.course is None


def test_one_visit_is_too_few(qtbot: Any, dock: VisitsDock) -> None:
    add(dock)
    dock.visits.rows[0].age.setValue(70)
    dock.visits.encode.click()
    settle(qtbot, dock)
    assert "two or more visits" in dock.error.words.text()


def test_a_model_without_a_denoiser_says_what_is_needed(
    qtbot: Any, dock: VisitsDock
) -> None:
    fill(dock)
    renderer = dock.desk.renderer
    assert renderer is not None
    renderer.card = replace(renderer.card, denoiser=None)
    dock.visits.encode.click()
    settle(qtbot, dock)
    assert "Open a brain LDM or an LDAE" in dock.error.words.text()


def test_ages_are_read_from_a_dataset(
    dock: VisitsDock, tmp_path: Path, phantom: Volume
) -> None:
    table = "session_id\tage\nses-1\t70.25\nses-2\t72\n"
    for session in ("ses-1", "ses-2"):
        folder = tmp_path / "sub-01" / session / "anat"
        folder.mkdir(parents=True)
        image = nib.Nifti1Image(phantom.data, phantom.affine)
        nib.save(image, folder / f"sub-01_{session}_T1w.nii.gz")
    (tmp_path / "sub-01" / "sub-01_sessions.tsv").write_text(table)
    for path in sorted(tmp_path.glob("sub-01/*/anat/*")):
        dock._viewer.open(path, plugin="napari-brainldm")
    assert [one.age for one in dock.visits.chosen()] == [70.25, 72.0]
    assert "sub-01_sessions.tsv" in dock.visits.rows[0].age.toolTip()
    (tmp_path / "sub-01" / "sub-01_sessions.tsv").write_bytes(b"\xff\xfe\x80")
    dock.visits.rows[0].picker.setCurrentIndex(1)
    assert "is not a tab-separated table" in dock.error.words.text()
    assert dock.visits.chosen()[0].age is None


def test_a_scan_that_is_refused_is_told(
    qtbot: Any, dock: VisitsDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise EngineError("The scan does not look like a brain. Choose another.")

    monkeypatch.setattr("napari_brainldm.engine.scans.conform_to", refuse)
    fill(dock)
    dock.visits.encode.click()
    settle(qtbot, dock)
    assert "does not look like a brain" in dock.error.words.text()
    assert dock.course is None
    assert names(dock) == ["visit 1", "visit 2", "visit 3"]


# -- encoding and travelling -------------------------------------------------------


def test_the_first_picture_is_the_first_visit(qtbot: Any, dock: VisitsDock) -> None:
    encode(qtbot, dock, (74.0, 70.0, 71.5))  # in any order
    assert dock.course is not None
    assert dock.course.ages == (70.0, 71.5, 74.0)
    assert "3 visits placed: quality 0.80, 0.80, 0.80" in dock.visits.words.text()
    assert origin(dock).place == 70.0
    assert dock.course.visits[0].scan.digest == volume(dock, 1).digest
    assert dock.desk.picture is not None
    assert dock.desk.picture.request.sampler == Sampler("ddim", 4)
    placed = [name for name in names(dock) if name.endswith("placed")]
    assert placed == [f"visit {n}, placed" for n in (2, 3, 1)]  # by age
    hidden = {layer.name for layer in dock._viewer.layers if not layer.visible}
    assert hidden == {*placed, "visit 1", "visit 2", "visit 3"}
    assert [one.name for one in dock.visits.chosen()] == [
        "visit 1",
        "visit 2",
        "visit 3",
    ]


def test_a_tick_never_inverts_again_and_a_scan_is_encoded_once(
    qtbot: Any, dock: VisitsDock, done: dict[str, list[Any]]
) -> None:
    """Nor does another age of the same scans, or the same scan at two ages."""
    encode(qtbot, dock, (70.0, 72.0))
    scans = {volume(dock, 0).digest, volume(dock, 1).digest}
    expected = sorted((digest, steps) for digest in scans for steps in (2, 4))
    assert sorted(done["inverted"]) == expected
    assert len(done["encoded"]) == 2
    slider, seen = dock.travel.timeline.slider, []
    dock.desk.shown.connect(lambda _, preview: seen.append(preview))
    slider.setSliderDown(True)
    for value in (70.5, 71.0, 71.5, 72.5):
        slider.setValue(value)
        qtbot.wait(30)
    qtbot.waitUntil(lambda: any(seen), timeout=30_000)
    assert all(seen)  # previews alone while the handle is held
    slider.setSliderDown(False)
    settle(qtbot, dock)
    assert seen[-1] is False
    assert origin(dock).place == 72.5
    dock.visits.rows[1].age.setValue(73.0)
    dock.visits.add.click()
    last = dock.visits.rows[2]
    last.picker.setCurrentIndex(last.picker.findText("visit 1"))
    last.age.setValue(75.0)
    assert "press Encode" in dock.visits.words.text()
    dock.visits.encode.click()
    qtbot.waitUntil(lambda: len(dock.course.visits) == 3, timeout=60_000)
    settle(qtbot, dock)
    assert dock.course.ages == (70.0, 73.0, 75.0)
    assert sorted(done["inverted"]) == expected
    assert len(done["encoded"]) == 2


def test_a_click_on_an_anchor_goes_to_the_visit(qtbot: Any, dock: VisitsDock) -> None:
    encode(qtbot, dock)
    anchors = dock.travel.timeline.anchors
    anchors.resize(300, 20)
    place = QPointF(anchors._x(74.0), 10).toPoint()
    qtbot.mouseClick(anchors, Qt.MouseButton.LeftButton, pos=place)
    settle(qtbot, dock)
    assert origin(dock).place == 74.0
    assert dock.travel.timeline.note.text() == "at visit 3 of 3"
    between = QPointF(anchors._x(72.8), 10).toPoint()
    qtbot.mouseClick(anchors, Qt.MouseButton.LeftButton, pos=between)
    assert origin(dock).place == 74.0


def test_beyond_the_visits_is_marked_everywhere(
    qtbot: Any, dock: VisitsDock, tmp_path: Path
) -> None:
    encode(qtbot, dock)
    timeline = dock.travel.timeline
    assert (timeline.slider.minimum(), timeline.slider.maximum()) == (68.0, 76.0)
    words = dock._viewer.canvas.overlays
    go(qtbot, dock, 73.0)
    assert "brainldm_words" not in words or not words["brainldm_words"].visible
    go(qtbot, dock, 75.5)
    told = "extrapolated: 1.50 years beyond the last visit"
    assert timeline.note.text() == f"⚠ {told}"
    written = "EXTRAPOLATED\n1.50 years beyond\nthe last visit"
    assert words["brainldm_words"].text == written
    assert words["brainldm_words"].visible
    assert dock.desk.picture is not None
    assert dock.desk.picture.record["YearsBeyondVisits"] == 1.5
    dock.desk.save(tmp_path / "later.nii.gz")
    settle(qtbot, dock)
    sidecar = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert sidecar["Request"]["origin"]["place"] == 75.5
    assert len(sidecar["Visits"]) == 3
    assert dock.below._name().endswith("place-75.5_curve-piecewise.nii.gz")
    go(qtbot, dock, 71.0)
    assert not words["brainldm_words"].visible


def test_the_curve_is_a_choice_of_three_visits(qtbot: Any, dock: VisitsDock) -> None:
    encode(qtbot, dock)
    go(qtbot, dock, 72.5)
    straight = dock._viewer.layers["Synthetic brain"].data.copy()
    curve = dock.travel.curve
    curve.setCurrentIndex(curve.findData("smooth"))
    settle(qtbot, dock)
    assert origin(dock).curve == "smooth"
    assert not np.array_equal(dock._viewer.layers["Synthetic brain"].data, straight)
    dock.past.undo.click()
    settle(qtbot, dock)
    assert np.array_equal(dock._viewer.layers["Synthetic brain"].data, straight)
    assert curve.currentData() == "piecewise"
    assert dock.travel.timeline.value() == 72.5


def test_two_visits_have_one_way(qtbot: Any, dock: VisitsDock) -> None:
    encode(qtbot, dock, (70.0, 72.0))
    assert not dock.travel.curve.isEnabled()
    assert not dock.hiding.begin.isEnabled()
    assert "Three visits" in dock.hiding.words.text()


def test_requests_of_others_are_refused(qtbot: Any, dock: VisitsDock) -> None:
    encode(qtbot, dock)
    picture = dock.desk.picture
    assert picture is not None
    dock._restore(picture.request)
    assert dock.error.isHidden()
    settle(qtbot, dock)
    dock._restore(replace(picture.request, origin=Seed(3)))
    assert "not of the visits" in dock.error.words.text()


# -- leave one out -----------------------------------------------------------------


def test_a_visit_is_left_out_and_its_error_shown(qtbot: Any, dock: VisitsDock) -> None:
    encode(qtbot, dock)
    picker = dock.hiding.picker
    assert [picker.itemText(n) for n in range(picker.count())] == [
        "Visit 2, 71.50 years"
    ]
    dock.hiding.begin.click()
    settle(qtbot, dock)
    shown = dock._viewer.layers
    renderer, course = dock.desk.renderer, dock.course
    assert renderer is not None and course is not None
    rebuilt = renderer.rebuild(volume(dock, 1).data)
    others = course.without(1)
    request = others.request(renderer.card, 71.5, "piecewise", Sampler("ddim", 4))
    predicted = finish(renderer.render(request)).data
    np.testing.assert_array_equal(shown[PREDICTED].data.T, predicted)
    np.testing.assert_allclose(shown[ERROR].data.T, predicted - rebuilt, atol=1e-6)
    low, high = shown[ERROR].contrast_limits
    assert low == -high
    assert shown[ERROR].visible and not shown[REBUILT].visible
    texts = [label.text() for label in dock.hiding.table.findChildren(type(dock.about))]
    assert "Prediction – its reconstruction" in texts
    assert f"{((predicted - rebuilt) ** 2).mean():.5f}" in texts
    hidden = course.visits[1].scan.digest
    for name in (ERROR, REBUILT):
        told = shown[name].metadata["record"]["Derived"]["parameters"]
        assert told == {"age": 71.5, "scan": hidden}
    assert shown[REBUILT].metadata["record"]["Scan"]["Sha256"] == hidden
    assert "Visits" not in shown[REBUILT].metadata["record"]
    assert "PREDICTED\n71.50" in dock._viewer.canvas.overlays["brainldm_words"].text
    go(qtbot, dock, 73.0)  # what is asked for next is seen
    assert not shown[ERROR].visible and not shown[PREDICTED].visible
    assert len(dock.visits.chosen()) == 3  # none of these layers is a scan


# -- film and curve ----------------------------------------------------------------


def test_a_film_runs_along_age_and_is_written(
    qtbot: Any, dock: VisitsDock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(qtbot, dock)
    films = dock.films
    assert (films.low.value(), films.high.value()) == (70.0, 74.0)
    films.high.setValue(76.0)
    films.steps.setValue(4)
    films.begin.click()
    settle(qtbot, dock)
    layer = next(one for one in dock._viewer.layers if one.name == "Sweep: age")
    assert layer.data.shape[0] == 4
    assert (layer.scale[0], layer.translate[0]) == (2.0, 70.0)
    assert layer.axis_labels[0] == "age"
    assert str(layer.units[0]) == "year"
    assert layer.metadata["captions"][-1] == "Age 76.00 years, extrapolated"
    words = dock._viewer.canvas.overlays
    dock._viewer.dims.set_current_step(0, 3)
    assert words["brainldm_words"].text.startswith("EXTRAPOLATED\n2.00 years beyond")
    dock._viewer.dims.set_current_step(0, 1)
    assert not words["brainldm_words"].visible
    chosen = (str(tmp_path / "age.gif"), "")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: chosen)
    films.write.click()
    settle(qtbot, dock)
    with Image.open(tmp_path / "age.gif") as film:
        assert film.n_frames == 4


def test_the_curve_shows_scans_pictures_and_films(
    qtbot: Any, dock: VisitsDock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dock.curve.plot.real == () or not dock.curve.plot.real
    encode(qtbot, dock)
    plot = dock.curve.plot
    assert [age for age, _ in plot.real] == list(AGES)
    assert [age for age, _ in plot.made] == [70.0]  # the picture shown
    go(qtbot, dock, 73.0)
    assert [age for age, _ in plot.made] == [70.0, 73.0]
    assert plot.mark == 73.0
    measured = dock.desk.findings.measured
    assert plot.made[-1][1] == measured.ventricles
    structure = dock.curve.structure
    structure.setCurrentIndex(structure.findData("brain"))
    assert plot.made[-1][1] == measured.brain
    dock.films.steps.setValue(3)
    dock.films.begin.click()
    settle(qtbot, dock)
    assert [age for age, _ in plot.made] == [70.0, 72.0, 73.0, 74.0]
    made, render = [], Renderer.render
    monkeypatch.setattr(
        Renderer, "render", lambda self, r: made.append(r) or render(self, r)
    )
    dock.films.steps.setValue(5)
    dock.films.begin.click()
    settle(qtbot, dock)
    assert [r.origin.place for r in made] == [71.0, 73.0]  # the others are kept
    curve = dock.travel.curve
    curve.setCurrentIndex(curve.findData("smooth"))
    settle(qtbot, dock)
    assert [age for age, _ in plot.made] == [73.0]  # another way


@pytest.mark.parametrize(("theme", "colours"), [("dark", DARK), ("light", LIGHT)])
def test_the_plot_is_drawn_in_the_colours_of_the_theme(
    qtbot: Any, dock: VisitsDock, theme: str, colours: Any
) -> None:
    encode(qtbot, dock)
    dock._viewer.theme = theme
    plot = dock.curve.plot
    plot.resize(300, 170)
    image = plot.grab().toImage()
    there = {
        image.pixelColor(x, y).name()
        for x in range(image.width())
        for y in range(image.height())
    }
    assert colours.text in there
    assert colours.accent in there


# -- models and the end ------------------------------------------------------------


def test_an_ldae_travels_by_its_semantic_codes(
    make_napari_viewer_proxy: Any,
    qtbot: Any,
    segmenter_file: Path,
    docks: list[Any],
    tmp_path: Path,
) -> None:
    settings = foreign.LDAE_SETTINGS | {"latent_shape": [2, 16, 16, 8]}
    model = tmp_path / "ldae.safetensors"
    source = foreign.save_ldae(tmp_path / "files", settings)
    for _ in write_found(find(source), model):
        pass
    dock = made(make_napari_viewer_proxy, qtbot, docks, model, segmenter_file)
    assert "no person's volumes" in dock.curve.words.text()  # its scans are bent
    encode(qtbot, dock, (0.0, 0.56, 2.0))
    assert dock.travel.timeline.title.text() == "Time since the first visit"
    go(qtbot, dock, 1.0)
    assert origin(dock).place == 1.0
    assert dock.desk.picture is not None
    assert dock.desk.picture.request.conditions.values == ()
    dock.hiding.begin.click()
    settle(qtbot, dock)
    assert ERROR in names(dock)
    assert dock.error.isHidden()


def test_another_model_forgets_the_visits(
    qtbot: Any, dock: VisitsDock, tiny_checkpoint: Path
) -> None:
    encode(qtbot, dock)
    dock.open(tiny_checkpoint)
    settle(qtbot, dock)
    assert dock.course is None
    assert not dock.travel.timeline.isEnabled()
    assert not any(name.endswith("placed") for name in names(dock))
    assert mni_grid(8.0) == dock.desk.renderer.card.grid


def test_nothing_of_a_closed_dock_stays(
    make_napari_viewer_proxy: Any,
    qtbot: Any,
    tiny_checkpoint: Path,
    segmenter_file: Path,
) -> None:
    viewer = make_napari_viewer_proxy()
    dock = VisitsDock(viewer, tiny_checkpoint, segmenter_file)
    inside = viewer.window.add_dock_widget(dock, name="Visits")
    settle(qtbot, dock)
    encode(qtbot, dock)
    dock.hiding.begin.click()
    settle(qtbot, dock)
    dock.films.begin.click()
    settle(qtbot, dock)
    go(qtbot, dock, max(AGES) + 1)
    assert viewer.canvas.overlays["brainldm_words"].visible
    gone = weakref.ref(dock)
    close_for_good(viewer, inside, dock)
    del dock, inside
    assert is_gone(gone)
    assert not viewer.canvas.overlays["brainldm_words"].visible
    viewer.layers.clear()  # tells nobody who is gone

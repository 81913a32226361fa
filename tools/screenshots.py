"""Pictures of the docks for the documentation, from a real window.

Needs a display (a virtual one will do: `xvfb-run -a python tools/screenshots.py`);
writes explore_2d, structures_2d, explore_3d, compare, side_by_side, regions, sweep and
seeds (.png) into docs/images, progression.png of a simulated person's scan, and
visits.png and visits_left_out.png of four visits of a simulated person,
reader_study.png of a study of simulated scans against the bundled model, and, where the
bundled GM-LDM is there, connectivity.png, contrast.png, clusters.png, figures.png and
blocks.png of its simulated people.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import napari
import numpy as np
from qtpy.QtWidgets import QApplication, QWidget
from superqt import QCollapsible

from napari_brainldm.engine.resources import bundled_fnc
from napari_brainldm.engine.scan_file import save_volume
from napari_brainldm.engine.volume import Volume, mni_grid
from napari_brainldm.review.build import build
from napari_brainldm.review.plan import Chosen, Plan
from napari_brainldm.review.session import Status
from napari_brainldm.review.sources import Source
from napari_brainldm.widgets.connectivity import ConnectivityDock
from napari_brainldm.widgets.explore import ExploreDock
from napari_brainldm.widgets.layers import layer_tuple
from napari_brainldm.widgets.progression import ProgressionDock
from napari_brainldm.widgets.question_panel import SECOND
from napari_brainldm.widgets.reader_study import ReaderStudyDock
from napari_brainldm.widgets.sitting import SPACE
from napari_brainldm.widgets.visits import VisitsDock
from trainer.data.phantom import simulate
from trainer.data.population import PopulationConfig, draw_subject, visits
from trainer.data.template import build_template

IMAGES = Path(__file__).parents[1] / "docs" / "images"


def main() -> None:
    """Open the viewer, move the sliders, save what is seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled one")
    parser.add_argument("--theme", default="dark", help="dark or light")
    parser.add_argument("--folder", type=Path, default=IMAGES)
    parser.add_argument("--only", choices=tuple(SHOTS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, shot in SHOTS.items():
        if options.only in (None, name):
            shot(options.theme, options.checkpoint, options.folder)


def explore(theme: str, checkpoint: Path | None, folder: Path) -> None:
    """The Explore dock: conditions, structures, comparisons, sweeps, seeds."""
    viewer = napari.Viewer(show=True, show_welcome_screen=False)
    viewer.theme = theme
    viewer.window.resize(1400, 900)
    dock = ExploreDock(viewer, checkpoint)
    viewer.window.add_dock_widget(dock, name="Explore (Brain LDM)", area="right")
    shoot(viewer, dock, folder)
    viewer.close()


def progress(theme: str, checkpoint: Path | None, folder: Path) -> None:
    """Encode a simulated person's scan, widen the ventricles, save what is seen.

    Of a model with directions: two SD towards Alzheimer's disease.
    """
    viewer = napari.Viewer(show=True, show_welcome_screen=False)
    viewer.theme = theme
    viewer.window.resize(1400, 900)
    dock = ProgressionDock(viewer, checkpoint)
    viewer.window.add_dock_widget(dock, name="Progression (Brain LDM)", area="right")
    data, keywords, _ = layer_tuple(person(), "Simulated scan", (0.0, 1.1))
    viewer.add_image(data, **keywords)
    wait(lambda: not dock.desk.busy)
    dock.scans.encode.click()
    wait(lambda: dock.comparison.pinned is not None)
    rest(dock)
    coded = "AD" in dock.form.ways
    if coded:
        dock.form.ways["AD"].box.setValue(2.0)
        unfold(dock, dock.trajectory)
    else:
        row = dock.form.rows["ventricles"]
        row.box.setValue(row.box.value() + 25)
    rest(dock)
    if coded:
        dock.area.ensureWidgetVisible(dock.trajectory, 0, 0)
    viewer.reset_view()
    name = "progression_ldae.png" if coded else "progression.png"
    save(viewer, folder / name)
    viewer.close()


def travel(theme: str, checkpoint: Path | None, folder: Path) -> None:
    """Four visits of a simulated person: their curve, and one of them left out."""
    viewer = napari.Viewer(show=True, show_welcome_screen=False)
    viewer.theme = theme
    viewer.window.resize(1400, 900)
    dock = VisitsDock(viewer, checkpoint)
    viewer.window.add_dock_widget(dock, name="Visits (Brain LDM)", area="right")
    scans = person_in_time()
    for _ in range(len(scans) - 2):
        dock.visits.add.click()
    for row, (age, scan) in zip(dock.visits.rows, scans, strict=True):
        name = f"Simulated, {age:.1f} years"
        data, keywords, _ = layer_tuple(scan, name, (0.0, 1.1))
        viewer.add_image(data, **keywords)
        row.age.setValue(age)
    wait(lambda: not dock.desk.busy)
    dock.visits.encode.click()
    wait(lambda: dock.course is not None)
    rest(dock)
    box = dock.travel.timeline.box
    for age in (71.0, 72.5, 73.5, 74.5, box.maximum(), 75.5):
        box.setValue(age)
        rest(dock)
    viewer.layers.selection.active = dock.desk.layer
    viewer.reset_view()
    save(viewer, folder / "visits.png")
    box.setValue(dock.course.ages[1])
    rest(dock)
    unfold(dock, dock.hiding)
    dock.hiding.begin.click()
    rest(dock)
    QApplication.processEvents()
    dock.area.verticalScrollBar().setValue(120)
    save(viewer, folder / "visits_left_out.png")
    viewer.close()


def read(theme: str, checkpoint: Path | None, folder: Path) -> None:
    """A study of simulated scans against pictures of the model: two side by side."""
    with TemporaryDirectory() as place:
        study = Path(place) / "study"
        scans = Path(place) / "people"
        scans.mkdir()
        for number, scan in enumerate(people(*range(6))):
            save_volume(scan, scans / f"{number}.nii.gz")
        plan = Plan(
            "Simulated",
            (Chosen("P5", trials=3, practice=0, block=3),),
            (
                Source("real", folder=str(scans), placed=True),
                Source("synthetic", seeds=6),
            ),
            ("R01",),
            checkpoint=str(checkpoint or ""),
        )
        for words in build(plan, study, Path(place)):
            print(words)
        viewer = napari.Viewer(show=True, show_welcome_screen=False)
        viewer.theme = theme
        viewer.window.resize(1400, 900)
        dock = ReaderStudyDock(viewer)
        viewer.window.add_dock_widget(dock, name="Reader study (Brain LDM)")
        dock.start(study, "R01")
        dock.sitting.press(SPACE)
        wait(lambda: dock.sitting.session.status is Status.SHOWN)
        pause = time.monotonic() + 0.5
        wait(lambda: time.monotonic() > pause)
        dock.trial.questions.press(SECOND, "j")
        save(viewer, folder / "reader_study.png")
        dock.leave()
        viewer.close()


def connect(theme: str, checkpoint: Path | None, folder: Path) -> None:
    """Simulated people's connectivity: a pair of networks, a comparison, blocks."""
    if bundled_fnc() is None:
        print("No simulated connectivity is bundled: connectivity is left out.")
        return
    viewer = napari.Viewer(show=True, show_welcome_screen=False)
    viewer.theme = theme
    viewer.window.resize(1400, 900)
    dock = ConnectivityDock(viewer, checkpoint)
    viewer.window.add_dock_widget(dock, name="Connectivity (Brain LDM)", area="right")
    rest(dock)
    dock.matrices.source.sample.click()
    rest(dock)
    matrix = dock.matrices.matrix
    matrix.clicked.emit(0, len(dock.matrices.components) - 1)
    rest(dock)
    viewer.reset_view()
    save(viewer, folder / "connectivity.png")
    unfold(dock, dock.contrast)
    panel = dock.contrast
    panel.whose.setCurrentIndex(panel.whose.findData("group: patient"))
    panel.seeds.setValue(2)
    panel.begin.click()
    rest(dock)
    panel.table.click()
    rest(dock)
    dock.area.ensureWidgetVisible(panel.voxels)
    save(viewer, folder / "contrast.png")
    panel.threshold.setValue(0.8)
    panel.clusters.click()
    rest(dock)
    save(viewer, folder / "clusters.png")
    panel.threshold.setValue(0.0)  # the whole map
    panel.figures.click()
    rest(dock)
    save(viewer, folder / "figures.png")
    for shown in dock.contrasts.tables.panels.values():
        shown.parentWidget().hide()
    fold(panel)
    unfold(dock, dock.saliency)
    dock.saliency.method.setCurrentIndex(1)
    dock.saliency.begin.click()
    rest(dock)
    size = np.abs(dock.saliency.blocks.heat.values)
    block, region = np.unravel_index(np.argmax(size), size.shape)
    dock.saliency.clicked.emit(int(block), int(region))
    dock.area.ensureWidgetVisible(dock.saliency.blocks)
    save(viewer, folder / "blocks.png")
    viewer.close()


def person_in_time() -> list[tuple[float, Volume]]:
    """Age in years and scan at four visits of somebody who never was."""
    config = PopulationConfig(youngest=70, oldest=71, mix=(0, 0, 1))
    subject = draw_subject(config, 7, 5)
    pack = build_template(mni_grid(2.0))
    return [
        (visit.age, simulate(pack, subject, visit, 7).picture)
        for visit in visits(subject, (0.0, 1.5, 3.0, 4.5))
    ]


def person() -> Volume:
    """The scan of somebody of 70 who never was."""
    return people(3)[0]


def people(*numbers: int) -> list[Volume]:
    """Scans of some of 70 who never were."""
    pack = build_template(mni_grid(2.0))
    config = PopulationConfig(youngest=70, oldest=71)
    subjects = [draw_subject(config, 7, number) for number in numbers]
    return [simulate(pack, one, visits(one, (0.0,))[0], 7).picture for one in subjects]


def shoot(viewer: napari.Viewer, dock: ExploreDock, folder: Path) -> None:
    """Move the sliders; save a slice, the same with structures, and a 3D view."""
    wait(lambda: dock.desk.layer is not None and not dock.desk.busy)
    move(dock, 0, 0.55)
    move(dock, 2, 0.86)
    rest(dock)
    viewer.reset_view()
    save(viewer, folder / "explore_2d.png")
    dock.asked.structures.click()
    save(viewer, folder / "structures_2d.png")
    viewer.dims.ndisplay = 3
    viewer.reset_view()
    viewer.scene.camera.set_view_direction((-0.45, -0.8, -0.4), (1.0, 0.0, 0.0))
    save(viewer, folder / "explore_3d.png")
    dock.asked.structures.click()
    viewer.dims.ndisplay = 2
    viewer.reset_view()
    compare(viewer, dock, folder)
    many(viewer, dock, folder)


def compare(viewer: napari.Viewer, dock: ExploreDock, folder: Path) -> None:
    """Pin, move the ventricles, save difference, table of regions, side by side."""
    unfold(dock, dock.compare)
    move(dock, 2, 0.3)
    rest(dock)
    dock.compare.pin.click()
    move(dock, 2, 0.75)
    rest(dock)
    save(viewer, folder / "compare.png")
    dock.below.table.click()
    save(viewer, folder / "regions.png")
    dock.regions.panel.parentWidget().hide()
    dock.compare.beside.click()
    viewer.reset_view()
    save(viewer, folder / "side_by_side.png")
    dock.compare.beside.click()
    fold(dock.compare)


def many(viewer: napari.Viewer, dock: ExploreDock, folder: Path) -> None:
    """A sweep, then mean, SD and sure change over seeds."""
    viewer.reset_view()
    unfold(dock, dock.seeds)
    dock.seeds.begin.click()
    rest(dock)
    save(viewer, folder / "seeds.png")
    fold(dock.seeds)
    dock.compare.unpin.click()
    viewer.layers.clear()
    unfold(dock, dock.sweeps)
    row = dock.sweeps.first
    row.name.setCurrentIndex(row.name.findData("ventricles"))
    dock.sweeps.begin.click()
    rest(dock)
    save(viewer, folder / "sweep.png")


def rest(dock: ExploreDock) -> None:
    """Wait until nothing runs and the picture is measured."""
    wait(lambda: not dock.settle.isActive() and not dock.desk.busy)


def unfold(dock: ExploreDock, panel: QWidget) -> None:
    """Open the section of `panel` and scroll to it."""
    _section(panel).expand(animate=False)
    wait(lambda: panel.isVisible())
    QApplication.processEvents()
    dock.area.ensureWidgetVisible(panel)


def fold(panel: QWidget) -> None:
    """Close the section of `panel` again."""
    _section(panel).collapse(animate=False)


def _section(panel: QWidget) -> QCollapsible:
    parent = panel.parentWidget()
    while not isinstance(parent, QCollapsible):
        parent = parent.parentWidget()
    return parent


def move(dock: ExploreDock, place: int, share: float) -> None:
    """Drag the slider of the covariate at `place` to `share` of its length."""
    assert dock.form is not None
    rows = list(dock.form.rows.values())
    if place < len(rows) and hasattr(rows[place], "slider"):
        slider = rows[place].slider
        low, high = slider.minimum(), slider.maximum()
        slider.setValue(low + share * (high - low))


def save(viewer: napari.Viewer, path: Path) -> None:
    """Let the window draw itself, then save it with its docks."""
    end = time.monotonic() + 1.0
    wait(lambda: time.monotonic() > end)
    viewer.window.screenshot(str(path), canvas_only=False, flash=False)


def wait(done: Callable[[], bool], seconds: float = 600.0) -> None:
    """Run the event loop until `done`."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise SystemExit("The picture did not come; see the log above.")
        QApplication.processEvents()
        time.sleep(0.01)


SHOTS = {
    "explore": explore,
    "progression": progress,
    "visits": travel,
    "reader_study": read,
    "connectivity": connect,
}

if __name__ == "__main__":
    main()

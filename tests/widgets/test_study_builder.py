"""The owner builds a study in the dock; ways to open one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npe2 import PluginManifest

from benchmarks.review_study import GRID
from napari_brainldm.cli import main
from napari_brainldm.engine.placement import mni_template
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.scan_file import save_volume
from napari_brainldm.engine.volume import Volume
from napari_brainldm.review.protocols import protocol
from napari_brainldm.widgets import reader_study
from napari_brainldm.widgets.preferences import PLUGIN
from napari_brainldm.widgets.reader_study import READER_STUDY, ReaderStudyDock
from napari_brainldm.widgets.study_builder import conditions_in
from tests.widgets.reading import Open, folder, opened

__all__ = ["folder", "opened"]  # fixtures


def scans(folder: Path, count: int, seed: int) -> Path:
    """`count` simulated lumps where a brain lies, as files."""
    rng = np.random.default_rng(seed)
    brain = resample(
        Volume(mni_template().brain.astype(np.float32), mni_template().picture.affine),
        GRID,
    )
    folder.mkdir()
    for number in range(count):
        noise = rng.uniform(0.5, 1.0, GRID.shape).astype(np.float32)
        save_volume(Volume(brain * noise, GRID.matrix), folder / f"{number}.nii.gz")
    return folder


def test_the_owner_builds_a_study_and_reads_the_verdict(
    opened: Open, qtbot: Any, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    _, dock = opened()
    page = dock.setup.builder
    page.made.box.setText(str(scans(tmp_path / "made", 12, 1)))
    page.real.box.setText(str(scans(tmp_path / "real", 12, 2)))
    page.placed.setChecked(True)
    page.checkpoint.setText(str(tiny_checkpoint))
    page.protocol.setCurrentIndex(page.protocol.findData("P6"))
    assert page.trials.value() == protocol("P6").trials
    page.trials.setValue(8)
    page.readers.setText("R01")
    page.begin.click()
    assert "no folder to write to" in page.words.text()
    page.out.box.setText(str(tmp_path / "study"))
    with qtbot.waitSignal(page.built, timeout=120_000):
        page.begin.click()
    told = page.words.text()
    assert "stimuli; trials: {'R01': 8}" in told
    assert "Keep the key from readers" in told
    assert "the leak audit tells nothing" in told  # of 12 and 12
    assert dock.setup.folder.path == tmp_path / "study"
    page.begin.click()  # never over another
    qtbot.waitUntil(lambda: "never built over" in page.words.text(), timeout=20_000)


def test_conditions_are_written_as_words() -> None:
    found = conditions_in("age = 50, 70; sex = female")
    assert found == {"age": (50.0, 70.0), "sex": ("female",)}
    with pytest.raises(EngineError, match="no condition with its values"):
        conditions_in("age 50")


def test_the_command_line_opens_the_study(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    asked = []
    monkeypatch.setattr(reader_study, "open_study", lambda *a: asked.append(a))
    main(["review", "run", str(folder), "--reader", "R01"])
    assert asked == [(folder, "R01")]


def test_the_plugins_menu_has_the_dock(make_napari_viewer: Any, npe2pm: Any) -> None:
    manifest = PluginManifest.from_file(Path(__file__).parents[2] / "napari.yaml")
    with npe2pm.tmp_plugin(manifest=manifest):
        viewer = make_napari_viewer()
        _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, READER_STUDY)
        assert isinstance(dock, ReaderStudyDock)
        dock.sitting.close()
        dock.setup.builder.close()

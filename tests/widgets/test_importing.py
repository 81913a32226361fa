"""Public weights opened in the dock."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.widgets import importing
from tests import foreign
from tests.widgets.conftest import settle

if TYPE_CHECKING:
    from napari_brainldm.widgets.explore import ExploreDock


FOLDER = os.environ.get("BRAINLDM_STORIES", "")
"""Where a picture of the question is left; empty for none."""


@pytest.fixture
def dock(make_dock: Any) -> ExploreDock:
    found: ExploreDock = make_dock(strict_qt="raise")
    return found


def choose(monkeypatch: pytest.MonkeyPatch, path: Path | None) -> None:
    """The user names `path` in the file dialog, or cancels it."""
    answer = ("" if path is None else str(path), "")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: answer)


def agree(monkeypatch: pytest.MonkeyPatch, yes: bool) -> list[str]:
    """The user agrees or not; what the box said."""
    said: list[str] = []

    def answered(box: QMessageBox) -> None:
        said.append(f"{box.text()} {box.informativeText()}")
        buttons = {button.text(): button for button in box.buttons()}
        said.append(" | ".join(buttons))
        if FOLDER:
            Path(FOLDER).mkdir(parents=True, exist_ok=True)
            box.show()
            box.grab().save(f"{FOLDER}/import.png")
        wanted = next(iter(buttons.values())) if yes else box.buttons()[-1]
        monkeypatch.setattr(QMessageBox, "clickedButton", lambda _: wanted)

    monkeypatch.setattr(QMessageBox, "exec", answered)
    return said


def test_a_bundle_is_imported_and_opened(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, path = foreign.save_bundle(tmp_path / "zoo"), tmp_path / "my brain"
    said = agree(monkeypatch, yes=True)
    choose(monkeypatch, path)
    dock.open(folder / "models" / "autoencoder.pth")
    written = tmp_path / "my brain.safetensors"
    qtbot.waitUntil(lambda: dock.models.opened == written.resolve(), timeout=30_000)
    settle(qtbot, dock)
    assert "No licence lies beside these weights" in said[0]
    assert load_checkpoint(written).card.denoiser == foreign.UNET
    assert dock.form is not None
    assert "0–1" in dock.form.rows["ventricles"].note.text()


def test_who_does_not_agree_keeps_the_model_in_use(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said, before = agree(monkeypatch, yes=False), dock.models.opened
    choose(monkeypatch, tmp_path / "never.safetensors")
    dock.open(foreign.save_ldae(tmp_path / "ldae"))
    qtbot.waitUntil(lambda: len(said) == 2)
    settle(qtbot, dock)
    assert "non-profit research only" in said[0]
    assert "I agree to the terms" in said[1]
    assert dock.models.opened == before
    assert not list(tmp_path.glob("*.safetensors"))
    assert dock.desk.renderer is not None
    dock.ask()
    settle(qtbot, dock)
    assert dock.error.isHidden()


def test_cancelling_leaves_nothing(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    agree(monkeypatch, yes=True)
    choose(monkeypatch, tmp_path / "out" / "new.safetensors")
    write, told, go = importing.write_found, [], threading.Event()

    def slow(*asked: Any) -> Any:
        for step in write(*asked):
            told.append(step)
            if len(told) == 3:
                go.wait(20)
            yield step

    monkeypatch.setattr(importing, "write_found", slow)
    dock.open(foreign.save_bundle(tmp_path / "zoo"))
    qtbot.waitUntil(lambda: len(told) == 3, timeout=30_000)
    assert "Import" in dock.status.words.text()
    assert len(list((tmp_path / "out").iterdir())) == 1
    dock.cancel()
    go.set()
    settle(qtbot, dock)
    assert list((tmp_path / "out").iterdir()) == []
    assert dock.models.picker.currentText() == "Tiny"


def test_nothing_is_overwritten_without_a_question(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The dialog asks about the name that is typed, not about the one it becomes."""
    there = tmp_path / "mine.v2.safetensors"
    there.write_text("precious")
    agree(monkeypatch, yes=True)
    choose(monkeypatch, tmp_path / "mine.v2")
    dock.open(foreign.save_bundle(tmp_path / "zoo"))
    qtbot.waitUntil(lambda: not dock.error.isHidden(), timeout=30_000)
    assert "mine.v2.safetensors is there already" in dock.error.words.text()
    assert there.read_text() == "precious"


def test_a_hand_at_the_sliders_does_not_end_an_import(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = agree(monkeypatch, yes=False)
    dock.open(foreign.save_bundle(tmp_path / "zoo"))
    assert dock.form is not None
    dock.form.rows["age"].box.setValue(30.0)
    dock.ask()
    qtbot.waitUntil(lambda: len(said) == 2, timeout=30_000)
    settle(qtbot, dock)
    assert dock.desk.picture is not None
    assert dock.desk.picture.request.conditions.as_dict()["age"] == 30.0


def test_a_sweep_does_not_push_an_import_aside(
    qtbot: Any, dock: ExploreDock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go, understand = threading.Event(), importing.find

    def slow(source: Path) -> Any:
        go.wait(20)
        return understand(source)

    said = agree(monkeypatch, yes=False)
    monkeypatch.setattr(importing, "find", slow)
    dock.open(foreign.save_bundle(tmp_path / "zoo"))
    qtbot.waitUntil(lambda: dock.desk._job.behind == "import", timeout=10_000)
    dock._on_seeds_asked(2)
    assert "An import is still at work" in dock.error.words.text()
    go.set()
    qtbot.waitUntil(lambda: len(said) == 2, timeout=30_000)
    settle(qtbot, dock)


def test_other_files_are_told_in_the_dock(
    qtbot: Any, dock: ExploreDock, tmp_path: Path
) -> None:
    path = tmp_path / "notes.pt"
    path.write_text("no weights")
    dock.open(path)
    settle(qtbot, dock)
    assert "not a file that torch saved" in dock.error.words.text()
    assert dock.desk.renderer is not None

"""A reader at the window, by keys alone: from the first trial to the last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt

from napari_brainldm.review.record import Record, verify
from napari_brainldm.review.session import Status
from napari_brainldm.review.study import Rules, key_path, read_key, read_study
from tests.widgets.reading import (
    P1,
    Hands,
    Open,
    folder,
    opened,
    rows_of,
    small_study,
    to_first_trial,
    work_through,
)

if TYPE_CHECKING:
    import pytest

__all__ = ["folder", "opened"]  # fixtures


def test_a_whole_study_is_read_by_keys_alone(
    opened: Open, qtbot: Any, folder: Path
) -> None:
    study = read_study(folder)[0]
    key_path(folder).rename(folder.parent / "kept-away.json")
    _, dock = opened(strict_qt="raise")
    dock.setup.folder.box.setText(str(folder))
    dock.setup.reader.setText("R01")
    qtbot.keyClick(dock.setup.reader, Qt.Key.Key_Return)
    hands = Hands(qtbot, dock)
    assert dock.error.isHidden(), dock.error.text()
    titles = work_through(hands, "2")
    assert titles[0] == "Real or synthetic: practice"
    assert titles.count("Practice") == 2  # what it was is told, in practice alone
    assert titles[-2:] == ["Real or synthetic", "Done"]
    answers = rows_of(folder, "answer")
    assert len(answers) == 2 + 24 + 2 + 1
    assert {row["responses"]["real"] for row in answers} == {2}
    assert [row["phase"] for row in answers[:3]] == ["practice", "practice", "main"]
    middle = study.grid.shape[2] // 2
    assert answers[-1]["view"]["slices_visited"] == [middle]
    assert dock.pages.currentIndex() == 0
    key = read_key(folder.parent / "kept-away.json", study)
    truths = {truth.uid: truth.kind for truth in key.trials}
    kinds = [truths[row["trial_uid"]] for row in answers]
    assert kinds.count("catch") == 2
    assert kinds.count("repeat") == 1


def test_a_killed_window_loses_the_open_trial_alone(
    opened: Open, qtbot: Any, folder: Path
) -> None:
    _, dock = opened()
    hands = Hands(qtbot, dock)
    to_first_trial(hands, folder)
    hands.type("5")
    hands.press(Qt.Key.Key_Space)
    hands.until("message")  # feedback
    hands.press(Qt.Key.Key_Space)
    hands.until("trial")
    hands.type("3")
    session = dock.sitting.session
    assert session is not None
    open_trial = session.trial
    assert open_trial is not None
    session._record.close()  # all that is left of a program that was killed
    dock.sitting.session = None
    _, second = opened()
    again = Hands(qtbot, second)
    to_first_trial(again, folder)
    session = second.sitting.session
    assert session is not None
    assert session.trial == open_trial
    assert session.answers == {}
    assert session.done[0] == 1
    again.type("4")
    again.press(Qt.Key.Key_Space)
    (first, then) = rows_of(folder, "answer")
    assert (first["responses"], then["responses"]) == ({"real": 5}, {"real": 4})
    assert (first["reshown"], then["reshown"]) == (0, 1)


def test_keys_in_a_note_rate_nothing(opened: Open, qtbot: Any, folder: Path) -> None:
    _, dock = opened(show=True)
    hands = Hands(qtbot, dock)
    to_first_trial(hands, folder)
    qtbot.keyClick(dock, Qt.Key.Key_N)
    assert dock.window().focusWidget() is dock.trial.note
    qtbot.keyClicks(dock.trial.note, "36 z odd")
    session = dock.sitting.session
    assert session is not None
    assert session.answers == {}
    qtbot.keyClick(dock.trial.note, Qt.Key.Key_Return)
    assert rows_of(folder, "note")[0]["words"] == "36 z odd"
    hands.type("3")
    assert session.answers == {"real": 3}


def test_undo_pause_and_help(opened: Open, qtbot: Any, folder: Path) -> None:
    viewer, dock = opened()
    hands = Hands(qtbot, dock)
    to_first_trial(hands, folder)
    session = dock.sitting.session
    assert session is not None
    hands.type("6")
    hands.press(Qt.Key.Key_Z)
    assert session.answers == {}
    hands.press(Qt.Key.Key_Space)
    assert "Not answered yet" in dock.trial.said.text()
    hands.type("?")
    assert not dock.trial.keys.isHidden()
    start = dock.stage.slice
    hands.press(Qt.Key.Key_PageUp)
    hands.press(Qt.Key.Key_Down)
    assert dock.stage.slice == start + 4
    hands.press(Qt.Key.Key_Escape)
    assert not viewer.layers[0].visible
    assert dock.message.title.text() == "Paused"
    hands.type("1")
    assert session.answers == {}
    hands.press(Qt.Key.Key_Space)
    hands.until("trial")
    assert viewer.layers[0].visible


def test_a_full_disk_ends_the_sitting_and_harms_no_answer(
    opened: Open, qtbot: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, dock = opened()
    hands = Hands(qtbot, dock)
    to_first_trial(hands, folder)
    hands.type("3")

    def full(record: Record, line: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Record, "_write", full)
        hands.press(Qt.Key.Key_Escape)  # a pause is written down
    assert "Make room on the disk" in dock.error.text()
    assert dock.sitting.session is None
    assert rows_of(folder, "pause") == []
    study, digest = read_study(folder)
    reader = next(iter(study.orders))
    record = folder / "records" / f"{reader}.jsonl"
    assert verify(record, digest, reader) == []


def test_keys_right_after_a_picture_do_nothing(
    opened: Open, qtbot: Any, tmp_path: Path
) -> None:
    small_study(tmp_path / "s", P1, rules=Rules(early_ms=60_000.0))
    _, dock = opened()
    hands = Hands(qtbot, dock)
    to_first_trial(hands, tmp_path / "s")
    hands.type("2")
    session = dock.sitting.session
    assert session is not None
    assert session.answers == {}


def test_a_break_is_forced(opened: Open, qtbot: Any, tmp_path: Path) -> None:
    p1 = replace(P1, practice=0)
    rules = Rules(early_ms=0.0, break_after_min=0.02, break_min=1 / 60)
    small_study(tmp_path / "s", p1, rules=rules)
    _, dock = opened()
    hands = Hands(qtbot, dock)
    to_first_trial(hands, tmp_path / "s")
    qtbot.wait(1300)
    hands.type("2")
    hands.press(Qt.Key.Key_Space)
    session = dock.sitting.session
    assert session is not None
    assert session.status is Status.REST
    hands.press(Qt.Key.Key_Space)
    assert session.status is Status.REST
    qtbot.waitUntil(lambda: session.rest_left == 0, timeout=5_000)
    hands.press(Qt.Key.Key_Space)
    hands.until("trial")

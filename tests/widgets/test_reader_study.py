"""A reader at the window, by keys alone, and what must not be seen there."""

from __future__ import annotations

import json
import time
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QLabel, QLineEdit, QWidget

from benchmarks.review_study import GRID
from napari_brainldm.review.protocols import protocol
from napari_brainldm.review.session import Session, Status
from napari_brainldm.review.study import Rules, key_path, read_key, read_study
from napari_brainldm.widgets.reader_study import ReaderStudyDock
from tests.widgets.conftest import close_for_good, is_gone
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


def words_around(window: QWidget) -> str:
    """All that a reader could read in the window: texts, titles, tooltips, names."""
    found = [window.windowTitle()]
    for part in window.findChildren(QWidget):
        if not part.isVisibleTo(window):
            continue
        found += [part.toolTip(), part.accessibleName(), part.windowTitle()]
        if isinstance(part, QLabel | QLineEdit):
            found.append(part.text())
    return " ".join(found)


def test_nothing_tells_what_a_picture_is(
    opened: Open, qtbot: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, values, paths: neither in the viewer nor in anything that is visible."""
    viewer, dock = opened()
    hands = Hands(qtbot, dock)
    to_first_trial(hands, folder)
    session = dock.sitting.session
    assert session is not None
    secrets = [s.token for s in session.study.stimuli] + [str(folder), folder.name]
    secrets += [session.study.name, "secret", session.trial.uid]
    layer = viewer.layers[0]
    viewer.mouse_over_canvas = True
    viewer.cursor.position = (0.0, 0.0, 0.0)
    viewer.update_status_from_cursor()
    status = viewer.status
    told = [json.dumps(status, default=str), viewer.title, viewer.tooltip.text]
    told += [layer.name, str(layer.metadata), str(layer.source.path), str(layer.help)]
    told += [str(viewer.layers.selection), words_around(dock.window())]
    for word in secrets:
        assert word not in " ".join(told)
    value = layer.get_value((0, 0, 0))
    assert str(value) not in json.dumps(status)
    assert [one.name for one in viewer.layers] == ["Picture"]
    assert layer.contrast_limits == [0, 4095]
    assert not viewer.layers.selection


def test_every_picture_is_shown_alike(opened: Open, qtbot: Any, folder: Path) -> None:
    viewer, dock = opened()
    hands = Hands(qtbot, dock)
    to_first_trial(hands, folder)
    seen = set()
    for _ in range(4):
        if hands.wait_next() == "trial":
            layer = viewer.layers[0]
            camera = viewer.scene.camera
            seen.add(
                (
                    layer.name,
                    tuple(layer.contrast_limits),
                    layer.data.dtype.str,
                    layer.data.shape,
                    tuple(layer.scale),
                    camera.zoom,
                    viewer.dims.current_step,
                )
            )
            camera.zoom *= 3
            hands.press(Qt.Key.Key_Up)
            hands.type("1")
        hands.press(Qt.Key.Key_Space)
    assert len(seen) == 1


def test_the_rest_of_napari_is_hidden_and_comes_back(
    opened: Open, qtbot: Any, folder: Path
) -> None:
    viewer, dock = opened()
    window = dock.window()
    viewer.title = "Mine"
    parts = [*window.findChildren(QDockWidget), window.menuBar(), window.statusBar()]
    before = [part.isHidden() for part in parts]
    hands = Hands(qtbot, dock)
    to_first_trial(hands, folder)
    visible = [part for part in parts if not part.isHidden()]
    assert [part.widget() for part in visible] == [dock]
    assert window.windowTitle() == "Reader study"
    hands.press(Qt.Key.Key_Escape)
    hands.until("message")
    hands.press(Qt.Key.Key_Q)
    assert [part.isHidden() for part in parts] == before
    assert window.windowTitle() == "Mine"
    assert len(viewer.layers) == 0
    assert rows_of(folder, "session_end")


def test_closing_the_dock_in_the_middle_gives_napari_back(
    opened: Open, qtbot: Any, folder: Path
) -> None:
    viewer, dock = opened(show=True)
    window = dock.window()
    others = [d for d in window.findChildren(QDockWidget) if d.widget() is not dock]
    before = [part.isHidden() for part in others]
    to_first_trial(Hands(qtbot, dock), folder)
    viewer.window.remove_dock_widget(dock)
    assert [part.isHidden() for part in others] == before
    assert not window.menuBar().isHidden()
    assert len(viewer.layers) == 0
    again = Session(folder, "R01")  # the record is free, the trial comes again
    assert again.done[0] == 0
    again.close()


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


def test_other_layers_are_not_left_in_sight(
    opened: Open, qtbot: Any, folder: Path
) -> None:
    viewer, dock = opened()
    viewer.add_image(np.zeros((2, 2)), name="model 7")
    dock.start(folder, "R01")
    assert "holds 1 layers" in dock.error.text()
    assert [layer.name for layer in viewer.layers] == ["model 7"]
    Session(folder, "R01").close()


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("P2", "3"),
        ("P3", "j"),
        ("P5f", "f"),
        ("P1t", "2"),
        ("P6", "333333326"),
        ("P4", "150"),
        ("P0", "123"),
    ],
)
def test_every_protocol_can_be_answered_by_keys(
    opened: Open, qtbot: Any, tmp_path: Path, name: str, keys: str
) -> None:
    numbers = {"P2": (5, 5), "P3": (12, 12)}
    trials, block = numbers.get(name, (12, 6))
    own = protocol(name)
    if name == "P4":  # sizes need more pictures than these; the question is the point
        own = replace(protocol("P5"), questions=own.questions)
    own = replace(own, trials=trials, catches=0, repeats=0, practice=0)
    small_study(tmp_path / "s", replace(own, block=block, controls=False))
    viewer, dock = opened()
    hands = Hands(qtbot, dock)
    to_first_trial(hands, tmp_path / "s")
    panels = {"P2": (2, 2), "P3": (1, 2), "P4": (1, 2), "P1t": (3, 3)}
    rows, columns = panels.get(name, (1, 1))
    wide, high, deep = GRID.shape
    slices = 1 if name == "P1t" else deep
    assert viewer.layers[0].data.shape == (slices, rows * high, columns * wide)
    hands.type(keys)
    hands.press(Qt.Key.Key_Space)
    (row,) = rows_of(tmp_path / "s", "answer")
    expected = {
        "P2": {"which": 3},
        "P3": {"greater": 2},
        "P5f": {"better": 1},
        "P1t": {"real": 2},
        "P4": {"size": 150.0},
    }
    if name in expected:
        assert row["responses"] == expected[name]
    if name == "P6":
        assert row["responses"]["symmetry"] == 3
        assert row["responses"]["faults"] == ["noise", "cut off"]
    if name == "P0":
        assert row["responses"] == {"realism": 1, "consistency": 2, "anatomy": 3}


def test_a_timed_picture_gives_way_to_a_mask(
    opened: Open, qtbot: Any, tmp_path: Path
) -> None:
    timed = replace(protocol("P1t"), trials=10, practice=0, levels=(100.0,))
    small_study(tmp_path / "s", timed)
    viewer, dock = opened(show=True)
    hands = Hands(qtbot, dock)
    with qtbot.waitSignal(dock.stage.masked, timeout=20_000):
        to_first_trial(hands, tmp_path / "s")
    frame = dock.stage._frames[0]
    assert not np.array_equal(viewer.layers[0].data, frame)
    hands.type("4")
    hands.press(Qt.Key.Key_Space)
    (row,) = rows_of(tmp_path / "s", "answer")
    assert row["view"]["frames_shown"] >= 1


def test_the_next_picture_follows_a_key_at_once(
    opened: Open, qtbot: Any, tmp_path: Path
) -> None:
    """Key to next picture on the screen; the bound is wide, the machine may be busy."""
    p1 = replace(P1, practice=0)
    small_study(tmp_path / "s", p1)
    _, dock = opened(show=True)
    hands = Hands(qtbot, dock)
    to_first_trial(hands, tmp_path / "s")
    waits = []
    for _ in range(20):
        session = dock.sitting.session
        assert session is not None
        qtbot.waitUntil(lambda: not dock.sitting.busy, timeout=10_000)
        hands.type("2")
        start = time.perf_counter()
        with qtbot.waitSignal(dock.stage.drawn, timeout=10_000):
            hands.press(Qt.Key.Key_Space)
        waits.append(1000 * (time.perf_counter() - start))
        hands.until("trial")
    p95 = float(np.percentile(waits, 95))
    print(f"key to next picture: median {np.median(waits):.0f} ms, p95 {p95:.0f} ms")
    assert p95 < 1000


def test_the_next_picture_is_read_before_it_is_needed(
    opened: Open, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_brainldm.widgets import sitting

    read = []
    honest = sitting.read_stimulus

    def counted(folder: Path, stimulus: Any) -> Any:
        read.append(stimulus.token)
        return honest(folder, stimulus)

    monkeypatch.setattr(sitting, "read_stimulus", counted)
    small_study(tmp_path / "s", replace(P1, practice=0))
    _, dock = opened()
    hands = Hands(qtbot, dock)
    to_first_trial(hands, tmp_path / "s")
    for _ in range(5):
        qtbot.waitUntil(lambda: not dock.sitting.busy, timeout=10_000)
        session = dock.sitting.session
        assert session is not None
        (coming,) = session.coming()
        assert coming in read
        before = len(read)
        hands.type("2")
        hands.press(Qt.Key.Key_Space)
        assert len(read) == before  # nothing was waited for
        hands.until("trial")
        assert session.showing.stimuli == (coming,)


def test_nothing_of_a_closed_dock_stays(
    make_napari_viewer_proxy: Any, qtbot: Any, folder: Path
) -> None:
    viewer = make_napari_viewer_proxy()
    dock = ReaderStudyDock(viewer)
    inside = viewer.window.add_dock_widget(dock, name="Reader study")
    hands = Hands(qtbot, dock)
    to_first_trial(hands, folder)
    gone = weakref.ref(dock)
    close_for_good(viewer, inside, dock)
    del dock, inside, hands
    assert is_gone(gone)
    assert len(viewer.layers) == 0
    Session(folder, "R01").close()


def test_a_fault_is_marked_where_it_was_clicked(
    opened: Open, qtbot: Any, tmp_path: Path
) -> None:
    own = replace(protocol("P6"), trials=12, practice=0, block=6)
    small_study(tmp_path / "s", own)
    viewer, dock = opened()
    to_first_trial(Hands(qtbot, dock), tmp_path / "s")
    voxel = (3, 5, 7)
    place = [n * edge for n, edge in zip(voxel, GRID.voxel_size, strict=True)][::-1]
    dock.stage._on_canvas_pressed(viewer, SimpleNamespace(button=1, position=place))
    session = dock.sitting.session
    assert session is not None
    assert session.answers == {"fault": list(voxel)}
    outside = SimpleNamespace(button=1, position=(-500.0, 0.0, 0.0))
    dock.stage._on_canvas_pressed(viewer, outside)
    assert session.answers == {"fault": list(voxel)}


def test_a_picture_of_another_dock_ends_the_sitting(
    opened: Open, qtbot: Any, folder: Path
) -> None:
    viewer, dock = opened()
    to_first_trial(Hands(qtbot, dock), folder)
    viewer.add_image(np.zeros((2, 2, 2)), name="Synthetic brain")
    assert dock.sitting.session is None
    assert "Another dock has put a picture" in dock.error.text()
    assert [layer.name for layer in viewer.layers] == ["Synthetic brain"]


def test_a_window_closed_in_the_middle_is_remembered_whole(
    opened: Open, qtbot: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """napari keeps the state of its window when it closes; ours must not be in it."""
    viewer, dock = opened()
    window: Any = dock.window()
    kept: list[bool] = []

    def keep(self: Any) -> None:
        kept.append(self.menuBar().isHidden())

    to_first_trial(Hands(qtbot, dock), folder)
    assert window.menuBar().isHidden()
    monkeypatch.setattr(type(window), "_save_current_window_settings", keep)
    viewer.close()
    assert kept == [False]
    assert rows_of(folder, "session_end")

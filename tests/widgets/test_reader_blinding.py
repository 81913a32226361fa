"""What must not be seen while a reader works, and that all comes back after."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QLabel, QLineEdit, QWidget

from napari_brainldm.review.session import Session
from napari_brainldm.widgets import letters
from napari_brainldm.widgets.reader_study import ReaderStudyDock
from tests.widgets.conftest import close_for_good, is_gone
from tests.widgets.reading import (
    Hands,
    Open,
    folder,
    opened,
    rows_of,
    to_first_trial,
)

if TYPE_CHECKING:
    import pytest

__all__ = ["folder", "opened"]  # fixtures


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


def test_letters_say_where_the_right_is_whatever_the_preferences(
    opened: Open, qtbot: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    radiological = SimpleNamespace(radiological=True)
    monkeypatch.setattr(letters, "preferences", lambda: radiological)
    viewer, dock = opened()
    to_first_trial(Hands(qtbot, dock), folder)
    overlays = viewer.canvas.overlays
    written = {edge: overlays[f"brainldm_{edge}"].text for edge in letters.EDGES}
    assert written == dict(zip(letters.EDGES, "LRPA", strict=True))
    dock.leave()
    assert tuple(map(str, viewer.scene.camera.orientation)) == letters.RADIOLOGICAL


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


def test_other_layers_are_not_left_in_sight(
    opened: Open, qtbot: Any, folder: Path
) -> None:
    viewer, dock = opened()
    viewer.add_image(np.zeros((2, 2)), name="model 7")
    dock.start(folder, "R01")
    assert "holds 1 layers" in dock.error.text()
    assert [layer.name for layer in viewer.layers] == ["model 7"]
    Session(folder, "R01").close()


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

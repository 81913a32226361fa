"""Phantoms and docks for the tests of the window."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_brainldm.engine.checkpoint import save_checkpoint
from napari_brainldm.engine.volume import Volume
from tests.tiny import tiny_segmenter

pytest.importorskip("napari")
QtCore = pytest.importorskip("qtpy.QtCore")
QSettings, QEvent = QtCore.QSettings, QtCore.QEvent
QApplication = pytest.importorskip("qtpy.QtWidgets").QApplication


@pytest.fixture(autouse=True, scope="session")
def modules_are_no_garbage() -> None:
    """Spare every later collection the million objects that imports bring."""
    import matplotlib.pyplot  # noqa: F401
    import monai.networks.nets  # noqa: F401
    import napari._qt.qt_main_window  # noqa: F401
    import nilearn.datasets  # noqa: F401
    import torch  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path) -> None:
    """Settings of this test alone, never the user's."""
    kind, scope = QSettings.Format.IniFormat, QSettings.Scope.UserScope
    QSettings.setPath(kind, scope, str(tmp_path / "settings"))


@pytest.fixture
def phantom() -> Volume:
    """20 x 24 x 16 voxels of 2 mm, RAS: a dim body, a bright lump right-front-top."""
    data = np.zeros((20, 24, 16), np.float32)
    data[2:18, 2:22, 2:14] = 0.3
    data[14:17, 18:21, 10:13] = 1.0
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-19.0, -41.0, -10.0)
    return Volume(data, affine)


@pytest.fixture(scope="session")
def segmenter_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segmenter of random weights on a 4 mm grid."""
    path = tmp_path_factory.mktemp("segmenter") / "segmenter.safetensors"
    save_checkpoint(tiny_segmenter(), path)
    return path


@pytest.fixture
def docks(qtbot: Any) -> Iterator[list[Any]]:
    """Docks that a test opens; their work is ended after it."""
    opened: list[Any] = []
    yield opened
    for dock in opened:
        dock.desk.close()
    opened.clear()
    gc.collect()


@pytest.fixture
def make_dock(
    make_napari_viewer_proxy: Any,
    qtbot: Any,
    tiny_checkpoint: Path,
    segmenter_file: Path,
    docks: list[Any],
) -> Callable[..., Any]:
    """Make an ExploreDock in a new viewer, its first picture already shown."""
    from napari_brainldm.widgets.explore import ExploreDock

    def make(**options: Any) -> Any:
        viewer = make_napari_viewer_proxy(**options)
        dock = ExploreDock(viewer, tiny_checkpoint, segmenter_file)
        viewer.window.add_dock_widget(dock, name="Explore")
        docks.append(dock)
        settle(qtbot, dock)
        assert dock.desk.layer is not None
        return dock

    return make


def settle(qtbot: Any, dock: Any) -> None:
    """Wait until the dock has nothing more to do."""
    qtbot.waitUntil(
        lambda: not dock.settle.isActive() and not dock.desk.busy, timeout=60_000
    )


def assert_settled(qtbot: Any, dock: Any) -> None:
    """Wait as `settle` does; nothing may have gone wrong."""
    settle(qtbot, dock)
    assert dock.error.isHidden(), dock.error.words.text()


def close_for_good(viewer: Any, inside: Any, dock: Any) -> None:
    """Take `dock` out of the window; the caller drops its own references after."""
    viewer.window.remove_dock_widget(inside)
    dock.deleteLater()


def is_gone(left: Any) -> bool:
    """Whether nobody holds what the weak reference `left` is of."""
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()
    return left() is None

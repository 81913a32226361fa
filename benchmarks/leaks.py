"""Ask whether the Explore dock leaves anything behind when it is closed.

    python -m benchmarks.leaks [--quick] [--json] [--seed S] [--checkpoint FILE]

Opens and closes the dock in one viewer, 50 times, its first picture made and measured
each time (under Xvfb where there is no display), then whole viewers with the dock in
them. Memory is that of the process after the first five rounds, in which caches fill,
and at the end, each time without what the allocator holds free; `viewer_` figures are
of viewers, `bare_` ones of viewers without any dock, which is what napari itself keeps.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.report import AT_MOST, Limit, finish, options
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.resources import bundled_checkpoint

LIMITS = {
    "widgets_left": Limit(AT_MOST, 0),
    "objects_left": Limit(AT_MOST, 0),
    "grown_mb": Limit(AT_MOST, 50.0),
    "viewer_objects_left": Limit(AT_MOST, 0),
}
WARM = 5
"""Rounds before memory is compared."""


@dataclass(frozen=True)
class Size:
    """How many rounds of docks, and of viewers."""

    docks: int
    viewers: int


FULL, QUICK = Size(50, 10), Size(WARM + 2, 2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 if every figure is within its limit."""
    parser = options("leaks", __doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled one")
    chosen = parser.parse_args(arguments)
    size = QUICK if chosen.quick else FULL
    path = chosen.checkpoint or bundled_checkpoint()
    return finish(chosen, LIMITS, lambda: figures(path, size))


def figures(path: Path, size: Size) -> dict[str, Any]:
    """What is left after docks, and after viewers."""
    import napari

    viewer = napari.Viewer(show=False)
    found = _rounds(lambda: _dock(viewer, path), size.docks)
    viewer.close()
    for name, make in (("viewer", lambda: _viewer(path)), ("bare", _bare)):
        if size.viewers:
            left = _rounds(make, size.viewers)
            found |= {f"{name}_{key}": value for key, value in left.items()}
    return found


def _rounds(make: Callable[[], None], count: int) -> dict[str, Any]:
    for _ in range(min(WARM, count - 1)):
        make()
    before = _state()
    for _ in range(count - min(WARM, count - 1)):
        make()
    after = _state()
    keys = ("widgets_left", "objects_left", "grown_mb")
    rounds = {"rounds": count}
    return rounds | {k: b - a for k, a, b in zip(keys, before, after, strict=True)}


def _state() -> tuple[int, int, float]:
    """Widgets that Qt has, docks and renderers that Python has, MB of the process."""
    from qtpy.QtWidgets import QApplication

    from napari_brainldm.widgets.explore import ExploreDock

    for _ in range(3):
        QApplication.processEvents()
        gc.collect()
    # types alone: to ask an object for its class may wake lazy ones
    ours = sum(type(o) in (ExploreDock, Renderer) for o in gc.get_objects())
    _trim()
    memory = psutil.Process().memory_info().rss / 2**20
    return len(QApplication.allWidgets()), ours, memory


def _trim() -> None:
    """Give the system what the allocator holds free, where that can be asked for.

    Without it the figure swings by 280 MB with the allocator's habits, not ours.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _dock(viewer: Any, path: Path) -> None:
    from napari_brainldm.widgets.explore import ExploreDock

    dock = ExploreDock(viewer, path)
    inside = viewer.window.add_dock_widget(dock, name="Explore")
    _wait(dock)
    viewer.window.remove_dock_widget(inside)
    dock.deleteLater()
    viewer.layers.clear()
    _let_go()


def _viewer(path: Path) -> None:
    import napari

    from napari_brainldm.widgets.explore import ExploreDock

    viewer = napari.Viewer(show=False)
    dock = ExploreDock(viewer, path)
    viewer.window.add_dock_widget(dock, name="Explore")
    _wait(dock)
    viewer.close()
    _let_go()


def _bare() -> None:
    import napari

    napari.Viewer(show=False).close()
    _let_go()


def _wait(dock: Any) -> None:
    """Until the first picture is made and measured."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + 600
    while dock.desk.busy or dock.settle.isActive() or dock.desk.findings is None:
        if time.monotonic() > end:
            raise SystemExit("The picture did not come; see the log above.")
        QApplication.processEvents()


def _let_go() -> None:
    """Let Qt delete what it put off, and Python what is in circles."""
    from qtpy.QtCore import QEvent
    from qtpy.QtWidgets import QApplication

    QApplication.processEvents()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()


if __name__ == "__main__":
    sys.exit(main())

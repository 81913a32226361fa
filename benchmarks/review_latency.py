"""From Space to the next picture on the screen, in the real dock, at full size."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_brainldm.engine.volume import Grid, mni_grid
from napari_brainldm.review.protocols import protocol
from napari_brainldm.review.session import Status
from napari_brainldm.review.stimuli import write_stimulus
from napari_brainldm.review.study import Item, Key, Rules, Study, write_study
from napari_brainldm.review.trials import made

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_brainldm.review.protocols import Protocol
    from napari_brainldm.widgets.reader_study import ReaderStudyDock

SHAPE = (160, 224, 160)
"""Voxels of 1 mm: the largest pictures that a bundled card can have."""

ASKED = (replace(protocol("P1"), cap_s=None), protocol("P5"))
"""One picture, and two side by side."""

LOOKING_S = 1.0
"""A reader looks at least so long before answering; the next picture is read then."""


def latency(folder: Path, trials: int, seed: int) -> dict[str, Any]:
    """Milliseconds from key to picture, median and 95th percentile, by protocol.

    `hurried` is the share of trials in which the next picture was not there yet after
    `LOOKING_S`; they count like the others.
    """
    found: dict[str, Any] = {}
    for own in ASKED:
        place = folder / own.id
        _study(place, own, trials, seed)
        waits, hurried = _waits(place)
        shutil.rmtree(place)  # half a gigabyte
        name = f"next_picture_{own.id}"
        found |= {
            f"{name}_median_ms": float(np.median(waits)),
            f"{name}_p95_ms": float(np.percentile(waits, 95)),
            f"{name}_hurried": hurried / len(waits),
        }
    return found


def _study(folder: Path, own: Protocol, trials: int, seed: int) -> None:
    """Simulated noise of the largest size: enough pictures for so many trials."""
    rng = np.random.default_rng(seed)
    (folder / "stimuli").mkdir(parents=True)
    items, stimuli = [], []
    for number in range(trials):
        arm = ("real", "synthetic")[number % 2]
        data = rng.integers(0, 4096, SHAPE, np.uint16)
        stimuli.append(write_stimulus(folder / "stimuli", data))
        items.append(Item(stimuli[-1].token, arm, arm, f"{arm} {number}"))
    own = replace(own, trials=trials, catches=0, repeats=0, practice=0, block=trials)
    orders = made((own,), items, ("R01",), seed)
    rules = Rules(early_ms=0.0, break_after_min=600.0)
    grid = Grid.of(SHAPE, mni_grid(1.0).matrix)
    study = Study("Large", seed, grid, (own,), tuple(stimuli), {}, "", "", "", rules)
    key = Key("salt", tuple(items), orders.truths)
    write_study(folder, study, orders.orders, orders.pools, key)


def _waits(folder: Path) -> tuple[list[float], int]:
    """Milliseconds of each step from a trial to the next, and how many were hurried."""
    import napari
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    from napari_brainldm.widgets.reader_study import ReaderStudyDock

    viewer = napari.Viewer(show=True, show_welcome_screen=False)
    viewer.window.resize(1400, 900)
    dock = ReaderStudyDock(viewer)
    viewer.window.add_dock_widget(dock, name="Reader study")
    dock.start(folder, "R01")
    QTest.keyClick(dock, Qt.Key.Key_Space)
    waits: list[float] = []
    drawn: list[float] = []
    dock.stage.drawn.connect(lambda: drawn.append(time.perf_counter()))
    hurried = 0
    _until(lambda: _is_shown(dock))
    while dock.sitting.session is not None:
        end = time.monotonic() + LOOKING_S
        _until(lambda end=end: time.monotonic() > end)
        hurried += dock.sitting.busy
        QTest.keyClick(dock, Qt.Key.Key_2)
        drawn.clear()
        start = time.perf_counter()
        QTest.keyClick(dock, Qt.Key.Key_Space)
        if dock.sitting.session.status is Status.DONE:
            break
        _until(lambda: bool(drawn))
        waits.append(1000 * (drawn[0] - start))
        _until(lambda: _is_shown(dock))
    dock.leave()
    viewer.close()
    return waits, hurried


def _is_shown(dock: ReaderStudyDock) -> bool:
    session = dock.sitting.session
    return session is not None and session.status is Status.SHOWN


def _until(done: Callable[[], bool], seconds: float = 60.0) -> None:
    """Run the event loop until `done`."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise SystemExit("The next picture did not come; see the log above.")
        QApplication.processEvents()
        time.sleep(0.001)

"""A small study of simulated noise, and the hands that read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt

from benchmarks.review_study import GRID
from napari_brainldm.review.protocols import Protocol, protocol
from napari_brainldm.review.record import read_rows
from napari_brainldm.review.session import Status
from napari_brainldm.review.stimuli import write_stimulus
from napari_brainldm.review.study import (
    Item,
    Key,
    Rules,
    Study,
    read_study,
    write_study,
)
from napari_brainldm.review.trials import made
from napari_brainldm.widgets.reader_study import ReaderStudyDock

PATIENT = Rules(early_ms=0.0)
"""Keys of a test come at once."""

P1 = replace(
    protocol("P1"), trials=24, catches=2, repeats=1, practice=2, block=10, cap_s=None
)


def small_study(
    folder: Path, *protocols: Protocol, rules: Rules = PATIENT, shape: Any = None
) -> Study:
    """A study of simulated blobs: 20 real, 20 synthetic, 4 catches."""
    rng = np.random.default_rng(0)
    (folder / "stimuli").mkdir(parents=True)
    items, stimuli = [], []
    arms = [("real", n) for n in range(20)] + [("synthetic", n) for n in range(20)]
    for place, (arm, n) in enumerate([*arms, *[("catch", n) for n in range(4)]]):
        data = rng.integers(0, 4096, shape or GRID.shape).astype(np.uint16)
        stimulus = write_stimulus(folder / "stimuli", data)
        facts = {"ventricles": 10.0 * 1.2 ** (place % 12), "age": 50.0 + n}
        source = f"secret-{arm}-{n}"
        kept = n >= 16 and arm != "catch"
        items.append(Item(stimulus.token, arm, arm, source, facts, practice=kept))
        stimuli.append(stimulus)
    found = made(protocols, items, ("R01",), 3)
    study = Study("Secret", 3, GRID, protocols, tuple(stimuli), {}, "", "", "t", rules)
    key = Key("salt", tuple(items), found.truths)
    write_study(folder, study, found.orders, found.pools, key)
    return read_study(folder)[0]


Open = Callable[..., tuple[Any, ReaderStudyDock]]


@pytest.fixture
def opened(make_napari_viewer_proxy: Any, qtbot: Any) -> Iterator[Open]:
    """Opens docks in new viewers; left after the test."""
    docks: list[ReaderStudyDock] = []

    def open_(**options: Any) -> tuple[Any, ReaderStudyDock]:
        viewer = make_napari_viewer_proxy(**options)
        dock = ReaderStudyDock(viewer)
        viewer.window.add_dock_widget(dock, name="Reader study")
        docks.append(dock)
        return viewer, dock

    yield open_
    for dock in docks:
        parts = (dock.keys, dock.sitting, dock.stage, dock.curtain)
        for part in (*parts, dock.setup.builder):  # the dock itself may be gone
            part.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of P1 without its key: nobody who reads has it."""
    small_study(tmp_path / "clinic-7", P1)
    return tmp_path / "clinic-7"


class Hands:
    """Presses keys as a reader does: on whatever has the focus."""

    def __init__(self, qtbot: Any, dock: ReaderStudyDock) -> None:
        self.qtbot, self.dock = qtbot, dock

    def press(self, key: Any) -> None:
        """One key, on the dock's window."""
        self.qtbot.keyClick(self.dock, key)

    def type(self, text: str) -> None:
        """Letters and digits."""
        self.qtbot.keyClicks(self.dock, text)

    def until(self, what: str) -> None:
        """Wait for a page: "message" or "trial" with the pictures up."""
        place = {"message": 1, "trial": 2}[what]
        self.qtbot.waitUntil(lambda: self.arrived(place), timeout=20_000)

    def arrived(self, place: int) -> bool:
        sitting = self.dock.sitting
        if place == 1:
            return sitting.told_last is not None
        session = sitting.session
        return session is not None and session.status is Status.SHOWN

    def wait_next(self) -> str:
        """Until there is something to do: "message" or "trial"."""
        self.qtbot.waitUntil(lambda: self.arrived(1) or self.arrived(2), timeout=20_000)
        return "trial" if self.arrived(2) else "message"


def rows_of(folder: Path, event: str) -> list[Any]:
    path = folder / "records" / "R01.jsonl"
    return [row for row in read_rows(path) if row["event"] == event]


def work_through(hands: Hands, answer: str, most: int = 500) -> list[str]:
    """Answer everything with `answer`; the titles of the messages on the way."""
    dock, titles = hands.dock, []
    for _ in range(most):
        if dock.sitting.session is None:
            break
        if hands.wait_next() == "message":
            titles.append(dock.message.title.text())
            if titles[-1] == "Done":
                hands.press(Qt.Key.Key_Space)
                break
            hands.press(Qt.Key.Key_Space)
        else:
            seen = len(dock.sitting.session.answers)
            hands.type(answer)
            assert len(dock.sitting.session.answers) > seen
            done = dock.sitting.session.done
            hands.press(Qt.Key.Key_Space)
            assert dock.sitting.session.done != done
    return titles


def to_first_trial(hands: Hands, folder: Path) -> None:
    """Start, and go past the instruction."""
    hands.dock.start(folder, "R01")
    assert hands.dock.error.isHidden(), hands.dock.error.text()
    hands.until("message")
    hands.press(Qt.Key.Key_Space)
    hands.until("trial")

"""The sample study: copied once, read by one after another, and it makes a report."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.review_study import GRID, Hurried, at_work, bare_items, bare_study
from napari_brainldm.engine.request import EngineError
from napari_brainldm.review import sample
from napari_brainldm.review.check import checked
from napari_brainldm.review.plan import Chosen
from napari_brainldm.review.report import close, write_report
from napari_brainldm.review.sample import NAME, archive, sample_study
from napari_brainldm.review.session import Clock, Session
from napari_brainldm.review.stimuli import WRITTEN, write_stimulus
from napari_brainldm.review.study import key_path, read_key, read_study
from tools.sample_report import reader as simulated


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive as the bundled one, with two readers and ten trials each."""
    folder = tmp_path / "owner" / NAME
    (folder / "stimuli").mkdir(parents=True)
    write_stimulus(folder / "stimuli", np.zeros(GRID.shape, np.uint16))
    short = Chosen("P1", trials=10, catches=0, repeats=0, practice=0).protocol()
    bare_study(folder, (short,), bare_items(10), readers=("R01", "R02"))
    path = tmp_path / "sample_study.zip"
    archive(folder, path)
    monkeypatch.setattr(sample, "bundled_sample_study", lambda: path)
    return path


def read(folder: Path, reader: str, trials: int) -> None:
    session = Session(folder, reader)
    for _ in zip(range(trials), at_work(session, lambda s, q: 3), strict=False):
        pass
    session.close()


def test_readers_take_turns_in_one_copy(packed, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_brainldm.review.session.Session.answer", _at_once)
    home = tmp_path / "new" / "documents"
    folder, reader = sample_study(home)
    assert (folder, reader) == (home / NAME, "R01")
    assert key_path(folder).is_file()
    assert sorted(p.name for p in home.iterdir()) == [NAME, f"{NAME}.key.json"]
    times = {p.stat().st_mtime for p in (folder / "stimuli").iterdir()}
    assert times == {WRITTEN}
    read(folder, "R01", 4)
    assert sample_study(home) == (folder, "R01")  # goes on where it was left
    read(folder, "R01", 10)
    assert sample_study(home) == (folder, "R02")
    read(folder, "R02", 10)
    with pytest.raises(EngineError, match="takes no more answers"):
        sample_study(home)


def _at_once(self: Session, question: str, value: object) -> bool:
    """An answer without waiting for the 150 ms in which keys do nothing."""
    self._answers[question] = value  # type: ignore[assignment]
    return True


def test_a_closed_sample_is_told(packed, tmp_path):
    folder, _ = sample_study(tmp_path / "documents")
    close(folder)
    with pytest.raises(EngineError, match="move the folder and its key"):
        sample_study(tmp_path / "documents")


def test_what_cannot_be_copied_is_told_and_leaves_nothing(packed, tmp_path):
    (tmp_path / "documents").write_text("a file where a folder is needed")
    with pytest.raises(EngineError, match="cannot be copied"):
        sample_study(tmp_path / "documents")


def test_the_same_study_gives_the_same_archive(packed, tmp_path):
    archive(tmp_path / "owner" / NAME, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


BUNDLED = Path(__file__).parents[2] / "resources" / "sample_study.zip"


def test_the_bundled_one_is_whole_short_and_calls_simulated_what_is(tmp_path):
    folder, reader = sample_study(tmp_path)
    study = read_study(folder)[0]
    told, faults = checked(folder)
    assert faults == []
    assert "R06: 0 of 44 trials" in " ".join(told)
    assert "simulated" in study.welcome
    key = read_key(key_path(folder), study)
    labels = {item.arm: item.label for item in key.items}
    assert labels["real"] == "simulated scans"
    skilled = simulated(
        {i.token: i for i in key.items}, 3.0, 0.0, np.random.default_rng(0)
    )
    session = Session(folder, reader, Clock(time.time, Hurried()))
    assert sum(1 for _ in at_work(session, skilled)) == 44
    session.close()
    close(folder)
    page = write_report(folder, key_path(folder), tmp_path / "report").read_text()
    assert "Psychometric curves" in page
    assert "Not enough for a claim" in page

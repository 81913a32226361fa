"""The record survives kills and shows every change."""

from __future__ import annotations

import json
import time

import pytest

from benchmarks.review_study import (
    Hurried,
    answered,
    at_work,
    bare_items,
    bare_study,
    killed,
    tampered,
)
from napari_brainldm.engine.request import EngineError
from napari_brainldm.review.check import checked
from napari_brainldm.review.record import Record, head_path, read_rows, verify
from napari_brainldm.review.session import Clock, Session
from napari_brainldm.review.study import read_study


def worked(folder, trials=12):
    """A study in which one reader has answered some trials."""
    bare_study(folder, items=bare_items(80))
    session = Session(folder, "R01", Clock(time.time, Hurried()))
    for _ in zip(range(trials), at_work(session, lambda s, q: 3), strict=False):
        pass
    session.close()
    return folder / "records" / "R01.jsonl", read_study(folder)[1]


def test_a_killed_reader_loses_no_confirmed_trial_and_answers_none_twice(tmp_path):
    bare_study(tmp_path / "s", items=bare_items(80))
    found = killed(tmp_path / "s", 5, seed=0)
    assert found["answers"] > 0
    assert found["lives_after_the_end"] == 0
    assert (found["lost"], found["duplicated"], found["faults"]) == (0, 0, 0)


def test_every_changed_row_is_found(tmp_path):
    path, digest = worked(tmp_path / "s")
    assert verify(path, digest, "R01") == []
    tries, missed = tampered(path, digest)
    assert tries > 90
    assert missed == []
    assert verify(path, digest, "R01") == []


def test_a_row_changed_together_with_its_hash_breaks_the_chain(tmp_path):
    from napari_brainldm.review.record import hash_of

    path, digest = worked(tmp_path / "s")
    lines = path.read_text().splitlines()
    row = json.loads(lines[4])
    row["t_utc"] = "2000-01-01T00:00:00+00:00"
    row["row_hash"] = hash_of(row)
    lines[4] = json.dumps(row, sort_keys=True)
    path.write_text("\n".join(lines) + "\n")
    assert [fault.line for fault in verify(path, digest, "R01")] == [6]


def test_rows_cut_off_at_the_end_and_a_lost_head_are_found(tmp_path):
    path, digest = worked(tmp_path / "s")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-3]))
    assert "3 rows are missing" in verify(path, digest, "R01")[0].words
    path.write_bytes(b"".join(lines))
    head_path(path).unlink()
    assert "head is missing" in verify(path, digest, "R01")[0].words


def test_a_record_of_another_reader_or_study_is_found(tmp_path):
    path, digest = worked(tmp_path / "s")
    assert verify(path, digest, "R02")
    assert verify(path, "0" * 64, "R01")


def test_a_torn_last_line_is_dropped_and_noted(tmp_path):
    path, digest = worked(tmp_path / "s")
    before = list(read_rows(path))
    with path.open("ab") as stream:
        stream.write(b'{"event": "answer", "trial')
    assert verify(path, digest, "R01") == []
    record = Record(path, digest, "R01")
    record.close()
    rows = list(read_rows(path))
    assert rows[:-1] == before
    assert (rows[-1]["event"], rows[-1]["bytes_dropped"]) == ("torn", 26)
    assert verify(path, digest, "R01") == []


def test_a_full_disk_spoils_nothing(tmp_path, full_disk):
    """Not what was written before, nor what is written when there is room again."""
    path, digest = worked(tmp_path / "s")
    before = path.read_bytes()
    record = Record(path, digest, "R01")
    with full_disk(len(before) + 20), pytest.raises(OSError, match="too large"):
        record.append({"event": "pause"})
    assert path.read_bytes() == before
    record.append({"event": "note", "words": "there is room again"})
    record.close()
    assert verify(path, digest, "R01") == []
    assert list(read_rows(path))[-1]["words"] == "there is room again"


def test_a_row_may_be_ahead_of_its_head(tmp_path):
    path, digest = worked(tmp_path / "s")
    head = head_path(path).read_bytes()
    record = Record(path, digest, "R01")
    record.append({"event": "note", "words": "hello"})
    record.close()
    head_path(path).write_bytes(head)  # as a kill between the two leaves it
    assert verify(path, digest, "R01") == []


def test_a_record_is_written_by_one_window(tmp_path):
    pytest.importorskip("fcntl")
    path, digest = worked(tmp_path / "s")
    record = Record(path, digest, "R01")
    with pytest.raises(EngineError, match="open in another window"):
        Record(path, digest, "R01")
    record.close()


def test_nothing_is_added_to_a_damaged_record(tmp_path):
    path, digest = worked(tmp_path / "s")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], *lines[4:]]))
    with pytest.raises(EngineError, match="line 4: rows before this one"):
        Record(path, digest, "R01")


def test_every_row_is_on_the_disk_before_the_program_goes_on(tmp_path, monkeypatch):
    from napari_brainldm.review import record as module

    path, digest = worked(tmp_path / "s")
    synced = []
    monkeypatch.setattr(
        module.os, "fsync", lambda handle: synced.append(path.read_bytes())
    )
    record = Record(path, digest, "R01")
    row = record.append({"event": "note", "words": "hello"})
    record.close()
    assert len(synced) == 1
    assert row["row_hash"].encode() in synced[0]


def test_check_tells_progress_and_answers_to_other_trials(tmp_path):
    path, digest = worked(tmp_path / "s")
    told, faults = checked(tmp_path / "s")
    assert any("R01: 12 of" in line for line in told)
    # the pictures of a bare study are names only
    assert {fault.partition(":")[2].split(" (")[0] for fault in faults} == {
        " A picture of the study cannot be read"
    }
    row = next(r for r in read_rows(path) if r["event"] == "answer")
    record = Record(path, digest, "R01")
    record.append({k: v for k, v in row.items() if k != "row_hash"})
    record.append({**row, "trial_uid": "0" * 32})
    record.close()
    _, faults = checked(tmp_path / "s")
    assert any("answers a trial a second time" in fault for fault in faults)
    assert any("answers no trial of this reader" in fault for fault in faults)
    assert len(answered(path)) == 14

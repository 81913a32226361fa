"""A reader at work, without a window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.review_study import bare_items, bare_study
from napari_brainldm.engine.request import EngineError
from napari_brainldm.review.protocols import protocol
from napari_brainldm.review.record import read_rows
from napari_brainldm.review.session import Clock, Session, Status, View, check_answer
from napari_brainldm.review.study import Rules, key_path, read_study


class Time:
    """Both clocks; goes on when told."""

    def __init__(self):
        self.now = 1.7e9

    def __call__(self):
        return self.now

    def clock(self):
        return Clock(self, self)


P1 = replace(protocol("P1"), trials=40, catches=2, repeats=4)


@pytest.fixture
def folder(tmp_path):
    bare_study(tmp_path / "s", (P1,), bare_items(30))
    return tmp_path / "s"


@pytest.fixture
def sit():
    """Sits a reader down; at the end every record is let go."""
    sessions = []

    def down(folder, time):
        sessions.append(Session(folder, "R01", time.clock()))
        return sessions[-1]

    yield down
    for session in sessions:
        session._record.close()


def rows_of(folder, event):
    path = folder / "records" / "R01.jsonl"
    return [row for row in read_rows(path) if row["event"] == event]


def answer(session, time, value=2, seconds=1.0):
    session.show()
    time.now += seconds
    for question in session.questions:
        assert session.answer(question.name, value)
    session.confirm(View(zoom=2.0, slices_visited=(3, 4)))


def test_a_trial_is_shown_answered_confirmed_and_recorded(folder, sit):
    time = Time()
    session = sit(folder, time)
    trial = session.trial
    assert session.status is Status.READY
    assert session.coming() == session._progress.order[1].stimuli
    session.show()
    assert session.status is Status.SHOWN
    time.now += 0.7
    session.answer("real", 5)
    session.confirm(View(zoom=2.0, pixel_sha256="ab"))
    (row,) = rows_of(folder, "answer")
    assert row["trial_uid"] == trial.uid
    assert row["responses"] == {"real": 5}
    assert row["rt_ms"] == pytest.approx(700)
    assert row["stimuli"] == list(trial.stimuli)
    assert (row["timeout"], row["reshown"], row["phase"]) == (False, 0, "main")
    assert (row["view"]["zoom"], row["view"]["pixel_sha256"]) == (2.0, "ab")
    assert row["study_hash"] == read_study(folder)[1]
    assert session.trial.uid != trial.uid
    assert session.done[0] == 1


def test_nothing_in_the_program_knows_the_truth(folder, sit):
    key_path(folder).unlink()
    session = sit(folder, Time())
    known = str(vars(session)) + str(vars(session._progress))
    handed = known + "".join(path.read_text() for path in folder.rglob("*.json"))
    for word in ("sub-0", "seed ", "catch ", "repeat_of", "salt", "'arm'", '"arm"'):
        assert word not in handed


def test_keys_that_come_too_early_do_nothing(folder, sit):
    time = Time()
    session = sit(folder, time)
    session.show()
    time.now += 0.1
    assert not session.answer("real", 1)
    assert session.answers == {}
    time.now += 0.1
    assert session.answer("real", 1)


def test_an_answer_is_changed_or_taken_back_before_it_is_confirmed_alone(folder, sit):
    time = Time()
    session = sit(folder, time)
    session.show()
    time.now += 1
    session.answer("real", 1)
    session.undo()
    with pytest.raises(EngineError, match="has no answer yet"):
        session.confirm()
    session.answer("real", 6)
    session.answer("real", 4)
    session.confirm()
    (row,) = rows_of(folder, "answer")
    assert (row["responses"], row["changed_from"]) == ({"real": 4}, {"real": 1})
    with pytest.raises(EngineError, match="not shown"):
        session.undo()


def test_a_timeout_is_missing_not_wrong(folder, sit):
    time = Time()
    session = sit(folder, time)
    assert session.protocol.cap_s == 60
    session.show()
    time.now += 60
    session.answer("real", 1)
    session.time_out()
    (row,) = rows_of(folder, "answer")
    assert (row["timeout"], row["responses"], row["rt_ms"]) == (True, {}, None)
    assert session.done[0] == 1


def test_a_break_is_forced_and_lasts(tmp_path, sit):
    rules = Rules(break_after_min=5.0, break_min=1.0)
    bare_study(tmp_path / "s", (P1,), bare_items(30), rules=rules)
    time = Time()
    session = sit(tmp_path / "s", time)
    answer(session, time, seconds=299)
    assert session.status is Status.READY
    answer(session, time, seconds=2)
    assert session.status is Status.REST
    with pytest.raises(EngineError, match="not ready"):
        session.show()
    time.now += 59
    assert session.rest_left == pytest.approx(1)
    assert not session.go_on()
    time.now += 1
    assert session.go_on()
    assert session.status is Status.READY


def test_resume_goes_on_and_shows_the_interrupted_trial_again(folder, sit):
    time = Time()
    session = sit(folder, time)
    answer(session, time)
    shown = session.trial.uid
    session.show()
    session._record.close()  # killed
    time.now += 3600
    again = sit(folder, time)
    assert again.trial.uid == shown
    answer(again, time)
    first, second = rows_of(folder, "answer")
    assert (first["reshown"], second["reshown"]) == (0, 1)
    assert first["session"] != second["session"]
    assert rows_of(folder, "void") == []


def test_after_a_long_gap_the_block_is_begun_anew(folder, sit):
    time = Time()
    session = sit(folder, time)
    first = session.trial.uid
    for _ in range(3):
        answer(session, time)
    session.close()
    time.now += 5 * 3600
    again = sit(folder, time)
    (void,) = rows_of(folder, "void")
    assert (void["protocol"], void["phase"], void["block"]) == ("P1", "main", 0)
    assert again.trial.uid == first
    assert again.done[0] == 0
    answer(again, time)
    assert rows_of(folder, "answer")[-1]["reshown"] == 1


def test_a_long_gap_between_blocks_costs_nothing(folder, sit):
    time = Time()
    session = sit(folder, time)
    while session.trial.block == 0:
        answer(session, time)
    done = session.done
    session.close()
    time.now += 50 * 3600
    assert sit(folder, time).done == done
    assert rows_of(folder, "void") == []


def test_a_pause_takes_the_pictures_off_and_shows_them_again(folder, sit):
    time = Time()
    session = sit(folder, time)
    session.show()
    session.pause()
    assert session.status is Status.READY
    session.note("the phone rang")
    answer(session, time)
    assert rows_of(folder, "answer")[0]["reshown"] == 1
    assert rows_of(folder, "note")[0]["words"] == "the phone rang"


def test_practice_comes_first_gives_feedback_and_the_main_phase_never(tmp_path, sit):
    items = bare_items(30)
    kept = [
        replace(i, practice=i.source in ("sub-000", "sub-001", "seed 0")) for i in items
    ]
    study = replace(P1, practice=4)
    bare_study(tmp_path / "s", (study,), kept)
    time = Time()
    session = sit(tmp_path / "s", time)
    heard = 0
    while session.trial is not None and session.trial.practice:
        words = session.trial.feedback
        answer(session, time)
        assert session.status is Status.FEEDBACK
        assert "scan of a person" in words or "by a computer" in words
        session.go_on()
        heard += 1
    assert heard == 4
    assert all(not t.feedback for t in session._progress.order[4:])
    answer(session, time)
    assert session.status is Status.READY
    tokens = {
        t for row in rows_of(tmp_path / "s", "answer")[:4] for t in row["stimuli"]
    }
    main = {t for trial in session._progress.order[4:] for t in trial.stimuli}
    assert not tokens & main


def test_an_adaptive_reader_is_found_and_a_replay_changes_nothing(tmp_path, sit):
    p3 = replace(protocol("P3"), trials=90)
    _, key = bare_study(tmp_path / "s", (p3,), bare_items(90))
    sizes = {i.token: i.facts["ventricles"] for i in key.items if i.facts}
    time, rng = Time(), np.random.default_rng(0)
    session = sit(tmp_path / "s", time)
    while session.status is not Status.DONE:
        coming, showing = session.coming(), session.showing
        left, right = (sizes[token] for token in showing.stimuli)
        assert showing.level_shown == pytest.approx(np.log(right / left))
        value = 2 if np.log(right / left) + rng.normal(0, 0.1) > 0 else 1
        answer(session, time, value)
        if session.trial is not None:
            assert set(session.showing.stimuli) <= set(coming)
        if session.done[0] == 45:  # killed and resumed: the same next trial
            expected = session.showing
            session._record.close()
            session = sit(tmp_path / "s", time)
            assert session.showing == expected
        while session.status is Status.REST:
            time.now += 60
            session.go_on()
    levels = [abs(row["level_shown"]) for row in rows_of(tmp_path / "s", "answer")]
    assert np.median(levels[30:]) < 0.35


def test_strangers_and_closed_studies_are_refused(folder):
    with pytest.raises(EngineError, match="no reader 'R09'"):
        Session(folder, "R09")
    (folder / "closed.json").write_text("{}")
    with pytest.raises(EngineError, match="is closed"):
        Session(folder, "R01")


def test_a_changed_order_is_refused(folder):
    path = folder / "orders" / "R01.json"
    path.write_text(path.read_text().replace('"block": 0', '"block": 1', 1))
    with pytest.raises(EngineError, match="not the file the study was frozen with"):
        Session(folder, "R01")


@pytest.mark.parametrize(
    ("protocol_id", "question", "good", "bad"),
    [
        ("P1", "real", 6, 7),
        ("P1", "real", 1, True),
        ("P4", "size", 250.0, -1),
        ("P6", "faults", ["blur"], ["fog"]),
        ("P6", "fault", [1, 2, 3], [1, 2]),
        ("P0", "noticed", "two ventricles", 2),
    ],
)
def test_answers_are_checked(protocol_id, question, good, bad):
    asked = protocol(protocol_id).question(question)
    check_answer(asked, good)
    with pytest.raises(EngineError, match="does not answer"):
        check_answer(asked, bad)

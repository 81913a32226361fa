"""Ages of visits out of the tables of a BIDS dataset."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.visit_ages import ages_by_date, told_age, typed_date

SESSIONS = "session_id\tage\nses-01\t70.5\nses-02\t72\n"


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def scan(root: Path, session: str = "") -> Path:
    folder = root / "sub-01" / session / "anat"
    folder.mkdir(parents=True, exist_ok=True)
    stem = "_".join(part for part in ("sub-01", session) if part)
    return folder / f"{stem}_T1w.nii.gz"


def years(path: Path) -> float:
    told = told_age(path)
    assert told is not None
    return told.years


def test_a_file_of_no_dataset_tells_nothing(tmp_path: Path) -> None:
    assert told_age(tmp_path / "T1w.nii.gz") is None
    assert told_age(scan(tmp_path, "ses-01")) is None  # no tables


@pytest.mark.parametrize("table", ["sub-01_sessions.tsv", "sessions.tsv"])
def test_the_age_of_a_session(tmp_path: Path, table: str) -> None:
    write(tmp_path, f"sub-01/{table}", SESSIONS)
    write(tmp_path, "participants.tsv", "participant_id\tage\nsub-01\t20\n")
    found = told_age(scan(tmp_path, "ses-02"))
    assert found is not None
    assert (found.years, found.is_age, found.source) == (72.0, True, f"age in {table}")


def test_the_age_of_the_only_visit(tmp_path: Path) -> None:
    text = "participant_id\tAge\nsub-02\t30\nsub-01\t41.5\n"
    write(tmp_path, "participants.tsv", text)
    assert years(scan(tmp_path)) == 41.5
    assert years(scan(tmp_path, "ses-01")) == 41.5
    scan(tmp_path, "ses-02")  # a second one: the age could be that of either
    assert told_age(scan(tmp_path, "ses-01")) is None


def test_participants_with_a_row_per_session(tmp_path: Path) -> None:
    text = "participant_id\tsession_id\tage\nsub-01\tses-01\t60\nsub-01\tses-02\t63\n"
    write(tmp_path, "participants.tsv", text)
    assert years(scan(tmp_path, "ses-01")) == 60
    assert years(scan(tmp_path, "ses-02")) == 63


def test_dates_alone_give_years_since_the_first(tmp_path: Path) -> None:
    text = (
        "session_id\tacq_time\nses-02\t2010-01-11T00:00:00\nses-01\t2009-06-22T00:00:00"
        "\n"
    )
    write(tmp_path, "sub-01/sub-01_sessions.tsv", text)
    found = told_age(scan(tmp_path, "ses-02"))
    assert found is not None and not found.is_age
    assert found.years == pytest.approx(203 / 365.25)
    assert years(scan(tmp_path, "ses-01")) == 0.0


def test_dates_of_the_scans_tables_and_the_age_at_the_first(tmp_path: Path) -> None:
    write(tmp_path, "participants.tsv", "participant_id\tage\nsub-01\t70\n")
    for session, date in (("ses-a", "1900-01-01"), ("ses-b", "1904-01-01T12:30:00Z")):
        text = f"filename\tacq_time\nanat/x_T1w.nii.gz\t{date}\n"
        write(tmp_path, f"sub-01/{session}/sub-01_{session}_scans.tsv", text)
    assert years(scan(tmp_path, "ses-a")) == 70.0
    assert years(scan(tmp_path, "ses-b")) == pytest.approx(74.0, abs=0.01)


def test_one_known_age_and_the_dates_give_the_others(tmp_path: Path) -> None:
    text = (
        "session_id\tage\tacq_time\nses-01\tn/a\t2001-01-01\nses-02\t80\t2003-01-01\n"
        "ses-03\t89+\t2004-01-01\n"
    )
    write(tmp_path, "sub-01/sub-01_sessions.tsv", text)
    found = [years(scan(tmp_path, f"ses-0{n}")) for n in (1, 2, 3)]
    assert found == pytest.approx([78.0, 80.0, 81.0], abs=0.01)


def test_ages_and_dates_that_do_not_meet_tell_nothing(tmp_path: Path) -> None:
    """Years since a date must not stand beside ages."""
    text = "session_id\tage\tacq_time\nses-01\t70\tn/a\nses-02\tn/a\t2003-01-01\n"
    write(tmp_path, "sub-01/sub-01_sessions.tsv", text)
    assert years(scan(tmp_path, "ses-01")) == 70
    assert told_age(scan(tmp_path, "ses-02")) is None


@pytest.mark.parametrize("age", ["n/a", "", "-3", "old", "inf", "1000"])
def test_what_is_no_age_is_not_taken_for_one(tmp_path: Path, age: str) -> None:
    write(tmp_path, "participants.tsv", f"participant_id\tage\nsub-01\t{age}\n")
    assert told_age(scan(tmp_path)) is None


def test_a_table_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_bytes(b"\xff\xfe\x00participant_id\x80")
    with pytest.raises(EngineError, match=r"participants\.tsv is not a tab-separated"):
        told_age(scan(tmp_path))


def test_the_shared_dataset_tells_its_ages(shared: Path) -> None:
    root = shared / "data" / "ds002748"
    scans = sorted(root.glob("sub-*/anat/*_T1w.nii.gz"))
    rows = (root / "participants.tsv").read_text().splitlines()
    head = rows[0].split("\t")
    ages = {row.split("\t")[0]: row.split("\t")[head.index("age")] for row in rows[1:]}
    assert scans
    for path in scans:
        assert years(path) == float(ages[path.parts[-3]])


def test_what_dates_add_to_ages() -> None:
    first, second, third = (
        datetime(*day) for day in ((2019, 1, 1), (2019, 7, 2), (2021, 1, 1))
    )
    half, two = 182 / 365.25, 731 / 365.25  # days, counted by hand
    # dates alone: years since the first of them, in whatever order
    assert ages_by_date([third, None, first], [None] * 3) == [two, None, 0]
    # an age at one of them gives the others; the nearest one does
    assert ages_by_date([first, second, third], [70.0, None, None]) == pytest.approx(
        [70, 70 + half, 70 + two]
    )
    found = ages_by_date([first, second, third], [70.0, None, 80.0])
    assert found == pytest.approx([70, 70 + half, 80])
    # a date says nothing beside ages that have none
    assert ages_by_date([None, second], [70.0, None]) == [70, None]
    assert ages_by_date([None, second], [70.0, 71.0]) == [70, 71]


def test_a_typed_date_is_read_or_told() -> None:
    assert typed_date("2019-05-31") == datetime(2019, 5, 31)
    assert typed_date("71.25") is None
    assert typed_date("") is None
    for text in ("2019-13-01", "2019-02-29", "2019-5", "2019-"):
        with pytest.raises(EngineError, match=f"{text} is no date.*2019-05-31"):
            typed_date(text)

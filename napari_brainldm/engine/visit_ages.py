"""How old somebody was at a visit, as the tables of a BIDS dataset tell it.

Read are `sub-*/sub-*_sessions.tsv` (or `sessions.tsv` there), the `*_scans.tsv` of each
session, and `participants.tsv`: the columns `age` in years, `acq_time` as date, and
`session_id`. https://bids-specification.readthedocs.io, "Data summary files".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.table import read_rows

YEAR = 365.25
"""Days."""

OLDEST = 130.0
"""Years; what is written above is no age."""

Row = Mapping[str, str]


@dataclass(frozen=True)
class Told:
    """When a visit was.

    Attributes
    ----------
    years
        The age; or, where nobody tells an age of this person, the years since the
        first visit that has a date.
    is_age
        Which of the two.
    source
        In words: "age in sub-01_sessions.tsv".
    date
        When it was, where that is told.
    """

    years: float
    is_age: bool
    source: str
    date: datetime | None = None


def told_age(scan: Path) -> Told | None:
    """When the visit of a `scan` in a BIDS dataset was; None where nothing tells it.

    The age of its session comes first. Else, one known age and the dates give the ages
    of the other sessions; an age in `participants.tsv` is that at the first dated
    session, or of the only one. Dates alone give years since the first of them.

    Raises
    ------
    EngineError
        If a table is there that cannot be read.
    """
    subject = _above(scan, "sub-")
    if subject is None:
        return None
    session = _above(scan, "ses-")
    name = "" if session is None else session.name
    return _Tables(subject).told(name)


def ages_by_date(
    dates: Sequence[datetime | None], ages: Sequence[float | None]
) -> list[float | None]:
    """Ages in years of visits of which some have a date, an age, or both.

    A visit without an age gets it from the nearest that has both; where no age is
    known at all, it gets the years since the first date. None where neither can be.
    """
    pairs = list(zip(dates, ages, strict=True))
    known = [(date, age) for date, age in pairs if date is not None and age is not None]
    days = [date for date in dates if date is not None]
    if days and all(age is None for age in ages):
        known = [(min(days), 0.0)]

    def age_at(date: datetime) -> float:
        near, years = min(known, key=lambda one: abs(one[0] - date))
        return years + _apart(near, date)

    return [
        age_at(date) if date is not None and age is None and known else age
        for date, age in pairs
    ]


DATE = r"\d{3,4}-\d{0,2}(-\d{0,2})?"
"""What is typed as a date, whole or begun."""


def typed_date(text: str) -> datetime | None:
    """The date somebody typed as 2019-05-31; None for what is not meant as one.

    Raises
    ------
    EngineError
        If there is no such day.
    """
    if not re.fullmatch(DATE, text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise EngineError(
            f"{text} is no date. Type the date of a visit as year-month-day, such as "
            "2019-05-31, or the age in years."
        ) from None


def sessions_table(subject: Path) -> Path:
    """Where the sessions of the person of a folder are told, if anywhere."""
    named = subject / f"{subject.name}_sessions.tsv"
    return named if named.is_file() else subject / "sessions.tsv"


def _above(scan: Path, prefix: str) -> Path | None:
    """The nearest folder around `scan` whose name begins so."""
    return next((p for p in scan.parents if p.name.startswith(prefix)), None)


class _Tables:
    """What the tables say of one person: ages and dates by session, "" for none."""

    def __init__(self, subject: Path) -> None:
        self._subject = subject
        people, sessions = subject.parent / "participants.tsv", sessions_table(subject)
        mine = [
            row for row in _rows(people) if row.get("participant_id") == subject.name
        ]
        visits = [(sessions, row) for row in _rows(sessions)]
        visits += [(people, row) for row in mine if row.get("session_id")]
        self._ages = {
            row.get("session_id", ""): (age, path)
            for path, row in reversed(visits)  # the person's own table has the word
            if (age := _years(row)) is not None
        }
        dates = {row.get("session_id", ""): _date(row) for _, row in visits}
        scans = {name: self._scanned(name) for name in self._names(dates)}
        self._dates = {
            name: date
            for name in scans
            if (date := dates.get(name) or scans[name]) is not None
        }
        once = [row for row in mine if not row.get("session_id")]
        self._own = next((a for row in once if (a := _years(row)) is not None), None)

    def told(self, session: str) -> Told | None:
        """When `session` was."""
        if session in self._ages:
            age, path = self._ages[session]
            return Told(age, True, f"age in {path.name}", self._dates.get(session))
        if session in self._dates:
            return self._by_date(session)
        if self._own is None or len(self._names(self._dates)) > 1:
            return None
        return Told(self._own, True, "age in participants.tsv")

    def _by_date(self, session: str) -> Told | None:
        date, first = self._dates[session], min(self._dates.values())
        anchored = [name for name in self._dates if name in self._ages]
        if anchored:
            name = min(anchored, key=lambda n: abs(self._dates[n] - date))
            age = self._ages[name][0] + _apart(self._dates[name], date)
            return Told(age, True, f"age at {name} and the dates", date)
        if self._own is not None:
            age = self._own + _apart(first, date)
            return Told(age, True, "age in participants.tsv and the dates", date)
        if self._ages:  # ages, but none that the dates could be tied to
            return None
        years = _apart(first, date)
        return Told(years, False, "years since the first date", date)

    def _names(self, told: Mapping[str, object]) -> list[str]:
        """Every session there is or is told of; "" for somebody without sessions."""
        there = {path.name for path in self._subject.glob("ses-*") if path.is_dir()}
        return sorted({*there, *told}) or [""]

    def _scanned(self, session: str) -> datetime | None:
        """The first date among the scans of a session."""
        folder = self._subject / session
        stem = "_".join(part for part in (self._subject.name, session) if part)
        rows = _rows(folder / f"{stem}_scans.tsv")
        dates = [date for row in rows if (date := _date(row)) is not None]
        return min(dates, default=None)


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table, columns in small letters; none of a file that is not."""
    if not path.is_file():
        return []
    return [{k.lower(): v.strip() for k, v in row.items()} for row in read_rows(path)]


def _years(row: Row) -> float | None:
    """The age in a row; None for "n/a", "89+" and what else is no age."""
    try:
        age = float(row.get("age", ""))
    except ValueError:
        return None
    return age if math.isfinite(age) and 0 <= age <= OLDEST else None


def _date(row: Row) -> datetime | None:
    """The date in a row; None where there is none that can be read."""
    try:
        return datetime.fromisoformat(row.get("acq_time", "")).replace(tzinfo=None)
    except ValueError:
        return None


def _apart(first: datetime, second: datetime) -> float:
    """Years from `first` to `second`."""
    return (second - first).total_seconds() / 86400 / YEAR

"""Parts of a report, and what several of them need."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_brainldm.review.analysis.figures import Drawing
from napari_brainldm.review.joined import Judged
from napari_brainldm.review.statistics.agreement import agreement
from napari_brainldm.review.statistics.detection import wilson
from napari_brainldm.review.statistics.interval import Floats, Interval
from napari_brainldm.review.study import Study

NOT_ENOUGH = "Not enough for a claim"


@dataclass(frozen=True)
class Table:
    """A titled table; cells are numbers, intervals or words."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass
class Section:
    """One part of a report: sentences, tables, drawings, and all numbers for JSON."""

    name: str
    title: str
    sentences: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    drawings: list[Drawing] = field(default_factory=list)

    def table(self, title: str, columns: str, rows: Iterable[Sequence[Any]]) -> None:
        """Add a table; `columns` are separated by "|"."""
        made = tuple(tuple(row) for row in rows)
        if made:
            self.tables.append(Table(title, tuple(columns.split("|")), made))


@dataclass(frozen=True)
class Material:
    """What a section is made of.

    Attributes
    ----------
    judged
        Answers to one protocol.
    rng
        For bootstraps.
    """

    study: Study
    judged: tuple[Judged, ...]
    rng: np.random.Generator

    @property
    def readers(self) -> list[str]:
        """Codes, sorted."""
        return sorted({j.reader for j in self.judged})

    def of(self, reader: str) -> list[Judged]:
        """Answers of one reader, repeats and catches left out."""
        return [j for j in self.judged if j.reader == reader and j.truth.kind == "main"]

    @property
    def main(self) -> list[Judged]:
        """Answers of all, repeats and catches left out."""
        return [j for j in self.judged if j.truth.kind == "main"]

    def ratings(self, question: str) -> tuple[Floats, list[str]]:
        """First ratings (units, readers) by token, NaN where there is none."""
        tokens = sorted({j.items[0].token for j in self.main if len(j.items) == 1})
        table = np.full((len(tokens), len(self.readers)), np.nan)
        at = {token: i for i, token in enumerate(tokens)}
        for j in self.main:
            said = j.said(question)
            if len(j.items) == 1 and isinstance(said, int | float):
                table[at[j.items[0].token], self.readers.index(j.reader)] = said
        return table, tokens

    @property
    def anchors(self) -> int:
        """Pictures or groups of pictures that every reader judged."""
        seen = [
            {tuple(sorted(i.token for i in j.items)) for j in self.of(reader)}
            for reader in self.readers
        ]
        return len(set.intersection(*seen)) if seen else 0


def judgement(material: Material, shared: bool) -> list[str]:
    """A sentence when there are too few readers or items for a claim.

    Parameters
    ----------
    shared
        Whether all readers judge the same items; else each one's trials are counted,
        for an adaptive reader has items of his own.
    """
    rules, readers = material.study.rules, material.readers
    items = min((len(material.of(reader)) for reader in readers), default=0)
    if shared:
        items = material.anchors
    if len(readers) >= rules.least_readers and items >= rules.least_anchors:
        return []
    of = "items that all of them judged" if shared else "trials of each"
    return [
        f"{NOT_ENOUGH}: {len(readers)} readers and {items} {of}; at least "
        f"{rules.least_readers} and {rules.least_anchors} are needed."
    ]


def agreement_table(
    section: Section, material: Material, question: str
) -> dict[str, Interval]:
    """Agreement on a question, its interval from pictures drawn anew."""
    ratings, _ = material.ratings(question)
    several = ratings[np.isfinite(ratings).sum(1) >= 2]
    if len(several) < 2 or len(material.readers) < 2:
        return {}
    draws = min(material.study.rules.draws, 500)  # each draw costs seven coefficients
    found = agreement(several, draws, material.rng)
    section.table(
        f"Agreement of readers: {question}, {len(several)} pictures",
        "coefficient|value",
        found.items(),
    )
    return found


def repeats_table(section: Section, material: Material, question: str) -> None:
    """How often a reader says the same again."""
    rows = []
    for reader in material.readers:
        first = {
            j.truth.uid: j.said(question) for j in material.judged if j.reader == reader
        }
        pairs = [
            (first[j.truth.repeat_of], j.said(question))
            for j in material.judged
            if j.reader == reader and j.truth.repeat_of in first
        ]
        if pairs:
            same = sum(a == b for a, b in pairs)
            near = float(np.mean([abs(a - b) for a, b in pairs]))
            rows.append((reader, len(pairs), wilson(same, len(pairs)), near))
    section.table(
        "The same pictures again",
        "reader|pairs|same answer|mean difference",
        rows,
    )


def drift_table(
    section: Section, material: Material, right: dict[str, bool] | None
) -> None:
    """Response times, and where there is a right answer its share, block by block."""
    rows: list[tuple[Any, ...]] = []
    for block in sorted({j.row["block"] for j in material.main}):
        own = [j for j in material.main if j.row["block"] == block]
        times = [j.row["rt_ms"] / 1000 for j in own]
        median = float(np.median(times))
        if right is None:
            rows.append((block + 1, len(own), median))
        else:
            known = [right[j.truth.uid] for j in own if j.truth.uid in right]
            rows.append((block + 1, len(own), median, wilson(sum(known), len(known))))
    columns = "block|trials|median time (s)" + ("" if right is None else "|right")
    section.table("Block by block", columns, rows)


def place_table(section: Section, material: Material, question: str) -> None:
    """How often each place was chosen, whatever was there."""
    said = [int(j.said(question)) for j in material.main]
    options = max((len(j.items) for j in material.main), default=0)
    section.table(
        "Places chosen",
        "place|share",
        [
            (place, wilson(sum(s == place for s in said), len(said)))
            for place in range(1, options + 1)
        ],
    )


def cell(value: Any) -> str:
    """A table's cell in words."""
    if isinstance(value, Interval):
        low, high = cell(value.low), cell(value.high)
        return f"{cell(value.estimate)} ({low} to {high})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    """With as many places as can matter, so that columns stand in line."""
    size = abs(value)
    if not math.isfinite(value):
        return "–"
    if size < 1e-12:  # what rounding leaves of 0
        return "0.000"
    if size < 0.0005:
        return f"{value:.1e}"
    return f"{value:.{3 - (size >= 1) - (size >= 10) - (size >= 100)}f}"

"""Answers and truth brought together, once a study is closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_brainldm.review.record import read_rows, verify
from napari_brainldm.review.replay import standing
from napari_brainldm.review.study import Item, Key, Study, Truth


@dataclass(frozen=True)
class Judged:
    """An answered trial with its truth.

    Attributes
    ----------
    row
        Of the record.
    items
        The pictures by place.
    level
        Signed: planned before the study, or chosen by the reader's program.
    """

    row: dict[str, Any]
    truth: Truth
    items: tuple[Item, ...]

    @property
    def reader(self) -> str:
        """The reader's code."""
        return str(self.row["reader_code"])

    @property
    def level(self) -> float | None:
        """Signed level of a comparison."""
        shown = self.row["level_shown"]
        return self.truth.level if shown is None else float(shown)

    def said(self, question: str) -> Any:
        """The answer to `question`; None where there is none."""
        return self.row["responses"].get(question)


@dataclass(frozen=True)
class Flow:
    """What became of one reader's trials.

    Attributes
    ----------
    void
        Answers of blocks that were begun anew after a long gap.
    reshown
        Trials that had been on the screen before an interruption.
    torn
        Rows lost because the program was killed while it wrote.
    kept
        Whether the reader passes the rule on catch trials.
    """

    reader: str
    planned: int
    answered: int
    timeouts: int
    practice: int
    void: int
    reshown: int
    torn: int
    catches: int
    catches_right: int
    kept: bool
    faults: tuple[str, ...]


def joined(
    folder: Path, study: Study, digest: str, key: Key
) -> tuple[list[Judged], list[Flow]]:
    """Answers in the main phase that stand, timeouts left out; and the flow."""
    truths = {truth.uid: truth for truth in key.trials}
    items = {item.token: item for item in key.items}
    found: list[Judged] = []
    flows = []
    for reader in sorted(study.orders):
        path = folder / "records" / f"{reader}.jsonl"
        faults = tuple(
            f"line {f.line}: {f.words}" for f in verify(path, digest, reader)
        )
        # what a damaged record holds counts for nothing
        rows = [] if faults else list(read_rows(path))
        answers = [r for r in standing(rows) if r["event"] == "answer"]
        judged = [
            Judged(
                dict(row),
                truths[row["trial_uid"]],
                tuple(items[token] for token in row["stimuli"]),
            )
            for row in answers
        ]
        flows.append(_flow(folder, study, reader, rows, judged, faults))
        found += [
            j for j in judged if j.row["phase"] == "main" and not j.row["timeout"]
        ]
    return found, flows


def _flow(
    folder: Path,
    study: Study,
    reader: str,
    rows: Sequence[dict[str, Any]],
    judged: Sequence[Judged],
    faults: tuple[str, ...],
) -> Flow:
    from napari_brainldm.review.study import read_order

    main = [j for j in judged if j.row["phase"] == "main"]
    caught = [j for j in main if j.truth.kind == "catch" and not j.row["timeout"]]
    right = sum(_caught(study, j) for j in caught)
    every = sum(r["event"] == "answer" for r in rows)
    return Flow(
        reader,
        sum(not trial.practice for trial in read_order(folder, study, reader)),
        sum(not j.row["timeout"] for j in main),
        sum(j.row["timeout"] for j in main),
        len(judged) - len(main),
        every - len(judged),
        sum(j.row["reshown"] for j in main),
        sum(r["event"] == "torn" for r in rows),
        len(caught),
        right,
        not faults and right >= study.rules.catch_pass * len(caught) - 1e-9,
        faults,
    )


def _caught(study: Study, one: Judged) -> bool:
    """Whether a catch trial was answered as everybody awake answers it."""
    from napari_brainldm.review.protocols import SYNTHETIC_FROM

    protocol = study.protocol(one.row["protocol"])
    return int(one.said(protocol.questions[0].name)) >= SYNTHETIC_FROM

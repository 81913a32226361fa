"""Where a reader is, from the order of trials and the rows of the record alone."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from napari_brainldm.review.adaptive import Quest
from napari_brainldm.review.study import Pair, Trial


@dataclass(frozen=True)
class Answer:
    """One in an adaptive pool: the level shown, of which pair, and what was said."""

    level: float
    second_greater: bool
    stimuli: tuple[str, ...]


History = tuple[Answer, ...]


@dataclass(frozen=True)
class Showing:
    """What a trial shows: tokens by place, and the level where it is known."""

    stimuli: tuple[str, ...]
    level_planned: float | None = None
    level_shown: float | None = None


@dataclass(frozen=True)
class Choosing:
    """How adaptive trials find their pictures; the same for the same history."""

    seed: int
    reader: str
    pools: dict[str, tuple[Pair, ...]]

    def fresh(self, pool: str) -> Quest:
        """What is believed before the first answer."""
        return Quest.over(np.array([pair.level for pair in self.pools[pool]]))

    def pair(self, pool: str, quest: Quest, history: History) -> Showing:
        """A pair at the best level, one of those seen least often."""
        level = quest.next_level()
        reach = quest.reach * (1 + 1e-6)  # rounding must not lose the outermost
        near = [p for p in self.pools[pool] if abs(p.level - level) <= reach]
        seen = Counter(answer.stimuli for answer in history)
        least = min(seen[p.first, p.second] for p in near)
        rare = [p for p in near if seen[p.first, p.second] == least]
        seed = [self.seed, reader_number(self.reader), len(history)]
        pick = rare[int(np.random.default_rng(seed).integers(len(rare)))]
        return Showing((pick.first, pick.second), level, pick.level)


def reader_number(code: str) -> int:
    """A reader's code as a number for seeds: its CRC-32."""
    return zlib.crc32(code.encode())


@dataclass
class Progress:
    """How far a reader is.

    Attributes
    ----------
    order
        The reader's trials.
    finished
        Uids that are answered or timed out, outside of void blocks.
    shown
        Uids that were ever on the screen.
    last_utc
        Of the last row, seconds.
    """

    order: tuple[Trial, ...]
    finished: set[str] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)
    last_utc: float = 0.0
    _states: dict[str, tuple[Quest, History]] = field(default_factory=dict)

    @property
    def index(self) -> int:
        """Place of the next trial in the order; the order's length when done."""
        places = (i for i, t in enumerate(self.order) if t.uid not in self.finished)
        return next(places, len(self.order))

    @property
    def trial(self) -> Trial | None:
        """The next trial; None when done."""
        return self.order[self.index] if self.index < len(self.order) else None

    @property
    def counted(self) -> tuple[int, int]:
        """Trials done, and all."""
        return len(self.finished), len(self.order)

    @property
    def was_shown(self) -> bool:
        """Whether the next trial was on the screen before."""
        return self.trial is not None and self.trial.uid in self.shown

    @property
    def within_block(self) -> bool:
        """Whether a block was begun and not ended."""
        trial = self.trial
        if trial is None:
            return False
        begun = self.finished | self.shown
        return any(t.uid in begun for t in self.order if _same_block(t, trial))

    def mark_shown(self) -> None:
        """The next trial is on the screen."""
        assert self.trial is not None
        self.shown.add(self.trial.uid)

    def take(self, row: Mapping[str, Any], choosing: Choosing) -> None:
        """An answer was written."""
        trial = next(t for t in self.order if t.uid == row["trial_uid"])
        self.finished.add(trial.uid)
        if trial.pool and not row["timeout"]:
            said = next(iter(row["responses"].values()))
            answer = Answer(float(row["level_shown"]), said == 2, tuple(row["stimuli"]))
            quest, history = self._state(trial.pool, choosing)
            self._states[trial.pool] = _after(quest, history, answer)

    def showing(self, choosing: Choosing) -> Showing:
        """What the next trial shows."""
        assert self.trial is not None
        return self._showing(self.trial, choosing)

    def _showing(self, trial: Trial, choosing: Choosing) -> Showing:
        if not trial.pool:
            return Showing(trial.stimuli, trial.exposure_ms, None)
        return choosing.pair(trial.pool, *self._state(trial.pool, choosing))

    def _state(self, pool: str, choosing: Choosing) -> tuple[Quest, History]:
        """What is believed in a pool, and the answers it comes from."""
        if pool not in self._states:
            self._states[pool] = choosing.fresh(pool), ()
        return self._states[pool]

    def coming(self, choosing: Choosing) -> tuple[str, ...]:
        """Tokens that the trial after the next may show."""
        if self.index + 1 >= len(self.order):
            return ()
        now, then = self.order[self.index : self.index + 2]
        if not then.pool or then.pool != now.pool:
            return self._showing(then, choosing).stimuli
        showing, state = self.showing(choosing), self._state(now.pool, choosing)
        assert showing.level_shown is not None
        either = (
            Answer(showing.level_shown, greater, showing.stimuli)
            for greater in (False, True)
        )
        after = (choosing.pair(now.pool, *_after(*state, answer)) for answer in either)
        return tuple(token for found in after for token in found.stimuli)


def _after(quest: Quest, history: History, answer: Answer) -> tuple[Quest, History]:
    return quest.after(answer.level, answer.second_greater), (*history, answer)


def _same_block(one: Trial, other: Trial) -> bool:
    key = (other.protocol, other.practice, other.block)
    return (one.protocol, one.practice, one.block) == key


def replay(
    order: tuple[Trial, ...], rows: Iterable[Mapping[str, Any]], choosing: Choosing
) -> Progress:
    """The state that `rows` lead to."""
    rows = list(rows)
    progress = Progress(order)
    for row in standing(rows):
        if row["event"] == "answer":
            progress.take(row, choosing)
    progress.shown = {r["trial_uid"] for r in rows if r["event"] == "shown"}
    if rows:
        progress.last_utc = datetime.fromisoformat(rows[-1]["t_utc"]).timestamp()
    return progress


def standing(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """`rows` without the answers of blocks that were begun anew later."""
    kept: list[Mapping[str, Any]] = []
    for row in rows:
        if row["event"] == "void":
            kept = [k for k in kept if k["event"] != "answer" or not _same(k, row)]
        kept.append(row)
    return kept


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[name] == other[name] for name in ("protocol", "phase", "block"))

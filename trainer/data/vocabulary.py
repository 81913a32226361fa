"""The card's vocabulary, from the covariates of the training set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.card import Covariate, Histogram
from napari_brainldm.engine.joint import fit_joint
from napari_brainldm.engine.request import Conditions, EngineError

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.joint import Group
    from trainer.config import Column
    from trainer.data.bids import Entry

BINS = 24


def vocabulary(
    columns: Sequence[Column], entries: Sequence[Entry]
) -> tuple[Covariate, ...]:
    """One covariate per column, with the range and histogram of `entries`.

    Raises
    ------
    EngineError
        If a number is the same in all entries.
    """
    return tuple(
        _covariate(c, [dict(e.covariates)[c.name] for e in entries]) for c in columns
    )


def _covariate(column: Column, values: Sequence[float | str]) -> Covariate:
    if column.categories:
        commonest = Counter(str(v) for v in values).most_common(1)[0][0]
        return Covariate(
            column.name,
            column.title,
            description=column.description,
            reference=commonest,
            categories=column.categories,
        )
    numbers = np.array([float(v) for v in values])
    low, high = float(numbers.min()), float(numbers.max())
    if low == high:
        raise EngineError(
            f"{column.name} is {low:g} for every training scan, so nothing can be "
            "learnt of it. Take it out of the config, or add other subjects."
        )
    counts, _ = np.histogram(numbers, BINS, (low, high))
    return Covariate(
        column.name,
        column.title,
        column.unit,
        column.description,
        low,
        high,
        float(np.median(numbers)),
        histogram=Histogram(low, high, tuple(int(n) for n in counts)),
    )


def conditions(entry: Entry) -> Conditions:
    """The covariates of `entry` as a request states them."""
    return Conditions.of(dict(entry.covariates))


def known_conditions(entry: Entry, card: Card) -> Conditions:
    """As `conditions`, of the covariates alone that a model of `card` knows."""
    known = {covariate.name for covariate in card.vocabulary}
    return Conditions.of({k: v for k, v in entry.covariates if k in known})


def one_each(entries: Sequence[Entry]) -> list[Entry]:
    """The first scan of each subject: somebody seen often is one person."""
    first: dict[str, Entry] = {}
    for entry in entries:
        first.setdefault(entry.subject, entry)
    return list(first.values())


def joint_of(known: Sequence[Covariate], entries: Sequence[Entry]) -> tuple[Group, ...]:
    """The joint distribution of `known` covariates, each subject counted once.

    Empty where entries do not tell all of it.
    """
    people = [conditions(entry) for entry in one_each(entries)]
    names = {covariate.name for covariate in known}
    whole = all(names <= set(person.as_dict()) for person in people)
    return fit_joint(known, people) if whole else ()

"""What is to be made: a participant's name and a request for every picture.

A plan is a table, a grid of conditions, or drawn from the card's joint distribution.
Row i depends on the plan, the seed and i alone.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.joint import draw_conditions
from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Request,
    Sampler,
    Seed,
    Value,
)
from napari_brainldm.engine.table import read_rows

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card

Row = tuple[str, Request]
"""Participant's name, such as sub-000001, and what is asked for."""

OWN_COLUMNS = ("participant_id", "seed")
NOISE, PERSON = 0, 1
"""Streams of random numbers: where pictures begin, and who is in them."""


def plan_of_table(path: Path, card: Card, seed: int = 0) -> list[Row]:
    """A row per line of a tab-separated table with a column per condition.

    Optional columns: participant_id, and seed, the noise of that picture.

    Raises
    ------
    EngineError
        If the table is missing, empty, or holds a column or value the card does not
        know.
    """
    if not path.is_file():
        raise EngineError(
            f"There is no plan {path}. Give a tab-separated table with a column per "
            "condition and a row per picture."
        )
    rows = read_rows(path)
    if not rows:
        raise EngineError(f"The plan {path} has no rows. Add a row per picture.")
    found = [_row(card, row, index, seed) for index, row in enumerate(rows)]
    _check_names(path, [name for name, _ in found])
    return found


def plan_of_grid(
    axes: Sequence[str], each: int, card: Card, seed: int = 0
) -> list[Row]:
    """Every combination of `axes`, such as "age=40,60,80" and "sex=F,M".

    `each` pictures of every combination, each from noise of its own.

    Raises
    ------
    EngineError
        If an axis cannot be read or names a condition the card does not know.
    """
    parsed = [_axis(card, text) for text in axes]
    repeated = [n for n, count in Counter(n for n, _ in parsed).items() if count > 1]
    if repeated:
        raise EngineError(
            f"--grid names {repeated[0]} twice. Put all its values into one, such as "
            f"{repeated[0]}=1,2,3."
        )
    _check_count(each, "--each")
    names = [name for name, _ in parsed]
    cells = product(*(values for _, values in parsed))
    people = [
        Conditions.of(dict(zip(names, cell, strict=True)))
        for cell in cells
        for _ in range(each)
    ]
    return _numbered(card, people, seed)


def plan_of_draws(count: int, card: Card, seed: int = 0) -> list[Row]:
    """`count` people of the joint distribution that the card tells.

    Raises
    ------
    EngineError
        If the card tells none.
    """
    _check_count(count, "--draw")
    people = [
        draw_conditions(card.joint, card.vocabulary, (seed, PERSON, index))
        for index in range(count)
    ]
    return _numbered(card, people, seed)


def noise_seed(seed: int, index: int) -> int:
    """The seed of the noise of picture `index` of a plan with `seed`."""
    return int(np.random.default_rng((seed, NOISE, index)).integers(10**18))


def sampled_by(rows: Sequence[Row], sampler: Sampler, precision: str) -> list[Row]:
    """The rows with all that their pictures share."""
    return [
        (name, replace(request, sampler=sampler, precision=precision))
        for name, request in rows
    ]


def plan_digest(rows: Sequence[Row]) -> str:
    """SHA-256 of names and requests, but for the precision, hex."""
    sha = hashlib.sha256()
    for name, request in rows:
        sha.update(f"{name} {replace(request, precision='').digest}\n".encode())
    return sha.hexdigest()


def _numbered(card: Card, people: Sequence[Conditions], seed: int) -> list[Row]:
    return [
        (
            _name(index),
            Request(card.complete(told), Seed(noise_seed(seed, index))),
        )
        for index, told in enumerate(people)
    ]


def _name(index: int) -> str:
    return f"sub-{index + 1:06d}"


def _check_count(count: int, option: str) -> None:
    if count < 1:
        raise EngineError(f"{option} is {count}; at least 1 is needed. Correct it.")


def _axis(card: Card, text: str) -> tuple[str, list[Value]]:
    name, _, values = text.partition("=")
    found = [card.parse(name, value) for value in values.split(",") if value]
    if not found:
        raise EngineError(
            f"--grid {text} holds no values. Write NAME=VALUE,VALUE, such as "
            "age=40,60,80."
        )
    return name, found


def _row(card: Card, row: Mapping[str, str], index: int, seed: int) -> Row:
    name = row.get("participant_id") or _name(index)
    own = row.get("seed") or str(noise_seed(seed, index))
    if not re.fullmatch(r"[0-9]{1,18}", own):
        raise EngineError(
            f"The plan's seed {own!r} is not a whole number of at most 18 digits. "
            "Correct it."
        )
    given = {k: v for k, v in row.items() if k not in OWN_COLUMNS}
    values = {k: card.parse(k, v) for k, v in given.items()}
    return name, Request(card.complete(Conditions.of(values)), Seed(int(own)))


def _check_names(plan: Path, names: list[str]) -> None:
    """Refuse names that are no BIDS names, or would write over each other."""
    foreign = [name for name in names if not re.fullmatch(r"sub-[0-9A-Za-z]+", name)]
    if foreign:
        raise EngineError(
            f"{plan} has the participant_id {foreign[0]!r}; sub- and then letters or "
            "digits are needed, such as sub-01. Correct it."
        )
    [(commonest, count)] = Counter(names).most_common(1)
    if count > 1:
        raise EngineError(
            f"{plan} has the participant_id {commonest} {count} times. Give each row "
            "its own."
        )

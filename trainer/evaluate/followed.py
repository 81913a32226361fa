"""People with three visits or more, whom the tables of missing visits are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_brainldm.engine.request import EngineError
from trainer.data.bids import Entry, read_dataset, subjects_of
from trainer.data.pictures import on_grid
from trainer.evaluate.visits import Visit
from trainer.prepared import dataset_of
from trainer.stages.forecast import age_of, check_apart, person_then

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from trainer.config import RunConfig

LEAST = 3
"""Visits of a person: one to predict, and one on both sides."""


@dataclass(frozen=True)
class Followed:
    """Visits of people no stage saw, read before anything is measured.

    Attributes
    ----------
    people
        Visits of each person in the order of age, one scan of each.
    asked
        Whether what the model's forecast asks of them is told.
    notes
        Sentences on what is left out.
    """

    people: tuple[tuple[Entry, ...], ...]
    asked: bool
    notes: tuple[str, ...]

    def visits(self, card: Card) -> list[list[Visit]]:
        """With their pictures on the grid of `card`."""
        return [
            [
                Visit(
                    age_of(entry),
                    on_grid(entry.path, card.grid, card.intensity),
                    person_then(entry) if self.asked else None,
                )
                for entry in person
            ]
            for person in self.people
        ]


def followed(config: RunConfig, card: Card, folder: Path | None) -> Followed:
    """The people of the dataset in `folder`; None for the run's held-out subjects.

    Raises
    ------
    EngineError
        If `folder` holds people with three visits and no table tells these apart.
    """
    entries, asked, notes = _entries(config, card, folder)
    groups: dict[str, dict[str, Entry]] = {}
    for entry in entries:
        if entry.session:  # of several scans of a visit the first
            groups.setdefault(entry.subject, {}).setdefault(entry.session, entry)
    people, faults = [], []
    for visits in groups.values():
        if len(visits) < LEAST:
            continue
        try:
            check_apart(list(visits.values()))
        except EngineError as error:
            faults.append(str(error))
        else:
            people.append(tuple(sorted(visits.values(), key=age_of)))
    if faults and not people and folder is not None:
        raise EngineError(faults[0])
    if faults:
        notes.append(f"{len(faults)} people left out of the visits. {faults[0]}")
    if not people:
        notes.append(
            f"No tables of visits: nobody of {folder or 'the held-out subjects'} has "
            f"{LEAST} visits at known ages. Give a longitudinal dataset with --visits."
        )
    return Followed(tuple(people), asked, tuple(notes))


def _entries(
    config: RunConfig, card: Card, folder: Path | None
) -> tuple[Sequence[Entry], bool, list[str]]:
    """Scans of people no stage saw, whether the forecast can ask them, and notes."""
    data, notes = config.data, []
    if folder is None:
        held = subjects_of(dataset_of(config).held_out)
    else:
        data, held = replace(data, dataset=str(folder)), frozenset()
    bare = replace(data, covariates=())
    asked = bool(card.forecast)
    columns = config.forecast.covariates
    if asked and {c.name for c in columns} != {q.name for q in card.forecast}:
        asked = False
        notes.append(
            "No forecast among the visits: forecast.covariates of the config are not "
            f"what {card.name} asks: {', '.join(q.name for q in card.forecast)}."
        )
    if asked:
        try:
            dataset = read_dataset(replace(data, covariates=columns), held)
        except EngineError as error:
            asked = False
            notes.append(f"No forecast among the visits. {error}")
    if not asked:
        dataset = read_dataset(bare, held)
    entries = dataset.held_out if folder is None else dataset.train
    return entries, asked, notes

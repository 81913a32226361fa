"""Stage forecast: what a year adds to a semantic code, by age, sex and diagnosis.

Ridge regression of people's own change between visits; Lozupone 2025 (section 5) names
a forecast of later scans from one as future work.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.request import Conditions, EngineError
from napari_brainldm.engine.visit_ages import told_age
from napari_brainldm.engine.visits import SAME
from trainer.data.bids import Dataset, Entry, read_dataset
from trainer.linear import PENALTIES

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Covariate
    from trainer.config import DataConfig, ForecastConfig

Floats = NDArray[np.float64]
LEAST = 10
"""People with two visits or more, below which nothing is fitted."""


def with_forecast(
    checkpoint: Checkpoint,
    vocabulary: tuple[Covariate, ...],
    entries: Sequence[Entry],
    codes: Floats,
) -> Checkpoint:
    """`checkpoint` with the forecast that fits people followed over years.

    Parameters
    ----------
    vocabulary
        What the forecast asks of a person; "age" is among it.
    entries, codes
        Visits, and their semantic codes (N, E).

    Raises
    ------
    EngineError
        If too few people have two visits.
    """
    card = replace(checkpoint.card, forecast=vocabulary)
    changes, asked = _changes(entries, codes)
    if len(changes) < LEAST:
        raise EngineError(
            f"{len(changes)} people of the dataset have two visits at different ages; "
            f"a forecast needs at least {LEAST}. Give a longitudinal dataset under "
            "forecast.dataset in the config, with a column age in its sessions.tsv or "
            "acq_time in its scans.tsv."
        )
    x = np.array([card.person(person) for person in asked])
    spread = codes.std(0) + 1e-12
    weight = _ridge(x, np.array(changes) / spread) * spread
    tensors = dict(checkpoint.tensors) | {
        "forecast.weight": torch.from_numpy(weight).float()
    }
    return Checkpoint(card, tensors)


def _changes(
    entries: Sequence[Entry], codes: Floats
) -> tuple[list[Floats], list[Conditions]]:
    """Change of the code per year (E,) of each person seen twice, and who it is."""
    groups: dict[str, list[int]] = {}
    for number, entry in enumerate(entries):
        groups.setdefault(entry.subject, []).append(number)
    changes, asked = [], []
    for numbers in (group for group in groups.values() if len(group) > 1):
        ages = np.array([age_of(entries[n]) for n in numbers])
        if np.ptp(ages) > 0:
            away = ages - ages.mean()
            changes.append(away @ codes[numbers] / (away @ away))
            first = numbers[int(ages.argmin())]
            asked.append(person_then(entries[first]))
    return changes, asked


def age_of(entry: Entry) -> float:
    """When a visit was in years: the age, or the years since the first one.

    The tables are read as the viewer's Visits does, see `engine.visit_ages`. Where
    they lie elsewhere (maps of a derivative), or name the age otherwise, the covariate
    age and the column age of the visit's row tell it.

    Raises
    ------
    EngineError
        If no table tells it.
    """
    told = told_age(entry.path)
    if told is not None:
        return told.years
    for values in (dict(entry.covariates), dict(entry.row)):
        try:
            age = float(values.get("age", ""))
        except ValueError:
            continue
        if math.isfinite(age):
            return age
    raise EngineError(
        f"The age of {entry.subject} at {entry.session or 'the scan'} is not told. "
        "Add a column age to its sessions.tsv, or acq_time to its scans.tsv."
    )


def person_then(entry: Entry) -> Conditions:
    """The covariates of `entry`, the age being that at this visit."""
    told, known = told_age(entry.path), dict(entry.covariates)
    if told is not None and told.is_age and "age" in known:
        known["age"] = told.years
    return Conditions.of(known)


def check_apart(visits: Sequence[Entry]) -> None:
    """Raise an EngineError unless the visits of one person are told apart by age.

    Several scans of one visit are of one age.
    """
    scans = {entry.session: entry for entry in reversed(visits)}
    told = sorted((age_of(entry), name) for name, entry in scans.items())
    for (age, first), (other, second) in pairwise(told):
        if other - age < SAME:
            raise EngineError(
                f"{visits[0].subject} is {age:.2f} years old both at {first} and at "
                f"{second}, so no time lies between these visits. Add a column age to "
                "its sessions.tsv, or acq_time to its scans.tsv."
            )


def people_followed(
    data: DataConfig, forecast: ForecastConfig, held: Collection[str]
) -> Dataset:
    """All whom the forecast learns from: of its own dataset, or who is not `held` out.

    Raises
    ------
    EngineError
        If two visits of somebody are not told apart by age.
    """
    asked = replace(data, covariates=forecast.covariates)
    if forecast.dataset:
        asked, held = replace(asked, dataset=forecast.dataset), ()
    dataset = read_dataset(asked, held)
    people: dict[str, list[Entry]] = {}
    for entry in dataset.train:
        people.setdefault(entry.subject, []).append(entry)
    for visits in people.values():
        check_apart(visits)
    return replace(dataset, held_out=())


def _ridge(x: Floats, y: Floats) -> Floats:
    """Intercept and slopes (1 + n, E) of y (N, E) on x (N, n), one penalty for all."""
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(PENALTIES * len(x)).fit(x, y)
    return np.vstack([model.intercept_, model.coef_.T])

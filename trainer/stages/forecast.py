"""Stage forecast: what a year adds to a semantic code, by age, sex and diagnosis.

Ridge regression of people's own change between visits; Lozupone 2025 (section 5) names
a forecast of later scans from one as future work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.request import Conditions, EngineError
from trainer.data.vocabulary import conditions
from trainer.linear import PENALTIES

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Covariate
    from trainer.data.bids import Entry

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
            "forecast.dataset in the config."
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
    for numbers in groups.values():
        ages = np.array([age_of(entries[n]) for n in numbers])
        if np.ptp(ages) > 0:
            away = ages - ages.mean()
            changes.append(away @ codes[numbers] / (away @ away))
            first = numbers[int(ages.argmin())]
            asked.append(conditions(entries[first]))
    return changes, asked


def age_of(entry: Entry) -> float:
    """Age at a visit in years.

    Raises
    ------
    EngineError
        If no table tells it.
    """
    try:
        return float(dict(entry.row)["age"])
    except (KeyError, ValueError) as error:
        raise EngineError(
            f"The age of {entry.subject} at {entry.session or 'the scan'} is not told. "
            "Add a column age to its sessions.tsv."
        ) from error


def _ridge(x: Floats, y: Floats) -> Floats:
    """Intercept and slopes (1 + n, E) of y (N, E) on x (N, n), one penalty for all."""
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(PENALTIES * len(x)).fit(x, y)
    return np.vstack([model.intercept_, model.coef_.T])

"""What can be read out of the codes: LDAE's Table 7.

The probes of a checkpoint's directions were fitted on training subjects; here they
meet held-out ones. Beside them stands what the true volumes themselves would say, the
ceiling of any code that knows nothing but volumes, where the tables tell them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainer.evaluate.table import Row, Table
from trainer.linear import FOLDS, logistic, ridge
from trainer.stages.directions import people_of, values_of

if TYPE_CHECKING:
    from napari_brainldm.engine.checkpoint import Checkpoint
    from trainer.config import Target

Floats = NDArray[np.float64]
Told = Mapping[str, str]

VOLUMES = ("ventricles_ml", "brain_ml", "hippocampus_ml", "icv_ml")
PAPER: dict[str, dict[str, float]] = {
    "AD": {
        "accuracy": 0.8365,
        "precision": 0.8469,
        "recall": 0.9102,
        "F1": 0.8774,
        "MCC": 0.6369,
        "ROC-AUC": 0.8948,
    },
    "age": {"MAE": 4.16, "RMSE": 5.23},
}
"""Lozupone 2025 on ADNI, Table 7, by the name of the target: not these data."""


def read(checkpoint: Checkpoint, name: str, codes: Floats) -> Floats:
    """What the probe of direction `name` says of codes (N, E): log odds, or a value."""
    tensors = checkpoint.tensors
    place = f"direction.{checkpoint.card.direction(name).name}"
    mean, std, weight, bias = (
        tensors[key].double().numpy()
        for key in ("semantic.mean", "semantic.std", f"{place}.weight", f"{place}.bias")
    )
    values: Floats = (codes - mean) / std @ weight + bias
    return values


def can_read(checkpoint: Checkpoint, name: str) -> bool:
    """Whether `checkpoint` has codes and a probe `name` of them."""
    card = checkpoint.card
    return card.encoder is not None and name in {d.name for d in card.directions}


def measurable(target: Target, truth: Floats) -> bool:
    """Whether known values (n,) are enough for the columns: both classes, or two."""
    return len(truth) > 1 and (not target.positive or len(set(truth.tolist())) == 2)


def classified(odds: Floats, truth: Floats) -> dict[str, float]:
    """The columns of the paper's table for log odds (N,) of a class."""
    from sklearn import metrics

    said = odds > 0
    return {
        "accuracy": float(metrics.accuracy_score(truth, said)),
        "precision": float(metrics.precision_score(truth, said, zero_division=0)),
        "recall": float(metrics.recall_score(truth, said)),
        "F1": float(metrics.f1_score(truth, said)),
        "MCC": float(metrics.matthews_corrcoef(truth, said)),
        "ROC-AUC": float(metrics.roc_auc_score(truth, odds)),
    }


def regressed(said: Floats, truth: Floats) -> dict[str, float]:
    """MAE and RMSE of values (N,)."""
    error = said - truth
    return {
        "MAE": float(np.abs(error).mean()),
        "RMSE": float(np.sqrt(np.mean(error**2))),
    }


def from_volumes(
    target: Target, train: Sequence[Told], held_out: Sequence[Told]
) -> Floats | None:
    """What true volumes say of every held-out scan (N,): log odds, or a value.

    By logistic or ridge regression on the training scans whose volumes are known.
    None where a held-out scan has no volumes, or too few training people have.
    """
    unseen, known = _volumes(held_out), _volumes(train)
    with_volumes = np.asarray(np.isfinite(known).all(1))
    rows = [row for row, kept in zip(train, with_volumes.tolist(), strict=True) if kept]
    told, values = values_of(target, rows)
    x, people = known[with_volumes][told], people_of(rows)[told]
    sides = [people[values == c] for c in (0, 1)] if target.positive else [people]
    fewest = min(len(set(side.tolist())) for side in sides)
    if fewest < FOLDS or not np.isfinite(unseen).all():
        return None
    mean, std = x.mean(0), x.std(0) + 1e-12
    x, unseen = (x - mean) / std, (unseen - mean) / std
    if target.positive:
        odds: Floats = logistic(x, values, people).decision_function(unseen)
        return odds
    said: Floats = ridge(x, values, people).predict(unseen)
    return said


def table(
    target: Target,
    said: Mapping[str, Floats],
    truth: Floats,
    train: Sequence[Told],
    held_out: Sequence[Told],
) -> Table:
    """What each encoder says of held-out scans (n,) against the truth (n,).

    With true volumes and the paper's row, where there are such.
    """
    people = len(set(people_of(held_out).tolist()))
    note = f"{len(held_out)} held-out scans of {people} people."
    volumes = from_volumes(target, train, held_out)
    if volumes is None:
        note += f" No row of true volumes: {', '.join(VOLUMES)} are not told of all."
    else:
        said = {**said, "true volumes": volumes}
    measure = classified if target.positive else regressed
    rows: list[Row] = [{"encoder": k, **measure(v, truth)} for k, v in said.items()]
    paper = PAPER.get(target.name, {})
    if {"encoder", *paper} == set(rows[0]):
        rows.append({"encoder": "the paper, on ADNI", **paper})
    title = f"Linear probe: {target.title}"
    return Table(f"probe-{target.name}", title, tuple(rows), note)


def _volumes(rows: Sequence[Told]) -> Floats:
    """Log volumes (N, 4); not a number where a table tells none."""
    return np.array([[_log(row.get(v, "")) for v in VOLUMES] for row in rows]).reshape(
        len(rows), len(VOLUMES)
    )


def _log(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return math.log(number) if number > 0 else math.nan

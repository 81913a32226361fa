"""What can be read out of the codes: LDAE's Table 7.

The probes of a checkpoint's directions were fitted on training subjects; here they
meet held-out ones. Beside them stands what the true volumes themselves would say, the
ceiling of any code that knows nothing but volumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.request import EngineError
from trainer.linear import logistic, ridge

if TYPE_CHECKING:
    from napari_brainldm.engine.checkpoint import Checkpoint

Floats = NDArray[np.float64]
Told = Mapping[str, str]

VOLUMES = ("ventricles_ml", "brain_ml", "hippocampus_ml", "icv_ml")
PAPER = {"ROC-AUC": 0.8948, "accuracy": 0.8365, "MAE": 4.16, "RMSE": 5.23}
"""Lozupone 2025 on ADNI, Table 7: not these data."""


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


def diagnosed(rows: Sequence[Told], positive: str, negative: str) -> tuple[Any, Floats]:
    """Which rows (N,) bool are of one of two diagnoses, and theirs as 1 and 0."""
    told = np.array([row.get("diagnosis", "") for row in rows])
    return np.isin(told, (positive, negative)), (told == positive).astype(float)


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


def volumes_odds(
    train: Sequence[Told], held_out: Sequence[Told], positive: str, negative: str
) -> Floats:
    """Log odds (N,) of held-out people, by logistic regression on true volumes."""
    kept, truth = diagnosed(train, positive, negative)
    x, unseen = _volumes(train, held_out)
    odds: Floats = logistic(x[kept], truth[kept]).decision_function(unseen)
    return odds


def volumes_age(train: Sequence[Told], held_out: Sequence[Told]) -> Floats:
    """Ages (N,) of held-out people, by ridge regression on true volumes."""
    x, unseen = _volumes(train, held_out)
    years: Floats = ridge(x, ages(train)).predict(unseen)
    return years


def ages(rows: Sequence[Told]) -> Floats:
    """Years (N,)."""
    return np.array([float(row["age"]) for row in rows])


def _volumes(train: Sequence[Told], held_out: Sequence[Told]) -> tuple[Floats, Floats]:
    """Log volumes (N, 4) of both sides, normalised by the training people."""
    missing = [name for name in VOLUMES if train and name not in train[0]]
    if missing:
        raise EngineError(
            f"The participants' table has no column {missing[0]}, so true volumes "
            "cannot stand beside the codes. Add the measured volumes in ml."
        )
    x, unseen = (
        np.log([[float(row[name]) for name in VOLUMES] for row in side])
        for side in (train, held_out)
    )
    mean, std = x.mean(0), x.std(0)
    return (x - mean) / std, (unseen - mean) / std

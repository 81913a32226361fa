"""Linear models whose penalty is chosen on the training data alone.

Where people are given and some were scanned more than once, the folds by which it is
chosen keep each of them on one side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.request import EngineError

Floats = NDArray[np.float64]
People = NDArray[np.int64]
"""(N,), the number of the person of each scan."""

FOLDS = 5
PENALTIES = np.logspace(-4, 4, 17)
"""Of the ridge, and the inverse of the logistic regression's."""


def logistic(x: Floats, y: Floats, people: People | None = None) -> Any:
    """Logistic regression of classes (N,) 0 and 1 on (N, D), penalty by 5 folds.

    Of each class there have to be scans of five people or more. Where people come back
    there are fewer folds if one of five would lack a class.

    Raises
    ------
    EngineError
        If even two parts of the people cannot both hold both classes.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

    folds: Any = FOLDS
    if people is not None and _come_back(people):
        for count in range(FOLDS, 1, -1):
            folds = list(StratifiedGroupKFold(count).split(x, y, people))
            if all(len(set(y[part].tolist())) == 2 for fold in folds for part in fold):
                break
        else:
            raise EngineError(
                "The people cannot be dealt into two parts that hold both classes, for "
                "too many of them were seen in either. Add people who stay in one."
            )
    model = GridSearchCV(
        LogisticRegression(solver="newton-cholesky", max_iter=200),
        {"C": 1 / PENALTIES},
        scoring="roc_auc",
        cv=folds,
    )
    return model.fit(x, y).best_estimator_


def ridge(x: Floats, y: Floats, people: People | None = None) -> Any:
    """Ridge regression of values (N,) on (N, D), penalty by leave-one-out.

    Where people come back, by 5 folds of them.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold

    penalties = PENALTIES * len(y)
    if people is None or not _come_back(people):
        return RidgeCV(penalties).fit(x, y)
    folds = list(GroupKFold(min(FOLDS, len(set(people.tolist())))).split(x, y, people))
    return RidgeCV(penalties, cv=folds, scoring="neg_mean_squared_error").fit(x, y)


def _come_back(people: People) -> bool:
    return len(set(people.tolist())) < len(people)

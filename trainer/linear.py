"""Linear models whose penalty is chosen on the training data alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PENALTIES = np.logspace(-4, 4, 17)
"""Of the ridge, and the inverse of the logistic regression's."""


def logistic(x: Floats, y: Floats) -> Any:
    """Logistic regression of classes (N,) 0 and 1 on (N, D), penalty by 5 folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    model = GridSearchCV(
        LogisticRegression(max_iter=2000), {"C": 1 / PENALTIES}, scoring="roc_auc", cv=5
    )
    return model.fit(x, y).best_estimator_


def ridge(x: Floats, y: Floats) -> Any:
    """Ridge regression of values (N,) on (N, D), penalty by leave-one-out."""
    from sklearn.linear_model import RidgeCV

    return RidgeCV(PENALTIES * len(y)).fit(x, y)

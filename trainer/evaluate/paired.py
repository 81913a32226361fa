"""One method against another over the same people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.inference import interval

Floats = NDArray[np.float64]


def paired(difference: Floats) -> dict[str, float]:
    """Mean of differences (N,), one of each person, and how surely they are above 0.

    The p-value is that of Wilcoxon's signed-rank test, one-sided; 1 if nobody differs.
    """
    from scipy.stats import wilcoxon

    if not difference.any():
        return {"difference": 0.0, "p": 1.0}
    test = wilcoxon(difference, alternative="greater")
    return {"difference": float(difference.mean()), "p": float(test.pvalue)}


def ends(values: Floats) -> tuple[float, float]:
    """Both ends of the 95 % interval, by t, of the mean of values (N,) of people."""
    low, high = interval(values[:, None])
    return float(low[0]), float(high[0])

"""Are samples copies of training scans? Distances to the nearest, seen and unseen.

A model that has learnt the distribution makes pictures that are as far from the scans
it was trained on as from scans it never saw; copies are nearer to the former.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """Mean nearest distance to training over that to held-out scans.

    From `low` to `high` lie 95 % of single draws; `value` is their median, in which the
    drawing of scans cancels out, so its own interval is narrower: that 1 lies within
    is no proof that nothing is copied. `copies` asks that of every picture.
    """

    value: float
    low: float
    high: float

    @property
    def holds_one(self) -> bool:
        """Whether 1 lies within the interval: no sign of copies."""
        return self.low <= 1.0 <= self.high


def nearest_ratio(training: Floats, held_out: Floats, seed: int = 0) -> Ratio:
    """Ratio of mean nearest distances, drawn again over samples and over scans.

    Parameters
    ----------
    training, held_out
        Distances (N, M) and (N, K) of the same samples. Both sides are drawn down to
        the smaller number of scans: among more scans the nearest is nearer by chance.
    """
    rng = np.random.default_rng(seed)
    size = min(training.shape[1], held_out.shape[1])
    found = [_drawn(training, held_out, size, rng) for _ in range(DRAWS)]
    low, middle, high = np.percentile(found, (2.5, 50, 97.5))
    return Ratio(float(middle), float(low), float(high))


def _drawn(
    training: Floats, held_out: Floats, size: int, rng: np.random.Generator
) -> float:
    rows = rng.integers(len(training), size=len(training))
    means = []
    for table in (training, held_out):
        # without repeats: a scan drawn twice would count as none
        columns = rng.permutation(table.shape[1])[: max(1, int(0.8 * size))]
        means.append(table[np.ix_(rows, columns)].min(1).mean())
    return float(means[0] / means[1])

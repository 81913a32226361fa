"""QUEST+ (Watson 2017): the level that tells most about pse, sigma and lapse."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from napari_brainldm.review.statistics.interval import Floats
from napari_brainldm.review.statistics.psychometric import chance

LAPSES = np.array([0.0, 0.02, 0.06])
STEPS = 30
"""Levels are told apart to this part of the widest one."""


@dataclass(frozen=True, eq=False)
class Quest:
    """What is believed of a reader's psychometric curve.

    Attributes
    ----------
    levels
        (L,) rising, around which there are stimuli.
    grid
        (3, G), pse, sigma and lapse of each grid point.
    tables
        Chance of either answer at each level and grid point, each (L, G), and these
        times their logarithms.
    weights
        (G,), belief in each grid point, summing to 1.
    """

    levels: Floats
    grid: Floats
    tables: tuple[tuple[Floats, Floats], ...]
    weights: Floats

    @classmethod
    def over(cls, levels: Floats) -> Quest:
        """Even belief over what trials at `levels` (N,) can tell apart."""
        widest = float(np.abs(levels).max())
        rounded = np.unique(np.rint(levels / widest * STEPS)) * widest / STEPS
        pse = np.linspace(-widest / 2, widest / 2, 15)
        sigma = np.geomspace(widest / 30, widest * 3, 25)
        axes = np.meshgrid(pse, sigma, LAPSES, indexing="ij")
        grid = np.stack([axis.ravel() for axis in axes])
        greater = chance(rounded[:, None], *grid[:, None, :])
        tables = tuple((p, _times_log(p)) for p in (greater, 1 - greater))
        count = grid.shape[1]
        return cls(rounded, grid, tables, np.full(count, 1 / count))

    def next_level(self) -> float:
        """The level after whose answer least is expected to be uncertain."""
        known = _times_log(self.weights)
        left = np.zeros(len(self.levels))
        for p, p_log_p in self.tables:
            total = p @ self.weights
            left += _times_log(total) - p_log_p @ self.weights - p @ known
        return float(self.levels[int(left.argmin())])

    @property
    def reach(self) -> float:
        """How far from a level a stimulus may lie to stand for it."""
        return float(np.abs(self.levels).max()) / STEPS / 2

    def after(self, level: float, greater: bool) -> Quest:
        """What is believed after an answer at `level`."""
        likelihood = chance(level, *self.grid)
        weights = self.weights * (likelihood if greater else 1 - likelihood)
        return replace(self, weights=weights / weights.sum())


def _times_log(p: Floats) -> Floats:
    """Each p times ln p, 0 at 0."""
    return np.asarray(p * np.log(np.maximum(p, 1e-300)), np.float64)

"""Whether groups differ in generated maps where they differ in real ones.

Neighbouring voxels are alike, so two unrelated smooth maps correlate by chance far more
than their number of voxels says. The correlation is therefore held against surrogates
of the generated map that have its power spectrum and random phases (Theiler 1992,
https://doi.org/10.1016/0167-2789(92)90102-S), which keeps how smooth it is. Maps whose
waves are as long as a third of the brain pass for alike in 11 % of unrelated pairs
where 5 % were meant; finer ones keep to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from trainer.data.bids import MISSING

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array

SURROGATES = 1000
LEAST = 2
"""People of a group from which it has a mean to compare."""


@dataclass(frozen=True)
class Agreement:
    """Of two maps: Pearson's `r`, two-sided `p`, |r| that 95 % of surrogates reach."""

    r: float
    p: float
    chance: float


def two_groups(names: Sequence[str]) -> tuple[str, str] | None:
    """The two groups of `names`, one a person; None unless two have enough people."""
    counts = Counter(name for name in names if name not in MISSING)
    if len(counts) != 2 or min(counts.values()) < LEAST:
        return None
    first, second = sorted(counts)
    return first, second


def of_people(maps: Array, subjects: Sequence[str]) -> Array:
    """The mean of each person's maps (N, i, j, k), by first appearance."""
    known = np.asarray(subjects)
    people = dict.fromkeys(subjects)
    return np.stack([maps[known == person].mean(0) for person in people])


def difference(maps: Array, names: Sequence[str], groups: tuple[str, str]) -> Array:
    """Mean of the second group's maps (N, i, j, k) less the first's: (i, j, k)."""
    known = np.asarray(names)
    first, second = (maps[known == group].mean(0) for group in groups)
    return np.asarray(second - first, np.float32)


def halves_alike(
    maps: Array, names: Sequence[str], groups: tuple[str, str], mask: NDArray[np.bool_]
) -> float | None:
    """Pearson's r of the groups' difference in two halves of each group's people.

    Of maps with one a person (`of_people`): the halves are every other person's. None
    where a group has under two people a half.
    """
    known = np.asarray(names)
    half = np.zeros(len(known), int)
    for group in groups:
        here = np.flatnonzero(known == group)
        if len(here) < 2 * LEAST:
            return None
        half[here[1::2]] = 1
    first, second = (
        difference(maps[half == part], known[half == part], groups)[mask]
        for part in (0, 1)
    )
    return float(np.corrcoef(first, second)[0, 1])


def agreement(
    made: Array, real: Array, mask: NDArray[np.bool_], seed: int = 0
) -> Agreement:
    """How alike two maps (i, j, k) are within `mask`, against surrogates of `made`."""
    away = np.where(mask, made - made[mask].mean(), 0.0)
    known = real[mask]
    r = float(np.corrcoef(made[mask], known)[0, 1])
    rng = np.random.default_rng(seed)
    size = np.abs(fft.rfftn(away))
    found = np.empty(SURROGATES)
    for number in range(SURROGATES):
        noise = fft.rfftn(rng.standard_normal(away.shape))
        one = fft.irfftn(size * noise / np.abs(noise), s=away.shape)
        found[number] = abs(np.corrcoef(one[mask], known)[0, 1])
    p = (1 + int((found >= abs(r)).sum())) / (SURROGATES + 1)
    return Agreement(r, p, float(np.percentile(found, 95)))

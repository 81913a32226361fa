"""Statistics of paired differences: one value per subject and region, or voxel.

The unit of inference is the subject. Differences are symmetric about 0 under the null,
so signs of whole subjects are flipped (Winkler 2014,
https://doi.org/10.1016/j.neuroimage.2014.01.060); the largest |t| of each flip controls
the family-wise error (Nichols & Holmes 2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.request import EngineError

Floats = NDArray[np.float64]

FLIPS = 5000
LEVEL = 0.95
LEAST_SUBJECTS = 2
NULL_MEANS = 200
TINY = 1e-12
"""Spread below which differences are the same for everybody, to rounding."""


@dataclass(frozen=True, eq=False)
class Tested:
    """What a sign-flip test says of each of R regions or voxels.

    Attributes
    ----------
    t
        Of the mean difference, two-sided.
    p
        Uncorrected, by flips.
    p_fwe
        Corrected over all R by the largest |t|.
    q
        Benjamini and Hochberg's false discovery rate of `p`.
    """

    t: Floats
    p: Floats
    p_fwe: Floats
    q: Floats


def paired_t(differences: Floats) -> Floats:
    """Student's t (R,) of differences (N, R) against 0; 0 where all are the same 0."""
    _check(differences)
    found: Floats = dz(differences) * np.sqrt(len(differences))
    return found


def dz(differences: Floats) -> Floats:
    """Cohen's d of pairs (R,): the mean of differences (N, R) in units of their SD."""
    _check(differences)
    mean, sd = differences.mean(0), differences.std(0, ddof=1)
    found: Floats = np.divide(mean, sd, out=np.zeros_like(mean), where=sd > TINY)
    return found


def hedges(effects: Floats, subjects: int) -> Floats:
    """`effects` without their small-sample bias (Hedges 1981)."""
    freedom = subjects - 1
    found: Floats = effects * (1 - 3 / (4 * freedom - 1))
    return found


def interval(differences: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Confidence interval (R,), (R,) of the mean of differences (N, R), by t."""
    from scipy.stats import t as student

    _check(differences)
    count = len(differences)
    half = student.ppf((1 + level) / 2, count - 1)
    half = half * differences.std(0, ddof=1) / np.sqrt(count)
    mean = differences.mean(0)
    return mean - half, mean + half


def sign_consistency(differences: Floats) -> Floats:
    """Share (R,) of subjects whose difference has the sign of the mean."""
    same = np.sign(differences) == np.sign(differences.mean(0))
    return np.asarray(same.mean(0), np.float64)


def sign_flip_test(differences: Floats, flips: int = FLIPS, seed: int = 0) -> Tested:
    """Two-sided test of differences (N, R) by `flips` random flips of subjects' signs.

    The unflipped data count as one of them, so no p is below 1 / (flips + 1).

    Raises
    ------
    EngineError
        If there are fewer than 2 subjects: one alone never gets a p-value.
    """
    observed = paired_t(differences)
    # computed as the flipped ones are: the flip of nobody, or of all, must tie with it
    size = np.abs(flipped_t(differences, np.ones(len(differences)))) - TINY
    rng = np.random.default_rng(seed)
    beyond = np.ones(len(observed))
    largest_beyond = np.ones(len(observed))
    for _ in range(flips):
        signs = rng.choice((-1.0, 1.0), len(differences))
        t = np.abs(flipped_t(differences, signs))
        beyond += t >= size
        largest_beyond += t.max() >= size
    p, p_fwe = beyond / (flips + 1), largest_beyond / (flips + 1)
    return Tested(observed, p, p_fwe, false_discovery(p))


def flipped_t(differences: Floats, signs: Floats) -> Floats:
    """As `paired_t` after `signs` (N,) flipped subjects, whose squares stay."""
    count = len(differences)
    mean = signs @ differences / count
    squares = np.square(differences).sum(0)
    variance = np.maximum(squares - count * mean**2, 0) / (count - 1)
    error = np.sqrt(variance / count)
    found: Floats = np.divide(mean, error, out=np.zeros_like(mean), where=error > TINY)
    return found


def null_weights(pairs: int, people: int, seed: int = 0) -> Floats:
    """Weights (K, `pairs`) that make of null pairs what a mean of `people` is like.

    A mean of many people is smaller by chance alone than one pair's difference, so it
    is held against means of as many null pairs: drawn with replacement, each with a
    random sign, for either of two random vectors could have come first. For one person
    the pairs themselves are the null.
    """
    if people <= 1 or pairs == 0:
        return np.eye(pairs)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(pairs, size=(NULL_MEANS, people))
    signs = rng.choice((-1.0, 1.0), (NULL_MEANS, people)) / people
    found = np.zeros((NULL_MEANS, pairs))
    np.add.at(found, (np.arange(NULL_MEANS)[:, None], drawn), signs)
    return found


def false_discovery(p: Floats) -> Floats:
    """Benjamini and Hochberg's adjusted p-values (R,)."""
    order = np.argsort(p)
    ranks = np.arange(1, len(p) + 1)
    scaled = p[order] * len(p) / ranks
    least = np.minimum.accumulate(scaled[::-1])[::-1]
    found = np.empty_like(p)
    found[order] = np.minimum(least, 1)
    return found


def _check(differences: Floats) -> None:
    if len(differences) < LEAST_SUBJECTS:
        raise EngineError(
            f"{len(differences)} subject has no spread between subjects, so nothing "
            "can be said of a population. Load a table of several subjects."
        )

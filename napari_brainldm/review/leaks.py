"""Whether files give the class away: a classifier that sees no brain.

It is given what a program, a folder listing or a glance at the frame could tell: sizes,
times, names, ranges, rounding and what lies outside the mask. If that tells real from
synthetic, readers' answers would mean nothing.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.review.statistics.detection import auc, auc_interval
from napari_brainldm.review.statistics.interval import Floats, Interval

if TYPE_CHECKING:
    from napari_brainldm.engine.placement import Mask

LIMIT = 0.6
"""AUC above which files tell classes apart, if its interval lies above 0.5."""

ENOUGH = 100
"""Stimuli of each class for a verdict; with fewer a finding is a warning."""

FEW = 20
"""Stimuli of each class below which an audit tells nothing.

With fewer, a fold holds out three of a class at most, an AUC has no honest interval,
and one oddity among them looks like a leak.
"""

CHANCE, SHUFFLES = 0.01, 99
"""A finding that one of so many shuffles of the arms gives as well is chance.

Scores of a cross-validation hang together, so that their interval is too narrow: alone
it would call three of a hundred clean studies leaky (measured on simulated ones).
"""

FOLDS, REPEATS = 5, 3
"""Of the cross-validation; loads of a file, too, are the quickest of `REPEATS`."""


@dataclass(frozen=True)
class Finding:
    """What the audit of two arms found.

    Attributes
    ----------
    arms
        Names of the two.
    counts
        Stimuli of each.
    area
        AUC of the classifier on stimuli it was not fitted to.
    telling
        The features that differ most, best first.
    chance
        Share of shuffles that give such an AUC as well; 1 where it was not asked.
    """

    arms: tuple[str, str]
    counts: tuple[int, int]
    area: Interval
    telling: tuple[str, ...]
    chance: float

    @property
    def tells_nothing(self) -> bool:
        """Whether there are too few stimuli for any verdict."""
        return min(self.counts) < FEW

    @property
    def leaks(self) -> bool:
        """Whether the files tell the two apart."""
        surely = _stands_out(self.area) and self.chance <= CHANCE
        return surely and not self.tells_nothing

    @property
    def refuses(self) -> bool:
        """Whether it leaks and there is enough to be sure of it."""
        return self.leaks and min(self.counts) >= ENOUGH

    def sentence(self) -> str:
        """For the owner of the study."""
        one, other = (f"{n} {a}" for n, a in zip(self.counts, self.arms, strict=True))
        if self.tells_nothing:
            return (
                f"{one} and {other} stimuli are so few that the leak audit tells "
                "nothing: whether files give the arms away was not checked. From "
                f"{FEW} of each on it warns, from {ENOUGH} on it refuses a leaky study."
            )
        area = self.area
        told = (
            f"Without looking at the brain, {one} and {other} stimuli are told apart "
            f"with an AUC of {area.estimate:.2f} ({area.low:.2f} to {area.high:.2f})"
        )
        if not self.leaks:
            return f"{told}: no leak found."
        return f"{told}, by {', '.join(self.telling)}: a leak."


def features(
    folder: Path, tokens: Sequence[str], mask: Mask
) -> tuple[Floats, list[str]]:
    """One row of header and summary figures for each stimulus, and their names.

    Parameters
    ----------
    folder
        Of the `.npz` files.
    mask
        bool (i, j, k): what lies inside is left to readers.
    """
    rows = [_of_file(folder / f"{token}.npz", mask) for token in tokens]
    by_name = [
        row | {"name": int(token[:8], 16) / 2**32}
        for token, row in zip(tokens, rows, strict=True)
    ]
    names = list(by_name[0])
    return np.array([[row[n] for n in names] for row in by_name]), names


def _of_file(path: Path, mask: Mask) -> dict[str, float]:
    stat = path.stat()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        with np.load(path, allow_pickle=False) as arrays:
            names = sorted(arrays.files)
            data = arrays[names[0]]
        seconds.append(time.perf_counter() - start)
    with zipfile.ZipFile(path) as archive:
        dates = sum(sum(info.date_time) for info in archive.infolist())
    return {
        "file size": float(stat.st_size),
        "file time": float(stat.st_mtime),
        "dates in the file": float(dates),
        "arrays in the file": float(len(names)),
        "load time": float(np.log(min(seconds))),
        "bytes per voxel": float(data.dtype.itemsize),
        **{
            f"shape {axis}": float(n) for axis, n in zip("ijk", data.shape, strict=True)
        },
        **_of_values(np.asarray(data, np.float64), mask),
    }


def _of_values(data: Floats, mask: Mask) -> dict[str, float]:
    """Range and rounding of all values, and histograms of those outside the mask."""
    inside = data[mask] if mask.shape == data.shape else data.ravel()
    outside = data[~mask] if mask.shape == data.shape else data.ravel()[:0]
    shown = inside[inside > 0]
    distinct = len(np.unique(shown)) if len(shown) else 1
    around = np.where(mask, 0, data) if mask.shape == data.shape else data
    faces = [around.take(end, axis) for axis in range(3) for end in (0, -1)]
    bins = np.histogram(outside, [-np.inf, 0, 1, 4, 16, 64, 256, np.inf])[0]
    return {
        "least value": float(data.min()),
        "greatest value": float(data.max()),
        "least value shown": float(shown.min()) if len(shown) else 0.0,
        "zeros outside the mask": float((outside == 0).sum()),
        "distinct values": float(np.rint(np.log2(distinct))),
        "even values": float(np.mean(shown % 2 == 0)) if len(shown) else 0.0,
        "whole numbers": float((data == np.rint(data)).all()),
        "brightness of the faces": float(np.mean([face.mean() for face in faces])),
        **{f"outside, bin {i}": float(n) for i, n in enumerate(bins)},
    }


def audit(
    rows: Floats, names: Sequence[str], arms: NDArray[np.str_], seed: int = 0
) -> list[Finding]:
    """Real against every other arm, on features (N, F) of stimuli of `arms` (N,)."""
    others = sorted(set(arms.tolist()) - {"real"}) if "real" in arms else []
    return [_of_two(rows, names, arms, other, seed) for other in others]


def _of_two(
    rows: Floats, names: Sequence[str], arms: NDArray[np.str_], other: str, seed: int
) -> Finding:
    real, made = (np.flatnonzero(arms == arm) for arm in ("real", other))
    which = np.concatenate([real, made])
    signal = arms[which] == other
    scores = sum(_scores(rows[which], signal, seed + r, 100) for r in range(REPEATS))
    area = auc_interval(*_of_classes(np.asarray(scores), signal))
    telling = _telling(rows[which], names, signal)
    asked = _stands_out(area) and min(len(real), len(made)) >= FEW
    chance = _chance(rows[which], signal, area.estimate) if asked else 1.0
    return Finding(("real", other), (len(real), len(made)), area, telling, chance)


def _stands_out(area: Interval) -> bool:
    return area.estimate > LIMIT and area.low > 0.5


def _of_classes(scores: Floats, signal: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    return scores[signal], scores[~signal]


def _chance(rows: Floats, signal: NDArray[np.bool_], found: float) -> float:
    """Share of shuffled arms, the true ones counted in, told apart at least as well."""
    rng = np.random.default_rng(len(rows))
    as_well = 1
    for shuffle in range(SHUFFLES):
        shuffled = rng.permutation(signal)
        scores = _scores(rows, shuffled, shuffle, 25)
        as_well += auc(*_of_classes(scores, shuffled)) >= found
        if as_well > CHANCE * (SHUFFLES + 1):
            break
    return as_well / (SHUFFLES + 1)


def _scores(rows: Floats, signal: NDArray[np.bool_], seed: int, trees: int) -> Floats:
    """What a forest says of each stimulus when it was fitted to others: (N,)."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedKFold

    folds = min(FOLDS, int(signal.sum()), int((~signal).sum()))
    scores = np.full(len(rows), np.nan)
    if folds < 2:
        return scores
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for fitted, held in splits.split(rows, signal):
        forest: Any = ExtraTreesClassifier(trees, min_samples_leaf=3, random_state=seed)
        forest.fit(rows[fitted], signal[fitted])
        scores[held] = forest.predict_proba(rows[held])[:, 1]
    return scores


def _telling(
    rows: Floats, names: Sequence[str], signal: NDArray[np.bool_]
) -> tuple[str, ...]:
    areas = {
        name: abs(auc(column[signal], column[~signal]) - 0.5)
        for name, column in zip(names, rows.T, strict=True)
    }
    return tuple(sorted(areas, key=lambda name: -areas[name])[:3])


def sentences(findings: Sequence[Finding]) -> Mapping[str, list[str]]:
    """Sentences of an audit by what they are: "refused", "warned", "passed"."""
    told: dict[str, list[str]] = {"refused": [], "warned": [], "passed": []}
    for finding in findings:
        warned = finding.leaks or finding.tells_nothing
        kind = "refused" if finding.refuses else "warned" if warned else "passed"
        told[kind].append(finding.sentence())
    return told

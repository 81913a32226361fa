"""Ask whether a reader study gives back what its readers are, and keeps what they say.

    python -m benchmarks.review [--quick] [--json] [--seed S]

Simulated readers with a known d', JND, Weber fraction, slope of Weber's law and
Stevens' exponent: how far the estimates are off on average (`_bias`, relative), and how
often the 95 % intervals hold the truth (`_coverage`; `_off` is its distance from 0.95).
A reader is killed (SIGKILL) in the middle of a study, again and again; every row of a
record is edited, deleted, doubled and swapped; leaks are planted in the files of one
arm. From Space to the next picture: the real dock in a real window (under Xvfb where
there is no display) at full size; nothing else should run meanwhile. No person was
measured here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.report import AT_LEAST, AT_MOST, Limit, finish, options
from benchmarks.review_latency import latency
from benchmarks.review_study import (
    PLANTED,
    Hurried,
    at_work,
    audited,
    bare_items,
    bare_study,
    killed,
    tampered,
)
from napari_brainldm.review.adaptive import Quest
from napari_brainldm.review.protocols import protocol
from napari_brainldm.review.session import Clock, Session
from napari_brainldm.review.statistics.bootstrap import mean_auc, two_way
from napari_brainldm.review.statistics.detection import sensitivity
from napari_brainldm.review.statistics.interval import (
    Floats,
    Interval,
    percentile_interval,
    phi,
)
from napari_brainldm.review.statistics.magnitude import power
from napari_brainldm.review.statistics.psychometric import (
    JND_PER_SIGMA,
    Fit,
    chance,
    fit,
    weber_fraction,
    weber_slope,
)
from napari_brainldm.review.study import read_study

D_PRIME, CRITERION, CASES = 1.0, 0.2, 75
PSE, JND, LAPSE = 0.03, 0.12, 0.02
TRIALS = 80
"""At each of three standards."""

STANDARDS = np.array([15.0, 30.0, 60.0])
"""ml."""

EXPONENT, SCATTER = 0.7, 0.2
"""Of magnitude estimates; SD of their logarithm."""

ESTIMATED = ("d_prime", "jnd", "jnd_quest", "weber", "weber_slope", "exponent")
LIMITS = {
    **{f"{name}_bias": Limit(AT_MOST, 0.05) for name in ESTIMATED},
    **{f"{name}_off": Limit(AT_MOST, 0.02) for name in ESTIMATED},
    "lost": Limit(AT_MOST, 0),
    "duplicated": Limit(AT_MOST, 0),
    "faults": Limit(AT_MOST, 0),
    "tampering_missed": Limit(AT_MOST, 0),
    "clean_studies_refused": Limit(AT_MOST, 0),
    "leaks_caught": Limit(AT_LEAST, 10),
    "next_picture_P1_p95_ms": Limit(AT_MOST, 150.0),
    "next_picture_P5_p95_ms": Limit(AT_MOST, 150.0),
}


@dataclass(frozen=True)
class Size:
    """How many runs, kills, stimuli of an arm in an audit, clean audits, pictures."""

    runs: int
    kills: int
    each: int
    clean: int
    pictures: int


FULL, QUICK = Size(1000, 100, 100, 20, 40), Size(20, 3, 100, 1, 12)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 if every figure is within its limit."""
    chosen = options("review", __doc__).parse_args(arguments)
    size = QUICK if chosen.quick else FULL
    return finish(chosen, LIMITS, lambda: figures(size, chosen.seed))


def figures(size: Size, seed: int) -> dict[str, Any]:
    """Waits, bias and coverage, kills, tampering, leaks."""
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {"runs": size.runs}
    with TemporaryDirectory(prefix="brainldm-") as name:
        found |= latency(Path(name), size.pictures, seed)
    found |= _recovered("d_prime", [_d_prime(rng) for _ in range(size.runs)], D_PRIME)
    fits = [_three_standards(rng) for _ in range(size.runs)]
    jnds = [run[0].jnd for run in fits]
    found |= _recovered("jnd", jnds, JND)
    found |= _recovered("weber", list(map(weber_fraction, jnds)), float(np.expm1(JND)))
    slopes = [weber_slope(STANDARDS, run, log=True) for run in fits]
    found |= _recovered("weber_slope", slopes, 1.0)
    found |= _recovered("pse", [run[0].pse for run in fits], PSE)
    found |= _recovered("jnd_quest", [_quest(rng) for _ in range(size.runs)], JND)
    found |= _recovered(
        "exponent", [_exponent(rng) for _ in range(size.runs)], EXPONENT
    )
    found |= _pooled_area(rng, max(size.runs // 5, 5))
    with TemporaryDirectory(prefix="brainldm-") as name:
        found |= _kept(Path(name), size, seed)
        found |= _leaks(Path(name), size, seed)
    return found


def _recovered(name: str, found: Sequence[Interval], truth: float) -> dict[str, float]:
    estimates = np.array([one.estimate for one in found])
    coverage = float(np.mean([one.covers(truth) for one in found]))
    return {
        f"{name}_bias": abs(float(estimates.mean()) / truth - 1),
        f"{name}_median_error": float(np.median(np.abs(estimates / truth - 1))),
        f"{name}_coverage": coverage,
        f"{name}_off": abs(coverage - 0.95),
    }


# -- simulated readers -------------------------------------------------------------


def _d_prime(rng: np.random.Generator) -> Interval:
    """One reader who answers on a latent scale: 75 synthetic, 75 real pictures."""
    cut = D_PRIME / 2 + CRITERION
    hits = int((rng.normal(D_PRIME, 1, CASES) > cut).sum())
    alarms = int((rng.normal(0, 1, CASES) > cut).sum())
    return sensitivity(hits, CASES, alarms, CASES).d


def _answers(levels: Floats, rng: np.random.Generator) -> Floats:
    p = chance(levels, PSE, JND / JND_PER_SIGMA, LAPSE)
    return (rng.random(len(levels)) < p).astype(np.float64)


def _three_standards(rng: np.random.Generator) -> list[Fit]:
    """Constant levels at three standards; the same JND in ln ratio at each."""
    levels = np.repeat(protocol("P3").levels, TRIALS // 8)
    return [fit(levels, _answers(levels, rng)) for _ in STANDARDS]


def _quest(rng: np.random.Generator) -> Interval:
    """Adaptive levels, as a session chooses them."""
    quest = Quest.over(np.linspace(-0.72, 0.72, 73))
    levels, greater = np.empty(TRIALS), np.empty(TRIALS)
    for trial in range(TRIALS):
        levels[trial] = quest.next_level()
        greater[trial] = _answers(levels[trial : trial + 1], rng)[0]
        quest = quest.after(levels[trial], bool(greater[trial]))
    return fit(levels, greater).jnd


def _exponent(rng: np.random.Generator) -> Interval:
    """Eight magnitudes, four times each."""
    sizes = np.tile(np.geomspace(10, 90, 8), 4)
    said = 3 * sizes**EXPONENT * np.exp(rng.normal(0, SCATTER, len(sizes)))
    return power(sizes, said).exponent


CUTS = (-1.0, -0.2, 0.4, 1.0, 1.8)
"""Between the six levels of confidence."""

SKILL, SKILL_SD, CASE_SD, READERS = 0.8, 0.2, 0.5, 6


def _pooled_area(rng: np.random.Generator, runs: int) -> dict[str, float]:
    """Six readers who differ, pictures that differ: how often the interval holds."""
    signal = np.repeat([True, False], CASES)
    ones = np.ones(READERS), np.ones(2 * CASES)
    covered = 0
    for _ in range(runs):
        skill = rng.normal(SKILL, SKILL_SD, (READERS, 1))
        cases = rng.normal(0, CASE_SD, 2 * CASES)
        latent = skill * signal + cases + rng.normal(0, 1, (READERS, 2 * CASES))
        area = mean_auc(np.digitize(latent, CUTS).astype(np.float64), signal)
        draws = two_way(area, READERS, signal.astype(np.int64), 300, rng)
        covered += percentile_interval(area(*ones), draws).covers(_true_area())
    return {"pooled_auc_runs": runs, "pooled_auc_coverage": covered / runs}


def _true_area() -> float:
    """AUC of the six levels, over all readers and pictures there could be."""
    spread = np.sqrt(1 + CASE_SD**2), np.sqrt(1 + CASE_SD**2 + SKILL_SD**2)
    noise, made = (
        np.diff(phi(np.array([-np.inf, *CUTS, np.inf]) / sd - mean / sd))
        for mean, sd in zip((0.0, SKILL), spread, strict=True)
    )
    return float(made @ (np.cumsum(noise) - noise / 2))


# -- what is kept, what leaks ------------------------------------------------------


def _kept(folder: Path, size: Size, seed: int) -> dict[str, Any]:
    long = replace(protocol("P1"), trials=360)
    bare_study(folder / "killed", (long,), bare_items(180), seed=seed)
    found: dict[str, Any] = dict(killed(folder / "killed", size.kills, seed))
    bare_study(folder / "tampered", seed=seed)
    session = Session(folder / "tampered", "R01", Clock(time.time, Hurried()))
    for _ in zip(range(40), at_work(session, lambda s, q: 3), strict=False):
        pass
    session.close()
    path = folder / "tampered" / "records" / "R01.jsonl"
    tries, missed = tampered(path, read_study(folder / "tampered")[1])
    return found | {"tampering_tries": tries, "tampering_missed": len(missed)}


def _leaks(folder: Path, size: Size, seed: int) -> dict[str, Any]:
    clean = [
        audited(folder / f"clean-{n}", size.each, "", seed + n)
        for n in range(size.clean)
    ]
    planted = [
        audited(folder / f"leak-{n}", size.each, leak, seed + n)
        for n, leak in enumerate(PLANTED)
    ]
    return {
        "clean_studies": len(clean),
        "clean_studies_refused": sum(one.refuses for one in clean),
        "clean_auc_greatest": max(one.area.estimate for one in clean),
        "leaks_planted": len(planted),
        "leaks_caught": sum(one.refuses for one in planted),
        "leaks_auc_least": min(one.area.estimate for one in planted),
    }


if __name__ == "__main__":
    sys.exit(main())

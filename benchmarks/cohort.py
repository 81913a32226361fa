"""Ask whether the simulated cohort is what it was asked to be, and made how fast.

    python -m benchmarks.cohort [--quick] [--json] [--subjects N] [--seed S]

Three questions. Do the drawn people follow the published curves (many draws, no
pictures)? Do the pictures hold the volumes that their people were asked to have (a real
cohort at 2 mm, every decade and sex)? How long does a scan take? `--quick` walks the
same road with few people at 4 mm; its figures say nothing about quality.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import AT_MOST, Limit, finish, options
from trainer.data.cohort import VOLUME_COLUMNS, CohortConfig, write_cohort
from trainer.data.population import (
    SEXES,
    PopulationConfig,
    Subject,
    Volumes,
    draw_subject,
    median_volumes,
)

STEERED = ("ventricles_ml", "brain_ml", "hippocampus_ml")
DECADES = range(20, 90, 10)
Ratios = dict[tuple[int, str], list[Volumes]]


@dataclass(frozen=True)
class Size:
    """How much work: people without pictures, people with, voxel edge in mm."""

    drawn: int
    scanned: int
    voxel_mm: float


FULL = Size(drawn=40000, scanned=400, voxel_mm=2.0)
QUICK = Size(drawn=4000, scanned=8, voxel_mm=4.0)
LIMITS = {
    "drawn_worst_error": Limit(AT_MOST, 0.05),
    "realised_worst_error": Limit(AT_MOST, 0.05),
    "icv_median_error": Limit(AT_MOST, 0.05),
    "seconds_per_scan": Limit(AT_MOST, 2.0),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print one JSON object; 0 if all is within limits."""
    parser = options("cohort", __doc__)
    parser.add_argument("--subjects", type=int, default=0, help="people with pictures")
    chosen = parser.parse_args(arguments)
    size = QUICK if chosen.quick else FULL
    if chosen.subjects:
        size = Size(size.drawn, chosen.subjects, size.voxel_mm)
    seed = chosen.seed
    return finish(chosen, LIMITS, lambda: {**drawn(size, seed), **realised(size, seed)})


def drawn(size: Size, seed: int) -> dict[str, float]:
    """Worst error of the median of drawn CN people against the curves, by decade."""
    config = PopulationConfig()
    people = (draw_subject(config, seed, index) for index in range(size.drawn))
    ratios = _by_group((person, person.volumes) for person in people)
    return {"drawn_worst_error": _worst(ratios)}


def realised(size: Size, seed: int) -> dict[str, Any]:
    """Errors of the volumes in the pictures against the people asked for."""
    config = CohortConfig(seed=seed, subjects=size.scanned, voxel_mm=size.voxel_mm)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        for _ in write_cohort(config, folder):
            pass
        seconds = time.perf_counter() - start
        rows = _rows(Path(folder))
    people = [draw_subject(config.population, seed, n) for n in range(size.scanned)]
    errors = {
        name: [
            r[name] / getattr(p.volumes, name)
            for r, p in zip(rows, people, strict=True)
        ]
        for name in VOLUME_COLUMNS
    }
    return {
        **_summary(errors),
        "realised_worst_error": _worst_group(people, errors),
        "icv_median_error": abs(float(np.median(errors["icv_ml"])) - 1),
        "seconds_per_scan": seconds / size.scanned,
        "scans": size.scanned,
    }


def _rows(folder: Path) -> list[dict[str, float]]:
    """Realised volumes in ml of participants.tsv, in order."""
    header, *lines = (folder / "participants.tsv").read_text().splitlines()
    names = header.split("\t")
    rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines]
    return [{name: float(row[name]) for name in VOLUME_COLUMNS} for row in rows]


def _summary(errors: dict[str, list[float]]) -> dict[str, float]:
    """Median and 95th percentile of realised over asked."""
    figures = {}
    for name, ratios in errors.items():
        figures[f"{name}_median_ratio"] = float(np.median(ratios))
        away = np.abs(np.array(ratios) - 1)
        figures[f"{name}_p95_error"] = float(np.percentile(away, 95))
    return figures


def _worst_group(people: Sequence[Subject], errors: dict[str, list[float]]) -> float:
    """Worst median error of decade and sex among the CN, over the steered volumes."""
    worst = 0.0
    for decade in DECADES:
        for sex in SEXES:
            group = [n for n, p in enumerate(people) if _belongs(p, decade, sex)]
            if group:
                medians = [np.median([errors[v][n] for n in group]) for v in STEERED]
                worst = max(worst, *(abs(float(m) - 1) for m in medians))
    return worst


def _belongs(person: Subject, decade: int, sex: str) -> bool:
    inside = decade <= person.age < decade + 10
    return person.diagnosis == "CN" and person.sex == sex and inside


def _by_group(pairs: Iterable[tuple[Subject, Volumes]]) -> Ratios:
    """CN volumes over the curve at the person's age, by decade and sex."""
    ratios: Ratios = {}
    for person, volumes in pairs:
        if person.diagnosis != "CN" or person.age >= DECADES.stop:
            continue
        median = median_volumes(person.age, person.sex)
        key = (int(person.age // 10) * 10, person.sex)
        ratios.setdefault(key, []).append(
            Volumes(*(getattr(volumes, n) / getattr(median, n) for n in VOLUME_COLUMNS))
        )
    return ratios


def _worst(ratios: Ratios) -> float:
    return max(
        abs(float(np.median([getattr(v, name) for v in group])) - 1)
        for group in ratios.values()
        for name in STEERED
    )


if __name__ == "__main__":
    sys.exit(main())

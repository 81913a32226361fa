"""Rubrics: levels, what moves them, faults ticked and faults clicked."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.review.analysis import figures
from napari_brainldm.review.analysis.section import (
    Material,
    Section,
    agreement_table,
    drift_table,
)
from napari_brainldm.review.statistics.detection import wilson
from napari_brainldm.review.statistics.maps import fault_map, rank_correlation
from napari_brainldm.review.statistics.ordinal import proportional_odds

if TYPE_CHECKING:
    from napari_brainldm.review.protocols import Protocol, Question

CLICK_SD_MM = 4.0


def rating(section: Section, p: Protocol, material: Material) -> None:
    """Levels by arm, an ordinal model, agreement, ticks and clicks."""
    bars = {}
    for question in p.questions:
        if question.kind == "choice":
            bars[question.name] = _levels(section, material, question)
            _model(section, material, question)
            agreement_table(section, material, question.name)
        elif question.kind == "ticks":
            _ticks(section, material, question)
        elif question.kind == "point":
            _clicks(section, material, question)
        elif question.kind == "words":
            _words(section, material, question)
    if bars:
        section.drawings.append(figures.bars_figure(bars))
    drift_table(section, material, None)


def _arms(material: Material) -> list[str]:
    return sorted({j.items[0].label for j in material.main})


def _levels(
    section: Section, material: Material, question: Question
) -> dict[str, list[int]]:
    """How often each level was given to each arm."""
    found = {}
    for arm in _arms(material):
        said = Counter(
            j.said(question.name) for j in material.main if j.items[0].label == arm
        )
        found[arm] = [said[level] for level in range(1, len(question.options) + 1)]
    section.table(
        question.text,
        "|".join(["arm", *(o.partition(":")[0] for o in question.options)]),
        [(arm, *counts) for arm, counts in found.items()],
    )
    return found


def _model(section: Section, material: Material, question: Question) -> None:
    """Log odds of a higher level against real pictures, readers allowed to differ."""
    arms = _arms(material)
    if "real" not in arms or len(arms) < 2:
        return
    others, readers = [a for a in arms if a != "real"], material.readers[1:]
    levels = np.array([j.said(question.name) for j in material.main], np.int64)
    design = np.array(
        [
            [float(j.items[0].label == a) for a in others]
            + [float(j.reader == r) for r in readers]
            for j in material.main
        ]
    )
    if len(np.unique(levels)) < 2:
        return
    found = proportional_odds(levels, design)
    section.table(
        f"{question.name}: log odds of a higher level, against real",
        "arm|log odds",
        zip(others, found, strict=False),
    )


def _ticks(section: Section, material: Material, question: Question) -> None:
    rows = []
    for arm in _arms(material):
        own = [j for j in material.main if j.items[0].label == arm]
        shares = (
            wilson(sum(tick in (j.said(question.name) or ()) for j in own), len(own))
            for tick in question.options
        )
        rows.append((arm, *shares))
    section.table("Faults seen", "|".join(["arm", *question.options]), rows)


def _clicks(section: Section, material: Material, question: Question) -> None:
    """Where the worst faults are, over the template."""
    grid = material.study.grid
    maps = {}
    for arm in _arms(material):
        own = [j for j in material.main if j.items[0].label == arm]
        clicks = [j.said(question.name) for j in own if j.said(question.name)]
        if clicks:
            sd = CLICK_SD_MM / min(grid.voxel_size)
            points = np.array(clicks, np.float64)
            maps[f"{arm}, {len(clicks)} clicks"] = fault_map(
                points, grid.shape, sd, len(own)
            )
    if maps:
        section.drawings.append(figures.faults_figure(maps, grid))


def _words(section: Section, material: Material, question: Question) -> None:
    said = [(j.reader, j.items[0].label, j.said(question.name)) for j in material.main]
    kept = [row for row in said if row[2]]
    section.table(question.text, "reader|arm|words", kept)


def against_metrics(section: Section, p: Protocol, material: Material) -> None:
    """Mean answer to the first question against every metric, picture by picture."""
    question = p.questions[0].name
    ratings, tokens = material.ratings(question)
    items = {i.token: i for j in material.main for i in j.items}
    rows, points = [], {}
    for name in sorted({m for i in items.values() for m in i.metrics}):
        known = [k for k, t in enumerate(tokens) if name in items[t].metrics]
        human = np.array([np.nanmean(ratings[k]) for k in known])
        metric = np.array([items[tokens[k]].metrics[name] for k in known])
        if len(known) >= 5:
            rho = rank_correlation(
                human, metric, material.study.rules.draws, material.rng
            )
            rows.append((name, len(known), rho))
            points[name] = (metric, human)
    section.table(
        f"Readers against metrics: mean of {question}",
        "metric|pictures|rank correlation",
        sorted(rows, key=lambda row: -abs(row[2].estimate)),
    )
    if points:
        section.drawings.append(figures.metrics_figure(points, question))

"""Which has more, how much, and which is better."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.review.analysis import figures
from napari_brainldm.review.analysis.section import (
    Material,
    Section,
    drift_table,
    place_table,
)
from napari_brainldm.review.statistics.detection import wilson
from napari_brainldm.review.statistics.interval import Floats, Interval, t_interval
from napari_brainldm.review.statistics.magnitude import power
from napari_brainldm.review.statistics.psychometric import (
    Fit,
    fit,
    pooled,
    weber_fraction,
    weber_slope,
)
from napari_brainldm.review.statistics.ranking import bradley_terry

if TYPE_CHECKING:
    from napari_brainldm.review.joined import Judged
    from napari_brainldm.review.protocols import Protocol

LEAST_TRIALS = 20
"""Below this no curve is fitted."""


def comparison(section: Section, p: Protocol, material: Material) -> None:
    """PSE, JND and Weber fraction of each reader at each standard, and Weber's law."""
    question = p.questions[0].name
    rows, slopes, curves = [], [], {}
    fits: dict[str, list[Fit]] = defaultdict(list)
    sizes: dict[str, list[float]] = defaultdict(list)
    for reader in material.readers:
        own: dict[str, tuple[float, Fit]] = {}
        for standard in p.standards:
            trials = [j for j in material.of(reader) if j.truth.standard == standard]
            if len(trials) < LEAST_TRIALS:
                continue
            levels, greater = _levels(trials, question)
            found, size = fit(levels, greater), _size(p, trials)
            own[standard] = size, found
            fits[standard].append(found)
            sizes[standard].append(size)
            curves[f"{reader}, {standard}"] = (levels, greater, found)
            weber = _weber(p, found.jnd, size)
            rows.append((reader, standard, size, found.pse, found.jnd, weber))
        if len(own) >= 3:
            at, of = zip(*own.values(), strict=True)
            slopes.append((reader, weber_slope(np.array(at), list(of), p.log)))
    unit = "ln ratio" if p.log else p.quantity
    section.table(
        "By reader and standard",
        f"reader|standard|size|PSE ({unit})|JND ({unit})|Weber fraction",
        rows,
    )
    _pooled_jnds(section, p, fits, sizes)
    if slopes:
        whole = t_interval(np.array([s.estimate for _, s in slopes]))
        section.table(
            "Slope of ln JND on ln S (Weber's law: 1)",
            "reader|slope",
            [*slopes, ("mean", whole)],
        )
    if curves:
        section.drawings.append(figures.curves_figure(curves, unit))
    if len(fits) > 1:  # Weber's law is about several sizes
        section.drawings.append(figures.weber_figure(fits, sizes, p.log))
    _strata(section, material, question)
    place_table(section, material, question)
    drift_table(section, material, _right(material, question))


def _weber(p: Protocol, jnd: Interval, size: float) -> Interval:
    """JND as a share of the standard."""
    return weber_fraction(jnd) if p.log else jnd.through(lambda x: x / size)


def _levels(trials: list[Judged], question: str) -> tuple[Floats, Floats]:
    levels = np.array([j.level for j in trials], np.float64)
    return levels, np.array([j.said(question) == 2 for j in trials], np.float64)


def _size(p: Protocol, trials: list[Judged]) -> float:
    """Geometric mean of the quantity in the pictures shown."""
    values = [i.facts[p.quantity] for j in trials for i in j.items]
    return float(np.exp(np.mean(np.log(values))))


def _pooled_jnds(
    section: Section,
    p: Protocol,
    fits: dict[str, list[Fit]],
    sizes: dict[str, list[float]],
) -> None:
    rows = []
    for standard, found in fits.items():
        size = float(np.mean(sizes[standard]))
        jnd = pooled([one.jnd for one in found])
        weber = _weber(p, jnd, size)
        pse = t_interval(np.array([one.pse.estimate for one in found]))
        rows.append((standard, size, len(found), pse, jnd, weber))
    section.table(
        "Mean over readers", "standard|size|readers|PSE|JND|Weber fraction", rows
    )


def _right(material: Material, question: str) -> dict[str, bool]:
    return {
        j.truth.uid: (j.said(question) == 2) == (j.level > 0)
        for j in material.main
        if j.level
    }


def _strata(section: Section, material: Material, question: str) -> None:
    """Pairs of one source and of two, apart: identity must be no cue."""
    right = _right(material, question)
    rows = []
    for name, same in (("one source", True), ("two sources", False)):
        own = [
            right[j.truth.uid]
            for j in material.main
            if j.truth.uid in right and (len({i.source for i in j.items}) == 1) == same
        ]
        if own:
            rows.append((name, len(own), wilson(sum(own), len(own))))
    section.table("By kind of pair", "pairs of|trials|right", rows)


def estimation(section: Section, p: Protocol, material: Material) -> None:
    """Stevens' exponent of each reader for volumes, lengths and areas."""
    question = p.questions[0].name
    rows, points = [], {}
    exponents: dict[str, list[float]] = defaultdict(list)
    for stratum in sorted({j.truth.standard for j in material.main}):
        for reader in material.readers:
            own = [j for j in material.of(reader) if j.truth.standard == stratum]
            if len(own) < 4:
                continue
            sizes = np.array([j.items[1].facts[stratum] for j in own])
            said = np.array([float(j.said(question)) for j in own])
            found = power(sizes, said)
            rows.append(
                (reader, stratum, found.exponent, found.curvature_p, found.regression)
            )
            exponents[stratum].append(found.exponent.estimate)
            points[f"{reader}, {stratum}"] = (sizes, said)
    section.table("By reader", "reader|of|exponent|p of a bend|regression effect", rows)
    section.table(
        "Mean over readers",
        "of|readers|exponent",
        [(of, len(n), t_interval(np.array(n))) for of, n in exponents.items()],
    )
    section.sentences.append(
        "An exponent below 1 says that large ones are underestimated. Lengths are the "
        "control: what their exponent lacks of 1 is the reader's habit with numbers."
    )
    if points:
        section.drawings.append(figures.stevens_figure(points))
    drift_table(section, material, None)


def ranking(section: Section, p: Protocol, material: Material) -> None:
    """A Bradley-Terry scale of the arms, and what metrics say of them."""
    question = p.questions[0].name
    labels = sorted({i.label for j in material.main for i in j.items})
    at = {label: i for i, label in enumerate(labels)}
    wins = np.zeros((len(labels), len(labels)))
    for j in material.main:
        chosen = int(j.said(question)) - 1
        wins[at[j.items[chosen].label], at[j.items[1 - chosen].label]] += 1
    if len(labels) < 2:
        return
    scale = bradley_terry(wins)
    metrics = sorted({m for j in material.main for i in j.items for m in i.metrics})
    rows = [
        (
            label,
            int(wins[i].sum()),
            int(wins[:, i].sum()),
            scale.strengths[i],
            *(_mean_metric(material, label, m) for m in metrics),
        )
        for i, label in enumerate(labels)
    ]
    order = sorted(range(len(rows)), key=lambda i: -scale.strengths[i].estimate)
    columns = "|".join(["arm", "chosen", "left", "strength (logits)", *metrics])
    section.table("Scale of realism", columns, [rows[i] for i in order])
    if scale.padded:
        section.sentences.append(
            "An arm won or lost every comparison, so half a win was added to each side."
        )
    section.drawings.append(
        figures.scale_figure([(labels[i], scale.strengths[i]) for i in order])
    )
    place_table(section, material, question)
    drift_table(section, material, None)


def _mean_metric(material: Material, label: str, metric: str) -> float:
    values = {
        i.token: i.metrics[metric]
        for j in material.main
        for i in j.items
        if i.label == label and metric in i.metrics
    }
    return float(np.mean(list(values.values()))) if values else float("nan")

"""Real or synthetic, and the real one of several."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.review.analysis import figures
from napari_brainldm.review.analysis.section import (
    Material,
    Section,
    agreement_table,
    drift_table,
    place_table,
    repeats_table,
)
from napari_brainldm.review.protocols import SYNTHETIC_FROM, Protocol
from napari_brainldm.review.statistics.bootstrap import (
    mean_auc,
    mean_sensitivity,
    two_way,
)
from napari_brainldm.review.statistics.detection import (
    auc_interval,
    roc,
    sensitivity,
    wilson,
)
from napari_brainldm.review.statistics.equivalence import equivalence
from napari_brainldm.review.statistics.interval import (
    Floats,
    Interval,
    percentile_interval,
)

Bools = NDArray[np.bool_]


def detection(section: Section, p: Protocol, material: Material) -> None:
    """Hits, false alarms, d', criterion and AUC, by reader and pooled."""
    question = p.questions[0].name
    ratings, tokens = material.ratings(question)
    arms, labels = _arms(material, tokens)
    _by_reader(section, material, ratings.T, arms)
    _pooled(section, material, ratings.T, arms, labels)
    if p.timed:
        _by_exposure(section, material, question)
    agreed = agreement_table(section, material, question)
    if agreed:
        section.drawings.append(figures.agreement_figure(list(agreed.items())))
    repeats_table(section, material, question)
    right = {
        j.truth.uid: (j.said(question) >= SYNTHETIC_FROM) == (j.truth.answer == 2)
        for j in material.main
        if j.truth.answer
    }
    drift_table(section, material, right)


def _arms(
    material: Material, tokens: list[str]
) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    items = {i.token: i for j in material.main for i in j.items}
    arms = np.array([items[token].arm for token in tokens])
    return arms, np.array([items[token].label for token in tokens])


def _by_reader(
    section: Section, material: Material, ratings: Floats, arms: NDArray[np.str_]
) -> None:
    rows, curves = [], {}
    for reader, row in zip(material.readers, ratings, strict=True):
        signal, noise = (_seen(row[arms == arm]) for arm in ("synthetic", "real"))
        if not len(signal) or not len(noise):
            continue
        hits = int((signal >= SYNTHETIC_FROM).sum())
        alarms = int((noise >= SYNTHETIC_FROM).sum())
        found = sensitivity(hits, len(signal), alarms, len(noise))
        right = hits + len(noise) - alarms
        rows.append(
            (
                reader,
                wilson(right, len(signal) + len(noise)),
                wilson(hits, len(signal)),
                wilson(len(noise) - alarms, len(noise)),
                found.d,
                found.criterion,
                auc_interval(signal, noise),
            )
        )
        curves[reader] = roc(signal, noise)
    section.table(
        "By reader",
        "reader|right|synthetic found|real found|d'|criterion c|AUC",
        rows,
    )
    if curves:
        section.drawings.append(figures.roc_figure(curves))


def _seen(values: Floats) -> Floats:
    return np.asarray(values[np.isfinite(values)], np.float64)


def _pooled(
    section: Section,
    material: Material,
    ratings: Floats,
    arms: NDArray[np.str_],
    labels: NDArray[np.str_],
) -> None:
    """Means over readers, with readers and pictures drawn anew."""
    rows = []
    pairs = [("real", "synthetic")]
    if "reconstructed" in arms:
        pairs += [("real", "reconstructed"), ("reconstructed", "synthetic")]
    for noise, signal in pairs:
        areas = _areas(material, ratings, arms == noise, arms == signal)
        rows.append((f"{signal} against {noise}", "mean AUC", areas[0]))
        if signal == "synthetic" and noise == "real":
            rows.append(("", "mean d'", areas[2]))
            _equivalence(section, material, areas[0].estimate, areas[1])
    names = sorted(set(labels[arms == "synthetic"]))
    for name in names if len(names) > 1 else ():
        areas = _areas(material, ratings, arms == "real", labels == name)
        rows.append((f"{name} against real", "mean AUC", areas[0]))
    section.table("Pooled", "of|figure|value", rows)


def _areas(
    material: Material, ratings: Floats, noise: Bools, signal: Bools
) -> tuple[Interval, Floats, Interval]:
    """Mean AUC with its interval, its draws, and mean d' with its interval."""
    used = noise | signal
    of, is_signal = ratings[:, used], signal[used]
    readers, strata = len(of), is_signal.astype(np.int64)
    ones = np.ones(readers), np.ones(int(used.sum()))
    draws, rng = material.study.rules.draws, material.rng
    area = mean_auc(of, is_signal)
    areas = two_way(area, readers, strata, draws, rng)
    said = np.where(np.isfinite(of), (of >= SYNTHETIC_FROM).astype(float), np.nan)
    d = mean_sensitivity(said, is_signal)
    ds = two_way(d, readers, strata, draws, rng)
    return (
        percentile_interval(area(*ones), areas),
        areas,
        percentile_interval(d(*ones), ds),
    )


def _equivalence(
    section: Section, material: Material, estimate: float, draws: Floats
) -> None:
    half = material.study.rules.margin
    margin = (0.5 - half, 0.5 + half)
    found = equivalence(estimate, draws, margin)
    verdict = "is shown" if found.shown else "is not shown"
    section.sentences.append(
        f"That readers cannot tell synthetic from real {verdict}: the 90 % interval of "
        f"the mean AUC is {found.interval.low:.3f} to {found.interval.high:.3f}, the "
        f"margin frozen before the study {margin[0]:g} to {margin[1]:g} (one-sided p "
        f"{found.p_low:.3g} and {found.p_high:.3g}). A lack of difference would be no "
        "evidence of realism."
    )


def _by_exposure(section: Section, material: Material, question: str) -> None:
    rows = []
    for exposure in sorted({j.row["level_planned"] for j in material.main}):
        own = [j for j in material.main if j.row["level_planned"] == exposure]
        signal, noise = (
            np.array(
                [j.said(question) for j in own if j.items[0].arm == arm], np.float64
            )
            for arm in ("synthetic", "real")
        )
        if len(signal) and len(noise):
            rows.append((exposure, len(own), auc_interval(signal, noise)))
    section.table("By exposure", "ms|trials|AUC", rows)


def picking(section: Section, p: Protocol, material: Material) -> None:
    """How often the real one was found, against chance."""
    from scipy.stats import binomtest

    question, chance = p.questions[0].name, 1 / p.panels
    right = {j.truth.uid: j.said(question) == j.truth.answer for j in material.main}
    rows = []
    for reader in [*material.readers, "all"]:
        own = [j for j in material.main if reader in ("all", j.reader)]
        found = sum(right[j.truth.uid] for j in own)
        p_value = binomtest(found, len(own), chance).pvalue if own else float("nan")
        rows.append((reader, len(own), wilson(found, len(own)), float(p_value)))
    section.sentences.append(
        f"By chance {100 * chance:.0f} % are right. The interval of all readers counts "
        "trials alone and takes them for independent."
    )
    section.table("The real one found", "reader|trials|right|p against chance", rows)
    place_table(section, material, question)
    drift_table(section, material, right)

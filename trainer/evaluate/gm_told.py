"""The tables of GM-LDM, out of the figures of every person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trainer.evaluate.gm_measured import (
    EXPECTED,
    EXPECTED_GRAY,
    FIGURES,
    GRAY,
    WHOLE,
)
from trainer.evaluate.gm_rows import ARMS, Arm
from trainer.evaluate.paired import ends, paired
from trainer.evaluate.table import Row, Table

OURS, SHUFFLED, FLOOR = "GM-LDM", "GM-LDM, shuffled FNC", "mean map (floor)"
REBUILT = {False: "autoencoder alone", True: "autoencoder alone, pre-trained"}
OTHERS = (SHUFFLED, *REBUILT.values(), FLOOR)
LEVEL = 0.05

Figures = Mapping[str, Mapping[str, float]]
"""Of each subject."""

_UNCERTAIN = (WHOLE, GRAY)  # columns with an interval


def column(people: Figures, figure: str) -> NDArray[np.float64]:
    """`figure` of everybody (N,), in the order of their names."""
    return np.array([people[name][figure] for name in sorted(people)])


def five_models(found: Mapping[str, Figures], folds: str) -> Table:
    """The paper's table, with what it has to be held against."""
    rows = [_row(arm.name, _as_told(arm), found[arm.name]) for arm in ARMS]
    rows += [_row(name, ("-",) * 4, found[name]) for name in OTHERS]
    note = (
        "Pearson correlation r of generated and real gray matter of held-out people, "
        "over the whole map and within gray matter (mean map of the training people "
        "above 0.1); mean over people with its 95 % interval. r is of single maps, "
        "which also differ by chance; *expected* is the map that the model expects, "
        "without chance; *beyond the mean* is the correlation of what the expected and "
        "the real map differ by from the mean map. The mean map is the floor: any "
        "brain is much like it. Baseline-1 is plain diffusion; the others correct a "
        f"Gaussian prior where the config has one. {folds}"
    )
    return Table("gmldm", "Five models (Hu 2025, Table 1)", tuple(rows), note)


def _as_told(arm: Arm) -> tuple[str | float, ...]:
    model = "LDM" if arm.space == "latent" else "Diffusion"
    condition = "FNC" if arm.condition == "fnc" else "random vector"
    return model, "yes" if arm.pretrained else "no", condition, arm.paper


def _row(name: str, told: Sequence[str | float], people: Figures) -> Row:
    heads = ("model", "pre-trained", "condition", "the paper")
    row: dict[str, str | float] = {"name": name, **dict(zip(heads, told, strict=True))}
    first = next(iter(people.values()))
    for figure in FIGURES:
        there = figure in first
        values = column(people, figure) if there else np.zeros(0)
        row[figure] = float(values.mean()) if there else "-"
        if figure in _UNCERTAIN:
            sides = f"{figure} from", f"{figure} to"
            row |= dict(zip(sides, ends(values), strict=True))
    return row


def order(found: Mapping[str, Figures]) -> Table:
    """Whether the paper's order came out, step by step."""
    rows: list[Row] = []
    for lower, higher in pairwise(arm.name for arm in ARMS):
        difference = column(found[higher], WHOLE) - column(found[lower], WHOLE)
        low, high = ends(difference)
        rows.append(
            {
                "lower in the paper": lower,
                "higher": higher,
                **paired(difference),
                "from": low,
                "to": high,
                "came out": _came_out(low, high),
            }
        )
    note = f"{verdict(found)} Differences of r over the whole map, person by person."
    return Table("order", "The paper's order", tuple(rows), note)


def verdict(found: Mapping[str, Figures]) -> str:
    """One sentence: the paper's order, or the one that was found."""
    means = {arm.name: float(column(found[arm.name], WHOLE).mean()) for arm in ARMS}
    ours = sorted(means, key=means.__getitem__)
    told = " < ".join(ours)
    if ours == [arm.name for arm in ARMS]:
        return f"The paper's order came out: {told}."
    return f"The paper's order did not come out; found: {told}."


def _came_out(low: float, high: float) -> str:
    if low > 0:
        return "yes"
    return "no, the other way round" if high < 0 else "not sure"


def guidance(found: Mapping[str, Figures]) -> Table:
    """FNC against the mean map and against somebody else's FNC, person by person."""
    rows: list[Row] = []
    for other in (FLOOR, SHUFFLED):
        for figure in (WHOLE, GRAY, EXPECTED, EXPECTED_GRAY):
            # the mean map is drawn by no chance: it has one figure for both
            theirs = figure.removeprefix("expected ") if other == FLOOR else figure
            difference = column(found[OURS], figure) - column(found[other], theirs)
            low, high = ends(difference)
            rows.append(
                {
                    "FNC-guided against": other,
                    "figure": figure,
                    **paired(difference),
                    "from": low,
                    "to": high,
                    "better": "yes" if low > 0 else "no",
                }
            )
    note = (
        "Held-out people, paired; p is one-sided (Wilcoxon). Shuffled: the same model "
        "and noise under the FNC of another person."
    )
    return Table("guidance", "Does FNC guide?", tuple(rows), note)

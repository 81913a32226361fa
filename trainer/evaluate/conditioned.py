"""Conditions asked for against what pictures show, within and beyond the range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.checkpoint import Checkpoint, load_checkpoint
from napari_brainldm.engine.networks.reader import ReaderSpec
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Request,
    Sampler,
    Seed,
)
from napari_brainldm.engine.resources import bundled_segmenter
from napari_brainldm.engine.segment import Segmenter
from napari_brainldm.engine.volume import Array
from trainer.evaluate.brain_ldm import measured
from trainer.evaluate.metrics.fidelity import Series, fidelity
from trainer.evaluate.table import Row, Table
from trainer.stages.reader import read

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card

Floats = NDArray[np.float64]

BEYOND = (-0.5, 0.0, 0.5, 1.0, 1.5, 1.9)
"""Normalised values of the paper's Figure 4, and the range between them."""

VOLUMES = ("ventricles", "brain")
FEWEST = 3  # pictures that a line can be told of

UNITS = {"ventricles": "ml", "brain": "ml", "age": "years", "sex": "probability"}


@dataclass(frozen=True, eq=False)
class Conditioned:
    """Pictures (i, j, k) and what they were asked for, or are known to be."""

    conditions: Sequence[Conditions]
    pictures: Sequence[Array]

    def values(self, name: str) -> Floats:
        """Condition `name` of every picture (N,)."""
        return np.array([float(c.as_dict()[name]) for c in self.conditions])

    def names(self, name: str) -> NDArray[np.str_]:
        """Category `name` of every picture (N,)."""
        return np.array([str(c.as_dict()[name]) for c in self.conditions])


def conditioning(
    path: Path,
    made: Conditioned,
    scans: Conditioned,
    readers: Mapping[str, Checkpoint],
) -> tuple[Table, dict[str, tuple[Series, Series]]]:
    """The table of conditions, and asked and measured of pictures and of scans.

    What the same tool says of held-out scans is the ceiling: no picture can be expected
    to agree better.

    Parameters
    ----------
    path
        The brain LDM's checkpoint; its card says what `brain` means.
    readers
        "age" and "sex" -> checkpoint; a covariate without one is left out.

    Pictures in which no head is found are left out; N is what is left. The table has no
    rows where nothing can be measured.
    """
    card = load_checkpoint(path).card
    series = _volumes(card, made, scans)
    if "age" in readers:
        series["age"] = (
            Series(made.values("age"), _seen(readers["age"], made)),
            Series(scans.values("age"), _seen(readers["age"], scans)),
        )
    if "sex" in readers:
        spec = readers["sex"].card.network
        assert isinstance(spec, ReaderSpec)
        coded, theirs = (g.names("sex") == spec.categories[1] for g in (made, scans))
        series["sex"] = (
            Series(coded.astype(float), _seen(readers["sex"], made)),
            Series(theirs.astype(float), _seen(readers["sex"], scans)),
        )
    rows: list[Row] = []
    for name, pair in series.items():
        for title, one in zip(("pictures", "held-out scans"), pair, strict=True):
            if len(one.asked) < FEWEST:
                continue
            rows.append({"condition": name, "of": title, **_row(one, UNITS[name])})
    note = (
        "Volumes by the bundled segmenter in ml, age by the network of the stage "
        "brain_age in years; what the same tool says of held-out scans is its ceiling."
        f"{_sex(series, readers)}"
    )
    return Table(
        "conditions", "Conditions asked for and shown", tuple(rows), note
    ), series


def _row(one: Series, unit: str) -> dict[str, float]:
    found = fidelity(one, unit)
    return {
        "r": found["r"],
        "slope": found["slope"],
        "intercept": found[f"intercept_{unit}"],
        "MAE": found[f"mae_{unit}"],
        "N": float(len(one.asked)),
    }


def _volumes(
    card: Card, made: Conditioned, scans: Conditioned
) -> dict[str, tuple[Series, Series]]:
    known = {c.name for c in card.vocabulary}
    wanted = [name for name in VOLUMES if name in known]
    if not wanted:
        return {}
    segmenter = Segmenter(load_checkpoint(bundled_segmenter()))
    ours, theirs = (
        [_measured(segmenter, card, picture) for picture in group.pictures]
        for group in (made, scans)
    )
    return {
        name: (_found(made, name, ours), _found(scans, name, theirs)) for name in wanted
    }


def _measured(segmenter: Segmenter, card: Card, picture: Array) -> dict[str, float]:
    """Nothing of a picture in which no head is found: a weak model makes such."""
    try:
        return measured(segmenter, card, picture)
    except EngineError:
        return {}


def _found(
    group: Conditioned, name: str, shown: Sequence[Mapping[str, float]]
) -> Series:
    values = np.array([one.get(name, np.nan) for one in shown])
    known = np.isfinite(values)
    return Series(group.values(name)[known], values[known])


def _seen(reader: Checkpoint, group: Conditioned) -> Floats:
    from napari_brainldm.engine.device import best_device

    return read(reader, group.pictures, best_device())


def _sex(
    series: Mapping[str, tuple[Series, Series]], readers: Mapping[str, Checkpoint]
) -> str:
    if "sex" not in series:
        return ""
    spec = readers["sex"].card.network
    assert isinstance(spec, ReaderSpec)
    ours, theirs = (
        float(((one.measured > 0.5) == (one.asked > 0.5)).mean())
        for one in series["sex"]
    )
    return (
        f" Sex is 0 for {spec.categories[0]} and 1 for {spec.categories[1]}, held "
        "against the probability that the network of the stage sex gives: right in "
        f"{100 * ours:.1f} % of pictures and {100 * theirs:.1f} % of held-out scans."
    )


def extrapolation(
    path: Path, sampler: Sampler
) -> tuple[Table, dict[str, list[Array]], list[str]]:
    """Pictures at normalised values beyond 0 to 1 (Figure 4): table, rows, titles.

    One seed; all other conditions at their reference.
    """
    renderer = Renderer(load_checkpoint(path))
    segmenter = Segmenter(load_checkpoint(bundled_segmenter()))
    known = {c.name for c in renderer.card.vocabulary}
    rows: list[Row] = []
    strips: dict[str, list[Array]] = {}
    for name in (name for name in VOLUMES if name in known):
        covariate = renderer.card.covariate(name)
        values = [covariate.decode(code) for code in BEYOND]
        made = [Request(Conditions.of({name: v}), Seed(0), (), sampler) for v in values]
        strips[name] = [finish(renderer.render(one)).data for one in made]
        shown: dict[str, str | float] = {
            f"{code:g}": _measured(segmenter, renderer.card, picture).get(name, "-")
            for code, picture in zip(BEYOND, strips[name], strict=True)
        }
        asked = {f"{c:g}": float(v) for c, v in zip(BEYOND, values, strict=True)}
        rows += [
            {"condition": name, "ml": "asked", **asked},
            {"condition": name, "ml": "shown", **shown},
        ]
    note = "Normalised values; training lies within 0 to 1. One seed, measured in ml."
    title = "Beyond the training range"
    return Table("beyond", title, tuple(rows), note), strips, [f"{c:g}" for c in BEYOND]

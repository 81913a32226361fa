"""Stage directions: linear probes on frozen semantic codes, and the ways they point.

Probes are trained on the training subjects alone and judged on held-out ones, with
intervals over subjects: their visits are drawn together. A
direction's unit is one SD of the training codes along it (Lozupone 2025, section 3.7,
https://arxiv.org/abs/2504.08635, moves by the probe's weights in units of its own).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.semantic_space import Direction
from trainer.linear import People, logistic, ridge

if TYPE_CHECKING:
    from trainer.config import DirectionsConfig, Target
    from trainer.data.pictures import Pictures

Codes = NDArray[np.float64]
"""(N, E), semantic codes."""

Rows = Sequence[Mapping[str, str]]
"""What the tables say of each scan."""

LEAST, LEAST_NUMBERS = 5, 10
"""Training people of each class, and of a column of numbers, below which no probe is
fitted."""

BATCH = 8
HELD = "-held"
"""Ends the name of a direction along which the attributes held stay the same."""


@dataclass(frozen=True, eq=False)
class Told:
    """The scans whose table tells something: codes (n, E), values (n,), people (n,)."""

    codes: Codes
    values: Codes
    people: People


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear read-out of normalised codes: weight . y + bias.

    Attributes
    ----------
    weight, bias
        (E,) and a number; log odds, or the value itself.
    figures
        How well it does on held-out subjects.
    """

    weight: Codes
    bias: float
    figures: tuple[tuple[str, float], ...]


@torch.no_grad()
def encode(checkpoint: Checkpoint, pictures: Pictures) -> Codes:
    """Semantic codes (N, E) of `pictures` (N, i, j, k)."""
    network = checkpoint.semantic_encoder()
    found: Codes = np.zeros((len(pictures), network.spec.code_size))
    for start in range(0, len(pictures), BATCH):
        part = torch.from_numpy(pictures[start : start + BATCH].astype(np.float32))
        found[start : start + BATCH] = network(part[:, None]).double().numpy()
    return found


def with_directions(
    config: DirectionsConfig,
    checkpoint: Checkpoint,
    train: tuple[Codes, Rows],
    held_out: tuple[Codes, Rows],
) -> Checkpoint:
    """`checkpoint` with a direction for each target of `config`, and the held ones.

    Raises
    ------
    EngineError
        If a column is missing, or tells too few scans apart.
    """
    codes, rows = train
    mean, std = codes.mean(0), codes.std(0) + 1e-12
    normal = (codes - mean) / std
    unseen = (held_out[0] - mean) / std, held_out[1]
    probes = {t.name: probe(t, (normal, rows), unseen, config) for t in config.targets}
    spread = np.cov(normal.T)
    moves = {n: _move(p.weight, spread, config.along) for n, p in probes.items()}
    weights = [probes[n].weight for n in config.hold]
    held = np.array(weights).reshape(len(weights), len(mean)).T
    found: dict[str, tuple[Direction, Probe, Codes]] = {}
    for target in config.targets:
        made = Direction(
            target.name,
            target.title,
            description=target.description,
            reads="log odds" if target.positive else target.unit or target.column,
        )
        found[target.name] = made, probes[target.name], moves[target.name]
        if held.shape[1] and target.name not in config.hold:
            name = target.name + HELD
            words = f"{target.description} {_and(config.hold)} held."
            title = f"{target.title}, {_and(config.hold)} held"
            still = _unmoved(moves[target.name], held, spread, probes[target.name])
            direction = Direction(name, title, description=words.strip())
            found[name] = direction, probes[target.name], still
    return _kept(checkpoint, found, mean, std)


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)


def _move(weight: Codes, spread: Codes, along: str) -> Codes:
    """What one SD along a probe adds to a normalised code.

    "weight" moves along the probe's weights, as the paper; "pattern" as codes differ
    where the probe's value does (Haufe 2014), which leaves them among the codes of
    people. Either way the probe's value changes by one SD of its own.
    """
    if along == "pattern":
        return np.asarray(spread @ weight / np.sqrt(weight @ spread @ weight))
    size = np.linalg.norm(weight)
    return np.asarray(weight / size**2 * np.sqrt(weight @ spread @ weight))


def _unmoved(move: Codes, held: Codes, spread: Codes, probe_: Probe) -> Codes:
    """`move` without what it does to the probes `held` (E, n); as large an effect."""
    across = spread @ held
    still = move - across @ np.linalg.solve(held.T @ across, held.T @ move)
    effect = probe_.weight @ still
    return np.asarray(still * (probe_.weight @ move) / effect)


def probe(
    target: Target,
    train: tuple[Codes, Rows],
    held_out: tuple[Codes, Rows],
    config: DirectionsConfig,
) -> Probe:
    """The read-out of `target` from normalised codes."""
    seen, unseen = _told(target, *train), _told(target, *held_out)
    if target.positive:
        return _classifier(target, seen, unseen, config)
    return _regression(target, seen, unseen, config)


def _told(target: Target, codes: Codes, rows: Rows) -> Told:
    """What the table tells, of the scans of which it does."""
    if rows and not any(target.column in row for row in rows):
        raise EngineError(
            f"The participants' table has no column {target.column!r} for the "
            f"direction {target.name}; it has {', '.join(rows[0])}. Correct the config."
        )
    kept, values = values_of(target, rows)
    return Told(codes[kept], values, people_of(rows)[kept])


def values_of(target: Target, rows: Rows) -> tuple[NDArray[np.bool_], Codes]:
    """Which of the rows (N,) tell something of `target`, and what those tell (n,)."""
    told = [value_of(target, row.get(target.column, "")) for row in rows]
    values = [value for value in told if value is not None]
    return np.array([t is not None for t in told], bool), np.array(values, np.float64)


def value_of(target: Target, text: str) -> float | None:
    """What a table's `text` says of `target`: 1 or 0, a number, or nothing."""
    if target.positive:
        return {target.positive: 1.0, target.negative: 0.0}.get(text)
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def people_of(rows: Rows) -> People:
    """The number of each row's person (N,); a row that names nobody is another one."""
    numbers: dict[str | int, int] = {}
    return np.array(
        [
            numbers.setdefault(row.get("participant_id") or place, len(numbers))
            for place, row in enumerate(rows)
        ],
        np.int64,
    )


def _classifier(
    target: Target, train: Told, held_out: Told, config: DirectionsConfig
) -> Probe:
    from sklearn.metrics import accuracy_score, roc_auc_score

    _check_classes(target, train)
    best = logistic(train.codes, train.values, train.people)
    weight, bias = best.coef_[0].astype(np.float64), float(best.intercept_[0])
    odds = held_out.codes @ weight + bias
    figures = _counts(held_out)
    if len(set(held_out.values.tolist())) == 2:
        draws = config.draws
        figures |= _with_interval("auc", roc_auc_score, held_out, odds, draws)
        figures |= _with_interval("accuracy", accuracy_score, held_out, odds > 0, draws)
    return Probe(weight, bias, tuple(figures.items()))


def _check_classes(target: Target, train: Told) -> None:
    counts = [len(set(train.people[train.values == c].tolist())) for c in (0.0, 1.0)]
    if min(counts) < LEAST:
        raise EngineError(
            f"For the direction {target.name} there are training scans of {counts[1]} "
            f"people of {target.positive!r} and of {counts[0]} of {target.negative!r}; "
            f"at least {LEAST} of both are needed. Add subjects, or take it out of the "
            "config."
        )


def _regression(
    target: Target, train: Told, held_out: Told, config: DirectionsConfig
) -> Probe:
    from sklearn.metrics import mean_absolute_error

    count = len(set(train.people.tolist()))
    if count < LEAST_NUMBERS or np.ptp(train.values) == 0:
        raise EngineError(
            f"The column {target.column!r} tells {count} training people apart for the "
            f"direction {target.name}; at least {LEAST_NUMBERS} with different values "
            "are needed. Take the direction out of the config."
        )
    model = ridge(train.codes, train.values, train.people)
    weight, bias = model.coef_.astype(np.float64), float(model.intercept_)
    figures, truth = _counts(held_out), held_out.values
    if len(truth) > 2:
        read, draws = held_out.codes @ weight + bias, config.draws
        figures |= _with_interval("mae", mean_absolute_error, held_out, read, draws)
        figures["rmse"] = float(np.sqrt(np.mean((truth - read) ** 2)))
        figures["r"] = float(np.corrcoef(truth, read)[0, 1])
    return Probe(weight, bias, tuple(figures.items()))


def _counts(held_out: Told) -> dict[str, float]:
    """Scans; and people, where some were scanned more than once."""
    scans, people = len(held_out.values), len(set(held_out.people.tolist()))
    return {"n": scans} if scans == people else {"n": scans, "people": people}


def _with_interval(
    name: str,
    figure: Callable[[Codes, Any], float],
    held_out: Told,
    read: NDArray[Any],
    draws: int,
) -> dict[str, float]:
    """The figure and its 95 % interval: people drawn anew, each with all their scans.

    One person's scans are alike, so scans drawn by themselves would say too narrow an
    interval. One person has none.
    """
    truth, found = held_out.values, []
    value = {name: float(figure(truth, read))}
    scans = [np.flatnonzero(held_out.people == n) for n in np.unique(held_out.people)]
    if len(scans) < 2:
        return value
    rng = np.random.default_rng(0)
    for _ in range(draws):
        people = rng.integers(len(scans), size=len(scans))
        drawn = np.concatenate([scans[n] for n in people])
        if len(set(truth[drawn].tolist())) > 1:
            found.append(figure(truth[drawn], read[drawn]))
    low, high = np.percentile(found, (2.5, 97.5))
    return {**value, f"{name}_low": float(low), f"{name}_high": float(high)}


def _kept(
    checkpoint: Checkpoint,
    found: Mapping[str, tuple[Direction, Probe, Codes]],
    mean: Codes,
    std: Codes,
) -> Checkpoint:
    tensors = {"semantic.mean": mean, "semantic.std": std}
    directions = []
    for name, (direction, read, move) in found.items():
        angles = {
            f"degrees_to_{other}": _degrees(move, found[other][2])
            for other in found
            if other != name
        }
        figures = (*read.figures, *angles.items())
        directions.append(replace(direction, figures=figures))
        place = f"direction.{name}"
        tensors |= {
            f"{place}.move": move * std,
            f"{place}.weight": read.weight,
            f"{place}.bias": np.array(read.bias),
        }
    old = {
        k: v
        for k, v in checkpoint.tensors.items()
        if not k.startswith(("semantic.", "direction."))
    }
    new = {k: torch.from_numpy(np.asarray(v)).float() for k, v in tensors.items()}
    card = replace(checkpoint.card, directions=tuple(directions))
    return Checkpoint(card, old | new)


def _degrees(first: Codes, second: Codes) -> float:
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))

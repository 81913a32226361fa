"""`python -m trainer evaluate memorisation`: whether a model copies training scans."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.checkpoint import Checkpoint, load_checkpoint
from napari_brainldm.engine.copy_test import COPIES, INCONCLUSIVE, NONE_FOUND, CopyTest
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import EngineError, Request, Seed
from napari_brainldm.engine.resources import bundled_segmenter
from napari_brainldm.engine.segment import Segmenter
from napari_brainldm.engine.volume import Array, Grid
from trainer.data.pictures import Single
from trainer.data.vocabulary import known_conditions
from trainer.evaluate.copies import (
    NOISE,
    OUTLIER,
    PLANTED,
    SHIFT_MM,
    Judge,
    Marks,
    Space,
    both_distances,
    every_second,
    judge_of,
    log_ratios,
    marks_of,
    planted,
)
from trainer.evaluate.memorisation import nearest_ratio
from trainer.evaluate.metrics.features import of_segmenter
from trainer.evaluate.readers import cubes
from trainer.evaluate.table import Row, Table, write_tables
from trainer.prepared import dataset_of, pictures_of, prepared

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from trainer.config import RunConfig

FOUND, FALSE = 0.95, 0.05
"""A test says something if it finds so many planted copies at so few false alarms."""

LEAST = 10  # held-out people: half of them make the judge, half try it
TRIED = 40  # scans that are planted, on either side


@dataclass(frozen=True, eq=False)
class Scans:
    """Pictures (i, j, k) of one side of the split, and whose they are."""

    pictures: Sequence[Array]
    subjects: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Sides:
    """What the test needs: both sides of the split, and how to recognise a picture."""

    grid: Grid
    training: Scans
    held_out: Scans
    spaces: Mapping[str, Space]


def spaces_of(renderer: Renderer, segmenter: Segmenter) -> dict[str, Space]:
    """Latent, feature and picture space."""
    grid = renderer.card.grid
    return {
        "latent": lambda picture: renderer.latent_of(picture).ravel(),
        "features": of_segmenter(segmenter, grid).of,
        "picture": lambda picture: cubes([picture], grid)[0],
    }


def memorisation(
    config: RunConfig, path: Path, n: int
) -> Generator[str, None, CopyTest]:
    """Make `n` pictures and look for their originals; writes a table beside the run.

    Conditions are those of training scans: asked for a person it knows, a model that
    remembers is the likeliest to answer with the scan itself.

    Raises
    ------
    EngineError
        If there are too few held-out people to judge by.
    """
    checkpoint = load_checkpoint(path)
    _check_kind(checkpoint.card)
    dataset = dataset_of(config)
    _check(len({entry.subject for entry in dataset.held_out}), n)
    yield from prepared(config, dataset, 2)
    renderer = Renderer(checkpoint)
    segmenter = Segmenter(load_checkpoint(bundled_segmenter()), "", "float32")
    training, held_out = (
        Scans(Single(pictures_of(config, entries)), tuple(e.subject for e in entries))
        for entries in (dataset.train, dataset.held_out)
    )
    spaces = spaces_of(renderer, segmenter)
    sides = Sides(renderer.card.grid, training, held_out, spaces)
    wanted = [known_conditions(entry, checkpoint.card) for entry in dataset.train]
    rng = np.random.default_rng(0)
    order = rng.permutation(len(wanted))
    requests = [
        Request(wanted[order[seed % len(order)]], Seed(seed)) for seed in range(n)
    ]
    made = (finish(renderer.render(request)).data for request in requests)
    test, tables = yield from examine(sides, made)
    _write(config, checkpoint, test, tables)
    yield test.sentence()
    return test


def _check_kind(card: Card) -> None:
    if card.denoiser is None or card.intensity.scaling == "probability":
        raise EngineError(
            f"{card.name} makes no T1-weighted pictures, and copies are looked for in "
            "such. Give a brain LDM or an LDAE with --checkpoint."
        )


def _check(held_out: int, n: int) -> None:
    if held_out < LEAST or n < 1:
        raise EngineError(
            f"{n} pictures and {held_out} held-out people are asked for; at least 1 "
            f"and {LEAST} are needed, for people who are new for certain say what new "
            "people look like. Raise --n, or held_out in the config."
        )


def examine(
    sides: Sides, made: Iterable[Array]
) -> Generator[str, None, tuple[CopyTest, list[Table]]]:
    """The test of pictures `made` (i, j, k), and its tables; yields how far it is."""
    samples = marks_of(made, (), sides.spaces)
    training, held_out = (
        marks_of(one.pictures, one.subjects, sides.spaces)
        for one in (sides.training, sides.held_out)
    )
    yield f"{len(training.subjects)} training and {len(held_out.subjects)} other scans"
    references = training, held_out
    judge = judge_of(log_ratios(held_out.half(0), *references))
    power = yield from _power(sides, references, judge)
    count = len(samples.subjects)
    flagged = int(judge.flags(log_ratios(samples, *references)).sum())
    # a copy may hide behind the change that the test sees least
    found = min(float(row["copies found"]) for row in power)
    false = float(np.mean([row["false alarms"] for row in power]))
    test = CopyTest(
        verdict(flagged / count, found, false),
        count,
        flagged,
        len(training.subjects),
        len(held_out.subjects),
        found,
        false,
    )
    return test, [_power_table(power), _near_table(samples, *references)]


def verdict(flagged: float, found: float, false: float) -> str:
    """What shares of flagged pictures, found copies and false alarms mean."""
    if found < FOUND or false > FALSE:
        return INCONCLUSIVE
    return COPIES if flagged > false else NONE_FOUND


def _power(
    sides: Sides, references: tuple[Marks, Marks], judge: Judge
) -> Generator[str, None, list[dict[str, float | str]]]:
    """Shares of changed training scans and of changed new people that are flagged."""
    # the other half made the judge
    tried = every_second(sides.held_out.subjects, 1)[:TRIED]
    copied = np.random.default_rng(1).permutation(len(sides.training.subjects))[:TRIED]
    rows: list[dict[str, float | str]] = []
    for way in PLANTED:
        row: dict[str, float | str] = {"change": way}
        for key, scans, chosen in (
            ("copies found", sides.training, list(copied)),
            ("false alarms", sides.held_out, tried),
        ):
            marks = _changed(sides, scans, chosen, way)
            row[key] = float(judge.flags(log_ratios(marks, *references)).mean())
        rows.append(row)
        yield f"Planted copies {way}: {100 * float(row['copies found']):.0f} % found"
    return rows


def _changed(sides: Sides, scans: Scans, chosen: Sequence[int], way: str) -> Marks:
    """Marks of some `scans`, changed; a planted copy is nobody's picture."""
    voxel = min(sides.grid.voxel_size)
    pictures = (planted(scans.pictures[n], way, voxel, int(n)) for n in chosen)
    known = scans is sides.held_out
    subjects = [scans.subjects[n] if known else "" for n in chosen]
    return marks_of(pictures, subjects, sides.spaces)


def _power_table(power: Sequence[Row]) -> Table:
    note = (
        f"Training scans planted as if they were pictures of the model, and held-out "
        f"scans changed alike; noise of SD {NOISE:g}, shifts of {SHIFT_MM:g} mm. "
        f"Flagged: {OUTLIER:g} SD nearer to a training scan than new people are, by "
        f"the mean of the three spaces. At least {100 * FOUND:.0f} % found at "
        f"{100 * FALSE:.0f} % false alarms or less, else the test says nothing."
    )
    return Table("power", "Would copies be found?", tuple(power), note)


def _near_table(samples: Marks, training: Marks, held_out: Marks) -> Table:
    rows: list[Row] = []
    for name in samples.spaces:
        ratio = nearest_ratio(*both_distances(name, samples, training, held_out))
        rows.append(
            {"space": name, "ratio": ratio.value, "low": ratio.low, "high": ratio.high}
        )
    note = (
        "Mean distance of pictures to the nearest training scan over that to the "
        "nearest held-out scan, as many of either; 95 % of draws. 1 is no sign of "
        "copies, below 1 is one."
    )
    return Table("nearest", "Nearest scans", tuple(rows), note)


def _write(
    config: RunConfig, checkpoint: Checkpoint, test: CopyTest, tables: list[Table]
) -> None:
    facts = {"checkpoint": checkpoint.sha256, "test": asdict(test)}
    write_tables(tables, Path(config.out), "evaluate-memorisation", facts)

"""GM-LDM's table: five models, cross-validated by subject (Hu 2025, Table 1).

Nobody's map is made by a model, or by an autoencoder, that was trained on it. All rows
have the same people, folds and seeds, so they are compared person by person.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_brainldm.engine.files import write_whole
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import EngineError
from trainer.config import RunConfig
from trainer.data.bids import is_simulated
from trainer.data.pictures import model_grid, pictures_path
from trainer.evaluate import gm_measured as measured
from trainer.evaluate import gm_told as told
from trainer.evaluate import plots
from trainer.evaluate.gm_rows import (
    ARMS,
    Arm,
    Fold,
    FoldTrainer,
    People,
    before_of,
    folds_of,
    read_people,
)

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array
    from trainer.evaluate.gm_told import Figures
    from trainer.evaluate.table import Table

SHOWN = 3  # people of the first fold in the picture
SIMULATED = "Simulated people: one illness, which is known, moves FNC and gray matter."


@dataclass(frozen=True, eq=False)
class Bench:
    """What every fold needs; `out` is the folder of the tables."""

    config: RunConfig
    people: People
    out: Path

    @property
    def note(self) -> str:
        """What stands under the tables."""
        caveat = SIMULATED if is_simulated(Path(self.config.data.dataset)) else ""
        return f"{len(set(self.people.subjects))} people in all. {caveat}"


def tables(config: RunConfig) -> Generator[str, None, list[Table]]:
    """Train and measure every row in every fold; print and write the tables.

    What an earlier run of the same settings has done is taken as it is. The tables are
    written after every fold.
    """
    _check(config)
    people = yield from read_people(config)
    bench = Bench(config, people, Path(config.out) / "tables-gmldm")
    bench.out.mkdir(parents=True, exist_ok=True)
    _check_settings(bench)
    done: list[dict[str, Figures]] = []
    found: list[Table] = []
    for fold in folds_of(people, config.gm_table, bench.out):
        done.append((yield from _fold(bench, fold)))
        found = _written(bench, done)
    _draw_shown(bench)
    yield from (table.markdown() for table in found)
    yield f"Wrote {bench.out}"
    return found


def _check(config: RunConfig) -> None:
    """Refuse at once what would stop the run after an hour."""
    before_of(config)
    coder, denoiser = config.gm_autoencoder.loop, config.gmldm.loop
    if coder.precision != denoiser.precision:
        raise EngineError(
            f"gm_autoencoder.loop.precision is {coder.precision!r} and gmldm.loop."
            f"precision {denoiser.precision!r}; the table trains both in one run. Set "
            "both alike."
        )


def _check_settings(bench: Bench) -> None:
    """Refuse a folder that holds parts of another table."""
    config, entries = bench.config, bench.people.dataset.train
    pictures = pictures_path(
        entries, model_grid(config.data), config.data.intensity, bench.out
    )
    asked: list[Any] = [
        config.gm_autoencoder,
        config.gmldm,
        config.gm_table,
        config.data.flips,
        pictures.name,
        hashlib.sha256(bench.people.vectors.tobytes()).hexdigest(),
        before_of(config).sha256,
    ]
    digest = hashlib.sha256(repr(asked).encode()).hexdigest()
    path = bench.out / "settings.sha256"
    if path.is_file() and path.read_text() != digest:
        raise EngineError(
            f"{bench.out} holds parts of a table of other settings, people or another "
            "pre-trained autoencoder. Remove that folder, or set another `out`."
        )
    write_whole(path, digest.encode())


# One fold -----------------------------------------------------------------------------


def _fold(bench: Bench, fold: Fold) -> Generator[str, None, dict[str, Figures]]:
    """Figures of every row on the people held out."""
    trainer = FoldTrainer(bench.config, bench.people, fold)
    unseen = _unseen(bench.people, fold)
    floor = measured.still(unseen, [unseen.mean] * len(unseen.maps))
    found: dict[str, Figures] = {
        told.FLOOR: measured.by_subject(unseen.subjects, list(floor))
    }
    for arm in ARMS:
        names = _names(arm)
        if not all(_path(fold, name).is_file() for name in names):
            model = yield from trainer.model(arm)
            _measure(bench, fold, arm, Renderer(model, precision="float32"), unseen)
        found |= {name: json.loads(_path(fold, name).read_text()) for name in names}
        yield _line(fold, arm.name, found[arm.name], found[told.FLOOR])
    return found


def _unseen(people: People, fold: Fold) -> measured.Unseen:
    places = np.flatnonzero(fold.held)
    maps = np.asarray(people.pictures[places], np.float32)
    mean = people.pictures[~fold.held].mean(0, dtype=np.float64)
    subjects = tuple(people.subjects[n] for n in places)
    return measured.Unseen(subjects, places, maps, mean.astype(np.float32))


def _names(arm: Arm) -> tuple[str, ...]:
    """Rows that are measured with the model of `arm`."""
    shuffled = (told.SHUFFLED,) if arm.name == told.OURS else ()
    rebuilt = (told.REBUILT[arm.pretrained],) if arm.condition == "fnc" else ()
    return (arm.name, *shuffled, *rebuilt)


def _path(fold: Fold, name: str) -> Path:
    return fold.folder / f"{name.replace(', ', '-').replace(' ', '-')}.json"


def _measure(
    bench: Bench, fold: Fold, arm: Arm, renderer: Renderer, unseen: measured.Unseen
) -> None:
    """Write what the rows of `arm` lack; the picture's maps come first."""
    own, seeds = bench.people.vectors[fold.held], bench.config.gm_table.seeds
    asked = own
    if arm.condition == "random":
        asked = measured.chance(renderer, unseen.places.tolist())
    if fold.number == 1:
        firsts = (unseen.places * seeds).tolist()
        made = measured.first_maps(renderer, asked[:SHOWN], firsts)
        np.save(_path(fold, arm.name).with_suffix(".npy"), np.stack(list(made)))
    for name in _names(arm):
        if _path(fold, name).is_file():
            continue
        if name in told.REBUILT.values():
            rows = measured.still(unseen, [renderer.rebuild(m) for m in unseen.maps])
        elif name == told.SHUFFLED:
            others = measured.shuffled(own, unseen.subjects)
            rows = measured.guided(renderer, others, unseen, seeds)
        else:
            rows = measured.guided(renderer, asked, unseen, seeds)
        people = measured.by_subject(unseen.subjects, list(rows))
        write_whole(_path(fold, name), json.dumps(people, indent=1).encode())


def _line(fold: Fold, name: str, found: Figures, floor: Figures) -> str:
    figures = [
        f"{key} {told.column(found, key).mean():.4f}" for key in measured.FIGURES
    ]
    least = told.column(floor, measured.WHOLE).mean()
    return f"fold {fold.number}, {name}: {'  '.join(figures)}  (mean map {least:.4f})"


# What is written ----------------------------------------------------------------------


def _written(bench: Bench, done: Sequence[Mapping[str, Figures]]) -> list[Table]:
    """The tables of the folds that are done: Markdown, JSON, a plot."""
    found: dict[str, Figures] = {
        name: {k: v for fold in done for k, v in fold[name].items()} for name in done[0]
    }
    folds = f"{len(done)} of {bench.config.gm_table.folds} folds, {bench.note}"
    made = [told.five_models(found, folds), told.order(found), told.guidance(found)]
    plain = {
        "tables": {table.name: [dict(row) for row in table.rows] for table in made},
        "verdict": told.verdict(found),
        "people": found,
    }
    write_whole(bench.out / "tables.json", json.dumps(plain, indent=1).encode())
    text = "\n".join(table.markdown() for table in made)
    write_whole(bench.out / "tables.md", text.encode())
    values = {arm.name: told.column(found[arm.name], measured.GRAY) for arm in ARMS}
    floor = float(told.column(found[told.FLOOR], measured.GRAY).mean())
    plots.correlations(values, floor, bench.out / "tables.png")
    return made


def _draw_shown(bench: Bench) -> None:
    """Real maps of the first fold beside those of every row."""
    fold = folds_of(bench.people, bench.config.gm_table, bench.out)[0]
    unseen = _unseen(bench.people, fold)
    made: dict[str, Array] = {
        arm.name: np.load(_path(fold, arm.name).with_suffix(".npy")) for arm in ARMS
    }
    rows = {
        subject: [unseen.maps[n], unseen.mean, *(maps[n] for maps in made.values())]
        for n, subject in enumerate(unseen.subjects[:SHOWN])
    }
    plots.strip(rows, ["real", "mean map", *made], bench.out / "maps.png")

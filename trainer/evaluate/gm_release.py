"""One GM-LDM on the people whom its run held out, and what is bundled with it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.files import write_whole
from napari_brainldm.engine.fnc import Fnc
from napari_brainldm.engine.fnc_file import write_fnc
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import EngineError
from trainer.data.bids import Dataset, Entry, is_simulated
from trainer.data.cohort_files import write_json
from trainer.evaluate import gm_measured as measured
from trainer.evaluate import gm_told as told
from trainer.evaluate.group_difference import (
    agreement,
    difference,
    halves_alike,
    of_people,
    two_groups,
)
from trainer.gm_runs import fnc_of, with_fnc
from trainer.prepared import dataset_of, pictures_of, prepared

if TYPE_CHECKING:
    from napari_brainldm.engine.fnc import Vector
    from trainer.config import RunConfig
    from trainer.evaluate.gm_told import Figures

GROUP = "group"
"""Column of participants.tsv that says who is a patient."""

SAMPLES = 40
"""People of the bundled table of connectivity."""


def held_out(
    config: RunConfig, path: Path, n: int, seeds: int
) -> Generator[str, None, dict[str, float]]:
    """Figures of the GM-LDM at `path` on the first `n` held-out scans of its run.

    Raises
    ------
    EngineError
        If it is no GM-LDM, or fewer than two people with connectivity are held out.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.card.fnc is None:
        raise EngineError(
            f"{checkpoint.card.name} knows no functional connectivity. Give a "
            "checkpoint of the stage gmldm with --checkpoint."
        )
    dataset = dataset_of(config)
    yield from prepared(config, dataset, 2)
    unseen, vectors = _unseen(config, dataset, n)
    renderer = Renderer(checkpoint)
    found = _measured(renderer, unseen, vectors, seeds)
    yield told.guidance(found).markdown()
    figures = _figures(found)
    known = _groups(dataset.held_out)
    names = [known[subject] for subject in dict.fromkeys(unseen.subjects)]
    groups = two_groups(names)
    if groups is None:
        yield (
            f"participants.tsv has no column {GROUP} with two groups of at least "
            "two of these people, so no group difference is compared."
        )
    else:
        figures |= _groups_alike(renderer, unseen, vectors, names, groups)
    yield from (f"{name:40s} {value:.4f}" for name, value in figures.items())
    return figures


def _unseen(
    config: RunConfig, dataset: Dataset, n: int
) -> tuple[measured.Unseen, Vector]:
    places, vectors, _ = with_fnc(dataset.held_out, fnc_of(config))
    places, vectors = places[:n], vectors[:n]
    subjects = tuple(dataset.held_out[place].subject for place in places)
    if len(set(subjects)) < 2:
        raise EngineError(
            f"{len(set(subjects))} people with connectivity are held out or asked for; "
            "a comparison needs 2. Raise --n, or data.held_out in the config."
        )
    train = pictures_of(config, dataset.train)
    mean = train.mean(0, dtype=np.float64).astype(np.float32)
    maps = np.asarray(pictures_of(config, dataset.held_out)[places], np.float32)
    return measured.Unseen(subjects, np.array(places), maps, mean), vectors


def _measured(
    renderer: Renderer, unseen: measured.Unseen, vectors: Vector, seeds: int
) -> dict[str, Figures]:
    others = measured.shuffled(vectors, unseen.subjects)
    rows = {
        told.OURS: measured.guided(renderer, vectors, unseen, seeds),
        told.SHUFFLED: measured.guided(renderer, others, unseen, seeds),
        told.FLOOR: measured.still(unseen, [unseen.mean] * len(unseen.maps)),
        told.REBUILT[True]: measured.still(
            unseen, [renderer.rebuild(one) for one in unseen.maps]
        ),
    }
    return {
        name: measured.by_subject(unseen.subjects, list(held))
        for name, held in rows.items()
    }


def _groups(entries: Sequence[Entry]) -> dict[str, str]:
    """The group of each subject; empty where the table says none."""
    return {entry.subject: dict(entry.row).get(GROUP, "") for entry in entries}


def _groups_alike(
    renderer: Renderer,
    unseen: measured.Unseen,
    vectors: Vector,
    names: Sequence[str],
    groups: tuple[str, str],
) -> dict[str, float]:
    """How far groups differ in expected maps where their real maps differ.

    The real difference of one half of the people against that of the other is the most
    that can be asked for.
    """
    seeds = unseen.places.tolist()
    expected = np.stack(list(measured.expected_maps(renderer, vectors, seeds)))
    made, own = (of_people(m, unseen.subjects) for m in (expected, unseen.maps))
    real = difference(own, names, groups)
    found = agreement(difference(made, names, groups), real, unseen.mask)
    ceiling = halves_alike(own, names, groups, unseen.mask)
    title = f"{groups[1]} less {groups[0]}, generated against real"
    figures = {
        f"{title}: r": found.r,
        f"{title}: p, surrogates": found.p,
        f"{title}: r of chance, 95 %": found.chance,
    }
    if ceiling is not None:
        figures[f"{title}: r of real halves"] = ceiling
    return figures


def _figures(found: dict[str, Figures]) -> dict[str, float]:
    """What the card keeps."""
    short = {
        told.OURS: "FNC-guided",
        told.SHUFFLED: "shuffled FNC",
        told.FLOOR: "mean map",
        told.REBUILT[True]: "autoencoder",
    }
    return {
        f"{short[name]}, {figure}": float(told.column(people, figure).mean())
        for name, people in found.items()
        for figure in next(iter(people.values()))
    }


def write_samples(config: RunConfig, path: Path) -> str:
    """Write the connectivity of held-out simulated people to `path` (CSV) and tell.

    Raises
    ------
    EngineError
        If the people of `config` are not simulated: nobody's data is given away.
    """
    if not is_simulated(Path(config.data.dataset)):
        raise EngineError(
            f"{config.data.dataset} is not a simulated cohort, so its connectivity is "
            "not bundled. Release a model of simulated people."
        )
    dataset = dataset_of(config)
    entries = dataset.held_out
    places, vectors, _ = with_fnc(entries, fnc_of(config))
    rows = {entries[n].subject: v for n, v in zip(places, vectors, strict=True)}
    some = [Fnc(vector, name) for name, vector in list(rows.items())[:SAMPLES]]
    write_whole(path, write_fnc(some).encode())
    groups = _groups(entries)
    facts = {
        "Simulated": True,
        "Scale": "z",
        "Unit": "Fisher z",
        "Order": "upper triangle, row by row",
        "Groups": {fnc.name: groups[fnc.name] for fnc in some},
    }
    write_json(path.with_suffix(".json"), facts)
    return f"Wrote {path}: connectivity of {len(some)} held-out simulated people"

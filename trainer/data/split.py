"""Whom a run holds out, kept in its folder: nobody changes sides between two stages.

Drawn anew, the held-out people would be others as soon as a subject is added or a
missing value filled in, and a model would be judged on people it was trained on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from napari_brainldm.engine.files import write_whole, writing_into
from napari_brainldm.engine.request import UNREADABLE, EngineError
from trainer.data.bids import Dataset, read_dataset, subjects_of

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.config import DataConfig

FILE = "split.json"


def split_of(data: DataConfig, folder: Path) -> Dataset:
    """The dataset of a run, split as its `folder` keeps it; drawn where it keeps none.

    Subjects who came later are trained on.

    Raises
    ------
    EngineError
        If the folder keeps another split than the config asks for, or of others.
    """
    path = folder / FILE
    if not path.is_file():
        return read_dataset(data)
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        asked, held = (kept["held_out"], kept["seed"]), frozenset(kept["subjects"])
    except UNREADABLE as error:
        raise EngineError(
            f"{path} is not what a stage left there ({error}). Take it from a backup, "
            "or choose another out in the config."
        ) from error
    found = read_dataset(data, held)
    if asked != (data.held_out, data.seed) or (held and not found.held_out):
        raise EngineError(
            f"{path} keeps {len(held)} people held out (a share of {asked[0]:g}, seed "
            f"{asked[1]}), and {len(found.held_out)} of their scans are in the dataset "
            f"of the config, which asks for {data.held_out:g}, seed {data.seed}. Put "
            "the config back, or choose another out for another split."
        )
    return found


def keep_split(data: DataConfig, folder: Path) -> Dataset:
    """As `split_of`; written down, if it was not, before anything is trained on it."""
    dataset = split_of(data, folder)
    path = folder / FILE
    if not path.is_file():
        told = {
            "held_out": data.held_out,
            "seed": data.seed,
            "subjects": sorted(subjects_of(dataset.held_out)),
        }
        with writing_into(folder):
            write_whole(path, json.dumps(told, indent=1).encode())
    return dataset

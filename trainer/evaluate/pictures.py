"""`python -m trainer evaluate pictures`: two folders of pictures, whoever made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from napari_brainldm.engine.device import best_device
from napari_brainldm.engine.volume import Array, Grid, mni_grid
from trainer.evaluate.compared import Compared, check_enough, tables
from trainer.evaluate.metrics.features import feature_sets
from trainer.evaluate.metrics.folder import Folder, check_same
from trainer.evaluate.plots import nearness
from trainer.evaluate.table import Table, write_tables

FAR_MM = 40.0
"""Whole heads have their middle some 20 mm below that of the brain."""


@dataclass(frozen=True)
class Folders:
    """What is compared with what.

    Attributes
    ----------
    real, generated
        Folders of NIfTI pictures on one grid.
    out
        Folder of the report.
    features
        Further networks: {"med3d": file of weights}.
    most
        Pictures taken from each folder at most.
    """

    real: Path
    generated: Path
    out: Path
    features: Mapping[str, Path] = field(default_factory=dict)
    most: int = 1000


def compare_folders(folders: Folders) -> Iterator[str]:
    """Write pictures.md, pictures.json and pictures.png; yields the tables as lines.

    Raises
    ------
    EngineError
        If a folder holds too few pictures, or they do not lie on one grid.
    """
    real, generated = (
        Folder(root, folders.most) for root in (folders.real, folders.generated)
    )
    check_same(real, generated)
    groups = {"generated": generated}
    compared = Compared(real.grid, real, groups, people=real.people)
    check_enough(compared)
    networks = feature_sets(real.grid, folders.features, best_device())
    yield f"{real.told()} real and {generated.told()} generated pictures"
    away = _from_mni(real[0], real.grid)
    if away > FAR_MM:
        networks = [one for one in networks if one.name != "segmenter"]
        yield (
            f"The middle of {real.paths[0].name} lies {away:.0f} mm from that of a "
            "brain in MNI space, so the segmenter's features are left out. Bring the "
            "pictures into MNI space for them."
        )
    facts = {"real": len(real), "generated": len(generated)}
    found: list[Table] = []
    for table in tables(compared, networks):
        found.append(table)
        write_tables(found, folders.out, "pictures", facts)
        yield table.markdown()
    nearness(found, folders.out / "pictures.png")
    yield f"Wrote {folders.out / 'pictures.md'}, .json and .png"


def _from_mni(picture: Array, grid: Grid) -> float:
    """How many mm the middle of what is bright lies from that of the MNI brain."""
    middle = np.argwhere(picture > 0.1).mean(0)
    model = mni_grid(1.0)
    wanted = model.matrix @ [*(np.array(model.shape) - 1) / 2, 1]
    return float(np.linalg.norm((grid.matrix @ [*middle, 1] - wanted)[:3]))

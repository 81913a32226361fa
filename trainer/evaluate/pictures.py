"""`python -m trainer evaluate pictures`: two folders of pictures, whoever made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from napari_brainldm.engine.device import best_device
from trainer.evaluate.compared import Compared, check_enough, tables
from trainer.evaluate.metrics.features import feature_sets
from trainer.evaluate.metrics.folder import Folder, check_same
from trainer.evaluate.plots import nearness
from trainer.evaluate.table import Table, write_tables


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
    compared = Compared(real.grid, real, {"generated": generated})
    check_enough(compared)
    networks = feature_sets(real.grid, folders.features, best_device())
    yield f"{len(real)} real and {len(generated)} generated pictures"
    facts = {"real": len(real), "generated": len(generated)}
    found: list[Table] = []
    for table in tables(compared, networks):
        found.append(table)
        write_tables(found, folders.out, "pictures", facts)
        yield table.markdown()
    nearness(found, folders.out / "pictures.png")
    yield f"Wrote {folders.out / 'pictures.md'}, .json and .png"

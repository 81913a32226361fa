"""What every table of a latent diffusion autoencoder is measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.renderer import Renderer
from trainer.config import RunConfig
from trainer.data.bids import is_simulated
from trainer.data.pictures import Pictures
from trainer.evaluate import parts, reconstruction
from trainer.evaluate.followed import Followed

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array
    from trainer.data.bids import Entry

Floats = NDArray[np.float64]
STEPS = 20
"""T of pictures that are not in a table over T."""

RACED = 2
"""T of the race against voxel space: there a step takes a processor minutes."""

SIMULATED = "Simulated people: a simulated disease is easier to see than a real one."


@dataclass(frozen=True, eq=False)
class People:
    """Scans of one side of the split: rows of the tables, pictures, codes (N, E).

    `source` names the files that the pictures are made of.
    """

    rows: tuple[Mapping[str, str], ...]
    pictures: Pictures
    codes: Floats
    source: str = ""

    def picture(self, number: int) -> Array:
        """One picture (i, j, k) in float32."""
        return np.asarray(self.pictures[number], np.float32)


def _visit(entry: Entry) -> list[object]:
    """What a visit is made of: its scan as it lies there, and what tables tell."""
    stat = entry.path.stat()
    return [str(entry.path), stat.st_size, stat.st_mtime_ns, entry.row]


@dataclass(frozen=True, eq=False)
class Bench:
    """What every table needs.

    Attributes
    ----------
    others
        Checkpoints to compare with, by the name of their rows.
    out
        Folder of the tables and plots.
    n
        Scans to move; a fifth of them are rebuilt.
    followed
        People with visits.
    """

    config: RunConfig
    renderer: Renderer
    others: Mapping[str, Checkpoint]
    train: People
    held_out: People
    out: Path
    n: int
    followed: Followed

    @property
    def caveat(self) -> str:
        """The sentence that stands under figures of simulated people."""
        return SIMULATED if is_simulated(Path(self.config.data.dataset)) else ""

    @property
    def made_of(self) -> str:
        """What the figures depend on: a part that was made of the same is kept."""
        facts = {
            "version": metadata.version("napari-brainldm"),
            "checkpoint": self.renderer.checkpoint.sha256,
            "beside": {name: one.sha256 for name, one in self.others.items()},
            "data": repr(self.config.data),
            "scans": [[one.source, one.rows] for one in (self.train, self.held_out)],
            "n": self.n,
            "targets": repr(self.config.directions.targets),
            "forecast": repr(self.config.forecast.covariates),
            "visits": [[_visit(one) for one in p] for p in self.followed.people],
            "asked": self.followed.asked,
            "T": [STEPS, RACED, *reconstruction.STEPS],
        }
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    @property
    def parts(self) -> Path:
        """Folder of what is whole."""
        return self.out / "parts"

    def each(self, name: str, count: int, make: Callable[[int], Any]) -> list[Any]:
        """What `make` finds for each scan or person, kept one by one."""
        return list(parts.each(self.parts / name, self.made_of, count, make))

    def unseen(self, count: int) -> list[Array]:
        """The first held-out pictures (i, j, k), one of each person."""
        first: dict[str, int] = {}
        for place, row in enumerate(self.held_out.rows):
            first.setdefault(row.get("participant_id") or str(place), place)
        return [self.held_out.picture(n) for n in list(first.values())[:count]]

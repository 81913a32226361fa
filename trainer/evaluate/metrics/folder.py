"""A folder of NIfTI pictures, whoever made them, read one by one."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.request import EngineError
from trainer.data.pictures import OneByOne

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array, Grid, Volume

SUFFIXES = (".nii", ".nii.gz")
PERCENTILE = 99.5
"""This percentile of the voxels brighter than DARK becomes 1."""

DARK = 0.1
"""Of the 99.9th percentile of the picture: what is darker may be background."""


class Folder(OneByOne):
    """Pictures (i, j, k) in [0, 1] of one grid, read when they are asked for.

    All NIfTI files below the folder but those in `derivatives`; where some end in
    `_T1w`, as in BIDS, these alone. Of more than `most` as many are drawn at random,
    always the same: the first by name may all be of one kind.

    Attributes
    ----------
    paths, total
        The files taken, by name; how many there are.
    people
        Whose each is: as BIDS names them, else each of somebody else.

    Raises
    ------
    EngineError
        If there is no picture, or (on reading) one lies on another grid, is no
        picture, or is empty.
    """

    def __init__(self, root: Path, most: int) -> None:
        self.root = root
        every = _paths(root)
        self.total = len(every)
        drawn = np.random.default_rng(0).permutation(len(every))[:most]
        self.paths = [every[n] for n in sorted(drawn)]
        self.people = [_person(path) for path in self.paths]
        self.grid = _read(self.paths[0]).grid

    def __len__(self) -> int:
        return len(self.paths)

    def told(self) -> str:
        """How many pictures are taken, of how many."""
        return str(len(self)) + (f" of {self.total}" if self.total > len(self) else "")

    def picture(self, number: int) -> Array:
        """In [0, 1], see `unit_range`."""
        path = self.paths[number]
        volume = _read(path)
        if not volume.grid.is_at(self.grid):
            raise EngineError(_apart(self.paths[0], self.grid, path, volume.grid))
        return unit_range(path.name, volume.data)


def check_same(first: Folder, second: Folder) -> None:
    """Raise an EngineError unless pictures of both lie on one grid."""
    if not first.grid.is_at(second.grid):
        raise EngineError(
            _apart(first.paths[0], first.grid, second.paths[0], second.grid)
        )


def unit_range(name: str, data: Array) -> Array:
    """`data` (i, j, k) in [0, 1]: 0 stays, the PERCENTILE of what is bright becomes 1.

    The same rule for every picture, so that nobody's own scale is measured.
    """
    from napari_brainldm.engine.conform import normalise

    bright = data > DARK * float(np.percentile(data, 99.9))
    if not float(data.max()) > 0 or not bright.any():
        raise EngineError(
            f"{name} holds nothing brighter than 0. Take it out of the folder, or put "
            "a picture of a brain there."
        )
    return normalise(data, bright, high=PERCENTILE)[0]


def _person(path: Path) -> str:
    found = re.match(r"sub-[0-9A-Za-z]+", path.name)
    return found.group() if found else str(path)


def _paths(root: Path) -> list[Path]:
    if not root.is_dir():
        raise EngineError(f"There is no folder {root}. Give a folder of NIfTI files.")
    every = sorted(
        path
        for path in root.rglob("*.nii*")
        if path.name.endswith(SUFFIXES)
        and "derivatives" not in path.relative_to(root).parts
    )
    scans = [p for p in every if p.name.partition(".")[0].endswith("_T1w")]
    if not every:
        raise EngineError(
            f"{root} holds no NIfTI file (.nii, .nii.gz). Give a folder of pictures."
        )
    return scans or every


@lru_cache(maxsize=4)  # pairs meet the same picture twice
def _read(path: Path) -> Volume:
    from napari_brainldm.engine.scan_file import read_scan

    return read_scan(path).volume


def _apart(first: Path, one: Grid, second: Path, other: Grid) -> str:
    shapes = [" x ".join(str(n) for n in grid.shape) for grid in (one, other)]
    sizes = [" x ".join(f"{s:.3g}" for s in grid.voxel_size) for grid in (one, other)]
    return (
        f"{first} has {shapes[0]} voxels of {sizes[0]} mm, {second} has {shapes[1]} of "
        f"{sizes[1]} mm, or they lie in different places. Only pictures on one grid "
        "can be compared: resample them first."
    )

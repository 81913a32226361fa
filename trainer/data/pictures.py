"""Pictures and latents of a dataset, prepared once and kept on disk."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resources import segmenter_at_hand
from napari_brainldm.engine.volume import Array, Grid, Volume, mni_grid

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Intensity
    from napari_brainldm.engine.segment import Segmenter
    from trainer.config import DataConfig
    from trainer.data.bids import Entry

T = TypeVar("T")
Pictures = NDArray[np.float16]
"""(N, i, j, k) in [0, 1], memory-mapped."""

FEW = 4
"""Scans that are conformed sooner than a second process has started."""


class OneByOne(Sequence["Array"]):
    """Pictures (i, j, k), each read when it is asked for."""

    @abstractmethod
    def picture(self, number: int) -> Array:
        """The picture of a number from 0."""

    @overload
    def __getitem__(self, index: int) -> Array: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Array]: ...
    def __getitem__(self, index: int | slice) -> Array | Sequence[Array]:
        """The picture, or pictures, at `index`."""
        places = range(len(self))[index]
        if isinstance(places, range):
            return [self.picture(number) for number in places]
        return self.picture(places)


class Single(OneByOne):
    """Stored pictures (N, i, j, k), each as float32 when it is asked for."""

    def __init__(self, stored: Pictures) -> None:
        self.stored = stored

    def __len__(self) -> int:
        return len(self.stored)

    def picture(self, number: int) -> Array:
        """One of them."""
        return np.asarray(self.stored[number], np.float32)


def model_grid(config: DataConfig) -> Grid:
    """The MNI grid of `voxel_mm`, or one of `shape` with the same centre."""
    grid = mni_grid(config.voxel_mm)
    if not config.shape:
        return grid
    i, j, k = config.shape
    affine = grid.matrix
    affine[:3, 3] += config.voxel_mm * (np.array(grid.shape) - np.array([i, j, k])) / 2
    return Grid.of((i, j, k), affine)


def on_grid(
    path: Path, grid: Grid, intensity: Intensity, segmenter: Path | None = None
) -> Array:
    """One scan as the model sees it: (i, j, k) in [0, 1], or a gray-matter map.

    A scan that already lies on `grid` (a simulated cohort, a prepared dataset) is only
    scaled in intensity, and padded or cut where `grid` is a larger or smaller box of
    its voxels; any other is conformed, its brain found by `segmenter` or, if None, by
    the bundled one.
    """
    from napari_brainldm.engine.conform import conform, normalise
    from napari_brainldm.engine.resample import resample
    from napari_brainldm.engine.scan_file import load_volume

    scan = load_volume(path)
    if intensity.scaling == "probability":
        return _map_on_grid(scan, grid)
    if scan.grid.shares_voxels(grid):
        data = scan.data if scan.grid.is_at(grid) else resample(scan, grid, order=0)
        _check_content(path, data)
        return normalise(data, data > 0, high=intensity.percentile)[0]
    return conform(
        scan,
        grid,
        percentile=intensity.percentile,
        segmenter=kept_brain_finder(segmenter or segmenter_at_hand()),
    ).volume.data


def _map_on_grid(scan: Volume, grid: Grid) -> Array:
    """A gray-matter map on `grid`; as it is where it lies there already."""
    from napari_brainldm.engine.gray_matter import as_it_is, of_map

    if scan.grid.is_at(grid):
        return as_it_is(scan, grid)
    return of_map(scan, grid).volume.data


@lru_cache(maxsize=1)
def kept_brain_finder(path: Path | None) -> Segmenter | None:
    """The segmenter in `path`, on the CPU; None in a tree in which none is made yet.

    Kept: a dataset has many scans.
    """
    from napari_brainldm.engine.segment import brain_finder

    return None if path is None else brain_finder(path, "cpu")


def _check_content(path: Path, data: Array) -> None:
    if not (data > 0).any():
        raise EngineError(
            f"{path.name} holds nothing brighter than 0. Give a scan with a brain."
        )


def prepare(
    entries: Sequence[Entry],
    grid: Grid,
    intensity: Intensity,
    folder: Path,
    workers: int,
) -> Iterator[int]:
    """Put every scan on `grid` into one file in `folder`; yields how many are done.

    Finished files are kept and found again by a digest of what they are made of. A scan
    that cannot be conformed stops the run with its name and reason.
    """
    path = pictures_path(entries, grid, intensity, folder)
    if path.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    shape = (len(entries), *grid.shape)
    store = np.lib.format.open_memmap(temporary, "w+", np.float16, shape)
    work = partial(_one, grid=grid, intensity=intensity)
    try:
        for index, data in enumerate(mapped(work, [e.path for e in entries], workers)):
            store[index] = data
            yield index + 1
        store.flush()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def mapped(
    work: Callable[[Path], T], paths: Sequence[Path], workers: int
) -> Iterator[T]:
    """`work` of every path in order: here, or in processes of their own."""
    if workers <= 1 or len(paths) <= FEW:
        yield from map(work, paths)
        return
    # spawn: forking a process that has used torch's threads can lock up
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, paths)


def _one(path: Path, grid: Grid, intensity: Intensity) -> NDArray[np.float16]:
    try:
        return on_grid(path, grid, intensity).astype(np.float16)
    except EngineError as error:
        raise EngineError(f"{path}: {error}") from error


def open_pictures(
    entries: Sequence[Entry], grid: Grid, intensity: Intensity, folder: Path
) -> Pictures:
    """The pictures that `prepare` made, in the order of `entries`."""
    found: Pictures = np.load(
        pictures_path(entries, grid, intensity, folder), mmap_mode="r"
    )
    return found


def pictures_path(
    entries: Sequence[Entry], grid: Grid, intensity: Intensity, folder: Path
) -> Path:
    """File of the prepared pictures: named by what they are made of."""
    sha = hashlib.sha256(repr((grid, intensity)).encode())
    for entry in entries:
        stat = entry.path.stat()
        sha.update(
            f"{entry.path.resolve()} {stat.st_size} {stat.st_mtime_ns}\n".encode()
        )
    return folder / f"pictures-{sha.hexdigest()[:16]}.npy"

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

from napari_brainldm.engine.files import put_whole
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resources import segmenter_at_hand
from napari_brainldm.engine.volume import Array, Grid, Volume, mni_grid

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Intensity
    from napari_brainldm.engine.segment import Segmenter
    from trainer.config import DataConfig
    from trainer.data.bids import Entry

T = TypeVar("T")
Given = TypeVar("Given")
Pictures = NDArray[np.float16]
"""(N, i, j, k) in [0, 1], memory-mapped."""

FEW = 4
"""Scans that are conformed sooner than a second process has started."""

SHOWN = 5
"""Scans that cannot be used, told by name."""


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

    Finished files are kept and found again by a digest of what they are made of. Until
    then every scan is kept by itself, so that a run that was stopped goes on.

    Raises
    ------
    EngineError
        If some scans cannot be conformed: their names and reasons, when all others are
        done.
    """
    path = pictures_path(entries, grid, intensity, folder)
    if path.is_file():
        return
    alone = [pictures_path([e], grid, intensity, folder / "scans") for e in entries]
    (folder / "scans").mkdir(parents=True, exist_ok=True)
    left = [
        (entry.path, one)
        for entry, one in zip(entries, alone, strict=True)
        if not one.is_file()
    ]
    work = partial(_kept, grid=grid, intensity=intensity)
    faults, there = [], len(entries) - len(left)
    for done, fault in enumerate(mapped(work, left, workers), start=1):
        faults += [fault] if fault else []
        yield there + done
    if faults:
        raise EngineError(_refused(faults, len(entries)))
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    shape = (len(entries), *grid.shape)
    store = np.lib.format.open_memmap(temporary, "w+", np.float16, shape)
    try:
        for index, one in enumerate(alone):
            store[index] = np.load(one)
        store.flush()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    for one in alone:
        one.unlink(missing_ok=True)


def _refused(faults: Sequence[str], count: int) -> str:
    shown = " ".join(faults[:SHOWN])
    more = f" And {len(faults) - SHOWN} more." if len(faults) > SHOWN else ""
    return (
        f"{len(faults)} of {count} scans cannot be used. {shown}{more} Mend them, or "
        "name these files or subjects in data.without of the config; the others are "
        "kept."
    )


def mapped(
    work: Callable[[Given], T], given: Sequence[Given], workers: int
) -> Iterator[T]:
    """`work` of everything `given` in order: here, or in processes of their own."""
    if workers <= 1 or len(given) <= FEW:
        yield from map(work, given)
        return
    # spawn: forking a process that has used torch's threads can lock up
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, given)


def _kept(paths: tuple[Path, Path], grid: Grid, intensity: Intensity) -> str:
    """Put the scan of the first path on the grid, at the second; or say why not."""
    scan, target = paths
    try:
        data = on_grid(scan, grid, intensity).astype(np.float16)
    except EngineError as error:
        return f"{scan}: {error}"
    put_whole(target, partial(_save, data))
    return ""


def _save(data: NDArray[np.float16], path: Path) -> None:
    with path.open("wb") as file:  # else numpy gives the name an ending of its own
        np.save(file, data)


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

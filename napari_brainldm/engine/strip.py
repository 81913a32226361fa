"""Skull stripping by programs that the user has installed.

The picture is handed over in a folder of its own that is removed afterwards, without a
name or a header of the user's file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from napari_brainldm.engine.program import ProgramError, run
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import on_cubes, resample
from napari_brainldm.engine.scan_file import read_scan, save_volume
from napari_brainldm.engine.volume import Grid, Volume

BUILT_IN = "built-in"

CUBES_MM = 1.0
"""Voxels that are handed over, mm. The programs work in these anyway, and slanted or
sheared axes, which some of them do not read, are straight then."""


@dataclass(frozen=True)
class Program:
    """How a program is asked for a brain mask.

    Attributes
    ----------
    words
        Arguments after the program's name; the folder holds scan.nii.gz.
    mask
        Name of the file in the folder in which it leaves the mask.
    source
        Where the user finds it.
    """

    words: Callable[[Path], tuple[str, ...]]
    mask: str
    source: str


def _synthstrip(folder: Path) -> tuple[str, ...]:
    return ("-i", f"{folder / 'scan.nii.gz'}", "-m", f"{folder / 'mask.nii.gz'}")


def _hd_bet(folder: Path) -> tuple[str, ...]:
    # the command line of HD-BET 2; the mask is named after the picture it leaves out
    files = ("-i", f"{folder / 'scan.nii.gz'}", "-o", f"{folder / 'brain.nii.gz'}")
    flags = ("--disable_tta", "--save_bet_mask", "--no_bet_image")
    return (*files, "-device", "cpu", *flags)


PROGRAMS = {
    "mri_synthstrip": Program(
        _synthstrip, "mask.nii.gz", "install FreeSurfer 7.3 or later"
    ),
    "hd-bet": Program(
        _hd_bet, "brain_bet.nii.gz", "install HD-BET 2 (pip install hd-bet)"
    ),
}
WAYS = (BUILT_IN, *PROGRAMS)


def check_way(way: str) -> None:
    """Raise EngineError unless `way` is known and its program is there."""
    if way not in WAYS:
        raise EngineError(
            f'"{way}" is no way to find the brain. Choose one of {", ".join(WAYS)}.'
        )
    if way != BUILT_IN:
        _found(way)


def program_brain(scan: Volume, way: str) -> Volume:
    """The brain, 0 or 1, that the program `way` finds in `scan`, on 1 mm cubes.

    Raises
    ------
    EngineError
        When the program is missing, fails or finds nothing.
    """
    executable = _found(way)
    data, grid = on_cubes(scan, CUBES_MM)
    with TemporaryDirectory(prefix="brainldm-") as name:
        folder = Path(name)
        save_volume(Volume(data, grid.matrix), folder / "scan.nii.gz", space="scanner")
        _run(way, (executable, *PROGRAMS[way].words(folder)))
        mask = _read(way, folder / PROGRAMS[way].mask)
    return Volume(_checked(way, mask, grid), grid.matrix)


def _found(way: str) -> str:
    executable = shutil.which(way)
    if executable is None:
        raise EngineError(
            f"The program {way} was chosen to find the brain, but it is not on the "
            f'PATH. Choose "{BUILT_IN}", or {PROGRAMS[way].source} and start again.'
        )
    return executable


def _run(way: str, command: tuple[str, ...]) -> None:
    """Run to the end; its last words stand in the sentence when it fails."""
    try:
        ended = run(command)
    except ProgramError as error:
        raise _failed(way, str(error)) from error
    if ended.code != 0:
        last = ended.words or "no message"
        raise _failed(way, f"stopped with code {ended.code}: {last}")


def _read(way: str, path: Path) -> Volume:
    if not path.is_file():
        raise _failed(way, f"left no mask ({path.name})")
    try:
        return read_scan(path).volume
    except EngineError as error:
        raise _failed(way, f"left a mask that cannot be read: {error}") from error


def _checked(way: str, mask: Volume, grid: Grid) -> np.ndarray:
    """`mask` as 0 or 1 on `grid`, wherever the program put its voxels."""
    brain = resample(mask, grid, order=0) > 0.5
    if not brain.any():
        raise _failed(way, "found no brain")
    return brain.astype(np.float32)


def _failed(way: str, what: str) -> EngineError:
    return EngineError(
        f"{way} {what}. See that it works on this scan by itself, or choose "
        f'"{BUILT_IN}".'
    )

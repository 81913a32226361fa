"""FreeSurfer's mri_synthseg, where it is installed and chosen, and its labels."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.networks.segmenter import STRUCTURES, Structure
from napari_brainldm.engine.program import ProgramError, run
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.scan_file import load_volume, save_volume
from napari_brainldm.engine.segment import Segmentation
from napari_brainldm.engine.volume import Affine, Grid, Volume

PROGRAM = "mri_synthseg"

MERGED = {
    5: 4,  # inferior horns
    44: 43,
    31: 4,  # choroid plexus
    63: 43,
    15: 14,  # third and fourth ventricle
    72: 14,
    **dict.fromkeys((77, 78, 250, 251, 252, 253, 254, 255), 2),  # white matter
    79: 41,
}
"""Index of FreeSurfer's table -> the index of the structure it belongs to here."""

PARCELS = {1: 3, 2: 42, 3: 2, 4: 41, 11: 3, 12: 42, 13: 2, 14: 41}
"""Thousands of a parcel's index (aparc, wmparc, a2009s) -> cortex or white matter."""


def segment_with_synthseg(
    scan: Volume, grid: Grid, to_scan: Affine | None = None, device: str = ""
) -> Segmentation:
    """The structures of `scan` on `grid`, found by mri_synthseg.

    Parameters
    ----------
    scan
        In its own space, as it was measured.
    grid
        Where memberships are wanted, in MNI space.
    to_scan
        4 x 4, mm of `grid` -> mm of `scan`; None is the identity.
    device
        "cpu" keeps the program off the graphics card.

    Raises
    ------
    EngineError
        When the program is not on PATH or gives no label map.
    """
    program = find_program()
    with TemporaryDirectory(prefix="brainldm-") as folder:
        source, target = Path(folder, "scan.nii.gz"), Path(folder, "labels.nii.gz")
        save_volume(scan, source, space="scanner")
        _run(_command(program, source, target, device), target)
        labels = load_volume(target)
    return from_labels(labels, grid, to_scan, PROGRAM)


def find_program() -> str:
    """Path of mri_synthseg; an EngineError sentence when it is not there."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise EngineError(
            f"{PROGRAM} was chosen, but it is not on PATH. Install FreeSurfer 7.4 or "
            "later and source its set-up, or use the method built-in."
        )
    return program


def from_labels(
    labels: Volume,
    grid: Grid,
    to_labels: Affine | None = None,
    method: str = "labels",
    structures: Sequence[Structure] = STRUCTURES,
) -> Segmentation:
    """A FreeSurfer label map as memberships on `grid`, certain where grids agree.

    On a coarser grid a voxel belongs to each structure by its share. `to_labels`
    (4 x 4) leads from mm of `grid` to mm of `labels`.
    """
    known = merged(np.rint(labels.data).astype(np.int32))
    memberships = np.zeros((1 + len(structures), *grid.shape), np.float32)
    for row, structure in enumerate(structures, start=1):
        there = (known == structure.left) | (known == structure.right)
        share = Volume(there.astype(np.float32), labels.affine)
        memberships[row] = resample(share, grid, to_labels)
    memberships[0] = np.clip(1 - memberships[1:].sum(0), 0, 1)
    return Segmentation(memberships, grid, tuple(structures), method)


def merged(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Indices (i, j, k) of the structures told apart here, of all that has one."""
    known = labels.copy()
    for index, structure in MERGED.items():
        known[labels == index] = structure
    for thousand, structure in PARCELS.items():
        known[labels // 1000 == thousand] = structure
    return known


def _command(program: str, source: Path, target: Path, device: str) -> list[str]:
    words = [program, "--i", str(source), "--o", str(target)]
    words += ["--threads", str(os.cpu_count() or 1)]
    return [*words, "--cpu"] if device == "cpu" else words


def _run(command: list[str], target: Path) -> None:
    """Run the program to its end; it has to write `target`."""
    try:
        ended = run(command)
    except ProgramError as error:
        raise _failed(str(error)) from error
    if ended.code != 0 or not target.is_file():
        words = ended.words or "none"
        raise _failed(f"exit status {ended.code}, last words: {words}")


def _failed(what: str) -> EngineError:
    return EngineError(
        f"{PROGRAM} gave no label map ({what}). See that it runs on its own, or use "
        "the method built-in."
    )

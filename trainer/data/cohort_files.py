"""Files of a simulated cohort: written whole, the same content in the same bytes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_brainldm.engine.files import write_whole

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Affine

UINT8_LEVELS = 255.0


def write_nifti(base: Path, voxels: np.ndarray, affine: Affine, slope: float) -> None:
    """Write voxels (i, j, k) uint8 as `base`.nii.gz with a fresh header."""
    import nibabel as nib

    make: Any = nib.Nifti1Image  # nibabel is typed in part
    image = make(voxels, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(slope, 0.0)
    # mtime 0: the same scan is the same bytes
    packed = gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)
    _write_bytes(base.with_name(base.name + ".nii.gz"), packed)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as indented JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8; the folder is made."""
    _write_bytes(path, text.encode())


def _write_bytes(path: Path, content: bytes) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)


def tsv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Tab-separated text of `rows` with a head."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(str(row[column]) for column in columns) for row in rows]
    return "\n".join(lines) + "\n"

"""Simulated people beside real scans, the same three slices of each.

    python tools/cohort_sheet.py COHORT REAL [REAL ...] --out docs/images/cohort.png

COHORT is a folder that `python -m trainer cohort` wrote; its first 24 people are shown.
REAL are T1-weighted scans; they are conformed to the same grid first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np

from napari_brainldm.engine.card import Intensity
from napari_brainldm.engine.table import read_rows
from napari_brainldm.engine.volume import Array, mni_grid
from trainer.data.pictures import on_grid

PEOPLE, COLUMNS = 24, 6


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("real", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = read_rows(options.cohort / "participants.tsv")[:PEOPLE]
    pictures = [(_picture(_path(options.cohort, row)), _words(row)) for row in rows]
    pictures += [(_picture(path), f"REAL {path.name[:6]}") for path in options.real]
    draw(pictures, options.out)


def _path(cohort: Path, row: dict[str, str]) -> Path:
    name = row["participant_id"]
    return cohort / name / "anat" / f"{name}_T1w.nii.gz"


def _words(row: dict[str, str]) -> str:
    ventricles = float(row["ventricles_ml"])
    return f"{row['age']} {row['sex']} {row['diagnosis']} {ventricles:.0f} ml"


def _picture(path: Path) -> Array:
    return on_grid(path, mni_grid(2.0), Intensity())


def slices(data: Array) -> Array:
    """Axial, coronal and sagittal slice of data (i, j, k) RAS, side by side."""
    i, j, k = (n // 2 for n in data.shape)
    views = [
        np.rot90(data[:, :, k + 4]),
        np.rot90(data[:, j, :]),
        np.rot90(data[i + 3]),
    ]
    height = max(v.shape[0] for v in views)
    padded = [np.pad(v, ((0, height - v.shape[0]), (0, 0))) for v in views]
    found: Array = np.hstack(padded)
    return found


def draw(pictures: list[tuple[Array, str]], out: Path, columns: int = COLUMNS) -> None:
    """Save `pictures` with their words, so many to a row."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 2.9, rows * 1.25))
    for axis in axes.flat:
        axis.axis("off")
    for axis, (data, words) in zip(axes.flat, pictures, strict=False):
        axis.imshow(slices(data), cmap="gray", vmin=0, vmax=1)
        axis.set_title(words, fontsize=7, color="white", pad=2)
    figure.patch.set_facecolor("black")
    figure.subplots_adjust(0, 0, 1, 0.97, 0.02, 0.15)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=75)


if __name__ == "__main__":
    main()

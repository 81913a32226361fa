"""Scans, their reconstruction, an edit and the difference, as one picture and a table.

    python tools/scan_sheet.py FOLDER [FOLDER ...] --out docs/images/real_scans.png

Each FOLDER is what `brainldm edit SCAN --out FOLDER ...` wrote for one scan.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from cohort_sheet import slices

from napari_brainldm.engine.scan_file import load_volume
from napari_brainldm.engine.similarity import psnr, ssim

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array

PARTS = ("conformed", "reconstruction", "edit", "difference")


def main() -> None:
    """Draw the sheet and print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    print("| scan | quality of placement | SSIM brain | PSNR brain, dB |")
    print("|---|---|---|---|")
    for folder in options.folders:
        print(row(folder))
    draw([parts(folder) for folder in options.folders], options.out)


def parts(folder: Path) -> list[Array]:
    """The four pictures (i, j, k) of one scan."""
    return [load_volume(_one(folder, part, ".nii.gz")).data for part in PARTS]


def _one(folder: Path, part: str, ending: str) -> Path:
    return next(folder.glob(f"scan-*_{part}*{ending}"))


def row(folder: Path) -> str:
    """One scan: quality figure, and its reconstruction against the scan."""
    scan, rebuilt = parts(folder)[:2]
    scan, rebuilt = scan.astype(np.float32), rebuilt.astype(np.float32)
    brain = scan > 0
    sidecar = json.loads(_one(folder, "conformed", ".json").read_text())
    figure = sidecar["Scan"]["Quality"]["figure"]
    like = ssim(rebuilt, scan, brain)[1]
    ratio = psnr(rebuilt, scan, brain)
    return f"| {folder.name} | {figure:.2f} | {like:.2f} | {ratio:.1f} |"


def draw(rows: list[list[Array]], out: Path) -> None:
    """Save one row per scan; the difference in red and blue, from -0.4 to 0.4."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        len(rows), 4, figsize=(14, 1.5 * len(rows)), squeeze=False
    )
    for line, pictures in zip(axes, rows, strict=True):
        for axis, data, part in zip(line, pictures, PARTS, strict=True):
            signed = part == "difference"
            low, colours = (-0.4, "RdBu_r") if signed else (0.0, "gray")
            high = 0.4 if signed else 1.0
            axis.imshow(slices(data), cmap=colours, vmin=low, vmax=high)
            axis.axis("off")
            axis.set_title(part, fontsize=8, color="white", pad=2)
    figure.patch.set_facecolor("black")
    figure.subplots_adjust(0, 0, 1, 0.95, 0.02, 0.15)
    figure.savefig(out, dpi=75)


if __name__ == "__main__":
    main()

"""Scans on the model's grid, as one picture and a table in Markdown.

    python tools/conform_sheet.py DATA --out docs/images/conform.png

Every NIfTI and MGZ file below the FOLDERs is conformed to 1 mm; the picture shows the
placed scan, axial, coronal and sagittal, with the outline of its brain mask. A scan
that is refused is told in the table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.conform import Conformed, canonical, conform
from napari_brainldm.engine.placement import Template, mni_template
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.resources import segmenter_at_hand
from napari_brainldm.engine.scan_file import read_scan
from napari_brainldm.engine.segment import Segmenter
from napari_brainldm.engine.volume import Array, Volume, mni_grid

GRID, SHOWN = mni_grid(1.0), mni_grid(1.6)
HEAD = (
    "| scan | voxels, mm | taken for | quality | overlap | likeness | coverage | "
    "brain, ml | at edge, ml | s | CPU s |"
)
NOT_SCANS = ("labelmaps", "fnc", "_aseg")


@dataclass(frozen=True, eq=False)
class Row:
    """One scan: its line of the table, and its picture (y, x, 3) if not refused."""

    name: str
    line: str
    picture: Array | None


def main() -> None:
    """Print the table, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--segmenter", type=Path, default=segmenter_at_hand())
    parser.add_argument("--n4", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(2)
    path, template = options.segmenter, mni_template()
    segmenter = Segmenter(load_checkpoint(path), "cpu", "float32") if path else None
    print(HEAD + "\n|" + "---|" * HEAD.count(" |"))
    rows = []
    for scan in scans(options.folders):
        rows.append(row(*scan, template, segmenter, options.n4))
        print(rows[-1].line, flush=True)
    draw([row for row in rows if row.picture is not None], options.out)


def scans(folders: list[Path]) -> Iterator[tuple[Path, str]]:
    """Scan files below `folders` and their names in the table."""
    for folder in folders:
        files = [folder] if folder.is_file() else sorted(folder.rglob("*.[nm]*"))
        for path in files:
            known = path.name.endswith((".nii.gz", ".nii", ".mgz"))
            if known and not any(part in str(path) for part in NOT_SCANS):
                top = path.relative_to(folder.parent).parts
                yield path, "/".join(dict.fromkeys((*top[1:2], path.name)))


def row(
    path: Path, name: str, template: Template, segmenter: Segmenter | None, n4: bool
) -> Row:
    """Read and conform one scan."""
    clocks = time.perf_counter(), time.process_time()
    try:
        scan = read_scan(path).volume
        done = conform(scan, GRID, template=template, segmenter=segmenter, n4=n4)
    except EngineError as error:
        return Row(name, f"| {name} | | refused: {error} | | | | | | | | |", None)
    spent = time.perf_counter() - clocks[0], time.process_time() - clocks[1]
    return Row(name, line(name, scan, done, spent), picture(scan, done))


def line(name: str, scan: Volume, done: Conformed, spent: tuple[float, float]) -> str:
    """One line of the table."""
    quality = done.quality
    figures = quality.figure, quality.overlap, quality.likeness, quality.coverage
    cells = [
        name,
        " x ".join(f"{size:.3g}" for size in scan.grid.voxel_size),
        done.steps[0].removeprefix("Taken for a ").rstrip("."),
        *(f"{figure:.2f}" for figure in figures),
        f"{done.brain.sum() / 1000:.0f}",
        f"{at_edge(done.brain) / 1000:.1f}",
        *(f"{seconds:.1f}" for seconds in spent),
    ]
    return "| " + " | ".join(cells) + " |"


def at_edge(brain: np.ndarray) -> int:
    """Voxels of the brain on the faces of the grid: what is cut off lies behind."""
    inner = np.zeros_like(brain)
    inner[1:-1, 1:-1, 1:-1] = True
    return int((brain & ~inner).sum())


def picture(scan: Volume, done: Conformed) -> Array:
    """Three planes of the placed scan, mask outlined in red: (y, x, 3), 0..1."""
    data = resample(canonical(scan), SHOWN, done.to_scan)
    mask = Volume(done.brain.astype(np.float32), GRID.matrix)
    brain = resample(mask, SHOWN) > 0.5
    gray = np.clip(data / max(np.percentile(data[brain], 99.5), 1e-6), 0, 1)
    i, j, k = (np.argwhere(brain).mean(0) + np.array([4, 0, 0])).astype(int)
    planes = [
        outlined(*(np.flipud(plane.T) for plane in pair))
        for pair in (
            (gray[:, :, k], brain[:, :, k]),
            (gray[:, j], brain[:, j]),
            (gray[i], brain[i]),
        )
    ]
    high = max(plane.shape[0] for plane in planes)
    padded = [
        np.pad(plane, ((0, high - plane.shape[0]), (0, 0), (0, 0))) for plane in planes
    ]
    return np.concatenate(padded, axis=1)


def outlined(gray: Array, brain: np.ndarray) -> Array:
    """A plane (y, x, 3) with the edge of `brain` in red."""
    colour = np.repeat(gray[..., None], 3, axis=2)
    colour[ndimage.binary_dilation(brain) & ~brain] = (1.0, 0.15, 0.1)
    return colour


def draw(rows: list[Row], out: Path) -> None:
    """Save all pictures, four scans abreast."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    lines = -(-len(rows) // 4)
    figure, axes = plt.subplots(lines, 4, figsize=(16, 1.68 * lines), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, row in zip(axes.flat, rows, strict=False):
        assert row.picture is not None
        axis.imshow(row.picture, interpolation="none")
        name = row.name.rsplit("/", 1)[-1].removesuffix(".nii.gz")
        axis.set_title(name, fontsize=8, color="white", pad=2)
    figure.patch.set_facecolor("black")
    figure.subplots_adjust(0, 0, 1, 0.98, 0.02, 0.12)
    figure.savefig(out, dpi=85)
    Image.open(out).quantize(128).save(out, optimize=True)  # a third of the bytes


if __name__ == "__main__":
    main()

"""What a model's autoencoder alone makes of scans, as a table in Markdown.

    python -m tools.rebuilt_scans DATA/ds002748/sub-0*

Each scan is conformed to the model's grid and sent through encoder and decoder. SSIM
(MONAI, Gaussian window 11, data range 1) and PSNR are those against the conformed scan.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.resources import bundled_checkpoint
from napari_brainldm.engine.scan_file import read_scan
from napari_brainldm.engine.similarity import psnr, ssim


def main() -> None:
    """Print a line for each scan, then the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scans", type=Path, nargs="+", help="files, or their folders")
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled one")
    options = parser.parse_args()
    renderer = Renderer(load_checkpoint(options.checkpoint or bundled_checkpoint()))
    print("| scan | SSIM grid | SSIM brain | PSNR brain, dB |\n|---|---|---|---|")
    rows = []
    for given in options.scans:
        for path in sorted(given.rglob("*_T1w.nii.gz")) if given.is_dir() else [given]:
            rows.append(figures(renderer, path))
            print(line(path.name.removesuffix("_T1w.nii.gz"), rows[-1]), flush=True)
    print(line(f"mean of {len(rows)}", np.mean(rows, axis=0)))


def figures(renderer: Renderer, path: Path) -> np.ndarray:
    """SSIM in grid and brain, PSNR in the brain: (3,)."""
    conformed = renderer.conformed(renderer.admit(read_scan(path).volume))
    scan = conformed.volume.data
    rebuilt, brain = renderer.rebuild(scan), scan > 0
    return np.array([*ssim(rebuilt, scan, brain), psnr(rebuilt, scan, brain)])


def line(name: str, found: np.ndarray) -> str:
    """One line of the table."""
    return f"| {name} | {found[0]:.3f} | {found[1]:.3f} | {found[2]:.1f} |"


if __name__ == "__main__":
    main()

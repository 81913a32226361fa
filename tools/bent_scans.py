"""How well real scans are bent onto the MNI template, as LDAE's weights want them.

    python tools/bent_scans.py SCAN...

Prints, for each scan, the correlation of intensities with the template within its brain
and the Dice overlap of both brains, after rigid placement with size and after bending,
the largest displacement, and the correlation of the scan with itself there and back.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from napari_brainldm.engine.conform import put_in_place
from napari_brainldm.engine.convention import brain_alone, likeness
from napari_brainldm.engine.placement import Mask, mni_template
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.resources import segmenter_at_hand
from napari_brainldm.engine.scan_file import load_volume
from napari_brainldm.engine.segment import brain_finder
from napari_brainldm.engine.volume import Array, Volume
from napari_brainldm.engine.warp import bend


def main(paths: list[str]) -> None:
    """Print a row of a Markdown table for each scan."""
    template, file = mni_template(), segmenter_at_hand()
    finder = None if file is None else brain_finder(file, "cpu")
    print("| scan | r before | r after | Dice before | Dice after | mm | back | s |")
    print("|---|---|---|---|---|---|---|---|")
    for path in map(Path, paths):
        placed = put_in_place(load_volume(path), template, finder, n4=True)
        brain, placement = brain_alone(placed), placed.found.placement
        start = time.perf_counter()
        warp = bend(brain, placement, template)
        seconds = time.perf_counter() - start
        grid = template.picture.grid
        before, after = resample(brain, grid, warp.affine), warp.onto(brain, grid)
        back = warp.into_scan(Volume(after, grid.matrix), brain.grid)
        inside = brain.data > 0
        figures = (
            *(likeness(Volume(d, grid.matrix), template) for d in (before, after)),
            *(overlap(data, template.brain) for data in (before, after)),
            float(np.abs(warp.there).max()),
            float(np.corrcoef(back[inside], brain.data[inside])[0, 1]),
            seconds,
        )
        row = " | ".join(f"{figure:.3g}" for figure in figures)
        print(f"| {path.name} | {row} |", flush=True)


def overlap(data: Array, brain: Mask) -> float:
    """Dice of what is not empty in `data` with `brain`."""
    seen = data > 0.05 * np.percentile(data, 99)
    return float(2 * (seen & brain).sum() / (seen.sum() + brain.sum()))


if __name__ == "__main__":
    main(sys.argv[1:])

"""One condition at a time from below to beyond the training range, as one picture.

    python -m tools.extrapolation_sheet --out docs/images/extrapolation.png

After Figure 4 of Pinaya 2022: ventricles and brain volume at the normalised values of
`benchmarks.demo`, 0 and 1 being the ends of the training range, all else at the
reference and the seed the same. Under each picture stands what the segmenter found.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from PIL import Image

from benchmarks.demo import BEYOND
from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Conditions, Request, Seed
from napari_brainldm.engine.resources import bundled_checkpoint, bundled_segmenter
from napari_brainldm.engine.segment import Segmenter
from trainer.evaluate.brain_ldm import measured

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array


def main() -> None:
    """Render, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    renderer = Renderer(load_checkpoint(options.checkpoint or bundled_checkpoint()))
    segmenter = Segmenter(load_checkpoint(bundled_segmenter()))
    rows = {name: row(renderer, segmenter, name, options.seed) for name in BEYOND}
    draw(rows, options.out)


def row(
    renderer: Renderer, segmenter: Segmenter, name: str, seed: int
) -> list[tuple[str, Array]]:
    """Caption and picture (y, x) of each value of the condition `name`."""
    card = renderer.card
    found = []
    for code in BEYOND[name]:
        value = card.covariate(name).decode(code)
        request = Request(Conditions.of({name: value}), Seed(seed))
        data = finish(renderer.render(request)).data
        got = measured(segmenter, card, data)[name]
        found.append((f"{name} {code:g}: {value:.0f} ml, got {got:.0f}", planes(data)))
    return found


def planes(data: Array) -> Array:
    """Axial and coronal slice through the ventricles side by side (y, x), 0..1."""
    _, j, k = (n // 2 for n in data.shape)
    axial, coronal = np.flipud(data[:, :, k + 2].T), np.flipud(data[:, j].T)
    high = max(len(axial), len(coronal))
    padded = [np.pad(p, ((high - len(p), 0), (0, 0))) for p in (axial, coronal)]
    shown: Array = np.concatenate(padded, axis=1) / 1.1
    return shown.clip(0, 1)


def draw(rows: dict[str, list[tuple[str, Array]]], out: Path) -> None:
    """Save the rows below each other."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    wide = max(len(found) for found in rows.values())
    size = (3.4 * wide, 2.3 * len(rows))
    figure, axes = plt.subplots(len(rows), wide, figsize=size, squeeze=False)
    for line, found in zip(axes, rows.values(), strict=True):
        for axis in line:
            axis.axis("off")
        for axis, (caption, picture) in zip(line, found, strict=False):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(caption, fontsize=9, color="white", pad=3)
    figure.patch.set_facecolor("black")
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.92, 0.04, 0.12)
    figure.savefig(out, dpi=90)
    Image.open(out).quantize(128).save(out, optimize=True)


if __name__ == "__main__":
    main()

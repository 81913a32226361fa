"""Two or more scans of one person and the pictures between them, in a row and a table.

    python tools/visit_sheet.py FIRST SECOND [...] --ages 0 0.556 --out visits.png

Scans are taken in as the Visits dock does; shown are the placed scans, their
reconstructions, the picture half-way between neighbours and one beyond the last visit.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

from cohort_sheet import draw

from napari_brainldm.engine.ageing import Kept, film_along, measured_visits
from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.left_out import likeness
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import CURVES, Sampler
from napari_brainldm.engine.resources import bundled_ldae, bundled_segmenter
from napari_brainldm.engine.scan_file import read_scan
from napari_brainldm.engine.segment import Segmenter
from napari_brainldm.engine.visits import encode_visits

COLUMNS = 3

HEAD = (
    "| picture | ventricles, ml | hippocampi, ml | SSIM brain, first scan | last scan |"
)


def main() -> None:
    """Draw the row and print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scans", type=Path, nargs="+")
    parser.add_argument("--ages", type=float, nargs="+", required=True)
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled LDAE")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    renderer = Renderer(load_checkpoint(options.checkpoint or bundled_ldae()))
    segmenter = Segmenter(load_checkpoint(bundled_segmenter()))
    scans = [read_scan(path).volume for path in options.scans]
    steps = options.steps
    course = finish(encode_visits(renderer, scans, options.ages, [steps]))
    ages = course.ages
    between = [(a + b) / 2 for a, b in pairwise(ages)]
    wanted = sorted([*ages, *between, course.reach[1]])
    sampler = Sampler("ddim", steps)
    film, points = finish(
        film_along(renderer, course, wanted, CURVES[0], sampler, Kept(), segmenter)
    )
    placed = [renderer.conformed(visit.scan.digest) for visit in course.visits]
    real = finish(measured_visits(renderer, course, segmenter))
    rows = [
        (f"scan, {point.age:.2f} years", one.volume, point.measured)
        for point, one in zip(real, placed, strict=True)
    ]
    rows += [
        (f"{point.age:.2f} years, {course.where(point.age)}", picture, point.measured)
        for point, picture in zip(points, film.pictures, strict=True)
    ]
    print(f"{HEAD}\n|---|---|---|---|---|")
    for words, picture, found in rows:
        like = [
            likeness(picture, one.volume, one.brain).ssim_brain
            for one in (placed[0], placed[-1])
        ]
        volumes = f"{found.ventricles:.1f} | {found.hippocampus:.2f}"
        print(f"| {words} | {volumes} | {like[0]:.3f} | {like[1]:.3f} |")
    draw([(picture.data, words) for words, picture, _ in rows], options.out, COLUMNS)


if __name__ == "__main__":
    main()

"""Simulated readers read the sample study; its report, and pictures for the docs.

    python -m tools.sample_report --out FOLDER [--images docs/images]

Four readers who are programs: they know the truth and answer from it with noise (d' of
0.6 to 1.8, ventricles with a JND of 0.12 in ln ratio, one with a pull to the left), so
the report shows what a report looks like and nothing about the pictures. FOLDER gets
the study with its records, its key and the report.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.review_study import Hurried, at_work
from napari_brainldm.review.check import checked
from napari_brainldm.review.report import close, write_report
from napari_brainldm.review.sample import sample_study
from napari_brainldm.review.session import Clock, Session
from napari_brainldm.review.statistics.psychometric import JND_PER_SIGMA
from napari_brainldm.review.study import Item, key_path, read_key, read_study

if TYPE_CHECKING:
    from collections.abc import Callable

SKILLS = (1.8, 1.3, 1.0, 0.6)
"""d' of the four."""

JND, PULLS = 0.12, (0.0, 0.0, -0.08, 0.04)
"""In ln ratio; a pull below 0 makes the left one look bigger."""

CUTS = (-1.0, -0.3, 0.3, 1.0, 1.7)
"""Between the six levels of confidence."""

PICTURES = {"ROC by reader": "roc", "Psychometric curves": "curves"}


def main() -> None:
    """Read, close, verify, report; draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    options = parser.parse_args()
    folder, _ = sample_study(options.out)
    key = read_key(key_path(folder), read_study(folder)[0])
    items = {item.token: item for item in key.items}
    for number, skill in enumerate(SKILLS):
        session = Session(folder, f"R{number + 1:02d}", Clock(time.time, Hurried()))
        answer = reader(items, skill, PULLS[number], np.random.default_rng(number))
        print(f"{sum(1 for _ in at_work(session, answer))} trials", session.close())
    close(folder)
    told, faults = checked(folder)
    print("\n".join([*told, *faults]))
    page = write_report(folder, key_path(folder), options.out / "report")
    print(page)
    if options.images:
        _draw(page.read_text(encoding="utf-8"), options.images)


def reader(
    items: dict[str, Item], skill: float, pull: float, rng: np.random.Generator
) -> Callable[[Session, str], Any]:
    """What a simulated reader says to a question."""

    def answer(session: Session, question: str) -> int:
        shown = [items[token] for token in session.showing.stimuli]
        if question == "real":
            if shown[0].arm == "catch":
                return 6
            made = shown[0].arm == "synthetic"
            seen = rng.normal(skill / 2 if made else -skill / 2)
            return int(np.digitize(seen, CUTS)) + 1
        one, two = (item.facts["ventricles"] for item in shown)
        return 1 + int(np.log(two / one) + pull > rng.normal(0, JND / JND_PER_SIGMA))

    return answer


def _draw(page: str, folder: Path) -> None:
    """The report's drawings, each a file of its own."""
    for part in page.split("<figure>")[1:]:
        svg, _, rest = part.partition("<figcaption>")
        name = PICTURES.get(rest.partition("</figcaption>")[0])
        if name is not None:
            (folder / f"sample_report_{name}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()

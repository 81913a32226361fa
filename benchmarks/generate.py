"""Ask whether many pictures are made fast, and whole after every kill.

    python -m benchmarks.generate [--quick] [--json] [--seed S] [--only PART]
        [--device D] [--price P] [--assume TIMES]

Three parts. *speed*: two workers against one, the bundled model, same threads, in turn;
the median of the pairs, for a machine's speed may drift. *kills*:
500 pictures of a tiny model on two workers, of which 10 are killed at random, and the
whole run twice; the dataset must be that of an undisturbed run, byte for byte. *plan*:
what 100,000 pictures at 160 x 224 x 160 take, from times measured here, and whether a
simulated scheduler run with these times agrees. Nothing else should run meanwhile: the
load of the machine before each part is printed beside its figures.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.generate_kills import kills
from benchmarks.generate_plan import plan
from benchmarks.report import AT_LEAST, AT_MOST, Limit, finish, options
from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.request import Sampler
from napari_brainldm.engine.resources import bundled_checkpoint
from trainer.generate.crew import crew
from trainer.generate.job import Job, Task, tasks_of
from trainer.generate.plan import plan_of_grid
from trainer.generate.run import Wish, begin, job_of
from trainer.generate.work import make

LIMITS = {
    "speedup_two_workers": Limit(AT_LEAST, 1.8),
    "killed_run_is_identical": Limit(AT_LEAST, 1.0),
    "kept_pictures_untouched": Limit(AT_LEAST, 1.0),
    "plan_against_simulation": Limit(AT_MOST, 0.05),
}
PARTS = ("speed", "kills", "plan")
LIMITS_OF = {
    "speed": ("speedup_two_workers",),
    "kills": ("killed_run_is_identical", "kept_pictures_untouched"),
    "plan": ("plan_against_simulation",),
}


@dataclass(frozen=True)
class Size:
    """Pictures timed and how often, those of the killed run, its kills, paper steps."""

    timed: int
    rounds: int
    killed: int
    worker_kills: int
    run_kills: int
    steps: int


FULL = Size(timed=24, rounds=3, killed=500, worker_kills=10, run_kills=2, steps=4)
QUICK = Size(timed=4, rounds=1, killed=24, worker_kills=1, run_kills=1, steps=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print one JSON object; 0 if all is within limits."""
    parser = options("generate", __doc__)
    parser.add_argument("--only", choices=PARTS, help="one part instead of all")
    parser.add_argument("--device", default="", help="of the plan's times; best")
    parser.add_argument(
        "--price", type=float, default=2.5, help="of a graphics card, per hour"
    )
    parser.add_argument(
        "--assume",
        default="",
        help='times of hardware that is not here, as "compute=0.24 write=1 start=60 '
        'task=0.005 threads=8 batch=16 check=0.01 collect=0.0003 megabytes=10.4"',
    )
    chosen = parser.parse_args(arguments)
    size = QUICK if chosen.quick else FULL
    wanted = (chosen.only,) if chosen.only else PARTS
    limits = {name: LIMITS[name] for part in wanted for name in LIMITS_OF[part]}

    def run() -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for part in wanted:
            figures[f"load_before_{part}"] = os.getloadavg()[0]
            if part == "speed":
                figures |= speed(size.timed, size.rounds)
            elif part == "kills":
                counts = size.killed, size.worker_kills, size.run_kills
                figures |= kills(counts, chosen.seed)
            else:
                figures |= plan(
                    chosen.device,
                    size.steps,
                    chosen.price,
                    chosen.seed,
                    chosen.assume,
                )
        return figures

    return finish(chosen, limits, run)


def speed(count: int, rounds: int) -> dict[str, Any]:
    """Pictures a second with one worker and with two, once both are warm."""
    pairs = [(_rate(1, count), _rate(2, count)) for _ in range(rounds)]
    ratios = [two / one for one, two in pairs]
    return {
        "pictures_per_second_one": median(one for one, _ in pairs),
        "pictures_per_second_two": median(two for _, two in pairs),
        "speedups": ratios,
        "speedup_two_workers": median(ratios),
    }


def _rate(workers: int, count: int) -> float:
    path = bundled_checkpoint()
    model = load_checkpoint(path)
    rows = plan_of_grid(["age=40"], count, model.card)
    with tempfile.TemporaryDirectory() as folder:
        wish = Wish(path, Path(folder), Sampler("dpm++2m", 8), device="cpu")
        wish = replace(wish, precision="float32", batch=1)
        with crew(workers, "", "cpu") as hands:
            job, rows = begin(
                job_of(wish, model.sha256, rows), wish.sampler, rows, hands
            )
            tasks = tasks_of(rows, job.batch, [False] * count)
            for _ in hands.each(_warm, job, tasks[: 4 * workers]):
                pass
            start = time.perf_counter()
            made = sum(found.pictures for found in hands.each(make, job, tasks))
            return made / (time.perf_counter() - start)


def _warm(job: Job, task: Task) -> None:
    """Load the models and compute once; every worker gets some of these."""
    make(job, task)


if __name__ == "__main__":
    sys.exit(main())

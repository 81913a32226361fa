"""Ask whether the bundled brain LDM does what its sliders say.

    python -m benchmarks.demo [--quick] [--json] [--seed S] [--checkpoint FILE]

Held-out people are simulated from a seed that training never used. Volumes are read by
the meter of `trainer.evaluate.meter`, whose own error on held-out scans is printed
beside. `--quick` walks the same road with a few pictures.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import AT_LEAST, Limit, finish, options
from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import Sampler
from napari_brainldm.engine.resources import bundled_checkpoint
from trainer.config import DataConfig, load_config
from trainer.data.bids import Entry, read_dataset
from trainer.data.cohort import CohortConfig, write_cohort
from trainer.evaluate.brain_ldm import (
    ask,
    ceiling_figures,
    condition_figures,
    readout_figures,
    rebuilt_figures,
    sweep,
)
from trainer.evaluate.run import calibrated, load_unseen

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card

SEED = 909_000  # far from the training cohort's


@dataclass(frozen=True)
class Size:
    """How much work: people for the meter, held-out people, pictures, seeds."""

    calibrated: int
    unseen: int
    pictures: int
    seeds: int


FULL = Size(calibrated=60, unseen=60, pictures=60, seeds=4)
QUICK = Size(calibrated=3, unseen=3, pictures=3, seeds=1)
LIMITS = {
    "rebuilt_ssim_brain": Limit(AT_LEAST, 0.80),
    "ventricles_r": Limit(AT_LEAST, 0.80),
    "brain_r": Limit(AT_LEAST, 0.60),
    "ventricles_60_over_12": Limit(AT_LEAST, 2.0),
    "brain_swing_ml": Limit(AT_LEAST, 50.0),
    "age_swing_years": Limit(AT_LEAST, 10.0),
}


def measure(path: Path, size: Size, seed: int) -> dict[str, Any]:
    """Every figure of the checkpoint at `path`."""
    renderer = Renderer(load_checkpoint(path))
    with tempfile.TemporaryDirectory() as folder:
        entries = _people(Path(folder), renderer.card, size, seed)
        meter = calibrated(entries[: size.calibrated], renderer.card)
        unseen = [load_unseen(e, renderer.card) for e in entries[size.calibrated :]]
    figures: dict[str, Any] = rebuilt_figures(renderer, unseen)
    figures |= ceiling_figures(meter, unseen)
    wanted = [unseen[n % len(unseen)].conditions for n in range(size.pictures)]
    figures |= condition_figures(list(ask(renderer, meter, wanted, Sampler())))
    figures |= readout_figures(renderer, unseen, size.pictures)
    few, many = sweep(renderer, meter, "ventricles", (12.0, 60.0), size.seeds)
    figures |= {"ventricles_at_12_ml": few, "ventricles_at_60_ml": many}
    figures["ventricles_60_over_12"] = many / max(few, 1.0)
    brain = renderer.card.covariate("brain")
    low, high = (float(brain.decode(code)) for code in (0.1, 0.9))
    small, large = sweep(renderer, meter, "brain", (low, high), size.seeds)
    figures |= {f"brain_at_{low:.0f}_ml": small, f"brain_at_{high:.0f}_ml": large}
    figures["brain_swing_ml"] = large - small
    return figures | {
        "pictures": size.pictures,
        "checkpoint": renderer.checkpoint.sha256,
    }


def _people(folder: Path, card: Card, size: Size, seed: int) -> tuple[Entry, ...]:
    """Freshly simulated people on the model's grid; brain by the card's head size."""
    voxel = card.grid.voxel_size[0]
    count = size.calibrated + size.unseen
    cohort = CohortConfig(seed=SEED + seed, subjects=count, voxel_mm=voxel)
    for _ in write_cohort(cohort, folder):
        pass
    covariates = load_config(Path("demo.toml")).data.covariates
    data = DataConfig(str(folder), voxel, held_out=0.0, covariates=covariates)
    dataset = read_dataset(data)
    return tuple(
        _rescaled(e, card.head_size / dataset.head_size) for e in dataset.train
    )


def _rescaled(entry: Entry, factor: float) -> Entry:
    values = dict(entry.covariates)
    values["brain"] = float(values["brain"]) * factor
    return replace(entry, covariates=tuple(values.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print one JSON object; 0 if all is within limits."""
    parser = options("demo", __doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled one")
    chosen = parser.parse_args(arguments)
    path = chosen.checkpoint or bundled_checkpoint()
    size = QUICK if chosen.quick else FULL
    return finish(chosen, LIMITS, lambda: measure(path, size, chosen.seed))


if __name__ == "__main__":
    sys.exit(main())

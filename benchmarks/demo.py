"""Ask whether the bundled brain LDM does what its sliders say.

    python -m benchmarks.demo [--quick] [--json] [--seed S] [--checkpoint FILE]

Held-out people are simulated from a seed that training never used, and the training
cohort is simulated again where it is not there. Volumes are read by the bundled
segmenter; its own agreement on the held-out scans, the ceiling, stands beside under
`scans_`. `input_` figures are those of the noisy scan itself against its noise-free
truth: the noise ceiling. `--quick` walks the same road with a few pictures.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import AT_LEAST, AT_MOST, Limit, finish, options
from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import Sampler
from napari_brainldm.engine.resources import bundled_checkpoint, bundled_segmenter
from napari_brainldm.engine.segment import Segmenter
from napari_brainldm.engine.similarity import diversity, kernel_of
from trainer.config import DataConfig, load_config
from trainer.data.bids import Entry, read_dataset
from trainer.data.cohort import CohortConfig, write_cohort
from trainer.data.pictures import on_grid
from trainer.evaluate.brain_ldm import (
    Asked,
    Unseen,
    ask,
    condition_figures,
    reader_figures,
    rebuilt_figures,
    seen,
    sweep,
)
from trainer.evaluate.memorisation import nearest_ratio
from trainer.evaluate.metrics.distributions import distances
from trainer.evaluate.readers import fit_readers
from trainer.evaluate.run import load_unseen

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.volume import Array

SEED = 909_000  # far from the training cohort's


@dataclass(frozen=True)
class Size:
    """How much work: people trained on, held out, rebuilt; seeds of a sweep."""

    train: int
    unseen: int
    rebuilt: int
    seeds: int


FULL = Size(train=0, unseen=300, rebuilt=60, seeds=8)  # 0: the whole training split
QUICK = Size(train=4, unseen=4, rebuilt=2, seeds=1)
BEYOND = {"ventricles": (-0.5, 0.25, 1.0, 1.5, 1.9), "brain": (-0.5, 0.0, 0.5, 1.0)}
LIMITS = {
    "rebuilt_ssim_brain": Limit(AT_LEAST, 0.95),
    "rebuilt_psnr_brain": Limit(AT_LEAST, 30.0),
    "ventricles_r": Limit(AT_LEAST, 0.972),  # the paper's figure
    "ventricles_r_5_to_95": Limit(AT_LEAST, 0.9),
    "ventricles_slope_off": Limit(AT_MOST, 0.1),
    "brain_r": Limit(AT_LEAST, 0.95),
    "brain_slope_off": Limit(AT_MOST, 0.1),
    "age_r_lost": Limit(AT_MOST, 0.05),
    "sex_accuracy_lost": Limit(AT_MOST, 0.05),
    "ms_ssim_off": Limit(AT_MOST, 0.03),
    "ventricles_least_step_ml": Limit(AT_LEAST, 0.0),
    "brain_least_step_ml": Limit(AT_LEAST, 0.0),
    "nearest_ratio_low": Limit(AT_MOST, 1.0),
    "nearest_ratio_high": Limit(AT_LEAST, 1.0),
}


def measure(path: Path, size: Size, seed: int) -> dict[str, Any]:
    """Every figure of the checkpoint at `path`."""
    renderer = Renderer(load_checkpoint(path))
    segmenter = Segmenter(load_checkpoint(bundled_segmenter()))
    unseen = held_out(renderer.card, size, seed)
    train = training(size)
    pictures = [
        on_grid(e.path, renderer.card.grid, renderer.card.intensity) for e in train
    ]
    wanted = [one.conditions for one in unseen]
    asked = list(ask(renderer, segmenter, wanted, Sampler()))
    scans = seen(segmenter, renderer.card, unseen)
    return {
        **rebuilt_figures(renderer, unseen[: size.rebuilt]),
        **conditioning(asked, scans),
        **reading(train, pictures, asked, scans, renderer.card),
        **variety(asked, unseen),
        **extrapolation(renderer, segmenter, size.seeds),
        **copies(renderer, asked, pictures, unseen),
        "pictures": len(asked),
        "checkpoint": renderer.checkpoint.sha256,
        "segmenter": segmenter.checkpoint.sha256,
    }


def held_out(card: Card, size: Size, seed: int) -> list[Unseen]:
    """Freshly simulated people on the model's grid; brain by the card's head size."""
    config = load_config(Path("demo.toml"))
    voxel = card.grid.voxel_size[0]
    cohort = replace(
        config.cohort, seed=SEED + seed, subjects=size.unseen, voxel_mm=voxel
    )
    with tempfile.TemporaryDirectory() as folder:
        _write(cohort, folder)
        data = DataConfig(
            folder, voxel, held_out=0.0, covariates=config.data.covariates
        )
        dataset = read_dataset(data)
        factor = card.head_size / dataset.head_size
        return [load_unseen(_rescaled(e, factor), card) for e in dataset.train]


def training(size: Size) -> tuple[Entry, ...]:
    """The people that the model was trained on; simulated again if need be."""
    config = load_config(Path("demo.toml"))
    if size.train:  # any few will do for a quick run
        folder = tempfile.mkdtemp()
        _write(replace(config.cohort, subjects=size.train), folder)
        return read_dataset(replace(config.data, dataset=folder, held_out=0.0)).train
    _write(config.cohort, config.data.dataset)
    return read_dataset(config.data).train


def _write(cohort: CohortConfig, folder: str) -> None:
    for _ in write_cohort(cohort, folder):
        pass


def _rescaled(entry: Entry, factor: float) -> Entry:
    values = dict(entry.covariates)
    values["brain"] = float(values["brain"]) * factor
    return replace(entry, covariates=tuple(values.items()))


def conditioning(asked: Sequence[Asked], scans: Sequence[Asked]) -> dict[str, float]:
    """Volumes asked for against measured, and the same of held-out scans."""
    figures = condition_figures(asked)
    figures |= {f"scans_{k}": v for k, v in condition_figures(scans).items()}
    for name in ("ventricles", "brain"):
        figures[f"{name}_slope_off"] = abs(figures[f"{name}_slope"] - 1)
    return figures


def reading(
    train: Sequence[Entry],
    pictures: Sequence[Array],
    asked: Sequence[Asked],
    scans: Sequence[Asked],
    card: Card,
) -> dict[str, float]:
    """Age and sex by readers trained on the training split."""
    covariates = [dict(e.covariates) for e in train]
    ages = [float(c["age"]) for c in covariates]
    sexes = [str(c["sex"]) for c in covariates]
    readers = fit_readers(pictures, ages, sexes, card.grid)
    figures, ceiling = (reader_figures(readers, group) for group in (asked, scans))
    lost = {f"{k}_lost": ceiling[k] - figures[k] for k in ("age_r", "sex_accuracy")}
    return figures | {f"scans_{k}": v for k, v in ceiling.items()} | lost


def variety(asked: Sequence[Asked], unseen: Sequence[Unseen]) -> dict[str, float]:
    """MS-SSIM of pairs: samples, scans, and scans without noise.

    A sample has no noise of its own, so it is compared with scans freed of theirs.
    """
    samples = diversity([a.picture for a in asked])
    truths = diversity([one.truth for one in unseen])
    return {
        "ms_ssim_kernel": kernel_of(unseen[0].truth.shape),
        "ms_ssim_samples": samples,
        "ms_ssim_scans": diversity([one.picture for one in unseen]),
        "ms_ssim_noisefree": truths,
        "ms_ssim_off": abs(samples - truths),
    }


def extrapolation(
    renderer: Renderer, segmenter: Segmenter, seeds: int
) -> dict[str, float]:
    """Measured volumes at normalised values, beyond the training range as well."""
    figures: dict[str, float] = {}
    for name, codes in BEYOND.items():
        found = sweep(renderer, segmenter, name, codes, seeds)
        figures |= {f"{name}_at_{c:g}": v for c, v in zip(codes, found, strict=True)}
        figures[f"{name}_least_step_ml"] = float(np.diff(found).min())
    return figures


def copies(
    renderer: Renderer,
    asked: Sequence[Asked],
    pictures: Sequence[Array],
    unseen: Sequence[Unseen],
) -> dict[str, float]:
    """Nearest training against nearest held-out scan, in the latent space."""
    samples, seen_before, never = (
        np.stack([renderer.latent_of(p).ravel() for p in group])
        for group in (
            [a.picture for a in asked],
            pictures,
            [one.picture for one in unseen],
        )
    )
    ratio = nearest_ratio(distances(samples, seen_before), distances(samples, never))
    return {
        "nearest_ratio": ratio.value,
        "nearest_ratio_low": ratio.low,
        "nearest_ratio_high": ratio.high,
    }


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

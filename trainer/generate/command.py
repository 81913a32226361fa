"""The options of `python -m trainer generate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.copy_test import refuse_copies
from napari_brainldm.engine.request import EngineError, Sampler
from napari_brainldm.engine.resources import bundled_segmenter
from trainer.generate.job import FORMS
from trainer.generate.plan import Row, plan_of_draws, plan_of_grid, plan_of_table
from trainer.generate.run import Wish, check, generate

if TYPE_CHECKING:
    import argparse

    from napari_brainldm.engine.card import Card

UNMEASURED = "none"


def add_generate(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the options of generate."""
    plan = parser.add_mutually_exclusive_group(required=True)
    plan.add_argument(
        "--plan",
        help="TSV: one row per picture, a column per condition, optional columns "
        "participant_id and seed",
    )
    plan.add_argument(
        "--grid",
        nargs="+",
        metavar="NAME=VALUES",
        help="every combination, such as age=40,60,80 sex=F,M",
    )
    plan.add_argument(
        "--draw",
        type=int,
        metavar="N",
        help="N people of the joint distribution of the training set",
    )
    parser.add_argument("--each", type=int, help="pictures per combination; default: 1")
    parser.add_argument("--seed", type=int, default=0, help="of the plan; 0")
    parser.add_argument("--checkpoint", help="default: the last stage's of the run")
    parser.add_argument(
        "--out", required=True, help="folder of the BIDS dataset to write"
    )
    parser.add_argument("--format", default="nifti", choices=FORMS)
    parser.add_argument("--sampler", default="", help="ddim, ddpm or dpm++2m")
    parser.add_argument("--steps", type=int, default=0, help="denoising steps")
    parser.add_argument(
        "--segmenter", help='measures the pictures; default: bundled; "none" for not'
    )
    parser.add_argument("--scheduler", default="", help="address of a Dask scheduler")
    parser.add_argument("--device", default="", help="default: best")
    parser.add_argument("--precision", default="", help="default: what is best there")
    parser.add_argument("--batch", type=int, default=0, help="default: what fits")
    parser.add_argument("--threads", type=int, default=1, help="of torch in a worker")
    parser.add_argument("--verify", action="store_true", help="check a finished run")
    parser.add_argument(
        "--despite-copies",
        action="store_true",
        help="make many of a model whose card says that it copies scans",
    )
    parser.set_defaults(workers=None)


def run_generate(options: argparse.Namespace, path: Path) -> Iterator[str]:
    """Do what the command line asks for with the checkpoint at `path`."""
    if options.seed < 0:
        raise EngineError(
            f"--seed is {options.seed}; 0 or more is possible. Correct it."
        )
    checkpoint = load_checkpoint(path)
    plan = _plan(options, checkpoint.card)
    refuse_copies(checkpoint.card.copies, len(plan), options.despite_copies)
    run = check if options.verify else generate
    return run(_wish(options, path), checkpoint, plan)


def _plan(options: argparse.Namespace, card: Card) -> list[Row]:
    if options.each is not None and options.grid is None:
        raise EngineError(
            f"--each is {options.each}, which multiplies the combinations of --grid; "
            "--plan and --draw tell their number themselves. Leave it out."
        )
    if options.plan is not None:
        return plan_of_table(Path(options.plan), card, options.seed)
    if options.grid is not None:
        each = 1 if options.each is None else options.each
        return plan_of_grid(options.grid, each, card, options.seed)
    return plan_of_draws(options.draw, card, options.seed)


def _wish(options: argparse.Namespace, path: Path) -> Wish:
    usual = Sampler()
    sampler = Sampler(options.sampler or usual.name, options.steps or usual.steps)
    return Wish(
        checkpoint=path,
        out=Path(options.out),
        sampler=sampler,
        form=options.format,
        segmenter=_segmenter(options.segmenter),
        workers=options.workers,
        scheduler=options.scheduler,
        device=options.device,
        precision=options.precision,
        batch=options.batch,
        threads=options.threads,
    )


def _segmenter(told: str | None) -> Path | None:
    if told == UNMEASURED:
        return None
    path = Path(told) if told else bundled_segmenter()
    if not path.is_file():
        raise EngineError(
            f"There is no segmenter {path}. Name a checkpoint of the stage segmenter, "
            f'or "{UNMEASURED}" to measure nothing.'
        )
    return path

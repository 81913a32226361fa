"""The options of `python -m trainer evaluate TABLE`, and what each table needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_brainldm.engine.request import EngineError
from trainer.config import RunConfig, load_config
from trainer.evaluate import gmldm, run
from trainer.evaluate.pictures import Folders, compare_folders
from trainer.evaluate.pinaya import Ask, pinaya
from trainer.runs import last_checkpoint

if TYPE_CHECKING:
    import argparse

TABLES = (*run.TABLES, "gmldm", "pinaya", "pictures")
RESULTS = Path("docs/results")


def evaluate_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every table to `parser`."""
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--checkpoint", help="default: the last stage's of the run")
    parser.add_argument(
        "--n", type=int, help="pictures to make; 100. pictures: at most so many, 1000"
    )
    parser.add_argument(
        "--release",
        type=Path,
        help="also write it here in 16 bits, with its figures; gmldm-held-out: and a "
        "table of simulated connectivity beside it",
    )
    parser.add_argument(
        "--visits",
        type=Path,
        help="ldae: BIDS dataset with sessions of people the run did not see; "
        "default: its held-out subjects",
    )
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="NAME=CHECKPOINT",
        help="ldae: a model to compare with, such as one in voxel space",
    )
    _folder_options(parser)


def _folder_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--real", type=Path, help="pictures: folder of real NIfTI")
    parser.add_argument("--generated", type=Path, help="pictures: folder of others")
    parser.add_argument(
        "--features",
        action="append",
        default=[],
        metavar="med3d=FILE",
        help="weights of a further network to compare pictures by",
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the report; default: docs/results"
    )


TAKEN: dict[str, tuple[str, ...]] = {
    "release": ("brain-ldm", "ldae", "memorisation", "gmldm", run.HELD_OUT),
    "visits": ("ldae",),
    "beside": ("ldae",),
    "real": ("pictures",),
    "generated": ("pictures",),
    "features": ("pictures", "pinaya"),
    "out": ("pictures", "pinaya"),
}
"""Options that not every table takes, and those that do."""


def evaluate(options: argparse.Namespace) -> Iterator[str]:
    """Measure what `options` name; yields lines to print."""
    for name, tables in TAKEN.items():
        if getattr(options, name) and options.table not in tables:
            raise EngineError(
                f"--{name} was given to the table {options.table}, which does not take "
                f"it; {', '.join(tables)} would. Leave it out."
            )
    if options.table == "pictures":
        return _pictures(options)
    config = load_config(Path(options.config))
    if options.table == "gmldm":
        return _five_models(config, options)
    if options.table == "pinaya":
        wish = _wish(config, options)
        files, out = _files(options), options.out or RESULTS
        return pinaya(config, Ask(wish.path, wish.n, out, files))
    return run.evaluate(config, options.table, _wish(config, options))


def _five_models(config: RunConfig, options: argparse.Namespace) -> Iterator[str]:
    if options.checkpoint or options.release:
        raise EngineError(
            "The table gmldm trains its own models and keeps none of them apart. "
            f"Measure or release a checkpoint by the table {run.HELD_OUT}."
        )
    return gmldm.tables(config)


def _pictures(options: argparse.Namespace) -> Iterator[str]:
    if options.real is None or options.generated is None:
        raise EngineError(
            "Two folders are compared: name them with --real FOLDER and --generated "
            "FOLDER."
        )
    most = 1000 if options.n is None else options.n
    out, files = options.out or RESULTS, _files(options)
    return compare_folders(Folders(options.real, options.generated, out, files, most))


def _files(options: argparse.Namespace) -> dict[str, Path]:
    example = "med3d=resnet_50_23dataset.pth"
    return dict(named(options.features, "--features", example))


def _wish(config: RunConfig, options: argparse.Namespace) -> run.Wish:
    path = Path(options.checkpoint) if options.checkpoint else last_checkpoint(config)
    example = '"voxel DAE=runs/ldae_voxel/directions.safetensors"'
    others = named(options.beside, "--beside", example)
    n = 100 if options.n is None else options.n
    return run.Wish(path, n, options.release, options.visits, others)


def named(
    words: Sequence[str], option: str, example: str
) -> tuple[tuple[str, Path], ...]:
    """(name, file) of every NAME=FILE among `words` of `option`."""
    found = []
    for word in words:
        name, _, path = word.partition("=")
        if not path:
            raise EngineError(
                f"{option} {word} names no file. Write NAME=FILE, such as {example}."
            )
        found.append((name, Path(path)))
    return tuple(found)

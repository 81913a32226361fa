"""`python -m trainer cohort | gray-matter | train STAGE | evaluate TABLE | generate`.

argparse, not tyro: a bare GPU machine runs the trainer from a source folder.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from napari_brainldm.engine.heap import keep_memory
from napari_brainldm.engine.request import EngineError
from trainer.config import RunConfig, load_config
from trainer.data.gray_matter_maps import write_maps
from trainer.evaluate.command import evaluate, evaluate_options
from trainer.generate.command import add_generate, run_generate
from trainer.runs import STAGES, last_checkpoint, train_stage, write

NO_ROOM = errno.ENOSPC, errno.EDQUOT, errno.EROFS
"""A full disk, a spent quota, a disk that may be read only."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it was done, 2 with a sentence when it could not be."""
    options = _parser().parse_args(arguments)
    keep_memory()
    try:
        for line in options.run(options):
            print(line, flush=True)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        where = error.filename or "The disk"
        told = f"{where} cannot be written to ({error.strerror}). Make room or choose "
        print(told + "a folder on another disk, then run it again.", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    cohort = _command(commands, "cohort", _cohort, "write the simulated cohort (BIDS)")
    cohort.add_argument("--out", help="folder; default: data.dataset of the config")
    cohort.add_argument("--subjects", type=int, help="number of subjects")
    cohort.add_argument("--template", help="template pack (.safetensors), else built")
    text = "write the gray-matter map of every T1 of data.dataset"
    _command(commands, "gray-matter", _gray_matter, text)
    train = _command(commands, "train", _train, "train one stage")
    train.add_argument("stage", choices=STAGES)
    train.add_argument(
        "--resume", action="store_true", help="go on from the saved state"
    )
    train.add_argument(
        "--device", default="", choices=("", "cpu", "cuda", "mps"), help="default: best"
    )
    table = _command(commands, "evaluate", evaluate, "measure a checkpoint, pictures")
    evaluate_options(table)
    add_generate(
        _command(commands, "generate", _generate, "make the pictures of a plan")
    )
    return parser


def _command(commands, name, run, text) -> argparse.ArgumentParser:  # type: ignore[no-untyped-def]
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.add_argument("--config", default="demo.toml", help="TOML file; demo.toml")
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        help="processes; 2, of generate one per graphics card or core",
    )
    parser.set_defaults(run=run)
    return parser


def _config(options: argparse.Namespace) -> RunConfig:
    return load_config(Path(options.config))


def _cohort(options: argparse.Namespace) -> Iterator[str]:
    config = _config(options)
    if options.subjects is not None:
        config = replace(
            config, cohort=replace(config.cohort, subjects=options.subjects)
        )
    out = options.out or config.data.dataset
    return write(config, out, options.template or "", options.workers)


def _gray_matter(options: argparse.Namespace) -> Iterator[str]:
    return write_maps(_config(options).data, options.workers)


def _train(options: argparse.Namespace) -> Iterator[str]:
    config = _config(options)
    return train_stage(
        config, options.stage, options.resume, options.device, options.workers
    )


def _generate(options: argparse.Namespace) -> Iterator[str]:
    config = _config(options)
    path = Path(options.checkpoint) if options.checkpoint else last_checkpoint(config)
    return run_generate(options, path)


if __name__ == "__main__":
    sys.exit(main())

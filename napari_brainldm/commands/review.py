"""`brainldm review`: reader studies on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from napari_brainldm.commands.options import Device
from napari_brainldm.engine.request import EngineError

StudyFolder = Positional[
    Annotated[Path, arg(metavar="STUDY", help="folder that review build wrote")]
]
KeyFile = Annotated[
    Path | None, arg(metavar="KEY", help="the truth; default: STUDY.key.json")
]


@dataclass(frozen=True)
class Build:
    """Build a frozen study: pictures, arms, leak audit, every reader's order, key."""

    plan: Positional[
        Annotated[Path, arg(metavar="PLAN", help="TOML, see docs/reader_study.md")]
    ]
    out: Annotated[Path, arg(metavar="STUDY", help="new folder")]
    device: Device = ""


@dataclass(frozen=True)
class Run:
    """Open napari and run the study as one reader."""

    study: StudyFolder
    reader: Annotated[str, arg(help="the reader's code")]


@dataclass(frozen=True)
class Verify:
    """Check that study and records are as they were written; exits with 2 if not."""

    study: StudyFolder


@dataclass(frozen=True)
class Report:
    """Write report.html, report.json and CSV files of a closed study."""

    study: StudyFolder
    out: Annotated[Path, arg(metavar="FOLDER", help="where the report goes")]
    key: KeyFile = None
    close: Annotated[bool, arg(help="close the study now, for good")] = False


@dataclass(frozen=True)
class Review:
    """Reader studies: build, run, verify, report."""

    step: Build | Run | Verify | Report


def build(command: Build) -> None:
    """Print what is done, and where the key lies."""
    from napari_brainldm.review.build import build as built
    from napari_brainldm.review.plan import read_plan
    from napari_brainldm.review.study import key_path

    plan = read_plan(command.plan)
    for sentence in built(plan, command.out, command.plan.parent, command.device):
        print(sentence, flush=True)
    print(command.out)
    print(f"Keep the key from readers: {key_path(command.out)}")


def verify(command: Verify) -> None:
    """Print how far readers are; EngineError with every fault."""
    from napari_brainldm.review.check import checked

    told, faults = checked(command.study)
    print("\n".join(told))
    if faults:
        raise EngineError("\n".join(faults))
    print("Nothing was changed.")


def report(command: Report) -> None:
    """Close where asked, write, print the page's path."""
    from napari_brainldm.review.report import close, write_report
    from napari_brainldm.review.study import key_path

    if command.close:
        close(command.study)
    key = command.key or key_path(command.study)
    print(write_report(command.study, key, command.out))

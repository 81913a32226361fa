"""`brainldm` on the command line: the same road as the viewer, without a window."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from napari_brainldm.commands import foreign, review, scans
from napari_brainldm.commands.asked import (
    conditions_of,
    person_of,
    settings_of,
    shift_of,
)
from napari_brainldm.commands.card_lines import card_lines
from napari_brainldm.commands.options import Device, Folder, Orientation, ScanFile
from napari_brainldm.engine.copy_test import refuse_copies
from napari_brainldm.engine.notice import NOTICE
from napari_brainldm.engine.request import (
    EngineError,
    Later,
    Request,
    Sampler,
    Scan,
    Seed,
)

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.checkpoint import Checkpoint
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.volume import Volume

SETTINGS = """NAME=VALUE pairs in the vocabulary of the checkpoint (brainldm info).
The bundled one knows age (years), sex (F/M), ventricles (lateral ventricles, ml) and
brain (brain volume in ml, scaled to the cohort's mean head size)."""

File = Annotated[
    Path | None, arg(metavar="FILE", help="checkpoint; default: the bundled")
]
Settings = Annotated[
    UseAppendAction[tuple[tuple[str, ...], ...]],
    arg(metavar="NAME=VALUE", help=SETTINGS),
]
Shift = Annotated[
    UseAppendAction[tuple[tuple[str, ...], ...]],
    arg(
        metavar="NAME=AMOUNT",
        help="directions of a checkpoint that has some (brainldm info), e.g. AD=2",
    ),
]
Years = Annotated[
    float, arg(help="forecast the scan so many years on, with a checkpoint that can")
]
Person = Annotated[
    UseAppendAction[tuple[tuple[str, ...], ...]],
    arg(
        metavar="NAME=VALUE",
        help="who the forecast is for, e.g. age=72 sex=F diagnosis=AD (brainldm info)",
    ),
]
Own = Annotated[
    UseAppendAction[tuple[tuple[str, ...], ...]],
    arg(
        metavar="NAME=VALUE",
        help="what is known of the scan itself; the rest is measured or read off its "
        "latent, and is the value shown first where a model can do neither",
    ),
]

Strip = Annotated[
    str, arg(help="who finds the brain: built-in, mri_synthstrip or hd-bet")
]
N4 = Annotated[bool, arg(help="take slow shading out of the scan first")]
Space = Annotated[
    str, arg(help="mni: files on the model's grid; scan: in the scan's own voxels")
]


@dataclass(frozen=True)
class View:
    """Open napari with the Explore dock."""

    checkpoint: Positional[File] = None


@dataclass(frozen=True)
class Info:
    """Tell what a checkpoint is: conditions with units and ranges, grid, licence."""

    checkpoint: Positional[File] = None
    json: Annotated[bool, arg(help="the whole card as one JSON object")] = False


@dataclass(frozen=True)
class Generate:
    """Make new pictures, each a NIfTI with its JSON sidecar."""

    out: Folder
    checkpoint: File = None
    set: Settings = ()
    seed: Annotated[int, arg(help="of the first picture; the next ones count up")] = 0
    n: Annotated[int, arg(help="number of pictures")] = 1
    steps: Annotated[int, arg(help="denoising steps, 1 to 1000")] = 15
    sampler: Annotated[str, arg(help="dpm++2m, ddim or ddpm")] = "dpm++2m"
    eta: Annotated[float, arg(help="noise amount of ddim, 0 to 1")] = 0.0
    guidance: Annotated[
        float, arg(help="weight of the conditions; 1 is as trained")
    ] = 1.0
    despite_copies: Annotated[
        bool, arg(help="make many of a model whose card says that it copies scans")
    ] = False
    device: Device = ""


@dataclass(frozen=True)
class Reconstruct:
    """Take a scan into the model and back: what the model can show of it."""

    scan: Positional[ScanFile]
    out: Folder
    checkpoint: File = None
    own: Own = ()
    steps: Annotated[int, arg(help="inversion steps; 0: the autoencoder alone")] = 50
    orientation: Orientation = ""
    strip: Strip = "built-in"
    n4: N4 = False
    space: Space = "mni"
    device: Device = ""


@dataclass(frozen=True)
class Edit:
    """Re-render a scan under other conditions or along a direction, by inversion."""

    scan: Positional[ScanFile]
    out: Folder
    set: Settings = ()
    shift: Shift = ()
    years: Years = 0.0
    person: Person = ()
    checkpoint: File = None
    own: Own = ()
    steps: Annotated[int, arg(help="inversion steps")] = 50
    orientation: Orientation = ""
    strip: Strip = "built-in"
    n4: N4 = False
    space: Space = "mni"
    device: Device = ""


Command = (
    View
    | Info
    | Generate
    | Reconstruct
    | Edit
    | scans.Segment
    | scans.Measure
    | foreign.Import
    | review.Review
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exits with 2 and a sentence when it cannot be done."""
    command = tyro.cli(
        Command,
        prog="brainldm",
        description="Explore generative models of the 3D brain MRI. " + NOTICE,
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    runs: dict[Any, Any] = {
        View: view,
        Info: info,
        Generate: generate,
        Reconstruct: reconstruct,
        Edit: edit,
        scans.Segment: scans.segment,
        scans.Measure: scans.measure,
        foreign.Import: foreign.import_,
        review.Build: review.build,
        review.Run: run_study,
        review.Verify: review.verify,
        review.Report: review.report,
    }
    step = command.step if isinstance(command, review.Review) else command
    try:
        runs[type(step)](step)
    except EngineError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped; pictures already written are kept.", file=sys.stderr)
        sys.exit(130)


def view(command: View) -> None:
    """Open the viewer; napari is imported here alone."""
    try:
        from napari_brainldm.widgets.app import open_viewer
    except ModuleNotFoundError as error:
        raise EngineError(
            f"The viewer needs napari, but {error.name} is not installed. "
            "Install it with: pip install 'napari-brainldm[all]'"
        ) from error
    open_viewer(command.checkpoint)


def run_study(command: review.Run) -> None:
    """Open the viewer with the reader study; it is imported here alone."""
    from napari_brainldm.review.study import read_order, read_study

    read_order(command.study, read_study(command.study)[0], command.reader)
    try:
        dock = import_module("napari_brainldm.widgets.reader_study")
    except ModuleNotFoundError as error:
        raise EngineError(
            f"A study runs in napari's reader-study dock, but {error.name} is not "
            "installed. Install it with: pip install 'napari-brainldm[all]'"
        ) from error
    dock.open_study(command.study, command.reader)


def info(command: Info) -> None:
    """Print the card."""
    from napari_brainldm.engine.checkpoint import describe

    checkpoint = _checkpoint(command.checkpoint)
    if command.json:
        print(json.dumps(describe(checkpoint), indent=1))
    else:
        print("\n".join(card_lines(checkpoint)))


def generate(command: Generate) -> None:
    """Make and write `n` pictures, seeds counting up."""
    from napari_brainldm.engine.export import export
    from napari_brainldm.engine.recreate import refuse_other

    if command.n < 1:
        raise EngineError(f"--n is {command.n}; ask for 1 picture or more.")
    renderer = _renderer(command.checkpoint, command.device)
    refuse_copies(renderer.card.copies, command.n, command.despite_copies)
    sampler = Sampler(command.sampler, command.steps, command.eta)
    conditions = conditions_of(renderer.card, command.set)
    for seed in range(command.seed, command.seed + command.n):
        request = Request(conditions, Seed(seed), (), sampler, command.guidance)
        stem = f"seed-{seed:05d}"
        refuse_other(renderer, request, command.out, stem)
        picture = _rendered(renderer, request)
        print(export(renderer, request, picture, command.out, stem))


def reconstruct(command: Reconstruct) -> None:
    """Write a scan on the model's grid and what the model makes of it."""
    if command.steps < 0:
        raise EngineError(
            f"--steps is {command.steps}; 0 (the autoencoder alone) or more is "
            "possible. Leave --steps out for 50."
        )
    for file in _of_scan(command):
        print(file)


def edit(command: Edit) -> None:
    """Write a scan's reconstruction, the edit, and their signed difference."""
    if command.steps < 1:
        raise EngineError(
            f"--steps is {command.steps}; an edit needs at least 1 inversion step, for "
            "the autoencoder alone knows no conditions. Leave --steps out for 50."
        )
    if not (command.set or command.shift or command.years or command.person):
        raise EngineError(
            "Nothing was asked to change. Add --set NAME=VALUE for a condition, "
            "--shift NAME=AMOUNT for a direction, or --years for a forecast; brainldm "
            "info tells what the checkpoint knows."
        )
    for file in _of_scan(command, command):
        print(file)


def _change(card: Card, asked: Edit) -> Callable[[Request], Request]:
    """What turns the request of a reconstruction into that of the edit."""
    changes, shift = settings_of(card, asked.set), shift_of(card, asked.shift)
    if asked.person and not asked.years:
        raise EngineError(
            "--person says who a forecast is for, but no --years were asked for. Add "
            "--years, such as --years 2."
        )
    person = person_of(card, asked.person) if asked.years else None

    def change(request: Request) -> Request:
        origin = request.origin
        if person is not None and isinstance(origin, Scan):
            origin = Later(origin, person, asked.years)
        conditions = request.conditions.with_values(changes)
        return replace(request, conditions=conditions, origin=origin, shift=shift)

    return change


def _of_scan(command: Reconstruct | Edit, asked: Edit | None = None) -> Iterator[Path]:
    """The files of a scan, one by one; those of the edit if one is `asked`."""
    from napari_brainldm.engine.conform import Preparation
    from napari_brainldm.engine.export import (
        check_space,
        export,
        export_difference,
        export_scan,
    )
    from napari_brainldm.engine.recreate import refuse_other
    from napari_brainldm.engine.scan_file import load_volume

    check_space(command.space)
    renderer = _renderer(command.checkpoint, command.device)
    if command.space == "scan" and renderer.card.fnc is not None:
        raise EngineError(
            f"{renderer.card.name} makes maps of gray matter in MNI space, bent there "
            'from the scan; they are not bent back. Leave out --space, for "mni".'
        )
    # settings are read before the scan is placed, which takes long
    known = settings_of(renderer.card, command.own)
    change = None if asked is None else _change(renderer.card, asked)
    scan = load_volume(command.scan, orientation=command.orientation or None)
    digest = renderer.admit(scan, Preparation(command.strip, command.n4))
    # named by digest: a file name may hold a person's name, which must not travel on
    stem, folder, space = f"scan-{digest[:8]}", command.out, command.space
    own = renderer.estimate(digest).with_values(known)
    sampler = Sampler("ddim", command.steps)
    rebuilt = Request(own, Scan(digest, own), (), sampler)
    refuse_other(renderer, rebuilt, folder, f"{stem}_reconstruction", space)
    if change is not None:
        refuse_other(renderer, change(rebuilt), folder, f"{stem}_edit", space)
    yield export_scan(renderer, digest, folder, stem, space)
    picture = _rendered(renderer, rebuilt)
    yield export(renderer, rebuilt, picture, folder, f"{stem}_reconstruction", space)
    if change is None:
        return
    edited = change(rebuilt)
    second = _rendered(renderer, edited)
    yield export(renderer, edited, second, folder, f"{stem}_edit", space)
    pictures, requests = (second, picture), (edited, rebuilt)
    stem = f"{stem}_difference"
    yield export_difference(renderer, requests, pictures, folder, stem, space)


def _checkpoint(path: Path | None) -> Checkpoint:
    from napari_brainldm.engine.checkpoint import load_checkpoint
    from napari_brainldm.engine.resources import bundled_checkpoint

    return load_checkpoint(path or bundled_checkpoint())


def _renderer(path: Path | None, device: str) -> Renderer:
    from napari_brainldm.engine.card import without_autoencoder
    from napari_brainldm.engine.renderer import Renderer

    checkpoint = _checkpoint(path)
    if checkpoint.card.autoencoder is None:  # said before a scan is placed for it
        raise EngineError(without_autoencoder(checkpoint.card.name))
    return Renderer(checkpoint, device)


def _rendered(renderer: Renderer, request: Request) -> Volume:
    """The picture of `request`, its progress on a terminal's last line."""
    steps, terminal = renderer.render(request), sys.stderr.isatty()
    while True:
        try:
            progress = next(steps)
        except StopIteration as done:
            picture: Volume = done.value
            return picture
        if terminal:
            line = f"\r{progress.stage} {progress.index}/{progress.total}   "
            print(line, end="", file=sys.stderr, flush=True)

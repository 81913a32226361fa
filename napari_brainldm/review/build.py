"""From a plan to a frozen study: pictures, arms, audit, orders, key."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Grid, Volume, mni_grid
from napari_brainldm.review import leaks, stimuli
from napari_brainldm.review.sources import Picture, pictures
from napari_brainldm.review.study import Item, Key, Stimulus, Study, write_study
from napari_brainldm.review.trials import made

if TYPE_CHECKING:
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.segment import Segmenter
    from napari_brainldm.review.plan import Plan
    from napari_brainldm.review.protocols import Protocol

LENGTHS_MM = tuple(float(x) for x in np.geomspace(15.0, 100.0, 9))
AREAS_MM2 = tuple(float(x) for x in np.geomspace(300.0, 6000.0, 9))
PRACTICE_SHARE = 0.2
"""Sources kept for practice, at most."""


@dataclass(eq=False)
class _Pile:
    """Stimuli as they are written, and their truth."""

    folder: Path
    road: stimuli.Road
    items: list[Item] = field(default_factory=list)
    written: list[Stimulus] = field(default_factory=list)

    def add(self, picture: Picture) -> None:
        data = self.road.stimulus(picture.volume)
        stimulus = stimuli.write_stimulus(self.folder / "stimuli", data)
        self.written.append(stimulus)
        self.items.append(
            Item(
                stimulus.token,
                picture.arm,
                picture.label,
                picture.source,
                picture.facts,
                picture.metrics,
                picture.request,
            )
        )


def build(plan: Plan, folder: Path, base: Path, device: str = "") -> Iterator[str]:
    """Build the study of `plan` in the new `folder`; yields a sentence per step.

    Parameters
    ----------
    base
        Folder that the plan's relative paths start from.

    Raises
    ------
    EngineError
        If a source fails, the pictures do not suffice, or files give classes away.
    """
    _check_folder(folder)
    protocols = [chosen.protocol() for chosen in plan.protocols]
    renderer, segmenter = _tools(plan, base, device)
    grid = mni_grid(plan.voxel_mm) if plan.voxel_mm else renderer.card.grid
    (folder / "stimuli").mkdir(parents=True)
    try:
        yield from _built(plan, protocols, folder, base, renderer, segmenter, grid)
    except BaseException:
        shutil.rmtree(folder)  # half a study must not pass for one
        raise


def _built(
    plan: Plan,
    protocols: Sequence[Protocol],
    folder: Path,
    base: Path,
    renderer: Renderer,
    segmenter: Segmenter | None,
    grid: Grid,
) -> Iterator[str]:
    pile = _Pile(folder, stimuli.Road.around_brain(grid))
    for picture in _all(plan, protocols, renderer, segmenter, base):
        pile.add(picture)
        yield f"{len(pile.items)}: {picture.arm}"
    _draw_controls(pile, protocols)
    yield from _audited(pile)
    items = _with_practice(pile.items, protocols, plan.seed)
    found = made(protocols, items, plan.readers, plan.seed)
    study = Study(
        plan.name,
        plan.seed,
        grid,
        tuple(protocols),
        tuple(sorted(pile.written, key=lambda s: s.token)),
        {},
        "",
        "",
        metadata.version("napari-brainldm"),
        plan.rules,
        welcome=plan.welcome,
    )
    notes = _notes(renderer, segmenter if _measures(protocols) else None)
    key = Key(secrets.token_hex(32), tuple(items), found.truths, notes)
    write_study(folder, study, found.orders, found.pools, key)
    counts = {reader: len(trials) for reader, trials in found.orders.items()}
    yield f"{len(items)} stimuli; trials: {counts}"


def _check_folder(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EngineError(
            f"{folder} is there already and a study is never built over another. "
            "Choose a new folder."
        )


def _tools(plan: Plan, base: Path, device: str) -> tuple[Renderer, Segmenter | None]:
    from napari_brainldm.engine.checkpoint import load_checkpoint
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.resources import bundled_checkpoint, segmenter_at_hand
    from napari_brainldm.engine.segment import brain_finder

    path = base / plan.checkpoint if plan.checkpoint else bundled_checkpoint()
    renderer = Renderer(load_checkpoint(path), device)
    found = segmenter_at_hand()
    segmenter = brain_finder(found, renderer.compute.device) if found else None
    return renderer, segmenter


def _all(
    plan: Plan,
    protocols: Sequence[Protocol],
    renderer: Renderer,
    segmenter: Segmenter | None,
    base: Path,
) -> Iterator[Picture]:
    """Every picture of a brain: the sources', measured, and arms made of them."""
    measured = _measures(protocols)
    catches = max(p.catches for p in protocols)
    rng = np.random.default_rng(plan.seed)
    number = 0
    for source in plan.sources:
        for picture in pictures(source, renderer, segmenter, base):
            if measured and "ventricles" not in picture.facts:
                picture = _measured(picture, segmenter)
            yield picture
            if picture.arm == "real":
                number += 1
                if plan.reconstruct:
                    yield _reconstructed(picture, renderer)
                if number <= plan.blur_pictures:
                    yield from (_blurred(picture, mm) for mm in plan.blur_mm)
                if number <= catches:
                    noisy = stimuli.corrupted(picture.volume, rng)
                    yield _derived(picture, noisy, "catch", "catch")


def _measures(protocols: Sequence[Protocol]) -> bool:
    return any(p.quantity == "ventricles" for p in protocols)


def _measured(picture: Picture, segmenter: Segmenter | None) -> Picture:
    """With its volumes by segmentation: never those that were asked for."""
    from napari_brainldm.engine.measure import measure

    if segmenter is None:
        raise EngineError(
            "Ventricles are to be compared, and there is no segmenter to measure them. "
            "Give them in a table, or install the package again."
        )
    found = measure(segmenter.segment(picture.volume))
    facts = {"ventricles": found.ventricles, "brain": found.brain}
    return replace(picture, facts=picture.facts | facts)


def _derived(
    picture: Picture, volume: Volume, arm: str, label: str, **facts: float
) -> Picture:
    """`volume`, made of `picture`: what its metrics say is held against it."""
    from napari_brainldm.engine.similarity import psnr, ssim

    first, second = (
        v.data / max(float(picture.volume.data.max()), 1e-12)
        for v in (picture.volume, volume)
    )
    inside = first > stimuli.DARK
    metrics = {"PSNR (dB)": psnr(first, second, inside)}
    metrics["SSIM"] = ssim(first, second, inside)[1]
    kept = {k: v for k, v in metrics.items() if np.isfinite(v)}
    return replace(
        picture,
        volume=volume,
        arm=arm,
        label=label,
        facts=picture.facts | facts,
        metrics=kept,
    )


def _reconstructed(picture: Picture, renderer: Renderer) -> Picture:
    from napari_brainldm.engine.resample import resample

    card = renderer.card
    data = picture.volume.data
    if not picture.volume.grid.is_at(card.grid):
        data = resample(picture.volume, card.grid)
    again = Volume(renderer.rebuild(data), card.grid.matrix)
    original = replace(picture, volume=Volume(data, card.grid.matrix))
    return _derived(original, again, "reconstructed", "real, through the autoencoder")


def _blurred(picture: Picture, mm: float) -> Picture:
    volume = stimuli.blurred(picture.volume, mm)
    return _derived(picture, volume, "blurred", f"blurred by {mm:g} mm", blur_mm=mm)


def _draw_controls(pile: _Pile, protocols: Sequence[Protocol]) -> None:
    """Lengths and areas for magnitude estimation, unmasked."""
    if not any(p.controls for p in protocols):
        return
    grid = pile.road.grid
    masked, pile.road = pile.road, stimuli.Road(grid, np.ones(grid.shape, bool))
    for arm, draw, sizes in (
        ("length", stimuli.bar, LENGTHS_MM),
        ("area", stimuli.disc, AREAS_MM2),
    ):
        for size in sizes:
            volume, drawn = draw(grid, size)
            pile.add(Picture(volume, arm, arm, f"{arm} {size:g}", {arm: drawn}))
    pile.road = masked


def _audited(pile: _Pile) -> Iterator[str]:
    """Sentences of the leak audit; EngineError when the files give classes away."""
    items = sorted(
        (i for i in pile.items if i.arm in ("real", "synthetic")), key=lambda i: i.token
    )
    if not items:
        return
    tokens = [i.token for i in items]
    rows, names = leaks.features(pile.folder / "stimuli", tokens, pile.road.mask)
    found = leaks.audit(rows, names, np.array([i.arm for i in items]))
    told = leaks.sentences(found)
    if told["refused"]:
        raise EngineError(
            f"{told['refused'][0]} Bring both arms from sources that were prepared "
            "alike; the study was not built."
        )
    yield from (f"Warning. {words}" for words in told["warned"])
    yield from told["passed"]


def _with_practice(
    items: Sequence[Item], protocols: Sequence[Protocol], seed: int
) -> list[Item]:
    """The items, some sources marked as kept for practice."""
    wanted = max(p.practice for p in protocols)
    kept: set[str] = set()
    rng = np.random.default_rng(seed)
    for arm in ("real", "synthetic"):
        own = [i for i in items if i.arm == arm]
        names = sorted({i.source for i in own})
        most = int(PRACTICE_SHARE * len(names))
        for index in rng.permutation(len(names))[:most]:
            if sum(i.source in kept for i in own) >= (wanted + 1) // 2:
                break
            kept.add(names[index])
    # not catches: practice has none, and the main phase would lose them
    brains = ("real", "synthetic", "reconstructed", "blurred")
    return [replace(i, practice=i.source in kept and i.arm in brains) for i in items]


def _notes(renderer: Renderer, segmenter: Segmenter | None) -> tuple[str, ...]:
    card = renderer.card
    notes = [f"Checkpoint: {card.name}, sha256 {renderer.checkpoint.sha256}."]
    if segmenter is not None:
        notes.append(
            "Volumes that no table gave were measured in the pictures by "
            f"{segmenter.card.name}, never taken from what was asked for; how far it "
            "errs is in docs/segmenter.md."
        )
    return tuple(notes)

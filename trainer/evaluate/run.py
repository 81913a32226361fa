"""`python -m trainer evaluate TABLE`: figures as lines and as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_brainldm.engine.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from napari_brainldm.engine.copy_test import CopyTest
from napari_brainldm.engine.files import write_whole, writing_into
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import EngineError, Sampler
from napari_brainldm.engine.resources import bundled_segmenter
from napari_brainldm.engine.segment import Segmenter
from trainer.data.pictures import on_grid
from trainer.data.vocabulary import conditions, joint_of
from trainer.evaluate.brain_ldm import (
    Unseen,
    ask,
    condition_figures,
    rebuilt_figures,
    seen,
)
from trainer.evaluate.gm_release import held_out, write_samples
from trainer.evaluate.ldae import card_figures, tables
from trainer.evaluate.memory import memorisation
from trainer.prepared import dataset_of

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.volume import Array
    from trainer.config import RunConfig
    from trainer.data.bids import Entry

Figures = dict[str, float]

HELD_OUT = "gmldm-held-out"
TABLES = ("brain-ldm", "ldae", HELD_OUT, "memorisation")
FNC_SAMPLES = "gm_ldm_fnc.csv"
"""Written beside a released GM-LDM."""


@dataclass(frozen=True)
class Wish:
    """What is to be measured.

    Attributes
    ----------
    path
        The checkpoint.
    n
        Pictures to make, or scans to move.
    release
        Also write the checkpoint here in 16 bits, with its figures in the card.
    visits
        BIDS dataset with several sessions of people no stage saw; None for the
        held-out subjects of the run.
    others
        ldae: name and checkpoint of the models to compare with.
    """

    path: Path
    n: int = 100
    release: Path | None = None
    visits: Path | None = None
    others: tuple[tuple[str, Path], ...] = ()


Measuring = Callable[["RunConfig", Wish], Generator[str, None, "Figures | CopyTest"]]


def evaluate(config: RunConfig, table: str, wish: Wish) -> Iterator[str]:
    """Measure a checkpoint on the held-out subjects of the run's data.

    Raises
    ------
    EngineError
        If there is too little to measure, or a file cannot be read.
    """
    runs: dict[str, Measuring] = {
        "brain-ldm": _brain_ldm,
        "ldae": _ldae,
        HELD_OUT: _gmldm,
        "memorisation": _copies,
    }
    found = yield from runs[table](config, wish)
    if wish.release is not None:
        checkpoint = load_checkpoint(wish.path)
        measured = replace(checkpoint, card=_told(checkpoint.card, found, config))
        exact = isinstance(found, CopyTest)  # it holds for the weights that were tested
        precision = _least_bits(checkpoint) if exact else torch.float16
        sha = save_checkpoint(measured, wish.release, precision)
        yield f"Wrote {wish.release} (sha256 {sha})"
        if table == HELD_OUT:
            yield write_samples(config, wish.release.with_name(FNC_SAMPLES))
    elif isinstance(found, CopyTest):
        yield (
            f"The card of {wish.path.name} does not say so yet, and nothing is refused "
            "by it. Give --release NEW.safetensors for a copy whose card does."
        )


def _least_bits(checkpoint: Checkpoint) -> torch.dtype:
    """16 bits where these hold every weight as it is, as those of a released file."""
    weights = checkpoint.tensors.values()
    same = all(torch.equal(w.half().float(), w.float()) for w in weights)
    return torch.float16 if same else torch.float32


def _told(card: Card, found: Figures | CopyTest, config: RunConfig) -> Card:
    """The card with what was found; a test for copies leaves its figures alone.

    That test reads the training people, so an older card gets what it lacks of them.
    """
    if isinstance(found, CopyTest):
        joint = card.joint or joint_of(card.vocabulary, dataset_of(config).train)
        return replace(card, copies=found, joint=joint)
    return replace(card, figures=tuple(found.items()))


def _copies(config: RunConfig, wish: Wish) -> Generator[str, None, CopyTest]:
    return memorisation(config, wish.path, wish.n)


def _gmldm(config: RunConfig, wish: Wish) -> Generator[str, None, Figures]:
    return (yield from held_out(config, wish.path, wish.n, config.gm_table.seeds))


def _ldae(config: RunConfig, wish: Wish) -> Generator[str, None, Figures]:
    found = yield from tables(config, wish.path, wish.n, wish.visits, dict(wish.others))
    return card_figures(found)


def _brain_ldm(config: RunConfig, wish: Wish) -> Generator[str, None, Figures]:
    path, n = wish.path, wish.n
    target = Path(config.out) / "evaluate-brain-ldm.json"
    with writing_into(target.parent):
        pass  # it is made before hours of measuring
    renderer = Renderer(load_checkpoint(path))
    dataset = dataset_of(config)
    _check_enough(len(dataset.held_out), n)
    unseen = [load_unseen(e, renderer.card) for e in dataset.held_out]
    _check_volumes(unseen)
    segmenter = Segmenter(load_checkpoint(bundled_segmenter()))
    ceiling = condition_figures(seen(segmenter, renderer.card, unseen))
    figures = rebuilt_figures(renderer, unseen[:n])
    figures |= {f"scans_{name}": value for name, value in ceiling.items()}
    yield from _lines(figures)
    wanted = [unseen[i % len(unseen)].conditions for i in range(n)]
    asked = list(ask(renderer, segmenter, wanted, Sampler()))
    held = condition_figures(asked)
    yield from _lines(held)
    result = {
        "table": "brain-ldm",
        "pictures": n,
        "checkpoint": renderer.checkpoint.sha256,
        "figures": figures | held,
    }
    with writing_into(target.parent):
        write_whole(target, json.dumps(result, indent=1).encode())
    yield f"Wrote {target}"
    return figures | held


def _check_enough(held_out: int, n: int) -> None:
    if min(held_out, n) < 2:
        raise EngineError(
            f"{n} pictures and {held_out} held-out scans are asked for; agreement "
            "needs at least 2 of each. Raise --n, or held_out in the config."
        )


def _lines(figures: dict[str, float]) -> list[str]:
    return [f"{name:24s} {value:.4f}" for name, value in figures.items()]


def load_unseen(entry: Entry, card: Card) -> Unseen:
    """A held-out scan of a simulated cohort with its noise-free truth.

    Both are scaled by the same rule; a dataset without truth is its own.
    """
    picture = on_grid(entry.path, card.grid, card.intensity)
    return Unseen(picture, _truth(entry, card, picture), conditions(entry))


def _truth(entry: Entry, card: Card, picture: Array) -> Array:
    root = entry.path.parents[2 + bool(entry.session)]
    name = entry.path.name.replace("_T1w", "_desc-noisefree_T1w")
    inside = entry.path.parent.relative_to(root)
    path = root / "derivatives" / "noisefree" / inside / name
    return on_grid(path, card.grid, card.intensity) if path.is_file() else picture


def _check_volumes(unseen: Sequence[Unseen]) -> None:
    if not {"ventricles", "brain"} <= set(unseen[0].conditions.as_dict()):
        raise EngineError(
            "This table measures ventricles and brain, but the dataset's covariates do "
            "not hold both. Map their columns in the config."
        )

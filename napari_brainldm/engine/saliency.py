"""What in the connectivity a picture follows, in order of trust.

A paired difference (picture minus that of the mean connectivity, same noise) comes
first; then occlusion of blocks, which says which networks made it; then integrated
gradients (`engine.attribution`); last, attention (`engine.attention`), which describes
the network and no more. None of them is evidence by looking good: each must change when
the weights are randomised (Adebayo 2018, https://arxiv.org/abs/1810.03292).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.atlas import Atlas
from napari_brainldm.engine.attribution import Attributed
from napari_brainldm.engine.compared import Sharpened, compare
from napari_brainldm.engine.compared_regions import region_means_of
from napari_brainldm.engine.contrast import Running, counted
from napari_brainldm.engine.fnc_contrast import MEAN, pairs_against
from napari_brainldm.engine.fnc_edit import swapped
from napari_brainldm.engine.heat import Heat, pairs_of
from napari_brainldm.engine.request import EngineError, Request, Seed, drawn_from

if TYPE_CHECKING:
    from napari_brainldm.engine.checkpoint import Checkpoint
    from napari_brainldm.engine.components import Components
    from napari_brainldm.engine.fnc import Fnc
    from napari_brainldm.engine.renderer import Progress, Renderer

UNLIKE = 0.2
"""Largest |Spearman| with the map of randomised weights that passes."""

GRAY = 0.1
"""Share of gray matter, in the picture of the mean connectivity, from which a voxel is
compared: where there is none two maps are unlike whatever the model has learned."""

PRIOR = ".prior."
MAPPED = (".slopes", ".compress")
"""Of a prior only what maps the condition is shuffled: noise levels must rise."""


@dataclass(frozen=True, eq=False)
class Changed:
    """What a person's connectivity changes, mean over seeds.

    Attributes
    ----------
    change
        float32 (i, j, k): the picture minus that of the mean connectivity.
    reference
        (i, j, k), the picture of the mean connectivity.
    """

    change: NDArray[np.float32]
    reference: NDArray[np.float32]

    @property
    def gray(self) -> NDArray[np.bool_]:
        """Voxels (i, j, k) of gray matter."""
        return np.asarray(self.reference >= GRAY)


@dataclass(frozen=True, eq=False)
class ByBlock:
    """What each block of connectivity has to do with each region.

    Attributes
    ----------
    blocks
        Pairs of networks.
    atlas
        On the grid of the pictures.
    table
        float32 (blocks, regions): region means of `maps`.
    maps
        float32 (blocks, i, j, k).
    """

    blocks: tuple[tuple[str, str], ...]
    atlas: Atlas
    table: NDArray[np.float32]
    maps: NDArray[np.float32]

    def heat(self) -> Heat:
        """The table as a heat map."""
        rows = tuple(f"{first}–{second}" for first, second in self.blocks)
        names = tuple(region.name for region in self.atlas.regions)
        sides = tuple(first for first, _ in self.blocks)
        return Heat(self.table, rows, names, sides, ("",) * len(names))


class Occluded(ByBlock):
    """What each block adds: the picture minus that whose block is the training mean.

    Mean over seeds, in the unit of the picture.
    """


def paired_difference(
    renderer: Renderer, request: Request, fnc: Fnc, seeds: int
) -> Generator[Progress | Sharpened, None, Changed]:
    """Picture of `fnc` minus that of the training mean, over seeds."""
    pairs = pairs_against(renderer, request, [fnc], MEAN)
    compared = yield from compare(renderer, pairs, seeds)
    return Changed(compared.mean.data, compared.second.data)


def occluded(
    renderer: Renderer,
    request: Request,
    fnc: Fnc,
    components: Components,
    atlas: Atlas,
    seeds: int = 1,
) -> Generator[Progress, None, Occluded]:
    """Replace every block of `fnc` by the training mean, and see what changes.

    Pictures of one seed start from the same noise. `atlas` is brought onto the grid.
    """
    known = renderer.fnc
    mean, blocks = known.of(known.mean), pairs_of(components)
    cases = [fnc, *(swapped(fnc, mean, components, *block) for block in blocks)]
    asked = [_under(request, known.admit(case)) for case in cases]
    first = drawn_from(request.origin) or 0
    changes = [Running() for _ in blocks]
    for seed in range(seeds):
        whole = None
        for place, one in enumerate(asked):
            seeded = replace(one, origin=Seed(first + seed))
            done = seed * len(asked) + place
            steps = renderer.render(seeded)
            picture = yield from counted(steps, done, seeds * len(asked))
            if whole is None:
                whole = picture.data
            else:
                changes[place - 1].add(whole - picture.data)
    maps = np.stack([change.mean() for change in changes])
    placed = atlas.on(renderer.card.grid)
    table = np.asarray(region_means_of(placed)(maps), np.float32)
    return Occluded(blocks, placed, table, maps)


def _under(request: Request, digest: str) -> Request:
    return replace(request, conditions=replace(request.conditions, fnc=digest))


def randomised(checkpoint: Checkpoint, seed: int = 0) -> Checkpoint:
    """`checkpoint` with the weights of its denoiser shuffled, tensor by tensor.

    Sizes and scales of the weights stay; what was learned goes. The autoencoder, which
    no connectivity enters, is left as it is.
    """
    rng = np.random.default_rng(seed)
    tensors = {
        name: _shuffled(value, rng) if _is_learned(name) else value
        for name, value in checkpoint.tensors.items()
    }
    return replace(checkpoint, tensors=tensors)


def _is_learned(name: str) -> bool:
    if not name.startswith("denoiser."):
        return False
    return PRIOR not in name or name.endswith(MAPPED)


def _shuffled(value: Any, rng: np.random.Generator) -> Any:
    order = rng.permutation(value.numel())
    return value.flatten()[order].reshape(value.shape).contiguous()


@dataclass(frozen=True)
class Sanity:
    """Whether a map depends on what the model has learned.

    Attributes
    ----------
    spearman
        Rank correlation of the map with that of randomised weights.
    """

    spearman: float

    @property
    def passed(self) -> bool:
        """Whether the two are unlike."""
        return abs(self.spearman) <= UNLIKE

    def told(self) -> str:
        """One sentence."""
        start = f"With randomised weights: Spearman {self.spearman:.2f}"
        if self.passed:
            return f"{start}, so the map depends on what was learned."
        return (
            f"{start}, more than {UNLIKE:g}: the map shows much that was not learned. "
            "Do not read it as what the model knows."
        )


def sanity_of(trained: Any, other: Any) -> Sanity:
    """Compare what was found with what randomised weights give, of the same kind.

    A table is compared cell by cell, attributions connection by connection, and a map
    in the gray matter of the trained model.

    Raises
    ------
    EngineError
        If the two cannot be compared.
    """
    if isinstance(trained, ByBlock):
        return sanity(trained.table, other.table)
    if isinstance(trained, Attributed):
        return sanity(trained.vector, other.vector)
    if not trained.gray.any():
        raise EngineError(
            "The picture of the mean connectivity shows no gray matter (no voxel of "
            f"{GRAY:g} or more), so the map cannot be compared with that of randomised "
            "weights. Take the check away, or open a trained checkpoint."
        )
    return sanity(trained.change[trained.gray], other.change[trained.gray])


def sanity(trained: NDArray[Any], other: NDArray[Any]) -> Sanity:
    """Compare a map with that of randomised weights, value by value.

    Raises
    ------
    EngineError
        If either is the same everywhere, or not finite.
    """
    from scipy.stats import spearmanr

    first, second = trained.ravel(), other.ravel()
    if not (np.isfinite(second).all() and np.ptp(first) > 0 and np.ptp(second) > 0):
        raise EngineError(
            "The map, or that of randomised weights, is the same everywhere, so the "
            "two cannot be compared. Choose connectivity other than the mean."
        )
    return Sanity(float(spearmanr(first, second).statistic))

"""Group studies resampled from one pool of difference maps, and what they find.

The answer is known: the simulated illness moves the connectivity and shrinks three
structures, and nothing else in the connectivity has to do with gray matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.atlas import Atlas, Region, bundled
from napari_brainldm.engine.compared import compare
from napari_brainldm.engine.compared_regions import SMALL, region_means_of, side_of
from napari_brainldm.engine.contrast import Running
from napari_brainldm.engine.inference import dz, sign_flip_test
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Conditions, Request, Seed
from napari_brainldm.engine.volume import Array, Grid
from trainer.data.connectivity import ConnectivityConfig, draw_fnc, draw_patient
from trainer.data.template import STRUCTURES

if TYPE_CHECKING:
    from napari_brainldm.engine.fnc import Fnc

Floats = NDArray[np.float64]

NEW_PEOPLE = 100_000
"""Number of the first person whom no cohort on disk holds."""

CEREBELLUM = {7: 8, 46: 47}
"""White matter of the cerebellum, and the cortex it is taken together with: the
simulated structure is both."""

GRAY_REGION, GRAY_VOXEL = 0.2, 0.1
"""Mean share of gray matter from which a region takes part in the ranking, and a voxel
in the map's AUC."""

PLANTED_RANK = 3
ALPHA = 0.05


@dataclass(frozen=True, eq=False)
class Pool:
    """Differences of pairs of maps under the same noise, one pair for each person.

    Attributes
    ----------
    differences
        float32 (N, i, j, k).
    reference
        (i, j, k), mean of the second maps.
    atlas
        On the grid of the maps.
    planted
        Labels of the structures that shrink.
    """

    differences: NDArray[np.float32]
    reference: Array
    atlas: Atlas
    planted: tuple[int, ...]

    @cached_property
    def values(self) -> Floats:
        """Region means (N, R) of the differences."""
        return region_means_of(self.atlas)(self.differences)

    @cached_property
    def gray(self) -> NDArray[np.bool_]:
        """Regions (R,) that hold gray matter and are not flagged as small.

        The atlas has specks: its "vessel" is two voxels within the putamen.
        """
        means: Floats = region_means_of(self.atlas)(self.reference[None])[0]
        counts = np.bincount(self.atlas.labels.ravel().clip(min=0))
        sizes = np.array([counts[r.index] for r in self.atlas.regions])
        return (means >= GRAY_REGION) & (sizes >= SMALL)

    @cached_property
    def inside(self) -> NDArray[np.float32]:
        """Differences (N, V) of the voxels of gray matter."""
        return self.differences[:, self.reference >= GRAY_VOXEL]

    @cached_property
    def truth(self) -> NDArray[np.bool_]:
        """Which of these voxels (V,) lie in a structure that shrinks."""
        labels = self.atlas.labels[self.reference >= GRAY_VOXEL]
        return np.isin(labels, self.planted)


# People -------------------------------------------------------------------------------


def new_people(
    config: ConnectivityConfig, seed: int, group: str, count: int
) -> list[Fnc]:
    """Connectivity of `count` people of `group` whom no cohort of `seed` holds.

    With strength 0 they are the same people without what the illness does.
    """
    found: list[Fnc] = []
    index = NEW_PEOPLE
    while len(found) < count:
        if draw_patient(config, seed, index).group == group:
            found.append(draw_fnc(config, seed, index, f"{group} {index}"))
        index += 1
    return found


def render_pool(
    renderer: Renderer,
    pairs: Sequence[tuple[Fnc, Fnc]],
    config: ConnectivityConfig,
    seeds: int = 1,
) -> Pool:
    """Both maps of every pair, each pair under its own seeds."""
    differences, reference = [], Running()
    for number, pair in enumerate(pairs):
        one, other = (
            Request(Conditions(fnc=renderer.fnc.admit(fnc)), Seed(number * seeds))
            for fnc in pair
        )
        made = finish(compare(renderer, [(one, other)], seeds))
        differences.append(made.differences[0])
        reference.add(made.second.data)
    grid = renderer.card.grid
    labels = planted_labels(config)
    return Pool(np.stack(differences), reference.mean(), atlas_on(grid), labels)


def planted_labels(config: ConnectivityConfig) -> tuple[int, ...]:
    """Labels of the structures that the illness shrinks."""
    known = dict(STRUCTURES)
    return tuple(n for loss in config.losses for n in known[loss.structure])


@lru_cache(maxsize=2)
def atlas_on(grid: Grid) -> Atlas:
    """The bundled atlas on `grid`, each half of the cerebellum one region."""
    atlas = bundled()
    labels = atlas.labels.copy()
    for white, cortex in CEREBELLUM.items():
        labels[labels == white] = cortex
    regions = tuple(r for r in atlas.regions if r.index not in CEREBELLUM)
    return replace(atlas, labels=labels, regions=regions).on(grid)


# Studies ------------------------------------------------------------------------------


def false_alarms(
    pool: Pool, tests: int, people: int, flips: int, rng: np.random.Generator
) -> float:
    """Share of group tests that find any region, where there is nothing to find.

    The two of a pair are exchangeable, so which of them is the first is drawn anew.
    """
    found = 0
    for number in range(tests):
        values = _drawn(pool.values, people, rng)
        tested = sign_flip_test(values, flips, seed=number)
        found += bool(tested.p_fwe.min() <= ALPHA)
    return found / tests


def _drawn(values: Floats, people: int, rng: np.random.Generator) -> Floats:
    """Rows of `people` of the pool, each with a sign by chance."""
    chosen = rng.choice(len(values), people, replace=False)
    signs = rng.choice((-1.0, 1.0), people)
    return signs[:, None] * values[chosen]


@dataclass(frozen=True)
class Areas:
    """Areas under the ROC curve of a study's maps, against the planted structures.

    Attributes
    ----------
    effect, difference, loss
        Of |dz|, of the mean difference's size, and of how far it is below 0: what is
        planted is a loss.
    """

    effect: float
    difference: float
    loss: float


@dataclass(frozen=True)
class Found:
    """What one study of a planted effect found.

    Attributes
    ----------
    by_difference, by_effect
        Whether each planted region is among the first of its hemisphere, by the size
        of the mean difference and of dz.
    areas
        Of the voxels of gray matter.
    """

    by_difference: bool
    by_effect: bool
    areas: Areas


def planted_studies(
    pool: Pool, studies: int, people: int, rng: np.random.Generator
) -> list[Found]:
    """Studies of `people` of the pool each, as they are."""
    drawn = [
        rng.choice(len(pool.values), people, replace=False) for _ in range(studies)
    ]
    return [_study(pool, chosen) for chosen in drawn]


def _study(pool: Pool, chosen: NDArray[np.intp]) -> Found:
    values, inside = pool.values[chosen], pool.inside[chosen].astype(np.float64)
    return Found(
        on_top(pool, np.abs(values.mean(0))),
        on_top(pool, np.abs(dz(values))),
        _areas(inside, pool.truth),
    )


def unplanted_areas(
    pool: Pool, studies: int, people: int, rng: np.random.Generator
) -> Areas:
    """Mean areas of studies where the groups differ in nothing.

    As in `false_alarms`, which of a pair is the patient is drawn anew.
    """
    inside = pool.inside.astype(np.float64)
    return mean_areas(
        [_areas(_drawn(inside, people, rng), pool.truth) for _ in range(studies)]
    )


def mean_areas(found: Sequence[Areas]) -> Areas:
    """The mean of each."""
    return Areas(*(float(n) for n in np.mean([astuple(one) for one in found], axis=0)))


def _areas(inside: Floats, truth: NDArray[np.bool_]) -> Areas:
    """Of differences (N, V)."""
    mean = inside.mean(0)
    scores = np.abs(dz(inside)), np.abs(mean), -mean
    return Areas(*(area(score, truth) for score in scores))


def on_top(pool: Pool, size: Floats) -> bool:
    """Whether, in both hemispheres, every planted region is among the first three.

    Ranked are the regions of `Pool.gray`, by `size` (R,). A planted region that
    the grid or the ranking has lost is not on top.
    """
    regions = pool.atlas.regions
    firsts: list[Region] = []
    for side in ("L", "R"):
        places = [
            n for n, r in enumerate(regions) if side_of(r.name) == side and pool.gray[n]
        ]
        ranked = sorted(places, key=lambda n: -size[n])
        firsts += [regions[n] for n in ranked[:PLANTED_RANK]]
    wanted = {CEREBELLUM.get(label, label) for label in pool.planted}
    return wanted <= {region.index for region in firsts}


def area(scores: Floats, truth: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a true voxel has the higher score."""
    from scipy.stats import rankdata

    true, other = int(truth.sum()), int((~truth).sum())
    ranks = rankdata(scores)
    return float((ranks[truth].sum() - true * (true + 1) / 2) / (true * other))

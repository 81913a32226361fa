"""The region table of a paired contrast, with all that is needed to judge a row."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.inference import (
    FLIPS,
    dz,
    hedges,
    interval,
    null_weights,
    sign_consistency,
    sign_flip_test,
)
from napari_brainldm.engine.request import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_brainldm.engine.atlas import Atlas, Region
    from napari_brainldm.engine.compared import Compared
    from napari_brainldm.engine.volume import Grid

Floats = NDArray[np.float64]

SMALL = 20
"""Voxels below which a region is flagged: one edge of it is most of it."""

NULL_LEVEL = 95.0
_SIDES = {"left": "L", "lh": "L", "l": "L", "right": "R", "rh": "R", "r": "R"}


@dataclass(frozen=True)
class RegionContrast:
    """One region. Means, differences and SDs are in the pictures' own unit.

    Attributes
    ----------
    frac_in_mask
        Share of its voxels within the mask.
    sd_seed, sd_subject
        SD over the seeds of one subject (mean over subjects; None for one seed), and
        over subjects.
    dz, g, ci_lo, ci_hi, t, p_perm, q_fdr, p_fwe, sign_consistency
        Over subjects, see `engine.inference`; None for one subject alone.
    null95
        95th percentile of the absolute means of as many pairs of a null; None without.
    rank
        Place by size of the effect, from 1; of the difference for one subject.
    flags
        "dropped" (no voxel on the grid), "small" (under 20 voxels).
    """

    atlas: str
    atlas_version: str
    roi_id: int
    name: str
    hemi: str
    n_vox: int
    mm3: float
    frac_in_mask: float | None = None
    mean_A: float | None = None
    mean_B: float | None = None
    diff: float | None = None
    diff_pct: float | None = None
    sd_seed: float | None = None
    sd_subject: float | None = None
    n_subjects: int = 0
    n_seeds: int = 0
    dz: float | None = None
    g: float | None = None
    ci_lo: float | None = None
    ci_hi: float | None = None
    t: float | None = None
    p_perm: float | None = None
    q_fdr: float | None = None
    p_fwe: float | None = None
    sign_consistency: float | None = None
    null95: float | None = None
    rank: int | None = None
    flags: tuple[str, ...] = ()


COLUMNS = tuple(field.name for field in fields(RegionContrast))


def region_contrasts(
    atlas: Atlas,
    compared: Compared,
    mask: NDArray[np.bool_],
    null: NDArray[np.float32] | None = None,
    flips: int = FLIPS,
    seed: int = 0,
) -> tuple[RegionContrast, ...]:
    """The table of `compared` over `atlas`, every region of the atlas in it.

    Parameters
    ----------
    atlas
        In MNI space, on its own grid.
    mask
        bool (i, j, k): where the pictures show anything.
    null
        (M, i, j, k), differences of pairs that differ in nothing that matters.
    flips, seed
        Of the sign-flip test.
    """
    grid = compared.first.grid
    placed = atlas.on(grid)
    means = region_means_of(placed)
    values = means(compared.differences)
    columns: dict[str, Floats] = {
        "mean_A": means(compared.first.data[None])[0],
        "mean_B": means(compared.second.data[None])[0],
        "diff": values.mean(0),
        "frac_in_mask": means(mask[None].astype(np.float32))[0],
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        columns["diff_pct"] = 100 * columns["diff"] / columns["mean_B"]
    if compared.seeds > 1:
        columns["sd_seed"] = means(compared.seed_sd).mean(0)
    if null is not None:
        by_chance = null_weights(len(null), compared.people) @ means(null)
        columns["null95"] = np.percentile(np.abs(by_chance), NULL_LEVEL, axis=0)
    order = np.abs(columns["diff"])
    if compared.people > 1:
        columns |= _inferred(values, flips, seed)
        order = np.abs(columns["dz"])
    ranks = np.empty(len(order), int)
    ranks[np.argsort(-order, kind="stable")] = np.arange(1, len(order) + 1)
    known = {region.index: row for row, region in enumerate(placed.regions)}
    counts = np.bincount(placed.labels.ravel().clip(min=0))
    return tuple(
        _row(atlas, region, grid, counts, compared, columns, ranks, known)
        for region in atlas.regions
    )


def region_means_of(
    placed: Atlas,
) -> Callable[[NDArray[np.floating]], Floats]:
    """What gives the region means (M, R) of maps (M, i, j, k) on the atlas's grid.

    Raises
    ------
    EngineError
        If maps lie on another grid.
    """
    indices = np.array([region.index for region in placed.regions])
    place = np.searchsorted(indices, placed.labels.ravel())
    place = np.where(np.isin(placed.labels.ravel(), indices), place, len(indices))
    counts = np.maximum(np.bincount(place, minlength=len(indices) + 1)[:-1], 1)

    def means(maps: NDArray[np.floating]) -> Floats:
        if maps.shape[1:] != placed.grid.shape:
            raise EngineError(
                "Atlas and picture lie on different grids, so no averages can be "
                "taken. Bring the atlas onto the picture's grid first."
            )
        sums = [np.bincount(place, one.ravel(), len(counts) + 1)[:-1] for one in maps]
        return np.asarray(np.stack(sums) / counts, np.float64)

    return means


def to_tsv(rows: tuple[RegionContrast, ...]) -> str:
    """Tab-separated text with a head; n/a where there is nothing, as in BIDS."""
    lines = ["\t".join(COLUMNS)]
    lines += ["\t".join(_cell(getattr(row, name)) for name in COLUMNS) for row in rows]
    return "\n".join(lines) + "\n"


def _inferred(values: Floats, flips: int, seed: int) -> dict[str, Floats]:
    tested = sign_flip_test(values, flips, seed)
    low, high = interval(values)
    effects = dz(values)
    return {
        "sd_subject": values.std(0, ddof=1),
        "dz": effects,
        "g": hedges(effects, len(values)),
        "ci_lo": low,
        "ci_hi": high,
        "t": tested.t,
        "p_perm": tested.p,
        "q_fdr": tested.q,
        "p_fwe": tested.p_fwe,
        "sign_consistency": sign_consistency(values),
    }


def _row(
    atlas: Atlas,
    region: Region,
    grid: Grid,
    counts: NDArray[np.intp],
    compared: Compared,
    columns: dict[str, Floats],
    ranks: NDArray[np.int_],
    known: dict[int, int],
) -> RegionContrast:
    size = int(counts[region.index]) if region.index < len(counts) else 0
    volume = size * float(np.prod(grid.voxel_size))
    place = known.get(region.index)
    flags = ("dropped",) if place is None else ("small",) if size < SMALL else ()
    head = RegionContrast(
        atlas.name,
        atlas.edition,
        region.index,
        region.name,
        side_of(region.name),
        size,
        volume,
        n_subjects=compared.people,
        n_seeds=compared.seeds,
        flags=flags,
    )
    if place is None:
        return head
    told: dict[str, Any] = {k: float(v[place]) for k, v in columns.items()}
    return replace(head, **told, rank=int(ranks[place]))


def side_of(name: str) -> str:
    """The side, L or R, that the words of a region's name say; empty for neither."""
    words = name.lower().replace("-", " ").replace("_", " ").split()
    return next((_SIDES[word] for word in words if word in _SIDES), "")


def _cell(value: object) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(value) if isinstance(value, tuple) else str(value)

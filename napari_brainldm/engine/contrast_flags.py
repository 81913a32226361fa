"""What may be wrong with a difference map: edges, one sign, decoder, too few seeds.

Flags warn and remove nothing. Their limits are rules of thumb of this program; the
numbers behind them are told beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.compared_regions import SMALL, RegionContrast

if TYPE_CHECKING:
    from napari_brainldm.engine.atlas import Atlas
    from napari_brainldm.engine.fnc_contrast import Contrasted
    from napari_brainldm.engine.volume import Array

EDGE = 0.5
"""Correlation of the absolute difference with the picture's gradient above this."""

ONE_SIGN, SHIFT = 0.8, 0.5
"""Share of voxels of one sign; mean difference in units of its SD over voxels."""

RELIABLE = 0.8
"""Correlation of the maps of two halves of the seeds, below which it is flagged."""

WORDS = {
    "edge": "the difference follows the edges of the picture, as a shift would",
    "global": "nearly all of the brain changes in one direction",
    "decoder": "on average it is smaller than what the autoencoder alone changes",
    "seeds": "two halves of the seeds disagree: take more",
    "null": "it is within what as many pairs of random vectors differ by",
}


@dataclass(frozen=True)
class Judged:
    """A map in numbers, all within the mask.

    Attributes
    ----------
    mean, sd
        Of the difference over voxels, in the picture's unit.
    sign_share
        Share of voxels that have the commoner sign.
    edge
        Correlation of |D| with the gradient of the mean first picture.
    reliability
        Correlation of the maps of two halves of the seeds; None for one seed.
    floor_ratio
        Mean |D| over what two seeds differ by (sqrt 2 times their SD); None for one.
    beyond_decoder
        Share of voxels in which |D| exceeds the autoencoder's own error.
    null95
        95th percentile of the mean |D| of the null's means; None without one.
    flags
        Keys of WORDS.
    """

    mean: float
    sd: float
    sign_share: float
    edge: float
    reliability: float | None
    floor_ratio: float | None
    beyond_decoder: float
    null95: float | None
    flags: tuple[str, ...] = ()

    def told(self) -> str:
        """The flags in one sentence; empty without any."""
        if not self.flags:
            return ""
        words = [WORDS[name] for name in self.flags]
        return f"Mind: {'; '.join(words)}."

    def to_plain(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def judge(made: Contrasted) -> Judged:
    """What a contrast's mean map is like, and what to mind."""
    mask, mean = made.mask, made.compared.mean.data
    if not mask.any():
        mask = np.ones_like(mask)
    inside = mean[mask].astype(np.float64)
    size = np.abs(inside)
    halves, floor = made.compared.halves, made.compared.floor
    null = made.null_sizes
    found = Judged(
        float(inside.mean()),
        float(inside.std()),
        float(max((inside > 0).mean(), (inside < 0).mean())),
        correlation(size, gradient(made.compared.first.data)[mask]),
        None if halves is None else correlation(halves[0][mask], halves[1][mask]),
        _ratio(size, None if floor is None else floor[mask]),
        float((size > made.error[mask]).mean()),
        float(np.percentile(null, 95)) if len(null) else None,
    )
    return replace(found, flags=_flags(found, size, made.error[mask]))


def _ratio(size: NDArray[np.float64], floor: Array | None) -> float | None:
    if floor is None or not floor.any():
        return None
    return float(size.mean() / (np.sqrt(2) * floor.mean()))


def _flags(found: Judged, size: NDArray[np.float64], error: Array) -> tuple[str, ...]:
    shifted = found.sign_share > ONE_SIGN or abs(found.mean) > SHIFT * found.sd > 0
    unsure = found.reliability is not None and found.reliability < RELIABLE
    usual = found.null95 is not None and size.mean() <= found.null95
    raised = {
        "edge": found.edge > EDGE,
        "global": shifted and bool(size.any()),
        "decoder": bool(size.mean() < error.mean()),
        "seeds": unsure,
        "null": usual,
    }
    return tuple(name for name, up in raised.items() if up)


def gradient(data: Array) -> Array:
    """Length of the gradient (i, j, k) per voxel."""
    parts = np.gradient(data)
    return np.asarray(np.sqrt(sum(np.square(part) for part in parts)), np.float32)


def correlation(first: Any, second: Any) -> float:
    """Pearson's; 0 where either does not vary."""
    a, b = first - first.mean(dtype=float), second - second.mean(dtype=float)
    length = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum() / length) if length > 0 else 0.0


def flagged(
    rows: Sequence[RegionContrast], atlas: Atlas, made: Contrasted
) -> tuple[RegionContrast, ...]:
    """`rows` with the flags "edge", "global" and "decoder" where they belong.

    "global" is of the whole map and stands in every row.
    """
    labels = atlas.on(made.compared.first.grid).labels
    edges = gradient(made.compared.first.data)
    size = np.abs(made.compared.mean.data)
    everywhere = "global" in judge(made).flags
    return tuple(
        replace(row, flags=(*row.flags, *_of_row(row, labels, size, edges, made.error)))
        if row.n_vox
        else row
        for row in (_with_global(row, everywhere) for row in rows)
    )


def _with_global(row: RegionContrast, everywhere: bool) -> RegionContrast:
    return replace(row, flags=(*row.flags, "global")) if everywhere else row


def _of_row(
    row: RegionContrast,
    labels: NDArray[np.int32],
    size: Array,
    edges: Array,
    error: Array,
) -> tuple[str, ...]:
    here = labels == row.roi_id
    many = row.n_vox >= SMALL
    raised = {
        "edge": many and correlation(size[here], edges[here]) > EDGE,
        "decoder": size[here].mean() < error[here].mean(),
    }
    return tuple(name for name, up in raised.items() if up)

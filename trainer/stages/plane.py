"""The plane in which training people of different diagnoses lie apart.

Linear discriminant analysis of the codes (Lozupone 2025, section 4.3 and Figure 5).
What is kept are the axes and the mean and spread of each group: no person's own code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from napari_brainldm.engine.checkpoint import Checkpoint
from napari_brainldm.engine.semantic_space import Plane
from trainer.data.bids import MISSING
from trainer.stages.directions import people_of

if TYPE_CHECKING:
    from trainer.config import Target

Floats = NDArray[np.float64]
Rows = Sequence[Mapping[str, str]]
LEAST = 3
"""People of a group, below which it has no spread."""


def with_plane(
    checkpoint: Checkpoint, targets: Sequence[Target], train: tuple[Floats, Rows]
) -> Checkpoint:
    """`checkpoint` with the plane of training codes (N, E) and what tables say of them.

    It tells apart the categories in the column of the first target that has some.
    Groups of fewer than three people are left out; with fewer than two groups there is
    nothing to tell apart, and `checkpoint` comes back as it is. Two groups have one
    discriminant: the second axis is then the most varied one across it.
    """
    chosen = [target for target in targets if target.positive]
    if not chosen:
        return checkpoint
    codes, rows = train
    told = np.array([row.get(chosen[0].column, "") for row in rows])
    people = people_of(rows)
    sizes = {
        group: len(set(people[told == group].tolist()))
        for group in dict.fromkeys(told.tolist())
        if group not in MISSING
    }
    names = tuple(group for group, size in sizes.items() if size >= LEAST)
    if len(names) < 2:
        return checkpoint
    tensors = checkpoint.tensors
    mean, std = (tensors[f"semantic.{n}"].double().numpy() for n in ("mean", "std"))
    kept = np.isin(told, names)
    normal, told = (codes[kept] - mean) / std, told[kept]
    axes = _axes(normal, told)
    points = normal @ axes.T
    found = {
        "axes": axes,
        "centres": [points[told == g].mean(0) for g in names],
        "spreads": [np.cov(points[told == g].T) for g in names],
    }
    counts = tuple(sizes[g] for g in names)
    new = {
        f"plane.{k}": torch.from_numpy(np.array(v)).float() for k, v in found.items()
    }
    card = replace(checkpoint.card, plane=Plane(chosen[0].title, names, counts))
    return Checkpoint(card, dict(tensors) | new)


def _axes(normal: Floats, told: NDArray[np.str_]) -> Floats:
    """(2, E), of unit spread within groups."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    groups = np.unique(told)
    axes = lda.fit(normal, told).scalings_.T[: min(2, len(groups) - 1)]
    if len(axes) < 2:
        first = axes[0] / np.linalg.norm(axes[0])
        rest = normal - np.outer(normal @ first, first)
        axes = np.vstack([axes, np.linalg.svd(rest, full_matrices=False)[2][:1]])
    means = np.array([normal[told == g].mean(0) for g in groups])
    within = (normal - means[np.searchsorted(groups, told)]) @ axes.T
    return np.asarray(axes / within.std(0)[:, None])

"""Age and sex as a plain regressor sees them in a picture.

Ridge on the picture averaged over 8 mm cubes: no judge of what a clinician would see,
but a fixed one, trained on the training split alone. Its agreement on held-out scans is
the ceiling of what it can say about generated ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.volume import Grid

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array

CUBE_MM = 8.0
PENALTIES = np.logspace(-1, 5, 13)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Readers:
    """Fitted readers of pictures on one grid."""

    grid: Grid
    age: Any
    sex: Any

    def read(self, pictures: Sequence[Array]) -> tuple[Floats, NDArray[np.str_]]:
        """Age in years (N,) and sex (N,) seen in pictures (i, j, k)."""
        x = cubes(pictures, self.grid)
        return np.asarray(self.age.predict(x)), np.asarray(self.sex.predict(x))


def fit_readers(
    pictures: Sequence[Array], ages: Sequence[float], sexes: Sequence[str], grid: Grid
) -> Readers:
    """Readers fitted to training pictures; penalties by leave-one-out on them."""
    from sklearn.linear_model import RidgeClassifierCV, RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = cubes(pictures, grid)
    age = make_pipeline(StandardScaler(), RidgeCV(PENALTIES * len(x)))
    sex = make_pipeline(StandardScaler(), RidgeClassifierCV(PENALTIES * len(x)))
    return Readers(grid, age.fit(x, np.array(ages)), sex.fit(x, np.array(sexes)))


def cubes(pictures: Sequence[Array], grid: Grid) -> Floats:
    """Means over cubes of about 8 mm: (N, D)."""
    factor = max(1, round(CUBE_MM / min(grid.voxel_size)))
    return np.stack([_pooled(np.asarray(p, np.float64), factor) for p in pictures])


def _pooled(picture: Floats, factor: int) -> Floats:
    """Means over cubes of `factor` voxels, flat; what is left over is cut off."""
    i, j, k = (n // factor for n in picture.shape)
    part = picture[: i * factor, : j * factor, : k * factor]
    means: Floats = part.reshape(i, factor, j, factor, k, factor).mean((1, 3, 5))
    return means.ravel()

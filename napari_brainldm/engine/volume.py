"""A picture in space: voxels and where they are.

Definitions. Voxel indices are (i, j, k); world coordinates are millimetres, RAS+
(x to the right, y to the front, z up). An affine maps voxel indices to world
coordinates of voxel centres, as in nibabel.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Affine = NDArray[np.float64]

SAME_MM = 1e-3
"""How far two grids may lie apart and still be one."""


@dataclass(frozen=True)
class Grid:
    """The space a model lives in.

    Attributes
    ----------
    shape
        Number of voxels along (i, j, k).
    affine
        4 x 4, row-major nested tuples, voxel -> RAS+ mm.
    """

    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], matrix: NDArray[Any]) -> Grid:
        """The grid of `shape` (i, j, k) whose affine is `matrix` (4, 4)."""
        i, j, k = (int(n) for n in shape)
        return cls((i, j, k), tuple(tuple(float(v) for v in row) for row in matrix))

    def is_at(self, other: Grid) -> bool:
        """Whether both are one grid, but for a thousandth of a millimetre."""
        near = np.allclose(self.matrix, other.matrix, atol=SAME_MM)
        return self.shape == other.shape and bool(near)

    def shares_voxels(self, other: Grid) -> bool:
        """Whether one is the other, cut or padded: no value has to be interpolated."""
        step = self.matrix[:3, :3]
        away = np.linalg.solve(step, (other.matrix - self.matrix)[:3, 3])
        turned = (other.matrix[:3, :3] - step) * max(other.shape)
        near = step @ (away - away.round())
        return bool(max(np.abs(turned).max(), np.abs(near).max()) < SAME_MM)

    @property
    def matrix(self) -> Affine:
        """The affine as an array (4, 4)."""
        return np.array(self.affine, dtype=np.float64)

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel in mm along (i, j, k)."""
        i, j, k = np.linalg.norm(self.matrix[:3, :3], axis=0)
        return float(i), float(j), float(k)


def mni_grid(voxel_mm: float) -> Grid:
    """The MNI grid of the bundled models: 160 x 192 x 160 mm, RAS, `voxel_mm` cubes.

    2 mm gives 80 x 96 x 80 voxels; 1 mm gives 160 x 192 x 160.
    """
    i, j, k = (round(extent / voxel_mm) for extent in (160.0, 192.0, 160.0))
    centre = np.array([0.0, -18.0, 5.0])  # of the MNI152 brain, not of its head
    size = np.array([i, j, k])
    origin = centre - voxel_mm * (size - 1) / 2
    affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
    affine[:3, 3] = origin
    return Grid.of((i, j, k), affine)


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D picture in space.

    Attributes
    ----------
    data
        float32 (i, j, k).
    affine
        float64 (4, 4), voxel -> RAS+ mm.
    """

    data: Array
    affine: Affine

    @property
    def grid(self) -> Grid:
        """The space of this picture."""
        return Grid.of(self.data.shape, self.affine)

    @property
    def digest(self) -> str:
        """SHA-256 of voxels, shape and affine, hex."""
        sha = hashlib.sha256(np.ascontiguousarray(self.data, np.float32).tobytes())
        sha.update(repr(self.data.shape).encode())
        sha.update(np.ascontiguousarray(self.affine, np.float64).tobytes())
        return sha.hexdigest()

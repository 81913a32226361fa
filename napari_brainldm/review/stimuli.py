"""Every picture of a study down the same road, so that only the picture differs.

RAS, the study's grid, the study's mask, one background, intensities by robust
percentiles within the mask, 12 bits, one uncompressed file of one size for each random
token. Files hold the voxels alone: what they have in common stands in study.json.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.conform import canonical
from napari_brainldm.engine.files import write_whole
from napari_brainldm.engine.placement import Mask, largest_piece, mni_template
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.volume import Array, Grid, Volume
from napari_brainldm.review.study import WHITE, Stimulus

Twelve = NDArray[np.uint16]
MARGIN_MM = 8.0
"""How far the study's mask reaches beyond the template's brain."""

DARK = 0.1
"""Share of the brightness of a picture below which its surroundings are background."""

SMOOTH_MM = 3.0
LOW, HIGH = 0.5, 99.5
"""Percentiles within the picture that become black and white."""

WRITTEN = 315_532_800
"""Time on every file, so that none tells when it was made: 1 January 1980, seconds."""


@dataclass(frozen=True, eq=False)
class Road:
    """The way of a volume to a stimulus.

    Attributes
    ----------
    grid
        Of every stimulus, MNI space.
    mask
        bool (i, j, k): nothing outside it is shown, whatever the picture.
    """

    grid: Grid
    mask: Mask

    @classmethod
    def around_brain(cls, grid: Grid) -> Road:
        """For pictures of brains: the MNI152 brain and a margin."""
        from scipy.ndimage import distance_transform_edt

        template = mni_template()
        brain = Volume(template.brain.astype(np.float32), template.picture.affine)
        inside = resample(brain, grid) > 0.5
        away = distance_transform_edt(~inside, sampling=grid.voxel_size)
        return cls(grid, np.asarray(away <= MARGIN_MM))

    def stimulus(self, volume: Volume) -> Twelve:
        """`volume`, which lies in MNI space, as 0..4095 (i, j, k)."""
        data = resample(canonical(volume), self.grid, order=3)
        shown = self.mask & self._foreground(data)
        if not shown.any():
            raise EngineError(
                "A picture is empty where a brain should be. Check that it lies in MNI "
                "space, or let the build place it (placed = false)."
            )
        low, high = np.percentile(data[shown], [LOW, HIGH])
        scaled = np.clip((data - low) / max(high - low, 1e-12), 0, 1)
        return np.where(shown, np.rint(scaled * WHITE), 0).astype(np.uint16)

    def _foreground(self, data: Array) -> Mask:
        """Where the picture is not background, by one rule for all."""
        from scipy.ndimage import binary_fill_holes, gaussian_filter

        sd = [SMOOTH_MM / edge for edge in self.grid.voxel_size]
        smooth = gaussian_filter(data, sd)
        bright = smooth > DARK * np.percentile(smooth[self.mask], HIGH)
        return np.asarray(binary_fill_holes(largest_piece(bright & self.mask)))


def write_stimulus(folder: Path, data: Twelve) -> Stimulus:
    """Put `data` into `<token>.npz` of a new random token."""
    token = secrets.token_hex(16)
    stream = io.BytesIO()
    np.savez(stream, data=np.ascontiguousarray(data))
    path = folder / f"{token}.npz"
    write_whole(path, stream.getvalue())
    os.utime(path, (WRITTEN, WRITTEN))
    return Stimulus(token, hashlib.sha256(stream.getvalue()).hexdigest())


def read_stimulus(folder: Path, stimulus: Stimulus) -> Twelve:
    """The voxels (i, j, k), 0..4095.

    Raises
    ------
    EngineError
        If the file is missing or not the one the study was frozen with.
    """
    path = folder / "stimuli" / f"{stimulus.token}.npz"
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != stimulus.sha256:
            raise ValueError("it is not the file the study was frozen with")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return np.asarray(arrays["data"], np.uint16)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise EngineError(
            f"A picture of the study cannot be read ({error}). Copy the study's folder "
            "again from its owner."
        ) from error


# -- arms made from a picture ------------------------------------------------------


def blurred(volume: Volume, fwhm_mm: float) -> Volume:
    """`volume` blurred by a Gaussian of `fwhm_mm` (full width at half maximum)."""
    from scipy.ndimage import gaussian_filter

    sd = [fwhm_mm / 2.355 / edge for edge in volume.grid.voxel_size]
    return Volume(gaussian_filter(volume.data, sd), volume.affine)


def corrupted(volume: Volume, rng: np.random.Generator) -> Volume:
    """`volume` under noise as strong as itself: nobody takes it for a scan."""
    noise = rng.standard_normal(volume.data.shape).astype(np.float32)
    inside = volume.data > DARK * np.percentile(volume.data, HIGH)
    spread = float(volume.data.max()) * 0.5
    return Volume(np.abs(volume.data + spread * noise * inside), volume.affine)


def bar(grid: Grid, length_mm: float) -> tuple[Volume, float]:
    """A bar from left to right in every axial slice, and its drawn length in mm."""
    x, y, _ = _centred(grid)
    thick = max(6.0, 2 * grid.voxel_size[1])
    inside = (np.abs(x) <= length_mm / 2) & (np.abs(y) <= thick / 2)
    drawn = float(inside.any((1, 2)).sum() * grid.voxel_size[0])
    return Volume(inside.astype(np.float32), grid.matrix), drawn


def disc(grid: Grid, area_mm2: float) -> tuple[Volume, float]:
    """A disc in every axial slice, and its drawn area in mm^2."""
    x, y, _ = _centred(grid)
    inside = x**2 + y**2 <= area_mm2 / np.pi
    drawn = float(inside[:, :, 0].sum() * np.prod(grid.voxel_size[:2]))
    return Volume(inside.astype(np.float32), grid.matrix), drawn


def _centred(grid: Grid) -> tuple[NDArray[np.float64], ...]:
    """Millimetres from the middle of the grid along (i, j, k), each (i, j, k)."""
    axes = [
        (np.arange(n) - (n - 1) / 2) * edge
        for n, edge in zip(grid.shape, grid.voxel_size, strict=True)
    ]
    return tuple(np.meshgrid(*axes, indexing="ij"))

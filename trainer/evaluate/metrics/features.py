"""What pictures are compared by: numbers that a network, or chance, makes of them.

None is the judge: Med3D's pooled features hardly tell any two pictures apart, those of
our segmenter know structures and little of texture, and a random projection knows
nothing at all. What all of them say is worth more than what one says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resources import bundled_segmenter
from napari_brainldm.engine.segment import Segmenter
from napari_brainldm.engine.volume import Array, Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Grid

Floats = NDArray[np.float64]

PROJECTED = 64
"""Numbers that the random projection makes of a picture."""

MED3D_SHAPE = (160, 224, 160)
"""Voxels that Pinaya 2022 crops to before Med3D."""


@dataclass(frozen=True)
class Features:
    """A way to turn a picture into numbers.

    Attributes
    ----------
    name, title
        Its key in JSON; what stands in tables.
    of
        Picture (i, j, k) in [0, 1] -> (D,) float64.
    """

    name: str
    title: str
    of: Callable[[Array], Floats]

    def all_of(self, pictures: Iterable[Array]) -> Floats:
        """The numbers (N, D) of `pictures`."""
        return np.stack([self.of(picture) for picture in pictures])


def projected(grid: Grid, seed: int = 0) -> Features:
    """The control: a random linear projection of the voxels of `grid`.

    Every voxel adds to one of PROJECTED numbers, with a random sign; distances are
    those of the pictures, on average (Charikar 2002).
    """
    rng = np.random.default_rng(seed)
    count = int(np.prod(grid.shape))
    place = rng.integers(PROJECTED, size=count)
    sign = rng.choice((-1.0, 1.0), size=count)

    def of(picture: Array) -> Floats:
        found = np.bincount(place, sign * picture.ravel(), PROJECTED)
        return found.astype(np.float64)

    return Features("projection", f"random projection ({PROJECTED} numbers)", of)


def of_segmenter(segmenter: Segmenter, grid: Grid) -> Features:
    """Means of a segmenter's feature maps; pictures lie on `grid`, in MNI space."""

    def of(picture: Array) -> Floats:
        return segmenter.features(Volume(picture, grid.matrix)).astype(np.float64)

    title = f"segmenter {segmenter.checkpoint.sha256[:12]}".strip()
    return Features("segmenter", title, of)


def med3d(path: Path, device: str) -> Features:
    """Med3D ResNet-50 as Pinaya 2022 uses it; weights from the user's file.

    Centre crop to MED3D_SHAPE, z-score of the picture, mean of the last feature map
    (2048 numbers).

    Raises
    ------
    EngineError
        If `path` does not hold exactly the weights of that network.
    """
    from trainer.stages.medicalnet import dilated, medicalnet

    network = dilated(medicalnet(path, ("resnet50",))).to(device)

    @torch.inference_mode()
    def of(picture: Array) -> Floats:
        x = torch.from_numpy(z_scored(cropped(picture, MED3D_SHAPE)))
        last = network(x[None, None].to(device))[-1]
        pooled: Floats = functional.adaptive_avg_pool3d(last, 1).flatten().cpu().numpy()
        return pooled.astype(np.float64)

    return Features("med3d", "Med3D ResNet-50", of)


def cropped(picture: Array, shape: tuple[int, int, int]) -> Array:
    """The middle of `picture`, at most `shape` voxels; what is smaller stays."""
    starts = [max(0, (n - m) // 2) for n, m in zip(picture.shape, shape, strict=True)]
    parts = zip(starts, shape, strict=True)
    return picture[tuple(slice(start, start + n) for start, n in parts)]


def z_scored(picture: Array) -> Array:
    """Mean 0 and SD 1 over the picture; 0 where all of it is one value."""
    spread = float(picture.std())
    scaled: Array = (picture - picture.mean()) / (spread if spread > 0 else 1.0)
    return scaled


def feature_sets(grid: Grid, files: Mapping[str, Path], device: str) -> list[Features]:
    """Every way to compare pictures on `grid`: Med3D only where its file is given.

    Parameters
    ----------
    files
        {"med3d": path} or nothing.
    """
    unknown = sorted(set(files) - {"med3d"})
    if unknown:
        raise EngineError(
            f"--features names {unknown[0]!r}; known is med3d. Write med3d=FILE with "
            "the weights resnet_50_23dataset.pth of MedicalNet."
        )
    segmenter = Segmenter(load_checkpoint(bundled_segmenter()), device, "float32")
    found = [of_segmenter(segmenter, grid), projected(grid)]
    if "med3d" in files:
        found.insert(0, med3d(files["med3d"], device))
    return found

"""Which part of the head each voxel belongs to: soft memberships of structures.

A segmentation lies in MNI space, rigidly: sizes are those of the picture. Left and
right are the two sides of the plane x = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_brainldm.engine.device import choose
from napari_brainldm.engine.networks.segmenter import SegmenterNet, Structure
from napari_brainldm.engine.placement import Mask, largest_piece, mni_template
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import inverse, resample
from napari_brainldm.engine.volume import Affine, Array, Grid, Volume

if TYPE_CHECKING:
    from pathlib import Path

    from napari_brainldm.engine.checkpoint import Checkpoint

Labels = NDArray[np.uint16]

PERCENTILE = 99.0
"""This percentile of the intensities in the MNI152 brain becomes 1."""

LEAST = 0.1
"""Shares of a voxel below this are taken for doubt, not for partial volume."""

BRIGHTEST = 1.5
"""Brighter voxels, fat of the scalp for one, are clipped to this."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A picture's structures.

    Attributes
    ----------
    memberships
        float32 (1 + S, i, j, k), 0..1, summing to 1: background, then `structures`.
    grid
        Their space, rigidly in MNI space.
    structures
        What the classes after the background are.
    method
        "segmenter" and the start of the checkpoint's sha256, or "mri_synthseg".
    """

    memberships: Array
    grid: Grid
    structures: tuple[Structure, ...]
    method: str

    def labels(self) -> Labels:
        """The likeliest structure as FreeSurfer index, 0 background: (i, j, k)."""
        left = x_of(self.grid) < 0
        return _indices(self.memberships.argmax(0), left, self.structures)

    def brain(self) -> Mask:
        """All within the skull, fluid included: bool (i, j, k), one piece, no holes."""
        return _whole(self.memberships[0] < 0.5)

    def tissue(self) -> Mask:
        """Gray and white matter without fluid: bool (i, j, k)."""
        rows = [n for n, s in enumerate(self.structures, start=1) if s.tissue]
        share: Array = self.memberships[rows].sum(0)
        return share > 0.5


class Segmenter:
    """A segmentation network on a device.

    Parameters
    ----------
    checkpoint
        Of the kind "segmenter".
    device, precision
        Empty for what the start-up probe finds best; see `engine.device`.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str = "", precision: str = ""
    ) -> None:
        self.checkpoint = checkpoint
        self.card = checkpoint.card
        network = checkpoint.segmenter()  # a wrong checkpoint speaks before the probe
        self.compute = choose(device, precision)
        self._network: SegmenterNet = network.to(self.compute.device)
        self._region: Mask | None = None

    def segment(self, picture: Volume, inside: Mask | None = None) -> Segmentation:
        """The structures of `picture` on the card's grid.

        Parameters
        ----------
        picture
            T1-weighted, rigidly in MNI space, on any grid; stripped or with head; the
            background is 0, the unit of intensity does not matter.
        inside
            bool, on the picture's grid: where the picture may hold brain. The rest is
            called background.

        Raises
        ------
        EngineError
            If the picture is dark where the brain should be.
        """
        data = _on_grid(picture, self.card.grid)
        memberships = self._memberships(scaled(data, self._brain_region()))
        if inside is not None:
            mask = Volume(inside.astype(np.float32), picture.affine)
            _blank(memberships, _on_grid(mask, self.card.grid) < 0.5)
        _blank(memberships, ~_whole(memberships[0] < 0.5))
        method = f"segmenter {self.checkpoint.sha256[:12]}".strip()
        return Segmentation(memberships, self.card.grid, self._structures(), method)

    def features(self, picture: Volume) -> Array:
        """Means of the feature maps of the way down: float32 (F,).

        `picture` as for `segment`.
        """
        data = scaled(_on_grid(picture, self.card.grid), self._brain_region())
        x = torch.from_numpy(data)[None, None].to(self.compute.device)
        with torch.inference_mode(), self.compute.autocast():
            maps = self._network.features(x)
        means = [m[0].float().mean((1, 2, 3)) for m in maps]
        found: Array = torch.cat(means).cpu().numpy()
        return found

    def _structures(self) -> tuple[Structure, ...]:
        spec = self.card.segmenter
        assert spec is not None  # checkpoint.segmenter() has checked it
        return spec.structures

    def _brain_region(self) -> Mask:
        if self._region is None:
            self._region = brain_region(self.card.grid)
        return self._region

    def _memberships(self, data: Array) -> Array:
        """Float32 (1 + S, i, j, k) of intensities in the network's unit (i, j, k)."""
        x = torch.from_numpy(data)[None, None].to(self.compute.device)
        with torch.inference_mode(), self.compute.autocast():
            logits: Tensor = self._network(x)
        return settled(logits[0].float().softmax(0)).cpu().numpy()


def brain_finder(path: Path, device: str) -> Segmenter:
    """The segmenter in `path`, as scans are stripped by it.

    In one precision, unprobed: the same scan has the same mask each time.
    """
    from napari_brainldm.engine.checkpoint import load_checkpoint

    return Segmenter(load_checkpoint(path), device, "float32")


def settled(shares: Tensor) -> Tensor:
    """`shares` (1 + S, i, j, k) without the small ones, summing to 1 again.

    A network is never quite sure: a thousandth of a share in every voxel of a head
    would add up to several ml.
    """
    least = shares.amax(0).clamp(max=LEAST)  # the largest always stays
    kept = torch.where(shares < least, 0.0, shares)
    return kept / kept.sum(0)


def brain_region(grid: Grid) -> Mask:
    """The MNI152 brain on `grid`: bool (i, j, k)."""
    template = mni_template()
    brain = Volume(template.brain.astype(np.float32), template.picture.affine)
    return resample(brain, grid) > 0.5


def scaled(data: Array, region: Mask) -> Array:
    """Intensities (i, j, k) in the unit of the network, 0..BRIGHTEST.

    Training scales its samples alike. `region` is the MNI152 brain: no brain fills
    it exactly, but every brain that lies in MNI space fills it about alike.
    """
    unit = float(np.percentile(data[region], PERCENTILE))
    if not unit > 0:
        raise EngineError(
            "The picture is dark where the brain should be, so nothing in it can be "
            "measured. Choose a T1-weighted picture of a whole brain with a dark "
            "background."
        )
    return np.asarray(np.clip(data / unit, 0.0, BRIGHTEST), np.float32)


def labels_on(segmentation: Segmentation, grid: Grid, to_grid: Affine) -> Labels:
    """FreeSurfer indices (i, j, k) on another `grid`, 0 outside: a scan's own space.

    The memberships are resampled and the largest is taken, which keeps surfaces smooth.
    `to_grid` (4 x 4) leads from mm of the segmentation to mm of `grid`.
    """
    back = inverse(to_grid)
    part, where = _part_around(segmentation, grid, to_grid)
    best = np.zeros(part.shape, np.float32)
    winner = np.zeros(part.shape, np.intp)
    for row, membership in enumerate(segmentation.memberships):
        share = resample(Volume(membership, segmentation.grid.matrix), part, back)
        winner[share > best] = row
        np.maximum(best, share, out=best)
    left = x_of(part, back) < 0
    found = np.zeros(grid.shape, np.uint16)
    found[where] = _indices(winner, left, segmentation.structures)
    return found


def x_of(grid: Grid, to_mni: Affine | None = None) -> NDArray[np.float64]:
    """MNI x in mm of every voxel of `grid`: (i, j, k), broadcast where it may be."""
    world = grid.matrix if to_mni is None else to_mni @ grid.matrix
    i, j, k = (np.arange(n) for n in grid.shape)
    a, b, c, x = world[0]
    return np.asarray(a * i[:, None, None] + b * j[:, None] + c * k + x)


def _indices(
    winner: NDArray[np.intp], left: Mask, structures: Sequence[Structure]
) -> Labels:
    """FreeSurfer index of class numbers (i, j, k), by side."""
    lefts = np.array([0, *(s.left for s in structures)], np.uint16)
    rights = np.array([0, *(s.right for s in structures)], np.uint16)
    return np.where(left, lefts[winner], rights[winner])


def _part_around(
    segmentation: Segmentation, grid: Grid, to_grid: Affine
) -> tuple[Grid, tuple[slice, ...]]:
    """The box of `grid` around all that is not background, as grid and as slices."""
    voxels = np.argwhere(segmentation.memberships[0] < 1).reshape(-1, 3)
    if voxels.size == 0:
        voxels = np.zeros((1, 3), int)
    ends = np.array([voxels.min(0) - 1, voxels.max(0) + 1])
    corners = np.array(
        [[ends[n, a] for a, n in enumerate(which)] for which in _CORNERS]
    )
    mapping = inverse(grid.matrix) @ to_grid @ segmentation.grid.matrix
    reached = corners @ mapping[:3, :3].T + mapping[:3, 3]
    last = np.array(grid.shape) - 1
    low = np.clip(np.floor(reached.min(0)), 0, last).astype(int)
    high = np.clip(np.ceil(reached.max(0)), 0, last).astype(int) + 1
    return _cut(grid, low, high), tuple(map(slice, low.tolist(), high.tolist()))


_CORNERS = tuple(np.ndindex(2, 2, 2))


def _cut(grid: Grid, low: NDArray[np.int_], high: NDArray[np.int_]) -> Grid:
    affine = grid.matrix
    affine[:3, 3] += affine[:3, :3] @ low
    i, j, k = (int(n) for n in high - low)
    return Grid.of((i, j, k), affine)


def _on_grid(picture: Volume, grid: Grid) -> Array:
    return picture.data if picture.grid == grid else resample(picture, grid)


def _blank(memberships: Array, where: Mask) -> None:
    """Make voxels background, in place: the array is as large as a scan."""
    memberships[:, where] = 0
    memberships[0, where] = 1


def _whole(mask: Mask) -> Mask:
    """The largest piece of `mask` with its holes filled."""
    from scipy import ndimage

    return np.asarray(ndimage.binary_fill_holes(largest_piece(mask)))

"""What lies around a brain in a scan: fluid, skull, scalp, face and neck, or nothing.

Made up from distances to the brain and smooth noise: no label map of a whole head is
needed, and no face is anybody's. Maps are float32 (i, j, k).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer.data.flow import smooth
from trainer.data.phantom import smooth_field, spread

if TYPE_CHECKING:
    from trainer.data.randomise import Randomisation
    from trainer.data.template import TemplatePack

Range = tuple[float, float]


@dataclass(frozen=True)
class Surroundings:
    """Ranges drawn from uniformly: thickness in mm, intensity relative to white = 1.

    Attributes
    ----------
    gap_mm, skull_mm, scalp_mm
        Meninges and fluid, skull, skin with fat.
    gap_level, bone_level, marrow_level, fat_level, muscle_level
        Intensities.
    defaced
        Share of whole heads whose face was cut off.
    crumbs
        Share of stripped brains with bits of the head left on.
    nibbled_mm
        SD of where a stripped brain was cut, relative to its border.
    """

    gap_mm: Range = (0.0, 4.0)
    skull_mm: Range = (4.0, 9.0)
    scalp_mm: Range = (3.0, 14.0)
    gap_level: Range = (0.05, 0.5)
    bone_level: Range = (0.0, 0.15)
    marrow_level: Range = (0.1, 0.9)
    fat_level: Range = (0.3, 1.4)
    muscle_level: Range = (0.25, 0.65)
    defaced: float = 0.3
    crumbs: float = 0.3
    nibbled_mm: float = 1.0


def around(
    inside: Tensor,
    mask: Tensor,
    pack: TemplatePack,
    looks: Randomisation,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Put a brain `inside` its soft `mask` into a head, or cut it out.

    Returns the picture and what was kept of the brain (0 or 1): where a stripped
    brain was cut too deep there is nothing to be found any more.
    """
    depth = _outward(mask, pack.grid.voxel_size[0])
    if torch.rand((), generator=generator) < looks.whole_head:
        head = _head(depth, pack, looks.surroundings, generator)
        picture = torch.where(mask >= 0.5, inside, head)
        return picture, torch.ones_like(inside)
    return _stripped(inside, depth, pack, looks.surroundings, generator)


def _outward(mask: Tensor, voxel_mm: float) -> Tensor:
    """Distance in mm to the border of `mask`: above 0 outside, below 0 inside."""
    from scipy import ndimage

    brain = (mask >= 0.5).cpu().numpy()
    outside = ndimage.distance_transform_edt(~brain)
    inside = ndimage.distance_transform_edt(brain)
    return torch.from_numpy((outside - inside) * voxel_mm).to(mask)


def _stripped(
    inside: Tensor,
    depth: Tensor,
    pack: TemplatePack,
    own: Surroundings,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The brain alone, cut a little inside or outside its border."""
    offset = float(torch.randn((), generator=generator))
    wavy = spread(smooth_field(1, 10.0, generator), pack)[0]
    edge = own.nibbled_mm * (0.7 * offset + 0.7 * wavy)
    kept = (depth < edge).to(inside)
    rim = _level(own.gap_level, generator) * (depth >= 0) * kept
    picture = (inside + rim) * kept
    if torch.rand((), generator=generator) < own.crumbs:
        head = _head(depth, pack, own, generator)
        spots = spread(smooth_field(1, 8.0, generator), pack)[0] > 1.6
        near = (depth > edge) & (depth < 12)
        picture = torch.where(spots & near, head, picture)
    return picture, kept


def _head(
    depth: Tensor, pack: TemplatePack, own: Surroundings, generator: torch.Generator
) -> Tensor:
    """Everything outside the brain, by distance `depth` in mm from its border."""
    gap, skull, scalp = (
        _thickness(bounds, pack, generator)
        for bounds in (own.gap_mm, own.skull_mm, own.scalp_mm)
    )
    z = _height(pack)
    low = uniform((-75.0, -45.0), generator)
    # a head is no shell below: there face and neck begin where the skull ends
    below = torch.sigmoid((low + 25 - z) / 6) * 60
    flesh = _flesh(depth.shape, own, generator).to(depth)
    fat = _level(own.fat_level, generator) * (
        1 + 0.1 * noise(depth.shape, generator)
    ).to(depth)
    bone = torch.full_like(depth, _level(own.bone_level, generator))
    marrow = _marrow(depth, own, pack, generator)
    middle = (depth - gap - skull / 2).abs() < skull / 5
    bone = torch.where(middle, marrow, bone)
    skin = torch.where(depth < gap + skull + 0.6 * scalp, fat, flesh)
    head = torch.where(depth < gap, _gap(depth, own, generator), bone)
    head = torch.where(depth >= gap + skull, skin, head)
    head = torch.where((z < low + 20) & (depth > gap + 1), flesh, head)
    head = head * (depth < gap + skull + scalp + below)
    return _without_face(head, pack, own, generator)


def _gap(depth: Tensor, own: Surroundings, generator: torch.Generator) -> Tensor:
    """Fluid and meninges between brain and bone."""
    level = _level(own.gap_level, generator)
    veins = 0.4 * torch.relu(noise(depth.shape, generator) - 1.2).to(depth)
    return level + veins


def _marrow(
    depth: Tensor, own: Surroundings, pack: TemplatePack, generator: torch.Generator
) -> Tensor:
    patchy = torch.sigmoid(3 * spread(smooth_field(1, 12.0, generator), pack)[0])
    return _level(own.marrow_level, generator) * patchy.to(depth)


def _flesh(shape: torch.Size, own: Surroundings, generator: torch.Generator) -> Tensor:
    """Muscle, fat, fluid and air as smooth blobs."""
    muscle = _level(own.muscle_level, generator)
    fat = _level(own.fat_level, generator)
    large, small = noise(shape, generator, 3.0), noise(shape, generator, 1.5)
    grain = 0.15 * small + uniform((0.0, 0.3), generator) * noise(shape, generator)
    picture = torch.full(shape, muscle) * (1 + grain)
    picture = torch.where(large > 0.6, fat * (1 + 0.1 * small), picture)
    picture = torch.where(small > 1.3, torch.full(shape, 0.12), picture)
    return torch.where(large < -1.0, torch.full(shape, 0.02), picture).clamp(min=0)


def _without_face(
    head: Tensor, pack: TemplatePack, own: Surroundings, generator: torch.Generator
) -> Tensor:
    """Sometimes cut away what lies before and below a slanted plane."""
    if torch.rand((), generator=generator) >= own.defaced:
        return head
    axes = [torch.arange(n, device=head.device) for n in head.shape]
    _, j, k = torch.meshgrid(*axes, indexing="ij")
    matrix = pack.grid.matrix
    y = matrix[1, 1] * j + matrix[1, 3]
    z = matrix[2, 2] * k + matrix[2, 3]
    face = (y - z) > uniform((85.0, 110.0), generator)
    rest: Tensor = head * ~face
    return rest


def _height(pack: TemplatePack) -> Tensor:
    """Z in mm of every voxel (1, 1, k)."""
    matrix, count = pack.grid.matrix, pack.grid.shape[2]
    k = torch.arange(count, device=pack.t1.device)
    height: Tensor = (matrix[2, 2] * k + matrix[2, 3]).float()
    return height.view(1, 1, -1)


def _thickness(bounds: Range, pack: TemplatePack, generator: torch.Generator) -> Tensor:
    """A layer's thickness in mm, uneven by a quarter."""
    uneven = spread(smooth_field(1, 20.0, generator), pack)[0]
    thick: Tensor = uniform(bounds, generator) * (1 + 0.25 * uneven).clamp(min=0.2)
    return thick


def noise(shape: torch.Size, generator: torch.Generator, width: float = 1.0) -> Tensor:
    """Smooth noise, SD 1; `width` in voxels."""
    blurred = smooth(torch.randn(shape, generator=generator), width)
    return blurred / blurred.std()


def _level(bounds: Range, generator: torch.Generator) -> float:
    """An intensity, where white matter is about 0.8."""
    return 0.8 * uniform(bounds, generator)


def uniform(bounds: Range, generator: torch.Generator) -> float:
    """A number drawn between two bounds."""
    low, high = bounds
    return low + (high - low) * float(torch.rand((), generator=generator))

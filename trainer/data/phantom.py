"""One simulated scan: the template bent to wished volumes, then photographed.

A wished change of volume per structure is a divergence map d. The velocity
v = grad(inverse Laplacian of d), found with FFTs, has that divergence and no curl;
integrated by scaling and squaring it gives a diffeomorphism. A smooth random velocity
adds the anatomy of the individual. What the bent soft labels hold is the truth.

Definitions. A velocity or displacement is (3, i, j, k) in voxels of the grid and says
where, relative to itself, a voxel of the picture looks in the template (pull-back): a
structure with d > 0 grows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_brainldm.engine.volume import Grid, Volume
from trainer.data.flow import integrate, irrotational, smooth, warp
from trainer.data.photograph import Scanner, gray_share, taken
from trainer.data.population import Subject, Visit, Volumes
from trainer.data.template import FLUID, NAMES, TISSUE, TemplatePack, most_likely

_LATTICE = (40, 48, 40)  # 4 mm over the 160 x 192 x 160 mm of every grid
_LATTICE_MM = 4.0
_COARSE_MM = 4.0
_MOST_CSF = 2.5  # log change; closed sulci cannot follow, and the chase drags the rest
_AMID_CISTERNS = ("thalamus", "ventral_diencephalon", "brain_stem", "cerebellum")

Growth = tuple[tuple[str, float], ...]
"""Structures of `template.NAMES` and their wished log change of volume."""


@dataclass(frozen=True)
class Anatomy:
    """How much people differ beside their volumes.

    Attributes
    ----------
    bend_mm
        RMS displacement of the broad random velocity (correlation 24 mm).
    ripple_mm
        RMS displacement of the finer one (correlation 11 mm).
    sulci
        SD of the local log change of CSF spaces (correlation 9 mm).
    shape
        SD of the log scale of each axis around the volume-true scale.
    tilt_degrees, shift_mm
        SDs of what a rigid registration leaves over.
    """

    bend_mm: float = 2.5
    ripple_mm: float = 1.0
    sulci: float = 0.5
    shape: float = 0.02
    tilt_degrees: float = 1.0
    shift_mm: float = 0.5


@dataclass(frozen=True)
class Looks:
    """Everything about a simulated scan that is not its volumes.

    Attributes
    ----------
    anatomy, scanner
        Strengths, see there.
    steps
        Corrections of the wished volumes on the 4 mm grid and on the picture's own.
    """

    anatomy: Anatomy = field(default_factory=Anatomy)
    scanner: Scanner = field(default_factory=Scanner)
    steps: tuple[int, int] = (6, 4)


@dataclass(frozen=True, eq=False)
class Simulated:
    """One simulated scan.

    Attributes
    ----------
    picture
        T1 with bias field and noise, 0 outside the brain mask.
    truth
        The same without bias field and noise.
    labels
        uint8 (i, j, k), 0 outside, position in `template.NAMES` + 1 inside.
    volumes
        Realised, in ml.
    structures_ml
        Realised volume of every structure in ml.
    gray
        True share of gray matter in each voxel, 0 to 1.
    positions
        (3, i, j, k) in voxels: what each voxel of the picture shows of the template.
    """

    picture: Volume
    truth: Volume
    labels: np.ndarray
    volumes: Volumes
    structures_ml: dict[str, float]
    gray: Volume
    positions: Tensor


@dataclass(frozen=True, eq=False)
class Individual:
    """What stays the same between the visits of one person.

    Attributes
    ----------
    velocity
        (3, a, b, c) on the 4 mm lattice, in mm.
    sulci
        (1, a, b, c) on the lattice, log change of CSF spaces.
    axes
        (3, 3) rotation times anisotropic scale with determinant 1.
    shift
        (3,) in mm.
    growth
        Log change of single structures, beside what the volumes ask for.
    """

    velocity: Tensor
    sulci: Tensor
    axes: Tensor
    shift: Tensor
    growth: Growth = ()


def simulate(
    pack: TemplatePack,
    subject: Subject,
    visit: Visit,
    seed: int,
    looks: Looks | None = None,
    growth: Growth = (),
) -> Simulated:
    """Take the scan of `subject` at `visit`, on the grid and the device of `pack`.

    The same seed, subject, visit, looks, pack and growth give the same voxels. What
    structures lose by `growth` the brain loses.
    """
    looks = looks or Looks()
    phi = positions(pack, subject, visit, seed, looks, growth)
    structures, t1, white = shown(pack, phi)
    generator = generator_of(seed, subject.index, visit.number + 1)
    brain = structures, t1, white
    truth, picture = taken(brain, looks.scanner, visit.age, generator)
    millilitres = structure_volumes(structures, pack.grid)
    return Simulated(
        _volume(picture, pack.grid),
        _volume(truth, pack.grid),
        most_likely(structures).cpu().numpy(),
        totals(millilitres),
        millilitres,
        _volume(gray_share(structures, white), pack.grid),
        phi,
    )


def bent(
    pack: TemplatePack, subject: Subject, visit: Visit, seed: int, looks: Looks
) -> tuple[Tensor, Tensor, Tensor]:
    """Soft structures (S, i, j, k), T1 and share of white matter of one visit."""
    return shown(pack, positions(pack, subject, visit, seed, looks))


def positions(
    pack: TemplatePack,
    subject: Subject,
    visit: Visit,
    seed: int,
    looks: Looks,
    growth: Growth = (),
) -> Tensor:
    """What each voxel of one visit shows of the template: (3, i, j, k) in voxels."""
    person = draw_individual(looks.anatomy, seed, subject.index)
    wish = visit.volumes
    if growth:
        person = replace(person, growth=growth)
        wish = replace(wish, brain_ml=wish.brain_ml * _left(pack, growth))
    return solve(pack, person, wish, looks.steps)


def _left(pack: TemplatePack, growth: Growth) -> float:
    """What is left of the brain when single structures grow or shrink, as a share."""
    own = structure_volumes(pack.structures, pack.grid)
    change = sum(own[name] * math.expm1(value) for name, value in growth)
    return 1 + change / totals(own).brain_ml


def shown(pack: TemplatePack, phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Soft structures (S, i, j, k), T1 and share of white matter seen at `phi`."""
    structures = warp(pack.structures, phi).clamp(0, 1)
    t1, white = warp(torch.stack([pack.t1, pack.white]), phi)
    return structures, t1, white


def structure_volumes(structures: Tensor, grid: Grid) -> dict[str, float]:
    """Volume in ml of each soft structure (S, i, j, k), partial volumes counted."""
    millilitre = math.prod(grid.voxel_size) / 1000
    sums = structures.sum((1, 2, 3), dtype=torch.float64) * millilitre
    return dict(zip(NAMES, sums.tolist(), strict=True))


def totals(millilitres: dict[str, float]) -> Volumes:
    """The four volumes of people from the volumes of structures, all in ml."""
    return Volumes(
        millilitres["lateral_ventricles"],
        sum(millilitres[name] for name in TISSUE),
        millilitres["hippocampus"],
        sum(millilitres.values()),
    )


def solve(
    pack: TemplatePack, person: Individual, wish: Volumes, steps: tuple[int, int]
) -> Tensor:
    """Sampling positions (3, i, j, k) in voxels whose warp of `pack` holds `wish`.

    A structure takes up less than its divergence asks, for what flows out of it no
    longer grows; so the log changes are corrected by the log of wished over realised,
    first on a coarse grid, then on the grid itself. The head is scaled to the wished
    brain: where sulci are closed and a brain is still too small for its head, the head
    gives.
    """
    change = torch.zeros(4, dtype=torch.float64)
    scale = wish.icv_ml / totals(structure_volumes(pack.structures, pack.grid)).icv_ml
    scale = scale ** (1 / 3)
    goal = _shares(wish)
    for level, count in zip((coarse(pack), pack), steps, strict=True):
        parts, drivers = _controlled(level), _drivers(level, goal)
        for _ in range(count):
            phi = _positions(level, drivers, person, change, scale)
            got = _measured(warp(parts, phi), level.grid)
            # what has flowed out of a large ventricle does not grow: ask for more
            gain = 1 + change.clamp(min=0)
            change = change + gain * torch.log(goal / _shares(got)).clamp(-0.7, 0.7)
            change[3] = change[3].clamp(-_MOST_CSF, _MOST_CSF)
            scale *= (wish.brain_ml / got.brain_ml) ** (1 / 3)
    return _positions(pack, _drivers(pack, goal), person, change, scale)


def _shares(volumes: Volumes) -> Tensor:
    """Lateral ventricles, hippocampus, other tissue, CSF as shares of the head (4,)."""
    v, h, icv = volumes.ventricles_ml, volumes.hippocampus_ml, volumes.icv_ml
    tissue = volumes.brain_ml - h
    csf = max(icv - v - volumes.brain_ml, 0.005 * icv)
    return torch.tensor([v, h, tissue, csf], dtype=torch.float64) / icv


def _controlled(pack: TemplatePack) -> Tensor:
    """Lateral ventricles, hippocampus, other tissue, other CSF: (4, i, j, k)."""
    maps = dict(zip(NAMES, pack.structures, strict=True))
    ventricles, hippocampus = maps["lateral_ventricles"], maps["hippocampus"]
    tissue = sum((maps[name] for name in TISSUE), torch.zeros(())) - hippocampus
    csf = sum((maps[name] for name in FLUID), torch.zeros(())) - ventricles
    return torch.stack([ventricles, hippocampus, tissue, csf])


def _drivers(pack: TemplatePack, goal: Tensor) -> Tensor:
    """Where each of the four log changes acts (4, i, j, k), 0 to 1, to reach `goal`.

    Atrophy opens the sulci, not the cisterns: growing CSF is driven where cortex is
    near, shrinking CSF everywhere. Third and fourth ventricle follow the lateral ones,
    less.
    """
    drivers = _controlled(pack)
    maps = dict(zip(NAMES, pack.structures, strict=True))
    voxel = pack.grid.voxel_size[0]
    cortex = smooth(maps["cortical_gray_matter"], 8.0 / voxel) / 0.35
    deep = smooth(sum((maps[n] for n in _AMID_CISTERNS), torch.zeros(())), 6.0 / voxel)
    opens = bool(goal[3] > _shares(_measured(drivers, pack.grid))[3])
    drivers[0] += 0.4 * maps["other_ventricles"]
    if not opens:
        return drivers
    drivers[3] = maps["csf"] * cortex.clamp(0, 1) * (1 - 4 * deep).clamp(0.05, 1)
    return drivers


def _measured(parts: Tensor, grid: Grid) -> Volumes:
    """Volumes in ml of the four controlled parts (4, i, j, k)."""
    millilitre = math.prod(grid.voxel_size) / 1000
    v, h, tissue, csf = (parts.sum((1, 2, 3)).double() * millilitre).tolist()
    return Volumes(v, tissue + h, h, v + h + tissue + csf)


def coarse(pack: TemplatePack) -> TemplatePack:
    """Return the pack on a grid of about 4 mm, or itself where it is no finer."""
    factor = round(_COARSE_MM / min(pack.grid.voxel_size))
    if factor < 2:
        return pack
    pooled = functional.avg_pool3d(pack.structures[None], factor)[0]
    affine = pack.grid.matrix @ np.diag([factor, factor, factor, 1.0])
    affine[:3, 3] += pack.grid.matrix[:3, :3] @ np.full(3, (factor - 1) / 2)
    grid = Grid.of(tuple(pooled.shape[1:]), affine)
    return replace(pack, grid=grid, structures=pooled)


def _positions(
    pack: TemplatePack,
    drivers: Tensor,
    person: Individual,
    change: Tensor,
    scale: float,
) -> Tensor:
    """Sampling positions (3, i, j, k) in voxels for four log changes and a scale."""
    voxel = pack.grid.voxel_size[0]
    d = divergence(drivers, pack.mask, change, spread(person.sulci, pack))
    if person.growth:
        d = d + _grown(pack, person.growth)
    velocity = irrotational(smooth(d, 1.5 / voxel)) + (
        spread(person.velocity, pack) / voxel
    )
    placed = head_position(pack, person, scale)
    return placed + warp(integrate(-velocity), placed)


def divergence(drivers: Tensor, mask: Tensor, change: Tensor, sulci: Tensor) -> Tensor:
    """Wished log change of volume (i, j, k) with mean 0, and 0 outside the head."""
    wished = torch.einsum("s,sijk->ijk", change.to(drivers), drivers)
    wished = wished + sulci[0] * drivers[3]
    return wished - mask * (wished.sum() / mask.sum())


def _grown(pack: TemplatePack, growth: Growth) -> Tensor:
    """Wished log change (i, j, k) of single structures, with mean 0."""
    wished = torch.zeros_like(pack.mask)
    for name, value in growth:
        wished = wished + value * pack.structures[NAMES.index(name)]
    return wished - pack.mask * (wished.sum() / pack.mask.sum())


def head_position(pack: TemplatePack, person: Individual, scale: float) -> Tensor:
    """Positions (3, i, j, k) in voxels of the template for a head `scale` times it."""
    grid, device = pack.grid, pack.structures.device
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in grid.shape]
    here = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    centre = (torch.tensor(grid.shape, device=device) - 1).view(3, 1, 1, 1) / 2
    inverse = (torch.linalg.inv(person.axes) / scale).to(here)
    shift = (person.shift / grid.voxel_size[0]).to(here).view(3, 1, 1, 1)
    return torch.einsum("ab,bijk->aijk", inverse, here - centre - shift) + centre


def draw_individual(anatomy: Anatomy, seed: int, index: int) -> Individual:
    """Anatomy and placement of person `index`, the same for the same numbers."""
    generator = generator_of(seed, index, 0)
    velocity = anatomy.bend_mm * smooth_field(3, 24.0, generator)
    velocity = velocity + anatomy.ripple_mm * smooth_field(3, 11.0, generator)
    sulci = anatomy.sulci * smooth_field(1, 9.0, generator)
    stretch = anatomy.shape * torch.randn(3, generator=generator)
    angles = torch.randn(3, generator=generator) * math.radians(anatomy.tilt_degrees)
    axes = rotation(angles) @ torch.diag(torch.exp(stretch - stretch.mean()))
    shift = anatomy.shift_mm * torch.randn(3, generator=generator)
    return Individual(velocity, sulci, axes, shift)


def generator_of(seed: int, index: int, stream: int) -> torch.Generator:
    """CPU generator of one person's `stream`; streams are independent."""
    entropy = np.random.SeedSequence([seed, index, 1, stream])
    state = int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(state)


def smooth_field(
    channels: int, correlation_mm: float, generator: torch.Generator
) -> Tensor:
    """Smooth noise (C, a, b, c) on the lattice, RMS 1."""
    noise = torch.randn((channels, *_LATTICE), generator=generator)
    blurred = smooth(noise, correlation_mm / _LATTICE_MM)
    return blurred / blurred.square().mean().sqrt()


def spread(lattice_field: Tensor, pack: TemplatePack) -> Tensor:
    """Bring a lattice field (C, a, b, c) onto the grid of `pack`: (C, i, j, k)."""
    placed = lattice_field[None].to(pack.structures)
    return functional.interpolate(
        placed, pack.structures.shape[1:], mode="trilinear", align_corners=False
    )[0]


def rotation(angles: Tensor) -> Tensor:
    """Rotation (3, 3) of the skew matrix of `angles` (3,) in radians."""
    x, y, z = angles.tolist()
    skew = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return torch.as_tensor(torch.linalg.matrix_exp(skew))


def _volume(data: Tensor, grid: Grid) -> Volume:
    return Volume(data.cpu().numpy(), grid.matrix)

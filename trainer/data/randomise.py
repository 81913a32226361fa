"""Simulated scans for the segmenter: known structures under ever other looks.

Domain randomisation: anatomy, contrast, resolution, bias field, noise and what is left
of the head vary far beyond what the simulated cohort shows, so that the segmenter
learns shape rather than one scanner's intensities (Billot 2023, SynthSeg). Everything
is drawn from one generator: the same seed gives the same sample.

All maps are float32 (i, j, k) on the template's grid unless said otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from napari_brainldm.engine.segment import BRIGHTEST, PERCENTILE
from trainer.data.flow import integrate, irrotational, smooth, warp
from trainer.data.phantom import (
    Individual,
    Looks,
    bent,
    coarse,
    head_position,
    rotation,
    smooth_field,
    spread,
)
from trainer.data.photograph import Tone, bias_field, paint, taken
from trainer.data.population import PopulationConfig, draw_subject, visits
from trainer.data.surroundings import (
    Range,
    Surroundings,
    around,
    noise,
    uniform,
)
from trainer.data.template import NAMES, TemplatePack

_DEEP = tuple(name for name in NAMES[5:] if name != "cerebellum")
_SPLIT = NAMES.index("cerebellum")


@dataclass(frozen=True)
class Randomisation:
    """How far samples differ; a `Range` is drawn from uniformly, others are SDs.

    Attributes
    ----------
    ventricles, csf, hippocampus
        Log change of volume asked of lateral ventricles, CSF spaces and hippocampi;
        what flows out of a structure no longer grows, so they reach less than that.
    structure
        SD of the log change asked of each of the other structures.
    size
        Edge of the head relative to the template's.
    stretch, tilt_degrees, shift_mm
        Log scale of each axis, rotation and shift that placement left over.
    bend_mm, ripple_mm, sulci
        As in `phantom.Anatomy`.
    white_power
        Power of the share of white matter: how thick cortex is, and how gray the deep
        structures are.
    csf_level, gray_level, contrast, detail
        Mean intensities of CSF and gray matter, white less gray, share of the
        template's texture.
    deep_level
        SD of the intensity of each deep structure around what its tissue gives.
    lesions, choroid
        Share of samples with dark spots in the white matter, and with gray ones in the
        ventricles.
    slices
        Share of samples with thick slices along one axis.
    blur
        SD of the point spread in voxels; along thick slices up to 1.2.
    bias, noise
        SD of the log bias field and of the complex noise.
    gamma
        SD of the log of the power that bends intensities.
    whole_head
        Share of samples with the head around the brain.
    plain
        Share of samples that are scans as the cohort has them: people of all ages with
        edges that tell how much of a voxel each structure fills, which blurred ones do
        not.
    people, plainly
        Whom these are of, and how they look.
    """

    ventricles: Range = (-2.5, 6.0)
    csf: Range = (-1.0, 6.0)
    hippocampus: Range = (-1.2, 0.4)
    structure: float = 0.3
    size: Range = (0.82, 1.04)
    stretch: float = 0.04
    tilt_degrees: float = 4.0
    shift_mm: float = 2.5
    bend_mm: float = 3.0
    ripple_mm: float = 1.2
    sulci: float = 1.0
    white_power: Range = (0.7, 1.5)
    csf_level: Range = (0.04, 0.32)
    gray_level: Range = (0.38, 0.62)
    contrast: Range = (0.10, 0.36)
    detail: Range = (0.0, 0.9)
    deep_level: float = 0.035
    lesions: float = 0.3
    choroid: float = 0.5
    slices: float = 0.3
    blur: Range = (0.0, 0.5)
    bias: Range = (0.0, 0.3)
    noise: Range = (0.0, 0.06)
    gamma: float = 0.15
    whole_head: float = 0.6
    plain: float = 0.6
    people: PopulationConfig = field(
        default_factory=lambda: PopulationConfig(spread=1.5)
    )
    plainly: Looks = field(default_factory=lambda: Looks(steps=(8, 0)))
    surroundings: Surroundings = field(default_factory=Surroundings)


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture and the truth about it.

    Attributes
    ----------
    picture
        (i, j, k), 0 to 1.5; 1 is the 99th percentile inside the template's brain.
    memberships
        (1 + S, i, j, k), background first, in the order of the segmenter's
        structures; they sum to 1.
    """

    picture: Tensor
    memberships: Tensor


def draw_sample(pack: TemplatePack, looks: Randomisation, seed: int) -> Sample:
    """One sample on the grid and the device of `pack`; the same seed, the same one."""
    generator = torch.Generator().manual_seed(seed)
    if torch.rand((), generator=generator) < looks.plain:
        return draw_plain(pack, looks, generator)
    phi = draw_anatomy(pack, looks, generator)
    maps = _warped(torch.cat([pack.structures, pack.t1[None], pack.white[None]]), phi)
    power = uniform(looks.white_power, generator)
    t1, white = maps[-2], maps[-1].clamp(0, 1) ** power
    structures = _shared_out(maps[:-2].clamp(0, 1), power)
    inside = draw_brain(structures, t1, white, looks, generator)
    picture, kept = around(inside, structures.sum(0), pack, looks, generator)
    picture = photographed(picture, looks, generator)
    picture = normalised(picture, pack.mask > 0.5)
    return Sample(picture, _memberships(structures, white, kept))


def draw_plain(
    pack: TemplatePack, looks: Randomisation, generator: torch.Generator
) -> Sample:
    """Somebody as the cohort might hold them, or their mirror image."""
    seed = int(torch.randint(2**31, (), generator=generator))
    subject = draw_subject(looks.people, seed, 0)
    visit = visits(subject, (0.0,))[0]
    structures, t1, white = bent(pack, subject, visit, seed, looks.plainly)
    brain = structures, t1, white
    _, picture = taken(brain, looks.plainly.scanner, visit.age, generator)
    picture = normalised(picture, pack.mask > 0.5)
    found = _memberships(structures, white.clamp(0, 1), torch.ones_like(picture))
    if torch.rand((), generator=generator) < 0.5:
        return Sample(picture.flip(0), found.flip(1))
    return Sample(picture, found)


def _shared_out(structures: Tensor, power: float) -> Tensor:
    """`structures` (S, i, j, k) with cortex and white matter shared out anew."""
    cortex, white = NAMES.index("cortical_gray_matter"), NAMES.index("white_matter")
    both = structures[cortex] + structures[white]
    share = (structures[white] / both.clamp(min=1e-6)) ** power
    found = structures.clone()
    found[cortex], found[white] = both * (1 - share), both * share
    return found


def _memberships(structures: Tensor, white: Tensor, kept: Tensor) -> Tensor:
    """Background and structures (1 + S, i, j, k), the cerebellum split by tissue.

    A voxel is within the head or not, as it is seen in a picture; what the rim has
    too much inside it lacks outside.
    """
    cerebellum = structures[_SPLIT]
    parts = [
        *structures[:_SPLIT],
        cerebellum * (1 - white),
        cerebellum * white,
        *structures[_SPLIT + 1 :],
    ]
    inside = torch.stack(parts)
    total = inside.sum(0)
    seen = kept * (total >= 0.5)
    return torch.cat([(1 - seen)[None], inside * (seen / total.clamp(min=0.5))])


def normalised(picture: Tensor, brain: Tensor) -> Tensor:
    """`picture` in the segmenter's unit, see `engine.segment.scaled`; `brain` bool."""
    unit = torch.quantile(picture[brain], PERCENTILE / 100).clamp(min=1e-6)
    return (picture / unit).clamp(0, BRIGHTEST)


# Anatomy ------------------------------------------------------------------------------


def draw_anatomy(
    pack: TemplatePack, looks: Randomisation, generator: torch.Generator
) -> Tensor:
    """Sampling positions (3, i, j, k) in voxels of somebody made up.

    The flow is followed on the 4 mm grid: it is smooth, and eight times cheaper there.
    """
    small = coarse(pack)
    voxel, factor = small.grid.voxel_size[0], len(pack.t1) / small.structures.shape[1]
    d = draw_growth(small, looks, generator)
    random = looks.bend_mm * smooth_field(3, 24.0, generator)
    random = random + looks.ripple_mm * smooth_field(3, 11.0, generator)
    velocity = irrotational(smooth(d, 1.5 / voxel)) + spread(random, small) / voxel
    bent = factor * spread(integrate(-velocity), pack)
    placed = head_position(
        pack, _person(looks, generator), uniform(looks.size, generator)
    )
    return placed + warp(bent, placed)


def draw_growth(
    pack: TemplatePack, looks: Randomisation, generator: torch.Generator
) -> Tensor:
    """Wished log change of volume (i, j, k), every structure for itself, mean 0."""
    place = {name: n for n, name in enumerate(NAMES)}
    change = looks.structure * torch.randn(len(NAMES), generator=generator)
    change[place["csf"]] = uniform(looks.csf, generator)
    change[place["hippocampus"]] = uniform(looks.hippocampus, generator)
    grown = uniform(looks.ventricles, generator)
    change[place["lateral_ventricles"]] = grown
    change[place["other_ventricles"]] += 0.4 * grown
    d = torch.einsum("s,sijk->ijk", change.to(pack.structures), pack.structures)
    uneven = 0.3 * spread(smooth_field(1, 14.0, generator), pack)[0]
    sulci = looks.sulci * spread(smooth_field(1, 9.0, generator), pack)[0]
    d = d * (1 + uneven) + sulci * pack.structures[place["csf"]]
    mask = pack.mask
    return d - mask * (d.sum() / mask.sum())


def _person(looks: Randomisation, generator: torch.Generator) -> Individual:
    angles = torch.randn(3, generator=generator) * math.radians(looks.tilt_degrees)
    stretch = looks.stretch * torch.randn(3, generator=generator)
    mirror = torch.ones(3)
    mirror[0] = 1.0 if torch.rand((), generator=generator) < 0.5 else -1.0
    axes = rotation(angles) @ torch.diag(mirror * torch.exp(stretch - stretch.mean()))
    shift = looks.shift_mm * torch.randn(3, generator=generator)
    nothing = torch.zeros(0)
    return Individual(nothing, nothing, axes, shift)


def _warped(maps: Tensor, phi: Tensor) -> Tensor:
    """`maps` (C, i, j, k) at `phi`, in two halves: torch spreads these over threads."""
    half = (len(maps) + 1) // 2
    return torch.cat([warp(maps[:half], phi), warp(maps[half:], phi)])


# Picture ------------------------------------------------------------------------------


def draw_brain(
    structures: Tensor,
    t1: Tensor,
    white: Tensor,
    looks: Randomisation,
    generator: torch.Generator,
) -> Tensor:
    """The brain without noise, 0 outside the head's inner space."""
    gray = uniform(looks.gray_level, generator)
    tone = Tone(
        uniform(looks.csf_level, generator),
        gray,
        gray + uniform(looks.contrast, generator),
        uniform(looks.detail, generator),
    )
    picture = paint(structures, t1, white, tone)
    index = [NAMES.index(name) for name in _DEEP]
    shifts = looks.deep_level * torch.randn(len(index), generator=generator)
    deep = torch.einsum("s,sijk->ijk", shifts.to(t1), structures[index])
    picture = picture + deep
    if torch.rand((), generator=generator) < looks.lesions:
        picture = picture - _lesions(structures, tone, generator)
    if torch.rand((), generator=generator) < looks.choroid:
        picture = picture + _choroid(structures, tone, generator)
    return (picture * (structures.sum(0) >= 0.5)).clamp(0, 1)


def _choroid(structures: Tensor, tone: Tone, generator: torch.Generator) -> Tensor:
    """How much brighter choroid plexus makes parts of the lateral ventricles."""
    spots = _spots(structures, uniform((0.8, 1.6), generator), generator)
    height = uniform((0.3, 1.0), generator) * (tone.gray - tone.csf)
    return height * spots * structures[NAMES.index("lateral_ventricles")]


def _spots(
    structures: Tensor, least: Tensor | float, generator: torch.Generator
) -> Tensor:
    """Blobs of about 6 mm (i, j, k), 0 to 1, where smooth noise is above `least`."""
    blobs = noise(structures.shape[1:], generator, 1.5).to(structures)
    return torch.sigmoid(6 * (blobs - least))


def _lesions(structures: Tensor, tone: Tone, generator: torch.Generator) -> Tensor:
    """How much darker spots in the white matter near the ventricles are."""
    near = (
        smooth(structures[NAMES.index("lateral_ventricles")], 5.0).clamp(0, 0.2) / 0.2
    )
    spots = _spots(structures, uniform((1.6, 2.6), generator) - near, generator)
    depth = uniform((0.3, 0.9), generator) * (tone.white - tone.csf) * 0.6
    return depth * spots * structures[NAMES.index("white_matter")]


def photographed(
    picture: Tensor, looks: Randomisation, generator: torch.Generator
) -> Tensor:
    """`picture` blurred, shaded and noisy; what is exactly 0 stays so."""
    empty = picture == 0
    sd = [uniform(looks.blur, generator) for _ in range(3)]
    if torch.rand((), generator=generator) < looks.slices:
        axis = int(torch.randint(3, (), generator=generator))
        sd[axis] = uniform((0.5, 1.2), generator)
    blurred = _blurred(picture, sd)
    shading = uniform(looks.bias, generator) * bias_field(picture.shape, generator)
    grain = torch.randn((2, *picture.shape), generator=generator).to(picture)
    grain = uniform(looks.noise, generator) * grain
    seen = torch.hypot(blurred * torch.exp(shading.to(picture)) + grain[0], grain[1])
    power = math.exp(looks.gamma * float(torch.randn((), generator=generator)))
    return torch.where(empty, torch.zeros_like(seen), seen) ** power


def _blurred(picture: Tensor, sd: list[float]) -> Tensor:
    """Gaussian blur with `sd` voxels along (i, j, k)."""
    for axis, width in enumerate(sd):
        if width > 0.1:
            picture = _blurred_along(picture, width, axis)
    return picture


def _blurred_along(picture: Tensor, width: float, axis: int) -> Tensor:
    reach = max(1, math.ceil(3 * width))
    steps = torch.arange(-reach, reach + 1, device=picture.device)
    kernel = torch.exp(-0.5 * (steps / width) ** 2)
    kernel = kernel / kernel.sum()
    shape = [1, 1, 1, 1, 1]
    shape[2 + axis] = len(steps)
    found: Tensor = functional.conv3d(
        picture[None, None], kernel.view(shape), padding="same"
    )
    return found[0, 0]

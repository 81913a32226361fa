"""How a bent template becomes a T1 picture: contrast, bias field, noise.

All maps are float32 (i, j, k) unless said otherwise; intensities run from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainer.data.flow import smooth
from trainer.data.template import NAMES, TISSUE

_TEMPLATE_LEVELS = (0.36, 0.655, 0.815)  # mean T1 of the template: CSF, gray, white
_BIAS_LATTICE = (10, 12, 10)  # 16 mm over the 160 x 192 x 160 mm of every grid


@dataclass(frozen=True)
class Scanner:
    """How the picture is taken; intensities from 0 to 1.

    Attributes
    ----------
    csf, gray, white
        Mean intensities at 40 years.
    fading
        Loss of gray-white contrast a year after 40, as a share.
    contrast
        SD of the log gray-white contrast and of the log gain between scans.
    bias
        SD of the log bias field.
    noise
        SD of the complex noise.
    detail
        Share of the template's own texture.
    """

    csf: float = 0.13
    gray: float = 0.50
    white: float = 0.78
    fading: float = 0.004
    contrast: float = 0.04
    bias: float = 0.05
    noise: float = 0.02
    detail: float = 0.5


@dataclass(frozen=True)
class Tone:
    """Mean intensities of one scan, and its share of the template's texture."""

    csf: float
    gray: float
    white: float
    detail: float


def draw_tone(scanner: Scanner, age: float, generator: torch.Generator) -> Tone:
    """Contrast of one scan of somebody aged `age` years."""
    z = torch.randn(3, generator=generator).clamp(-2.5, 2.5) * scanner.contrast
    contrast, gain, fluid = torch.exp(z).tolist()
    fade = 1 - scanner.fading * max(age - 40.0, -20.0)
    middle = (scanner.gray + scanner.white) / 2
    half = (scanner.white - scanner.gray) / 2 * contrast * fade
    return Tone(
        scanner.csf * fluid * gain,
        (middle - half) * gain,
        (middle + half) * gain,
        scanner.detail,
    )


def paint(structures: Tensor, t1: Tensor, white: Tensor, tone: Tone) -> Tensor:
    """Noise-free picture of soft structures (S, i, j, k), 0 outside the brain mask.

    The tissue maps of an average brain are blurred; a steeper edge at the same place
    gives back the gyri of one brain. `t1` adds the texture that the maps do not hold.
    """
    mask = structures.sum(0)
    index = [NAMES.index(name) for name in TISSUE]
    tissue = structures[index].sum(0) / mask.clamp(min=1e-3)
    csf, gray, wm = _TEMPLATE_LEVELS
    texture = t1 - (csf + tissue * (gray - csf + white * (wm - gray)))
    sharp = steeper(tissue, 0.5)
    inner = tone.gray + (tone.white - tone.gray) * steeper(white, 0.5)
    picture = tone.csf + sharp * (inner - tone.csf + tone.detail * texture)
    return (picture * (mask >= 0.5)).clamp(0, 1)


def gray_share(structures: Tensor, white: Tensor) -> Tensor:
    """Share of gray matter (i, j, k), 0 to 1, that `paint` shows as such.

    Of soft structures (S, i, j, k) and the share of white matter in their tissue.
    """
    mask = structures.sum(0)
    index = [NAMES.index(name) for name in TISSUE]
    tissue = structures[index].sum(0) / mask.clamp(min=1e-3)
    gray = steeper(tissue, 0.5) * (1 - steeper(white, 0.5))
    return (gray * (mask >= 0.5)).clamp(0, 1)


def steeper(share: Tensor, middle: float) -> Tensor:
    """S-shaped map of 0..1 onto 0..1 that keeps `middle` and doubles its slope."""
    low = share / middle
    high = (1 - share) / (1 - middle)
    rising = middle * low.square()
    return torch.where(share < middle, rising, 1 - (1 - middle) * high.square())


def taken(
    brain: tuple[Tensor, Tensor, Tensor],
    scanner: Scanner,
    age: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Noise-free truth and picture of `brain`: structures, T1, share of white matter.

    `age` in years fades the contrast.
    """
    structures, t1, white = brain
    truth = paint(structures, t1, white, draw_tone(scanner, age, generator))
    return truth, photograph(truth, scanner, generator)


def photograph(truth: Tensor, scanner: Scanner, generator: torch.Generator) -> Tensor:
    """Picture with a smooth bias field and Rician noise, 0 where `truth` is 0."""
    bias = torch.exp(scanner.bias * bias_field(truth.shape, generator))
    noise = scanner.noise * torch.randn((2, *truth.shape), generator=generator)
    real, imaginary = noise.to(truth.device)
    seen = torch.hypot(truth * bias.to(truth.device) + real, imaginary)
    return (seen * (truth > 0)).clamp(0, 1)


def bias_field(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Smooth noise (i, j, k) with a correlation of about 50 mm, RMS 1."""
    lattice = smooth(torch.randn(_BIAS_LATTICE, generator=generator), 3.0)
    field = lattice / lattice.square().mean().sqrt()
    return functional.interpolate(field[None, None], shape, mode="trilinear")[0, 0]

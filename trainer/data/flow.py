"""Diffeomorphisms on a voxel grid: velocity from divergence, flow, warp.

Definitions. Positions, velocities and displacements are (3, i, j, k) in voxels.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional

_SQUARINGS = 5


def irrotational(d: Tensor) -> Tensor:
    """Curl-free velocity (3, i, j, k) in voxels whose divergence is `d` (periodic)."""
    spectrum = torch.fft.rfftn(d)
    wave = _frequencies(d)
    square = sum((w * w for w in wave), torch.zeros((), device=d.device))
    square[0, 0, 0] = 1.0
    potential = -spectrum / square
    return torch.stack([torch.fft.irfftn(1j * w * potential, s=d.shape) for w in wave])


def smooth(d: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of the last three axes, `sigma` in voxels, periodic."""
    square = sum((w * w for w in _frequencies(d)), torch.zeros((), device=d.device))
    kernel = torch.exp(-0.5 * sigma**2 * square)
    last = (-3, -2, -1)
    spectrum: Tensor = torch.fft.rfftn(d, dim=last)
    blurred: Tensor = torch.fft.irfftn(spectrum * kernel, d.shape[-3:], last)
    return blurred


def _frequencies(d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Angular frequencies of rfftn over the last three axes, ready to broadcast."""
    i, j, k = d.shape[-3:]
    turn = 2 * math.pi
    return (
        (turn * torch.fft.fftfreq(i, device=d.device)).view(-1, 1, 1),
        (turn * torch.fft.fftfreq(j, device=d.device)).view(1, -1, 1),
        (turn * torch.fft.rfftfreq(k, device=d.device)).view(1, 1, -1),
    )


def integrate(velocity: Tensor) -> Tensor:
    """Displacement (3, i, j, k) after unit time along a stationary `velocity`."""
    here = identity(velocity)
    u: Tensor = velocity / 2.0**_SQUARINGS
    for _ in range(_SQUARINGS):
        u = u + warp(u, here + u)
    return u


def identity(maps: Tensor) -> Tensor:
    """Every voxel's own position (3, i, j, k)."""
    axes = [
        torch.arange(n, dtype=maps.dtype, device=maps.device) for n in maps.shape[-3:]
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def push(maps: Tensor, positions: Tensor) -> Tensor:
    """The adjoint of `warp`: values (C, i, j, k) put down where `positions` point.

    Each value is shared out to the eight voxels around its place, so sums are kept;
    what points beyond the grid is lost.
    """
    channels, shape = maps.shape[0], maps.shape[-3:]
    low = positions.floor()
    part = positions - low
    found = maps.new_zeros(channels, math.prod(shape))
    for corner in itertools.product((0, 1), repeat=3):
        side = torch.tensor(corner, device=maps.device).view(3, 1, 1, 1)
        weight = torch.where(side > 0, part, 1 - part).prod(0)
        place = low.long() + side
        size = torch.tensor(shape, device=maps.device).view(3, 1, 1, 1)
        inside = ((place >= 0) & (place < size)).all(0)
        i, j, k = place[:, inside]
        flat = (i * shape[1] + j) * shape[2] + k
        found.index_add_(1, flat, (maps * weight)[:, inside])
    return found.view(channels, *shape)


def warp(maps: Tensor, positions: Tensor) -> Tensor:
    """Trilinear values (C, i, j, k) of `maps` at `positions` (3, i, j, k) in voxels."""
    size = torch.tensor(maps.shape[-3:], device=maps.device).view(3, 1, 1, 1)
    unit = 2 * positions / (size - 1) - 1
    grid = unit.flip(0).permute(1, 2, 3, 0)[None]
    return functional.grid_sample(
        maps[None], grid, padding_mode="border", align_corners=True
    )[0]

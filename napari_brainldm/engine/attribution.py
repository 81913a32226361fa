"""Integrated gradients of a region's mean with respect to the connectivity.

Sundararajan 2017 (https://arxiv.org/abs/1703.01365): the gradient along the straight
way from the training mean to a person's connectivity, times that way. Attributions sum
up to what the region changes by, but for the error of the sum, which is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_brainldm.engine import diffusion
from napari_brainldm.engine.request import EngineError, Request, Seed, drawn_from
from napari_brainldm.engine.sampling import noisy, settled, sigmas_of, solver

if TYPE_CHECKING:
    from napari_brainldm.engine.checkpoint import Checkpoint
    from napari_brainldm.engine.fnc import Fnc

LARGEST_ERROR = 0.05
"""Share of the change by which attributions may miss it."""


@dataclass(frozen=True)
class Worked:
    """How far the gradients are: `index` of `total`."""

    stage: str
    index: int
    total: int


@dataclass(frozen=True, eq=False)
class Attributed:
    """What each connection adds to a region's mean.

    Attributes
    ----------
    vector
        float32 (p,), in the unit of the picture; mean over seeds.
    change
        Region mean of the picture minus that of the mean connectivity.
    """

    vector: NDArray[np.float32]
    change: float

    @property
    def error(self) -> float:
        """How far the sum is off, as a share of the change: completeness."""
        missed = abs(float(self.vector.sum(dtype=np.float64)) - self.change)
        return missed / max(abs(self.change), 1e-12)

    def told(self) -> str:
        """One sentence."""
        start = (
            f"The region changes by {self.change:.3g}; attributions sum up to it "
            f"within {100 * self.error:.1f} %"
        )
        if self.error <= LARGEST_ERROR:
            return f"{start}."
        return f"{start}, which is too far off: take more points."


class RegionMean:
    """The mean of a region of the picture as a function that has gradients.

    Parameters
    ----------
    checkpoint
        A GM-LDM.
    mask
        bool (i, j, k) on its grid.
    device
        Where it is computed, in float32.
    """

    def __init__(
        self, checkpoint: Checkpoint, mask: NDArray[np.bool_], device: str = "cpu"
    ) -> None:
        if checkpoint.card.fnc is None or not mask.any():
            raise EngineError(
                f"{checkpoint.card.name} has no connectivity, or the region no voxel "
                "on its grid, so there is nothing to attribute. Choose another region."
            )
        self._card, self._device = checkpoint.card, device
        self._gain, self._mean = checkpoint.card.fnc.gain, checkpoint.fnc_law().mean
        self._network = checkpoint.denoiser().to(device).requires_grad_(False)
        decoder: Any = checkpoint.autoencoder().to(device)
        self._decoder = decoder.requires_grad_(False)
        self._centre = checkpoint.latent_mean().to(device)
        self._mask = torch.from_numpy(mask).to(device)

    def vector(self, fnc: Fnc) -> Tensor:
        """The condition vector (1, p) of `fnc`; 0 is the training mean."""
        away = self._gain * (fnc.vector - self._mean)
        return torch.from_numpy(away.astype(np.float32))[None].to(self._device)

    def at(self, request: Request, vector: Tensor) -> Tensor:
        """The mean () under a condition vector (1, p), from the noise of `request`."""
        seed = drawn_from(request.origin) or 0
        noise = diffusion.noise(self._card.latent_shape, seed).to(self._device)
        sigmas = sigmas_of(request, self._card)
        x = noisy(self._network, noise, sigmas[0], vector)
        denoise = self._under(vector)
        if request.guidance != 1.0:
            denoise = diffusion.guided(denoise, self._under(None), request.guidance)
        limit = self._card.schedule.clamp
        denoise = diffusion.clamped(denoise, limit) if limit else denoise
        last = deque(solver([request], denoise, x, sigmas), maxlen=1)
        latent = settled(last[0].x, sigmas[-1])
        raw = latent / self._card.latent_scale + self._centre
        picture: Tensor = self._decoder.decode(raw)
        return picture[0, 0][self._mask].mean()

    def _under(self, vector: Tensor | None) -> diffusion.Denoise:
        def predict(x: Tensor, t: Tensor) -> Tensor:
            out: Tensor = self._network(x, t, vector)
            return out

        spec = self._card.schedule
        return diffusion.denoiser(predict, spec.build(), spec.prediction)

    def gradient(self, request: Request, vector: Tensor) -> Tensor:
        """The gradient (1, p) there."""
        with torch.enable_grad():
            asked = vector.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.at(request, asked), asked)
        return found


def integrated_gradients(
    region: RegionMean, request: Request, fnc: Fnc, points: int = 16, seeds: int = 1
) -> Generator[Worked, None, Attributed]:
    """Attribute the mean of `region` to the connections of `fnc`.

    `points` lie at the middles of equal parts of the way. Memory grows with the steps
    of the sampler.
    """
    way, first = region.vector(fnc), drawn_from(request.origin) or 0
    total, change = torch.zeros_like(way), 0.0
    for seed in range(seeds):
        seeded = replace(request, origin=Seed(first + seed))
        for point in range(points):
            yield Worked("gradient", seed * points + point, seeds * points)
            total += region.gradient(seeded, way * ((point + 0.5) / points))
        with torch.no_grad():
            ends = region.at(seeded, way), region.at(seeded, torch.zeros_like(way))
        change += float(ends[0] - ends[1])
    vector = (way * total / (points * seeds))[0].cpu().numpy()
    return Attributed(vector, change / seeds)

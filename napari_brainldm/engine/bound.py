"""A denoiser with what it is told bound to it: conditions, or a semantic code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from napari_brainldm.engine import diffusion
from napari_brainldm.engine.card import Card
from napari_brainldm.engine.device import Compute
from napari_brainldm.engine.request import EngineError


@dataclass(frozen=True, eq=False)
class Bound:
    """The network of `card` on a device, in a precision.

    Attributes
    ----------
    network
        As `Checkpoint.denoiser` builds it.
    """

    network: Any
    card: Card
    compute: Compute

    def under(self, vector: Tensor | None, guidance: float = 1.0) -> diffusion.Denoise:
        """The denoiser under the condition vector (1, n); None drops the conditions.

        Raises
        ------
        EngineError
            If `guidance` is not 1 and the network cannot drop its conditions.
        """
        self.check_guidance(guidance)
        conditional = self._plain(vector)
        if guidance == 1.0:
            return conditional
        return diffusion.guided(conditional, self._plain(None), guidance)

    def check_guidance(self, guidance: float) -> None:
        """Raise an EngineError unless this network can be guided by `guidance`."""
        spec = self.card.denoiser
        if guidance != 1.0 and (spec is None or not spec.droppable):
            raise EngineError(
                f"{self.card.name} was trained without dropped conditions, so guidance "
                f"{guidance:g} is not possible. Set guidance to 1."
            )

    def coded(self, semantic: Tensor) -> diffusion.Denoise:
        """The denoiser moved by a semantic code (1, E)."""

        def predict(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad(), self.compute.autocast():
                found: tuple[Tensor, Tensor] = self.network.both(x, t, semantic)
                return found

        spec = self.card.schedule
        return self._kept(diffusion.shifted(predict, spec.build(), spec.prediction))

    def _plain(self, vector: Tensor | None) -> diffusion.Denoise:
        def predict(x: Tensor, t: Tensor) -> Tensor:
            with torch.no_grad(), self.compute.autocast():
                out: Tensor = self.network(x, t, vector)
                return out

        spec = self.card.schedule
        return self._kept(diffusion.denoiser(predict, spec.build(), spec.prediction))

    def _kept(self, denoise: diffusion.Denoise) -> diffusion.Denoise:
        limit = self.card.schedule.clamp
        return diffusion.clamped(denoise, limit) if limit else denoise

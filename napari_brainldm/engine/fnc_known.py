"""The connectivity that a renderer was given, as the vectors its denoiser takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_brainldm.engine.fnc import Fnc
from napari_brainldm.engine.request import EngineError

if TYPE_CHECKING:
    from torch import Tensor

    from napari_brainldm.engine.checkpoint import Checkpoint


class KnownFnc:
    """Connectivity by digest; at first the mean of the training set, and no other.

    Parameters
    ----------
    checkpoint
        Says what is taken off and by what the rest is multiplied.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._card = checkpoint.card.fnc
        self._known: dict[str, Fnc] = {}
        self.mean = ""
        if self._card is not None:
            self.mean = self.admit(Fnc(checkpoint.fnc_law().mean, "training mean"))

    def admit(self, fnc: Fnc) -> str:
        """Remember `fnc`; its digest names it in requests.

        Raises
        ------
        EngineError
            If the model knows no connectivity, or that of other components.
        """
        name = self._checkpoint.card.name
        if self._card is None:
            raise EngineError(
                f"{name} knows no functional connectivity. Load a GM-LDM checkpoint."
            )
        if len(fnc.vector) != self._card.pairs:
            raise EngineError(
                f"The connectivity has {fnc.count} components; {name} knows "
                f"{len(self._card.components)}. Load connectivity of the same ones."
            )
        self._known[fnc.digest] = fnc
        return fnc.digest

    def of(self, digest: str) -> Fnc:
        """The connectivity that was admitted as `digest`."""
        if digest not in self._known:
            raise EngineError(
                f"The request asks for connectivity ({digest[:12]}...) that is not "
                "loaded. Load that file first."
            )
        return self._known[digest]

    def vector(self, digest: str) -> Tensor:
        """The condition vector (1, p) of `digest`; empty is the training mean."""
        assert self._card is not None
        away = self.of(digest or self.mean).vector - self.of(self.mean).vector
        return torch.from_numpy(self._card.gain * away)[None]

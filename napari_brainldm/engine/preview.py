"""Cheap pictures for a moving hand: near the full decode, at a fraction of its price.

A preview is looked at and never measured. A checkpoint may bring a distilled decoder
(stage `preview_decoder`); for one that does not, a linear map from the latent to the
picture is fitted to the first full picture that was made.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.networks.convolution import quicken
from napari_brainldm.engine.networks.preview import folded, neighbourhoods, unfolded

if TYPE_CHECKING:
    from napari_brainldm.engine.checkpoint import Checkpoint

RIDGE = 1e-3
"""Of the linear map, relative to the mean square of a latent value."""


class LinearMap(nn.Module):
    """Each block of voxels as a linear function of its latent voxel and neighbours.

    Fitted by ridge regression to one latent (1, C, i, j, k) and its full picture
    (1, 1, f i, f j, f k): thousands of blocks for a few hundred coefficients.
    """

    def __init__(self, latent: Tensor, picture: Tensor) -> None:
        super().__init__()
        self.factor = picture.shape[2] // latent.shape[2]
        self.weight: Tensor
        self.register_buffer("weight", self._fit(latent.float(), picture.float()))

    def _fit(self, latent: Tensor, picture: Tensor) -> Tensor:
        """Coefficients (27 C + 1, f^3)."""
        rows = neighbourhoods(latent)
        wanted = folded(picture, self.factor)[0].flatten(1).T
        gram = rows.T @ rows
        strength = RIDGE * len(rows) * float(latent.square().mean()) + 1e-12
        gram.diagonal()[:-1] += strength  # the mean is not held back
        found: Tensor = torch.linalg.solve(gram, rows.T @ wanted)
        return found

    def forward(self, latent: Tensor) -> Tensor:
        """The picture (1, 1, f i, f j, f k) of a latent (1, C, i, j, k)."""
        blocks = neighbourhoods(latent.float()) @ self.weight
        shape = (1, self.factor**3, *latent.shape[2:])
        return unfolded(blocks.T.reshape(shape), self.factor)


class CheapDecoder:
    """The cheap decode of one checkpoint: its own, else one learned on the way.

    Parameters
    ----------
    checkpoint
        Loaded weights and card; its preview decoder is built when first needed.
    device
        Where latents will lie.
    """

    def __init__(self, checkpoint: Checkpoint, device: str) -> None:
        self._checkpoint, self._device = checkpoint, device
        self._network: nn.Module | None = None

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor | None:
        """The picture (1, 1, f i, f j, f k) of a raw latent; None before `learn`."""
        if self._network is None and self._ships:
            self._network = _shipped(self._checkpoint).to(self._device)
        return None if self._network is None else self._network(latent)

    def learn(self, latent: Tensor, picture: Tensor) -> None:
        """Take a raw latent and its full picture as the example, if one is needed.

        Not where a picture is no whole number of blocks, or there are fewer blocks than
        coefficients: small pictures are decoded in full.
        """
        if self._network is None and not self._ships and _is_example(latent, picture):
            self._network = LinearMap(latent, picture)

    @property
    def _ships(self) -> bool:
        return self._checkpoint.card.preview is not None


def _is_example(latent: Tensor, picture: Tensor) -> bool:
    factor = picture.shape[2] // latent.shape[2]
    whole = tuple(factor * n for n in latent.shape[2:]) == tuple(picture.shape[2:])
    return whole and math.prod(latent.shape[2:]) > 27 * latent.shape[1]


def _shipped(checkpoint: Checkpoint) -> nn.Module:
    card = checkpoint.card
    assert card.preview is not None
    assert isinstance(card.autoencoder, AutoencoderSpec)
    network = card.preview.build(card.autoencoder)
    network.load_state_dict(checkpoint.part("preview"), strict=True)
    quicken(network)
    return network.eval()

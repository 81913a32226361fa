"""Cheap pictures for a moving hand: near the full decode, at a fraction of its price.

A preview is looked at and never measured. A checkpoint may bring a distilled decoder
(stage `preview_decoder`); for one that does not, a linear map from the latent to the
picture is fitted to the first full picture that was made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

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


def shipped(checkpoint: Checkpoint) -> nn.Module | None:
    """The checkpoint's own preview decoder in eval mode; None if it brings none."""
    card = checkpoint.card
    if card.preview is None or card.autoencoder is None:
        return None
    network = card.preview.build(card.autoencoder)
    network.load_state_dict(checkpoint.part("preview"), strict=True)
    return network.eval()

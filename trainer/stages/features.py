"""Perceptual distance: features of the segmenter, or of a network the user has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resources import bundled_segmenter
from trainer.stages.medicalnet import medicalnet

if TYPE_CHECKING:
    from napari_brainldm.engine.networks.segmenter import SegmenterNet


class FeatureDistance(nn.Module):
    """Mean squared distance of unit-normalised features (Zhang 2018, without its fit).

    Parameters
    ----------
    network
        Gives a list of feature maps for pictures (B, 1, i, j, k) in [0, 1].
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of `x` and `y`, the mean over layers."""
        network = self.network.to(x.device)
        pairs = zip(network(x), network(y), strict=True)
        return torch.stack(
            [functional.mse_loss(_unit(a), _unit(b)) for a, b in pairs]
        ).mean()


def _unit(features: Tensor) -> Tensor:
    return functional.normalize(features.float(), dim=1)


class SegmenterFeatures(nn.Module):
    """The way down of a segmenter: it knows structures, and nothing of real faces."""

    def __init__(self, network: SegmenterNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps of pictures (B, 1, i, j, k), finest first."""
        return self.network.features(x)


def feature_network(path: str) -> FeatureDistance:
    """The features of a segmenter, or of a MedicalNet ResNet (Chen 2019).

    Parameters
    ----------
    path
        A segmenter's checkpoint (.safetensors; the bundled one when empty) or a local
        .pth file of MedicalNet weights.

    Raises
    ------
    EngineError
        If the file is not there, or does not hold such a network.
    """
    file = Path(path) if path else bundled_segmenter()
    if not file.is_file():
        raise EngineError(
            f"The perceptual loss is on, but its features file {path!r} is not there. "
            "Give a segmenter or local MedicalNet weights (resnet_10.pth ...), leave "
            "it empty for the bundled segmenter, or set perceptual = 0."
        )
    if file.suffix == ".safetensors":
        return FeatureDistance(SegmenterFeatures(load_checkpoint(file).segmenter()))
    return FeatureDistance(medicalnet(file))

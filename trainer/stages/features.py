"""Perceptual distance: features of a network whose weights the user has at hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets.resnet import ResNetFeatures
from torch import Tensor, nn
from torch.nn import functional

from napari_brainldm.engine.request import EngineError

KNOWN = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101")


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


def feature_network(path: str) -> FeatureDistance:
    """A MedicalNet ResNet (Chen 2019) from a local .pth file of weights.

    Raises
    ------
    EngineError
        If no file is given, or it does not hold such a network.
    """
    if not path or not Path(path).is_file():
        raise EngineError(
            f"The perceptual loss is on, but its features file {path!r} is not there. "
            "Give local MedicalNet weights (resnet_10.pth ...) or set perceptual = 0."
        )
    weights = _weights(Path(path))
    for name in KNOWN:
        with torch.device("meta"):
            wanted = _shapes(ResNetFeatures(name, pretrained=False).state_dict())
        if wanted == _shapes(weights):
            network = ResNetFeatures(name, pretrained=False)
            network.load_state_dict(weights)
            return FeatureDistance(network)
    raise EngineError(
        f"{path} does not hold a MedicalNet ResNet ({', '.join(KNOWN)}). "
        "Give one of these files or set perceptual = 0."
    )


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in weights.items()}


def _weights(path: Path) -> dict[str, Tensor]:
    """The state dictionary in `path`, without DataParallel's prefix."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch answers foreign bytes with errors of any kind
        raise EngineError(
            f"{path} cannot be read as weights ({type(error).__name__}). "
            "Download it again or set perceptual = 0."
        ) from error
    return {
        name: value
        for key, value in _state(found).items()
        if not (name := str(key).removeprefix("module.")).startswith("fc.")
        and isinstance(value, Tensor)
    }


def _state(found: Any) -> Mapping[Any, Any]:
    """The state dictionary in what a file of weights held; empty for none."""
    inner = found.get("state_dict", found) if isinstance(found, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}

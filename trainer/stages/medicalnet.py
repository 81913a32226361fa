"""MedicalNet's (Med3D's) ResNets from a file of weights that the user has (Chen 2019).

The weights come with no licence that would let them be shipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets.resnet import ResNetFeatures
from torch import Tensor, nn

from napari_brainldm.engine.request import EngineError

KNOWN = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101")


def medicalnet(path: Path, names: Sequence[str] = KNOWN) -> ResNetFeatures:
    """The network whose weights lie in `path`; gives a list of feature maps.

    Raises
    ------
    EngineError
        If the file is not there, or does not hold exactly the weights of one of
        `names`.
    """
    weights = _weights(path)
    for name in names:
        with torch.device("meta"):
            wanted = _shapes(ResNetFeatures(name, pretrained=False).state_dict())
        if wanted == _shapes(weights):
            network = ResNetFeatures(name, pretrained=False)
            network.load_state_dict(weights)
            return network.eval().requires_grad_(False)
    raise EngineError(
        f"{path} does not hold a MedicalNet ResNet ({', '.join(names)}). "
        "Give one of these files, or do without (in a config: perceptual = 0)."
    )


def dilated(network: ResNetFeatures) -> ResNetFeatures:
    """The network as Med3D runs it: its last two levels widen instead of halving.

    Convolutions of level 3 are dilated by 2, those of level 4 by 4, with stride 1.
    Weights have the same shapes either way, so that nothing but this tells them apart;
    MONAI's classifier halves as the first ResNet did.
    """
    for level, reach in ((network.layer3, 2), (network.layer4, 4)):
        for part in level.modules():
            if isinstance(part, nn.Conv3d):
                part.stride = (1, 1, 1)
                if part.kernel_size == (3, 3, 3):
                    part.dilation = part.padding = (reach, reach, reach)
    return network


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in weights.items()}


def _weights(path: Path) -> dict[str, Tensor]:
    """The state dictionary in `path`, without DataParallel's prefix."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch answers foreign bytes with errors of any kind
        raise EngineError(
            f"{path} cannot be read as weights ({type(error).__name__}). "
            "Download it again, or do without (in a config: perceptual = 0)."
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

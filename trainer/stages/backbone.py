"""torchvision's ConvNeXt weights, from a file the user has, for the semantic encoder.

The paper's encoder begins with those of ImageNet (Lozupone 2025, table 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file

from napari_brainldm.engine.checkpoint import check_finite, differing
from napari_brainldm.engine.imports.source import read_weights
from napari_brainldm.engine.request import EngineError

if TYPE_CHECKING:
    from torch import Tensor

    from napari_brainldm.engine.networks.semantic_encoder import ConvNeXt

STEM = "features.0.0.weight"
"""The first convolution, of three colours in torchvision's network."""

HEAD = "classifier.2."
"""What makes classes of features; the normalisation before it is kept."""


def begin_backbone(network: ConvNeXt, path: Path) -> None:
    """Give `network` the weights in `path`, which have the same names in torchvision.

    Raises
    ------
    EngineError
        If the file cannot be read, or does not hold exactly the network's weights.
    """
    held = {k: v.float() for k, v in _read(path).items() if not k.startswith(HEAD)}
    stem = held.get(STEM)
    if stem is not None and stem.ndim == 4 and stem.shape[1] == 3:
        # a slice is gray: as a picture whose three colours are equal, it meets the
        # sum of their filters (so the paper does)
        held[STEM] = stem.sum(1, keepdim=True)
    _check(path, held, network.state_dict())
    network.load_state_dict(held)


def told_backbone(path: str) -> tuple[str, ...]:
    """The note for the card of what began with the weights in `path`; none without."""
    if not path:
        return ()
    return (f"Its semantic encoder began with the weights of {Path(path).name}.",)


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise EngineError(
            f"ldae.backbone names {path}, which is not there. Give torchvision's "
            "weights of a ConvNeXt (convnext_small-0c510722.pth), or leave it empty."
        )
    if path.suffix != ".safetensors":
        return read_weights(path).tensors
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise EngineError(
            f"{path.name} is not a readable .safetensors file ({error}). "
            "Download or copy it again."
        ) from error


def _check(path: Path, held: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    found, wanted = ({k: tuple(v.shape) for k, v in w.items()} for w in (held, own))
    if told := differing(found, wanted):
        raise EngineError(
            f"{path.name} does not hold a ConvNeXt of the sizes in [ldae.encoder]: "
            f"{told}. Give torchvision's weights of those sizes, or leave "
            "ldae.backbone empty."
        )
    check_finite(path.name, held)

"""The network that finds brain structures in a picture: MONAI's BasicUNet."""

from __future__ import annotations

from dataclasses import dataclass

from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor, nn


@dataclass(frozen=True)
class Structure:
    """A part of the head that is told apart.

    Attributes
    ----------
    name
        As in tables and on the command line, e.g. "lateral_ventricles".
    left, right
        Indices of FreeSurfer's colour table; equal for a structure without sides.
    tissue
        Whether it counts as brain volume: gray and white matter do, fluid does not.
    """

    name: str
    left: int
    right: int
    tissue: bool = True


STRUCTURES = (
    Structure("csf", 24, 24, tissue=False),
    Structure("cortical_gray_matter", 3, 42),
    Structure("white_matter", 2, 41),
    Structure("lateral_ventricles", 4, 43, tissue=False),
    Structure("other_ventricles", 14, 14, tissue=False),
    Structure("hippocampus", 17, 53),
    Structure("amygdala", 18, 54),
    Structure("caudate", 11, 50),
    Structure("putamen", 12, 51),
    Structure("pallidum", 13, 52),
    Structure("thalamus", 10, 49),
    Structure("accumbens", 26, 58),
    Structure("ventral_diencephalon", 28, 60),
    Structure("cerebellar_gray_matter", 8, 47),
    Structure("cerebellar_white_matter", 7, 46),
    Structure("brain_stem", 16, 16),
)
"""Inferior horns and choroid plexus belong to the lateral ventricles, the third and
fourth are the other ones; CSF is the fluid around the brain."""


@dataclass(frozen=True)
class SegmenterSpec:
    """Sizes of the segmentation network, and what it tells apart.

    Attributes
    ----------
    channels
        Feature channels of the five levels (each halves every axis) and of the last
        layer of the way back up, as MONAI's BasicUNet takes them.
    structures
        One class each, after class 0, the background.
    """

    channels: tuple[int, ...] = (16, 24, 48, 96, 128, 16)
    structures: tuple[Structure, ...] = STRUCTURES

    def build(self) -> SegmenterNet:
        """The network with fresh weights."""
        return SegmenterNet(self)


class SegmenterNet(nn.Module):
    """Logits of background and structures for pictures in [0, 1], about."""

    def __init__(self, spec: SegmenterSpec) -> None:
        super().__init__()
        self.unet = BasicUNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=1 + len(spec.structures),
            features=spec.channels,
            act=("LeakyReLU", {"negative_slope": 0.1}),
            norm=("instance", {"affine": True}),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 1 + S, i, j, k) of pictures (B, 1, i, j, k)."""
        logits: Tensor = self.unet(x)
        return logits

    def features(self, x: Tensor) -> list[Tensor]:
        """Feature maps of the way down, finest first: (B, C, i / 2^n, ...)."""
        unet, found = self.unet, []
        for level in (unet.conv_0, unet.down_1, unet.down_2, unet.down_3):
            x = level(x)
            found.append(x)
        return found

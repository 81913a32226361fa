"""3D convolutions of small inputs by oneDNN, where torch would go the slow way."""

from __future__ import annotations

import platform
from typing import Any

import torch
from torch import Tensor, nn

_BACKEND: Any = torch.backends.mkldnn
ONEDNN = platform.machine().lower() in ("x86_64", "amd64") and _BACKEND.is_available()
"""Whether oneDNN is there, on processors that it was measured on."""


class QuickConv3d(nn.Conv3d):
    """`nn.Conv3d` that asks oneDNN itself when it infers float32 on a processor.

    For one input of few numbers, as latents are, torch takes a plain kernel; oneDNN is
    1.3 to 7 times as fast there (`benchmarks.convolution`). Results differ by rounding.
    """

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.Conv3d`: (N, C, i, j, k)."""
        if not self._plain(input):
            return super().forward(input)
        padding: Any = self.padding
        return torch.mkldnn_convolution(
            input,
            self.weight,
            self.bias,
            padding,
            self.stride,
            self.dilation,
            self.groups,
        )

    def _plain(self, input: Tensor) -> bool:
        return (
            ONEDNN
            and not torch.is_grad_enabled()
            and input.device.type == "cpu"
            and input.dtype == self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and input.ndim == 5
            and self.padding_mode == "zeros"
            and not isinstance(self.padding, str)
            and max(self.kernel_size) > 1  # a plain product is as fast without
        )


def quicken(network: nn.Module) -> None:
    """Make every 3D convolution within `network` a QuickConv3d; weights stay."""
    for part in network.modules():
        if type(part) is nn.Conv3d:
            part.__class__ = QuickConv3d

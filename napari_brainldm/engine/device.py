"""Which device and precision to compute with, found by a short probe."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_brainldm.engine.networks.convolution import quicken
from napari_brainldm.engine.request import EngineError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CLOSE = 0.03  # relative error allowed to bfloat16; it keeps 8 bits, 0.4 % a rounding
FASTER = 1.2  # below this gain the full precision is kept


@dataclass(frozen=True)
class Compute:
    """A torch device name and a precision of PRECISIONS."""

    device: str
    precision: str

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which networks run at this precision."""
        enabled = self.precision != "float32"
        kind = torch.device(self.device).type
        return torch.autocast(kind, PRECISIONS[self.precision], enabled=enabled)


def choose(device: str = "", precision: str = "") -> Compute:
    """Complete a wish for `device` and `precision`; empty lets the probe decide.

    Raises
    ------
    EngineError
        If the device is not there or the precision is unknown.
    """
    device = device or best_device()
    check_device(device)
    _check_precision(precision)
    return Compute(device, precision or _best_precision(device))


@functools.cache
def _best_precision(device: str) -> str:
    """What the probe finds, once a process: a model opened later takes no longer."""
    return probe(device)


def best_device() -> str:
    """Return "cuda", "mps" or "cpu", the first that torch can use here."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_device(device: str) -> None:
    """Raise an EngineError sentence unless torch can use `device` here."""
    there = devices()
    if device not in there:
        raise EngineError(
            f"The device {device!r} was asked for; this machine offers "
            f"{', '.join(there)}. Choose one of these."
        )


def devices() -> tuple[str, ...]:
    """Names of the devices that torch can use here, "cpu" first."""
    best = best_device()
    if best != "cuda":
        return ("cpu", "mps") if best == "mps" else ("cpu",)
    numbered = (f"cuda:{index}" for index in range(torch.cuda.device_count()))
    return ("cpu", "cuda", *numbered)


def _check_precision(precision: str) -> None:
    if precision and precision not in PRECISIONS:
        raise EngineError(
            f"The precision {precision!r} was asked for; known are "
            f"{', '.join(PRECISIONS)}. Choose one of these."
        )


def probe(device: str) -> str:
    """Return "bfloat16" where it is right and faster on a small 3D network.

    Some builds compute bfloat16 3D convolutions wrongly or slowly (pytorch#163539,
    #166122), so the answer is measured, not assumed.
    """
    network, x = _probe_network(), torch.rand(1, 8, 24, 24, 24)
    network, x = network.to(device), x.to(device)
    exact, slow = _timed(Compute(device, "float32"), network, x)
    try:
        rough, fast = _timed(Compute(device, "bfloat16"), network, x)
    except RuntimeError:  # no kernel for it on this device
        return "float32"
    error = (rough - exact).norm() / exact.norm()
    return "bfloat16" if float(error) < CLOSE and slow > FASTER * fast else "float32"


def _probe_network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [
            nn.Conv3d(8, 32, 3),
            nn.SiLU(),
            nn.Conv3d(32, 32, 3),
            nn.GroupNorm(8, 32),
        ]
        network = nn.Sequential(*layers).eval()
    quicken(network)  # as the networks of checkpoints are
    return network


def _timed(compute: Compute, network: nn.Module, x: Tensor) -> tuple[Tensor, float]:
    """Output in float32 and the shortest of three runs in seconds."""
    with torch.no_grad(), compute.autocast():
        run: Callable[[], Tensor] = lambda: network(x).float().cpu()  # noqa: E731
        run()
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            out = run()
            seconds.append(time.perf_counter() - start)
    return out, min(seconds)


def is_memory(error: Exception) -> bool:
    """Whether memory ran out; torch's CPU allocator says so only in words."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def out_of_memory(compute: Compute) -> EngineError:
    """The sentence when memory ran out while computing with `compute`."""
    ways = ["close other programs"]
    ways += ["choose bfloat16"] if compute.precision != "bfloat16" else []
    ways += ["choose the device cpu"] if compute.device != "cpu" else []
    way = ", ".join(ways)
    return EngineError(
        f"Memory ran out on {compute.device} while making this picture in "
        f"{compute.precision}. {way[0].upper()}{way[1:]}, or load a smaller "
        "checkpoint, then ask again."
    )

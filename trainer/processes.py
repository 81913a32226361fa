"""One training run in several processes, as `accelerate launch` starts them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from napari_brainldm.engine.device import best_device, check_device, probe
from trainer.loop_config import AUTO

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")

PATIENCE = timedelta(days=2)
"""How long processes wait for the first, which prepares the data alone."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums over several of them are rounded otherwise."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def on_processor(device: str) -> bool:
    """Whether training on `device` (empty: the best) needs no graphics card.

    Accelerate has to be told: else processes on such a machine would not meet.
    """
    return (device or best_device()) == "cpu"


def processes(device: str) -> PartialState:
    """Which of how many this process is; joins the others when first called."""
    from accelerate import PartialState

    if device:
        check_device(device)
    known: Any = PartialState
    found: PartialState = known(cpu=on_processor(device), timeout=PATIENCE)
    return found


def settled(precision: str, device: str, before: str = "") -> str:
    """`precision` of LoopConfig; "auto" is as `before`, or as is measured, once."""
    if precision != AUTO:
        return precision
    if device not in _AUTO:
        _AUTO[device] = before or _measured(device)
    return _AUTO[device]


_AUTO: dict[str, str] = {}
"""What "auto" is on a device in this process: accelerate knows one precision."""


def _measured(device: str) -> str:
    """The precision that the first process finds best."""
    from accelerate.utils import broadcast_object_list

    processes(device)
    found = ["bf16" if probe(device or best_device()) == "bfloat16" else "no"]
    broadcast_object_list(found)
    return found[0]


def first_alone(
    state: PartialState, work: Generator[str, None, T]
) -> Generator[str, None, T]:
    """Drive `work` in every process, in the first one before the others.

    What the first one has put on disk the others then find there. Lines come from the
    first one.
    """
    with state.main_process_first():
        return (yield from told_by_first(state, work))


def told_by_first(
    state: PartialState, work: Generator[str, None, T]
) -> Generator[str, None, T]:
    """`work`, whose lines only the first process tells."""
    while True:
        try:
            line = next(work)
        except StopIteration as done:
            found: T = done.value
            return found
        if state.is_main_process:
            yield line


def only_first(state: PartialState, work: Iterator[str]) -> Iterator[str]:
    """`work` in the first process alone; the others wait for its end."""
    if state.is_main_process:
        yield from work
    state.wait_for_everyone()

"""What the trainer's tests share: accelerate's process-wide state, small threads."""

from __future__ import annotations

import sys

import pytest


def forget_accelerate() -> None:
    """Accelerate keeps its first settings for the whole process; forget them."""
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


@pytest.fixture(autouse=True)
def fresh_accelerate():
    forget_accelerate()
    yield
    forget_accelerate()


@pytest.fixture
def again():
    """Call it between two runs of one test that differ in device or precision."""
    return forget_accelerate


@pytest.fixture(scope="module")
def one_thread():
    """Small arrays are faster on one thread; several tests run side by side."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

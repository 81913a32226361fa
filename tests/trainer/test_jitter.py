"""Other scanners: another look, the same brain."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.data.jitter import jittered


@pytest.fixture
def picture() -> torch.Tensor:
    axis = torch.linspace(-1, 1, 24)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    brain = (x**2 + y**2 + z**2 < 0.7).float()
    return (brain * (0.4 + 0.5 * (x > 0)))[None]


def test_nothing_is_changed_by_nothing(picture: torch.Tensor) -> None:
    assert jittered(picture, 0.0, 3) is picture


def test_a_seed_is_a_scanner(picture: torch.Tensor) -> None:
    first, again, other = (jittered(picture, 0.2, seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.02)


def test_the_brain_stays_where_it_is_and_keeps_its_scale(picture: torch.Tensor) -> None:
    brain = picture > 0
    for seed in range(5):
        made = jittered(picture, 0.15, seed)
        assert not made[~brain].any()
        assert float(made.max()) <= 1
        assert float(torch.quantile(made[brain], 0.995)) == pytest.approx(1, abs=0.02)
        # bright tissue stays brighter than dark, on the whole
        bright, dark = (made[brain & mask] for mask in (picture > 0.6, picture < 0.6))
        assert float(bright.mean()) > float(dark.mean()) + 0.1


def test_shading_is_slow() -> None:
    """Means of eighths of a flat cube differ more than noise lets means differ."""
    flat = torch.full((1, 24, 24, 24), 0.5)
    made = torch.stack([jittered(flat, 0.2, seed)[0] for seed in range(20)])
    eighths = made.reshape(20, 2, 12, 2, 12, 2, 12).mean((2, 4, 6)).flatten(1)
    rough = (made[:, 1:] - made[:, :-1]).std() / np.sqrt(12**3)
    assert float(eighths.std(1).mean()) > 10 * float(rough)

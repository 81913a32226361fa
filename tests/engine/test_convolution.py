"""Convolutions by oneDNN are torch's, and leave training alone."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_brainldm.engine.networks.convolution import ONEDNN, QuickConv3d, quicken
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Request, Seed
from tests.tiny import tiny_checkpoint

SHAPE = (6, 7, 5)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Inputs that oneDNN was asked for by name."""
    known, seen = torch.mkldnn_convolution, []

    def counted(*given: Any) -> Any:
        seen.append(given[0])
        return known(*given)

    monkeypatch.setattr(torch, "mkldnn_convolution", counted)
    return seen


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": (3, 1, 3), "padding": (1, 0, 1), "bias": False},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
        {"kernel_size": 3, "padding": 1, "groups": 4},
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_results_are_torchs(settings: dict[str, Any], count: int, calls) -> None:
    torch.manual_seed(0)
    plain = nn.Conv3d(8, 12, **settings)
    quick = nn.Sequential(copy.deepcopy(plain))
    quicken(quick)
    x = torch.randn(count, 8, *SHAPE)
    with torch.no_grad():
        exact = plain.double()(x.double()).float()
        torch.testing.assert_close(quick(x), exact, rtol=1e-5, atol=1e-5)
    assert len(calls) == int(ONEDNN)


def test_whatever_oneDNN_is_not_for_goes_torchs_way(calls) -> None:
    quick = nn.Sequential(nn.Conv3d(2, 3, 3, padding=1))
    quicken(quick)
    x = torch.randn(1, 2, *SHAPE)
    quick(x).sum().backward()  # training
    assert quick[0].weight.grad is not None
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert quick(x).dtype == torch.bfloat16
        assert quick(x[0]).shape == (3, *SHAPE)
        assert quick.double()(x.double()).dtype == torch.float64
        for other in ({"padding": "same"}, {"padding_mode": "circular", "padding": 1}):
            part = nn.Sequential(nn.Conv3d(2, 3, 3, **other))
            quicken(part)
            part(x)
        point = nn.Sequential(nn.Conv3d(2, 3, 1))
        quicken(point)
        point(x)
    assert calls == []


def test_weights_and_names_stay() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.ConvTranspose3d(2, 1, 3))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    quicken(network)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert type(network[0]) is QuickConv3d
    assert type(network[1]) is nn.ConvTranspose3d


def test_a_checkpoints_pictures_are_made_by_it(calls, monkeypatch) -> None:
    request = Request(origin=Seed(3))
    quick = finish(Renderer(tiny_checkpoint(), "cpu", "float32").render(request)).data
    assert bool(calls) == ONEDNN
    monkeypatch.setattr(QuickConv3d, "_plain", lambda *_: False)
    plain = finish(Renderer(tiny_checkpoint(), "cpu", "float32").render(request)).data
    np.testing.assert_allclose(quick, plain, atol=1e-4)

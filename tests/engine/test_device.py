"""Device and precision are wishes that are met, or refused with a sentence."""

from __future__ import annotations

import pytest
import torch

from napari_brainldm.engine import device
from napari_brainldm.engine.device import Compute, choose, devices, probe
from napari_brainldm.engine.request import EngineError


def test_the_probe_gives_a_known_precision_and_choose_takes_it():
    device._best_precision.cache_clear()
    assert probe("cpu") in device.PRECISIONS
    assert choose("cpu").precision in device.PRECISIONS


def test_a_device_is_probed_once(monkeypatch):
    asked = []

    def counted(name):
        asked.append(name)
        return "bfloat16"

    device._best_precision.cache_clear()
    monkeypatch.setattr(device, "probe", counted)
    assert [choose("cpu").precision for _ in range(3)] == ["bfloat16"] * 3
    assert asked == ["cpu"]
    device._best_precision.cache_clear()


def test_a_wish_is_met_without_a_probe(monkeypatch):
    monkeypatch.setattr(device, "probe", None)  # calling it would raise
    assert choose("cpu", "bfloat16") == Compute("cpu", "bfloat16")
    assert choose("", "float32").device == device.best_device()


def outcome(monkeypatch, error: float, seconds: tuple[float, float]) -> str:
    """What the probe says when bfloat16 errs by `error`; seconds of both."""
    exact = torch.ones(10)

    def timed(compute, network, x):
        rough = compute.precision == "bfloat16"
        return exact * (1 + error * rough), seconds[rough]

    monkeypatch.setattr(device, "_timed", timed)
    return probe("cpu")


@pytest.mark.parametrize(
    ("error", "seconds", "precision"),
    [
        (0.004, (1.0, 0.5), "bfloat16"),
        (0.004, (1.0, 0.95), "float32"),  # hardly faster
        (0.004, (1.0, 3.0), "float32"),  # slower
        (0.3, (1.0, 0.1), "float32"),  # wrong
        (float("nan"), (1.0, 0.1), "float32"),
    ],
)
def test_bfloat16_must_be_right_and_faster(monkeypatch, error, seconds, precision):
    assert outcome(monkeypatch, error, seconds) == precision


def test_a_device_without_bfloat16_computes_in_float32(monkeypatch):
    def timed(compute, network, x):
        if compute.precision == "bfloat16":
            raise RuntimeError("not implemented for 'BFloat16'")
        return torch.ones(3), 1.0

    monkeypatch.setattr(device, "_timed", timed)
    assert probe("cpu") == "float32"


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "cpu:x", "CPU", "cuda:"])
def test_a_device_that_is_not_there_gets_a_sentence(name):
    with pytest.raises(EngineError, match=r"this machine offers cpu.*Choose one"):
        choose(name)


def test_every_card_of_a_machine_is_offered(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices() == ("cpu", "cuda", "cuda:0", "cuda:1")
    assert choose("cuda:1", "float32").device == "cuda:1"


def test_an_unknown_precision_gets_a_sentence():
    with pytest.raises(EngineError, match="known are float32, bfloat16"):
        choose("cpu", "float8")


def test_autocast_is_on_for_bfloat16_alone():
    x, w = torch.ones(2, 2), torch.ones(2, 2)
    for precision, kind in device.PRECISIONS.items():
        with Compute("cpu", precision).autocast():
            assert (x @ w).dtype == kind


def test_the_probe_leaves_the_callers_randomness_alone():
    before = torch.random.get_rng_state()
    device._probe_network()
    assert torch.equal(torch.random.get_rng_state(), before)

"""Every picture comes down one road, the same bits every time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_brainldm.engine import convention as road
from napari_brainldm.engine.codes import Code, between, slerp
from napari_brainldm.engine.conform import Conformed, Quality
from napari_brainldm.engine.networks.segmenter import STRUCTURES
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Between,
    Conditions,
    EngineError,
    Request,
    Sampler,
    Scan,
    Seed,
)
from napari_brainldm.engine.segment import Segmentation
from napari_brainldm.engine.volume import Volume
from tests.tiny import tiny_checkpoint

DDIM = Sampler("ddim", 10)


@pytest.fixture
def tiny() -> Renderer:
    return Renderer(tiny_checkpoint(), "cpu", "float32")


@pytest.fixture
def placed(monkeypatch):
    """Counts conform calls and lets scans that lie on the grid pass as they are."""
    calls = []

    def conform(scan, grid, percentile, **options):
        calls.append(scan.digest)
        eye = np.eye(4)
        whole = np.ones(grid.shape, bool)
        return Conformed(scan, whole, eye, 1.0, Quality(1.0, 1.0, 1.0), ("placed",))

    monkeypatch.setattr(road, "conform", conform)
    return calls


def scan(seed: int) -> Volume:
    grid = tiny_checkpoint().card.grid
    data = np.random.default_rng(seed).random(grid.shape, dtype=np.float32)
    return Volume(data, grid.matrix)


def picture(renderer: Renderer, request: Request) -> np.ndarray:
    return finish(renderer.render(request)).data


def test_same_request_gives_same_bits_in_two_renderers(tiny):
    request = Request(Conditions.of({"age": 70.0}), Seed(3), sampler=DDIM)
    again = Renderer(tiny_checkpoint(), "cpu", "float32")
    first, second = picture(tiny, request), picture(again, request)
    assert first.tobytes() == second.tobytes()
    assert first.shape == tiny.card.grid.shape
    assert np.isfinite(first).all()


@pytest.mark.parametrize("sampler", [Sampler("ddpm", 5), Sampler("ddim", 5, 0.7)])
def test_noisy_samplers_repeat_too(tiny, sampler):
    request = Request(origin=Seed(3), sampler=sampler)
    assert picture(tiny, request).tobytes() == picture(tiny, request).tobytes()


@pytest.mark.parametrize(
    "other",
    [
        Request(Conditions.of({"age": 71.0}), Seed(3), sampler=DDIM),
        Request(Conditions.of({"age": 70.0}), Seed(4), sampler=DDIM),
        Request(Conditions.of({"age": 70.0}), Seed(3), sampler=Sampler("ddim", 11)),
        Request(Conditions.of({"age": 70.0}), Seed(3), sampler=DDIM, guidance=3.0),
    ],
)
def test_every_part_of_a_request_changes_the_picture(tiny, other):
    base = Request(Conditions.of({"age": 70.0}), Seed(3), sampler=DDIM)
    assert not np.array_equal(picture(tiny, base), picture(tiny, other))


def test_the_render_yields_after_every_step_and_may_be_left(tiny):
    stages = [p.stage for p in tiny.render(Request(sampler=DDIM))]
    assert stages == ["denoise"] * 10 + ["decode"]
    left = tiny.render(Request(sampler=DDIM))
    next(left)
    left.close()
    assert picture(tiny, Request(sampler=DDIM)).size


def test_rendering_leaves_gradients_of_the_caller_alone(tiny):
    for _ in tiny.render(Request(sampler=DDIM)):
        assert torch.is_grad_enabled()


def test_a_scan_is_conformed_and_inverted_once(tiny, placed):
    digest = tiny.admit(scan(0))
    origin = Scan(digest, Conditions.of({"age": 40.0}))
    for age in (40.0, 50.0, 60.0):
        wanted = Conditions.of({"age": age})
        request = Request(wanted, origin, sampler=DDIM)
        stages = [p.stage for p in tiny.render(request)]
        assert ("invert" in stages) == (age == 40.0)
    assert placed == [digest]


def test_own_conditions_give_the_reconstruction(tiny, placed):
    """Inversion and sampling undo each other: close to the autoencoder's own."""
    digest = tiny.admit(scan(0))
    own = tiny.card.complete(Conditions())
    alone = picture(tiny, Request(own, Scan(digest, own), sampler=Sampler("ddim", 0)))
    np.testing.assert_array_equal(alone, tiny.rebuild(scan(0).data))
    errors = []
    for steps in (10, 60):
        request = Request(own, Scan(digest, own), sampler=Sampler("ddim", steps))
        back = picture(tiny, request)
        errors.append(np.linalg.norm(back - alone) / np.linalg.norm(alone))
    assert errors[1] < errors[0]
    assert errors[1] < 0.1


def test_between_two_scans_the_ends_are_the_scans(tiny, placed):
    own = tiny.card.complete(Conditions())
    first, second = (Scan(tiny.admit(scan(n)), own) for n in (0, 1))
    for fraction, end in ((0.0, first), (1.0, second)):
        mixed = Request(own, Between(first, second, fraction), sampler=DDIM)
        alone = Request(own, end, sampler=DDIM)
        np.testing.assert_allclose(
            picture(tiny, mixed), picture(tiny, alone), rtol=1e-4, atol=1e-4
        )


def test_slerp_keeps_the_length_of_noise_and_guards_small_angles():
    a, b = torch.randn(1, 2, 9, 9, 9), torch.randn(1, 2, 9, 9, 9)
    half = slerp(a, b, 0.5)
    assert float(half.norm() / a.norm()) == pytest.approx(1.0, abs=0.05)
    torch.testing.assert_close(slerp(a, a * (1 + 1e-9), 0.3), a)
    assert between(Code(a), Code(b), 0.5).stochastic is None


def test_a_scan_that_is_not_loaded_is_refused(tiny):
    with pytest.raises(EngineError, match="Open that scan first"):
        picture(tiny, Request(origin=Scan("0" * 64), sampler=DDIM))


def test_a_scan_is_walked_back_by_ddim_only(tiny, placed):
    request = Request(origin=Scan(tiny.admit(scan(0))))
    with pytest.raises(EngineError, match="Choose the sampler ddim with eta 0"):
        picture(tiny, request)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (Request(sampler=Sampler("euler", 5)), "known are ddim, ddpm"),
        (Request(sampler=Sampler("ddim", 0)), "takes 1 to 1000"),
        (Request(precision="float8"), "known are float32, bfloat16"),
        (Request(Conditions.of({"mood": 1.0})), "'mood' is not a condition"),
    ],
)
def test_what_cannot_be_done_gets_a_sentence(tiny, request_, sentence):
    with pytest.raises(EngineError, match=sentence):
        picture(tiny, request_)


def test_guidance_needs_a_checkpoint_trained_for_it():
    tiny = Renderer(tiny_checkpoint(droppable=False), "cpu", "float32")
    assert picture(tiny, Request(sampler=DDIM)).size
    with pytest.raises(EngineError, match="Set guidance to 1"):
        picture(tiny, Request(sampler=DDIM, guidance=2.0))


def test_an_unconditional_checkpoint_renders():
    tiny = Renderer(tiny_checkpoint(conditional=False), "cpu", "float32")
    assert picture(tiny, Request(sampler=DDIM)).size


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_running_out_of_memory_is_a_sentence_and_the_next_picture_works(
    tiny, monkeypatch, error
):
    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(tiny, "decode", fail)
        with pytest.raises(EngineError, match="Memory ran out on cpu"):
            picture(tiny, Request(sampler=DDIM))
    assert picture(tiny, Request(sampler=DDIM)).size


def test_a_programming_error_is_not_called_a_lack_of_memory(tiny, monkeypatch):
    def fail(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(tiny, "decode", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        picture(tiny, Request(sampler=DDIM))


def test_bfloat16_is_close_to_float32(tiny):
    exact = picture(tiny, Request(sampler=DDIM))
    rough = picture(tiny, Request(sampler=DDIM, precision="bfloat16"))
    assert 0 < np.linalg.norm(rough - exact) / np.linalg.norm(exact) < 0.05


def test_the_resolved_request_spells_out_what_was_left_out(tiny):
    resolved = tiny.resolve(Request(Conditions.of({"age": "70"})))
    assert resolved.precision == "float32"
    assert resolved.conditions.as_dict() == {
        "age": 70.0,
        "brain": 1200.0,
        "sex": "F",
        "ventricles": 20.0,
    }


def test_the_readout_estimates_a_scans_own_conditions(tiny, placed):
    """A planted linear read-out: the mean of the latent tells the age."""
    size = int(np.prod(tiny.card.latent_shape))
    weight = torch.zeros(4, size)
    weight[0] = 1.0 / size
    tensors = dict(tiny.checkpoint.tensors)
    tensors |= {"probe.weight": weight, "probe.bias": torch.full((4,), 0.25)}
    reading = Renderer(replace(tiny.checkpoint, tensors=tensors), "cpu", "float32")
    digest = reading.admit(scan(0))
    mean = float(reading.latent_of(scan(0).data).mean()) * reading.card.latent_scale
    planted = np.zeros((1 + len(STRUCTURES), *reading.card.grid.shape), np.float32)
    planted[4, 5:7, 5:7, 5:7] = 1.0  # 8 voxels of lateral ventricle
    seen = Segmentation(planted, reading.card.grid, STRUCTURES, "planted")
    conformed = replace(reading.conformed(digest), segmentation=None)
    reading._scans._conformed[digest] = conformed
    found = reading.estimate(digest).as_dict()
    expected = 20 + 70 * float(np.clip(mean + 0.25, 0, 1))
    assert found["age"] == pytest.approx(expected, abs=0.05)
    assert found["sex"] == "F"
    assert found["brain"] == pytest.approx(1050.0)
    reading._scans._conformed[digest] = replace(conformed, segmentation=seen)
    measured = reading.estimate(digest).as_dict()
    assert measured == found | {"ventricles": pytest.approx(8 * 0.512)}

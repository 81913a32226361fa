"""A scan's semantic code on the one road: encoded, moved, met half-way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_brainldm.engine.checkpoint import Checkpoint, load_checkpoint
from napari_brainldm.engine.codes import Code, meaning
from napari_brainldm.engine.imports.find import find
from napari_brainldm.engine.imports.write import write_found
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Between,
    EngineError,
    Request,
    Sampler,
    Scan,
    Seed,
    Through,
    Variation,
)
from napari_brainldm.engine.volume import Volume
from tests import foreign
from trainer.stages import directions

STEPS = Sampler("ddim", 6)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("ldae")
    # 32 x 32 pixels a slice, the least that the encoder can halve so often
    settings = foreign.LDAE_SETTINGS | {"latent_shape": [2, 16, 16, 8]}
    path = folder / "small.safetensors"
    for _ in write_found(find(foreign.save_ldae(folder / "files", settings)), path):
        pass
    return load_checkpoint(path)


@pytest.fixture
def renderer(checkpoint: Checkpoint) -> Renderer:
    return Renderer(checkpoint, "cpu", "float32")


def scan(renderer: Renderer, seed: int) -> str:
    """Admit a picture on the model's own grid, which is taken as prepared."""
    grid = renderer.card.grid
    data = np.random.default_rng(seed).random(grid.shape, np.float32)
    return renderer.admit(Volume(data, grid.matrix))


def shown(renderer: Renderer, request: Request) -> np.ndarray:
    return finish(renderer.render(request)).data


def test_moving_by_nothing_is_the_reconstruction(renderer: Renderer) -> None:
    own = Scan(scan(renderer, 0))
    rebuilt = shown(renderer, Request(origin=own, sampler=STEPS))
    still = Request(origin=own, shift=(("AD", 0.0),), sampler=STEPS)
    assert np.array_equal(shown(renderer, still), rebuilt)
    moved = Request(origin=own, shift=(("AD", 2.0),), sampler=STEPS)
    assert not np.allclose(shown(renderer, moved), rebuilt, atol=1e-4)


def test_a_scan_is_encoded_once(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, calls = Scan(scan(renderer, 0)), []
    read = Renderer._meant
    monkeypatch.setattr(Renderer, "_meant", lambda *a: calls.append(a[1]) or read(*a))
    for amount in (0.0, 1.0, 2.0):
        request = Request(origin=own, shift=(("AD", amount),), sampler=STEPS)
        shown(renderer, request)
    assert len(calls) == 1
    assert np.array_equal(calls[0], renderer.conformed(own.digest).volume.data)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_code_is_what_the_probes_were_fitted_to(
    checkpoint: Checkpoint, precision: str
) -> None:
    """They read 12 years too few from a code that bfloat16 had rounded."""
    renderer = Renderer(checkpoint, "cpu", precision)
    own = scan(renderer, 0)
    code = finish(renderer.encode(Scan(own), 0, renderer.compute)).semantic
    picture = renderer.conformed(own).volume.data[None]
    fitted = directions.encode(checkpoint, picture)
    np.testing.assert_allclose(code, fitted, rtol=1e-5, atol=1e-6)


def test_the_way_between_two_scans_begins_and_ends_with_them(
    renderer: Renderer,
) -> None:
    first, second = (Scan(scan(renderer, seed)) for seed in (0, 1))
    ends = [shown(renderer, Request(origin=s, sampler=STEPS)) for s in (first, second)]
    for fraction, end in zip((0.0, 1.0), ends, strict=True):
        request = Request(origin=Between(first, second, fraction), sampler=STEPS)
        np.testing.assert_allclose(shown(renderer, request), end, atol=2e-4)


def test_noise_alone_makes_a_picture_without_a_code(renderer: Renderer) -> None:
    first, second = (
        shown(renderer, Request(origin=Seed(n), sampler=STEPS)) for n in (0, 1)
    )
    assert first.shape == renderer.card.grid.shape
    assert not np.allclose(first, second)


def test_noise_is_moved_by_the_code_of_its_own_picture(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Amount 0 is the noise under the code of what it makes; that is made once."""
    plain = shown(renderer, Request(origin=Seed(4), sampler=STEPS))
    calls, read = [], Renderer._meant
    monkeypatch.setattr(Renderer, "_meant", lambda *a: calls.append(a[1]) or read(*a))
    amounts = (0.0, 1.0, 2.0)
    requests = [
        Request(origin=Seed(4), shift=(("AD", a),), sampler=STEPS) for a in amounts
    ]
    still, _, moved = (shown(renderer, request) for request in requests)
    assert len(calls) == 1
    assert np.array_equal(calls[0], plain)
    assert not np.allclose(still, plain, atol=1e-4)
    assert not np.allclose(still, moved, atol=1e-4)


def test_variations_share_the_code_and_invert_nothing(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Scan(scan(renderer, 0))
    monkeypatch.setattr(Renderer, "_invert", None)  # calling it would raise
    first, again, other = (
        shown(renderer, Request(origin=Variation(own, seed), sampler=STEPS))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    solver = Request(origin=Variation(own, 1), sampler=Sampler("dpm++2m", 6))
    assert shown(renderer, solver).shape == first.shape


def test_a_variation_is_told_in_json_and_back() -> None:
    request = Request(origin=Variation(Scan("ab" * 32), 7), shift=(("AD", 1.0),))
    assert Request.from_json(request.to_json()) == request


def test_what_has_no_code_cannot_be_moved() -> None:
    with pytest.raises(EngineError, match="A shift was asked for"):
        meaning(Code(torch.zeros(1, 2, 3, 3, 3)), "A shift")


def test_noise_is_not_guided(renderer: Renderer) -> None:
    with pytest.raises(EngineError, match="without dropped conditions"):
        shown(renderer, Request(guidance=2.0, sampler=STEPS))


def test_what_a_scan_cannot_do_is_told(renderer: Renderer) -> None:
    own = Scan(scan(renderer, 0))
    with pytest.raises(EngineError, match="'age' is not a direction"):
        shown(renderer, Request(origin=own, shift=(("age", 1.0),), sampler=STEPS))
    with pytest.raises(EngineError, match="without dropped conditions"):
        shown(renderer, Request(origin=own, guidance=3.0, sampler=STEPS))


def test_the_clamp_is_a_switch_of_the_card(checkpoint: Checkpoint) -> None:
    """Clamped inversion puts what it cut off into the noise, 100-fold."""
    free = replace(checkpoint.card, schedule=replace(checkpoint.card.schedule, clamp=0))
    spread = []
    for card in (checkpoint.card, free):
        renderer = Renderer(replace(checkpoint, card=card), "cpu", "float32")
        digest = scan(renderer, 0)
        code = finish(renderer.encode(Scan(digest), 6, renderer.compute))
        assert code.stochastic is not None
        spread.append(float(code.stochastic.std()))
    assert spread[0] > 5 * spread[1]


def test_codes_stay_where_the_file_says(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The encoder of the checkpoint, asked by itself, gives the code that is moved."""
    renderer = Renderer(checkpoint, "cpu", "float32")
    digest = scan(renderer, 3)
    code = finish(renderer.encode(Scan(digest), 0, renderer.compute)).semantic
    picture = torch.from_numpy(renderer.conformed(digest).volume.data)[None, None]
    with torch.no_grad():
        expected = checkpoint.semantic_encoder()(picture)
    assert torch.equal(code, expected)


@pytest.mark.parametrize("curve", ["piecewise", "smooth"])
def test_a_way_through_three_scans_meets_each(renderer: Renderer, curve: str) -> None:
    scans = tuple(Scan(scan(renderer, seed)) for seed in range(3))
    middle = shown(renderer, Request(origin=scans[1], sampler=STEPS))
    ages = (70.0, 72.0, 73.0)
    origin = Through(scans, ages, 72.0, curve)
    met = shown(renderer, Request(origin=origin, sampler=STEPS))
    np.testing.assert_allclose(met, middle, atol=2e-4)
    later = replace(origin, place=72.5)
    assert not np.allclose(shown(renderer, Request(origin=later, sampler=STEPS)), met)

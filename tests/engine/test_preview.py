"""Claims about previews: cheap pictures near the full ones, never in their place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_brainldm.engine.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from napari_brainldm.engine.networks.preview import (
    PreviewSpec,
    folded,
    neighbourhoods,
    unfolded,
)
from napari_brainldm.engine.preview import LinearMap
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Conditions, Request, Sampler
from tests.tiny import tiny_checkpoint

FEW = Request(sampler=Sampler("dpm++2m", 3))


def with_decoder() -> Checkpoint:
    checkpoint, spec = tiny_checkpoint(), PreviewSpec(8, 1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        weights = spec.build(checkpoint.card.autoencoder).state_dict()
    tensors = {f"preview.{k}": v for k, v in weights.items()}
    card = replace(checkpoint.card, preview=spec)
    return Checkpoint(card, {**checkpoint.tensors, **tensors})


@pytest.fixture
def renderer() -> Renderer:
    return Renderer(tiny_checkpoint(), "cpu", "float32")


def decodes(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every full decode from now on."""
    network, calls = renderer._autoencoder(), []
    plain = network.decode

    def counted(latent: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return plain(latent)

    monkeypatch.setattr(network, "decode", counted)
    return calls


@pytest.mark.parametrize("factor", [2, 4])
def test_folding_puts_every_voxel_where_its_latent_lies(factor):
    picture = torch.arange(factor**3 * 24.0).view(
        1, 1, 2 * factor, 3 * factor, 4 * factor
    )
    blocks = folded(picture, factor)
    assert blocks.shape == (1, factor**3, 2, 3, 4)
    corner = picture[0, 0, factor : 2 * factor, :factor, 2 * factor : 3 * factor]
    assert torch.equal(blocks[0, :, 1, 0, 2], corner.flatten())
    assert torch.equal(unfolded(blocks, factor), picture)


def test_a_linear_decoder_is_found_from_one_picture():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(27 * 2 + 1, 8, generator=generator)
    first, second = (torch.randn(1, 2, 6, 7, 8, generator=generator) for _ in "ab")

    def decoded(latent: torch.Tensor) -> torch.Tensor:
        blocks = (neighbourhoods(latent) @ truth).T.reshape(1, 8, 6, 7, 8)
        return unfolded(blocks, 2)

    learned = LinearMap(first, decoded(first))
    error = (learned(second) - decoded(second)).square().mean()
    assert error < 1e-3 * decoded(second).var()


def test_neighbourhoods_are_those_of_a_convolution():
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(1, 2, 4, 5, 6, generator=generator)
    weight = torch.randn(3, 2, 3, 3, 3, generator=generator)
    wanted = torch.nn.functional.conv3d(latent, weight, padding=1)
    found = neighbourhoods(latent)[:, :-1] @ weight.flatten(1).T
    assert torch.allclose(found.T.reshape(wanted.shape), wanted, atol=1e-5)


def test_without_a_decoder_there_is_no_preview_before_the_first_picture(renderer):
    x0s = [p.x0 for p in renderer.render(FEW) if p.x0 is not None]
    fresh = Renderer(tiny_checkpoint(), "cpu", "float32")
    assert fresh.preview(x0s[0]) is None
    assert renderer.preview(x0s[0]).grid == renderer.card.grid


def test_after_the_first_picture_sketches_decode_cheaply(renderer, monkeypatch):
    calls = decodes(renderer, monkeypatch)
    first = finish(renderer.sketch(FEW))
    assert len(calls) == 1  # nothing cheaper is known yet
    again = finish(renderer.sketch(FEW))
    assert len(calls) == 1
    assert again.data.std() > 0
    assert np.corrcoef(again.data.ravel(), first.data.ravel())[0, 1] > 0.3  # untrained


def test_a_checkpoint_with_a_decoder_never_decodes_a_sketch_in_full(monkeypatch):
    renderer = Renderer(with_decoder(), "cpu", "float32")
    calls = decodes(renderer, monkeypatch)
    older = Request(Conditions.of({"age": 80.0}), sampler=FEW.sampler)
    sketches = [finish(renderer.sketch(request)).data for request in (FEW, older)]
    assert not calls
    assert (sketches[0] != sketches[1]).any()


def test_a_preview_decoder_changes_no_full_picture():
    plain, quick = (
        finish(Renderer(c, "cpu", "float32").render(FEW))
        for c in (tiny_checkpoint(), with_decoder())
    )
    assert plain.digest == quick.digest


def test_the_preview_decoder_travels_with_the_checkpoint(tmp_path):
    checkpoint = with_decoder()
    save_checkpoint(checkpoint, tmp_path / "c.safetensors")
    loaded = load_checkpoint(tmp_path / "c.safetensors")
    first, second = (
        finish(Renderer(c, "cpu", "float32").sketch(FEW)) for c in (checkpoint, loaded)
    )
    assert first.digest == second.digest

"""GM-LDM's networks, and pictures asked for with functional connectivity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional

from napari_brainldm.engine.checkpoint import (
    Checkpoint,
    check_shapes,
    load_checkpoint,
    save_checkpoint,
)
from napari_brainldm.engine.contrast import difference
from napari_brainldm.engine.fnc import Fnc
from napari_brainldm.engine.fnc_edit import random
from napari_brainldm.engine.networks.gm_autoencoder import (
    GrayMatterAutoencoderSpec,
    Interpolation,
    interpolation_matrix,
)
from napari_brainldm.engine.networks.prior import PriorSpec
from napari_brainldm.engine.networks.voxel_space import VoxelSpec
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Request,
    Sampler,
    Scan,
    Seed,
)
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.tissue import gray_prior
from napari_brainldm.engine.volume import Volume
from tests.tiny import tiny_checkpoint, tiny_gm_ldm

if TYPE_CHECKING:
    from napari_brainldm.engine.networks.vit_denoiser import ViTDenoiser, ViTSpec

FEW = Sampler("dpm++2m", 3)


def fnc(seed: int, count: int = 5) -> Fnc:
    rng = np.random.default_rng(seed)
    return Fnc(rng.normal(0, 0.5, count * (count - 1) // 2).astype(np.float32))


def awake(spec: ViTSpec) -> ViTDenoiser:
    """The network with random weights everywhere, also where it begins at 0."""
    torch.manual_seed(0)
    network = spec.build().eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    return network


SMALL = tiny_gm_ldm().card.denoiser


# The autoencoder ----------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(12, 12), (7, 16), (20, 16), (24, 8)])
def test_interpolation_begins_linear_and_keeps_the_mean(before: int, after: int):
    weights = interpolation_matrix(before, after)
    torch.testing.assert_close(weights.sum(1), torch.ones(after))
    ramp = torch.arange(before, dtype=torch.float32)
    found = weights @ ramp
    known = functional.interpolate(
        ramp[None, None], after, mode="linear", align_corners=False
    )[0, 0]
    if before == after:
        assert torch.equal(weights, torch.eye(before))
    inner = slice(2, -2) if after > 4 else slice(None)
    # a coarser grid averages, and its voxels' centres are off by a few hundredths
    atol = 0.05 if after < before else 1e-4
    torch.testing.assert_close(found[inner], known[inner], atol=atol, rtol=1e-4)


def test_interpolation_goes_along_each_axis_by_itself() -> None:
    layer = Interpolation((5, 6, 7), (8, 6, 4))
    assert [tuple(w.shape) for w in layer.axes] == [(8, 5), (6, 6), (4, 7)]
    x = torch.randn(2, 1, 5, 6, 7)
    by_hand = torch.einsum("xi,yj,zk,bcijk->bcxyz", *layer.axes, x)
    torch.testing.assert_close(layer(x), by_hand, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16, 16), (13, 19, 9), (30, 17, 40)])
def test_any_shape_fits_one_core(shape: tuple[int, int, int]) -> None:
    spec = GrayMatterAutoencoderSpec(shape, (16, 16, 8), (4, 8), 3, 1, 4)
    network = spec.build()
    x = torch.rand(1, 1, *shape)
    mean, sd = network.encode(x)
    assert mean.shape[1:] == spec.latent_shape(shape) == (3, 8, 8, 4)
    assert (sd > 0).all()
    rebuilt, again, _ = network(x)
    assert rebuilt.shape == x.shape
    torch.testing.assert_close(again, mean)


def test_the_papers_latent_has_256_channels_at_an_eighth() -> None:
    spec = GrayMatterAutoencoderSpec()
    assert spec.latent_shape(spec.shape) == (256, *(n // 8 for n in spec.core))
    with torch.device("meta"), pytest.raises(ValueError, match="no multiple of 8"):
        replace(spec, core=(121, 144, 128)).build()


# The denoiser -------------------------------------------------------------------------


def test_connectivity_time_and_place_are_heard() -> None:
    network = awake(SMALL)
    x, t = torch.randn(1, 4, 4, 4, 4), torch.tensor([400.0])
    one = torch.randn(1, 10)
    with torch.no_grad():
        base = network(x, t, one)
        other = one.clone()
        other[0, 3] += 1.0
        assert base.shape == x.shape
        assert (network(x, t, other) - base).abs().max() > 1e-4
        assert (network(x, torch.tensor([5.0]), one) - base).abs().max() > 1e-4
        turned = network(x.flip(2), t, one).flip(2)
        assert (turned - base).abs().max() > 1e-4


def test_dropped_connectivity_is_not_that_of_the_mean() -> None:
    network = awake(SMALL)
    x, t = torch.randn(2, 4, 4, 4, 4), torch.tensor([9.0, 800.0])
    nothing = torch.full((2, 10), torch.nan)
    with torch.no_grad():
        dropped = network(x, t, None)
        torch.testing.assert_close(network(x, t, nothing), dropped)
        assert (network(x, t, torch.zeros(1, 10)) - dropped).abs().max() > 1e-4
        # each sample for itself
        mixed = torch.cat([nothing[:1], torch.ones(1, 10)])
        torch.testing.assert_close(
            network(x, t, mixed)[:1], dropped[:1], atol=1e-5, rtol=1e-5
        )


def test_a_fresh_network_answers_what_its_prior_knows() -> None:
    spec = replace(SMALL, prior=PriorSpec(2, (4, 4, 4), 10), prior_codes=3)
    network = spec.build().eval()
    x, t = torch.randn(1, 4, 4, 4, 4), torch.tensor([4.0])
    assert not replace(spec, prior=None).build()(x, t, torch.ones(1, 10)).any()
    with torch.no_grad():
        network.prior.compress.normal_()
        network.prior.gaussian.slopes.normal_()
        moved = network(x, t, torch.ones(1, 10)) - network(x, t, None)
        assert moved.abs().max() > 1e-3
        torch.testing.assert_close(
            network(x, t, torch.full((1, 10), torch.nan)), network(x, t, None)
        )


def test_the_network_is_built_without_numbers_and_filled() -> None:
    weights = awake(SMALL).state_dict()
    with torch.device("meta"):
        empty = SMALL.build()
    empty.load_state_dict(weights, strict=True, assign=True)
    x, t = torch.randn(1, 4, 4, 4, 4), torch.tensor([1.0])
    assert empty.eval()(x, t, torch.ones(1, 10)).isfinite().all()


# Pictures -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = tmp_path_factory.mktemp("gm") / "tiny.safetensors"
    save_checkpoint(tiny_gm_ldm(), path)
    return load_checkpoint(path)


@pytest.fixture
def renderer(checkpoint: Checkpoint) -> Renderer:
    return Renderer(checkpoint, "cpu", "float32")


def test_a_checkpoint_keeps_what_it_knows_of_connectivity(checkpoint: Checkpoint):
    before = tiny_gm_ldm()
    assert checkpoint.card == before.card
    drawn = random(checkpoint.fnc_law(), 1)
    assert drawn.digest == random(before.fnc_law(), 1).digest
    lost = {k: v for k, v in before.tensors.items() if k != "fnc.rest"}
    with pytest.raises(EngineError, match=r"fnc\.rest"):
        check_shapes("x", before.card, lost)


def test_equal_connectivity_gives_a_difference_of_exactly_0(renderer: Renderer):
    digests = {renderer.fnc.admit(fnc(1)), renderer.fnc.admit(fnc(1))}
    assert len(digests) == 1
    request = Request(Conditions(fnc=digests.pop()), Seed(4), sampler=FEW)
    first, second = (finish(renderer.render(request)) for _ in range(2))
    assert first.data.shape == (20, 24, 20)
    assert np.abs(difference(first, second).data).max() == 0


def test_other_connectivity_gives_another_map(renderer: Renderer) -> None:
    pictures = []
    for one in (fnc(1), fnc(2)):
        digest = renderer.fnc.admit(one)
        request = Request(Conditions(fnc=digest), Seed(4), sampler=FEW)
        pictures.append(finish(renderer.render(request)))
    assert np.abs(difference(*pictures).data).max() > 1e-4


def test_no_connectivity_is_the_mean_of_the_training(renderer: Renderer) -> None:
    mean = renderer.fnc.admit(Fnc(renderer.checkpoint.fnc_law().mean))
    asked = Request(origin=Seed(4), sampler=FEW)
    resolved = renderer.resolve(asked)
    assert resolved.conditions.fnc == mean
    assert np.array_equal(
        finish(renderer.render(asked)).data, finish(renderer.render(resolved)).data
    )
    # guidance 0 asks for no condition at all, which is another thing
    nothing = finish(renderer.render(replace(asked, guidance=0.0)))
    assert np.abs(nothing.data - finish(renderer.render(asked)).data).max() > 1e-4


def test_a_request_with_connectivity_comes_back_from_json() -> None:
    own = Scan("abc", Conditions(fnc="feed"))
    request = Request(Conditions.of({"age": 3.0}), own)
    request = replace(request, conditions=replace(request.conditions, fnc="beef"))
    assert Request.from_json(request.to_json()) == request
    assert request.conditions.with_values({"age": 4.0}).fnc == "beef"
    # without connectivity a request is written as it always was
    assert '"fnc"' not in Request().to_json()


def test_connectivity_that_is_not_known_gets_a_sentence(renderer: Renderer) -> None:
    request = Request(Conditions(fnc="0" * 64), sampler=FEW)
    with pytest.raises(EngineError, match=r"000000000000\.\.\.\) that is not loaded"):
        finish(renderer.render(request))
    with pytest.raises(EngineError, match="6 components; Tiny GM-LDM knows 5"):
        renderer.fnc.admit(fnc(1, 6))
    other = Renderer(tiny_checkpoint(), "cpu", "float32")
    with pytest.raises(EngineError, match="Load a GM-LDM checkpoint"):
        other.fnc.admit(fnc(1))
    with pytest.raises(EngineError, match="knows no functional connectivity"):
        other.resolve(request)


def test_a_gray_matter_map_is_encoded_as_it_is(renderer: Renderer) -> None:
    grid = renderer.card.grid
    own = Volume(gray_prior(grid), grid.matrix)
    digest = renderer.admit(own)
    found = renderer.conformed(digest)
    np.testing.assert_allclose(found.volume.data, resample(own, grid), atol=1e-6)
    assert found.method == "gray matter"
    request = Request(origin=Scan(digest), sampler=Sampler("ddim", 4))
    assert np.isfinite(finish(renderer.render(request)).data).all()


def test_a_preview_of_a_small_map_is_the_map(renderer: Renderer) -> None:
    request = Request(origin=Seed(1), sampler=FEW)
    full = finish(renderer.render(request))
    assert np.array_equal(finish(renderer.sketch(request)).data, full.data)


def test_a_model_of_voxels_makes_pictures_of_any_shape(tmp_path: Path) -> None:
    held = tiny_gm_ldm()
    spec = replace(
        held.card.denoiser, latent_channels=1, grid=held.card.grid.shape, patch=8
    )
    card = replace(held.card, autoencoder=VoxelSpec(1), denoiser=spec)
    assert spec.token_grid == (3, 3, 3)
    kept = {k: v for k, v in held.tensors.items() if k.startswith("fnc.")}
    kept |= {f"denoiser.{k}": v for k, v in awake(spec).state_dict().items()}
    path = tmp_path / "voxels.safetensors"
    save_checkpoint(Checkpoint(card, kept), path)
    found = load_checkpoint(path)
    assert found.card == card
    picture = finish(Renderer(found, "cpu", "float32").render(Request(sampler=FEW)))
    assert picture.data.shape == (20, 24, 20) and picture.data.std() > 0

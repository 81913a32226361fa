"""Attention is read off, not interfered with, and is told for what it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_brainldm.engine.attention import (
    Attended,
    Watch,
    attended,
    attention,
    token_blocks,
)
from napari_brainldm.engine.components import Component
from napari_brainldm.engine.fnc import Fnc
from napari_brainldm.engine.heat import pairs_of
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.saliency import randomised, sanity
from tests.engine.test_saliency import ASKED, KNOWN, halves, renderer, somebody
from tests.tiny import tiny_checkpoint, tiny_gm_ldm

__all__ = ["halves", "renderer", "somebody"]  # fixtures

BLOCKS = pairs_of(KNOWN)


@pytest.fixture(scope="module")
def network():
    return tiny_gm_ldm().denoiser()


def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 4, 4, 4, generator=generator)
    return x, torch.tensor([300, 20]), torch.randn(2, 10, generator=generator)


def test_the_weights_are_those_that_the_layer_computes_with(network) -> None:
    """Weights times values is what torch's fused attention gives the layer."""
    seen: dict[str, torch.Tensor] = {}
    layer = network.decoder[0]
    hooks = [
        layer.query.register_forward_hook(lambda *a: seen.update(query=a[2])),
        layer.key_value.register_forward_hook(lambda *a: seen.update(kv=a[2])),
        layer.crossed.register_forward_hook(lambda *a: seen.update(joined=a[1][0])),
    ]
    with torch.no_grad():
        network(*given())
    for hook in hooks:
        hook.remove()
    keys, values = seen["kv"].chunk(2, dim=2)
    width = values.shape[2] // network.spec.heads
    for head in range(network.spec.heads):
        part = slice(head * width, (head + 1) * width)
        alone = attention(seen["query"][..., part], keys[..., part], 1)
        expected = seen["joined"][..., part]
        torch.testing.assert_close(alone @ values[..., part], expected)
    weights = attention(seen["query"], keys, network.spec.heads)
    torch.testing.assert_close(weights.sum(2), torch.ones(weights.shape[:2]))


def test_watching_changes_nothing_and_leaves_nothing(network) -> None:
    blocks = token_blocks(network.spec, KNOWN, BLOCKS)
    with torch.no_grad():
        before = network(*given())
        watch = Watch(network, blocks)
        with watch.on():
            during = network(*given())
        assert watch.count == network.spec.decoder_blocks
        after = network(*given())
    assert torch.equal(before, during) and torch.equal(before, after)
    assert watch.count == network.spec.decoder_blocks  # no longer watched
    assert not network.decoder[0].query._forward_hooks


def test_without_a_condition_nothing_is_attended_to(network) -> None:
    x, t, _ = given()
    watch = Watch(network, token_blocks(network.spec, KNOWN, BLOCKS))
    with torch.no_grad(), watch.on():
        network(x, t, None)
    assert watch.count == 0 and watch.whole == 0.0


def test_tokens_stand_for_the_cells_they_lie_over(network) -> None:
    deep, first = token_blocks(network.spec, KNOWN, BLOCKS)
    assert (len(first), len(deep)) == (3 * 3 + 1, 2 * 2 + 1)
    assert not first[-1].any() and not deep[-1].any()
    # components 3 and 4 of domain B, place (1, 1): four cells, two on the diagonal
    assert first[1 * 3 + 1].tolist() == [0, 0, 0, 0.5, 0]
    # A against B, place (0, 1), and its mirror image
    assert first[1].tolist() == first[3].tolist() == [0, 1, 0, 0, 0]


def test_even_attention_is_zero(network) -> None:
    """A network whose keys are all alike attends evenly."""
    flat = tiny_gm_ldm().denoiser()
    with torch.no_grad():
        for layer in flat.decoder:
            layer.key_value.weight.zero_()
        watch = Watch(flat, token_blocks(flat.spec, KNOWN, BLOCKS))
        with watch.on():
            flat(*given())
    np.testing.assert_allclose(watch.ratio, 1, rtol=1e-5)
    assert watch.whole == pytest.approx((1 / 10 + 1 / 5) / 2)


def test_a_table_of_attention_is_told_as_descriptive(
    renderer, somebody, halves
) -> None:
    found = finish(attended(renderer, ASKED, somebody, KNOWN, halves, seeds=2))
    assert isinstance(found, Attended)
    assert found.maps.shape == (len(BLOCKS), *renderer.card.grid.shape)
    half = found.maps.shape[1] // 2
    by_hand = found.maps[:, :half].mean((1, 2, 3))
    np.testing.assert_allclose(found.table[:, 0], by_hand, atol=1e-6)
    assert found.maps.min() >= -1 and np.ptp(found.table) > 0
    assert found.told().startswith("Descriptive")
    assert 0 < found.whole < 1
    guided = replace(ASKED, guidance=2.0)
    again = finish(attended(renderer, guided, somebody, KNOWN, halves))
    assert np.isfinite(again.table).all()


def test_randomised_weights_attend_otherwise(renderer, somebody, halves) -> None:
    found = finish(attended(renderer, ASKED, somebody, KNOWN, halves))
    other = Renderer(randomised(renderer.checkpoint), "cpu", "float32")
    shuffled = finish(attended(other, ASKED, somebody, KNOWN, halves))
    assert abs(sanity(found.table, shuffled.table).spearman) < 1


def test_in_half_precision_the_table_is_nearly_the_same(
    renderer, somebody, halves
) -> None:
    known = finish(attended(renderer, ASKED, somebody, KNOWN, halves))
    half = Renderer(renderer.checkpoint, "cpu", "bfloat16")
    found = finish(attended(half, ASKED, somebody, KNOWN, halves))
    np.testing.assert_allclose(found.table, known.table, atol=0.1)


def test_a_model_without_connectivity_attends_to_nothing(halves) -> None:
    plain = Renderer(tiny_checkpoint(), "cpu", "float32")
    fnc = Fnc(np.zeros(10, np.float32))
    with pytest.raises(EngineError, match="knows no functional connectivity"):
        finish(attended(plain, ASKED, fnc, (Component(1, "a", "A"),), halves))

"""One file per model, loaded strictly: what is not exactly one is refused."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from napari_brainldm.engine.checkpoint import (
    FORMAT,
    HEADER,
    Checkpoint,
    describe,
    file_sha256,
    load_checkpoint,
    save_checkpoint,
)
from napari_brainldm.engine.frozen import to_plain
from napari_brainldm.engine.request import Conditions, EngineError
from tests.tiny import tiny_checkpoint


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(tiny_checkpoint(), path)
    return path


def test_a_checkpoint_comes_back_as_it_was(saved):
    before, after = tiny_checkpoint(), load_checkpoint(saved)
    assert after.card == before.card
    assert after.sha256 == file_sha256(saved)
    for name, tensor in before.tensors.items():
        torch.testing.assert_close(after.tensors[name], tensor, rtol=0, atol=0)


def test_sixteen_bit_weights_halve_the_file_and_come_back_as_float32(saved, tmp_path):
    half = tmp_path / "half.safetensors"
    save_checkpoint(tiny_checkpoint(), half, torch.float16)
    assert half.stat().st_size < 0.6 * saved.stat().st_size
    tensors = load_checkpoint(half).tensors
    assert {t.dtype for t in tensors.values()} == {torch.float32}


def test_saving_twice_gives_the_same_bytes(saved, tmp_path):
    sums = {save_checkpoint(tiny_checkpoint(), tmp_path / f"{n}") for n in range(8)}
    assert sums == {file_sha256(saved)}


def test_saving_leaves_no_temporary_file(saved):
    assert [p.name for p in saved.parent.iterdir()] == ["tiny.safetensors"]


def refused(path) -> str:
    with pytest.raises(EngineError) as caught:
        load_checkpoint(path)
    sentence = str(caught.value)
    assert path.name in sentence
    assert sentence.endswith(".")
    return sentence


def test_a_missing_file_is_named(tmp_path):
    assert "There is no checkpoint" in refused(tmp_path / "none.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    assert "not a readable .safetensors" in refused(saved)


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    assert f"without a {FORMAT} card" in refused(path)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    path = tmp_path / "picture.safetensors"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500))
    assert "not a readable" in refused(path)


def rewritten(path, card=None, tensors=None):
    """The tiny checkpoint with another card or tensors, written past the checks."""
    tiny = tiny_checkpoint()
    plain = {"format": FORMAT, "card": card or to_plain(tiny.card)}
    header = {HEADER: json.dumps(plain)}
    held = tiny.tensors if tensors is None else tensors
    save_file(dict(held), path, metadata=header)
    return path


def test_an_unknown_kind_asks_for_an_update(tmp_path):
    card = to_plain(replace(tiny_checkpoint().card, kind="time-machine"))
    sentence = refused(rewritten(tmp_path / "x.safetensors", card))
    assert "'time-machine'" in sentence
    assert "Update" in sentence


def test_an_unknown_entry_of_the_card_is_named(tmp_path):
    card = to_plain(tiny_checkpoint().card) | {"mood": "good"}
    assert "'mood'" in refused(rewritten(tmp_path / "x.safetensors", card))


def test_networks_that_cannot_be_built_are_refused(tmp_path):
    card = to_plain(tiny_checkpoint().card)
    card["autoencoder"]["groups"] = 7
    sentence = refused(rewritten(tmp_path / "x.safetensors", card))
    assert "cannot be built" in sentence


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_that_do_not_fit_the_card_are_refused(tmp_path, change):
    tensors = dict(tiny_checkpoint().tensors)
    name = "denoiser.unet.out.2.conv.bias"
    assert name in tensors
    if change == "missing":
        del tensors[name]
    elif change == "extra":
        tensors["denoiser.more"] = torch.zeros(1)
    else:
        tensors[name] = torch.zeros(5)
    sentence = refused(rewritten(tmp_path / "x.safetensors", tensors=tensors))
    assert "does not hold the weights its card describes: 1 tensors" in sentence


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path, value):
    tensors = dict(tiny_checkpoint().tensors)
    name = "autoencoder.encoder.blocks.0.conv.bias"
    tensors[name] = torch.full_like(tensors[name], value)
    sentence = refused(rewritten(tmp_path / "x.safetensors", tensors=tensors))
    assert name in sentence


def test_a_tensor_named_twice_is_refused(saved):
    """safetensors itself loads such a file without a word."""
    content = saved.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].decode().rstrip()
    first = next(k for k in json.loads(header) if k != "__metadata__")
    entry = json.dumps(json.loads(header)[first])
    doubled = header[:-1] + f',"{first}":{entry}}}'
    doubled += " " * (-len(doubled) % 8)
    head = len(doubled).to_bytes(8, "little") + doubled.encode()
    saved.write_bytes(head + content[8 + length :])
    assert "twice" in refused(saved)


def test_random_damage_gives_our_error_or_a_checkpoint(saved):
    """500 mutations of the header region, where structure lives; never a crash."""
    content = saved.read_bytes()
    header = int.from_bytes(content[:8], "little") + 8
    draw = random.Random(1)
    for _ in range(500):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 8)):
            damaged[draw.randrange(header)] = draw.randrange(256)
        saved.write_bytes(damaged)
        try:
            load_checkpoint(saved)
        except EngineError as error:
            assert str(error)


def test_an_autoencoder_alone_says_it_cannot_make_pictures():
    tiny = tiny_checkpoint()
    card = replace(tiny.card, kind="autoencoder", denoiser=None)
    with pytest.raises(EngineError, match="autoencoder only"):
        Checkpoint(card, tiny.tensors).denoiser()


def test_the_description_is_plain_json(saved):
    plain = json.loads(json.dumps(describe(load_checkpoint(saved))))
    assert plain["vocabulary"][2]["unit"] == "ml"
    assert plain["sha256"] == file_sha256(saved)


def test_the_condition_vector_is_min_max_normalised_in_the_order_of_the_card():
    card = tiny_checkpoint().card
    asked = Conditions.of({"brain": 1500, "age": 55, "sex": "M", "ventricles": 97})
    assert card.vector(asked) == pytest.approx((0.5, 1.0, 1.5, 1.0))
    assert card.covariate("ventricles").extrapolates(97)
    assert not card.covariate("ventricles").extrapolates(67)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"agee": 3}, "'agee' is not a condition of Tiny"),
        ({"sex": "X"}, "knows F, M"),
        ({"age": "old"}, "a number is needed, 20 to 90 years"),
        ({"age": float("nan")}, "a number is needed"),
    ],
)
def test_a_wrong_condition_gets_a_sentence(given, sentence):
    with pytest.raises(EngineError, match=sentence):
        tiny_checkpoint().card.vector(Conditions.of(given))


@pytest.mark.parametrize("value", [20.0, 41.5, 120.0])
def test_decoding_a_code_returns_the_value(value):
    age = tiny_checkpoint().card.covariate("age")
    assert age.decode(age.encode(value)) == pytest.approx(value)


def test_a_network_does_not_change_with_its_file(tmp_path):
    """Somebody may copy another file over one that is open."""
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(tiny_checkpoint(), path)
    network = load_checkpoint(path).autoencoder()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    path.write_bytes(b"\0" * path.stat().st_size)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())

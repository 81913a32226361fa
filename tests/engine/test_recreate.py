"""Claims about pictures that are made again from their sidecars."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from napari_brainldm.engine.export import export
from napari_brainldm.engine.recreate import check_model, read_sidecar, verdict
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Request,
    Sampler,
    Seed,
)
from tests.tiny import tiny_checkpoint

REQUEST = Request(
    Conditions.of({"age": 71.5, "sex": "M"}), Seed(3), sampler=Sampler("dpm++2m", 2)
)


@pytest.fixture
def renderer() -> Renderer:
    checkpoint = replace(tiny_checkpoint(), sha256="ab" * 32)
    return Renderer(checkpoint, "cpu", "float32")


@pytest.fixture
def sidecar(renderer, tmp_path):
    picture = finish(renderer.render(REQUEST))
    path = export(renderer, REQUEST, picture, tmp_path, "one")
    return path.with_name(path.name.replace(".nii.gz", ".json"))


def test_the_same_model_makes_the_same_bits_again(renderer, sidecar):
    found = read_sidecar(sidecar)
    check_model(found, renderer)
    picture = finish(renderer.render(found.request))
    assert verdict(found, picture, renderer).startswith("Re-created: the same voxels")


def test_what_differs_is_named(renderer, sidecar):
    plain = json.loads(sidecar.read_text())
    plain["Versions"]["torch"] = "1.0"
    plain["PictureSha256"] = "0" * 64
    sidecar.write_text(json.dumps(plain))
    found = read_sidecar(sidecar)
    words = verdict(found, finish(renderer.render(found.request)), renderer)
    assert "torch 1.0 then" in words
    assert "device" not in words


def test_an_edited_sidecar_is_found_out(renderer, sidecar):
    found = replace(read_sidecar(sidecar), picture_sha256="0" * 64)
    words = verdict(found, finish(renderer.render(found.request)), renderer)
    assert "or the sidecar was edited" in words


def test_another_checkpoint_is_refused_by_name(renderer, sidecar):
    found = replace(read_sidecar(sidecar), checkpoint_sha256="cd" * 32)
    with pytest.raises(EngineError, match=r"Tiny.*cdcdcd.*Open that checkpoint first"):
        check_model(found, renderer)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Request": 3}', "\x00"])
def test_files_that_are_no_sidecars_are_told_apart(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(EngineError, match=r"other\.json is not the sidecar"):
        read_sidecar(path)
    with pytest.raises(EngineError, match=r"missing\.json is not the sidecar"):
        read_sidecar(tmp_path / "missing.json")

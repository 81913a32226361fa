"""A picture on disk tells everything needed to make it again."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import metadata

import nibabel as nib
import numpy as np
import pytest

from napari_brainldm.engine.checkpoint import load_checkpoint, save_checkpoint
from napari_brainldm.engine.export import (
    DESCRIPTION,
    MARK,
    export,
    export_difference,
    marked,
    record,
    write_picture,
)
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Request,
    Sampler,
    Seed,
)
from napari_brainldm.engine.scan_file import load_volume, read_mark
from tests.tiny import tiny_checkpoint

REQUEST = Request(
    Conditions.of({"age": 71.5, "ventricles": 80.0}),
    Seed(2**40 + 3),
    sampler=Sampler("ddim", 3, 0.4),
    guidance=1.5,
)


@pytest.fixture(scope="module")
def renderer(tmp_path_factory) -> Renderer:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(tiny_checkpoint(), path)
    return Renderer(load_checkpoint(path), "cpu", "float32")


def test_the_record_holds_request_checkpoint_device_and_versions(renderer):
    picture = finish(renderer.render(REQUEST))
    told = record(renderer, REQUEST, picture)
    assert told["Checkpoint"] == {
        "name": "Tiny",
        "sha256": renderer.checkpoint.sha256,
    }
    assert len(renderer.checkpoint.sha256) == 64
    assert told["PictureSha256"] == picture.digest
    assert told["Device"] == "cpu"
    assert told["Versions"]["torch"] == metadata.version("torch")
    assert set(told["Versions"]) == {"python", "torch", "monai", "numpy", "safetensors"}
    assert told["Request"]["precision"] == "float32"
    assert told["Request"]["conditions"]["sex"] == "F"  # what was left out, too
    assert told["OutOfTrainingRange"] == ["ventricles"]
    assert told["Notice"] == renderer.card.provenance.notice
    assert "Scan" not in told


def test_the_sidecar_makes_the_picture_again(renderer, tmp_path):
    picture = finish(renderer.render(REQUEST))
    path = export(renderer, REQUEST, picture, tmp_path, "one")
    told = json.loads((tmp_path / f"one_{MARK}_T1w.json").read_text())
    request = Request.from_json(json.dumps(told["Request"]))
    other = Renderer(renderer.checkpoint, "cpu")
    assert finish(other.render(request)).digest == told["PictureSha256"]
    assert load_volume(path).digest == told["PictureSha256"]


def test_the_mark_stands_in_four_places(renderer, tmp_path):
    picture = finish(renderer.render(REQUEST))
    path = export(renderer, REQUEST, picture, tmp_path / "a" / "b", "one")
    assert MARK in path.name
    assert bytes(nib.load(path).header["descrip"]).rstrip(b"\0").decode() == DESCRIPTION
    text = path.with_name(path.name.replace(".nii.gz", ".json")).read_text()
    assert json.loads(text)["Synthetic"] is True
    assert read_mark(path) == text
    assert marked(marked("x")) == f"x_{MARK}"


def test_a_difference_is_signed_and_names_both_requests(renderer, tmp_path):
    second = replace(REQUEST, conditions=Conditions.of({"age": 30.0}))
    pictures = tuple(finish(renderer.render(r)) for r in (REQUEST, second))
    path = export_difference(renderer, (REQUEST, second), pictures, tmp_path, "d")
    data = load_volume(path).data
    np.testing.assert_array_equal(data, pictures[0].data - pictures[1].data)
    assert data.min() < 0 < data.max()
    told = json.loads(read_mark(path))["Derived"]
    ages = [r["conditions"]["age"] for r in told["requests"]]
    assert (told["operation"], ages) == ("difference", [71.5, 30.0])


def test_a_place_that_cannot_be_written_gets_a_sentence(renderer, tmp_path):
    (tmp_path / "file").write_text("")
    picture = finish(renderer.render(REQUEST))
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(EngineError, match="Choose a folder you may write to"):
            write_picture(picture, {}, folder, "one")

"""A picture on disk tells everything needed to make it again."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import metadata

import nibabel as nib
import numpy as np
import pytest

from napari_brainldm.engine import convention as road
from napari_brainldm.engine.checkpoint import load_checkpoint, save_checkpoint
from napari_brainldm.engine.conform import Conformed, Preparation, Quality
from napari_brainldm.engine.export import (
    DESCRIPTION,
    MARK,
    export,
    export_difference,
    export_scan,
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
    Scan,
    Seed,
)
from napari_brainldm.engine.resample import inverse, resample
from napari_brainldm.engine.scan_file import load_volume, read_mark
from napari_brainldm.engine.volume import Volume
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


# Scans --------------------------------------------------------------------------------


def to_scan() -> np.ndarray:
    """MNI mm -> scan mm: a turn about z and a shift."""
    rigid = np.eye(4)
    rigid[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    rigid[:3, 3] = 7, -20, 11
    return rigid


@pytest.fixture
def scanned(renderer, monkeypatch) -> tuple[Renderer, Volume, list]:
    """A renderer with an admitted scan that is placed as `to_scan` says."""
    asked = []

    def conform(scan, grid, percentile, **options):
        asked.append(options)
        data = resample(scan, grid, to_scan())
        placed, brain = Volume(data, grid.matrix), np.ones(grid.shape, bool)
        told = (("Placed.",), "segmenter 0123", options["n4"])
        quality = Quality(0.9, 0.8, 0.7)
        return Conformed(placed, brain, to_scan(), 1.0, quality, *told)

    monkeypatch.setattr(road, "conform", conform)
    affine = to_scan() @ np.diag([-5.0, 6.0, 4.5, 1.0])
    affine[:3, 3] = 60, -90, -50
    data = np.random.default_rng(5).random((30, 32, 28), dtype=np.float32)
    return Renderer(renderer.checkpoint, "cpu", "float32"), Volume(data, affine), asked


def rebuilt(renderer, digest) -> tuple[Request, Volume]:
    request = Request(Conditions(), Scan(digest), (), Sampler("ddim", 2))
    return request, finish(renderer.render(request))


def test_the_sidecar_of_a_scan_tells_what_was_done(scanned, tmp_path):
    renderer, scan, asked = scanned
    digest = renderer.admit(scan, Preparation(n4=True))
    path = export_scan(renderer, digest, tmp_path, "s")
    told = json.loads(read_mark(path))
    quality = told["Scan"]["Quality"]
    assert quality == pytest.approx(
        {"figure": (0.9 * 0.8 * 0.7) ** (1 / 3)}
        | {"overlap": 0.9, "likeness": 0.8, "coverage": 0.7}
    )
    assert told["Scan"]["Steps"] == ["Placed."]
    assert told["Scan"]["BrainFoundBy"] == "segmenter 0123"
    assert told["Scan"]["N4"] is True
    assert np.allclose(told["Scan"]["MniToScan"], to_scan())
    assert (told["Space"], told["Synthetic"]) == ("mni", False)
    assert (asked[0]["n4"], asked[0]["strip"]) == (True, "built-in")


def test_another_preparation_conforms_the_scan_anew(scanned):
    renderer, scan, asked = scanned
    digest = renderer.admit(scan)
    renderer.conformed(digest)
    renderer.admit(scan)
    renderer.conformed(digest)
    assert len(asked) == 1
    renderer.admit(scan, Preparation(n4=True))
    renderer.admit(scan)  # says nothing: it stays as it was prepared
    renderer.conformed(digest)
    assert [options["n4"] for options in asked] == [False, True]


def test_an_edit_is_written_in_the_scans_own_voxels(scanned, tmp_path):
    renderer, scan, _ = scanned
    request, picture = rebuilt(renderer, renderer.admit(scan))
    path = export(renderer, request, picture, tmp_path, "s", "scan")
    assert path.name == f"s_space-scan_{MARK}_T1w.nii.gz"
    image = nib.load(path)
    assert image.shape == scan.data.shape
    assert np.allclose(image.affine, scan.affine)
    assert int(image.header["sform_code"]) == 1  # scanner
    told = json.loads(read_mark(path))
    assert told["Space"] == "scan"
    assert told["PictureSha256"] == picture.digest  # of what the request makes
    assert told["WrittenSha256"] == load_volume(path).digest
    wanted = resample(picture, scan.grid, inverse(to_scan()), order=3)
    written = np.asarray(image.dataobj)
    assert np.corrcoef(written.ravel(), wanted.ravel())[0, 1] > 0.99


def test_difference_and_scan_go_the_same_way(scanned, tmp_path):
    renderer, scan, _ = scanned
    digest = renderer.admit(scan)
    request, picture = rebuilt(renderer, digest)
    pair = (request, request), (picture, Volume(0 * picture.data, picture.affine))
    paths = (
        export_scan(renderer, digest, tmp_path, "s", "scan"),
        export_difference(renderer, *pair, tmp_path, "d", "scan"),
    )
    for path in paths:
        assert "_space-scan_" in path.name
        assert np.allclose(nib.load(path).affine, scan.affine)


def test_a_picture_without_a_scan_has_no_own_space(renderer, tmp_path):
    picture = finish(renderer.render(REQUEST))
    with pytest.raises(EngineError, match="does not start from one scan"):
        export(renderer, REQUEST, picture, tmp_path, "one", "scan")
    with pytest.raises(EngineError, match="no space to write in"):
        export(renderer, REQUEST, picture, tmp_path, "one", "talairach")
    assert not list(tmp_path.iterdir())

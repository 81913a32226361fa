"""`brainldm segment` and `measure`: label maps, tables, sentences, no one's name."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from napari_brainldm import cli
from napari_brainldm.commands.scans import COLUMNS
from napari_brainldm.engine import finding
from napari_brainldm.engine.checkpoint import (
    file_sha256,
    load_checkpoint,
    save_checkpoint,
)
from napari_brainldm.engine.measure import measure
from napari_brainldm.engine.networks.segmenter import STRUCTURES
from napari_brainldm.engine.quality import Quality
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.scan_file import load_volume, save_volume
from napari_brainldm.engine.segment import Segmenter
from napari_brainldm.engine.volume import Volume
from tests.tiny import hard, tiny_checkpoint, tiny_segmenter

SECRET = "Hildegard_von-Bingen"
GRID = tiny_segmenter().card.grid  # 40 x 48 x 40 voxels of 0.064 ml
QUALITY = Quality(0.9, 0.8, 0.7)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("segmenter") / "tiny.safetensors"
    save_checkpoint(tiny_segmenter(), path)
    return path


def to_scan() -> np.ndarray:
    """A quarter turn about the long axis and a shift: MNI mm -> scan mm."""
    turn = np.eye(4)
    turn[:2, :2] = (0, -1), (1, 0)
    turn[:3, 3] = (12.0, -7.0, 30.0)
    return turn


def planted():
    """A ventricle of 40 voxels on the left, a hippocampus of 60 on the right."""
    labels = np.zeros(GRID.shape, int)
    labels[10:12, 20:25, 20:24] = 4
    labels[25:28, 20:25, 20:24] = 53
    return hard(labels, GRID, STRUCTURES, "planted")


@pytest.fixture
def placed(monkeypatch):
    """Placement takes seconds and is tested elsewhere: here it is known beforehand."""

    def conform(scan, grid, template, segmenter=None):
        if scan.data.max() == 0:
            raise EngineError("The scan does not look like a brain. Choose another.")
        found = planted() if segmenter else None
        return SimpleNamespace(
            segmentation=found, to_scan=to_scan(), quality=QUALITY, steps=("Turned.",)
        )

    monkeypatch.setattr(finding, "conform", conform)


def a_scan(path: Path, value: float = 1.0) -> Path:
    """A file whose name and header tell who it is; its axes are MNI's, turned."""
    data = value * np.random.default_rng(0).random(GRID.shape, dtype=np.float32)
    image = nib.Nifti1Image(data, to_scan() @ GRID.matrix)
    image.header["descrip"] = SECRET
    image.header["db_name"] = SECRET[:17]
    path.parent.mkdir(exist_ok=True)
    nib.save(image, path)
    return path


@pytest.fixture
def scan(tmp_path) -> Path:
    return a_scan(tmp_path / SECRET / f"{SECRET}.nii.gz")


def run(capsys, *words) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    status = 0
    try:
        cli.main([str(word) for word in words])
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out, err


def refused(capsys, *words) -> str:
    """The one sentence of a command that cannot be done at all."""
    status, out, err = run(capsys, *words)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    return err


# Segment ------------------------------------------------------------------------------


@pytest.fixture
def written(scan, placed, weights, tmp_path, capsys) -> Path:
    base = ("--checkpoint", weights, "--out", tmp_path / "out", "--device", "cpu")
    status, out, err = run(capsys, "segment", scan, *base)
    assert (status, err) == (0, "")
    return Path(out.strip())


def test_labels_lie_in_the_scans_own_space(written, scan):
    image = nib.load(written)
    assert image.get_data_dtype() == np.uint16
    np.testing.assert_array_equal(image.affine, nib.load(scan).affine)
    np.testing.assert_array_equal(np.asarray(image.dataobj), planted().labels())


def test_no_name_of_a_person_travels(written, scan):
    digest = load_volume(scan).digest
    names = sorted(file.name for file in written.parent.iterdir())
    stem = f"scan-{digest[:8]}_dseg"
    assert names == [f"{stem}.json", f"{stem}.nii.gz", f"{stem}.tsv"]
    image = nib.load(written)
    everything = bytes(image.header.binaryblock) + b"".join(
        file.read_bytes() for file in written.parent.iterdir() if file.suffix != ".gz"
    )
    assert SECRET[:15].encode() not in everything


def test_the_table_names_every_label(written):
    table = written.with_name(written.name.replace(".nii.gz", ".tsv")).read_text()
    lines = [line.split("\t") for line in table.splitlines()]
    assert lines[0] == ["index", "name"]
    names = {int(index): name for index, name in lines[1:]}
    assert list(names) == sorted(names)
    assert (names[0], names[17], names[16]) == (
        "background",
        "hippocampus_left",
        "brain_stem",
    )
    assert set(np.unique(nib.load(written).dataobj)) <= set(names)


def test_the_sidecar_tells_how_and_how_much(written, weights, scan):
    path = written.with_name(written.name.replace(".nii.gz", ".json"))
    told = json.loads(path.read_text())
    assert told["Synthetic"] is False
    assert "Not a medical device" in told["Notice"]
    assert told["Checkpoint"]["sha256"] == file_sha256(weights)
    assert told["Scan"]["Sha256"] == load_volume(scan).digest
    assert told["Scan"]["Quality"]["figure"] == pytest.approx(QUALITY.figure)
    assert told["Scan"]["Steps"] == ["Turned."]
    assert told["VolumesMl"]["ventricles"] == pytest.approx(40 * 0.064)
    assert told["VolumesMl"]["hippocampus_right"] == pytest.approx(60 * 0.064)


def test_the_same_command_gives_the_same_bits(
    written, scan, placed, weights, tmp_path, capsys
):
    again = ("--checkpoint", weights, "--out", tmp_path / "again", "--device", "cpu")
    _, out, _ = run(capsys, "segment", scan, *again)
    assert Path(out.strip()).read_bytes() == written.read_bytes()


def test_labels_of_a_generated_picture_say_that_it_is_one(weights, tmp_path, capsys):
    picture = generated(tmp_path / "seed_T1w.nii.gz")
    base = ("--checkpoint", weights, "--out", tmp_path / "out", "--device", "cpu")
    status, out, _ = run(capsys, "segment", picture, *base)
    assert status == 0
    path = Path(out.strip())
    assert path.name.endswith("_desc-synthetic_dseg.nii.gz")
    assert bytes(nib.load(path).header["descrip"]).startswith(b"SYNTHETIC")


def test_a_folder_that_is_a_file_gets_a_sentence(
    scan, placed, weights, tmp_path, capsys
):
    (tmp_path / "taken").write_text("mine")
    base = ("--checkpoint", weights, "--out", tmp_path / "taken", "--device", "cpu")
    assert "Choose a folder you may" in refused(capsys, "segment", scan, *base)


# Measure ------------------------------------------------------------------------------


def generated(path: Path, **extra) -> Path:
    """A picture on an MNI grid with the synthetic mark in its header."""
    mark = json.dumps({"Synthetic": True, **extra})
    save_volume(noise(), path, mark=mark, space="mni")
    return path


def noise() -> Volume:
    data = np.random.default_rng(0).random(GRID.shape, dtype=np.float32)
    return Volume(data, GRID.matrix)


def test_json_is_a_list_with_every_structure_in_ml(
    scan, placed, weights, tmp_path, capsys
):
    other = a_scan(tmp_path / "b.nii.gz", 2.0)
    words = (scan, other, "--json", "--checkpoint", weights, "--device", "cpu")
    status, out, err = run(capsys, "measure", *words)
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert [row["file"] for row in found] == [str(scan), str(other)]
    for row in found:
        assert set(row) == {"file", "ventricles", "brain", "icv", "quality"} | {
            s.name + side for s in STRUCTURES for side in ("", "_left", "_right")
        }
        assert row["ventricles"] == row["lateral_ventricles_left"] == 2.56
        assert row["hippocampus"] == row["hippocampus_right"] == row["brain"] == 3.84
        assert row["icv"] == 6.4
        assert row["quality"] == round(QUALITY.figure, 3)


def test_the_table_has_one_row_for_each_scan(scan, placed, weights, capsys):
    words = (scan, scan, "--checkpoint", weights, "--device", "cpu")
    status, out, err = run(capsys, "measure", *words)
    assert (status, err) == (0, "")
    title, *rows = out.splitlines()
    assert title.split() == [
        "ml",
        *COLUMNS,
        "quality",
    ]
    assert len(rows) == 2
    assert rows[0].split() == [str(scan), "2.6", "3.8", "3.8", "6.4", "0.80"]


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_scan_that_fails_does_not_stop_the_others(
    words, scan, placed, weights, tmp_path, capsys
):
    empty = a_scan(tmp_path / "empty.nii.gz", 0.0)
    missing = tmp_path / "missing.nii.gz"
    base = ("--checkpoint", weights, "--device", "cpu", *words)
    with pytest.warns(match="the scan is empty"):
        status, out, err = run(capsys, "measure", empty, missing, scan, *base)
    assert status == 2
    first, second = err.splitlines()
    assert first.startswith("empty.nii.gz: The scan does not look like a brain.")
    assert second.startswith("missing.nii.gz: There is no file")
    if words:
        found = json.loads(out)
        assert [row["file"] for row in found] == [str(empty), str(missing), str(scan)]
        assert (
            found[0]["error"] == "The scan does not look like a brain. Choose another."
        )
        assert set(found[1]) == {"file", "error"}
        assert found[2]["ventricles"] == 2.56
    else:
        assert len(out.splitlines()) == 2
        assert str(scan) in out


def test_a_generated_picture_is_measured_where_it_lies(
    weights, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(finding, "conform", None)  # calling it would raise
    picture = generated(tmp_path / "seed_T1w.nii.gz")
    words = (picture, "--json", "--checkpoint", weights, "--device", "cpu")
    status, out, _ = run(capsys, "measure", *words)
    (row,) = json.loads(out)
    assert status == 0
    assert row["quality"] is None
    segmenter = Segmenter(load_checkpoint(weights), "cpu")
    wanted = measure(segmenter.segment(load_volume(picture))).as_dict()
    assert {name: row[name] for name in wanted} == wanted


def test_a_generated_picture_in_a_scans_space_is_placed_as_the_scan_was(
    weights, tmp_path, capsys, monkeypatch
):
    placed = []
    monkeypatch.setattr(
        finding, "conform", lambda scan, *_, **__: placed.append(scan) or called_for()
    )
    picture = generated(tmp_path / "edit_T1w.nii.gz", Space="scan")
    words = (picture, "--json", "--checkpoint", weights, "--device", "cpu")
    status, _, err = run(capsys, "measure", *words)
    assert len(placed) == 1
    assert (status, "placed first" in err) == (2, True)


def called_for():
    raise EngineError("It is placed first.")


def test_a_foreign_comment_is_no_synthetic_mark(placed, weights, tmp_path, capsys):
    path = tmp_path / "a.nii.gz"
    for mark in ("Synthetic: true", "[1]", '{"Synthetic": false}'):
        save_volume(noise(), path, mark=mark)
        words = (path, "--json", "--checkpoint", weights, "--device", "cpu")
        _, out, _ = run(capsys, "measure", *words)
        assert json.loads(out)[0]["quality"] is not None


def test_a_difference_of_pictures_is_no_brain(weights, tmp_path, capsys):
    path = generated(tmp_path / "d.nii.gz", Derived={"operation": "difference"})
    words = (path, "--json", "--checkpoint", weights, "--device", "cpu")
    status, out, err = run(capsys, "measure", *words)
    assert status == 2
    assert "computed from several pictures (difference)" in err
    assert "error" in json.loads(out)[0]


def test_a_map_of_gray_matter_has_no_structures(weights, tmp_path, capsys):
    path = generated(tmp_path / "m.nii.gz", Intensity="probability")
    words = (path, "--json", "--checkpoint", weights, "--device", "cpu")
    status, _, err = run(capsys, "measure", *words)
    assert status == 2
    assert "m.nii.gz is a map of gray matter" in err


# Methods and checkpoints --------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="the double is a posix script")
def test_mri_synthseg_is_used_when_chosen(scan, placed, tmp_path, capsys, monkeypatch):
    program = tmp_path / "bin" / "mri_synthseg"
    program.parent.mkdir()
    program.write_text(
        f"""#!{sys.executable}
import sys, numpy as np, nibabel as nib
image = nib.load(sys.argv[sys.argv.index("--i") + 1])
labels = np.zeros(image.shape, np.int32)
labels[10:12, 20:25, 20:24] = 5
nib.save(nib.Nifti1Image(labels, image.affine), sys.argv[sys.argv.index("--o") + 1])
"""
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    base = ("--method", "mri_synthseg", "--out", tmp_path / "out", "--device", "cpu")
    status, out, err = run(capsys, "segment", scan, *base)
    assert (status, err) == (0, "")
    path = Path(out.strip())
    found = np.asarray(nib.load(path).dataobj)
    np.testing.assert_array_equal(found == 4, planted().labels() == 4)
    told = json.loads(path.with_name(path.name[:-7] + ".json").read_text())
    assert told["Method"] == "mri_synthseg"
    assert told["Checkpoint"] is None
    assert told["VolumesMl"]["ventricles"] == pytest.approx(2.56, rel=0.02)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--method", "magic"), "'magic' was asked for; known are built-in, mri_synth"),
        (("--method", "mri_synthseg"), "it is not on PATH. Install FreeSurfer"),
        (
            ("--method", "mri_synthseg", "--checkpoint", "a.safetensors"),
            "a.safetensors was given for the method mri_synthseg",
        ),
        (("--checkpoint", "a.safetensors"), "There is no checkpoint a.safetensors"),
    ],
)
@pytest.mark.parametrize("command", ["segment", "measure"])
def test_a_method_that_is_not_there_gets_a_sentence(
    command, words, sentence, scan, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    out = ("--out", tmp_path / "o") if command == "segment" else ()
    assert sentence in refused(capsys, command, scan, *out, *words)
    assert not (tmp_path / "o").exists()


def test_a_brain_ldm_measures_nothing(scan, tmp_path, capsys):
    path = tmp_path / "ldm.safetensors"
    save_checkpoint(tiny_checkpoint(), path)
    text = refused(capsys, "measure", scan, "--checkpoint", path)
    assert "Tiny holds no segmenter, so it cannot measure pictures" in text


def test_a_segmenter_makes_no_pictures(weights, scan, tmp_path, capsys):
    base = ("--checkpoint", weights, "--out", tmp_path / "o", "--device", "cpu")
    for words in (("generate",), ("edit", scan, "--set"), ("reconstruct", scan)):
        text = refused(capsys, *words, *base)
        assert "holds no autoencoder, so it cannot show or make pictures" in text
    assert not (tmp_path / "o").exists()


def test_info_tells_what_a_segmenter_finds(weights, capsys):
    status, out, _ = run(capsys, "info", weights)
    assert status == 0
    assert "Tiny segmenter (segmenter)" in out
    assert "conditions" not in out
    lines = [line.split() for line in out.splitlines()]
    assert ["hippocampus", "17,", "53", "brain"] in lines
    assert ["lateral_ventricles", "4,", "43", "fluid"] in lines
    assert ["brain_stem", "16", "brain"] in lines


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("segment", ["scan's own space", "mri_synthseg", "SEGMENTER", "RAS or LAS"]),
        ("measure", ["in ml", "generated picture", "JSON list", "mri_synthseg"]),
    ],
)
def test_help_tells_methods_and_units(command, told, capsys):
    status, out, _ = run(capsys, command, "--help")
    text = " ".join(out.replace("│", " ").split())
    assert status == 0
    for words in told:
        assert words in text

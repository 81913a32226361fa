"""The command line: pictures, sidecars, sentences, and no one's name."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_brainldm import cli
from napari_brainldm.engine import convention as road
from napari_brainldm.engine.checkpoint import file_sha256, save_checkpoint
from napari_brainldm.engine.conform import Conformed, Quality
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.scan_file import load_volume, read_mark
from tests.tiny import tiny_checkpoint, tiny_gm_ldm

SECRET = "Hildegard_von-Bingen"
TEXT = "PATIENT 4711 ward 9"
FAST = ("--steps", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(tiny_checkpoint(), path)
    return path


@pytest.fixture
def placed(monkeypatch):
    """Scans that lie on the grid pass as they are; real placement takes seconds."""

    def conform(scan, grid, percentile, **options):
        whole = np.ones(grid.shape, bool)
        quality = Quality(0.9, 0.8, 0.7)
        told = ("Taken as it was.",), "told", options["n4"]
        return Conformed(scan, whole, np.eye(4), 1.0, quality, *told)

    monkeypatch.setattr(road, "conform", conform)


@pytest.fixture
def scan(tmp_path) -> Path:
    """A scan whose file name, header and extension tell who it is."""
    grid = tiny_checkpoint().card.grid
    data = np.random.default_rng(0).random(grid.shape, dtype=np.float32)
    image = nib.Nifti1Image(data, grid.matrix)
    image.header["descrip"] = TEXT
    image.header["aux_file"] = SECRET
    image.header["db_name"] = SECRET[:17]
    image.header["intent_name"] = SECRET[:15]
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", TEXT.encode()))
    folder = tmp_path / f"{SECRET}_folder"
    folder.mkdir()
    nib.save(image, folder / f"{SECRET}.nii.gz")
    return folder / f"{SECRET}.nii.gz"


def done(capsys, *words) -> str:
    """Standard output of a command that must succeed without a word of warning."""
    cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *words) -> str:
    """The one sentence of a command that must fail with exit code 2."""
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in words])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def sidecar(path: Path) -> dict:
    return json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())


# Help and info ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("view", ["Explore dock", "checkpoint"]),
        ("info", ["units and ranges", "JSON"]),
        ("generate", ["NAME=VALUE", "(years)", "ml)", "1 to 1000", "default: 15"]),
        ("reconstruct", ["NIfTI or MGZ", "inversion steps", "RAS or LAS"]),
        ("edit", ["(years)", "lateral ventricles, ml", "inversion steps"]),
    ],
)
def test_help_tells_units_and_limits(command, told, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for words in told:
        assert words in text


def test_the_first_help_lists_the_commands_and_the_notice(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for word in ("view", "info", "generate", "reconstruct", "edit", "esearch"):
        assert word in text


def test_info_tells_conditions_with_units_and_ranges(model, capsys):
    text = done(capsys, "info", model)
    assert "20 to 90 years" in text
    assert "F or M" in text
    assert "7 to 67 ml" in text
    assert "20 x 24 x 20 voxels of 8 x 8 x 8 mm" in text
    assert file_sha256(model) in text


def test_info_as_json_is_the_whole_card(model, capsys):
    plain = json.loads(done(capsys, "info", model, "--json"))
    assert plain["name"] == "Tiny"
    assert [c["unit"] for c in plain["vocabulary"]] == ["years", "", "ml", "ml"]
    assert plain["sha256"] == file_sha256(model)
    assert plain["parameters"] == sum(
        v.numel() for v in tiny_checkpoint().tensors.values()
    )


# Generate -----------------------------------------------------------------------------


def made(capsys, model, out, *words) -> list[Path]:
    text = done(capsys, "generate", "--checkpoint", model, "--out", out, *FAST, *words)
    return [Path(line) for line in text.splitlines()]


def test_generate_writes_pictures_that_say_they_are_synthetic(model, tmp_path, capsys):
    words = ("--n", "3", "--seed", "7")
    asked = ("--set", "age=88", "sex=M", "--set", "brain=1900")
    files = made(capsys, model, tmp_path / "new" / "folder", *words, *asked)
    assert [f.name[:10] for f in files] == ["seed-00007", "seed-00008", "seed-00009"]
    digests = set()
    for seed, path in enumerate(files, start=7):
        assert "desc-synthetic" in path.name
        image = nib.load(path)
        assert bytes(image.header["descrip"]).startswith(b"SYNTHETIC")
        assert image.shape == (20, 24, 20)
        told = sidecar(path)
        assert json.loads(read_mark(path)) == told
        assert told["Synthetic"] is True
        assert told["Request"]["origin"] == {"seed": seed}
        assert told["Request"]["conditions"]["age"] == 88.0
        assert told["Request"]["conditions"]["sex"] == "M"
        assert told["Request"]["conditions"]["ventricles"] == 20.0
        assert told["OutOfTrainingRange"] == ["brain"]
        assert told["Checkpoint"]["sha256"] == file_sha256(model)
        digests.add(told["PictureSha256"])
    assert len(digests) == 3
    assert len(list(files[0].parent.iterdir())) == 6


def test_the_same_command_gives_the_same_bits(model, tmp_path, capsys):
    first, second = (
        made(capsys, model, tmp_path / name, "--set", "age=70")[0] for name in "ab"
    )
    assert first.read_bytes() == second.read_bytes()
    assert sidecar(first) == sidecar(second)


def test_the_last_of_two_settings_counts(model, tmp_path, capsys):
    (path,) = made(capsys, model, tmp_path, "--set", "age=30", "--set", "age=60")
    assert sidecar(path)["Request"]["conditions"]["age"] == 60.0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--set", "mood=1"), "'mood' is not a condition of Tiny. Its conditions are"),
        (("--set", "age=old"), "age is 'old'; a number is needed, 20 to 90 years"),
        (("--set", "age=nan"), "a number is needed"),
        (("--set", "age=1e39"), "a number is needed"),
        (
            ("--eta", "0.7"),
            "An eta of 0.7 was asked for with dpm++2m, which knows none",
        ),
        (("--set", "sex=X"), "sex is 'X'; this checkpoint knows F, M"),
        (("--set", "age"), "'age' is not a setting. Write NAME=VALUE"),
        (
            ("--sampler", "euler"),
            "'euler' was asked for; known are ddim, ddpm",
        ),
        (("--steps", "0"), "this checkpoint takes 1 to 1000"),
        (("--steps", "1001"), "this checkpoint takes 1 to 1000"),
        (("--n", "0"), "--n is 0; ask for 1"),
        (("--seed", "-1"), "seed is -1; 0 to"),
        (("--seed", "99999999999999999999"), "seed is 9999"),
        (("--sampler", "ddim", "--eta", "5"), "eta is 5.0; 0 to 1"),
        (("--guidance", "nan"), "guidance is nan; 0 to 100"),
        (
            ("--device", "tpu"),
            "The device 'tpu' was asked for; this machine offers",
        ),
        (("--device", "cuda:99"), "The device 'cuda:99' was asked for"),
    ],
)
def test_what_cannot_be_made_gets_one_sentence(
    model, tmp_path, capsys, words, sentence
):
    base = ("generate", "--checkpoint", model, "--out", tmp_path / "x")
    text = refused(capsys, *base, *words)
    assert sentence in text
    assert len(text.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("word", ["--steps=two", "--nonsense", "--n=1.5"])
def test_what_is_no_option_is_refused(model, tmp_path, capsys, word):
    base = ("generate", "--checkpoint", model, "--out", tmp_path / "x")
    assert word.split("=")[0] in refused(capsys, *base, word)


def test_another_picture_is_not_written_over(model, tmp_path, capsys):
    (path,) = made(capsys, model, tmp_path / "p", "--set", "age=20")
    kept = path.read_bytes()
    base = ("generate", "--checkpoint", model, "--out", tmp_path / "p", *FAST)
    text = refused(capsys, *base, "--set", "age=80")
    assert "was asked for otherwise, and would be written over" in text
    assert path.read_bytes() == kept
    assert made(capsys, model, tmp_path / "p", "--set", "age=20") == [path]  # the same


def test_a_folder_that_is_a_file_gets_a_sentence(model, tmp_path, capsys):
    target = tmp_path / "taken"
    target.write_text("mine")
    base = ("generate", "--checkpoint", model, "--out", target)
    assert "Choose a folder you may write to" in refused(capsys, *base, *FAST)
    assert target.read_text() == "mine"


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "half", "foreign"])
def test_a_file_that_is_no_checkpoint_gets_a_sentence(kind, model, tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("hello")
    elif kind == "half":
        path.write_bytes(model.read_bytes()[:5000])
    elif kind == "foreign":
        import torch
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(2)}, path)
    text = refused(capsys, "info", path)
    assert "model.safetensors" in text
    assert len(text.strip().splitlines()) == 1


# Scans --------------------------------------------------------------------------------


def values(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_an_edit_is_told_from_its_reconstruction(model, scan, placed, tmp_path, capsys):
    out = tmp_path / "out"
    words = ("--set", "age=80", "--own", "age=40", "--own", "sex=M", *FAST)
    text = done(capsys, "edit", scan, "--checkpoint", model, "--out", out, *words)
    files = [Path(line) for line in text.splitlines()]
    digest = load_volume(scan).digest
    stems = ("conformed", "reconstruction", "edit", "difference")
    for file, stem in zip(files, stems, strict=True):
        assert file.name.startswith(f"scan-{digest[:8]}_{stem}")
    conformed, rebuilt, edited, difference = files
    np.testing.assert_array_equal(values(difference), values(edited) - values(rebuilt))
    assert np.abs(values(difference)).max() > 0
    assert sidecar(conformed)["Synthetic"] is False
    assert "synthetic" not in conformed.name
    told = sidecar(edited)["Request"]
    assert told["conditions"]["age"] == 80.0
    assert told["origin"]["conditions"] == {**told["conditions"], "age": 40.0}
    assert told["conditions"]["sex"] == "M"
    derived = sidecar(difference)
    assert derived["Derived"]["operation"] == "difference"
    first, second = derived["Derived"]["requests"]
    assert (first, second) == (told, sidecar(rebuilt)["Request"])
    assert derived["Synthetic"] is True and "Request" not in derived
    assert derived["Scan"]["Sha256"] == digest
    assert derived["Scan"]["Steps"] == ["Taken as it was."]


def test_nothing_of_the_scans_name_and_header_travels_on(
    model, scan, placed, tmp_path, capsys
):
    out = tmp_path / "out"
    base = ("--checkpoint", model, "--out", out, *FAST)
    text = done(capsys, "edit", scan, "--set", "age=80", *base)
    text += done(capsys, "reconstruct", scan, *base)
    content = [p.read_bytes() for p in out.iterdir()]
    content += [gzip.decompress(p.read_bytes()) for p in out.glob("*.gz")]
    content += [text.encode(), *(p.name.encode() for p in out.iterdir())]
    for told in (SECRET, SECRET[:15], "Hildegard", TEXT, "4711", str(scan.parent)):
        assert not any(told.encode() in one for one in content), told


def test_reconstruct_writes_the_scan_as_seen_and_its_copy(
    model, scan, placed, tmp_path, capsys
):
    base = ("--checkpoint", model, "--out", tmp_path / "o", "--device", "cpu")
    text = done(capsys, "reconstruct", scan, *base, "--steps", "0")
    conformed, rebuilt = (Path(line) for line in text.splitlines())
    np.testing.assert_array_equal(values(conformed), load_volume(scan).data)
    wanted = Renderer(tiny_checkpoint(), "cpu").rebuild(load_volume(scan).data)
    np.testing.assert_allclose(values(rebuilt), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--set", "mood=1"), "'mood' is not a condition"),
        (("--set", "age=80", "--own", "age=x"), "age is 'x'; a number is needed"),
        (("--set", "age=80", "--steps", "0"), "an edit needs at least 1 inversion"),
        (("--set", "age=80", "--orientation", "RAX"), "RAX"),
    ],
)
def test_settings_are_read_before_the_scan_is_placed(
    model, scan, tmp_path, capsys, monkeypatch, words, sentence
):
    monkeypatch.setattr(road, "conform", None)  # calling it would raise
    base = ("--checkpoint", model, "--out", tmp_path / "o", "--device", "cpu")
    assert sentence in refused(capsys, "edit", scan, *base, *words)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "renamed"])
def test_a_file_that_is_no_scan_gets_a_sentence(kind, model, tmp_path, capsys):
    path = tmp_path / ("scan.txt" if kind == "renamed" else "scan.nii.gz")
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_text("hello")
    base = ("--checkpoint", model, "--out", tmp_path / "o", "--device", "cpu")
    text = refused(capsys, "reconstruct", path, *base)
    assert path.name in text
    assert len(text.strip().splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_a_missing_viewer_gets_a_sentence(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari_brainldm.widgets.app", None)
    monkeypatch.setitem(sys.modules, "napari", None)
    assert "pip install 'napari-brainldm[all]'" in refused(capsys, "view")


NO_WINDOW = """
import sys
from napari_brainldm.cli import main
main(sys.argv[1:])
roots = {name.partition(".")[0] for name in sys.modules}
assert not roots & {"napari", "qtpy", "PySide6", "superqt", "magicgui"}, roots
"""


def test_a_real_scan_is_edited_without_a_display(model, shared, root, tmp_path):
    folder = shared / "data" / "ds002748" / "sub-01"
    source = next(folder.rglob("*_T1w.nii.gz"))
    environment = {
        k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    words = ["edit", source, "--out", tmp_path, "--checkpoint", model, *FAST]
    command = [sys.executable, "-c", NO_WINDOW, *words, "--set", "ventricles=60"]
    found = subprocess.run(
        [str(word) for word in command],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert found.returncode == 0, found.stderr
    files = [Path(line) for line in found.stdout.splitlines()]
    assert len(files) == 4
    assert all("sub-01" not in file.name for file in files)
    told = sidecar(files[2])
    assert min(told["Scan"]["Quality"].values()) > 0.4
    assert values(files[0]).max() == 1.0
    assert 800 < (values(files[0]) > 0).sum() * 0.512 < 2400  # ml in the widened mask


def test_a_scan_is_written_in_its_own_voxels_when_asked(
    model, scan, placed, tmp_path, capsys
):
    base = ("--checkpoint", model, "--out", tmp_path / "o", *FAST, "--space", "scan")
    files = done(capsys, "edit", scan, *base, "--set", "age=80").splitlines()
    assert len(files) == 4
    for file in files:
        assert "_space-scan_" in Path(file).name
        assert nib.load(file).shape == nib.load(scan).shape
        assert sidecar(Path(file))["Space"] == "scan"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--strip", "hd-bet"), "not on the PATH"),
        (("--strip", "bet"), "no way to find the brain"),
        (("--space", "talairach"), "no space to write in"),
        (("--steps", "-7"), "--steps is -7; 0 (the autoencoder alone) or more"),
    ],
)
def test_a_way_that_is_not_there_gets_a_sentence(
    model, scan, tmp_path, capsys, monkeypatch, words, sentence
):
    monkeypatch.setenv("PATH", str(tmp_path))
    base = ("--checkpoint", model, "--out", tmp_path / "o", "--device", "cpu")
    assert sentence in refused(capsys, "reconstruct", scan, *base, *words)
    assert not (tmp_path / "o").exists()


def test_a_map_of_gray_matter_is_not_bent_back(scan, tmp_path, capsys):
    path = tmp_path / "gm.safetensors"
    save_checkpoint(tiny_gm_ldm(), path)
    base = ("--checkpoint", path, "--out", tmp_path / "o", "--device", "cpu")
    text = refused(capsys, "reconstruct", scan, *base, "--space", "scan")
    assert "maps of gray matter in MNI space" in text
    assert not (tmp_path / "o").exists()


def test_preparation_is_told_in_the_sidecar(model, scan, placed, tmp_path, capsys):
    base = ("--checkpoint", model, "--out", tmp_path / "o", "--device", "cpu")
    text = done(capsys, "reconstruct", scan, *base, "--steps", "0", "--n4")
    told = sidecar(Path(text.splitlines()[0]))["Scan"]
    assert told["N4"] is True
    assert told["Quality"]["figure"] == pytest.approx((0.9 * 0.8 * 0.7) ** (1 / 3))

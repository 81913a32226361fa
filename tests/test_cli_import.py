"""`brainldm import` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_brainldm.cli import main
from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.imports import write
from tests import foreign


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_a_bundle_becomes_a_checkpoint(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, out = foreign.save_bundle(tmp_path / "zoo"), tmp_path / "new.safetensors"
    main(["import", str(source), str(out)])
    told = capsys.readouterr().out
    assert "Brain LDM (brain-ldm)" in told
    assert "No licence lies beside these weights" in told
    assert "diffusion_model.pth: a DiffusionModelUNet." in told
    assert "By their MD5, these are not the published files." in told
    assert load_checkpoint(out).card.denoiser == foreign.UNET
    main(["info", str(out)])
    assert "but of other sizes" in capsys.readouterr().out
    again = refused(capsys, "import", source, out)
    assert "is there already" in again


def test_terms_that_limit_the_use_have_to_be_agreed_to(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, out = foreign.save_ldae(tmp_path / "ldae"), tmp_path / "new.safetensors"
    words = refused(capsys, "import", source, out)
    assert "--accept-terms" in words
    assert not out.exists()
    main(["import", str(source), str(out), "--accept-terms"])
    assert "non-profit research only" in capsys.readouterr().out
    main(["info", str(out)])
    told = capsys.readouterr().out
    assert "conditions  none" in told
    assert "AD          From cognitively normal" in told


def test_names_that_are_no_checkpoints_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = foreign.save_bundle(tmp_path / "zoo")
    words = refused(capsys, "import", source, tmp_path / "new.pt")
    assert "for example new.safetensors" in words
    words = refused(capsys, "import", tmp_path / "no", tmp_path / "x.safetensors")
    assert "There is no" in words


def test_ctrl_c_leaves_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = foreign.save_bundle(tmp_path / "zoo")

    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "check_finite", pressed)
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stopped:
        main(["import", str(source), str(out / "new.safetensors")])
    assert stopped.value.code == 130
    assert "nothing was written" in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_a_scan_is_moved_along_a_direction(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = foreign.LDAE_SETTINGS | {"latent_shape": [2, 16, 16, 8]}
    source, out = foreign.save_ldae(tmp_path / "ldae", settings), tmp_path / "l"
    model = out.with_suffix(".safetensors")
    main(["import", str(source), str(model), "--accept-terms"])
    grid = load_checkpoint(model).card.grid
    data = np.random.default_rng(0).random(grid.shape, np.float32)
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(data, grid.matrix), scan)
    base = ["edit", str(scan), "--checkpoint", str(model), "--steps", "3"]
    base += ["--device", "cpu", "--out", str(tmp_path / "o")]
    capsys.readouterr()
    main([*base, "--shift", "AD=2"])
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert len(files) == 4
    change = np.asanyarray(nib.load(files[3]).dataobj)
    assert np.abs(change).max() > 0
    sidecar = json.loads(files[2].with_name(stem(files[2]) + ".json").read_text())
    assert sidecar["Request"]["shift"] == {"AD": 2.0}
    for words, said in (
        ((), "Nothing was asked to change"),
        (("--shift", "age=2"), "'age' is not a direction"),
        (("--shift", "AD=much"), "'much' is no amount along AD"),
        (("--shift", "AD=inf"), "not all finite"),
        (("--shift", "AD"), "Write NAME=AMOUNT"),
    ):
        assert said in refused(capsys, *base, *words)


def stem(path: Path) -> str:
    return path.name.removesuffix(".nii.gz")

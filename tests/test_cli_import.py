"""`brainldm import` from the outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


@pytest.fixture
def edit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The words of an edit of a scan by a tiny LDAE, but for what to change."""
    model = foreign.known_ldae(tmp_path)
    grid = load_checkpoint(model).card.grid
    data = np.random.default_rng(0).random(grid.shape, np.float32)
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(data, grid.matrix), scan)
    base = ["edit", str(scan), "--checkpoint", str(model), "--steps", "3"]
    return [*base, "--device", "cpu", "--out", str(tmp_path / "o")]


def changed(capsys: pytest.CaptureFixture[str], words: list[str]) -> Any:
    """The request of an edit that must succeed, and change something."""
    main(words)
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert len(files) == 4
    assert np.abs(np.asanyarray(nib.load(files[3]).dataobj)).max() > 0
    sidecar = json.loads(files[2].with_name(stem(files[2]) + ".json").read_text())
    return sidecar["Request"]


def test_a_scan_is_moved_along_a_direction(
    capsys: pytest.CaptureFixture[str], edit: list[str]
) -> None:
    assert changed(capsys, [*edit, "--shift", "AD=2"])["shift"] == {"AD": 2.0}
    for words, said in (
        ((), "Nothing was asked to change"),
        (("--shift", "age=2"), "'age' is not a direction"),
        (("--shift", "AD=much"), "'much' is no amount along AD"),
        (("--shift", "AD=inf"), "not all finite"),
        (("--shift", "AD"), "Write NAME=AMOUNT"),
    ):
        assert said in refused(capsys, *edit, *words)


def test_a_scan_is_forecast(
    capsys: pytest.CaptureFixture[str], edit: list[str]
) -> None:
    who = ("--person", "age=80", "diagnosis=AD")
    origin = changed(capsys, [*edit, "--years", "2.5", *who])["origin"]
    assert origin["years"] == 2.5
    assert origin["person"] == {"age": 80.0, "diagnosis": "AD"}
    for words, said in (
        (who, "no --years were asked for"),
        (("--years", "2", "--person", "apoe=4"), "'apoe' is not a question"),
        (("--years", "2", "--person", "diagnosis=FTD"), "knows CN, AD"),
    ):
        assert said in refused(capsys, *edit, *words)
    main(["info", edit[3]])
    assert "the forecast asks (--person)" in capsys.readouterr().out


def stem(path: Path) -> str:
    return path.name.removesuffix(".nii.gz")

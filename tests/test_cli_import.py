"""`brainldm import` from the outside."""

from __future__ import annotations

from pathlib import Path

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

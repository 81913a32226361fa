"""Programs on the PATH are asked for masks; what goes wrong is told in a sentence."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_brainldm.engine.conform import conform
from napari_brainldm.engine.placement import mni_template
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import resample
from napari_brainldm.engine.strip import check_way, program_brain
from napari_brainldm.engine.volume import Volume, mni_grid

FAKE = f"""#!{sys.executable}
import json, pathlib, sys
import nibabel as nib, numpy as np
words = sys.argv[1:]
pathlib.Path({{log!r}}).write_text(json.dumps(words))
after = dict(zip(words, words[1:]))
image = nib.load(after["-i"])
data = np.asarray(image.dataobj)
mask = nib.Nifti1Image((data > 500).astype(np.uint8)[::-1], image.affine
    @ np.array([[-1, 0, 0, data.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0],
                [0, 0, 0, 1.0]]))
out = after.get("-m") or after["-o"][:-7] + "_bet.nii.gz"
nib.save(mask, out)
"""
"""Finds what is brighter than 500, and writes the mask left to right swapped, as a
program that works in another orientation does."""


@pytest.fixture
def path_folder(tmp_path, monkeypatch) -> Path:
    """A folder in front of the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def install(folder: Path, name: str, script: str) -> Path:
    """Put a fake program there; returns the file in which it notes its words."""
    log = folder / f"{name}.json"
    (folder / name).write_text(script.replace("{log!r}", repr(str(log))))
    (folder / name).chmod(0o755)
    return log


def slanted() -> tuple[Volume, np.ndarray]:
    """A block of 800 in 300, lopsided, on sheared axes; and where the block is."""
    affine = np.diag([-1.5, 2.0, 1.2, 1.0])
    affine[0, 1], affine[:3, 3] = 0.6, (40, -30, 12)
    data = np.full((40, 36, 44), 300, np.float32)
    block = np.zeros(data.shape, bool)
    block[8:20, 10:30, 9:25] = True
    data[block] = 800
    return Volume(data, affine), block


@pytest.mark.parametrize("way", ["mri_synthstrip", "hd-bet"])
def test_a_program_is_asked_and_its_mask_lies_right(path_folder, way):
    log = install(path_folder, way, FAKE)
    scan, block = slanted()
    brain = program_brain(scan, way)
    found = resample(brain, scan.grid) > 0.5
    assert 2 * (found & block).sum() / (found.sum() + block.sum()) > 0.93
    words = json.loads(log.read_text())
    folder = Path(words[1]).parent
    assert not folder.exists()  # nothing is left behind
    if way == "hd-bet":
        assert words[4:6] == ["-device", "cpu"]
        assert "--save_bet_mask" in words


def test_the_programs_brain_is_what_is_conformed(path_folder):
    log = install(path_folder, "mri_synthstrip", FAKE)
    template = mni_template()
    picture = template.picture
    # the brain above 500, and around it a head that is too dark to count
    data = np.where(template.brain, 600 + 400 * picture.data, 200).astype(np.float32)
    scan = Volume(data, picture.affine)
    done = conform(scan, mni_grid(4.0), template=template, strip="mri_synthstrip")
    assert log.exists()
    assert done.method == "mri_synthstrip"
    assert "mri_synthstrip" in done.steps[0]
    wanted = template.brain.sum() * 8
    assert done.brain.sum() * 64 == pytest.approx(wanted, rel=0.05)
    assert not done.volume.data[~done.brain].any()


@pytest.mark.parametrize("way", ["mri_synthstrip", "hd-bet"])
def test_a_missing_program_is_named_before_anything_is_computed(
    tmp_path, monkeypatch, way
):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        EngineError, match=f"{way} was chosen.*not on the PATH.*install"
    ):
        conform(slanted()[0], mni_grid(4.0), strip=way)


def test_an_unknown_way_gets_the_known_ones():
    with pytest.raises(EngineError, match="built-in, mri_synthstrip, hd-bet"):
        check_way("bet")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import sys; sys.exit('no weights here')", "code 1: no weights here"),
        ("pass", "left no mask"),
        (FAKE.partition("\n")[2].replace("> 500", "> 5000"), "found no brain"),
    ],
)
def test_a_failing_program_is_quoted(path_folder, body, words):
    install(path_folder, "mri_synthstrip", f"#!{sys.executable}\n{body}")
    with pytest.raises(EngineError, match=words):
        program_brain(slanted()[0], "mri_synthstrip")

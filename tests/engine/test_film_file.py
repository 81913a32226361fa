"""Claims about sweeps on disk."""

from __future__ import annotations

import json
import os
import stat

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from napari_brainldm.engine.film_file import (
    BRIGHTEST,
    middle_slices,
    page,
    write_moving,
    write_series,
)
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import EngineError, Request, Sampler
from napari_brainldm.engine.sweep import Axis, Film, film
from napari_brainldm.engine.volume import Volume
from tests.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(tiny_checkpoint(), "cpu", "float32")


@pytest.fixture(scope="module")
def made(renderer) -> Film:
    steps = film(
        renderer,
        Request(sampler=Sampler("dpm++2m", 2)),
        (Axis.between("age", 30, 80, 3),),
    )
    return finish(steps)


@pytest.mark.parametrize("kind", [".gif", ".png"])
def test_every_frame_is_in_the_moving_picture(made, kind, tmp_path):
    path = write_moving(made, tmp_path / f"film{kind}", frames_per_second=5)
    with Image.open(path) as found:
        assert found.n_frames == 3
        assert found.info["duration"] == 200
        shown = []
        for number in range(3):
            found.seek(number)
            shown.append(np.asarray(found.convert("L")))
    for number, frame in enumerate(shown):
        wanted = np.asarray(page(made.pictures[number], made.captions[number]))
        assert np.abs(frame.astype(int) - wanted).max() <= 2  # a GIF has 256 grays


def test_slices_show_right_on_the_right_and_top_above():
    data = np.zeros((6, 8, 10), np.float32)
    data[5, 4, 9] = 1  # right, middle, top
    data[3, 7, 5] = 2  # front
    _, coronal, axial = middle_slices(data)
    sagittal = middle_slices(data)[0]
    assert coronal.shape == (10, 6)
    assert coronal[0, 5] == 1
    assert axial.shape == (8, 6)
    assert axial[0, 3] == 2
    assert sagittal.shape == (10, 8)
    assert sagittal[4, 7] == 2


def test_voxels_that_run_to_the_left_are_not_mirrored():
    """As those of both public models do."""
    data = np.zeros((20, 24, 20), np.float32)
    data[15:18, 10:14, 9:12] = 1  # on the right
    ahead = Volume(data, np.diag([2.0, 2, 2, 1]))
    turned = np.diag([-2.0, 2, 2, 1])
    turned[0, 3] = 2.0 * 19
    back = Volume(np.ascontiguousarray(data[::-1]), turned)
    assert np.array_equal(page(ahead, ""), page(back, ""))
    axial = np.asarray(page(ahead, ""))[:, -60:]
    assert axial[24:48, 45:54].mean() > 100 > axial[24:48, 6:15].mean()


def test_caption_and_mark_are_burnt_in():
    dark = Volume(np.zeros((20, 24, 20), np.float32), np.eye(4))
    first, second = (np.asarray(page(dark, text)) for text in ("Age 30", "Age 80"))
    assert first.max() == 255
    assert (first != second).any()
    # the same mark at the same place, at the right
    right = first.shape[1] // 2
    assert np.array_equal(first[:, right:], second[:, right:])
    assert first[:, right:].max() == 255


def test_grays_are_those_of_the_viewer():
    half = Volume(np.full((20, 24, 20), BRIGHTEST / 2, np.float32), np.eye(4))
    assert np.asarray(page(half, ""))[20, 20] == 128


def test_a_series_is_marked_frame_by_frame(renderer, made, tmp_path):
    paths = write_series(renderer, made, tmp_path, "ages")
    assert [p.name for p in paths] == [
        f"ages_frame-00{n}_desc-synthetic_T1w.nii.gz" for n in (1, 2, 3)
    ]
    for path, picture, age in zip(paths, made.pictures, (30, 55, 80), strict=True):
        assert np.array_equal(nib.load(path).get_fdata(), picture.data)
        sidecar = json.loads(path.with_name(path.name[:-7] + ".json").read_text())
        assert sidecar["Request"]["conditions"]["age"] == age
        assert sidecar["Synthetic"] is True


def test_unknown_kinds_and_a_missing_ffmpeg_are_told(made, tmp_path, monkeypatch):
    with pytest.raises(EngineError, match=r"End the name in \.gif"):
        write_moving(made, tmp_path / "film.avi")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="No ffmpeg was found"):
        write_moving(made, tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="the stand-in is a shell script")
@pytest.mark.parametrize(("status", "left"), [(0, ["film.mp4"]), (1, [])])
def test_ffmpeg_gets_every_frame(made, tmp_path, monkeypatch, status, left):
    """A stand-in for ffmpeg that counts the frames it is given."""
    tools, out = tmp_path / "bin", tmp_path / "out"
    tools.mkdir()
    script = tools / "ffmpeg"
    script.write_text(
        '#!/bin/sh\nfor last; do :; done\nfolder="${last%/*}"\n'
        f'ls "$folder" | grep -c "\\.png$" > "$last"\nexit {status}\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    if status:
        with pytest.raises(EngineError, match="ffmpeg could not write"):
            write_moving(made, out / "film.mp4")
    else:
        assert write_moving(made, out / "film.mp4").read_text().strip() == "3"
    assert [path.name for path in out.iterdir()] == left

"""`evaluate pictures`: any two folders of NIfTI, and what bounds their distance."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.scan_file import save_volume
from napari_brainldm.engine.volume import Volume
from tests.trainer.toys import grid
from trainer.__main__ import main
from trainer.evaluate import compared as compared_
from trainer.evaluate import pictures
from trainer.evaluate.compared import (
    BLURRED,
    FLOOR,
    NOISY,
    Compared,
    drawn,
    nearness,
    noisy,
)
from trainer.evaluate.metrics.features import projected
from trainer.evaluate.metrics.folder import Folder, unit_range
from trainer.evaluate.pictures import Folders, compare_folders

EDGE = 48


def ball(seed, edge=EDGE):
    """A bright ball (edge, edge, edge) with texture of its own; 0 outside."""
    rng = np.random.default_rng(seed)
    i, j, k = np.indices((edge,) * 3) - edge / 2
    radius = edge * rng.uniform(0.3, 0.4)
    texture = ndimage.gaussian_filter(rng.normal(size=(edge,) * 3), 1.5)
    inside = i**2 + j**2 + k**2 < radius**2
    return np.where(inside, 0.6 + texture, 0).clip(0).astype(np.float32)


def folder(root, count, make=ball, first=0, name="sub-{}_T1w.nii.gz"):
    root.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        picture = Volume(make(first + n), np.eye(4))
        save_volume(picture, root / name.format(n))
    return root


@pytest.fixture
def without_segmenter(monkeypatch):
    """The bundled segmenter needs a brain; the control alone walks the same road."""
    monkeypatch.setattr(pictures, "feature_sets", lambda grid, _, __: [projected(grid)])


def test_two_folders_make_a_report(tmp_path, without_segmenter, capsys):
    real = folder(tmp_path / "real", 12)
    made = folder(tmp_path / "made", 6, first=100)
    out = tmp_path / "out"
    words = ["--real", str(real), "--generated", str(made), "--out", str(out)]
    assert main(["evaluate", "pictures", *words]) == 0
    assert "12 real and 6 generated" in capsys.readouterr().out
    found = json.loads((out / "pictures.json").read_text())
    near, variety = found["tables"]["near-projection"], found["tables"]["variety"]
    assert [row["pictures"] for row in near] == [FLOOR, "generated", BLURRED, NOISY]
    assert {row["N"] for row in near} == {6}
    assert [row["pictures"] for row in variety] == ["real", "generated"]
    text = (out / "pictures.md").read_text()
    for told in (
        "48 x 48 x 48 voxels of 1 x 1 x 1 mm",
        "no mask",
        "range 0 to 1",
        "N = 6",
    ):
        assert told in text
    assert "3 voxels for MS-SSIM" in text
    assert (out / "pictures.png").stat().st_size > 1000


@pytest.mark.parametrize("in_mni", [True, False])
def test_the_segmenters_features_are_for_pictures_in_mni_space(
    tmp_path, monkeypatch, in_mni
):
    def sets(grid, _, __):
        return [replace(projected(grid), name=n) for n in ("projection", "segmenter")]

    monkeypatch.setattr(pictures, "feature_sets", sets)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    if in_mni:
        affine[:3, 3] = [-94, -112, -89]  # of the middle: about the brain's
    for name, count, first in (("real", 12, 0), ("made", 6, 100)):
        (tmp_path / name).mkdir()
        for n in range(count):
            save_volume(Volume(ball(first + n), affine), tmp_path / name / f"{n}.nii")
    folders = Folders(tmp_path / "real", tmp_path / "made", tmp_path / "out")
    lines = list(compare_folders(folders))
    found = json.loads((tmp_path / "out" / "pictures.json").read_text())
    assert ("near-segmenter" in found["tables"]) == in_mni
    assert any("from that of a brain in MNI space" in line for line in lines) != in_mni
    assert "N = 6" in found["notes"]["near-projection"]


def names(count: int) -> list[str]:
    return [f"sub-{n}" for n in range(count)]


def test_nobody_is_held_against_an_own_other_visit(monkeypatch):
    """Else real pictures are nearer to real ones than a perfect model's can be."""
    sides = []

    def seen(real, other):
        sides.append((real[:, 0].tolist(), other[:, 0].tolist()))
        return {"Fréchet": 0.0}

    monkeypatch.setattr(compared_, "_figures", seen)
    whose = np.repeat(np.arange(12), 3)
    real = np.stack([whose, np.arange(36)], 1).astype(float)
    drawn(real, {"spoilt": real}, {}, 6, [f"sub-{n}" for n in whose])
    for reference, other in sides:
        assert len({*reference, *other}) == len(reference) + len(other) == 12


def test_scans_of_one_person_are_told_by_their_names(tmp_path, without_segmenter):
    """Twelve scans of five people are five pictures."""
    made = folder(tmp_path / "made", 6, small)
    real = tmp_path / "real"
    real.mkdir()
    for n in range(12):
        path = real / f"sub-0{n % 5}_ses-{n}_T1w.nii"
        save_volume(Volume(small(n), np.eye(4)), path)
    assert "5 pictures of real; at least 12" in said(tmp_path, real, made)


def test_more_of_the_same_is_as_near_as_the_floor_and_spoilt_ones_are_not():
    """Features of one law: the same figure as the floor; shifted ones lie further."""
    rng = np.random.default_rng(0)
    real, same, other = (rng.normal(m, 1, (60, 8)) for m in (0, 0, 1))
    groups = {"same": same, "other": other}
    found = drawn(real, {"spoilt": real + 3}, groups, 30, names(60))
    mean = {k: np.mean([draw["Fréchet"] for draw in v]) for k, v in found.items()}
    assert mean["same"] == pytest.approx(mean[FLOOR], rel=0.5)
    assert mean[FLOOR] < mean["other"] < mean["spoilt"]
    assert mean["spoilt"] == pytest.approx(8 * 9, rel=0.2)
    coverage = {k: np.mean([draw["coverage"] for draw in v]) for k, v in found.items()}
    assert coverage["same"] > 0.8 > 0.5 > coverage["spoilt"]


def test_a_spoilt_scan_is_never_held_against_itself():
    """Were it, a set spoilt by nothing would be at distance 0."""
    real = np.random.default_rng(0).normal(size=(20, 4))
    found = drawn(real, {"as it is": real}, {"made": real}, 10, names(20))
    for floor, spoilt in zip(found[FLOOR], found["as it is"], strict=True):
        assert spoilt == floor
        assert floor["Fréchet"] > 0.1


def test_the_ceilings_of_pictures_are_above_the_floor():
    real = [unit_range("", ball(n)) for n in range(12)]
    compared = Compared(grid(EDGE), real, {"made": real[:6]})
    table = nearness(compared, projected(grid(EDGE)))
    rows = {row["pictures"]: row["Fréchet"] for row in table.rows}
    assert rows[FLOOR] < rows[NOISY]
    assert noisy(real[0], 1).min() >= 0
    np.testing.assert_array_equal(noisy(real[0], 1), noisy(real[0], 1))


def test_everybodys_own_scale_is_taken_off():
    picture = ball(0)
    first, second = unit_range("a", picture), unit_range("b", 700 * picture)
    np.testing.assert_allclose(first, second, atol=1e-6)
    assert (first.min(), first.max()) == (0, 1)
    hazy = unit_range("c", picture + 0.001)
    assert np.abs(first - hazy).max() < 0.01


def test_of_a_bids_dataset_the_scans_are_taken_and_derivatives_are_not(tmp_path):
    folder(tmp_path / "sub-1" / "anat", 2)
    folder(tmp_path / "sub-1" / "anat", 1, name="mask-{}.nii.gz")
    folder(tmp_path / "derivatives" / "sub-1", 1)
    found = Folder(tmp_path, 1000)
    assert [path.name for path in found.paths] == [
        "sub-0_T1w.nii.gz",
        "sub-1_T1w.nii.gz",
    ]
    assert Folder(tmp_path, 1).told() == "1 of 2"
    assert found.told() == "2"
    plain = folder(tmp_path / "plain", 20, name="{:02d}.nii")
    assert len(Folder(plain, 1000)) == 20
    some = [path.name for path in Folder(plain, 5).paths]
    assert some == sorted(some) == [path.name for path in Folder(plain, 5).paths]
    assert some != [f"{n:02d}.nii" for n in range(5)]  # not the first alone


def said(tmp_path, real, made, **more):
    with pytest.raises(EngineError) as raised:
        list(compare_folders(Folders(real, made, tmp_path / "out", **more)))
    assert not (tmp_path / "out").exists()
    return str(raised.value)


def small(seed):
    return ball(seed, 20)


def test_bad_input_gets_one_sentence(tmp_path, without_segmenter):
    real = folder(tmp_path / "real", 12, small)
    few = folder(tmp_path / "few", 5, small)
    larger = folder(tmp_path / "larger", 6, lambda n: ball(n, 24))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no folder" in said(tmp_path, real, tmp_path / "nowhere")
    assert "holds no NIfTI file" in said(tmp_path, real, empty)
    assert "20 x 20 x 20 voxels of 1 x 1 x 1 mm" in said(tmp_path, real, larger)
    assert "5 pictures of generated; at least 6" in said(tmp_path, real, few)
    assert "5 pictures of real; at least 12" in said(tmp_path, few, real)
    assert "too small for the five scales" in said(tmp_path, real, real)


def test_one_odd_picture_among_others_is_named(tmp_path, without_segmenter):
    real = folder(tmp_path / "real", 12)
    save_volume(Volume(ball(0, 20), np.eye(4)), real / "sub-7_T1w.nii.gz")
    assert "sub-7_T1w.nii.gz has 20 x 20 x 20" in said(tmp_path, real, real)
    save_volume(
        Volume(np.zeros((EDGE,) * 3, np.float32), np.eye(4)), real / "sub-8_T1w.nii.gz"
    )
    with pytest.raises(EngineError, match="nothing brighter than 0"):
        Folder(real, 1000)[10]


def test_folders_must_be_named(capsys):
    assert main(["evaluate", "pictures"]) == 2
    assert "--real FOLDER" in capsys.readouterr().err
    words = ["--real", ".", "--generated", ".", "--features", "med3d"]
    assert main(["evaluate", "pictures", *words]) == 2
    assert "NAME=FILE" in capsys.readouterr().err

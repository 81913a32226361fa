"""Claims about atlases: names, averages, other grids, files of users."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from napari_brainldm.engine.atlas import (
    Atlas,
    Region,
    bundled,
    read_atlas,
    region_means,
)
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Grid, Volume, mni_grid

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
ROWS = tuple(tuple(float(v) for v in row) for row in AFFINE)


@pytest.fixture
def small() -> Atlas:
    labels = np.zeros((4, 5, 6), np.int32)
    labels[0], labels[3] = 7, 12
    regions = (Region(7, "left"), Region(12, "right"))
    return Atlas("small", labels, Grid((4, 5, 6), ROWS), regions)


@pytest.fixture(scope="module")
def desikan() -> Atlas:
    return bundled()


def written(folder, labels, table: str, suffix: str = ".tsv"):
    picture, names = folder / "mine.nii.gz", folder / f"mine{suffix}"
    nib.save(nib.Nifti1Image(labels, AFFINE), picture)
    names.write_text(table)
    return picture, names


def test_means_are_those_of_numpy(small):
    rng = np.random.default_rng(0)
    picture, other = (
        Volume(rng.normal(size=(4, 5, 6)).astype(np.float32), AFFINE) for _ in "ab"
    )
    for row, place in zip(region_means(small, picture, other), (0, 3), strict=True):
        assert row.mean == pytest.approx(picture.data[place].mean(), abs=1e-6)
        assert row.reference == pytest.approx(other.data[place].mean(), abs=1e-6)
        assert row.difference == pytest.approx(row.mean - row.reference)
        assert row.ml == pytest.approx(30 * 0.008)
        assert row.centre[0] == 2.0 * place
    assert region_means(small, picture)[0].difference is None


def test_pictures_on_another_grid_are_refused(small):
    with pytest.raises(EngineError, match="different grids"):
        region_means(small, Volume(np.zeros((4, 5, 5), np.float32), AFFINE))


def test_a_centre_lies_in_its_region():
    labels = np.ones((9, 9, 9), np.int32)
    labels[1:8, 1:8, 1:8] = 0  # a hollow box: its centre of mass is outside of it
    atlas = Atlas("shell", labels, Grid((9, 9, 9), ROWS), (Region(1, "shell"),))
    picture = Volume(np.zeros((9, 9, 9), np.float32), AFFINE)
    centre = np.array(region_means(atlas, picture)[0].centre) / 2
    assert labels[tuple(centre.astype(int))] == 1


def test_the_bundled_atlas_knows_sides_and_lies_in_mni_space(desikan):
    names = {region.name: region for region in desikan.regions}
    assert "Left-Inf-Lat-Vent" not in names
    assert "ctx-lh-unknown" not in names
    assert "FreeSurfer" in desikan.licence
    on = desikan.on(mni_grid(2.0))
    zero = Volume(np.zeros(on.grid.shape, np.float32), on.grid.matrix)
    rows = {row.region.name: row for row in region_means(on, zero)}
    assert rows["Left-Hippocampus"].centre[0] < -15
    assert rows["Right-Hippocampus"].centre[0] > 15
    assert rows["Brain-Stem"].centre[2] < -20
    assert 2 < rows["Left-Hippocampus"].ml < 7
    fine = (desikan.labels == 17).sum() * abs(np.linalg.det(desikan.grid.matrix)) / 1000
    assert rows["Left-Hippocampus"].ml == pytest.approx(fine, rel=0.05)


@pytest.mark.parametrize(
    ("table", "suffix", "wanted"),
    [
        ("index\tname\n3\tdeep\n9\tfar\n", ".tsv", {3: "deep"}),
        ("Index,Name,hemi\n3,deep,L\n", ".csv", {3: "deep L"}),
        ("# colours\n3  deep  10 20 30 0\n4 other 1 2 3 0\n", ".txt", {3: "deep"}),
    ],
)
def test_atlases_of_users_are_read(tmp_path, table, suffix, wanted):
    labels = np.zeros((4, 5, 6), np.int16)
    labels[1:3] = 3
    atlas = read_atlas(*written(tmp_path, labels, table, suffix))
    assert {region.index: region.name for region in atlas.regions} == wanted
    assert np.array_equal(atlas.labels, labels)
    assert np.array_equal(atlas.grid.matrix, AFFINE)


@pytest.mark.parametrize(
    ("labels", "table", "words"),
    [
        (np.full((3, 3, 3), 0.4, np.float32), "index\tname\n1\ta\n", "no label map"),
        (np.ones((3, 3, 3, 2), np.int16), "index\tname\n1\ta\n", "no label map"),
        (np.ones((3, 3, 3), np.int16), "index\tname\n5\ta\n", "None of the 1 named"),
        (np.ones((3, 3, 3), np.int16), "hello\n", "names no regions"),
        (np.ones((3, 3, 3), np.int16), "index\tname\nx\ta\n", "line 2: 'x' is no"),
    ],
)
def test_what_is_no_atlas_is_told(tmp_path, labels, table, words):
    with pytest.raises(EngineError, match=words):
        read_atlas(*written(tmp_path, labels, table))


def test_labels_that_may_be_mirrored_are_refused(tmp_path):
    """Without an orientation nibabel takes one that turns left and right about."""
    picture, names = written(
        tmp_path, np.ones((3, 3, 3), np.int16), "index\tname\n1\ta"
    )
    image = nib.load(picture)
    bare = nib.Nifti1Image(np.asarray(image.dataobj), None, image.header)
    bare.set_sform(None)
    bare.set_qform(None)
    nib.save(bare, picture)
    with pytest.raises(EngineError, match="left and right cannot be told apart"):
        read_atlas(picture, names)


def test_files_that_are_not_there_are_told(tmp_path):
    picture, names = written(tmp_path, np.ones((2, 2, 2), np.int16), "x")
    with pytest.raises(EngineError, match="cannot be read as a label map"):
        read_atlas(tmp_path / "none.nii.gz", names)
    with pytest.raises(EngineError, match="cannot be read"):
        read_atlas(picture, tmp_path / "none.tsv")

"""Reading trusts nothing, writing tells nothing: facts/robustness 3.2 and 3.5."""

from __future__ import annotations

import gzip
import itertools
import os
import stat
import struct
import time
import tracemalloc
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from napari_brainldm.engine import files, scan_file
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.scan_file import (
    ScanWarning,
    load_volume,
    read_mark,
    read_scan,
    save_volume,
)
from napari_brainldm.engine.volume import Volume

# Offsets in a NIfTI-1 header
DIM, DATATYPE, VOX_OFFSET, SLOPE = 40, 70, 108, 112
QFORM_CODE, SFORM_CODE, SROW_X, MAGIC = 252, 254, 280, 344

_C, _S = np.cos(np.radians(5)), np.sin(np.radians(5))
AFFINE = np.array([[-_C, -_S, 0, 9], [-_S, _C, 0, -8], [0, 0, 1, -7], [0, 0, 0, 1]])
AFFINE = AFFINE @ np.diag([2.0, 2.5, 3.0, 1.0])  # LAS, turned by 5 degrees
SHEARED = AFFINE @ np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def voxels(shape: tuple[int, ...] = (6, 7, 8)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, shape).astype(np.int16)


def nifti(data: np.ndarray | None = None, kind: type = nib.Nifti1Image) -> bytearray:
    """Bytes of a valid uncompressed NIfTI file."""
    return bytearray(kind(voxels() if data is None else data, AFFINE).to_bytes())


def patched(offset: int, layout: str, *values: float) -> bytearray:
    """A valid NIfTI-1 file with some header field overwritten."""
    raw = nifti()
    struct.pack_into("<" + layout, raw, offset, *values)
    return raw


def put(folder: Path, content: bytes, name: str = "scan.nii") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith("z") else content)
    return path


def refused(path: Path, words: str, **how: object) -> None:
    """The file is refused in one sentence with `words`, which names the file."""
    with pytest.raises(EngineError, match=words) as told:
        load_volume(path, **how)
    assert path.name in str(told.value)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "Über scan (2).nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_good_scan_is_read_as_nibabel_reads_it(
    tmp_path: Path, name: str, kind: type
) -> None:
    path = put(tmp_path, nifti(kind=kind), name)
    volume = load_volume(path)
    assert np.array_equal(volume.data, voxels())
    assert volume.data.dtype == np.float32
    assert np.allclose(volume.affine, nib.load(path).affine)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8", "i1", "u2", "u4"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_real_type_and_byte_order_is_read(
    tmp_path: Path, dtype: str, order: str
) -> None:
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(dtype)
    data = voxels() % 100
    path = tmp_path / "scan.nii"
    nib.Nifti1Image(data.astype(dtype), AFFINE, header).to_filename(path)
    assert np.array_equal(read_scan(path).volume.data, nib.load(path).get_fdata())


def test_scaling_is_applied(tmp_path: Path) -> None:
    path = put(tmp_path, patched(SLOPE, "2f", 0.5, -3.0))
    assert np.allclose(load_volume(path).data, voxels() * 0.5 - 3)


@pytest.mark.parametrize("name", ["scan.mgz", "scan.mgh"])
def test_freesurfer_files_are_read_as_nibabel_reads_them(
    tmp_path: Path, name: str
) -> None:
    image = nib.MGHImage(voxels(), AFFINE)
    path = tmp_path / name
    image.to_filename(path)
    volume = load_volume(path)
    assert np.array_equal(volume.data, voxels())
    assert np.allclose(volume.affine, image.affine, atol=1e-4)


def test_missing_files_folders_and_foreign_names_are_told_apart(tmp_path: Path) -> None:
    refused(tmp_path / "none.nii", "There is no file")
    (tmp_path / "folder.nii").mkdir()
    refused(tmp_path / "folder.nii", "is a folder")
    refused(put(tmp_path, b"text", "notes.txt"), "not a scan by its name")


def test_truncated_gzip_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(nifti(voxels((20, 20, 20))))
    path = tmp_path / "scan.nii.gz"
    for share in (0.02, 0.3, 0.6, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        refused(path, "damaged")


def test_wrong_checksum_is_refused(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(nifti()))
    whole[-8] ^= 0xFF
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(whole)
    nib.load(path).get_fdata()  # the reader underneath does not notice
    refused(path, "CRC check failed")


def test_one_flipped_byte_anywhere_is_found(tmp_path: Path) -> None:
    smooth = (np.arange(4000).reshape(20, 20, 10) // 7).astype(np.int16)
    whole = gzip.compress(nifti(smooth), mtime=0)
    path = tmp_path / "scan.nii.gz"
    # Bytes 4 to 9 (time, hint, system) and unused flags of byte 3 are in no checksum
    places = np.unique(np.linspace(10, len(whole) - 1, 200).astype(int))
    for place in places:
        bad = bytearray(whole)
        bad[place] ^= 0xFF
        path.write_bytes(bad)
        with pytest.raises(EngineError, match="scan"):
            read_scan(path)
    assert len(places) == 200


def test_plain_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    refused(put(tmp_path, nifti()[:-1]), "before the last voxel")
    refused(put(tmp_path, nifti()[:300]), "inside the header")


def test_empty_and_misnamed_files_are_refused(tmp_path: Path) -> None:
    refused(put(tmp_path, b"", "empty.nii"), "it is empty")
    for name, content in (
        ("plain.nii.gz", bytes(nifti())),
        ("packed.nii", gzip.compress(nifti())),
    ):
        (tmp_path / name).write_bytes(content)
    refused(tmp_path / "plain.nii.gz", "not compressed")
    refused(tmp_path / "packed.nii", "is compressed")
    refused(put(tmp_path, b"not a scan at all " * 40), "no NIfTI mark")


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.mgz"])
def test_renamed_dicom_is_called_so(tmp_path: Path, name: str) -> None:
    content = bytes(128) + b"DICM" + bytes(2000)
    refused(put(tmp_path, content, name), "DICOM")
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "DICOM")


BROKEN = {
    "huge dims": (DIM, "4h", (3, 32767, 32767, 32767), "million voxels"),
    "negative dim": (DIM, "4h", (3, -6, 7, 8), "header"),
    "zero dim": (DIM, "4h", (3, 6, 0, 8), "header"),
    "nine dims": (DIM, "h", (9,), "header"),
    "no dims": (DIM, "h", (0,), "header"),
    "one slice": (DIM, "4h", (3, 6, 56, 1), "single slice"),
    "two dims": (DIM, "3h", (2, 6, 56), "single slice"),
    "five dims": (DIM, "6h", (5, 6, 7, 2, 2, 2), "5 dimensions"),
    "seven dims": (DIM, "8h", (7, 6, 7, 2, 1, 1, 2, 2), "7 dimensions"),
    "bad datatype": (DATATYPE, "h", (999,), "type of numbers"),
    "bits": (DATATYPE, "h", (1,), "type of numbers"),
    "extended float": (DATATYPE, "h", (1536,), "type of numbers"),
    "colour": (DATATYPE, "h", (128,), "colour"),
    "colour alpha": (DATATYPE, "h", (2304,), "colour"),
    "complex": (DATATYPE, "h", (32,), "complex"),
    "offset inside": (VOX_OFFSET, "f", (10.0,), "start at byte"),
    "offset negative": (VOX_OFFSET, "f", (-400.0,), "start at byte"),
    "offset nan": (VOX_OFFSET, "f", (np.nan,), "start at byte"),
    "offset behind": (VOX_OFFSET, "f", (4000.0,), "before the last voxel"),
    "slope 1e30": (SLOPE, "2f", (1e30, 0.0), "intensity scaling"),
    "sform zeros": (SROW_X, "12f", (0.0,) * 12, "voxels of 0 x 0 x 0 mm"),
    "sform nan": (SROW_X, "f", (np.nan,), "not finite"),
    "sform singular": (SROW_X, "12f", (1, 0, 0, 0) * 3, "mm|same way"),
    "no orientation": (QFORM_CODE, "2h", (0, 0), "left and right"),
    "pair": (MAGIC, "4s", (b"ni1\0",), "pair"),
    "analyze": (MAGIC, "4s", (b"\0\0\0\0",), "no NIfTI mark"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_bad_header_is_refused_with_a_sentence(tmp_path: Path, case: str) -> None:
    offset, layout, values, words = BROKEN[case]
    for name in ("scan.nii", "scan.nii.gz"):
        refused(put(tmp_path, patched(offset, layout, *values), name), words)


def test_orientations_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(voxels(), AFFINE)
    image.set_qform(np.diag([2.0, 2.5, 3.0, 1.0]), 1)
    refused(put(tmp_path, image.to_bytes()), "disagree about left and right")


def test_memory_is_not_taken_for_what_a_header_claims(tmp_path: Path) -> None:
    raw = patched(DIM, "4h", 3, 500, 500, 500)  # 250 MB of int16 claimed
    bomb = gzip.compress(bytes(raw) + bytes(200 * 2**10))
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(bomb)
    tracemalloc.start()
    try:
        refused(path, "made to harm")
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_stream_that_never_ends_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_file, "MAX_TRAILING_BYTES", 2**20)
    path = put(tmp_path, bytes(nifti()) + bytes(3 * 2**20), "bomb.nii.gz")
    refused(path, "far behind the last voxel")


@pytest.mark.parametrize("slope", [np.nan, np.inf, 0.0])
def test_unusable_scaling_is_told(tmp_path: Path, slope: float) -> None:
    path = put(tmp_path, patched(SLOPE, "2f", slope, 0.0))
    with pytest.warns(ScanWarning, match=r"scan\.nii: .*intensity scaling"):
        volume = load_volume(path)
    assert np.array_equal(volume.data, voxels())


def test_voxels_that_are_not_numbers_become_zero_and_are_counted(
    tmp_path: Path,
) -> None:
    data = voxels().astype(np.float32)
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    reading = read_scan(put(tmp_path, nifti(data)))
    assert reading.notes == ("3 voxels were not finite numbers and were set to 0.",)
    assert np.array_equal(reading.volume.data[0, 0, :3], [0, 0, 0])
    refused(put(tmp_path, nifti(np.full_like(data, np.nan))), "100 % of the voxels")


def test_a_brain_with_no_numbers_around_it_is_read(tmp_path: Path) -> None:
    data = voxels().astype(np.float32)
    around = np.ones(data.shape, bool)
    around[1:3, 1:3, 1:3] = False
    assert around.mean() > 0.5
    data[around] = np.nan
    reading = read_scan(put(tmp_path, nifti(data)))
    assert f"{around.sum()} voxels were not finite" in reading.notes[0]
    assert np.array_equal(reading.volume.data[~around], data[~around])


def test_an_empty_scan_is_told(tmp_path: Path) -> None:
    reading = read_scan(put(tmp_path, nifti(np.zeros((4, 4, 4), np.float32))))
    assert "same intensity" in reading.notes[0]


def test_series_of_one_is_a_scan_and_of_more_must_be_chosen_from(
    tmp_path: Path,
) -> None:
    one = put(tmp_path, nifti(voxels((6, 7, 8, 1))), "one.nii")
    assert load_volume(one).data.shape == (6, 7, 8)
    series = voxels((6, 7, 8, 3))
    many = put(tmp_path, nifti(series), "many.nii.gz")
    refused(many, "series of 3 pictures")
    refused(many, "no picture 3", volume_index=3)
    for index in range(3):
        chosen = load_volume(many, volume_index=index)
        assert np.array_equal(chosen.data, series[..., index])


@pytest.mark.parametrize("letters", ["RAS", "LAS", "LPS", "AIL", "sra"])
def test_stated_orientation_stands_in_for_a_missing_one(
    tmp_path: Path, letters: str
) -> None:
    path = put(tmp_path, patched(QFORM_CODE, "2h", 0, 0))
    affine = load_volume(path, orientation=letters).affine
    assert "".join(nib.aff2axcodes(affine)) == letters.upper()
    middle = affine @ [2.5, 3.0, 3.5, 1]
    assert np.allclose(middle, [0, 0, 0, 1])
    assert np.allclose(
        np.linalg.norm(affine[:3, :3], axis=0), nib.load(path).header.get_zooms()
    )


@pytest.mark.parametrize("letters", ["RAX", "RLS", "RA", "RASA", ""])
def test_nonsense_orientation_is_refused(tmp_path: Path, letters: str) -> None:
    with pytest.raises(EngineError, match="is not an orientation"):
        load_volume(put(tmp_path, nifti()), orientation=letters)


def test_stated_orientation_does_not_overrule_the_file(tmp_path: Path) -> None:
    path = put(tmp_path, nifti())
    assert np.array_equal(load_volume(path, orientation="LAS").data, voxels())
    refused(path, "says its orientation is LAS, not RAS", orientation="RAS")


def test_freesurfer_file_without_geometry_asks_for_it(tmp_path: Path) -> None:
    raw = bytearray(nib.MGHImage(voxels(), AFFINE).to_bytes())
    struct.pack_into(">h", raw, 28, 0)
    path = put(tmp_path, raw, "scan.mgz")
    refused(path, "left and right")
    assert load_volume(path, orientation="LIA").data.shape == (6, 7, 8)


def test_all_48_orientations_keep_a_marker_where_it_is(tmp_path: Path) -> None:
    data = np.zeros((6, 7, 8), np.float32)
    data[5, 1, 2] = 1
    place = AFFINE @ [5, 1, 2, 1]
    base = nib.orientations.io_orientation(np.eye(4))
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            turn = base.copy()
            turn[:, 0], turn[:, 1] = axes, signs
            turned = nib.Nifti1Image(data, AFFINE).as_reoriented(turn)
            volume = load_volume(put(tmp_path, turned.to_bytes()))
            (found,) = np.argwhere(volume.data == 1)
            assert np.allclose(volume.affine @ [*found, 1], place, atol=1e-4)


@settings(
    max_examples=300,
    deadline=2000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 347), st.binary(min_size=1, max_size=16)),
        min_size=1,
        max_size=6,
    )
)
@example(changes=[(90, b"\x00\x81"), (246, b"\x00\x00\x00\x00\x00\x00\x01")])
def test_no_header_escapes_the_one_error(
    tmp_path: Path, changes: list[tuple[int, bytes]]
) -> None:
    raw = nifti()
    for offset, content in changes:
        raw[offset : offset + len(content)] = content
    path = put(tmp_path, raw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            volume = read_scan(path).volume
        except EngineError:
            return
    assert np.isfinite(volume.data).all()
    assert abs(np.linalg.det(volume.affine)) > 0


ODD = {
    "complex.nii.gz": "complex numbers",
    "CIT168.nii.gz": "colour picture",
    "minimal.nii.gz": "left and right cannot be told apart",
}


@pytest.mark.parametrize("name", ODD)
def test_real_odd_files_are_refused(shared: Path, name: str) -> None:
    refused(shared / "data" / "odd" / name, ODD[name])


def test_real_odd_files_that_can_be_read(shared: Path) -> None:
    odd = shared / "data" / "odd"
    assert read_scan(odd / "minimal.nii.gz", "LAS").volume.data.shape == (64, 64, 10)
    permuted = load_volume(odd / "AIL.nii.gz")
    assert nib.aff2axcodes(permuted.affine) == ("A", "I", "L")
    with pytest.warns(ScanWarning, match=r"18\.5 degrees off a right angle"):
        sheared = load_volume(odd / "shear.nii.gz")
    assert np.allclose(sheared.affine, nib.load(odd / "shear.nii.gz").affine)


def picture() -> Volume:
    data = np.random.default_rng(1).random((5, 6, 7)).astype(np.float32)
    return Volume(data, AFFINE.copy())


@pytest.mark.parametrize("name", ["out.nii", "out.nii.gz"])
def test_what_is_saved_is_read_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    save_volume(picture(), path, space="mni")
    header = nib.load(path).header
    assert np.array_equal(load_volume(path).data, picture().data)
    assert np.allclose(load_volume(path).affine, AFFINE, atol=1e-6)
    assert header["sform_code"] == 4
    assert header.get_xyzt_units()[0] == "mm"
    assert os.listdir(tmp_path) == [name]


def test_both_orientations_are_written_unless_the_axes_are_askew(
    tmp_path: Path,
) -> None:
    straight = Volume(picture().data, np.diag([-2.0, 2, 2, 1]))
    save_volume(straight, tmp_path / "a.nii")
    header = nib.load(tmp_path / "a.nii").header
    assert header["sform_code"] == header["qform_code"] == 2
    assert np.allclose(header.get_qform(), straight.affine)
    save_volume(Volume(picture().data, SHEARED), tmp_path / "b.nii")
    header = nib.load(tmp_path / "b.nii").header
    assert header["qform_code"] == 0
    assert np.allclose(header.get_sform(), SHEARED, atol=1e-5)


def test_mark_and_description_survive(tmp_path: Path) -> None:
    mark = 'SYNTHETIC \N{EM DASH} {"seed": 3} ' + "x" * 3000
    for name in ("out.nii", "out.nii.gz"):
        save_volume(picture(), tmp_path / name, "ä" * 60, mark)
        assert read_mark(tmp_path / name) == mark
        descrip = nib.load(tmp_path / name).header["descrip"].item()
        assert descrip.decode() == "ä" * 39
        assert np.array_equal(load_volume(tmp_path / name).data, picture().data)
    save_volume(picture(), tmp_path / "plain.nii")
    assert read_mark(tmp_path / "plain.nii") == ""


def test_no_name_of_a_patient_survives(tmp_path: Path) -> None:
    source = nib.Nifti1Image(voxels(), AFFINE)
    for field, size in (("descrip", 80), ("aux_file", 24), ("db_name", 18)):
        source.header[field] = b"JANE DOE"[:size]
    source.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"JANE DOE"))
    path = tmp_path / "JANE DOE.nii.gz"
    source.to_filename(path)
    save_volume(load_volume(path), tmp_path / "out.nii.gz")
    written = (tmp_path / "out.nii.gz").read_bytes()
    assert b"JANE" not in written + gzip.decompress(written)


def test_same_picture_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first.nii.gz", "second.nii.gz"):
        save_volume(picture(), tmp_path / name, "d", "m")
        time.sleep(0.01)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.nii"
    save_volume(picture(), path)
    old = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(EngineError, match="No space left"):
        save_volume(Volume(picture().data * 2, AFFINE), path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["out.nii"]


def test_replacing_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "out.nii"
    save_volume(picture(), path)
    path.chmod(0o640)
    save_volume(picture(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_foreign_names_spaces_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="written as NIfTI"):
        save_volume(picture(), tmp_path / "out.png")
    with pytest.raises(EngineError, match="is not a space"):
        save_volume(picture(), tmp_path / "out.nii", space="moon")
    with pytest.raises(EngineError, match="could not be written"):
        save_volume(picture(), tmp_path / "none" / "out.nii")

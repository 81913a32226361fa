"""Scans are prepared once, on the model's grid, and found again while unchanged."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_brainldm.engine import conform as placing
from napari_brainldm.engine.card import Intensity
from napari_brainldm.engine.checkpoint import load_checkpoint, save_checkpoint
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.scan_file import save_volume
from napari_brainldm.engine.tissue import gray_prior
from napari_brainldm.engine.volume import Grid, Volume, mni_grid
from tests.tiny import tiny_checkpoint
from trainer.data import pictures as module
from trainer.data.bids import Entry
from trainer.data.latents import encode_latents, latents_path, open_latents
from trainer.data.pictures import on_grid, open_pictures, pictures_path, prepare

GRID = mni_grid(8.0)
CONVENTION = Intensity()


@pytest.fixture
def entries(tmp_path) -> list[Entry]:
    found = []
    for n in range(3):
        data = np.random.default_rng(n).random(GRID.shape, dtype=np.float32) * 700
        data[:5] = 0
        path = tmp_path / f"sub-{n}_T1w.nii.gz"
        save_volume(Volume(data, GRID.matrix), path)
        found.append(Entry(f"sub-{n}", "", path, ()))
    return found


def made(entries, folder, workers=1) -> list[int]:
    return list(prepare(entries, GRID, CONVENTION, folder, workers))


def test_a_scan_on_the_grid_is_only_scaled(entries, monkeypatch):
    monkeypatch.setattr(placing, "conform", None)  # calling it would raise
    found = on_grid(entries[0].path, GRID, CONVENTION)
    raw = np.random.default_rng(0).random(GRID.shape, dtype=np.float32) * 700
    raw[:5] = 0
    unit = np.percentile(raw[raw > 0], 99.5)
    np.testing.assert_allclose(found, np.clip(raw / unit, 0, 1), atol=1e-6)
    assert found.dtype == np.float32


def test_a_map_on_the_grid_is_taken_as_it_is_and_a_mask_is_refused(tmp_path):
    path, intensity = tmp_path / "map.nii.gz", Intensity(scaling="probability")
    gray = gray_prior(GRID)
    save_volume(Volume(gray, GRID.matrix), path)
    np.testing.assert_allclose(on_grid(path, GRID, intensity), gray, atol=1e-6)
    save_volume(Volume((gray > 0.5).astype(np.float32), GRID.matrix), path)
    with pytest.raises(EngineError, match="labels or a mask"):
        on_grid(path, GRID, intensity)


def test_a_larger_box_of_the_same_voxels_is_padded(entries, monkeypatch):
    plain = on_grid(entries[0].path, GRID, CONVENTION)
    monkeypatch.setattr(placing, "conform", None)  # calling it would raise
    moved = GRID.matrix
    moved[:3, 3] = (moved @ [-2, 0, 3, 1])[:3]  # two more before i, three fewer of k
    i, j, k = GRID.shape
    found = on_grid(entries[0].path, Grid.of((i + 2, j, k - 3), moved), CONVENTION)
    assert found.shape == (i + 2, j, k - 3)
    assert not found[:2].any()
    # the unit is a percentile of what is within the box
    inside = plain[:, :, 3:] > 0
    ratio = found[2:][inside] / plain[:, :, 3:][inside]
    unclipped = found[2:][inside] < 1
    assert np.ptp(ratio[unclipped]) < 1e-3


def test_half_a_voxel_away_is_no_padding():
    moved = GRID.matrix
    moved[:3, 3] += moved[:3, 0] / 2
    assert not GRID.shares_voxels(Grid.of(GRID.shape, moved))
    assert GRID.shares_voxels(GRID)


def test_any_other_scan_is_conformed(entries, monkeypatch):
    asked = []

    def conform(scan, grid, percentile, segmenter):
        asked.append((scan.data.shape, grid, percentile))
        raise EngineError("It went this way.")

    monkeypatch.setattr(placing, "conform", conform)
    with pytest.raises(EngineError, match="this way"):
        on_grid(entries[0].path, mni_grid(4.0), Intensity(99.0))
    assert asked == [(GRID.shape, mni_grid(4.0), 99.0)]


def test_pictures_are_prepared_once(entries, tmp_path, monkeypatch):
    calls = []
    real = module.on_grid
    monkeypatch.setattr(module, "on_grid", lambda p, *a: calls.append(p) or real(p, *a))
    assert made(entries, tmp_path) == [1, 2, 3]
    assert made(entries, tmp_path) == []
    assert calls == [e.path for e in entries]
    found = open_pictures(entries, GRID, CONVENTION, tmp_path)
    assert (found.shape, found.dtype) == ((3, *GRID.shape), np.float16)
    for entry, picture in zip(entries, found, strict=True):
        wanted = real(entry.path, GRID, CONVENTION)
        np.testing.assert_allclose(picture, wanted, atol=5e-4)


def test_two_processes_prepare_the_same(entries, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FEW", 1)
    made(entries, tmp_path / "one", 1), made(entries, tmp_path / "two", 2)
    first, second = (
        open_pictures(entries, GRID, CONVENTION, tmp_path / name)
        for name in ("one", "two")
    )
    np.testing.assert_array_equal(first, second)


def test_a_changed_file_grid_convention_or_order_is_prepared_anew(entries, tmp_path):
    def name(entries=entries, grid=GRID, intensity=CONVENTION):
        return pictures_path(entries, grid, intensity, tmp_path)

    before = name()
    assert before == name()
    others = {name(entries[::-1]), name(entries[:2]), name(grid=mni_grid(4.0))}
    others.add(name(intensity=Intensity(98.0)))
    stat = entries[1].path.stat()
    os.utime(entries[1].path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    others.add(name())
    assert len(others | {before}) == 6


def test_broken_scans_are_told_at_the_end_and_the_others_kept(
    entries, tmp_path, monkeypatch
):
    whole = entries[1].path.read_bytes()
    for entry in entries[:2]:
        entry.path.write_bytes(b"not a scan")
    with pytest.raises(EngineError, match="2 of 3 scans cannot be used") as stop:
        made(entries, tmp_path / "cache")
    for name in ("sub-0_T1w.nii.gz", "sub-1_T1w.nii.gz", "data.without"):
        assert name in str(stop.value)
    calls = []
    real = module.on_grid
    monkeypatch.setattr(module, "on_grid", lambda p, *a: calls.append(p) or real(p, *a))
    entries[1].path.write_bytes(whole)
    assert made(entries[1:], tmp_path / "cache") == [2]
    assert calls == [entries[1].path]  # the third one was there
    found = open_pictures(entries[1:], GRID, CONVENTION, tmp_path / "cache")
    for entry, picture in zip(entries[1:], found, strict=True):
        wanted = real(entry.path, GRID, CONVENTION)
        np.testing.assert_allclose(picture, wanted, atol=5e-4)


def test_an_empty_scan_gets_a_sentence(entries, tmp_path):
    dark = Volume(np.zeros(GRID.shape, np.float32), GRID.matrix)
    save_volume(dark, entries[0].path)
    with (
        pytest.warns(UserWarning, match="the scan is empty"),
        pytest.raises(EngineError, match="nothing brighter than 0"),
    ):
        made(entries, tmp_path / "cache")


def test_no_scans_are_no_pictures(tmp_path):
    assert made([], tmp_path) == []
    assert open_pictures([], GRID, CONVENTION, tmp_path).shape == (0, *GRID.shape)


def test_an_interrupted_preparation_goes_on(entries, tmp_path):
    started = prepare(entries, GRID, CONVENTION, tmp_path / "cache", 1)
    next(started)
    started.close()
    assert made(entries, tmp_path / "cache") == [2, 3]
    [scans] = [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    assert list(scans.iterdir()) == []  # nothing is kept twice


# Latents ------------------------------------------------------------------------------


def test_latents_are_encoded_once_and_the_mirror_is_the_mirror(entries, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(tiny_checkpoint(), path)
    checkpoint = load_checkpoint(path)
    made(entries, tmp_path)
    pictures = open_pictures(entries, GRID, CONVENTION, tmp_path)
    where = [latents_path(Path(tmp_path / "p.npy"), checkpoint, m) for m in (0, 1)]
    assert where[0] != where[1]
    assert list(encode_latents(checkpoint, pictures, where[0], False)) == [1, 2, 3]
    assert list(encode_latents(checkpoint, pictures, where[0], False)) == []
    turned = np.asarray(pictures)[:, ::-1]
    list(encode_latents(checkpoint, pictures, where[1], True))
    list(encode_latents(checkpoint, turned, tmp_path / "turned.npy", False))
    first = open_latents(where[0])
    assert first.shape == (3, *checkpoint.card.latent_shape)
    mirrored = open_latents(where[1])
    np.testing.assert_array_equal(mirrored, open_latents(tmp_path / "turned.npy"))
    assert np.abs(first - mirrored).max() > 0
    x = checkpoint.autoencoder().encode(_tensor(pictures[2]))[0]
    np.testing.assert_allclose(first[2], x[0].detach().numpy(), atol=1e-5)


def _tensor(picture):
    import torch

    return torch.from_numpy(picture.astype(np.float32))[None, None]


def test_latents_of_another_autoencoder_have_another_name(tmp_path):
    from dataclasses import replace

    tiny = tiny_checkpoint()
    names = {
        latents_path(tmp_path / "p.npy", replace(tiny, sha256=sha * 32), False)
        for sha in ("aa", "bb")
    }
    assert len(names) == 2


def test_a_real_scan_comes_onto_the_grid(shared, tmp_path):
    source = next((shared / "data" / "ds002748" / "sub-01").rglob("*_T1w.nii.gz"))
    path = shutil.copy(source, tmp_path / "sub-01_T1w.nii.gz")
    found = on_grid(Path(path), mni_grid(4.0), CONVENTION)
    assert found.shape == (40, 48, 40)
    assert (found.min(), found.max()) == (0.0, 1.0)
    assert 900 < (found > 0).sum() * 0.064 < 2200  # ml of brain, mask widened

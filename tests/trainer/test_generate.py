"""A plan becomes a BIDS dataset of pictures, whoever makes them and however often."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_brainldm.engine.batch import fitting_batch, largest_batch, sample
from napari_brainldm.engine.checkpoint import file_sha256, save_checkpoint
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Request,
    Sampler,
    Scan,
    Seed,
)
from napari_brainldm.engine.scan_file import load_volume, read_mark
from tests.tiny import tiny_checkpoint
from trainer.__main__ import main
from trainer.generate import work
from trainer.generate.job import RUN_FILE
from trainer.generate.plan import plan_of_grid
from trainer.generate.run import Wish, check, generate

MODEL = tiny_checkpoint()
FEW = Sampler("ddim", 2)
AXES = ["age=30,60,95", "sex=F,M"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def wish(tmp_path_factory):
    """Six pictures in batches of two and float32, in this process, unmeasured."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(MODEL, path)
    return Wish(
        path, Path(), FEW, workers=0, device="cpu", precision="float32", batch=2
    )


def plan(axes=AXES, seed=0):
    return plan_of_grid(axes, 1, MODEL.card, seed)


def run(wish, out, rows=None):
    known = replace(MODEL, sha256=file_sha256(wish.checkpoint))
    return list(generate(replace(wish, out=out), known, rows or plan()))


def content(folder):
    """Hash of every file of a dataset by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(wish, tmp_path_factory):
    """What one process makes in one go."""
    out = tmp_path_factory.mktemp("whole")
    run(wish, out)
    return out


def sidecar(out, name):
    return out / name / "anat" / f"{name}_desc-synthetic_T1w.json"


# What is written ----------------------------------------------------------------------


def test_the_pictures_are_a_dataset(wish, whole):
    facts = json.loads((whole / "dataset_description.json").read_text())
    assert facts["Synthetic"] is True
    assert facts["Checkpoint"] == file_sha256(wish.checkpoint)
    assert facts["Pictures"] == 6
    with (whole / "participants.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["age"] for row in rows] == ["30.0"] * 2 + ["60.0"] * 2 + ["95.0"] * 2
    assert [row["outside_training_range"] for row in rows] == ["none"] * 4 + ["age"] * 2
    seeds = [str(request.origin.value) for _, request in plan()]
    assert [row["seed"] for row in rows] == seeds
    legend = json.loads((whole / "participants.json").read_text())
    assert legend["age"]["Units"] == "years"
    assert set(legend) == set(rows[0]) - {"participant_id"}


def test_every_picture_says_that_it_is_synthetic_and_from_what(wish, whole):
    path = sidecar(whole, "sub-000003").with_suffix(".nii.gz")
    told = json.loads(sidecar(whole, "sub-000003").read_text())
    assert told["Synthetic"] is True
    assert json.loads(read_mark(path))["Synthetic"] is True
    assert told["FileSha256"] == file_sha256(path)
    assert load_volume(path).digest == told["PictureSha256"]
    assert told["Request"]["conditions"]["age"] == 60.0
    assert told["Checkpoint"]["sha256"] == file_sha256(wish.checkpoint)


def test_a_batch_of_one_is_the_one_road(wish, tmp_path):
    """In a batch of their own, pictures are those of Renderer.render, bit for bit."""
    rows = plan(["age=40"])
    run(replace(wish, batch=1), tmp_path, rows)
    request = replace(rows[0][1], sampler=FEW)
    alone = finish(Renderer(MODEL, "cpu", "float32").render(request))
    told = json.loads(sidecar(tmp_path, "sub-000001").read_text())
    assert told["PictureSha256"] == alone.digest


def test_zarr_holds_the_same_voxels(wish, whole, tmp_path):
    zarr = pytest.importorskip("zarr")
    run(replace(wish, form="zarr"), tmp_path)
    array = zarr.open_array(str(tmp_path / "pictures.zarr"), mode="r")
    assert array.shape == (6, *MODEL.card.grid.shape)
    path = sidecar(whole, "sub-000005").with_suffix(".nii.gz")
    assert np.array_equal(array[4], load_volume(path).data)
    assert np.allclose(array.attrs["affine"], MODEL.card.grid.matrix)


def test_measured_volumes_stand_in_the_table(wish, tmp_path, monkeypatch):
    told = {
        "VolumesMl": {"ventricles": 21.5, "icv": 1400.0},
        "GotMl": {"ventricles": 21.5},
        "MeasuredBy": "a plant",
    }
    monkeypatch.setattr(work, "measured", lambda *_: told)
    run(wish, tmp_path, plan(["age=40"]))
    with (tmp_path / "participants.tsv").open(newline="") as file:
        [row] = csv.DictReader(file, delimiter="\t")
    assert row["measured_icv"] == "1400.0"
    assert row["got_ventricles"] == row["measured_ventricles"] == "21.5"
    assert row["ventricles"] == "20.0"  # asked for


# Again, elsewhere, after a kill -------------------------------------------------------


def test_a_cut_short_run_goes_on_to_the_same_bytes(wish, whole, tmp_path):
    out = tmp_path / "out"
    run(wish, out)
    kept = sidecar(out, "sub-000006").stat().st_mtime_ns
    told = sidecar(out, "sub-000001")
    told.with_suffix(".nii.gz").write_bytes(b"half")  # killed before the sidecar
    told.unlink()
    sidecar(out, "sub-000003").write_text('{"Index": 2')  # power failure
    lines = run(wish, out)
    assert lines[0].startswith("4 of 6 pictures are there")
    assert content(out) == content(whole)
    assert sidecar(out, "sub-000006").stat().st_mtime_ns == kept


def test_a_later_run_keeps_the_batches_it_was_begun_with(wish, whole, tmp_path):
    out = tmp_path / "out"
    run(wish, out)
    sidecar(out, "sub-000004").unlink()
    run(replace(wish, batch=3, precision=""), out)
    assert content(out) == content(whole)


def test_two_workers_make_the_same_bytes(wish, whole, tmp_path):
    pytest.importorskip("distributed")
    run(replace(wish, workers=2), tmp_path)
    assert content(tmp_path) == content(whole)


def test_pictures_of_another_plan_are_not_passed_off(wish, whole):
    with pytest.raises(EngineError, match="belongs to another plan or checkpoint"):
        run(wish, whole, plan(seed=1))


@pytest.mark.parametrize("sampler", [Sampler("ddim", 2000), Sampler("dpm", 2)])
def test_a_sampler_that_cannot_be_spoils_no_folder(wish, tmp_path, sampler):
    out = tmp_path / "out"
    with pytest.raises(EngineError):
        run(replace(wish, sampler=sampler), out)
    assert not out.exists() or not list(out.iterdir())


def test_a_dataset_of_scans_is_never_written_into(wish, tmp_path):
    (tmp_path / "participants.tsv").write_text("participant_id\nsub-000001\n")
    with pytest.raises(EngineError, match=r"holds participants\.tsv and 0 more"):
        run(wish, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["participants.tsv"]


def test_a_changed_file_is_found(wish, tmp_path):
    run(wish, tmp_path)
    known = replace(MODEL, sha256=file_sha256(wish.checkpoint))
    again = replace(wish, out=tmp_path)
    assert "are there and whole" in list(check(again, known, plan()))[-1]
    path = sidecar(tmp_path, "sub-000002").with_suffix(".nii.gz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(EngineError, match=r"1 of 6 .* not what was written: sub-00000"):
        list(check(again, known, plan()))
    with pytest.raises(EngineError, match="Delete their folders"):
        run(wish, tmp_path)


def test_a_finished_run_is_that_of_the_plan_and_no_more(wish, tmp_path):
    """Another picture's sidecar in a place, one picture missing, one too many."""
    run(wish, tmp_path)
    known = replace(MODEL, sha256=file_sha256(wish.checkpoint))
    again = replace(wish, out=tmp_path)
    told = json.loads(sidecar(tmp_path, "sub-000001").read_text())
    path = sidecar(tmp_path, "sub-000003")
    kept = path.read_text()
    path.write_text(json.dumps(json.loads(kept) | {"Asked": told["Asked"]}))
    sidecar(tmp_path, "sub-000004").with_suffix(".nii.gz").unlink()
    with pytest.raises(EngineError, match=r"2 of 6 .*: sub-000003, sub-000004\."):
        list(check(again, known, plan()))
    path.write_text(kept)
    shutil.rmtree(tmp_path / "sub-000004")
    run(wish, tmp_path)
    shutil.copytree(tmp_path / "sub-000001", tmp_path / "sub-000099")
    with pytest.raises(EngineError, match=r"what the plan has not: sub-000099\."):
        list(check(again, known, plan()))


def test_a_running_scheduler_is_used(wish, whole, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=""
    ) as cluster:
        run(replace(wish, scheduler=cluster.scheduler_address), tmp_path)
    assert content(tmp_path) == content(whole)


def test_another_machine_is_refused(wish, tmp_path):
    run(wish, tmp_path)
    path = tmp_path / RUN_FILE
    told = json.loads(path.read_text())
    assert f"torch {torch.__version__}" in told["hardware"]
    path.write_text(json.dumps(told | {"hardware": "abacus"}))
    sidecar(tmp_path, "sub-000001").unlink()
    with pytest.raises(EngineError, match="begun on abacus"):
        run(wish, tmp_path)


def test_an_absent_scheduler_gets_a_sentence(wish, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    from trainer.generate import crew

    monkeypatch.setattr(crew, "WAIT", "200ms")
    with pytest.raises(EngineError, match="No Dask scheduler answers"):
        run(replace(wish, scheduler="tcp://127.0.0.1:9"), tmp_path)


@pytest.mark.slow
def test_killed_runs_and_workers_leave_the_same_dataset(wish, whole, tmp_path, root):
    """kill -9 of a worker, then of the whole run, twice; the next run completes it."""
    pytest.importorskip("distributed")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "trainer", "generate", "--grid", *AXES]
    command += ["--checkpoint", str(wish.checkpoint), "--out", str(out)]
    command += ["--workers", "2", "--batch", "2", "--precision", "float32"]
    command += ["--sampler", "ddim", "--steps", "2", "--segmenter", "none"]
    for made in (1, 3):
        child = subprocess.Popen([*command, "--device", "cpu"], cwd=root)
        while len(list(out.rglob("*T1w.json"))) < made and child.poll() is None:
            time.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    subprocess.run([*command, "--device", "cpu"], cwd=root, check=True)
    found = content(out)
    rest = {name: sha for name, sha in found.items() if not name.endswith(".tmp")}
    assert rest == content(whole)


# Batches ------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", [FEW, Sampler("ddpm", 2), Sampler("dpm++2m", 2)])
def test_a_batch_is_its_pictures(sampler):
    """To rounding, with fresh noise too; the conditions stay with their pictures."""
    renderer = Renderer(MODEL, "cpu", "float32")
    asked = [
        Request(Conditions.of({"age": age}), Seed(seed), sampler=sampler, guidance=2.0)
        for age, seed in ((30.0, 4), (80.0, 5))
    ]
    latents = finish(sample(renderer, asked))
    for place, request in enumerate(asked):
        alone = finish(sample(renderer, [request]))
        assert float((latents[place] - alone[0]).abs().max()) < 1e-4
    apart = finish(sample(renderer, asked[::-1]))
    assert float((latents - apart).abs().max()) > 1e-2


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (Request(sampler=Sampler("ddim", 3)), "different samplers"),
        (Request(origin=Scan("ab"), sampler=FEW), "a picture of a scan"),
        (Request(shift=(("AD", 1.0),), sampler=FEW), "moved along a direction"),
    ],
)
def test_a_batch_of_unlike_pictures_is_refused(other, sentence):
    renderer = Renderer(MODEL, "cpu", "float32")
    with pytest.raises(EngineError, match=sentence):
        finish(sample(renderer, [Request(sampler=FEW), other]))


@pytest.mark.parametrize(
    ("free", "most", "fits"),
    [(1000, 64, 7), (1000, 4, 4), (260, 64, 1), (100, 64, 1), (10**9, 64, 64)],
)
def test_a_batch_is_as_large_as_the_memory(free, most, fits):
    """100 bytes each and 100 besides, within 80 % of what is free."""
    asked = []

    def peak(size):
        asked.append(size)
        return 100 + 100 * size

    assert largest_batch(peak, free, most) == fits
    assert all(size <= 2 for size in asked)  # found without running out


def test_a_processor_walks_one_by_one():
    assert fitting_batch(Renderer(MODEL, "cpu", "float32"), Request(), 64) == 1


# The command --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--grid", "age=40", "--batch", "-1"], "--batch is -1"),
        (["--draw", "3", "--each", "2"], "multiplies the combinations of --grid"),
        (["--grid", "age=40", "--threads", "0"], "--threads is 0"),
        (["--grid", "age=40", "--seed", "-1"], "--seed is -1"),
        (["--grid", "age=40", "--segmenter", "nowhere"], "There is no segmenter"),
        (["--draw", "3"], "does not tell the joint distribution"),
    ],
)
def test_the_command_answers_in_sentences(wish, tmp_path, capsys, options, sentence):
    common = ["--checkpoint", str(wish.checkpoint), "--out", str(tmp_path / "out")]
    assert main(["generate", *common, "--segmenter", "none", *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

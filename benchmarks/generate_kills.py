"""A run of many pictures whose workers are killed, and which is killed itself."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from napari_brainldm.engine.checkpoint import save_checkpoint
from tests.tiny import tiny_checkpoint

ROOT = Path(__file__).parents[1]
WORKER = "spawn_main"
"""In the command line of a process that Dask has started to work."""

Counts = tuple[int, int, int]


def kills(counts: Counts, seed: int) -> dict[str, Any]:
    """Pictures made, and whether a disturbed run left what a quiet one does.

    `counts`: pictures, workers killed, and times that the whole run is killed.
    """
    pictures, _, runs = counts
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny.safetensors"
        save_checkpoint(tiny_checkpoint(), model)
        quiet, rough = Path(folder) / "quiet", Path(folder) / "rough"
        start = time.perf_counter()
        assert _start(model, quiet, pictures).wait() == 0, "the run did not end well"
        seconds = time.perf_counter() - start
        kept, killed = _disturbed(model, rough, counts, seed)
        whole, found = _content(quiet), _content(rough)
        return {
            "pictures": pictures,
            "workers_killed": killed,
            "runs_killed": runs,
            "quiet_run_seconds": seconds,
            "killed_run_is_identical": float(found == whole),
            "kept_pictures_untouched": float(kept),
        }


def _disturbed(model: Path, out: Path, counts: Counts, seed: int) -> tuple[bool, int]:
    """Run until it ends; whether made pictures stayed, and how many workers died."""
    pictures, workers, runs = counts
    draw = random.Random(seed)
    moments = sorted(draw.sample(range(1, pictures), workers + runs))
    ends = set(draw.sample(moments[1:] if runs < len(moments) else moments, runs))
    kept, killed = True, 0
    run = _start(model, out, pictures)
    for moment in moments:
        while _made(out) < moment and run.poll() is None:
            time.sleep(0.05)
        if run.poll() is not None:
            break
        if moment not in ends:
            killed += _kill_worker(run.pid, draw)
            continue
        before = _times(out)
        _kill_all(run)
        run = _start(model, out, pictures)
        kept &= before.items() <= _times(out).items()
    assert run.wait() == 0, "the run did not end well"
    return kept, killed


def _command(model: Path, out: Path, pictures: int) -> list[str]:
    return [
        *(sys.executable, "-m", "trainer", "generate", "--grid", "age=40,60"),
        *("--each", str(pictures // 2), "--checkpoint", str(model)),
        *("--out", str(out), "--workers", "2", "--batch", "2", "--device", "cpu"),
        *("--precision", "float32", "--sampler", "ddim", "--steps", "2"),
        *("--segmenter", "none"),
    ]


def _start(model: Path, out: Path, pictures: int) -> subprocess.Popen[bytes]:
    # the object printed at the end must be all that there is on the way out
    return subprocess.Popen(
        _command(model, out, pictures), cwd=ROOT, stdout=subprocess.DEVNULL
    )


def _kill_worker(run: int, draw: random.Random) -> int:
    """Kill one worker of `run` at random; how many were."""
    found = [p for p in _children(run) if WORKER in " ".join(p.cmdline())]
    if not found:
        return 0
    draw.choice(found).kill()
    return 1


def _children(run: int) -> list[psutil.Process]:
    try:
        return psutil.Process(run).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill_all(run: subprocess.Popen[bytes]) -> None:
    """Kill -9 of a run with all its processes, as a machine that loses power."""
    for process in [psutil.Process(run.pid), *_children(run.pid)]:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    run.wait()


def _made(out: Path) -> int:
    return sum(1 for _ in out.glob("sub-*/anat/*_T1w.json"))


def _times(out: Path) -> dict[str, int]:
    """When each picture that counts as made was written, ns."""
    found = {}
    for path in out.glob("sub-*/anat/*_T1w.json"):
        if "FileSha256" in path.read_text():
            found[path.name] = path.with_suffix(".nii.gz").stat().st_mtime_ns
    return found


def _content(folder: Path) -> dict[str, str]:
    """Hash of every file by name; what a kill left half-written has another name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".tmp"
    }

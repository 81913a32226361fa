"""Training in several processes is training in one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.trainer.together import STEPS
from tests.trainer.together import main as alone
from trainer import processes
from trainer.processes import first_alone, only_first, settled
from trainer.state import load_state


def launched(root, count, *arguments):
    """Start `count` processes by `accelerate launch`; they meet by gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", str(count), "--num_machines", "1"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", port, "-m", "tests.trainer.together"]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def curve(state):
    told = json.loads(state.with_suffix(".json").read_text())
    return told["processes"], told["losses"]


def assert_alike(first, second):
    """Losses of every step within a thousandth, and nearly the same weights."""
    (_, one), (_, two) = curve(first), curve(second)
    assert len(one) == len(two)
    for before, after in zip(one, two, strict=True):
        assert after == pytest.approx(before, rel=1e-3)
    (step, mine, _), (other, theirs, _) = load_state(first), load_state(second)
    assert step == other == STEPS
    for name, weight in mine["average/"].items():
        assert float((weight - theirs["average/"][name]).abs().max()) < 1e-3, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parts"), [("line", 2), ("ldm", 1), ("autoencoder", 1)]
)
def test_two_processes_learn_what_one_learns(name, parts, root, tmp_path):
    """Four samples a step: in one process, and two in each of two; in parts as well."""
    one, two = tmp_path / "one.state", tmp_path / "two.state"
    alone(name, str(one), str(STEPS), "1")
    launched(root, 2, name, two, STEPS, parts)
    assert curve(one)[0] == 1
    assert curve(two)[0] == 2
    assert_alike(one, two)


@pytest.mark.slow
def test_a_run_goes_on_in_another_number_of_processes(root, tmp_path, again):
    """Half of it in two processes and half in one is the whole in one."""
    whole = tmp_path / "whole.state"
    alone("ldm", str(whole), str(STEPS), "1")
    losses = curve(whole)[1]
    mixed = tmp_path / "mixed.state"
    launched(root, 2, "ldm", mixed, STEPS // 2, 1)
    first = curve(mixed)[1]
    again()
    alone("ldm", str(mixed), str(STEPS), "1", "resume")
    assert len(first) == STEPS // 2
    for found, wanted in zip(first + curve(mixed)[1], losses, strict=True):
        assert found == pytest.approx(wanted, rel=1e-3)


class Place:
    """One of two processes, without another: it counts who was waited for."""

    def __init__(self, main):
        self.is_main_process, self.waits = main, 0

    def wait_for_everyone(self):
        self.waits += 1


@pytest.mark.parametrize("main", [True, False])
def test_only_the_first_process_saves(main):
    done = []

    def work():
        done.append(1)
        yield "Saved"

    place = Place(main)
    assert list(only_first(place, work())) == (["Saved"] if main else [])
    assert done == ([1] if main else [])
    assert place.waits == 1


def test_the_first_process_prepares_and_tells():
    from accelerate import PartialState

    def work():
        yield "Prepared"
        return 7

    steps = first_alone(PartialState(cpu=True), work())
    assert next(steps) == "Prepared"
    with pytest.raises(StopIteration) as ended:
        next(steps)
    assert ended.value.value == 7


@pytest.mark.parametrize(
    ("measured", "found"), [("bfloat16", "bf16"), ("float32", "no")]
)
def test_the_precision_is_what_is_right_and_faster_here(
    measured, found, monkeypatch
) -> None:
    asked = []

    def probe(device):
        asked.append(device)
        return measured

    monkeypatch.setattr(processes, "probe", probe)
    monkeypatch.setattr(processes, "_AUTO", {})
    assert settled("auto", "cpu") == settled("auto", "cpu") == found
    assert asked == ["cpu"]  # once: all loops of a process must have the same
    assert settled("bf16", "cpu") == "bf16" and settled("no", "cpu") == "no"

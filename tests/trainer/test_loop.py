"""The training loop sees what it should, and goes on as if nothing had happened."""

from __future__ import annotations

import math
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_brainldm.engine.request import EngineError
from tests.trainer import toys
from tests.trainer.toys import LOOP, Blurred, Line
from trainer import processes
from trainer.config import LoopConfig
from trainer.loop import Training, items, rate, train, trained
from trainer.loop_config import AUTO
from trainer.state import load_state, saved_precision

SHORT = replace(LOOP, steps=6, batch=2, save_every=3, log_every=2, picture_every=4)


def run(stage, loop, state, resume=False):
    return list(train(stage, loop, state, resume, "cpu"))


def farthest(first, second):
    """Largest absolute difference of two mappings of tensors."""
    assert first.keys() == second.keys()
    return max(float((first[k] - second[k]).abs().max()) for k in first)


# Resume -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "saved", "fatal"),
    [("autoencoder", 100, 113), ("ldm", 100, 113), ("gan", 7, 10)],
)
def test_a_killed_run_goes_on_to_the_same_weights(
    name, saved, fatal, root, tmp_path, again
):
    """200 steps, against 100 and some, kill -9 in the middle of a step, and the rest.

    Two players on larger pictures go 7 and 7 steps.
    """
    loop = toys.LOOPS[name]
    whole, order = tmp_path / "whole.state", []
    run(toys.recorded(toys.STAGES[name](), order), loop, whole)
    child = subprocess.run(
        [sys.executable, "-m", "tests.trainer.toys", name, str(tmp_path), str(fatal)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert child.returncode == -9, child.stderr
    state = tmp_path / "toy.state"
    assert load_state(state)[0] == saved
    again()
    after: list = []
    run(toys.recorded(toys.STAGES[name](), after), loop, state, resume=True)
    before = np.load(tmp_path / "seen.npy")
    before = [tuple(row) for row in before[before[:, 0] < saved]]
    assert before + after == order
    (_, first, _), (_, second, _) = load_state(whole), load_state(state)
    for part in first:
        assert farthest(first[part], second[part]) == 0.0, part


def test_dropout_goes_on_as_it_would_have(tmp_path):
    whole, state = tmp_path / "whole.state", tmp_path / "part.state"
    run(Blurred(), SHORT, whole)
    torch.manual_seed(99)
    run(Blurred(), replace(SHORT, steps=3), state)
    torch.manual_seed(7)  # another process
    run(Blurred(), SHORT, state, resume=True)
    first, second = (load_state(path)[1]["network/line"] for path in (whole, state))
    assert farthest(first, second) == 0.0
    run(Blurred(), replace(SHORT, seed=SHORT.seed + 1), state)
    assert farthest(first, load_state(state)[1]["network/line"]) > 0


def test_a_run_goes_on_in_the_precision_it_was_begun_in(tmp_path, monkeypatch, again):
    """What "auto" finds now does not matter; what the config says does."""
    asked, state = replace(SHORT, precision=AUTO), tmp_path / "a.state"
    for steps, probed, precision, going in (
        (3, "bfloat16", AUTO, "bf16"),
        (6, "float32", AUTO, "bf16"),
        (9, "bfloat16", "no", "no"),
    ):
        again()
        monkeypatch.setattr(processes, "_AUTO", {})
        monkeypatch.setattr(processes, "probe", lambda _, found=probed: found)
        loop = replace(asked, steps=steps, precision=precision)
        run(Line(), loop, state, resume=True)
        assert saved_precision(state) == going


def test_processes_meet_once_a_step(monkeypatch):
    """All parts but the last are walked, forth and back, while gradients are held."""
    stage = Line()
    training = Training(stage, replace(SHORT, batch=2, accumulate=3), "cpu")
    held, seen = [False], []

    @contextmanager
    def no_sync(_):
        held[0] = True
        yield
        held[0] = False

    monkeypatch.setattr(training.accelerator, "no_sync", no_sync)
    stage.players[0].network.register_forward_hook(lambda *_: seen.append(held[0]))
    training.advance()
    assert seen == [True, True, False]


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from trainer.state import load_state, save_state
path = Path(sys.argv[1])
parts = lambda n: {"network/a": {"w": torch.full((2**18,), float(n))},
                   "average/": {"w": torch.full((2**18,), float(n))}}
def work(told):
    step = load_state(path)[0] if path.is_file() else 0
    while True:
        step += 1
        save_state(path, step, parts(step), {})
        os.write(told, step.to_bytes(8, "little"))
draw, stale, loads = random.Random(0), 0, 0
for kill in range(200):
    if kill >= 20 and stale:
        break
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        work(told)
    os.close(told)
    acknowledged = int.from_bytes(os.read(heard, 8), "little")
    time.sleep(draw.uniform(0.0, 0.04))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    rest = b""
    while chunk := os.read(heard, 4096):
        rest += chunk
    os.close(heard)
    acknowledged = int.from_bytes(rest[-8:], "little") if rest else acknowledged
    step, found, _ = load_state(path)
    values = {float(v) for held in found.values() for v in held["w"].unique()}
    assert values == {float(step)}, (values, step)
    assert step in (acknowledged, acknowledged + 1), (step, acknowledged)
    loads += 1
    stale = len(list(path.parent.glob("*.tmp")))
print(loads, stale)
"""


def test_twenty_kills_while_saving_leave_a_whole_state(root, tmp_path):
    """Half-written files stay beside the state, and nothing ever reads them."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", KILLS, str(tmp_path / "run.state")],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    loads, stale = map(int, done.stdout.split())
    assert loads >= 20
    assert stale > 0, "no kill fell into a write: the test proves nothing"


def test_a_full_disk_gets_a_sentence_and_leaves_the_state_before(tmp_path, full_disk):
    state = tmp_path / "line.state"
    run(Line(), SHORT, state)
    before = state.read_bytes()
    with full_disk(100), pytest.raises(EngineError, match="Make room on its disk"):
        run(Line(), SHORT, state)
    assert state.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [state.name]


def test_a_finished_run_is_not_trained_again(tmp_path):
    state = tmp_path / "line.state"
    run(Line(), SHORT, state)
    before = trained(Line(), state)
    stage = Line()
    assert run(stage, SHORT, state, resume=True) == []
    assert stage.seen == []
    assert farthest(before, trained(stage, state)) == 0


def test_a_new_run_does_not_read_the_old_state(tmp_path):
    state = tmp_path / "line.state"
    run(Line(), SHORT, state)
    first = trained(Line(), state)
    run(Line(), SHORT, state)
    assert farthest(first, trained(Line(), state)) == 0


def test_the_state_of_another_network_is_refused(tmp_path):
    state = tmp_path / "a.state"
    run(Line(), SHORT, state)
    with pytest.raises(EngineError, match="other networks than this config"):
        run(toys.ldm_stage(), SHORT, state, resume=True)


@pytest.mark.parametrize("content", [b"", b"not a state", b"\x08" + bytes(15)])
def test_a_damaged_state_gets_a_sentence(content, tmp_path):
    state = tmp_path / "a.state"
    state.write_bytes(content)
    with pytest.raises(EngineError, match="Start the stage again without --resume"):
        run(Line(), SHORT, state, resume=True)


# Samples ------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "batch"), [(7, 1), (7, 3), (12, 4)])
def test_every_sample_comes_once_an_epoch(count, batch):
    loop = LoopConfig(batch=batch, seed=5)
    steps = 3 * count  # 3 * batch epochs
    found = [i for s in range(steps) for i in items(loop, count, s, 0, 1)]
    indices = [item.index for item in found]
    epochs = [indices[i : i + count] for i in range(0, len(indices), count)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert len({item.seed for item in found}) == len(found)


def test_another_seed_is_another_order():
    first, second = (
        [items(LoopConfig(seed=seed), 50, s, 0, 1) for s in range(50)]
        for seed in (0, 1)
    )
    assert first != second


def test_two_processes_see_what_one_sees():
    loop = LoopConfig(batch=2, accumulate=3)
    for step in range(9):
        alone = items(loop, 7, step, 0, 1)
        dealt = [items(loop, 7, step, rank, 2) for rank in (0, 1)]
        assert len(dealt[0]) == len(dealt[1]) == 3
        key = lambda item: item.seed  # noqa: E731
        assert sorted([*dealt[0], *dealt[1]], key=key) == sorted(alone, key=key)


@pytest.mark.parametrize("make", [toys.autoencoder_stage, toys.ldm_stage])
def test_two_halves_of_a_batch_are_the_batch(make, tmp_path, again):
    found = []
    for batch, accumulate in ((2, 1), (1, 2)):
        again()
        loop = replace(SHORT, batch=batch, accumulate=accumulate, steps=4)
        state = tmp_path / f"{accumulate}.state"
        stage = make(loop)
        reports = run(stage, loop, state)
        average = load_state(state)[1]["average/"]
        seen = reports[-1].losses | stage.held_out(average)
        # a normalisation takes off what a bias adds ahead of it: the gradient there is
        # rounding, which Adam makes steps of
        told = {k: v for k, v in average.items() if not k.endswith("conv.bias")}
        found.append((told, seen))
    assert farthest(found[0][0], found[1][0]) < 1e-6
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)


def test_the_loss_is_the_mean_over_the_parts(tmp_path):
    loop = replace(SHORT, batch=1, accumulate=4, steps=1)
    reports = run(Line(), loop, tmp_path / "a.state")
    stage, fresh = Line(), Line()
    batch = items(loop, stage.count, 0, 0, 1)
    alone = [fresh._loss(fresh.players[0].network, [i], None, 0)[0] for i in batch]
    mean = float(np.mean([float(one["error"].detach()) for one in alone]))
    assert reports[-1].losses["error"] == pytest.approx(mean, rel=1e-5)


# Rate and average ---------------------------------------------------------------------


def test_the_rate_warms_up_and_falls_to_a_tenth():
    loop = LoopConfig(steps=1000, warmup=100)
    assert [rate(loop, s) for s in (0, 49, 99)] == pytest.approx([0.01, 0.5, 1.0])
    for step in (100, 333, 550, 999):
        angle = math.pi * (step - 100) / 900
        cosine = 0.1 + 0.9 * (1 + math.cos(angle)) / 2
        assert rate(loop, step) == pytest.approx(cosine)
    assert rate(loop, 100) == 1.0
    assert rate(loop, 1000) == rate(loop, 2000) == pytest.approx(0.1)
    assert rate(LoopConfig(steps=10, warmup=0), 0) == 1.0
    assert rate(LoopConfig(steps=5, warmup=50), 4) == pytest.approx(0.1)


@pytest.mark.parametrize("ema", [0.0, 0.5, 0.999])
def test_the_average_is_the_banal_one(ema):
    training = Training(Line(), replace(SHORT, ema=ema), "cpu")
    average = {k: v.clone() for k, v in training.raw().items()}
    for step in range(1, 25):
        training.advance()
        decay = min(ema, (1 + step) / (10 + step))
        raw = training.raw()
        average = {k: decay * average[k] + (1 - decay) * raw[k] for k in average}
    assert farthest(average, training.average) < 1e-6
    if ema == 0:
        assert farthest(training.weights(), training.raw()) == 0


def test_adam_gets_the_rate_of_the_step():
    training = Training(Line(), replace(SHORT, warmup=4, learning_rate=0.1), "cpu")
    rates = []
    for _ in range(3):
        training.advance()
        rates.append(training.optimizers["line"].param_groups[0]["lr"])
    assert rates == pytest.approx([0.025, 0.05, 0.075])


def test_the_gradient_is_clipped():
    """Adam's first step does not see the size of the gradient, its moments do."""
    training = Training(Line(), replace(SHORT, clip=0.5), "cpu")
    training.advance()
    moments = training.optimizers["line"].state_dict()["state"].values()
    first = torch.cat([m["exp_avg"].flatten() for m in moments]) / 0.1
    assert float(first.norm()) == pytest.approx(0.5, rel=1e-3)


def test_a_run_that_diverges_stops_before_it_spoils_its_state(tmp_path):
    stage, state = Line(), tmp_path / "a.state"
    first = stage.players[0]

    def loss(network, batch, carried, step):
        losses, onward = first.loss(network, batch, carried, step)
        return {
            k: v * (math.nan if step == 4 else 1) for k, v in losses.items()
        }, onward

    stage.players = (replace(first, loss=loss),)
    with pytest.raises(EngineError, match="gradient of step 4 is not finite"):
        run(stage, SHORT, state)
    step, parts, _ = load_state(state)
    assert step == 3
    assert all(bool(v.isfinite().all()) for v in parts["average/"].values())


# Reports ------------------------------------------------------------------------------


def test_reports_come_when_due_and_at_the_end(tmp_path):
    loop = replace(SHORT, steps=7, log_every=2, picture_every=4)
    reports = run(Line(), loop, tmp_path / "a.state")
    assert [r.step for r in reports] == [2, 4, 6, 7]
    assert [bool(r.figures) for r in reports] == [False, True, False, True]
    assert reports[-1].seconds_left == 0
    assert reports[0].seconds_left == pytest.approx(5 * reports[0].seconds_per_step)
    assert load_state(tmp_path / "a.state")[0] == 7


def test_training_may_be_left_after_a_report(tmp_path):
    state = tmp_path / "a.state"
    started = train(Line(), SHORT, state, False, "cpu")
    next(started), next(started)
    started.close()
    assert load_state(state)[0] == 3


def test_a_device_that_is_not_there_gets_a_sentence(tmp_path):
    with pytest.raises(EngineError, match="this machine offers cpu"):
        list(train(Line(), SHORT, tmp_path / "a.state", False, "tpu"))


def test_a_batch_is_dealt_evenly_or_not_at_all():
    from trainer.loop import _check_shares

    _check_shares(LoopConfig(batch=4), 2)
    with pytest.raises(EngineError, match="multiple of the number of processes"):
        _check_shares(LoopConfig(batch=3), 2)

"""A program that trains a toy in as many processes as it is started in.

`accelerate launch ... -m tests.trainer.together NAME STATE STOP PARTS [resume]` leaves
a run of STEPS after STOP of them; the first process writes the losses beside STATE.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from tests.trainer import toys
from trainer.loop import train
from trainer.processes import processes

MAKERS = {
    "autoencoder": toys.small_stage,
    "ldm": toys.shallow_stage,
    "line": lambda loop: toys.Line(),
}


STEPS = 8


def main(name: str, state: str, stop: str, parts: str, *rest: str) -> None:
    torch.set_num_threads(1)
    here = processes("cpu")
    loop = replace(
        toys.LOOP,
        steps=STEPS,
        batch=4 // int(parts),
        accumulate=int(parts),
        save_every=4,
        log_every=1,
    )
    reports = train(MAKERS[name](loop), loop, Path(state), "resume" in rest, "cpu")
    losses = []
    for report in reports:
        losses.append(report.losses)
        if report.step == int(stop):
            break
    if here.is_main_process:
        told = {"processes": here.num_processes, "losses": losses}
        Path(state).with_suffix(".json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Studies that are worked on, killed, tampered with and leaky: all of it simulated."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_brainldm.engine.volume import Volume, mni_grid
from napari_brainldm.review import leaks
from napari_brainldm.review.protocols import Protocol, protocol
from napari_brainldm.review.record import head_path, read_rows, verify
from napari_brainldm.review.session import Clock, Session, Status
from napari_brainldm.review.stimuli import Road, Twelve, write_stimulus
from napari_brainldm.review.study import (
    Item,
    Key,
    Rules,
    Stimulus,
    Study,
    read_study,
    write_study,
)
from napari_brainldm.review.trials import made

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

GRID = mni_grid(8.0)


def bare_items(count: int, seed: int = 0) -> list[Item]:
    """`count` real and as many synthetic items without a picture behind them.

    Synthetic ones come in fours of one source, whose ventricles differ.
    """
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        own = {"ventricles": float(rng.uniform(10, 90)), "age": float(50 + number % 40)}
        made_of = f"seed {number // 4}"
        size = {"ventricles": 15.0 * 1.25 ** (number % 4) * 1.8 ** (number // 4 % 3)}
        for arm, source, facts in (
            ("real", f"sub-{number:03d}", own),
            ("synthetic", made_of, size),
        ):
            facts = {
                k: v * float(np.exp(rng.normal(0, 0.02))) for k, v in facts.items()
            }
            found.append(Item(rng.bytes(16).hex(), arm, arm, source, facts))
    for number in range(10):
        token = rng.bytes(16).hex()
        found.append(Item(token, "catch", "catch", f"catch {number}"))
    return found


def bare_study(
    folder: Path,
    protocols: tuple[Protocol, ...] = (protocol("P1"),),
    items: list[Item] | None = None,
    readers: tuple[str, ...] = ("R01",),
    rules: Rules | None = None,
    seed: int = 0,
) -> tuple[Study, Key]:
    """A study whose pictures are names only: all that a session needs."""
    items = bare_items(90) if items is None else items
    found = made(protocols, items, readers, seed)
    tokens = sorted(i.token for i in items)
    stimuli = tuple(Stimulus(token, "") for token in tokens)
    study = Study("Bare", seed, GRID, protocols, stimuli, {}, "", "", "test")
    study = replace(study, rules=rules or Rules())
    key = Key("salt", tuple(items), found.truths)
    folder.mkdir(parents=True, exist_ok=True)
    write_study(folder, study, found.orders, found.pools, key)
    return read_study(folder)[0], key


class Hurried:
    """A clock that is a second later each time it is asked."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        """Seconds."""
        self.now += 1.0
        return self.now


def at_work(session: Session, answers: Callable[[Session, str], Any]) -> Iterator[str]:
    """Answer what is left with `answers(session, question)`; the uid of each."""
    while session.status is not Status.DONE:
        if session.status is Status.READY:
            trial = session.trial
            assert trial is not None
            session.show()
            for question in session.questions:
                session.answer(question.name, answers(session, question.name))
            session.confirm()
            yield trial.uid
        else:
            session.go_on()  # a break that is not over is asked for again


# -- kills -------------------------------------------------------------------------

_LIFE, _LATE = 3, 0.004


def _reader(folder: str, pipe: Connection) -> None:
    """A reader that tells every trial it has confirmed, until it is killed.

    After each it waits to be asked for another: however fast the machine, and however
    late the kill, the study does not end in one life.
    """
    clock = Hurried()
    session = Session(Path(folder), "R01", Clock(time.time, clock))
    pipe.send("")
    pipe.recv()
    for uid in at_work(session, lambda s, q: 1 + int(s.trial.uid[0], 16) % 6):  # type: ignore[union-attr]
        pipe.send(uid)
        pipe.recv()
    pipe.send("done")


def killed(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill a reader at random times, `kills` times; what the record then holds.

    Each life answers up to `_LIFE` trials, and is killed up to `_LATE` seconds after
    the last of them was asked for: in the middle of a trial, or of writing it.
    `lost` counts trials that were confirmed and are not in the record, `duplicated`
    answers to one trial, `void` those of blocks begun anew (none: gaps are short), and
    `worst` the trials that one kill cost at most.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.review_study"])
    rng = np.random.default_rng(seed)
    confirmed: list[str] = []
    path = folder / "records" / "R01.jsonl"
    worst = finished = 0
    for _ in range(kills):
        before = len(answered(path))
        asked = int(rng.integers(1, _LIFE + 1))
        told = _one_life(context, folder, asked, float(rng.uniform(0, _LATE)))
        confirmed += [uid for uid in told if uid not in ("", "done")]
        finished += "done" in told
        # the answer being written when the kill came may be there or not
        gained = len(answered(path)) - before
        worst = max(worst, len([u for u in told if len(u) > 4]) - gained)
    uids = answered(path)
    faults = verify(path, read_study(folder)[1], "R01")
    return {
        "kills": kills,
        "lives_after_the_end": finished,
        "answers": len(uids),
        "lost": len(set(confirmed) - set(uids)),
        "duplicated": len(uids) - len(set(uids)),
        "worst": max(worst, 0),
        "faults": len(faults),
        "torn": sum(row["event"] == "torn" for row in read_rows(path)),
        "reshown": sum(
            row["event"] == "shown" and row["reshown"] for row in read_rows(path)
        ),
    }


def _one_life(context: Any, folder: Path, asked: int, seconds: float) -> list[str]:
    ours, theirs = context.Pipe()
    process = context.Process(target=_reader, args=(str(folder), theirs))
    process.start()
    theirs.close()
    told: list[str] = []
    try:
        for _ in range(asked):
            told.append(ours.recv())  # at work, or a trial was confirmed
            ours.send("")
        time.sleep(seconds)
        process.kill()
        while True:
            told.append(ours.recv())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        process.join()
    return told


def answered(path: Path) -> list[str]:
    """Uids of the answers in a record."""
    return [row["trial_uid"] for row in read_rows(path) if row["event"] == "answer"]


# -- tampering ---------------------------------------------------------------------


def tampered(path: Path, digest: str) -> tuple[int, list[str]]:
    """Every row of a record edited, deleted, doubled, swapped; (tries, not found)."""
    original, head = path.read_bytes(), head_path(path).read_bytes()
    lines = original.splitlines(keepends=True)
    missed, tries = [], 0
    for number in range(len(lines)):
        for way, changed in _changes(lines, number):
            path.write_bytes(b"".join(changed))
            tries += 1
            if not verify(path, digest, "R01"):
                missed.append(f"{way} {number}")
    path.write_bytes(original)
    head_path(path).write_bytes(head)
    return tries, missed


def _changes(lines: list[bytes], number: int) -> Iterator[tuple[str, list[bytes]]]:
    row = json.loads(lines[number])
    row["t_utc"] = "2000-01-01T00:00:00+00:00"
    edited = (json.dumps(row, sort_keys=True) + "\n").encode()
    before, after = lines[:number], lines[number + 1 :]
    yield "edited", [*before, edited, *after]
    yield "deleted", [*before, *after]
    yield "doubled", [*before, lines[number], lines[number], *after]
    if after:
        yield "swapped", [*before, after[0], lines[number], *after[1:]]


# -- leaks -------------------------------------------------------------------------


def plain_pictures(count: int, seed: int) -> Iterator[Twelve]:
    """Blobs through the road: one population, whatever they will be called."""
    rng = np.random.default_rng(seed)
    road = Road.around_brain(GRID)
    inside = road.mask.astype(np.float32)
    for _ in range(count):
        texture = 1 + 0.3 * rng.standard_normal(GRID.shape).astype(np.float32)
        yield road.stimulus(Volume(inside * texture, GRID.matrix))


def _spoil_file(change: Callable[[Path, Twelve], None]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with np.load(path) as arrays:
            data = arrays["data"]
        stat = path.stat()
        change(path, data)
        if change is not _touch:
            import os

            os.utime(path, (stat.st_atime, stat.st_mtime))

    return spoil


def _touch(path: Path, data: Twelve) -> None:
    import os

    os.utime(path, (1.7e9, 1.7e9))


def _saved(change: Callable[[Twelve], Any]) -> Callable[[Path], None]:
    return _spoil_file(lambda path, data: np.savez(path, data=change(data)))


def _noise_outside(data: Twelve) -> Twelve:
    rng = np.random.default_rng(int(data.sum()))
    return np.where(data == 0, rng.integers(0, 3, data.shape), data).astype(np.uint16)


def _frame(data: Twelve) -> Twelve:
    framed = data.copy()
    framed[0], framed[-1] = 7, 7
    return framed


PLANTED: dict[str, Callable[[Path], None]] = {
    "a darker white": _saved(lambda d: (d * 0.98).astype(np.uint16)),
    "noise in the background": _saved(_noise_outside),
    "another background": _saved(lambda d: np.where(d == 0, 1, d).astype(np.uint16)),
    "8 bits before 12": _saved(lambda d: (d // 16 * 16).astype(np.uint16)),
    "even numbers only": _saved(lambda d: (d // 2 * 2).astype(np.uint16)),
    "a frame": _saved(_frame),
    "another type": _saved(lambda d: d.astype(np.float32)),
    "another shape": _saved(lambda d: d[:, :, :-1]),
    "a second array": _spoil_file(
        lambda path, data: np.savez(path, data=data, e=np.zeros(1))
    ),
    "a compressed file": _spoil_file(
        lambda path, data: np.savez_compressed(path, data=data)
    ),
    "a later file time": _spoil_file(_touch),
}
"""Ten leaks and one more, each put into the synthetic arm's files."""


def audited(folder: Path, each: int, leak: str, seed: int) -> leaks.Finding:
    """The audit of `each` real and synthetic stimuli, `leak` planted unless empty."""
    (folder / "stimuli").mkdir(parents=True)
    arms = {}
    for number, data in enumerate(plain_pictures(2 * each, seed)):
        token = write_stimulus(folder / "stimuli", data).token
        arms[token] = "synthetic" if number % 2 else "real"
        if leak and number % 2:
            PLANTED[leak](folder / "stimuli" / f"{token}.npz")
    tokens = sorted(arms)
    mask = Road.around_brain(GRID).mask
    rows, names = leaks.features(folder / "stimuli", tokens, mask)
    kinds = np.array([arms[token] for token in tokens])
    return leaks.audit(rows, names, kinds)[0]

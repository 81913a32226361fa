"""Every reader's trials, and the truth of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.request import EngineError
from napari_brainldm.review.offers import catches, offers, pools, signed_pairs
from napari_brainldm.review.order import Offer, arranged, placed, rng_of, rotated, share
from napari_brainldm.review.study import Item, Pair, Trial, Truth

if TYPE_CHECKING:
    from napari_brainldm.review.protocols import Protocol

ANCHORS = 30
"""Pictures that every reader sees, where the pool is larger than a reader's share."""

NO_ANSWER = "There is no right answer here; go by what you see."


@dataclass(frozen=True)
class Made:
    """Trials by reader, their truths, and the adaptive pools."""

    orders: dict[str, tuple[Trial, ...]]
    truths: tuple[Truth, ...]
    pools: dict[str, tuple[Pair, ...]]


def made(
    protocols: Sequence[Protocol],
    items: Sequence[Item],
    readers: Sequence[str],
    seed: int,
) -> Made:
    """Trials of all `readers`; EngineError when the pictures do not suffice."""
    main = [i for i in items if not i.practice]
    offered = {p.id: offers(p, main, np.random.default_rng(seed)) for p in protocols}
    found: dict[str, tuple[Trial, ...]] = {}
    truths: list[Truth] = []
    for turn, reader in enumerate(readers):
        rng, trials = rng_of(seed, reader), []
        for p in _in_turn(protocols, turn):
            for offer_blocks, practice in (
                ([_practice(p, items, rng)], True),
                (_blocks(p, offered[p.id], main, turn, rng), False),
            ):
                one, truth = _numbered(p, offer_blocks, practice, rng)
                trials += one
                truths += truth
        found[reader] = tuple(trials)
    pooled = {k: v for p in protocols for k, v in pools(p, main).items()}
    return Made(found, tuple(truths), pooled)


def _in_turn(protocols: Sequence[Protocol], turn: int) -> list[Protocol]:
    """The naive one first, the others in the order of a Latin square."""
    by_id = {p.id: p for p in protocols}
    first = [p.id for p in protocols if p.naive]
    rest = [p.id for p in protocols if not p.naive]
    return [by_id[name] for name in [*first, *rotated(rest, turn)]]


def _blocks(
    p: Protocol,
    pool: Sequence[Offer],
    items: Sequence[Item],
    turn: int,
    rng: np.random.Generator,
) -> list[list[Offer]]:
    wanted = len(pool) if p.controls else p.trials
    main = share(pool, wanted, min(ANCHORS, wanted), turn)
    return arranged(main, catches(p, items), p.repeats, p.block, rng)


def _practice(
    p: Protocol, items: Sequence[Item], rng: np.random.Generator
) -> list[Offer]:
    """Trials of the pictures kept for practice, as many as asked for or there are."""
    own = [i for i in items if i.practice or i.arm in ("length", "area")]
    if not p.practice or not any(i.practice for i in own):
        return []
    easy = replace(p, method="constant", trials=p.practice, controls=False)
    try:
        found = (
            _clearest(easy, own) if p.task == "compare" else (offers(easy, own, rng))
        )
    except EngineError:  # too few were kept: better no practice than no study
        return []
    return found[: p.practice]


def _clearest(p: Protocol, items: Sequence[Item]) -> list[Offer]:
    """The pairs of the practice pictures that differ most."""
    rows = sorted(signed_pairs(p, items), key=lambda row: -abs(row[1]))
    return [
        Offer((two.token, one.token), standard, level=level, standard=standard)
        for standard, level, one, two in rows[: 2 * p.practice : 2]
    ]


def _numbered(
    p: Protocol,
    blocks: Sequence[Sequence[Offer]],
    practice: bool,
    rng: np.random.Generator,
) -> tuple[list[Trial], list[Truth]]:
    """Trials with their places and truths."""
    trials: list[Trial] = []
    truths: list[Truth] = []
    uids: dict[Offer, str] = {}
    for number, block in enumerate(blocks):
        places = _as_they_stand(block) if p.task == "estimate" else placed(block, rng)
        for offer, (tokens, place) in zip(block, places, strict=True):
            uid = rng.bytes(16).hex()
            uids.setdefault(offer, uid)
            truth = _truth(p, offer, uid, place, practice)
            if offer.repeats is not None:
                truth = replace(truth, repeat_of=uids[offer.repeats])
            truths.append(truth)
            trials.append(
                Trial(
                    uid,
                    p.id,
                    number,
                    tokens if offer.stimuli else (),
                    offer.pool,
                    offer.exposure_ms,
                    _feedback(p, truth) if practice else "",
                )
            )
    return trials, truths


def _as_they_stand(block: Sequence[Offer]) -> list[tuple[tuple[str, ...], int]]:
    return [(offer.stimuli, 0) for offer in block]


def _truth(p: Protocol, offer: Offer, uid: str, place: int, practice: bool) -> Truth:
    """What is right, once the target has its place."""
    answer, level = offer.answer, offer.level
    if p.task == "pick":
        answer = place
    if p.task == "compare" and level is not None:
        level = level if place == 2 else -level
        answer = 2 if level > 0 else 1
    kind = "practice" if practice else offer.kind
    return Truth(uid, kind, offer.truth, answer, level, offer.standard)


def _feedback(p: Protocol, truth: Truth) -> str:
    if p.task == "detect" and truth.answer:
        words = "a scan of a person" if truth.answer == 1 else "made by a computer"
        return f"This one was {words}."
    if truth.answer:
        question = next(q for q in p.questions if q.kind == "choice")
        return f"It was {question.options[truth.answer - 1]}."
    return NO_ANSWER

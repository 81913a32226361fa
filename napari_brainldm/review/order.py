"""The order of a reader's trials: random, but never in a way that gives answers away.

In each block the classes are as even as their number allows; no more than three of a
class follow each other; pictures of one source are more than five trials apart, and a
repeat is at least twenty trials after what it repeats. Where a picture is placed, left
or right, is as even in each block. Everything follows from the study's seed and the
reader's code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_brainldm.engine.request import EngineError
from napari_brainldm.review.replay import reader_number

LONGEST_RUN = 3
SOURCES_APART = 5
REPEATS_APART = 20
TRIES = 400


@dataclass(frozen=True)
class Offer:
    """A trial that could be, as the owner knows it.

    Attributes
    ----------
    stimuli
        Tokens; where there are places, the one that counts as the target first.
    truth
        Class that is balanced; empty for none.
    sources
        Of the pictures.
    kind
        "main", "catch", "repeat" or "practice".
    answer
        Number of the right option; 0: none, or that of the target's place.
    level, standard, exposure_ms, pool
        See `study.Trial` and `study.Truth`.
    repeats
        Number within its protocol of the trial it repeats.
    """

    stimuli: tuple[str, ...]
    truth: str = ""
    sources: tuple[str, ...] = ()
    kind: str = "main"
    answer: int = 0
    level: float | None = None
    standard: str = ""
    exposure_ms: float | None = None
    pool: str = ""
    repeats: Offer | None = None


def rng_of(seed: int, reader: str) -> np.random.Generator:
    """The one source of chance for a reader's order."""
    sequence = np.random.SeedSequence([seed, reader_number(reader)])
    return np.random.Generator(np.random.PCG64(sequence))


def arranged(
    main: Sequence[Offer],
    catches: Sequence[Offer],
    repeats: int,
    block: int,
    rng: np.random.Generator,
) -> list[list[Offer]]:
    """Blocks of trials in their order, catches and repeats among them.

    Parameters
    ----------
    repeats
        How many of `main` come twice.
    block
        Trials in a block, about.

    Raises
    ------
    EngineError
        If no order keeps all the rules.
    """
    for _ in range(TRIES):
        blocks = _dealt(main, catches, repeats, block, rng)
        found = _sequenced(blocks, rng) if blocks else None
        if found is not None and _fill_repeats(found, rng):
            return found
    raise EngineError(
        f"{len(main)} trials, {len(catches)} catches and {repeats} repeats in blocks "
        f"of about {block} have no order in which classes are even, no more than "
        f"{LONGEST_RUN} of a class follow each other, sources are {SOURCES_APART} and "
        f"repeats {REPEATS_APART} trials apart. Bring more sources, or ask for fewer "
        "repeats."
    )


def _dealt(
    main: Sequence[Offer],
    catches: Sequence[Offer],
    repeats: int,
    block: int,
    rng: np.random.Generator,
) -> list[list[Offer]] | None:
    """What is in each block, not yet in order; None when it does not come out even."""
    total = len(main) + len(catches) + repeats
    count = max(1, round(total / block))
    sizes = _even(total, count)
    # a block in whose middle something was shown long enough ago
    late = [sum(sizes[:b]) + sizes[b] // 2 >= REPEATS_APART for b in range(count)]
    if repeats and not any(late):
        return None
    again = [0] * (count - sum(late)) + (_even(repeats, sum(late)) if repeats else [])
    again += [0] * (count - len(again))
    caught = [int(n) for n in rng.permutation(_even(len(catches), count))]
    rooms = [s - a - c for s, a, c in zip(sizes, again, caught, strict=True)]
    blocks = _by_class(main, rooms, rng)
    for own, number in zip(blocks, again, strict=True):
        _keep_room(own, number)
    order = iter([catches[i] for i in rng.permutation(len(catches))])
    for place, extra in zip(blocks, caught, strict=True):
        place += [next(order) for _ in range(extra)]
    return blocks


def _even(total: int, parts: int) -> list[int]:
    """`total` in whole `parts` that differ by at most 1."""
    return [total // parts + (i < total % parts) for i in range(parts)]


def _by_class(
    main: Sequence[Offer], rooms: Sequence[int], rng: np.random.Generator
) -> list[list[Offer]]:
    """Deal offers to blocks with `rooms`, every class in its share."""
    decks = {
        truth: [
            o for o in (main[i] for i in rng.permutation(len(main))) if o.truth == truth
        ]
        for truth in sorted({offer.truth for offer in main})
    }
    blocks: list[list[Offer]] = []
    for room in rooms:
        left = sum(map(len, decks.values()))
        due = {truth: len(deck) * room / max(left, 1) for truth, deck in decks.items()}
        take = {truth: int(share) for truth, share in due.items()}
        rest = sorted(due, key=lambda t: (take[t] - due[t], rng.random()))
        for truth in rest[: room - sum(take.values())]:
            take[truth] += 1
        blocks.append([decks[t].pop() for t, n in take.items() for _ in range(n)])
    return blocks


def _keep_room(block: list[Offer], repeats: int) -> None:
    """Add repeats, of what is not yet known, of the classes that the block lacks."""
    for _ in range(repeats):
        have = Counter(offer.truth for offer in block)
        scarce = min(sorted(have), key=lambda truth: have[truth])
        block.append(Offer((), scarce, kind="repeat"))


def _fill_repeats(blocks: list[list[Offer]], rng: np.random.Generator) -> bool:
    """Choose what each repeat repeats; False when one has nothing it may repeat."""
    order = [offer for block in blocks for offer in block]
    taken: set[int] = set()
    places = iter(range(len(order)))
    for block in blocks:
        for number, offer in enumerate(block):
            at = next(places)
            if offer.kind != "repeat":
                continue
            pool = [
                i
                for i, early in enumerate(order[: max(0, at - REPEATS_APART + 1)])
                if _may_repeat(order, i, at) and i not in taken
            ]
            if not pool:
                return False
            first = int(rng.choice(pool))
            taken.add(first)
            again = replace(order[first], kind="repeat", repeats=order[first])
            block[number] = order[at] = again
    return True


def _may_repeat(order: Sequence[Offer], first: int, at: int) -> bool:
    """Whether the trial at `at` may repeat the one at `first`."""
    offer = order[first]
    if offer.kind != "main" or offer.truth != order[at].truth:
        return False
    around = order[max(0, at - SOURCES_APART) : at + SOURCES_APART + 1]
    return not set(offer.sources) & {s for one in around for s in one.sources}


def _sequenced(
    blocks: list[list[Offer]], rng: np.random.Generator
) -> list[list[Offer]] | None:
    """The blocks in an order that keeps runs and sources apart; None at a dead end."""
    before: list[Offer] = []
    found = []
    for block in blocks:
        ordered = _one_block(block, before, rng)
        if ordered is None:
            return None
        found.append(ordered)
        before = before + ordered
    return found


def _one_block(
    block: Sequence[Offer], before: Sequence[Offer], rng: np.random.Generator
) -> list[Offer] | None:
    for _ in range(20):
        left, done = list(block), list(before)
        while left:
            allowed = [i for i, offer in enumerate(left) if _fits(offer, done)]
            if not allowed:
                break
            # what there is most of goes first more often: it is left over otherwise
            many = Counter(offer.truth for offer in left)
            weights = np.array([many[left[i].truth] ** 2 for i in allowed], float)
            pick = int(rng.choice(allowed, p=weights / weights.sum()))
            done.append(left.pop(pick))
        if not left:
            return done[len(before) :]
    return None


def _fits(offer: Offer, done: Sequence[Offer]) -> bool:
    """Whether `offer` may come after `done`."""
    last = done[-LONGEST_RUN:]
    full = bool(offer.truth) and len(last) == LONGEST_RUN
    if full and all(one.truth == offer.truth for one in last):
        return False
    near = {source for one in done[-SOURCES_APART:] for source in one.sources}
    return not near & set(offer.sources)


def placed(
    block: Sequence[Offer], rng: np.random.Generator
) -> list[tuple[tuple[str, ...], int]]:
    """Tokens by place and the target's place, from 1, of each trial of a block.

    Every place has the target as often as the others, but for one.
    """
    found = []
    decks: dict[int, list[int]] = {}
    for offer in block:
        places = max(len(offer.stimuli), 1)
        if not decks.get(places):
            decks[places] = [int(p) for p in rng.permutation(places)]
        at = decks[places].pop()
        others = [offer.stimuli[1:][i] for i in rng.permutation(places - 1)]
        found.append(((*others[:at], *offer.stimuli[:1], *others[at:]), at + 1))
    return found


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """A row of a Latin square: over readers every name comes first equally often."""
    turn %= max(len(names), 1)
    return [*names[turn:], *names[:turn]]


def share(pool: Sequence[Offer], wanted: int, anchors: int, turn: int) -> list[Offer]:
    """A reader's part of a pool that is larger than one reader can see.

    Everybody sees the first `anchors`; the rest goes round, so that each is seen
    equally often, but for one. Where classes alternate in `pool`, they are even here.
    """
    if wanted >= len(pool):
        return list(pool)
    shared, rest = list(pool[:anchors]), list(pool[anchors:])
    count = wanted - len(shared)
    start = turn * count
    return shared + [rest[(start + i) % len(rest)] for i in range(count)]

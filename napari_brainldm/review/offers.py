"""Which trials a protocol could have, given the pictures: a function for each task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations, permutations, zip_longest
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine.request import EngineError
from napari_brainldm.review.order import Offer
from napari_brainldm.review.study import Item, Pair

if TYPE_CHECKING:
    from napari_brainldm.review.protocols import Protocol

JUDGED = ("real", "synthetic", "reconstructed")
"""Arms that readers tell apart."""

RATED = (*JUDGED, "blurred")
CONTROLS = ("length", "area")
OPTIONS = {"real": 1, "synthetic": 2}
SIZES = 8
"""Different ones in magnitude estimation, each judged `trials` / `SIZES` times."""

CONTROL_TIMES = 2
CROSS_SHARE = 1 / 3
"""Pairs of two people, at most, for each pair of one: identity must be no cue."""


def offers(
    protocol: Protocol, items: Sequence[Item], rng: np.random.Generator
) -> list[Offer]:
    """Trials that `protocol` could have, classes alternating; catches not among them.

    Raises
    ------
    EngineError
        If the pictures do not give any.
    """
    return _TASKS[protocol.task](protocol, _shuffled(items, rng), rng)


def catches(protocol: Protocol, items: Sequence[Item]) -> list[Offer]:
    """Trials with an obvious answer."""
    found = sorted((i for i in items if i.arm == "catch"), key=lambda i: i.token)
    return [
        Offer((item.token,), "synthetic", (item.source,), "catch", OPTIONS["synthetic"])
        for item in found[: protocol.catches]
    ]


def _shuffled(items: Sequence[Item], rng: np.random.Generator) -> list[Item]:
    """In random order; by token first, so that the order given does not matter."""
    ordered = sorted(items, key=lambda item: item.token)
    return [ordered[i] for i in rng.permutation(len(ordered))]


def _alternating(groups: Iterable[Sequence[Offer]]) -> list[Offer]:
    rows = zip_longest(*groups)
    return [offer for row in rows for offer in row if offer is not None]


def _singles(items: Sequence[Item], arms: Sequence[str]) -> list[Offer]:
    """One picture a trial, as many of each arm that there is, sources by turns."""
    decks = [deck for arm in arms if (deck := [i for i in items if i.arm == arm])]
    turns = Turns()
    found = []
    for _ in range(min(map(len, decks), default=0)):
        for deck in decks:
            item = turns.next(deck)
            deck.remove(item)
            answer = OPTIONS.get(item.arm, 0)
            found.append(Offer((item.token,), item.arm, (item.source,), answer=answer))
    return found


class Turns:
    """Pictures by turns, so that those of one source come as seldom as may be."""

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()
        self._when: dict[str, int] = {}

    def next(self, items: Sequence[Item]) -> Item:
        """The one of `items` that was taken least, whose source was, longest ago."""
        chosen = min(items, key=self._weariness)
        self._used[chosen.token] += 1
        self._used[chosen.source] += 1
        self._when[chosen.source] = len(self._when) + self._used.total()
        return chosen

    def _weariness(self, item: Item) -> tuple[int, int, int]:
        uses = self._used[item.source], self._used[item.token]
        return (*uses, self._when.get(item.source, -1))


def _rate(p: Protocol, items: Sequence[Item], rng: np.random.Generator) -> list[Offer]:
    found = _singles(items, RATED)
    if not found:
        raise EngineError(f"There are no pictures to rate in {p.id}. Name sources.")
    return found


def _detect(
    p: Protocol, items: Sequence[Item], rng: np.random.Generator
) -> list[Offer]:
    found = _singles(items, JUDGED)
    if not {"real", "synthetic"} <= {offer.truth for offer in found}:
        raise EngineError(
            f"{p.id} needs real and synthetic pictures. Name a source for each arm."
        )
    if not p.timed:
        return found
    per_class = max(1, len({offer.truth for offer in found}))
    return [
        replace(offer, exposure_ms=p.levels[(i // per_class) % len(p.levels)])
        for i, offer in enumerate(found)
    ]


def _pick(p: Protocol, items: Sequence[Item], rng: np.random.Generator) -> list[Offer]:
    real = [i for i in items if i.arm == "real"]
    made = [i for i in items if i.arm == "synthetic"]
    others = p.panels - 1
    if not real or len(made) < others:
        raise EngineError(
            f"{p.id} needs real pictures and at least {others} synthetic ones; there "
            f"are {len(real)} and {len(made)}. Name larger sources."
        )
    found = []
    turns = Turns()
    for _ in range(p.trials):
        chosen = [turns.next(real)]
        for _ in range(others):
            chosen.append(turns.next([i for i in made if i not in chosen]))
        tokens, sources = zip(*((i.token, i.source) for i in chosen), strict=True)
        found.append(Offer(tokens, "", sources, answer=1))
    return found


def _compare(
    p: Protocol, items: Sequence[Item], rng: np.random.Generator
) -> list[Offer]:
    if p.method == "quest+":
        count = -(-p.trials // len(p.standards))
        groups = [
            [Offer((), _balanced(p, s), standard=s, pool=pool_name(p, s))] * count
            for s in p.standards
        ]
        return _alternating(groups)
    pairs = [
        (standard, level, first, second)
        for standard, level, first, second in signed_pairs(p, items)
        if abs(level) <= 1.5 * max(p.levels)
    ]
    per_cell = max(1, p.trials // (len(p.levels) * len(p.standards)))
    groups = [
        _nearest(p, pairs, standard, planned, per_cell)
        for standard in p.standards
        for planned in p.levels
    ]
    return _alternating(groups)


def _balanced(p: Protocol, standard: str) -> str:
    """The class that an order balances: none, where all trials are of one."""
    return standard if len(p.standards) > 1 else ""


def _nearest(
    p: Protocol,
    pairs: Sequence[tuple[str, float, Item, Item]],
    standard: str,
    planned: float,
    count: int,
) -> list[Offer]:
    """Trials whose level is next to `planned`, of the standard's size."""
    step = min(abs(b - a) for a, b in combinations(p.levels, 2))
    near = [
        (abs(level - planned), level, one, two)
        for of, level, one, two in pairs
        if of == standard and abs(level - planned) <= step / 2
    ]
    near = _by_turns(sorted(near, key=lambda row: row[0]))
    if not near:
        raise EngineError(
            f"{p.id} wants pairs that differ by {planned:g} in {p.quantity} at the "
            f"{standard} standard, and no pictures do. Render more values of "
            f"{p.quantity}, or choose the method quest+."
        )
    return [
        Offer(
            (two.token, one.token),
            _balanced(p, standard),
            tuple(sorted({one.source, two.source})),
            level=level,
            standard=standard,
        )
        for _, level, one, two in (near[i % len(near)] for i in range(count))
    ]


def _by_turns(
    rows: Sequence[tuple[float, float, Item, Item]],
) -> list[tuple[float, float, Item, Item]]:
    """`rows` with the best of each source first, then the second of each, ..."""
    seen: Counter[str] = Counter()
    ranked = []
    for row in rows:
        seen[row[2].source] += 1
        ranked.append((seen[row[2].source], *row))
    return [row[1:] for row in sorted(ranked, key=lambda row: row[:2])]


def pool_name(p: Protocol, standard: str) -> str:
    """Name of the adaptive pool of a standard."""
    return f"{p.id}/{standard}"


def pools(p: Protocol, items: Sequence[Item]) -> dict[str, tuple[Pair, ...]]:
    """Pairs to choose from, by pool; each pair both ways round.

    Raises
    ------
    EngineError
        If too few pictures differ.
    """
    if p.task != "compare" or p.method != "quest+":
        return {}
    reach = 2 * max(p.levels)
    found: dict[str, list[Pair]] = {pool_name(p, s): [] for s in p.standards}
    for standard, level, first, second in signed_pairs(p, items):
        if abs(level) <= reach:
            pool = found[pool_name(p, standard)]
            pool += [
                Pair(level, first.token, second.token),
                Pair(-level, second.token, first.token),
            ]
    for name, pairs in found.items():
        if len({abs(pair.level) for pair in pairs}) < 4:
            raise EngineError(
                f"{name} has {len(pairs) // 2} pairs that differ in {p.quantity}; at "
                "least 4 are needed. Render more values of it, for more seeds."
            )
    return {k: tuple(sorted(v, key=lambda x: x.level)) for k, v in found.items()}


def signed_pairs(
    p: Protocol, items: Sequence[Item]
) -> list[tuple[str, float, Item, Item]]:
    """(standard's size, level, standard, other) of pairs that differ in a quantity.

    Pairs of one source, where only the quantity was moved, come first; pairs of two
    sources are at most a third of them, or all there are where no source has two.
    """
    known = [i for i in items if i.arm in JUDGED and p.quantity in i.facts]
    if len(known) < 2:
        raise EngineError(
            f"{p.id} needs pictures whose {p.quantity} is known, and {len(known)} are. "
            "Let the build measure them, or give a table with that column."
        )
    values = np.array([i.facts[p.quantity] for i in known])
    cuts = np.quantile(values, np.linspace(0, 1, len(p.standards) + 1)[1:-1])
    rows = [
        (
            p.standards[int(np.searchsorted(cuts, a.facts[p.quantity]))],
            _level(p, a, b),
            a,
            b,
        )
        for a, b in permutations(known, 2)
    ]
    rows = [row for row in rows if row[1] != 0]
    same = [row for row in rows if row[2].source == row[3].source]
    cross = [row for row in rows if row[2].source != row[3].source]
    return same + (cross[:: _stride(len(cross), len(same))] if same else cross)


def _stride(cross: int, same: int) -> int:
    return max(1, round(cross / max(1, same * CROSS_SHARE)))


def _level(p: Protocol, first: Item, second: Item) -> float:
    one, two = first.facts[p.quantity], second.facts[p.quantity]
    return float(np.log(two / one)) if p.log else two - one


def _estimate(
    p: Protocol, items: Sequence[Item], rng: np.random.Generator
) -> list[Offer]:
    brains = [i for i in items if i.arm in JUDGED and p.quantity in i.facts]
    wanted = min(p.trials, SIZES) + 1
    if len(brains) < wanted:
        raise EngineError(
            f"{p.id} needs at least {wanted} pictures whose {p.quantity} is known; "
            f"there are {len(brains)}. Render or measure more."
        )
    times = max(1, p.trials // SIZES)
    groups = [_sized(brains, p.quantity, p.quantity, times)]
    if p.controls:
        for arm in CONTROLS:
            drawn = [i for i in items if i.arm == arm]
            groups.append(_sized(drawn, arm, arm, min(times, CONTROL_TIMES)))
    return [offer for group in groups for offer in group]


def _sized(
    items: Sequence[Item], quantity: str, stratum: str, times: int
) -> list[Offer]:
    """Sizes spread evenly in their logarithm, each against the middle one."""
    ordered = sorted(items, key=lambda i: i.facts[quantity])
    logs = np.log([i.facts[quantity] for i in ordered])
    middle = int(np.abs(logs - (logs[0] + logs[-1]) / 2).argmin())
    modulus = ordered[middle]
    rest = [i for i in ordered if i is not modulus]
    sizes = [np.log(i.facts[quantity]) for i in rest]
    chosen: list[Item] = []
    for wanted in np.linspace(sizes[0], sizes[-1], min(SIZES, len(rest))):
        near = sorted(rest, key=lambda i: abs(np.log(i.facts[quantity]) - wanted))
        chosen.append(next(i for i in near if i not in chosen))
    return [
        Offer((modulus.token, i.token), stratum, (i.token,), standard=stratum)
        for _ in range(times)
        for i in chosen
    ]


def _rank(p: Protocol, items: Sequence[Item], rng: np.random.Generator) -> list[Offer]:
    labels = sorted({i.label for i in items if i.arm in RATED})
    if len(labels) < 2:
        raise EngineError(
            f"{p.id} compares arms, and all pictures are of one ({', '.join(labels)}). "
            "Name another source, or add blur or reconstruction to the plan."
        )
    by_label = {name: [i for i in items if i.label == name] for name in labels}
    couples = list(combinations(labels, 2))
    found = []
    turns = Turns()
    for number in range(p.trials):
        one, two = couples[number % len(couples)]
        first = turns.next(by_label[one])
        same = [i for i in by_label[two] if i.source == first.source]
        second = turns.next(same or by_label[two])
        sources = tuple(sorted({first.source, second.source}))
        found.append(Offer((first.token, second.token), "", sources))
    return found


_TASKS: dict[
    str, Callable[[Protocol, Sequence[Item], np.random.Generator], list[Offer]]
] = {
    "rate": _rate,
    "detect": _detect,
    "pick": _pick,
    "compare": _compare,
    "estimate": _estimate,
    "rank": _rank,
}

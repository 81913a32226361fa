"""The visits of one person on a line of ages, and requests for pictures along it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from napari_brainldm.engine.codes import shares
from napari_brainldm.engine.contrast import counted
from napari_brainldm.engine.renderer import Progress
from napari_brainldm.engine.request import (
    CURVES,
    Conditions,
    EngineError,
    Request,
    Sampler,
    Scan,
    Through,
)

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card, Covariate
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.request import Value
    from napari_brainldm.engine.volume import Volume

FARTHEST = 5.0
"""Years beyond the first or last visit that pictures are made for, at most."""

SHARE = 0.5
"""The same as a share of the time between first and last visit."""

SAME = 0.005
"""Years: visits nearer than this are called one, and an age this near is a visit's."""


@dataclass(frozen=True)
class Visit:
    """A scan and its age in years (or years since the first visit)."""

    scan: Scan
    age: float


@dataclass(frozen=True)
class Course:
    """Two or more visits of one person, ages rising."""

    visits: tuple[Visit, ...]

    @property
    def ages(self) -> tuple[float, ...]:
        """Years."""
        return tuple(visit.age for visit in self.visits)

    @property
    def title(self) -> str:
        """What the years count; nobody is scanned on the day of birth."""
        return "Time since the first visit" if self.ages[0] == 0 else "Age"

    @property
    def reach(self) -> tuple[float, float]:
        """Youngest and oldest age in years that pictures are made for."""
        first, last = self.ages[0], self.ages[-1]
        extra = min(FARTHEST, SHARE * (last - first))
        return (max(first - extra, 0.0) if first > 0 else first), last + extra

    def beyond(self, age: float) -> float:
        """Years that `age` lies before the first visit (below 0) or after the last."""
        return self.through(age, CURVES[0]).beyond

    def where(self, age: float) -> str:
        """Where `age` lies, in words: "between visit 1 and visit 2"."""
        off = self.beyond(age)
        if abs(off) >= SAME:
            side = "before the first" if off < 0 else "beyond the last"
            return f"extrapolated: {abs(off):.2f} years {side} visit"
        count = len(self.ages)
        for number, own in enumerate(self.ages, start=1):
            if abs(age - own) < SAME:
                return f"at visit {number} of {count}"
        after = sum(own < age for own in self.ages)
        return f"between visit {after} and visit {after + 1}"

    def through(self, age: float, curve: str) -> Through:
        """The place of `age` on the way through all visits."""
        scans = tuple(visit.scan for visit in self.visits)
        return Through(scans, self.ages, age, curve)

    def conditions(self, card: Card, age: float, curve: str) -> Conditions:
        """The visits' own conditions, interpolated as their latents are.

        Numbers are weighted as `codes.shares` says, and never fall below 0 where the
        card's range does not. A category is that of the first visit: between two
        categories there is no way.
        """
        own = [card.complete(v.scan.conditions).as_dict() for v in self.visits]
        weights = shares(self.ages, age, curve)
        return Conditions.of(
            {
                c.name: _mixed(c, [o[c.name] for o in own], weights)
                for c in card.vocabulary
            }
        )

    def request(self, card: Card, age: float, curve: str, sampler: Sampler) -> Request:
        """The picture at `age`."""
        return Request(
            self.conditions(card, age, curve),
            self.through(age, curve),
            sampler=sampler,
        )

    def without(self, hidden: int) -> Course:
        """The course without visit `hidden`, counted from 0, which has neighbours.

        Raises
        ------
        EngineError
            If there are fewer than three visits, or it is the first or the last.
        """
        if not 0 < hidden < len(self.visits) - 1:
            raise EngineError(
                f"Visit {hidden + 1} of {len(self.visits)} has no visit on both sides, "
                "so it cannot be predicted from its neighbours. Choose a visit between "
                "two others; three visits or more are needed."
            )
        kept = (v for n, v in enumerate(self.visits) if n != hidden)
        return Course(tuple(kept))


def check_ages(visits: Sequence[tuple[str, float | None]]) -> None:
    """Raise an EngineError unless `visits`, (name, age), can be put on a line."""
    if len(visits) < 2:
        raise EngineError(
            "A way through time needs two or more visits; the number given is "
            f"{len(visits)}. Add another scan of the same person."
        )
    for name, age in visits:
        if age is None:
            raise EngineError(
                f"The age at {name} is not known, and no BIDS table tells it. Type the "
                "age in years, or the years since the first visit."
            )
    told = sorted((age, name) for name, age in visits if age is not None)
    for (age, first), (other, second) in pairwise(told):
        if other - age < SAME:
            raise EngineError(
                f"{first} and {second} have the same age, {age:.2f} years; each visit "
                "needs one of its own. Correct an age or remove a visit."
            )


def check_can_travel(card: Card) -> None:
    """Raise an EngineError unless the model of `card` can encode visits."""
    if card.autoencoder is None or card.denoiser is None:
        raise EngineError(
            f"{card.name} is of the kind {card.kind!r} and cannot take scans in and "
            "make pictures between them. Open a brain LDM or an LDAE checkpoint."
        )


def encode_visits(
    renderer: Renderer,
    scans: Sequence[Volume],
    ages: Sequence[float],
    steps: Sequence[int],
) -> Generator[Progress, None, Course]:
    """Take visits into the model; what `renderer` knows already is not done again.

    Each is placed, its conditions are estimated, and it is inverted in as many steps
    as each of `steps` says. Categories are those estimated at the first visit.

    Parameters
    ----------
    renderer
        Keeps the codes.
    scans
        In their own space, one person's.
    ages
        Years, one per scan, in any order; see `check_ages`.
    steps
        Of the inversions to be had at hand: of full pictures and of previews.
    """
    check_can_travel(renderer.card)
    line = sorted(zip(ages, scans, strict=True), key=lambda pair: pair[0])
    digests = [renderer.admit(scan) for _, scan in line]
    total = len(line)
    estimates = {}
    for number, digest in enumerate(digests):
        yield Progress("conform", number, total)
        renderer.conformed(digest)
        yield Progress("encode", number, total)
        estimates[digest] = renderer.estimate(digest)
    shared = _categories(renderer.card, estimates[digests[0]])
    own = [Scan(d, estimates[d].with_values(shared)) for d in digests]
    wanted = [(scan, count) for scan in own for count in steps]
    for number, (scan, count) in enumerate(wanted):
        inverting = renderer.encode(scan, count, renderer.compute)
        yield from counted(inverting, number, len(wanted))
    pairs = zip(own, line, strict=True)
    return Course(tuple(Visit(scan, age) for scan, (age, _) in pairs))


def _categories(card: Card, conditions: Conditions) -> dict[str, Value]:
    names = {c.name for c in card.vocabulary if c.categories}
    return {n: v for n, v in conditions.values if n in names}


def _mixed(
    covariate: Covariate, values: Sequence[Value], weights: Sequence[float]
) -> Value:
    if covariate.categories:
        return values[0]
    pairs = zip(values, weights, strict=True)
    number = sum(float(value) * weight for value, weight in pairs)
    return max(number, 0.0) if covariate.low >= 0 else number

"""Asked against got: the conditions of a picture beside what is found in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_brainldm.engine.measure import Measured, measure, normalised_brain
from napari_brainldm.engine.request import Conditions
from napari_brainldm.engine.segment import Labels
from napari_brainldm.engine.volume import Grid

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.networks.segmenter import Structure
    from napari_brainldm.engine.segment import Segmentation, Segmenter
    from napari_brainldm.engine.volume import Volume


BENT = (
    "This model's brains are bent onto the template: no person's volumes, though a "
    "change along a direction still shows."
)


@dataclass(frozen=True)
class Line:
    """One volume of a picture.

    Attributes
    ----------
    name, title
        "ventricles", "Ventricles".
    note
        Sentences for a tooltip.
    asked
        ml; None when it is measured only.
    got
        ml; None when it was not measured.
    """

    name: str
    title: str
    note: str
    asked: float | None = None
    got: float | None = None

    @property
    def difference(self) -> float | None:
        """Got minus asked in ml; None unless both are known."""
        if self.asked is None or self.got is None:
            return None
        return self.got - self.asked

    @property
    def percent(self) -> float | None:
        """The difference in percent of what was asked; None unless that is known."""
        if self.difference is None or not self.asked:
            return None
        return 100 * self.difference / self.asked


@dataclass(frozen=True)
class Entry:
    """A structure of one side, as it stands in a label map.

    Attributes
    ----------
    index
        FreeSurfer's, as in the label map.
    name
        "Left hippocampus".
    ml
        Its volume.
    """

    index: int
    name: str
    ml: float


@dataclass(frozen=True, eq=False)
class Findings:
    """What the segmentation of one picture tells.

    Attributes
    ----------
    lines
        Asked against got.
    measured
        All volumes, ml.
    labels
        FreeSurfer indices, uint16 (i, j, k) on `grid`.
    grid
        The space of `labels`.
    legend
        Every structure of `labels`.
    method
        Who segmented, e.g. "segmenter 0123456789ab".
    """

    lines: tuple[Line, ...]
    measured: Measured
    labels: Labels
    grid: Grid
    legend: tuple[Entry, ...]
    method: str


def find(
    segmenter: Segmenter, picture: Volume, card: Card, conditions: Conditions
) -> Findings:
    """Segment and measure a picture that `card`'s model made under `conditions`."""
    segmentation = segmenter.segment(picture)
    return findings(segmentation, card, conditions)


def findings(
    segmentation: Segmentation, card: Card, conditions: Conditions
) -> Findings:
    """What `segmentation` tells, without the memberships, which are large."""
    measured = measure(segmentation)
    return Findings(
        compare(card, conditions, measured),
        measured,
        segmentation.labels(),
        segmentation.grid,
        legend(segmentation.structures, measured),
        segmentation.method,
    )


def compare(
    card: Card, conditions: Conditions, measured: Measured | None = None
) -> tuple[Line, ...]:
    """Every volume condition of `card` against `measured`, then what no one asked.

    Without `measured` the lines tell what will be measured.
    """
    lines = (
        _ventricles(card, conditions, measured),
        _brain(card, conditions, measured),
        Line(
            "hippocampus",
            "Hippocampus",
            f"Both sides.{_sides('hippocampus', measured)}",
            got=measured.hippocampus if measured else None,
        ),
        Line(
            "icv",
            "Intracranial",
            "Brain and fluid within the skull, as it is in the picture.",
            got=measured.icv if measured else None,
        ),
    )
    if card.registration == "nonlinear":
        return tuple(replace(line, note=f"{line.note} {BENT}") for line in lines)
    return lines


def beside(lines: tuple[Line, ...], before: tuple[Line, ...]) -> tuple[Line, ...]:
    """`lines` of a picture whose model asks for no volume, against those of another.

    What was got in `before` stands where else stands what was asked. A model that asks
    for a volume is not compared this way: the result is empty.
    """
    if any(line.asked is not None for line in lines):
        return ()
    got = {line.name: line.got for line in before}
    return tuple(replace(line, asked=got.get(line.name)) for line in lines)


def volumes_asked(card: Card, measured: Measured) -> dict[str, float]:
    """The volume conditions of `card` in ml, as they were measured."""
    lines = compare(card, card.complete(Conditions()), measured)
    return {
        line.name: line.got
        for line in lines
        if line.asked is not None and line.got is not None
    }


def legend(structures: tuple[Structure, ...], measured: Measured) -> tuple[Entry, ...]:
    """Index, name and volume of every structure, side by side."""
    volumes = {name: sides for name, *sides in measured.structures}
    return tuple(
        entry
        for structure in structures
        for entry in _entries(structure, *volumes[structure.name])
    )


def _ventricles(card: Card, conditions: Conditions, measured: Measured | None) -> Line:
    sides = _sides("lateral_ventricles", measured)
    return Line(
        "ventricles",
        "Ventricles",
        f"Both lateral ventricles, inferior horns included.{sides}",
        _asked(card, conditions, "ventricles"),
        measured.ventricles if measured else None,
    )


def _brain(card: Card, conditions: Conditions, measured: Measured | None) -> Line:
    """Scaled as the card's condition is; of a card that does not ask, as it is."""
    asked = _asked(card, conditions, "brain") if card.head_size > 0 else None
    if asked is None:
        note = "Gray and white matter, as it is in the picture."
        return Line("brain", "Brain", note, got=measured.brain if measured else None)
    note = f"Gray and white matter, scaled to a head of {card.head_size:.0f} ml."
    if measured is None:
        return Line("brain", "Brain, scaled", note, asked)
    note += f" As it is in the picture: {measured.brain:.0f} ml."
    got = normalised_brain(measured, card.head_size)
    return Line("brain", "Brain, scaled", note, asked, got)


def _asked(card: Card, conditions: Conditions, name: str) -> float | None:
    """The value of condition `name` in ml; None if the card has none in ml."""
    if not any(c.name == name and c.unit == "ml" for c in card.vocabulary):
        return None
    return float(card.complete(conditions).as_dict()[name])


def _sides(name: str, measured: Measured | None) -> str:
    volumes = {n: sides for n, *sides in measured.structures} if measured else {}
    if name not in volumes:
        return ""
    left, right = volumes[name]
    return f" Left {left:.1f} ml, right {right:.1f} ml."


def _entries(structure: Structure, left: float, right: float) -> tuple[Entry, ...]:
    words = structure.name.replace("_", " ").replace("csf", "CSF")
    if structure.left == structure.right:
        return (Entry(structure.left, words[0].upper() + words[1:], left + right),)
    one = words.replace("ventricles", "ventricle")
    return (
        Entry(structure.left, f"Left {one}", left),
        Entry(structure.right, f"Right {one}", right),
    )

"""What is known of the space of semantic codes: directions, a plane of groups."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Direction:
    """A direction in the space of semantic codes.

    Beside the weights lie "direction.NAME.move" (E,), what an amount of 1 adds to a
    code, and the probe it was found by: the log odds (or the value) of a code y are
    "direction.NAME.weight" (E,) times (y - "semantic.mean") / "semantic.std", plus
    "direction.NAME.bias" ().

    Attributes
    ----------
    name, title, unit
        "AD", "Alzheimer's disease", "SD".
    description
        One sentence for tooltips and tables.
    reads
        What the probe's value is in: "years", or "log odds"; empty for one that shares
        its probe with another direction.
    figures
        How well its probe does on held-out subjects, with 95 % intervals, and the
        angles to the other directions: name to value.
    """

    name: str
    title: str
    unit: str = "SD"
    description: str = ""
    reads: str = ""
    figures: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Plane:
    """A plane in which groups of training people lie apart, kept beside the weights.

    Normalised codes y lie at "plane.axes" (2, E) times y; "plane.centres" (G, 2) and
    "plane.spreads" (G, 2, 2) are mean and covariance of the groups.

    Attributes
    ----------
    title
        What the groups differ in.
    groups, counts
        Their names, and how many people they were.
    """

    title: str
    groups: tuple[str, ...]
    counts: tuple[int, ...]


def probe_line(direction: Direction) -> str:
    """How well its probe does, "AUC 0.71 (0.63 to 0.79)"; empty where nobody looked.

    Figures that have a 95 % interval alone.
    """
    told = dict(direction.figures)
    found = [
        f"{name.upper() if len(name) < 4 else name} {_brief(value)} "
        f"({_brief(told[f'{name}_low'])} to {_brief(told[f'{name}_high'])})"
        for name, value in direction.figures
        if f"{name}_low" in told and f"{name}_high" in told
    ]
    return ", ".join(found)


def angle_lines(directions: tuple[Direction, ...]) -> list[str]:
    """Angle of every pair of `directions` that is told, "AD and age 12 degrees"."""
    lines = []
    for place, first in enumerate(directions):
        told = dict(first.figures)
        for second in directions[place + 1 :]:
            if (angle := told.get(f"degrees_to_{second.name}")) is not None:
                lines.append(f"{first.name} and {second.name} {angle:.0f} degrees")
    return lines


def _brief(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1 else f"{value:.3g}"

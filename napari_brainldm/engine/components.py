"""The components of functional connectivity: what each row of a matrix stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resources import resource
from napari_brainldm.engine.table import read_rows

NEUROMARK_1 = "neuromark_1.0.tsv"
"""The 53 components of NeuroMark 1.0 in their published order (Du et al. 2020,
https://doi.org/10.1016/j.nicl.2020.102375)."""

NEUROMARK_1_COUNT = 53
NO_DOMAIN = "all"
"""The one domain of components of which nothing is known."""

_COLUMNS = ("index", "name", "domain")


@dataclass(frozen=True)
class Component:
    """One row and column of a connectivity matrix.

    Attributes
    ----------
    index
        Place in the matrix, from 1.
    name
        "Putamen".
    domain
        The network it belongs to: "SC".
    """

    index: int
    name: str
    domain: str


Components = tuple[Component, ...]


@dataclass(frozen=True)
class Connectivity:
    """Functional connectivity as a condition.

    Beside the weights lie "fnc.mean" (p,), Fisher z, which is taken off first, and what
    random connectivity is drawn from: "fnc.factors" (rank, p), "fnc.rest" (p,) and
    "fnc.norms" (2,), see `engine.fnc_edit.FncLaw`.

    Attributes
    ----------
    components
        What the rows of a matrix stand for, in their order.
    gain
        What differs from the mean is multiplied by this (1 / SD over people).
    rank
        Directions of the covariance that are kept.
    """

    components: Components
    gain: float = 1.0
    rank: int = 32

    @property
    def pairs(self) -> int:
        """Number p of connections."""
        return len(self.components) * (len(self.components) - 1) // 2


def components_of(count: int) -> Components:
    """Names and domains of `count` components.

    53 are taken to be NeuroMark 1.0; others are numbered, in one domain.
    """
    if count == NEUROMARK_1_COUNT:
        return read_components(resource(NEUROMARK_1), count)
    return tuple(Component(n, f"IC {n}", NO_DOMAIN) for n in range(1, count + 1))


def named_components(
    path: Path | None, count: int
) -> tuple[Components, tuple[str, ...]]:
    """Components of the table `path`, or by their number; and what to mind of it."""
    if path is not None:
        return read_components(path, count), ()
    known = components_of(count)
    if count != NEUROMARK_1_COUNT:
        return known, ()
    note = (
        f"The {count} components were taken for NeuroMark 1.0 by their number alone: "
        "if they are others, give a table of them."
    )
    return known, (note,)


def read_components(path: Path, count: int) -> Components:
    """Components of a TSV with the columns index (from 1), name and domain.

    Raises
    ------
    EngineError
        If the table cannot be read, or does not name exactly the `count` components.
    """
    found = tuple(_component(path, row) for row in _rows(path))
    if [c.index for c in found] != list(range(1, count + 1)):
        raise EngineError(
            f"{path.name} names {len(found)} components; the connectivity has {count}. "
            "Give a table with the indices 1 to that number, in order."
        )
    return found


def write_components(components: Components) -> str:
    """The text of a table that `read_components` reads."""
    lines = ["\t".join(_COLUMNS)]
    lines += [f"{c.index}\t{c.name}\t{c.domain}" for c in components]
    return "\n".join(lines) + "\n"


def domains(components: Components) -> tuple[str, ...]:
    """Names of the domains, each once, in the order of the matrix."""
    return tuple(dict.fromkeys(c.domain for c in components))


def members(components: Components, domain: str) -> list[int]:
    """Rows of the matrix, from 0, that belong to `domain`.

    Raises
    ------
    EngineError
        If there is no such domain.
    """
    found = [c.index - 1 for c in components if c.domain == domain]
    if not found:
        raise EngineError(
            f"There is no network {domain!r}; there are "
            f"{', '.join(domains(components))}. Choose one of these."
        )
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        rows = read_rows(path)
    except OSError as error:
        raise EngineError(
            f"{path.name} cannot be read as a table ({error}). Give a tab-separated "
            "text file."
        ) from error
    _check_columns(path, list(rows[0]) if rows else [])
    return rows


def _check_columns(path: Path, there: Sequence[str]) -> None:
    missing = [name for name in _COLUMNS if name not in there]
    if missing:
        raise EngineError(
            f"{path.name} has no column {missing[0]!r}. A tab-separated table with the "
            f"columns {', '.join(_COLUMNS)} is needed."
        )


def _component(path: Path, row: dict[str, str]) -> Component:
    try:
        return Component(int(row["index"]), row["name"].strip(), row["domain"].strip())
    except (ValueError, TypeError, AttributeError) as error:
        raise EngineError(
            f"{path.name} has the row {list(row.values())}, which names no component. "
            "Each row needs a whole number, a name and a domain."
        ) from error

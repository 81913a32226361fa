"""How connectivity was made, so that it can be made again from what a sidecar says.

A matrix is as personal as a scan, and nothing of an input goes into an output. So
people, and the mean of a table, are named by digest alone and have to be loaded again.
What was drawn at random is nobody's, and is written out. Of edits it is told what was
done.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_brainldm.engine import fnc_edit
from napari_brainldm.engine.components import Component, Components
from napari_brainldm.engine.fnc import Fnc, FncTable, Vector
from napari_brainldm.engine.request import EngineError

if TYPE_CHECKING:
    from napari_brainldm.engine.fnc_edit import FncLaw
    from napari_brainldm.engine.fnc_known import KnownFnc

SCALED, WITHOUT, SWAPPED = "scaled", "without", "swapped"
"""Kinds of edit, called as the functions of `fnc_edit` are."""

DRAWS = 2_000_000
"""Where the seeds of what a user draws begin: comparisons draw from 0 and from
`fnc_contrast.NULL_DRAWS`, and nobody is to be compared with the same draw."""


@dataclass(frozen=True)
class Edit:
    """One edit of connectivity.

    Attributes
    ----------
    kind
        SCALED, WITHOUT or SWAPPED.
    networks
        One or two, as `domains` names them.
    domains
        The network of each of the n components, as it was called then.
    factor
        Of SCALED.
    other
        `Fnc.digest` of whom SWAPPED takes from.
    """

    kind: str
    networks: tuple[str, ...]
    domains: tuple[str, ...]
    factor: float = 1.0
    other: str = ""

    def on(self, fnc: Fnc, known: KnownFnc) -> Fnc:
        """`fnc` with this edit."""
        if len(self.domains) != fnc.count:
            raise EngineError(
                f"An edit of the connectivity of {len(self.domains)} components is "
                f"recorded, and there are {fnc.count}. Choose the sidecar as it was "
                "written."
            )
        components = tuple(
            Component(n, "", domain) for n, domain in enumerate(self.domains, start=1)
        )
        if self.kind == WITHOUT:
            return fnc_edit.without(fnc, components, self.networks[0])
        first, second = self.networks
        if self.kind == SCALED:
            return fnc_edit.scaled(fnc, components, first, second, self.factor)
        other = known.of(self.other)
        return fnc_edit.swapped(fnc, other, components, first, second)

    def to_plain(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plain: dict[str, Any] = {
            "edit": self.kind,
            "networks": list(self.networks),
            "domains": list(self.domains),
        }
        if self.kind == SCALED:
            plain["factor"] = self.factor
        elif self.kind == SWAPPED:
            plain["other"] = self.other
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Edit:
        """Inverse of `to_plain`; ValueError, KeyError or TypeError on others."""
        kind = plain["edit"]
        networks = tuple(str(name) for name in plain["networks"])
        if {SCALED: 2, WITHOUT: 1, SWAPPED: 2}.get(kind) != len(networks):
            raise ValueError(f"{kind} of {len(networks)} networks is no edit")
        return cls(
            kind,
            networks,
            tuple(str(name) for name in plain["domains"]),
            float(plain["factor"]) if kind == SCALED else 1.0,
            str(plain["other"]) if kind == SWAPPED else "",
        )


@dataclass(frozen=True)
class Lineage:
    """What connectivity began with, and what was done to it.

    Attributes
    ----------
    begun
        `Fnc.digest` of what it began with.
    drawn
        That itself, if it was drawn at random: base64 of float32, little-endian.
    edits
        In their order.
    """

    begun: str
    drawn: str = ""
    edits: tuple[Edit, ...] = ()

    def again(self, digest: str, known: KnownFnc) -> Fnc:
        """Make the connectivity called `digest` again, and admit it.

        Raises
        ------
        EngineError
            If somebody is not loaded, or something else comes out.
        """
        fnc = _drawn(self.drawn) if self.drawn else known.of(self.begun)
        known.admit(fnc)
        for edit in self.edits:
            done = edit.on(fnc, known)
            fnc = _after(fnc, done, edit)
        if fnc.digest != digest or not np.isfinite(fnc.vector).all():
            raise EngineError(
                f"The connectivity ({digest[:12]}...) did not come out of the edits "
                "that are recorded of it. Choose the sidecar as it was written."
            )
        known.admit(fnc)
        return fnc

    def to_plain(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plain = {"begun": self.begun, "edits": [edit.to_plain() for edit in self.edits]}
        return {**plain, "drawn": self.drawn} if self.drawn else plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Lineage:
        """Inverse of `to_plain`; ValueError, KeyError or TypeError on others."""
        edits = tuple(Edit.from_plain(one) for one in plain["edits"])
        drawn = str(plain.get("drawn", ""))
        if len(base64.b64decode(drawn, validate=True)) % 4:
            raise ValueError("what was drawn is cut off")
        return cls(str(plain["begun"]), drawn, edits)


@dataclass(frozen=True, eq=False)
class Made(Fnc):
    """Connectivity that was drawn or edited, and how."""

    lineage: Lineage = Lineage("")


def lineage_of(fnc: Fnc) -> Lineage | None:
    """How `fnc` was made; None for connectivity as it was loaded."""
    return fnc.lineage if isinstance(fnc, Made) else None


def lineages_of(digests: Iterable[str], known: KnownFnc) -> dict[str, Lineage]:
    """How those of `digests` were made that are known, and drawn or edited."""
    found: dict[str, Lineage] = {}
    for digest in filter(None, digests):
        with suppress(EngineError):  # a step of a workspace whose people never came
            lineage = lineage_of(known.of(digest))
            if lineage is not None:
                found[digest] = lineage
    return found


def drawn(law: FncLaw, number: int) -> Made:
    """Connectivity of nobody, another one for each number: see `fnc_edit.random`."""
    found = fnc_edit.random(law, DRAWS + number)
    return _of_nobody(found.vector, f"random {number}")


def scaled(
    fnc: Fnc, components: Components, first: str, second: str, factor: float
) -> Made:
    """As `fnc_edit.scaled`, remembered."""
    done = fnc_edit.scaled(fnc, components, first, second, factor)
    edit = Edit(SCALED, (first, second), _domains(components), factor)
    return _after(fnc, done, edit)


def without(fnc: Fnc, components: Components, domain: str) -> Made:
    """As `fnc_edit.without`, remembered."""
    done = fnc_edit.without(fnc, components, domain)
    return _after(fnc, done, Edit(WITHOUT, (domain,), _domains(components)))


def swapped(
    fnc: Fnc, other: Fnc, components: Components, first: str, second: str
) -> Made:
    """As `fnc_edit.swapped`, remembered."""
    done = fnc_edit.swapped(fnc, other, components, first, second)
    edit = Edit(SWAPPED, (first, second), _domains(components), other=other.digest)
    return _after(fnc, done, edit)


def admit_table(known: KnownFnc, table: FncTable) -> None:
    """Let everybody of `table`, and the mean of them, be found by digest.

    Raises
    ------
    EngineError
        If the model cannot take them.
    """
    known.admit(fnc_edit.mean_of(table))
    for fnc in table.people():
        known.admit(fnc)


def _after(fnc: Fnc, done: Fnc, edit: Edit) -> Made:
    before = lineage_of(fnc) or Lineage(fnc.digest)
    lineage = replace(before, edits=(*before.edits, edit))
    return Made(done.vector, done.name, lineage, person=done.person)


def _drawn(text: str) -> Made:
    vector = np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)
    return _of_nobody(vector, "random")


def _of_nobody(vector: Vector, name: str) -> Made:
    text = base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return Made(vector, name, Lineage(Fnc(vector).digest, text))


def _domains(components: Components) -> tuple[str, ...]:
    return tuple(component.domain for component in components)

"""What is asked for: plain frozen data, no torch.

A `Request` describes one picture completely: the same request, checkpoint, device and
precision give the same voxels, bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

Value = float | str
"""A covariate in human units: a number (years, ml) or a category ("F", "AD")."""


UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError)
"""What reading plain data may raise that is foreign or was edited by hand."""


class EngineError(Exception):
    """A sentence to the user: what was found, what is needed, what to do.

    Not a RuntimeError: napari's generator workers drop every RuntimeError.
    """


@dataclass(frozen=True)
class Conditions:
    """Named covariates in human units, sorted by name.

    Attributes
    ----------
    fnc
        `Fnc.digest` of the functional connectivity; empty for none, which a model that
        knows connectivity takes as the mean of its training set.
    """

    values: tuple[tuple[str, Value], ...] = ()
    fnc: str = ""

    @classmethod
    def of(cls, mapping: Mapping[str, Value]) -> Conditions:
        """Build from a mapping of covariate name to value."""
        return cls(tuple(sorted(mapping.items())))

    def as_dict(self) -> dict[str, Value]:
        """Covariate name to value."""
        return dict(self.values)

    def with_values(self, mapping: Mapping[str, Value]) -> Conditions:
        """Replace or add the covariates of `mapping`."""
        return replace(Conditions.of({**self.as_dict(), **mapping}), fnc=self.fnc)


@dataclass(frozen=True)
class Seed:
    """A picture that starts from noise drawn with `value` (0 <= value < 2**63)."""

    value: int = 0


@dataclass(frozen=True)
class Scan:
    """A picture that starts from a user's scan, found by inversion.

    Attributes
    ----------
    digest
        `Volume.digest` of the scan.
    conditions
        The scan's own covariates, under which it is inverted.
    """

    digest: str
    conditions: Conditions = field(default_factory=Conditions)


@dataclass(frozen=True)
class Variation:
    """A picture that means the same as a scan, from noise drawn with `seed`.

    Needs a checkpoint with a semantic encoder.
    """

    scan: Scan
    seed: int = 0


@dataclass(frozen=True)
class Later:
    """A scan as a regression in code space forecasts it, `years` after it was taken.

    Attributes
    ----------
    person
        What the forecast asks of the person: age at the scan, sex, diagnosis.
    years
        Below 0 for an earlier picture.
    """

    scan: Scan
    person: Conditions
    years: float


@dataclass(frozen=True)
class Between:
    """A picture between (0..1) or beyond two scans."""

    first: Scan
    second: Scan
    fraction: float


CURVES = ("piecewise", "smooth")


@dataclass(frozen=True)
class Through:
    """A picture at `place` of the way through several scans of one person.

    Attributes
    ----------
    scans
        Two or more.
    places
        Where each of them lies, rising: ages in years, say.
    place
        Where the picture lies, in the same unit; beyond the ends it extrapolates.
    curve
        "piecewise": straight from scan to scan; "smooth": a natural cubic spline
        through all of them.
    """

    scans: tuple[Scan, ...]
    places: tuple[float, ...]
    place: float
    curve: str = "piecewise"

    def __post_init__(self) -> None:
        """Refuse a way that cannot be gone."""
        rising = all(a < b for a, b in pairwise(self.places))
        if len(self.scans) < 2 or len(self.places) != len(self.scans) or not rising:
            raise EngineError(
                f"A way through {len(self.scans)} scans at {list(self.places)} was "
                "asked for; two or more scans are needed, each with a place of its "
                "own, in rising order. Correct the ages of the visits."
            )
        if self.curve not in CURVES:
            raise EngineError(
                f"The curve {self.curve!r} was asked for; known are "
                f"{', '.join(CURVES)}. Choose one of these."
            )

    @property
    def beyond(self) -> float:
        """How far `place` lies before the first scan (below 0) or after the last."""
        first, last = self.places[0], self.places[-1]
        return min(self.place - first, 0.0) + max(self.place - last, 0.0)


Origin = Seed | Scan | Variation | Later | Between | Through


def scans_of(origin: Origin) -> tuple[Scan, ...]:
    """The scans that a picture starts from, in order; none for noise."""
    if isinstance(origin, Seed):
        return ()
    if isinstance(origin, Scan):
        return (origin,)
    if isinstance(origin, Between):
        return origin.first, origin.second
    return origin.scans if isinstance(origin, Through) else (origin.scan,)


def redrawn(request: Request, seed: int) -> Request:
    """`request` from the noise of `seed`; of one scan, a variation of it.

    Raises
    ------
    EngineError
        If it starts from several scans, or is a forecast.
    """
    if isinstance(request.origin, Later):
        raise EngineError(
            "This picture is a forecast, whose noise is that of its scan, so it cannot "
            "be drawn anew. Choose a picture of the scan as it is, or one that starts "
            "from noise."
        )
    scans = scans_of(request.origin)
    if not scans:
        return replace(request, origin=Seed(seed))
    if len(scans) > 1:
        raise EngineError(
            "This picture lies between several scans, so its noise cannot be drawn "
            "anew. Choose a picture of one scan, or one that starts from noise."
        )
    return replace(request, origin=Variation(scans[0], seed))


def drawn_from(origin: Origin) -> int | None:
    """The seed of the noise a picture starts from; None where scans tell the noise."""
    if isinstance(origin, Seed):
        return origin.value
    return origin.seed if isinstance(origin, Variation) else None


@dataclass(frozen=True)
class Sampler:
    """How the denoiser is followed from noise to picture.

    Attributes
    ----------
    name
        "ddim", "ddpm" (ancestral, eta 1) or "dpm++2m".
    steps
        Number of denoising steps, 1 to the training steps of the schedule.
    eta
        Noise amount of "ddim": 0 deterministic, 1 ancestral.
    """

    name: str = "dpm++2m"
    steps: int = 15
    eta: float = 0.0


@dataclass(frozen=True)
class Request:
    """The complete description of one picture.

    Attributes
    ----------
    conditions
        Covariates asked for, in the vocabulary of the checkpoint's card.
    origin
        Where the picture starts: noise, a scan, or between scans.
    shift
        (direction, amount) pairs, amounts in SD along the direction. From noise, any
        shift, of 0 as well, is one of the code of the picture that the noise makes.
    sampler
        Steps and solver.
    guidance
        Classifier-free guidance weight; 1 is none.
    precision
        "float32" or "bfloat16"; empty lets the renderer choose.
    """

    conditions: Conditions = field(default_factory=Conditions)
    origin: Origin = field(default_factory=Seed)
    shift: tuple[tuple[str, float], ...] = ()
    sampler: Sampler = field(default_factory=Sampler)
    guidance: float = 1.0
    precision: str = ""

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, one line."""
        return json.dumps(to_plain(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Read what `to_json` wrote; raises EngineError on anything else."""
        try:
            return request_from_plain(json.loads(text))
        except UNREADABLE as error:
            raise EngineError(
                f"This is not a picture request ({error}). "
                "Use the 'request' entry of a sidecar written by this program."
            ) from error

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, hex."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


@dataclass(frozen=True)
class Derived:
    """How something computed from several pictures came to be."""

    operation: str
    parameters: tuple[tuple[str, Value], ...]
    requests: tuple[Request, ...]

    def to_plain(self) -> dict[str, Any]:
        """Nested plain dictionaries, ready for JSON."""
        return {
            "operation": self.operation,
            "parameters": dict(self.parameters),
            "requests": [to_plain(request) for request in self.requests],
        }


def to_plain(request: Request) -> dict[str, Any]:
    """Nested plain dictionaries of `request`, ready for JSON."""
    return {
        **_conditions_to_plain(request.conditions),
        "origin": _origin_to_plain(request.origin),
        "shift": dict(request.shift),
        "sampler": asdict(request.sampler),
        "guidance": request.guidance,
        "precision": request.precision,
    }


def request_from_plain(plain: Mapping[str, Any]) -> Request:
    """Inverse of `to_plain`; raises KeyError or TypeError on a foreign mapping."""
    return Request(
        conditions=_conditions_from_plain(plain),
        origin=_origin_from_plain(plain["origin"]),
        shift=tuple(sorted((k, float(v)) for k, v in plain["shift"].items())),
        sampler=_sampler_from_plain(plain["sampler"]),
        guidance=float(plain["guidance"]),
        precision=str(plain["precision"]),
    )


def _sampler_from_plain(plain: Mapping[str, Any]) -> Sampler:
    sampler = Sampler(**plain)
    kinds = isinstance(sampler.name, str), isinstance(sampler.steps, int)
    if not all(kinds) or not isinstance(sampler.eta, int | float):
        raise TypeError(f"{dict(plain)} is no sampler")
    return sampler


def _origin_to_plain(origin: Origin) -> dict[str, Any]:
    if isinstance(origin, Seed):
        return {"seed": origin.value}
    if isinstance(origin, Scan):
        return {"scan": origin.digest, **_conditions_to_plain(origin.conditions)}
    if isinstance(origin, Variation):
        return {"variation": _origin_to_plain(origin.scan), "seed": origin.seed}
    if isinstance(origin, Later):
        return {
            "later": _origin_to_plain(origin.scan),
            "person": origin.person.as_dict(),
            "years": origin.years,
        }
    if isinstance(origin, Through):
        return {
            "through": [_origin_to_plain(scan) for scan in origin.scans],
            "places": list(origin.places),
            "place": origin.place,
            "curve": origin.curve,
        }
    return {
        "between": [_origin_to_plain(origin.first), _origin_to_plain(origin.second)],
        "fraction": origin.fraction,
    }


def _origin_from_plain(plain: Mapping[str, Any]) -> Origin:
    if "variation" in plain:
        return Variation(_scan_from_plain(plain["variation"]), int(plain["seed"]))
    if "later" in plain:
        return Later(
            _scan_from_plain(plain["later"]),
            Conditions.of(plain["person"]),
            float(plain["years"]),
        )
    if "seed" in plain:
        return Seed(int(plain["seed"]))
    if "scan" in plain:
        return _scan_from_plain(plain)
    if "through" in plain:
        return Through(
            tuple(_scan_from_plain(scan) for scan in plain["through"]),
            tuple(float(place) for place in plain["places"]),
            float(plain["place"]),
            str(plain["curve"]),
        )
    first, second = plain["between"]
    return Between(
        _scan_from_plain(first), _scan_from_plain(second), float(plain["fraction"])
    )


def _scan_from_plain(plain: Mapping[str, Any]) -> Scan:
    return Scan(str(plain["scan"]), _conditions_from_plain(plain))


def _conditions_to_plain(conditions: Conditions) -> dict[str, Any]:
    """Covariates; connectivity beside them, if there is any."""
    plain: dict[str, Any] = {"conditions": conditions.as_dict()}
    return {**plain, "fnc": conditions.fnc} if conditions.fnc else plain


def _conditions_from_plain(plain: Mapping[str, Any]) -> Conditions:
    found = Conditions.of(plain["conditions"])
    return replace(found, fnc=str(plain.get("fnc", "")))

"""A frozen study on disk: what readers see, and apart from it the truth.

    <study>/study.json            protocols, questions, stimuli, rules; hashed into rows
    <study>/pools.json            pairs and levels that adaptive protocols choose from
    <study>/orders/<reader>.json  each reader's trials
    <study>/stimuli/<token>.npz   the pictures
    <study>/records/              what readers answered
    <study>/closed.json           written when the owner closes the study
    <study>.key.json              the truth, beside the folder: readers never get it

Tokens are random, so that neither they nor their order say anything.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from napari_brainldm.engine.files import write_whole
from napari_brainldm.engine.frozen import from_plain, to_plain
from napari_brainldm.engine.request import UNREADABLE, EngineError
from napari_brainldm.engine.volume import Grid
from napari_brainldm.review.protocols import Protocol

SCHEMA = 1
WHITE = 4095
"""Brightest value of a stimulus: 12 bits."""

T = TypeVar("T")


@dataclass(frozen=True)
class Rules:
    """What is decided before the first answer.

    Attributes
    ----------
    catch_pass
        Share of catch trials that a reader has to get right to be counted.
    margin
        Readers are at chance when the AUC is shown to lie within 0.5 +- margin.
    max_gap_h
        Hours after which an interrupted block is begun anew.
    break_after_min, break_min
        Minutes of work after which a break is due, and how long it lasts at least.
    early_ms
        Keys are ignored for so long after a picture appears.
    draws
        Bootstrap samples.
    least_readers, least_anchors
        With fewer, a report makes no claim.
    """

    catch_pass: float = 0.9
    margin: float = 0.1
    max_gap_h: float = 4.0
    break_after_min: float = 20.0
    break_min: float = 2.0
    early_ms: float = 150.0
    draws: int = 2000
    least_readers: int = 3
    least_anchors: int = 30


@dataclass(frozen=True)
class Stimulus:
    """A picture by its token, with the sha256 of its file."""

    token: str
    sha256: str


@dataclass(frozen=True)
class Study:
    """All that a reader's program may know.

    Attributes
    ----------
    seed
        Orders trials, together with a reader's code.
    grid
        Of every stimulus, MNI space.
    stimuli
        By token.
    orders
        Reader's code -> sha256 of that reader's trials.
    pools_sha256, key_sha256
        Of the other two files: the truth cannot be changed after the fact.
    version
        Of the program that built the study.
    welcome
        What readers are told before anything else.
    """

    name: str
    seed: int
    grid: Grid
    protocols: tuple[Protocol, ...]
    stimuli: tuple[Stimulus, ...]
    orders: dict[str, str]
    pools_sha256: str
    key_sha256: str
    version: str
    rules: Rules = field(default_factory=Rules)
    schema: int = SCHEMA
    window: tuple[int, int] = (0, WHITE)
    welcome: str = ""

    def protocol(self, name: str) -> Protocol:
        """The protocol of that id, with this study's numbers."""
        return next(p for p in self.protocols if p.id == name)


@dataclass(frozen=True)
class Trial:
    """One trial as the reader's program knows it.

    Attributes
    ----------
    uid
        Opaque.
    block
        From 0, within a protocol.
    stimuli
        Tokens by place, left to right; empty where `pool` is chosen from.
    pool
        Name of the adaptive pool.
    exposure_ms
        How long a timed picture is shown.
    feedback
        Told after the answer, in practice alone.
    """

    uid: str
    protocol: str
    block: int
    stimuli: tuple[str, ...] = ()
    pool: str = ""
    exposure_ms: float | None = None
    feedback: str = ""

    @property
    def practice(self) -> bool:
        """Whether it counts for nothing."""
        return bool(self.feedback)


@dataclass(frozen=True)
class Pair:
    """A pair of an adaptive pool: the signed level of the second against the first."""

    level: float
    first: str
    second: str


@dataclass(frozen=True)
class Item:
    """The truth of a stimulus.

    Attributes
    ----------
    arm
        Where it comes from: "real", "synthetic", "reconstructed", "blurred", "catch",
        "length" or "area".
    label
        The arm in more words, such as "blurred by 4 mm" or a model's name.
    source
        Person or seed behind it: pictures of one source are kept apart.
    facts
        Measured quantities: ventricles in ml, age in years, blur in mm, ...
    metrics
        What metrics say of it.
    request
        The picture request, where it was rendered.
    """

    token: str
    arm: str
    label: str
    source: str
    facts: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    request: str = ""
    practice: bool = False


@dataclass(frozen=True)
class Truth:
    """The truth of a trial.

    Attributes
    ----------
    kind
        "main", "catch", "repeat" or "practice".
    truth
        Class or stratum that was balanced.
    answer
        Number of the right option, 0 where none is right.
    level
        Signed level where it is planned; NaN is not JSON, so None elsewhere.
    standard
        Name of the standard's size in comparisons.
    repeat_of
        Uid of the trial it repeats.
    """

    uid: str
    kind: str
    truth: str = ""
    answer: int = 0
    level: float | None = None
    standard: str = ""
    repeat_of: str = ""


@dataclass(frozen=True)
class Key:
    """The truth of a study; never opened by a program that readers use.

    Attributes
    ----------
    salt
        Random, so that the hash of the key tells nothing.
    trials
        Of every reader.
    notes
        Sentences for the report, such as how volumes were measured.
    """

    salt: str
    items: tuple[Item, ...]
    trials: tuple[Truth, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Order:
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class _Pools:
    pools: dict[str, tuple[Pair, ...]]


def as_bytes(value: Any) -> bytes:
    """Canonical JSON of a frozen dataclass."""
    return json.dumps(to_plain(value), indent=1, sort_keys=True).encode()


def sha256(content: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(content).hexdigest()


def key_path(folder: Path) -> Path:
    """Where the truth of the study in `folder` is kept: beside it, not in it."""
    return folder.with_name(f"{folder.name}.key.json")


def write_study(
    folder: Path,
    study: Study,
    orders: dict[str, tuple[Trial, ...]],
    pools: dict[str, tuple[Pair, ...]],
    key: Key,
) -> None:
    """Write all but the stimuli; `study` gets the hashes of the other files."""
    from dataclasses import replace

    content = {reader: as_bytes(_Order(trials)) for reader, trials in orders.items()}
    pooled, truth = as_bytes(_Pools(pools)), as_bytes(key)
    study = replace(
        study,
        orders={reader: sha256(raw) for reader, raw in content.items()},
        pools_sha256=sha256(pooled),
        key_sha256=sha256(truth),
    )
    (folder / "orders").mkdir(exist_ok=True)
    (folder / "records").mkdir(exist_ok=True)
    for reader, raw in content.items():
        write_whole(folder / "orders" / f"{reader}.json", raw)
    write_whole(folder / "pools.json", pooled)
    write_whole(key_path(folder), truth)
    write_whole(folder / "study.json", as_bytes(study))


def read_study(folder: Path) -> tuple[Study, str]:
    """The study in `folder` and its hash.

    Raises
    ------
    EngineError
        If there is none, or one of a later version.
    """
    path = folder / "study.json"
    if not path.is_file():
        raise EngineError(
            f"{folder} holds no study.json. Give the folder that brainldm review build "
            "wrote."
        )
    study, digest = _read(Study, path)
    if study.schema > SCHEMA:
        raise EngineError(
            f"{path} is a study of version {study.schema}; this program knows {SCHEMA}."
            " Update napari-brainldm to open it."
        )
    return study, digest


def read_order(folder: Path, study: Study, reader: str) -> tuple[Trial, ...]:
    """The trials of `reader`; EngineError for a stranger or a changed file."""
    if reader not in study.orders:
        raise EngineError(
            f"The study {study.name} has no reader {reader!r}; its readers are "
            f"{', '.join(sorted(study.orders))}. Give one of these codes."
        )
    path = folder / "orders" / f"{reader}.json"
    order, digest = _read(_Order, path)
    _check(path, digest, study.orders[reader])
    return order.trials


def read_pools(folder: Path, study: Study) -> dict[str, tuple[Pair, ...]]:
    """The adaptive pools; EngineError for a changed file."""
    path = folder / "pools.json"
    pools, digest = _read(_Pools, path)
    _check(path, digest, study.pools_sha256)
    return pools.pools


def read_key(path: Path, study: Study) -> Key:
    """The truth; EngineError when missing or not this study's."""
    if not path.is_file():
        raise EngineError(
            f"There is no key {path}. Only who built the study has it; give its place "
            "with --key."
        )
    key, digest = _read(Key, path)
    _check(path, digest, study.key_sha256)
    return key


def _read(kind: type[T], path: Path) -> tuple[T, str]:
    try:
        content = path.read_bytes()
        plain = json.loads(content)
    except (OSError, *UNREADABLE) as error:
        raise EngineError(
            f"{path} cannot be read ({error}). Copy the study's folder again."
        ) from error
    return from_plain(kind, plain, path.name), sha256(content)


def _check(path: Path, found: str, frozen: str) -> None:
    if found != frozen:
        raise EngineError(
            f"{path} is not the file the study was frozen with (sha256 {found[:12]}, "
            f"frozen {frozen[:12]}). Copy it again from the owner of the study."
        )

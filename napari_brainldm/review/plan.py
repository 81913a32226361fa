"""What the owner of a study asks for: a TOML file, read strictly."""

from __future__ import annotations

import re
import tomllib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from napari_brainldm.engine.frozen import from_plain
from napari_brainldm.engine.request import EngineError
from napari_brainldm.review.protocols import Protocol, protocol, with_panels
from napari_brainldm.review.sources import Source
from napari_brainldm.review.study import Rules


@dataclass(frozen=True)
class Chosen:
    """A protocol by its id; what is not None takes the place of its own number."""

    id: str
    trials: int | None = None
    catches: int | None = None
    repeats: int | None = None
    practice: int | None = None
    block: int | None = None
    cap_s: float | None = None
    method: str | None = None
    panels: int | None = None
    levels: tuple[float, ...] | None = None
    standards: tuple[str, ...] | None = None

    def protocol(self) -> Protocol:
        """The protocol with these numbers; EngineError for numbers it cannot have."""
        own = {k: v for k, v in asdict(self).items() if k != "id" and v is not None}
        found = replace(protocol(self.id), **own)
        if found.method not in ("constant", "quest+") or found.trials < 1:
            raise EngineError(
                f"{self.id} has the method {found.method!r} and {found.trials} trials. "
                'Methods are "constant" and "quest+"; at least 1 trial is needed.'
            )
        if found.catches and found.task != "detect":
            raise EngineError(
                f"{self.id} has {found.catches} catches. Only P1 and P1t, which ask "
                "what is real, have an answer that everybody awake gives: leave "
                "catches out of the others."
            )
        return found if self.panels is None else with_panels(found)


@dataclass(frozen=True)
class Plan:
    """A study to be built.

    Attributes
    ----------
    readers
        Their codes; nothing that names a person.
    checkpoint
        Renders, reconstructs and says how scans are placed; empty for the bundled.
    voxel_mm
        Of the stimuli; 0 for the checkpoint's grid.
    reconstruct
        Add real pictures taken through the autoencoder and back.
    blur_mm
        Add real pictures blurred by so much (full width at half maximum).
    blur_pictures
        How many real pictures are blurred.
    welcome
        What readers are told before anything else; it is no place for the truth.
    """

    name: str
    protocols: tuple[Chosen, ...]
    sources: tuple[Source, ...]
    readers: tuple[str, ...] = ("R01", "R02", "R03", "R04", "R05", "R06")
    seed: int = 0
    checkpoint: str = ""
    voxel_mm: float = 0.0
    reconstruct: bool = False
    blur_mm: tuple[float, ...] = ()
    blur_pictures: int = 10
    welcome: str = ""
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        code = r"[A-Za-z0-9-]{1,20}"
        foreign = [r for r in self.readers if not re.fullmatch(code, r)]
        if foreign or len(set(self.readers)) < max(1, len(self.readers)):
            raise EngineError(
                f"The readers {', '.join(self.readers)} need codes of letters and "
                "digits, each its own. Correct the plan."
            )
        if not self.protocols or not self.sources or self.seed < 0:
            raise EngineError(
                f"The plan {self.name} has {len(self.protocols)} protocols, "
                f"{len(self.sources)} sources and the seed {self.seed}. At least "
                "one of each is needed, and a seed of 0 or more."
            )


def read_plan(path: Path) -> Plan:
    """The plan in a TOML file.

    Raises
    ------
    EngineError
        If it is missing, not TOML, or has an unknown, missing or mistyped entry.
    """
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(
            f"{path} is not a plan of a study ({error}). Give a TOML file; "
            "docs/reader_study.md has one to start from."
        ) from error
    return from_plain(Plan, plain, path.name)

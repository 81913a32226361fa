"""What stands in for the bundled GM-LDM and its sample: a tiny one, 40 people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_brainldm.engine import resources
from napari_brainldm.engine.checkpoint import save_checkpoint
from napari_brainldm.engine.fnc import Fnc
from napari_brainldm.engine.fnc_file import write_fnc
from tests.tiny import tiny_gm_ldm

if TYPE_CHECKING:
    import pytest

PEOPLE = 40

DOMAINS = """index\tname\tdomain
1\tCaudate\tSC
2\tPutamen\tSC
3\tThalamus\tSC
4\tVermis\tCB
5\tCrus\tCB
"""


def people(count: int, components: int = 5) -> list[Fnc]:
    """Connectivity (Fisher z) drawn from one seed."""
    rng = np.random.default_rng(0)
    pairs = components * (components - 1) // 2
    drawn = rng.normal(0, 0.4, (count, pairs)).astype(np.float32)
    return [Fnc(row, f"sub-{n:02}") for n, row in enumerate(drawn)]


def bundle_tiny(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a tiny model and its table where the bundled ones are looked for."""
    save_checkpoint(tiny_gm_ldm(), folder / resources.GM_LDM)
    (folder / resources.FNC).write_text(write_fnc(people(PEOPLE)))
    (folder / resources.COMPONENTS).write_text(DOMAINS)
    found = resources._found

    def tiny(name: str) -> Path | None:
        path = folder / name
        return path if path.is_file() else found(name)

    monkeypatch.setattr(resources, "_found", tiny)
    return folder

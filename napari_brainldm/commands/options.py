"""Options that several commands of `brainldm` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

Folder = Annotated[Path, arg(metavar="FOLDER", help="where pictures and sidecars go")]
Device = Annotated[str, arg(help="cpu, cuda, mps; default: the best one here")]
ScanFile = Annotated[Path, arg(metavar="SCAN", help="T1-weighted scan, NIfTI or MGZ")]
Orientation = Annotated[
    str, arg(help="axes of a scan whose file does not say, e.g. RAS or LAS")
]

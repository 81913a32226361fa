"""Tab-separated tables, as BIDS writes them."""

from __future__ import annotations

import csv
from pathlib import Path

from napari_brainldm.engine.request import EngineError


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a tab-separated table with a header, by column name.

    A cell that a short row lacks is empty; cells beyond the header are left out.

    Raises
    ------
    EngineError
        If the file is not UTF-8 text.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise EngineError(
            f"{path} is not a tab-separated table in UTF-8 ({error}). Save it as such."
        ) from error
    return [{k: v or "" for k, v in row.items() if k is not None} for row in rows]

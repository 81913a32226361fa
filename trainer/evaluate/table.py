"""A table of figures: as Markdown to read, as plain rows for JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_brainldm.engine.files import write_whole

Row = Mapping[str, str | float]


@dataclass(frozen=True)
class Table:
    """Rows with the same columns.

    Attributes
    ----------
    name, title
        Its key in JSON, its heading.
    note
        What a reader must know: data, window, mask.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    note: str = ""

    def markdown(self) -> str:
        """The table with its heading and note."""
        columns = list(self.rows[0])
        lines = [_line(columns), _line(["---"] * len(columns))]
        lines += [_line([told(row[c]) for c in columns]) for row in self.rows]
        parts = (f"### {self.title}", "\n".join(lines), self.note)
        return "\n\n".join(part for part in parts if part) + "\n"


def tables_of(plain: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Tables out of what JSON keeps of `dataclasses.asdict`."""
    return [Table(**{**one, "rows": tuple(one["rows"])}) for one in plain]


def write_tables(
    tables: Sequence[Table], folder: Path, name: str, facts: Mapping[str, Any]
) -> None:
    """Write NAME.json, `facts`, rows and notes of every table, and NAME.md to read."""
    plain = {
        **facts,
        "tables": {t.name: [dict(row) for row in t.rows] for t in tables},
        "notes": {t.name: t.note for t in tables if t.note},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{name}.json", json.dumps(plain, indent=1).encode())
    text = "\n".join(table.markdown() for table in tables)
    write_whole(folder / f"{name}.md", text.encode())


def told(value: str | float) -> str:
    """A figure in four digits, text as it is."""
    return value if isinstance(value, str) else f"{value:.4g}"


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every figure over `rows`."""
    return {k: sum(row[k] for row in rows) / len(rows) for k in rows[0]}


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

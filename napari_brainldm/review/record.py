"""What a reader answered: JSON Lines, only ever appended to, each row tied to the last.

Every row is flushed and synced before the program goes on, so a kill loses at most the
row being written. Every row holds the hash of the row before it, and a second file, the
head, number and hash of the last one, so that a row edited, taken out or moved is
found. The head is written after its row and not synced: it may lag, but is never ahead.
Who rewrites both files from there on is found only by a hash noted elsewhere, such as
the one that `closed.json` and the reader's program tell.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from napari_brainldm.engine.request import EngineError

SCHEMA = 1
Row = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """Something wrong with a record: the line, from 1, and a sentence."""

    line: int
    words: str


def first_hash(study_hash: str, reader: str) -> str:
    """What the first row is tied to: this study and this reader."""
    return hashlib.sha256(f"{study_hash}:{reader}".encode()).hexdigest()


def hash_of(row: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a row without its own hash."""
    plain = {k: v for k, v in row.items() if k != "row_hash"}
    return hashlib.sha256(_line(plain).encode()).hexdigest()


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, sort_keys=True, allow_nan=False)


class Record:
    """One reader's record, held open by one process.

    Parameters
    ----------
    path
        `<reader>.jsonl`; made when it is not there.
    study_hash, reader
        What every row is tied to.

    Raises
    ------
    EngineError
        When the record is damaged otherwise than by a torn last line, belongs to
        another study, or is open elsewhere.
    """

    def __init__(self, path: Path, study_hash: str, reader: str) -> None:
        self.path, self.study_hash, self.reader = path, study_hash, reader
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream: IO[bytes] = path.open("a+b", buffering=0)
        head_path(path).touch()
        self._head = head_path(path).open("r+b", buffering=0)
        try:
            _lock(self._stream, path)
            torn = self._drop_torn()
            faults = verify(path, study_hash, reader)
            if faults:
                raise EngineError(
                    f"{path.name}, line {faults[0].line}: {faults[0].words} Answers "
                    "cannot be added to it; tell the owner of the study."
                )
        except BaseException:
            self.close()
            raise
        self.rows: list[Row] = list(read_rows(path))
        if torn:
            self.append({"event": "torn", "bytes_dropped": torn})

    def append(self, content: Mapping[str, Any]) -> Row:
        """Write a row to the disk; returns it with number and hashes.

        Raises
        ------
        OSError
            If it cannot be written, on a full disk say; nothing of it is left then.
        """
        row: Row = {
            **content,
            "schema": SCHEMA,
            "study_hash": self.study_hash,
            "reader_code": self.reader,
            "n": len(self.rows),
            "prev_hash": self.last_hash,
        }
        row["row_hash"] = hash_of(row)
        self._write((_line(row) + "\n").encode())
        self.rows.append(row)
        self._write_head()
        return row

    @property
    def last_hash(self) -> str:
        """Hash of the last row."""
        if not self.rows:
            return first_hash(self.study_hash, self.reader)
        return str(self.rows[-1]["row_hash"])

    def close(self) -> None:
        """Let go of the file."""
        self._stream.close()
        self._head.close()

    def _write(self, line: bytes) -> None:
        """All of `line`, or nothing: half a row would spoil the next one."""
        size = self._stream.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._stream.write(line) :]
            os.fsync(self._stream.fileno())
        except OSError:
            with suppress(OSError):
                self._stream.truncate(size)
            raise

    def _drop_torn(self) -> int:
        """Cut off a last line without its end; how many bytes it had."""
        self._stream.seek(0)
        content = self._stream.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._stream.truncate(whole)
            os.fsync(self._stream.fileno())
        return len(content) - whole

    def _write_head(self) -> None:
        """In one write of one length, so that a kill leaves the old or the new."""
        head = {"rows": f"{len(self.rows):12d}", "last_hash": self.last_hash}
        self._head.seek(0)
        self._head.write(json.dumps(head).encode())


def head_path(path: Path) -> Path:
    """Where number and hash of the last row of the record at `path` stand."""
    return path.with_suffix(".head")


def _lock(stream: IO[bytes], path: Path) -> None:
    """Let one process write; where the system has no such locks, trust."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise EngineError(
            f"{path.name} is open in another window. Close that one first."
        ) from error


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of a record, a torn last line left out."""
    if path.is_file():
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                yield json.loads(line)


def verify(path: Path, study_hash: str, reader: str) -> list[Fault]:
    """What is wrong with the record at `path`; empty when nothing is."""
    faults: list[Fault] = []
    before, count = first_hash(study_hash, reader), 0
    hashes = [before]
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            break  # torn: the writer was killed, which is no fault
        found = _fault(line, before, count, study_hash, reader)
        if isinstance(found, str):
            return [*faults, Fault(number, found)]
        before, count = str(found["row_hash"]), count + 1
        hashes.append(before)
    return [*faults, *_head_faults(path, hashes)]


def seal(path: Path, study_hash: str, reader: str) -> dict[str, Any]:
    """What tells a record from any other: how many rows, and the hash of the last.

    Of a damaged one what is wrong with it, and the hash of the file as it is.
    """
    faults = verify(path, study_hash, reader)
    if faults:
        held = path.read_bytes() if path.is_file() else b""
        words = f"line {faults[0].line}: {faults[0].words}"
        return {"damaged": words, "file_sha256": hashlib.sha256(held).hexdigest()}
    rows = list(read_rows(path))
    return {"rows": len(rows), "hash": str(rows[-1]["row_hash"]) if rows else ""}


def _fault(
    line: bytes, before: str, count: int, study_hash: str, reader: str
) -> Row | str:
    """The row, or what is wrong with it."""
    try:
        row = json.loads(line)
        if row["row_hash"] != hash_of(row) or _line(row).encode() + b"\n" != line:
            return "this row was changed after it was written."
    except (ValueError, KeyError, TypeError):
        return "this is no row of a record."
    if row["study_hash"] != study_hash or row["reader_code"] != reader:
        return "this row belongs to another study or reader."
    if row["prev_hash"] != before or row["n"] != count:
        return "rows before this one were taken out, added or moved."
    return dict(row)


def _head_faults(path: Path, hashes: list[str]) -> Iterator[Fault]:
    """Whether the record ends before the row that its head knows last."""
    rows = len(hashes) - 1
    try:
        head = json.loads(head_path(path).read_bytes())
        known, last = int(head["rows"]), head["last_hash"]
    except (OSError, ValueError, KeyError, TypeError):
        if rows > 1:  # a kill may come between the first row and the first head
            yield Fault(rows, "the record's head is missing or was changed.")
        return
    if known > rows:
        yield Fault(rows + 1, f"{known - rows} rows are missing at the end.")
    elif hashes[known] != last:
        yield Fault(rows, "the record's head is not that of these rows.")

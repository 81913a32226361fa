"""Programs of others that the user has installed, run to their end."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_S = 3600.0
"""A program that takes longer, seconds, is stopped."""


class ProgramError(Exception):
    """A program did not come to an end of its own; the message says what it did."""


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit status, and its last line or ""."""

    code: int
    words: str


def run(command: Sequence[str]) -> Ended:
    """Run to the end; what it prints is kept for the sentence when it fails.

    Raises
    ------
    ProgramError
        When it takes longer than `LONGEST_S` or cannot be started.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"took longer than {LONGEST_S:g} s") from error
    except OSError as error:
        raise ProgramError(f"could not be started ({error.strerror})") from error
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return Ended(done.returncode, lines[-1] if lines else "")

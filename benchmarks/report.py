"""The one form of a benchmark: figures against limits, as one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Figures = Mapping[str, Any]
AT_LEAST, AT_MOST = ">=", "<="


@dataclass(frozen=True)
class Limit:
    """A figure must be `side` (AT_LEAST or AT_MOST) `value`."""

    side: str
    value: float

    def holds(self, figure: float) -> bool:
        """Whether `figure` is within the limit."""
        return figure >= self.value if self.side == AT_LEAST else figure <= self.value


def options(name: str, text: str | None) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="the road, not quality")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def finish(
    chosen: argparse.Namespace, limits: Mapping[str, Limit], run: Callable[[], Figures]
) -> int:
    """Run, print one JSON object, return 0 if every figure is within its limit.

    A quick run passes by reaching its end: it says nothing about quality.
    """
    figures = run()
    missed = [name for name, limit in limits.items() if not limit.holds(figures[name])]
    report = {
        "figures": dict(figures),
        "thresholds": {k: f"{v.side} {v.value:g}" for k, v in limits.items()},
        "missed": missed,
        "pass": chosen.quick or not missed,
        "quick": chosen.quick,
        "seed": chosen.seed,
        "commit": _commit(),
        "hardware": hardware(),
    }
    print(json.dumps(report, indent=None if chosen.json else 1))
    return 0 if report["pass"] else 1


def hardware() -> str:
    """Processor, cores and system, as far as Python knows them."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}"


def _commit() -> str:
    command: Sequence[str] = ["git", "rev-parse", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else "unknown"

"""Round numbers for the axes of a plot."""

from __future__ import annotations

import math
from collections.abc import Sequence

STEPS = (1.0, 2.0, 5.0, 10.0)
MARGIN = 0.1
"""Room around the values, as a share of their range."""


def ticks(low: float, high: float, most: int = 5) -> tuple[float, ...]:
    """At most `most` round numbers (1, 2 or 5 times a power of ten) in low..high."""
    rough = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in STEPS if s * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(n * step, 10) for n in range(first, last + 1))


def room(values: Sequence[float], least: float) -> tuple[float, float]:
    """A range around `values` with a margin, `least` wide at least."""
    low, high = min(values), max(values)
    middle, half = (low + high) / 2, max(high - low, least) / 2
    return middle - half * (1 + 2 * MARGIN), middle + half * (1 + 2 * MARGIN)

"""Memory that big arrays leave is kept for the next ones, in processes of our own."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Options of mallopt(3)."""

GIB = 1 << 30


def keep_memory() -> bool:
    """Tell glibc not to give freed memory back at once; whether it listened.

    It returns every array of some megabytes to the system, which hands out zeroed pages
    for the next one: a fifth of a picture's time on one core. Up to 1 GiB is kept. For
    programs of this project alone, never for napari, which is not ours to settle.
    """
    if sys.platform != "linux":
        return False
    try:
        settle = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    wishes = {_MMAP_THRESHOLD: GIB // 2, _TRIM_THRESHOLD: GIB, _ARENA_MAX: 1}
    heard = [settle(option, value) == 1 for option, value in wishes.items()]
    return all(heard)

"""The system is asked for memory once, not for every array."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, resource, sys, threading
from napari_brainldm.engine.heap import keep_memory

libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def make():
    for _ in range(20):
        block = libc.malloc(64 << 20)  # 16384 pages
        libc.memset(block, 1, 64 << 20)
        libc.free(block)

if sys.argv[1] == "keep":
    assert keep_memory()
if sys.argv[2] == "thread":
    one = threading.Thread(target=make)
    one.start()
    one.join()
else:
    make()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(*words: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_pages_are_asked_for_once(where: str) -> None:
    kept, returned = faults("keep", where), faults("return", where)
    assert returned - kept > 19 * 16_384 * 0.9

"""A wall clock that is wrong by what a shared file says: a number of milliseconds, changed while the process runs.

The monotonic clock, which timers use, stays right: machines drift apart in what time it is, not in how long a second
lasts.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable
from pathlib import Path

_OFFSET = struct.Struct("<q")


def write(path: Path, offset_ms: int) -> None:
    """Set how far the clock of the process that uses this file is ahead; below 0 for behind."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(_OFFSET.pack(offset_ms))


def skewed(path: Path, true_ns: Callable[[], int]) -> Callable[[], int]:
    """A clock like `true_ns`, and wrong by what the file says at that moment."""
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)

    def now_ns() -> int:
        offset_ms: int = _OFFSET.unpack_from(memory)[0]
        return true_ns() + offset_ms * 1_000_000

    return now_ns


def install(path: Path) -> None:
    """Give this process a wrong clock."""
    time.time_ns = skewed(path, time.time_ns)

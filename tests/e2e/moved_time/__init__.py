"""A wall clock that a test moves, or holds, for all processes that it starts: the ledger's, and those of wallets.

So a lock that is good for minutes is over when a test wants it, and what counts to the millisecond is shown to the
millisecond: while the clock stands, all blocks have one ledger clock. The monotonic clock, which timers use, goes on.

A process takes part if it is started in the environment of :meth:`MovedTime.environment`: Python then imports the
`sitecustomize` that is named there. The product knows nothing of it.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

VARIABLE = "WEDGE_TESTS_TIME"
"""Names the file, to a process that is started."""
ROOT = Path(__file__).parents[3]
_NUMBER = struct.Struct("<q")
_OFFSET, _STANDING = 0, _NUMBER.size
_true_ns = time.time_ns


class MovedTime:
    """Two numbers in a shared file: how far the clock is ahead, in ns, and where it stands; 0 while it runs."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(2 * _NUMBER.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 2 * _NUMBER.size)
        self.path = path

    def environment(self) -> dict[str, str]:
        """Of a process that is to live in this time."""
        paths = [str(Path(__file__).parent / "site"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        return {VARIABLE: str(self.path), "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def time_ns(self) -> int:
        """In place of `time.time_ns`."""
        return self._get(_STANDING) or _true_ns() + self._get(_OFFSET)

    def stand(self, at_ms: int) -> None:
        """Stop at a time, ms since 1970: nothing happens later until it goes on."""
        self._set(_STANDING, at_ms * 1_000_000)

    def go_on(self) -> None:
        """From where it stands."""
        self._set(_OFFSET, self.time_ns() - _true_ns())
        self._set(_STANDING, 0)

    def _get(self, place: int) -> int:
        number: int = _NUMBER.unpack_from(self._memory, place)[0]
        return number

    def _set(self, place: int, number: int) -> None:
        _NUMBER.pack_into(self._memory, place, number)

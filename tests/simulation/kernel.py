"""Time, chance and the trace of one simulated world.

One heap of actions is all that happens. Nothing in a run reads a real clock, and every random number comes from a
named stream of the seed, so that a new consumer of randomness does not shift what the others draw. The trace is a
running hash over everything that was noted; equal seeds must give equal hashes, in any process, under any hash seed.

Source: docs/design/style.md, "How their tests read".
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from traceback import extract_tb

MS = 1_000
"""Microseconds in a millisecond: time is counted in microseconds, so that few things happen at the same time."""
MAX_STEPS = 2_000_000
"""Actions in one run, far above any honest one: a run that needs more has a loop in it."""

Action = Callable[[], None]
Describe = Callable[[bytes], str]


class Runaway(AssertionError):
    """A run that does not end."""


def breakdown(bug: Exception) -> str:
    """Says what a core, or the simulator, did not expect, and where."""
    place = extract_tb(bug.__traceback__)[-1]
    return f"unexpected {type(bug).__name__}: {bug}, in {Path(place.filename).name}, line {place.lineno}"


class World:
    """Time, the queue of what will happen, the streams of randomness, and the trace."""

    def __init__(self, seed: int | str, *, keep_trace: bool = False, max_steps: int = MAX_STEPS) -> None:
        self.seed = seed
        self.now_us = 0
        self.steps = 0
        self.lines: list[str] | None = [] if keep_trace else None
        """The readable trace, if it is kept."""
        self.stats: Counter[str] = Counter()
        """What happened, counted: shows that a run did what it was meant to."""
        self._max_steps = max_steps
        self._queue: list[tuple[int, int, Action]] = []
        self._order = count()
        self._hash = hashlib.blake2b(digest_size=16)

    @property
    def now_ms(self) -> int:
        """Time since the start of the world."""
        return self.now_us // MS

    @property
    def trace_hash(self) -> str:
        """Hash of everything noted so far."""
        return self._hash.hexdigest()

    def random(self, name: str) -> random.Random:
        """A fresh stream of random numbers, which depends on the seed and the name alone."""
        return random.Random(f"{self.seed}/{name}")

    def schedule(self, at_us: int, action: Action) -> None:
        """Do this at that time, or now if that is past; after what was scheduled earlier for the same time."""
        heapq.heappush(self._queue, (max(at_us, self.now_us), next(self._order), action))

    def after(self, delay_us: int, action: Action) -> None:
        """Do this so much later."""
        self.schedule(self.now_us + delay_us, action)

    def run(self, until_us: int, done: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass until then, or until `done` holds, which is looked at after every action.

        Returns:
            Whether `done` held.

        Raises:
            Runaway: More actions than any run needs.
        """
        queue = self._queue
        while queue and queue[0][0] <= until_us:
            self.now_us, _, action = heapq.heappop(queue)
            self.steps += 1
            if self.steps > self._max_steps:
                raise Runaway(f"{self.steps} steps, and only {self.now_ms} ms have passed")
            action()
            if done():
                return True
        self.now_us = max(self.now_us, until_us)
        return done()

    def note(self, who: str, what: str, data: bytes = b"", describe: Describe | None = None) -> None:
        """Add to the trace: who did what with which bytes. `describe` makes them readable, only if somebody reads."""
        self._hash.update(b"%d %s %s %d\n" % (self.now_us, who.encode(), what.encode(), len(data)))
        self._hash.update(data)
        if self.lines is not None:
            detail = describe(data) if describe is not None else ""
            self.lines.append(f"{self.now_us / 1e6:10.6f}  {who:<9} {what} {detail}".rstrip())

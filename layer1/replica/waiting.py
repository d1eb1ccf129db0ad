"""Who waits for which transaction: bookkeeping of the driver, free of any loop.

Source: `layer1.api.backend`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from layer1.api.backend import Located
from layer1.block import CommittedBlock
from layer1.crypto import Hash
from layer1.errors import Refused

KEPT_RECENT = 50_000
"""Final transactions whose place is remembered, so that most questions need no database."""
KEPT_REFUSED = 10_000
"""Refusals that are remembered: verification may end before its caller begins to wait."""


@dataclass(eq=False, slots=True)
class Waiter:
    """One caller of `wait_final`."""

    missing: set[Hash]
    notify: Callable[[], None]
    """Called once, when nothing is missing any more."""
    found: dict[Hash, Located] = field(default_factory=dict)
    refusal: Refused | None = None
    """Why the last of those that never will be final was refused."""


class Waiting:
    """All waiters, by transaction."""

    def __init__(self) -> None:
        self._waiters: dict[Hash, list[Waiter]] = {}
        self._recent: dict[Hash, Located] = {}
        self._refused: dict[Hash, Refused] = {}
        self._open: set[Hash] = set()

    def opened(self, ids: Iterable[Hash]) -> None:
        """These were taken into the pool."""
        for name in ids:
            self._open.add(name)
            self._refused.pop(name, None)

    def is_open(self, name: Hash) -> bool:
        """Whether this one is in the pool."""
        return name in self._open

    def add(self, ids: Sequence[Hash], notify: Callable[[], None]) -> Waiter:
        """Wait for all of these. `notify` is not called if all are settled already: look at `missing`."""
        waiter = Waiter(set(), notify)
        for name in ids:
            located = self._recent.get(name)
            if located is not None:
                waiter.found[name] = located
            elif name in self._refused:
                waiter.refusal = self._refused[name]
            elif name not in waiter.missing:
                waiter.missing.add(name)
                self._waiters.setdefault(name, []).append(waiter)
        return waiter

    def remove(self, waiter: Waiter) -> None:
        """Its caller waits no longer."""
        for name in waiter.missing:
            left = [other for other in self._waiters.get(name, ()) if other is not waiter]
            if left:
                self._waiters[name] = left
            else:
                self._waiters.pop(name, None)

    def final(self, block: CommittedBlock) -> None:
        """All transactions of this block are final."""
        height = block.header.height
        for index, output in enumerate(block.outputs):
            self.settle(output.transaction_id, Located(height, index, output))
        while len(self._recent) > KEPT_RECENT:
            del self._recent[next(iter(self._recent))]

    def settle(self, name: Hash, located: Located | None, refusal: Refused | None = None) -> None:
        """It is final there, or (None) never will be, because of `refusal`."""
        self._open.discard(name)
        if located is not None:
            self._recent[name] = located
            self._refused.pop(name, None)
        elif refusal is not None:
            self._refused[name] = refusal
            if len(self._refused) > KEPT_REFUSED:
                del self._refused[next(iter(self._refused))]
        for waiter in self._waiters.pop(name, ()):
            waiter.missing.discard(name)
            waiter.refusal = refusal or waiter.refusal
            if located is not None:
                waiter.found[name] = located
            if not waiter.missing:
                waiter.notify()

"""Which number a key has: replicas are known by their keys, and each set that a key is in gives it its number.

A key that is in no set yet gets a number that no replica can have, for use on this machine alone: nothing that leaves
it, and nothing that is kept, may rest on it.

Source: `layer1.ledger.replicas`; docs/design/consensus.md, "Catching up, joining, leaving".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from layer1.crypto import PublicKey
from layer1.ledger.replicas import ReplicaSet

FIRST_LOCAL = 2**32
"""Numbers from here on are local, of peers. So many replicas are never added: each set takes a block, at most 100."""
UNNUMBERED = FIRST_LOCAL - 1
"""The number of this replica itself while no set has it."""


def number_in(sets: Sequence[ReplicaSet], key: PublicKey) -> int | None:
    """The number that the newest of these sets which has the key gives it; None if none has."""
    found = (known.number_of(key) for known in reversed(sets))
    return next((number for number in found if number is not None), None)


class Numbers:
    """The numbers of all keys that one replica has to do with."""

    def __init__(self, sets: Callable[[], Sequence[ReplicaSet]], configured: Callable[[], Sequence[PublicKey]]) -> None:
        """Begin.

        Args:
            sets: All that are known, by epoch; there may be more of them each time.
            configured: Keys that are known even if no set has them; call :meth:`forget` when they are others.
        """
        self._sets = sets
        self._configured = configured
        self._numbers: dict[PublicKey, int] = {}
        self._keys: dict[int, PublicKey] = {}
        self._epochs = 0

    def of(self, key: PublicKey) -> int | None:
        """The number of a key; None if it is neither configured nor in any set."""
        self._follow()
        return self._numbers.get(key)

    def key_of(self, number: int) -> PublicKey | None:
        """The key with this number now; None if none has it, or none any more."""
        self._follow()
        return self._keys.get(number)

    def forget(self) -> None:
        """The configured keys are others now."""
        self._epochs = 0

    def _follow(self) -> None:
        sets = self._sets()
        if len(sets) != self._epochs:
            self._epochs = len(sets)
            self._numbers = {key: FIRST_LOCAL + place for place, key in enumerate(self._configured())}
            self._numbers |= {seat.key: seat.number for known in sets for seat in known.seats}
            self._keys = {number: key for key, number in self._numbers.items()}

"""Which transactions may not execute again, under the state root.

Safety: two states with one root remember the same ids, so whoever goes on from somebody else's records refuses what
everybody refuses.

Ids are kept in *lots*, one for each second in which a life span ends, and forgotten with their lot. A lot hashes all
its ids in the order in which they executed, which is the same for everybody, so adding to it costs a hash of what is
added. One leaf of the tree holds a hash over all lots. Nothing proves single ids by it: nobody asks for that, and each
would cost a path in the tree, twice.

Source: docs/design/consensus.md, "Mempool and batches"; decision 025.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

from layer1.crypto import Domain, Hash, digest, hasher

SECOND_MS = 1_000
"""The life spans of one lot end within it: few lots to hash, and few ids to forget at a time."""


def lot_of(valid_until_ms: int) -> int:
    """The number of the lot of a life span: the second in which it ends."""
    return valid_until_ms // SECOND_MS


class Lots:
    """All lots after one block. Never changes."""

    __slots__ = ("_hashers", "root")

    root: Hash | None
    """What stands in the tree; None, as the leaf of nothing, without any lot."""

    def __init__(self, hashers: Mapping[int, blake2b]) -> None:
        """Use `NONE` and its methods."""
        self._hashers = hashers
        """By number. Shared with other values: a copy takes in more."""
        parts = [second.to_bytes(8) + hashers[second].digest() for second in sorted(hashers)]
        self.root = digest(Domain.REMEMBERED, b"".join(parts)) if parts else None

    def after(self, ids: Mapping[Hash, int], clock_ms: int) -> Lots:
        """What is remembered after a block.

        Args:
            ids: Executed in it, in this order, and the ends of their life spans, ms.
            clock_ms: Its ledger clock: lots that ended before this second are forgotten.
        """
        now = lot_of(clock_ms)
        if not ids and all(second >= now for second in self._hashers):
            return self
        hashers = {second: hasher for second, hasher in self._hashers.items() if second >= now}
        fresh: dict[int, list[Hash]] = {}
        for name, valid_until_ms in ids.items():
            fresh.setdefault(lot_of(valid_until_ms), []).append(name)
        for second, names in fresh.items():
            hashers[second] = _with(hashers.get(second, _EMPTY), names)
        return Lots(hashers)

    @staticmethod
    def of(ids: Mapping[int, Iterable[Hash]]) -> Lots:
        """Of these ids, by lot, in order of execution."""
        return Lots({second: _with(_EMPTY, names) for second, names in ids.items()})


def _with(lot: blake2b, names: Iterable[Hash]) -> blake2b:
    more = lot.copy()
    more.update(b"".join(names))
    return more


_EMPTY = hasher(Domain.REMEMBERED, b"lot")
NONE = Lots({})
"""Nothing is remembered, as after genesis."""

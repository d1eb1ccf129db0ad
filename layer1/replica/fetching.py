"""Fetching the batches that proposals name and that are not here: one peer at a time is asked for each.

Safety: none is needed; whatever comes is named by its digest.

A leader may name thousands of batches that nobody has. So only `MAX_ASKED` questions are open at a time, what was never
asked for goes first, and of what was asked for in vain the longest waiting; and no step looks at more than it asks.

Source: docs/design/consensus.md, rule 3 ("fetch and wait with the timers running"); "Mempool and batches".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from layer1.crypto import Hash

FETCH_RETRY_MS = 200
"""After which another peer is asked for a batch: several round trips and the time to send it."""
MAX_ASKED = 256
"""Questions without an answer at a time: more batches than most blocks have, and a tenth of a busy peer's time."""


@dataclass(slots=True)
class Want:
    """A batch that a proposal names and that is not here."""

    peers: tuple[int, ...]
    """Whom to ask, in turn: the sender of the proposal, its leader, then everybody."""
    asked: int = 0
    retry_ms: int = 0
    """Monotonic."""


class Fetches:
    """What to ask for, whom, and when again."""

    def __init__(self) -> None:
        self._fresh: dict[Hash, Want] = {}
        """Never asked for; the newest first, for an old proposal may be dead."""
        self._asked: OrderedDict[Hash, Want] = OrderedDict()
        """The longest ago first; one that was asked for `FETCH_RETRY_MS` ago is due again."""
        self._late: OrderedDict[Hash, Want] = OrderedDict()
        """Asked for in vain, the longest ago first."""
        self._hard: set[Hash] = set()

    def __contains__(self, digest: Hash) -> bool:
        return any(digest in wants for wants in self._all)

    @property
    def _all(self) -> tuple[dict[Hash, Want], ...]:
        return self._fresh, self._asked, self._late

    def want(self, digest: Hash, peers: Sequence[int]) -> None:
        """Ask for this batch until it is here; :meth:`due` says when."""
        if peers and digest not in self:
            self._fresh[digest] = Want(tuple(dict.fromkeys(peers)))

    def drop(self, digest: Hash) -> None:
        """It is here."""
        for wants in self._all:
            wants.pop(digest, None)
        self._hard.discard(digest)

    def keep_only(self, digests: set[Hash]) -> None:
        """Forget all other batches."""
        for digest in [known for wants in self._all for known in wants if known not in digests]:
            self.drop(digest)

    def due(self, now_ms: int) -> list[tuple[int, Hash]]:
        """(peer, digest) to ask now."""
        while self._asked and (first := next(iter(self._asked.items())))[1].retry_ms <= now_ms:
            self._late[first[0]] = self._asked.pop(first[0])
        found = []
        while len(self._asked) < MAX_ASKED and (self._fresh or self._late):
            digest, want = self._fresh.popitem() if self._fresh else self._late.popitem(last=False)
            found.append((want.peers[want.asked % len(want.peers)], digest))
            want.asked, want.retry_ms = want.asked + 1, now_ms + FETCH_RETRY_MS
            if want.asked > len(want.peers):
                self._hard.add(digest)
            self._asked[digest] = want
        return found

    def is_hard(self) -> bool:
        """Whether everybody was asked for some batch, in vain: its block may have been final for long."""
        return bool(self._hard)

    def wake_ms(self) -> int | None:
        """Monotonic time of the next question, after :meth:`due` gave those of now."""
        return next((want.retry_ms for want in self._asked.values()), None)

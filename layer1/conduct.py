"""How much wrong a peer may do before its link is cut, and for how long it then stays out.

What: a leaky bucket per peer, and a pause that doubles; plain numbers, time comes as an argument.

*Safety:* a peer that never does what no correct program does is never cut off.

Only faults count that are nobody else's and no matter of timing: what is late, or more than we want at the moment, is
dropped and counted elsewhere (:class:`layer1.errors.Untimely`). A link is worth more than the trouble that one bad
message makes, so a peer has a budget, which refills; what is beyond it costs the link. A replica that is cut off for
no good reason is one fault among the f that the ledger bears, and is back after the pause.

*Source:* token buckets; the ban scores of Bitcoin Core are the same without forgetting.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a peer may do, and what it costs to do more. Times are seconds."""

    faults: float = 32
    """At once: more than a version with a slip makes before somebody looks at its log."""
    faults_per_s: float = 1
    """Forgiven as time goes by."""
    first_pause_s: float = 1
    """Without a link, after the first time; each further time takes twice as long."""
    longest_pause_s: float = 60
    """A replica that is mended is back within this."""
    forgotten_s: float = 600
    """After this long without a fault, its next pause is a first one again."""
    peers: int = 1_024
    """Remembered at a time. Strangers have as many names as they like, so remembering more helps nobody."""


@dataclass(slots=True)
class _Record:
    level: float = 0
    at_s: float = 0
    cuts: int = 0
    out_until_s: float = 0


class Conduct(Generic[K]):
    """What each peer did lately."""

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget or Budget()
        self._records: OrderedDict[K, _Record] = OrderedDict()
        """Who erred last comes last."""

    def __len__(self) -> int:
        return len(self._records)

    def charge(self, peer: K, now_s: float) -> float:
        """Count a fault; for how many seconds the peer is to be cut off now, 0 while it is within its budget.

        What comes to light while it is out, it did before, and has paid for.
        """
        budget, record = self._budget, self._record(peer, now_s)
        if now_s < record.out_until_s:
            return 0.0
        record.level = max(0.0, record.level - (now_s - record.at_s) * budget.faults_per_s) + 1
        record.at_s = now_s
        if record.level <= budget.faults:
            return 0.0
        pause_s = float(min(budget.first_pause_s * 2**record.cuts, budget.longest_pause_s))
        record.level, record.cuts = 0.0, min(record.cuts + 1, 32)
        record.out_until_s = now_s + pause_s
        return pause_s

    def out_s(self, peer: K, now_s: float) -> float:
        """For how many seconds this peer still has to stay away."""
        record = self._records.get(peer)
        return 0.0 if record is None else max(0.0, record.out_until_s - now_s)

    def _record(self, peer: K, now_s: float) -> _Record:
        record = self._records.pop(peer, None)
        if record is None or now_s > max(record.at_s, record.out_until_s) + self._budget.forgotten_s:
            record = _Record(at_s=now_s)
        self._records[peer] = record
        if len(self._records) > self._budget.peers:
            self._records.popitem(last=False)
        return record

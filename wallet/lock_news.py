"""What a committed version says of locks, for the wallet: pure functions over the host's news.

Source: docs/design/groups.md, rule 20; decision 036.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from layer1.ledger.agreements import Lock
from layer2.events import Committed
from layer2.payments import Claim, Expire, LockCommand, Offer, Pay, Release, lock_news, read_command


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a lock, for certain."""

    lock: Lock
    how: str
    """``claimed``, ``released``, ``expired``, or by layer 1 ``paid`` (to the payee) or ``returned`` (to the payer)."""
    preimage: bytes | None = None
    """Of a lock that went to its payee, if it is known."""
    reason: bytes = b""
    """Of a release, for the payer alone."""

    @property
    def is_paid(self) -> bool:
        """Whether the payee has it."""
        return self.how in {"claimed", "paid"}


def news_of(event: Committed) -> Iterator[tuple[int, Lock, Offer | LockCommand]]:
    """Of each lock that a version made or ended: number of the command, the lock, and the command."""
    if event.before is None and not event.locks and not any(c.payload[1:2] != b"\x01" for c in event.batch.commands):
        return
    about = [each for each in event.batch.commands if not isinstance(read_command(each.payload), Pay)]
    for command, (lock, _, request) in zip(about, lock_news(event.before, about), strict=True):
        yield command.number, lock, request


def ended_by(lock: Lock, request: LockCommand) -> Ended:
    """What a command that ends a lock makes of it."""
    match request:
        case Claim(_, preimage):
            return Ended(lock, "claimed", preimage)
        case Release(_, reason):
            return Ended(lock, "released", None, reason)
        case Expire():
            return Ended(lock, "expired")


def entries_of(event: Committed, me: int) -> Iterator[tuple[str, str, int, str]]:
    """What the history has of it: (mark, kind, minor units that our balance changes by, hash of the lock)."""
    for _, lock, request in news_of(event):
        ours, name = lock.payer == me, lock.hash.hex()
        if isinstance(request, Offer):
            yield f":lock:{lock.id}", "locked" if ours else "offered", -lock.amount if ours else 0, name
            continue
        ended = ended_by(lock, request)
        units = lock.amount if ended.is_paid is not ours else 0
        kind = ("paid_lock" if ours else "received_lock") if ended.is_paid else "unlocked"
        yield f":lock:{lock.id}:end", kind, units, name

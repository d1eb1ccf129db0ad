"""Parts of a payment that come one after the other: held until they are all here, or go back together. Pure.

*Safety:* the parts of a payment are taken all at once, or none is: :func:`is_complete` holds only when their sum is
what each of them said it would be, and while there is time to claim the one that expires first.

What waits is kept in memory alone. A part that is not claimed can always go back, so a crash costs at most that it
waits once more, from the next start on.

Payments of one hash are told apart by the total that their parts name: who sends one unit with another total keeps
nobody's payment from being completed. Two payers that name the same total may complete each other's: the payee gets
what it asked for, and both have its preimage for less than that.

Source: decision 042, "Parts of a payment"; BOLT 4, "Basic Multi-Part Payments".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from layer1.crypto import Hash
from wallet.invoices.records import Incoming

MAX_PARTS = 32
"""Of one hash that wait at once; a payer makes 16 at most. One that completes its payment is always taken."""
PATIENCE_MS = 60_000
"""How long the first part waits for the last one, besides the margin M."""
CLAIM_MARGINS = 3
"""Of M (rule 22): what is left of a lock when it is claimed at the latest, so that the claim needs no layer 1."""


@dataclass(frozen=True, slots=True)
class Gathering:
    """Parts of one payment that are here, and are not all."""

    total: int
    """Units that they are to add up to; each of them names it."""
    since_ms: int
    """When the first one came; ledger clock."""
    parts: tuple[Incoming, ...] = ()

    @property
    def units(self) -> int:
        """What is here."""
        return sum(part.amount for part in self.parts)

    def until_ms(self, margin_ms: int) -> int:
        """Ledger clock until which it may be completed: the part that expires first has to be claimed in time."""
        earliest = min((latest_ms(part, margin_ms) for part in self.parts), default=self.since_ms)
        return min(self.since_ms + margin_ms + PATIENCE_MS, earliest)


Waiting = tuple[Gathering, ...]
"""Of one hash; each has another total."""


def latest_ms(part: Incoming, margin_ms: int) -> int:
    """Ledger clock until which a lock can be claimed without layer 1."""
    return part.expiry_ms - CLAIM_MARGINS * margin_ms


def grow(waiting: Waiting, part: Incoming, total: int, clock_ms: int) -> Gathering:
    """The payment that a part belongs to, with it. A part that is enough by itself needs no other."""
    before = next((each for each in waiting if each.total == total), None)
    if before is None or part.amount >= total:
        return Gathering(total, clock_ms, (part,))
    return replace(before, parts=(*before.parts, part))


def is_complete(gathering: Gathering, clock_ms: int, margin_ms: int) -> bool:
    """Whether all is here, in time."""
    return gathering.units >= gathering.total and clock_ms <= gathering.until_ms(margin_ms)


def kept(waiting: Waiting, gathering: Gathering) -> Waiting:
    """What waits, with a payment in place of what it was before."""
    return (*(each for each in waiting if each.total != gathering.total), gathering)


def holds(waiting: Waiting, part: Incoming) -> bool:
    """Whether this very lock waits already: news come twice after a crash."""
    return any(each.name == part.name for each in parts_of(waiting))


def without(waiting: Waiting, *names: tuple[Hash, int]) -> Waiting:
    """What waits when locks are gone."""
    left = (replace(each, parts=tuple(part for part in each.parts if part.name not in names)) for each in waiting)
    return tuple(each for each in left if each.parts)


def parts_of(waiting: Waiting) -> tuple[Incoming, ...]:
    """All locks of it."""
    return tuple(part for each in waiting for part in each.parts)


def sweep(waiting: Waiting, clock_ms: int, margin_ms: int) -> tuple[Waiting, tuple[Incoming, ...]]:
    """What may still be completed; and the locks of what may not, which go back."""
    left = tuple(each for each in waiting if clock_ms <= each.until_ms(margin_ms))
    return left, parts_of(tuple(each for each in waiting if each not in left))

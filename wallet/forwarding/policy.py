"""Whether to forward, and over which channel: never at a loss, and so that nobody takes all slots.

*Against jamming* there are caps, and no fee that is due whether or not a payment succeeds: a fee would need a second,
unconditional payment beside each lock, and whoever fails a payment through no fault of its payer could keep it. Of the
slots, and of the value in flight, of one outgoing channel

- one neighbour gets at most half, however many channels it has with us: who floods us leaves the other half to all
  others;
- locks below a slot's fair share (value / slots) get at most half of the slots: dust leaves room for payments. What is
  too small to be worth its slot at all is refused (`min_lock_units` of the agreement, `min_amount` of ours; rule 23).

What remains: two neighbours that collude can take a channel's slots for as long as their locks live; that is at most
the longest expiry that is taken (`most_ahead_ms`), and binds as much of their own money.

Source: docs/design/groups.md, rule 23; decision 041.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from layer1.crypto import Hash
from wallet.forwarding.events import Came, Passage, Way
from wallet.onion.failure import Code
from wallet.routing.announcements import fee_units


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms we forward over one of our channels: what we announce of it."""

    enabled: bool = True
    fee_base: int = 0
    fee_ppm: int = 0
    min_amount: int = 1
    max_amount: int = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Timing:
    """Ledger clock, ms."""

    margin_ms: int
    """M of rule 22: as long as it takes at most until a preimage that we know is registered."""
    least_life_ms: int
    """No lock is forwarded that expires sooner: M, and time to be paid in. At least twice M."""
    most_ahead_ms: int
    """Nor one that binds our money for longer."""
    patience_ms: int
    """After an expiry, how long a payer may take to honour a registration before its group is wedged."""

    def __post_init__(self) -> None:
        if not 0 < 2 * self.margin_ms <= self.least_life_ms <= self.most_ahead_ms:
            raise ValueError("a lock lives at least twice the margin, and no longer than the longest")


def choose(
    came: Came, terms_of: Callable[[Hash], Terms], timing: Timing, clock_ms: int, passing: Iterable[Passage]
) -> Way | Code:
    """The channel over which to offer what came, or why not.

    Args:
        came: What is asked.
        terms_of: Ours, by channel.
        timing: Ours.
        clock_ms: Newest proven ledger clock.
        passing: All passages whose outgoing lock may stand.
    """
    left_ms = came.expiry_ms - clock_ms
    if left_ms < timing.least_life_ms:
        return Code.EXPIRES_TOO_SOON
    if left_ms > timing.most_ahead_ms:
        return Code.EXPIRES_TOO_LATE
    ways = [way for way in came.ways if way.group != came.incoming.group and terms_of(way.group).enabled]
    if not ways:
        return Code.UNKNOWN_NEXT
    if not any(way.ready for way in ways):
        return Code.NEXT_AWAY
    answers = [(_refusal(came, way, terms_of(way.group), passing), way) for way in ways if way.ready]
    good = [way for refusal, way in answers if refusal is None]
    if good:
        return max(good, key=lambda way: (way.can_send, way.group))
    refusals = [refusal for refusal, _ in answers if refusal is not None]
    return refusals[0]


def _refusal(came: Came, way: Way, terms: Terms, passing: Iterable[Passage]) -> Code | None:
    amount = came.amount
    if amount < max(terms.min_amount, way.least):
        return Code.AMOUNT_TOO_SMALL
    if amount > min(terms.max_amount, way.value):
        return Code.AMOUNT_TOO_LARGE
    if came.came - amount < fee_units(terms.fee_base, terms.fee_ppm, amount):
        return Code.FEE_TOO_SMALL
    if amount > way.can_send or way.slots_taken >= way.slots or way.value_taken + amount > way.value:
        return Code.NO_LIQUIDITY
    here = [passage for passage in passing if passage.outgoing == way.group]
    of_peer = [passage.amount for passage in here if passage.peer == came.peer]
    if len(of_peer) >= _half(way.slots) or sum(of_peer) + amount > _half(way.value):
        return Code.BUSY
    small = sum(_is_small(way, passage.amount) for passage in here)
    if _is_small(way, amount) and small >= _half(way.slots):
        return Code.BUSY
    return None


def _is_small(way: Way, amount: int) -> bool:
    """Whether a lock has less than a slot's fair share of the value in flight."""
    return amount * way.slots < way.value


def _half(most: int) -> int:
    return -(-most // 2)

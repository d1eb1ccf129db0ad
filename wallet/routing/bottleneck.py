"""Why there is no route: which of the limits is in the way, and what would help.

One limit after the other is lifted, and the same search made again; the first that helps is the bottleneck. That takes
as long as a few searches, and nobody waits for money meanwhile.

Source: decision 042.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from layer1.errors import Refused
from layer1.ledger.genesis import MAX_MONEY
from wallet.routing.announcements import MAX_MARGIN_MS
from wallet.routing.paths import Query

LATER_MS = 100 * 24 * 3_600_000
"""When all that payments taught is forgotten."""
HALVINGS = 12
"""So often an amount that is too large is halved, to say how much could be paid;"""
CLOSER = 4
"""then it is made more exact so often, to a sixteenth; of parts, where that takes long, it is not."""


NONE_OF_OURS = "this wallet has no channel that is open and connected: open one, or have its peer connect"


class Answer(Protocol):
    """What is read of a path, or a plan."""

    @property
    def fee(self) -> int:
        """Minor units."""
        ...


@dataclass(frozen=True, slots=True)
class Known:
    """What could be in the way: what could not is not tried."""

    longest_ms: float
    """The longest margin that any hop asks for."""
    has_learnt: bool
    """Whether payments taught anything of what channels have."""


Attempt = Callable[[Query], Answer]
"""A search, for one path or for several."""


def explain(query: Query, attempt: Attempt, money: Callable[[int], str], known: Known, *, in_parts: bool) -> Refused:
    """The refusal of a query for which `attempt` found nothing.

    Args:
        query: What was asked.
        attempt: The search; it raises :class:`Refused`.
        money: How people read minor units.
        known: What else could be in the way.
        in_parts: Whether it divides: into a few parts, or it would take long.
    """
    text = _of_ours(query, money, in_parts=in_parts) or _of_limits(query, attempt, money, known)
    return Refused("no_route", text or _of_amount(query, attempt, money, in_parts=in_parts))


def _of_ours(query: Query, money: Callable[[int], str], *, in_parts: bool) -> str | None:
    """What our own channels lack."""
    own = query.own if query.first is None else {query.first: query.own.get(query.first, 0)}
    left = [units - query.in_flight.get((channel, query.source), 0) for channel, units in own.items()]
    most = sum(max(units, 0) for units in left) if in_parts else max(left)
    if most >= query.amount:
        return None
    whose = "this wallet's channels together" if in_parts else "no single channel of this wallet"
    can = f"can send {money(most)} only" if in_parts else f"can send it, the most is {money(most)}"
    return f"{money(query.amount)} are to be paid, and {whose} {can}: top up or open a channel, or pay less"


def _of_limits(query: Query, attempt: Attempt, money: Callable[[int], str], known: Known) -> str | None:
    """The one limit of the payer's that is in the way."""
    if query.max_fee < MAX_MONEY and (found := _try(attempt, replace(query, max_fee=MAX_MONEY))) is not None:
        return (
            f"the cheapest way costs a fee of {money(found.fee)}, and at most {money(query.max_fee)} may be paid: "
            + ("allow a higher fee, or pay less")
        )
    if query.avoid and _try(attempt, replace(query, avoid=frozenset())) is not None:
        return "every way leads over a hop that did not forward lately: try again in a few minutes, or pay on layer 1"
    if query.life_ms < known.longest_ms and _try(attempt, replace(query, life_ms=MAX_MARGIN_MS)) is not None:
        return (
            f"a hop on every way asks that locks are good for longer than the {query.life_ms} ms that are left: let it "
            "expire later, or ask for an invoice that does"
        )
    if known.has_learnt and _try(attempt, replace(query, now_ms=query.now_ms + LATER_MS)) is not None:
        return "the channels on every way had too little money on the right side lately: try later, or pay less"
    return None


def _of_amount(query: Query, attempt: Attempt, money: Callable[[int], str], *, in_parts: bool) -> str:
    """How much less would arrive, or that nothing does."""

    def passes(units: int) -> bool:
        return _try(attempt, replace(query, amount=units)) is not None

    too_much, amount = query.amount, query.amount // 2
    for _ in range(HALVINGS):
        if not amount or passes(amount):
            break
        too_much, amount = amount, amount // 2
    else:
        amount = 0
    if not amount:
        return (
            f"no path of at most {query.max_hops} open channels whose members forward leads to the payee: open a "
            "channel with it or with somebody who reaches it, ask for an invoice with hints, or pay on layer 1"
        )
    for _ in range(0 if in_parts else CLOSER):
        middle = (amount + too_much) // 2
        amount, too_much = (middle, too_much) if passes(middle) else (amount, middle)
    remedy = "pay less, or on layer 1" if in_parts else "pay less, in several parts, or on layer 1"
    return f"no path carries {money(query.amount)}; {money(amount)} would pass: {remedy}"


def _try(attempt: Attempt, query: Query) -> Answer | None:
    try:
        return attempt(query)
    except Refused:
        return None

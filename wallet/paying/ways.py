"""By which ways a payment can go: our own channel with the payee, else what the desk for routes finds.

A channel with the payee that can carry all of it costs nothing and needs no graph: nobody waits for one.

Source: decisions 038 and 042.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from layer1.crypto import Hash, PublicKey
from layer1.errors import Refused
from layer1.ledger.genesis import Currency
from wallet.amounts import format_money
from wallet.paying.core import Find
from wallet.paying.records import Payment, Step
from wallet.requests import Progress, Report
from wallet.routing.desk import Found, Outcome, Wish

OUT_OF_REACH = frozenset({"peer_unreachable", "witness_unreachable", "no_route", "unknown_node"})
"""Of our own channel: another way may do, and this is said if none does."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What is to be paid, and what helps to find ways."""

    payment: Payment
    lock_ms: int
    """For how long a lock has to be good when it reaches the payee."""
    parts: int
    until_ms: int | None = None
    """Ledger clock at which the invoice expires."""
    first: Hash | None = None
    """Of a circle: the channel to leave by."""


@dataclass(frozen=True, slots=True)
class Way:
    """A path for one part, and what the desk thought of it."""

    path: tuple[Step, ...]
    found: Found | None = None
    """None of our own channel with the payee: there is nothing to learn about it."""


class Routes(Protocol):
    """`wallet.routing.desk.RouteDesk`."""

    async def ready(self, report: Report) -> None:
        """Return when the graph is read."""
        ...

    def split(self, wish: Wish) -> tuple[Found, ...]:
        """The best routes; raises Refused."""
        ...

    def learn(self, found: Found, outcome: Outcome) -> None:
        """Remember what became of one."""
        ...


@dataclass(frozen=True, slots=True)
class Direct:
    """An open channel with the payee."""

    group_id: Hash
    can_send: int
    """Minor units."""


class Ours(Protocol):
    """Our own channels; `wallet.paying.channels.OwnChannels`."""

    def with_peer(self, peer: PublicKey) -> list[Direct]:
        """Those that are open with it, the one that can send most first."""
        ...

    async def reach(self, group_id: Hash) -> None:
        """Wait until the peer is in step; raises Refused."""
        ...


class Ways:
    """Finds them."""

    def __init__(self, us: PublicKey, ours: Ours, routes: Callable[[], Routes | None], currency: Currency) -> None:
        self._us, self._ours, self._routes, self._currency = us, ours, routes, currency

    async def find(self, errand: Errand, wanted: Find, expiry_ms: int, report: Report) -> Sequence[Way]:
        """Ways for all that is wanted, within its fee and in no more parts.

        Raises:
            Refused: ``no_route`` and what else `RouteDesk.split` says; ``insufficient_balance`` or
                ``peer_unreachable`` where our channel with the payee is the only way.
        """
        try:
            return [await self._direct(errand.payment, wanted, report)]
        except Refused as refusal:
            direct = refusal
        try:
            return await self._routed(errand, wanted, expiry_ms, report)
        except Refused as refusal:
            raise direct if direct.code != "no_route" and refusal.code in OUT_OF_REACH else refusal from None

    async def _direct(self, payment: Payment, wanted: Find, report: Report) -> Way:
        payee = payment.payee
        found = [each for each in self._ours.with_peer(payee) if (each.group_id, self._us) not in wanted.avoid]
        if not found:
            raise Refused("no_route", "no channel is open with the payee")
        best = found[0]
        if best.can_send < wanted.amount:
            can, asked = format_money(best.can_send, self._currency), format_money(wanted.amount, self._currency)
            raise Refused(
                "insufficient_balance",
                f"the channel with the payee can send {can}, the payment takes {asked}: "
                f"`wallet channel top-up {best.group_id.hex()[:12]}`, or be paid first",
            )
        report(Progress("reaching the payee"))
        await self._ours.reach(best.group_id)
        return Way((Step(best.group_id, payee, wanted.amount),))

    async def _routed(self, errand: Errand, wanted: Find, expiry_ms: int, report: Report) -> Sequence[Way]:
        routes, payment = self._routes(), errand.payment
        if routes is None:
            raise Refused("no_route", "no channel is open with the payee, and this wallet knows no others")
        await routes.ready(report)
        report(Progress("looking for a way"))
        wish = Wish(
            payment.payee,
            wanted.amount,
            expiry_ms,
            max_fee=wanted.max_fee,
            avoid=wanted.avoid,
            in_flight=wanted.in_flight,
            hints=payment.invoice.hints if payment.invoice is not None else (),
            first=errand.first,
            last=payment.last_channel or None,
            max_parts=min(wanted.parts, errand.parts),
        )
        return [Way(_path(found), found) for found in routes.split(wish)]

    def learn(self, way: Way, outcome: Outcome) -> None:
        """Tell the desk what became of it."""
        routes = self._routes()
        if routes is not None and way.found is not None:
            routes.learn(way.found, outcome)


def _path(found: Found) -> tuple[Step, ...]:
    return tuple(Step(leg.channel, leg.receiver, leg.amount) for leg in found.legs)

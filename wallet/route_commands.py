"""Requests about routes and fees, answered by the wallet in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import prod
from typing import Any

from layer1.crypto import PublicKey, format_address, parse_address
from layer1.errors import Refused, check
from layer1.ledger.genesis import MAX_MONEY
from wallet.contacts import parse_contact
from wallet.invoices.invoice import PREFIX, Invoice, parse_invoice
from wallet.invoices.payee import LOCK_MARGINS
from wallet.requests import ChannelView, Progress, Report, Request
from wallet.route_requests import FindRoute, LegView, RoutePartView, RouteView, SetFee, SetLimits
from wallet.routing.desk import Found, Wish
from wallet.views import currency_view
from wallet.wallet import Wallet


class RouteCommands:
    """One of `wallet.local.LocalCommands`."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet
        self.handlers: dict[type[Request[Any]], Callable[[Any, Report], Awaitable[Any]]] = {
            FindRoute: self._find,
            SetFee: self._set_fee,
            SetLimits: self._set_limits,
        }

    async def _find(self, request: FindRoute, report: Report) -> RouteView:
        invoice = parse_invoice(request.payee) if request.payee.strip().lower().startswith(PREFIX) else None
        payee = invoice.payee if invoice is not None else _payee(request.payee)
        amount = _amount(invoice, request.amount)
        check(payee != self._wallet.address, "own_address", "that is this wallet: name somebody else to pay")
        report(Progress("asking the ledger for its clock"))
        clock_ms = await self._wallet.ledger_clock()
        margin_ms = self._wallet.locking.margin_ms
        least_ms = max(0 if invoice is None else invoice.lock_ms, LOCK_MARGINS * margin_ms)
        wish = Wish(
            payee,
            amount,
            clock_ms + least_ms + margin_ms,
            max_fee=MAX_MONEY if request.max_fee is None else request.max_fee,
            hints=() if invoice is None else invoice.hints,
            max_parts=request.parts,
        )
        await self._wallet.routes.ready(report)
        report(Progress("looking for a route"))
        return self._view(wish, self._wallet.routes.split(wish), wish.expiry_ms - clock_ms)

    def _view(self, wish: Wish, found: tuple[Found, ...], life_ms: int) -> RouteView:
        return RouteView(
            payee=format_address(wish.payee),
            amount=wish.amount,
            fee=sum(part.fee for part in found),
            chance=prod(part.chance for part in found),
            expires_ms=wish.expiry_ms,
            remaining_ms=life_ms,
            parts=tuple(map(_part, found)),
            channels=len(self._wallet.routes.graph.channels),
            currency=currency_view(self._wallet.genesis.currency),
        )

    async def _set_fee(self, request: SetFee, _: Report) -> ChannelView:
        channel = self._wallet.channel(request.channel)
        self._wallet.tolls.set_fee(channel.record, request.base, request.per_million)
        await self._wallet.settled()
        return channel.view()

    async def _set_limits(self, request: SetLimits, _: Report) -> ChannelView:
        channel = self._wallet.channel(request.channel)
        self._wallet.tolls.set_limits(channel.record, request.least, request.most, enabled=request.forwards)
        await self._wallet.settled()
        return channel.view()


def _part(found: Found) -> RoutePartView:
    legs = tuple(
        LegView(
            channel=leg.channel.hex(),
            sender=format_address(leg.sender),
            receiver=format_address(leg.receiver),
            amount=leg.amount,
            fee=leg.fee,
            chance=leg.chance,
        )
        for leg in found.legs
    )
    return RoutePartView(amount=found.route.received, fee=found.fee, chance=found.chance, legs=legs)


def _payee(text: str) -> PublicKey:
    return parse_contact(text).address if "@" in text else parse_address(text)


def _amount(invoice: Invoice | None, named: int | None) -> int:
    """What would be paid.

    Raises:
        Refused: ``amount_needed``, or ``wrong_amount``.
    """
    asked = None if invoice is None else invoice.amount
    if asked is not None and named not in (None, asked):
        raise Refused("wrong_amount", f"the invoice is over {asked} units, you named {named}: leave the amount out")
    amount = asked if asked is not None else named
    check(amount is not None, "amount_needed", "name an amount behind the payee, such as 2.50")
    assert amount is not None
    return amount

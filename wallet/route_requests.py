"""Requests about routes, and about what forwarding over a channel costs; see `wallet.requests`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from wallet.requests import ChannelView, CurrencyView, Name, Request, Text, Units, View

PerMillion = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Parts = Annotated[int, msgspec.Meta(ge=1, le=16)]


class LegView(View, frozen=True, kw_only=True):
    """One lock of a route."""

    channel: str
    sender: str
    """Address of who makes it; the first is this wallet."""
    receiver: str
    amount: int
    """Minor units that it locks."""
    fee: int
    """What its sender keeps for it."""
    chance: float
    """That it works, 0 to 1, by what this wallet knows."""


class RoutePartView(View, frozen=True, kw_only=True):
    """One part of a payment, on its way."""

    amount: int
    """Minor units that arrive."""
    fee: int
    chance: float
    legs: tuple[LegView, ...]


class RouteView(View, frozen=True, kw_only=True):
    """`wallet route`. Nothing was paid, and nobody was asked: what comes of it shows when it is paid."""

    payee: str
    amount: int
    fee: int
    """Of all parts, minor units."""
    chance: float
    """That all parts work at the first try."""
    expires_ms: int
    """Ledger clock until which all locks would be good."""
    remaining_ms: int
    """Until then."""
    parts: tuple[RoutePartView, ...]
    channels: int
    """That this wallet knows of, its own among them."""
    currency: CurrencyView


class FindRoute(Request[RouteView], frozen=True, kw_only=True):
    """The way that a payment would take, its fee, and its chance. Nothing is paid."""

    answer: ClassVar[Any] = RouteView
    payee: Text
    """An invoice, or an address or contact."""
    amount: Units | None = None
    """To an address, or where the invoice leaves it to the payer."""
    max_fee: Units | None = None
    """Null for any."""
    parts: Parts = 16
    """At most so many."""


class SetFee(Request[ChannelView], frozen=True, kw_only=True):
    """Say what forwarding over a channel costs; what is left out stays. Announced at once."""

    answer: ClassVar[Any] = ChannelView
    channel: Name
    base: Units | None = None
    """For each payment."""
    per_million: PerMillion | None = None
    """For each million units that leave over it."""


class SetLimits(Request[ChannelView], frozen=True, kw_only=True):
    """Say which payments are forwarded over a channel; what is left out stays. Announced at once."""

    answer: ClassVar[Any] = ChannelView
    channel: Name
    least: Units | None = None
    most: Units | None = None
    """0 for all that the channel can carry."""
    forwards: bool | None = None
    """Whether any are."""

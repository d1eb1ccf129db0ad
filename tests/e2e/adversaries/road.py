"""What adversaries of routes begin with: Mallory has a channel with Bob, a hub, and Bob one with Carol, who is paid.

Bob and Carol are unmodified `wallet serve`; Mallory is a role, a whole wallet that sends what a test asks for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layer1.client import LedgerClient
from layer1.crypto import Hash, parse_address
from layer1.devnet import Devnet
from layer1.errors import Refused, WedgeError
from layer1.ledger.agreements import Lock
from tests.e2e.adversaries.locks import Locksmith
from tests.e2e.adversaries.stage import AMPLE_MS, BOND, Mallory, start
from tests.e2e.cluster import until
from tests.e2e.town import ACCEPT, Town, town
from wallet.api.client import RemoteCommands
from wallet.home import Home
from wallet.invoices.invoice import parse_invoice
from wallet.lock_news import Ended
from wallet.onion.failure import unwrap
from wallet.onion.packet import Binding, Origin, build
from wallet.onion.route import Hop, Route
from wallet.requests import ChannelView, CreateInvoice, InvoiceView, ListInvoices, OpenChannel, Request, ShowChannel

FUNDED = 100_000
"""Minor units of each side of each channel."""
FEE = 50
"""More than a hub asks for any payment here."""
MARGINS = 8
"""For so long the locks of a payment are good, in M."""


class Sender(Locksmith):
    """Sends payments over routes of its own making, and tells what becomes of each."""

    def __init__(self) -> None:
        super().__init__()
        self._sent: dict[str, tuple[Lock, Origin, bytes]] = {}
        """By the name that the test gave it."""
        self._ends: dict[str, asyncio.Future[Ended]] = {}

    async def send(
        self, name: str, channel: str, over: list[str], text: str, amount: int, life_ms: int = 0, fee: int = FEE
    ) -> None:
        """Offer the first lock of a payment of an invoice; each of those between gets a fee."""
        data, origin, hashed, expiry_ms = await self.packet(channel, over, text, amount, life_ms, fee)
        await self.offer(name, channel, data, hashed, expiry_ms, amount + fee * (len(over) - 1), origin)

    async def packet(
        self, channel: str, over: list[str], text: str, amount: int, life_ms: int = 0, fee: int = FEE
    ) -> tuple[bytes, Origin, Hash, int]:
        """An onion of a payment; with it, its hash and until when its locks are good."""
        invoice = parse_invoice(text)
        life_ms = life_ms or MARGINS * self.wallet.locking.margin_ms
        expiry_ms = await self.wallet._parts.ledger.clock() + life_ms
        nodes = [parse_address(node) for node in over]
        hops = tuple(Hop(node, amount + fee * (len(nodes) - 1 - i)) for i, node in enumerate(nodes))
        binding = Binding(invoice.chain_id, invoice.payment_hash, expiry_ms)
        route = Route(bytes.fromhex(channel), hops, expiry_ms)
        data, origin = build(route, binding, os.urandom(32), total=amount, payment_secret=invoice.payment_secret)
        return data, origin, invoice.payment_hash, expiry_ms

    async def offer(
        self, name: str, channel: str, data: bytes, hashed: Hash, expiry_ms: int, amount: int, origin: Origin
    ) -> None:
        """Offer a lock with this packet."""
        lock = await self.wallet.locking.begin(bytes.fromhex(channel), amount, hashed, expiry_ms, data)
        self._sent[name] = lock, origin, data
        self._ends[name] = asyncio.ensure_future(self.wallet.locking.end_of(bytes.fromhex(channel), lock.id))

    async def end(self, name: str) -> list[str]:
        """Wait for the end of what was sent: how it ended, and the code of whoever failed it."""
        _, origin, _ = self._sent[name]
        try:
            ended = await self._ends[name]
        except Refused as refusal:
            return [refusal.code, ""]
        return [ended.how, _code(ended, origin)]

    async def mine(self, channel: str) -> int:
        """What it can send in a channel."""
        return self.wallet.channel(channel).view().can_send


def _code(ended: Ended, origin: Origin) -> str:
    try:
        return "" if ended.is_paid else unwrap(origin, ended.reason).failure.code.value
    except WedgeError:
        return "unreadable"


@dataclass
class Road:
    """Both channels, and who is on them."""

    place: Town
    ledger: LedgerClient
    mallory: Mallory
    first: str = ""
    """The channel of Mallory and Bob."""
    second: str = ""
    """Of Bob and Carol."""
    liars: dict[str, Mallory] = field(default_factory=dict)
    """Of the same role as Mallory."""

    def of(self, name: str) -> RemoteCommands:
        """What a served wallet is asked by."""
        found = RemoteCommands.find(Home(self.place.folder / name))
        assert found is not None, f"{name} is not served"
        return found

    async def ask(self, name: str, request: Request[Any]) -> Any:
        """Ask a served wallet."""
        return await self.of(name).run(request)

    async def invoice(self, amount: int, *, hold: bool = False, name: str = "carol") -> InvoiceView:
        """An invoice of a served wallet."""
        view: InvoiceView = await self.ask(name, CreateInvoice(amount=amount, hold=hold))
        return view

    async def invoice_state(self, payment_hash: str, name: str = "carol") -> str:
        """What its payee says of it."""
        listed = await self.ask(name, ListInvoices(limit=1_000))
        return str(next(each.state for each in listed.invoices if each.payment_hash == payment_hash))

    async def view(self, name: str, channel: str) -> ChannelView:
        """What a served wallet shows of a channel."""
        view: ChannelView = await self.ask(name, ShowChannel(channel=channel))
        return view

    async def send(self, name: str, text: str, amount: int, **more: Any) -> None:
        """Mallory pays Carol over Bob."""
        over = [self.address("bob"), self.address("carol")]
        arguments = {"name": name, "channel": self.first, "over": over, "text": text, "amount": amount, **more}
        await self.mallory.does("send", **arguments)

    async def end(self, name: str) -> tuple[str, str]:
        """How a payment of Mallory's ended."""
        how, code = await self.mallory.does("end", name=name)
        return how, code

    def address(self, name: str) -> str:
        """The name of a wallet in routes."""
        return self.place.serving[name].contact.partition("@")[0]

    async def hub_has(self, units: int) -> None:
        """Wait until nothing is locked any more, and Bob has so much in both channels."""

        async def there() -> bool:
            views = [await self.view("bob", channel) for channel in (self.first, self.second)]
            whole = all(view.can_send + view.can_receive == 2 * FUNDED for view in views)
            return whole and sum(view.can_send for view in views) == units

        await until(there, f"nothing is locked, and the hub has {units}")

    async def in_step(self) -> None:
        """Wait until the hub is connected with both."""

        async def connected() -> bool:
            views = [await self.view("bob", channel) for channel in (self.first, self.second)]
            return all(view.connected for view in views)

        await until(connected, "the hub is connected with both")

    async def open(self, name: str, to: str, period_ms: int = AMPLE_MS) -> str:
        """A served wallet opens a channel to another one, or to Mallory."""
        contact = self.place.serving[to].contact
        opening = OpenChannel(
            contact=contact, deposit=FUNDED, peer_deposit=FUNDED, bond=BOND, challenge_period_ms=period_ms
        )
        view: ChannelView = await self.ask(name, opening)
        return view.id


@asynccontextmanager
async def road(
    folder: Path, net: Devnet, role: str, *others: str, liars: Sequence[str] = (), period_ms: int = AMPLE_MS
) -> AsyncIterator[Road]:
    """Start all, and open both channels; `others` are served, too, and `liars` play the role, too."""
    honest = ["bob", "carol", *others]
    names = ["mallory", *honest, *liars]
    async with town(folder, net, names) as place, LedgerClient(net.urls, net.genesis) as ledger:
        serving = [place.serve(name, *ACCEPT) for name in honest]
        started, _ = await asyncio.gather(
            asyncio.gather(*(start(place, role, name) for name in ["mallory", *liars])), asyncio.gather(*serving)
        )
        found = Road(place, ledger, started[0], liars=dict(zip(liars, started[1:], strict=True)))
        found.first = await found.mallory.does(
            "open", contact=place.serving["bob"].contact, deposit=FUNDED, bond=BOND, period_ms=period_ms, witness=None
        )
        found.second = await found.open("bob", "carol", period_ms)
        yield found


__all__ = ["BOND", "FEE", "FUNDED", "Road", "Sender", "road"]

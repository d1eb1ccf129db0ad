"""People and hubs in one process, with channels between them, on a ledger of four real replicas.

async with network({"ann": "hub", "ben": "hub"}, {}) as town:
    paying = await town.pay("ann", "ben", 250, "tea")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from examples.stage import FUNDS, PASSPHRASE, stage
from layer2.opening import OpeningPolicy
from wallet.channel import Channel
from wallet.invoices.invoice import format_invoice
from wallet.invoices.payee import Wanted
from wallet.paying.payer import Paying
from wallet.requests import BooksView
from wallet.wallet import Wallet

DEPOSIT = 500_00
"""Minor units of each side of each channel: 500.00."""
FEE_BASE, FEE_PPM = 1, 100
"""What a wallet takes for forwarding unless its owner says otherwise: 0.01, and a hundredth of a percent."""
POLICY = OpeningPolicy(accept_deposit_up_to_units=FUNDS)
QUIET_S = 30.0
"""How long the last claims may take to come through."""


@dataclass(frozen=True, slots=True)
class Network:
    """Open wallets, each served, and their channels."""

    wallets: dict[str, Wallet]
    channels: dict[tuple[str, str], Channel]
    """As who opened it, to whom, sees it."""

    async def pay(self, payer: str, payee: str, amount: int, memo: str) -> Paying:
        """The payee makes an invoice, the payer pays it, over whatever route there is.

        Raises:
            Refused: Nothing was paid; the text names the hop, the cause and the remedy.
        """
        issued = await self.wallets[payee].invoices.create(Wanted(amount, memo))
        return await self.wallets[payer].invoices.pay(format_invoice(issued.invoice))

    async def books(self) -> dict[str, BooksView]:
        """Of all, when nothing is under way any more; each checked against what layer 1 proves."""
        async with asyncio.timeout(QUIET_S):
            while True:
                found = {name: await wallet.books() for name, wallet in self.wallets.items()}
                if not any(each.in_locks for each in found.values()):
                    break
                await asyncio.sleep(0.1)
        for name, each in found.items():
            assert each.adds_up, f"{name}'s books do not agree with the ledger: {each.differences}"
        return found


@asynccontextmanager
async def network(spokes: Mapping[str, str], lines: Mapping[str, str]) -> AsyncIterator[Network]:
    """Start a ledger and all wallets, and open the channels.

    Args:
        spokes: Each person, and the hub to which it opens a channel.
        lines: Hubs, and to which other hub each opens one.
    """
    names = sorted({*spokes, *spokes.values(), *lines, *lines.values()})
    async with stage(*names) as play, AsyncExitStack() as stack:
        wallets = {name: await stack.enter_async_context(Wallet.load(play.homes[name], PASSPHRASE)) for name in names}
        contacts = {name: await wallet.serve(None, POLICY) for name, wallet in wallets.items()}
        channels = {
            (one, other): await wallets[one].open_channel(contacts[other], deposit=DEPOSIT, peer_deposit=DEPOSIT)
            for one, other in [*lines.items(), *spokes.items()]
        }
        await asyncio.gather(*(wallet.routes.ready() for wallet in wallets.values()))
        yield Network(wallets, channels)

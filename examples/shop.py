"""A shop with many small payments: one channel, a thousand customers' worth of coffee, two transactions on the ledger.

Run it: ``python -m examples.shop``
"""

from __future__ import annotations

import asyncio
import random

from examples.stage import PASSPHRASE, stage
from layer2.opening import OpeningPolicy
from wallet.wallet import Wallet

MENU = {"espresso": 250, "flat white": 390, "croissant": 310, "glass of water": 10}
"""Prices in minor units."""
ORDERS = 1_000


async def main() -> None:
    """Open a channel to the shop, order, close, and compare the books with the ledger."""
    async with (
        stage("customer", "shop") as play,
        Wallet.load(play.homes["shop"], PASSPHRASE) as shop,
        Wallet.load(play.homes["customer"], PASSPHRASE) as customer,
    ):
        contact = await shop.serve(None, OpeningPolicy())
        channel = await customer.open_channel(contact, deposit=1_000_000, bond=10_000, peer_bond=0)
        print(f"A channel to {contact[:20]}… is open: {channel.view().can_send / 100:,.2f} can be spent.")

        loop, chance = asyncio.get_running_loop(), random.Random(1)
        orders = [chance.choice(list(MENU)) for _ in range(ORDERS)]
        began = loop.time()
        await asyncio.gather(*(channel.pay(MENU[item], memo=item) for item in orders))
        seconds = loop.time() - began
        total = sum(MENU[item] for item in orders)
        print(f"{ORDERS} orders, {total / 100:,.2f} in all, paid in {seconds:.2f} s: {ORDERS / seconds:,.0f} per s.")

        closed = await channel.close()
        till = await shop.balance(shop.savings_address)
        print(f"Closed at version {closed.version}. The ledger proves {till.value / 100:,.2f} in the shop's savings.")
        assert till.value == total, f"the shop was paid {total}, the ledger proves {till.value}"
        for entry in shop.history(3):
            print(f"  {entry.kind:<10} {entry.amount / 100:>10,.2f}  {entry.memo or ''}")


if __name__ == "__main__":
    asyncio.run(main())

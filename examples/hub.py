"""A hub with three spokes: three people who have a channel with a hub each, and none with each other.

They pay each other by invoices. The hub passes on what is locked for it, under the same hash, so that it can neither
keep a payment nor lose one; for that it earns a fee. What it cannot carry is refused, and the money is back at once.

Run it: ``python -m examples.hub``
"""

from __future__ import annotations

import asyncio

from examples.network import DEPOSIT, FEE_BASE, FEE_PPM, Network, network
from examples.stage import FUNDS
from layer1.errors import Refused

PAYMENTS = (
    ("ann", "ben", 120_00, "a bicycle"),
    ("ben", "cid", 45_50, "a lamp for it"),
    ("cid", "ann", 8_20, "lunch"),
    ("ann", "cid", 999, "a book"),
    ("ben", "ann", 60_00, "the bicycle again"),
)
TOO_MUCH = ("ben", "cid", 460_00, "a boat")
"""Ben has it, the hub's channel with Cid does not."""


async def main() -> None:
    """Pay, be refused, and do the hub's books."""
    spokes = dict.fromkeys(("ann", "ben", "cid"), "hub")
    async with network(spokes, {}) as town:
        print(f"Each has a channel with the hub, {DEPOSIT / 100:.2f} on both sides. The hub takes", end=" ")
        print(f"{FEE_BASE / 100:.2f} and {FEE_PPM / 10_000:.2f} % of each payment.\n")
        fees = 0
        for payer, payee, amount, memo in PAYMENTS:
            payment = (await town.pay(payer, payee, amount, memo)).payment
            fees += payment.fee
            print(f"  {payer} pays {payee} {amount / 100:>8.2f} for {memo:<20} fee {payment.fee / 100:.2f}")
        await refused(town)
        await check(town, fees)


async def refused(town: Network) -> None:
    """What the hub cannot carry."""
    payer, payee, amount, memo = TOO_MUCH
    try:
        await town.pay(payer, payee, amount, memo)
    except Refused as refusal:
        print(f"  {payer} pays {payee} {amount / 100:>8.2f} for {memo}: {refusal.code}\n    {refusal.message}")
    else:
        raise AssertionError("the hub has not so much for Cid")


async def check(town: Network, fees: int) -> None:
    """The books of each agree with the ledger, and all of them with each other."""
    books = await town.books()
    expected = dict.fromkeys(books, FUNDS)
    for payer, payee, amount, _ in PAYMENTS:
        expected[payer] -= amount
        expected[payee] += amount
    paid = {name: books[name].fees_paid for name in books}
    print(f"\nThe hub earned {books['hub'].fees_earned / 100:.2f}, which the others paid. The ledger proves for each:")
    for name, each in books.items():
        print(f"  {name} {each.total / 100:>12,.2f}")
        assert each.total == expected[name] - paid[name] + each.fees_earned, (name, each.total, expected[name])
    assert fees == books["hub"].fees_earned == sum(paid.values()) > 0, (fees, paid)
    assert sum(each.total for each in books.values()) == len(books) * FUNDS, "no unit is made, and none is lost"


if __name__ == "__main__":
    asyncio.run(main())

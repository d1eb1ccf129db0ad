"""A machine of one's own with money in it: an auction in which whoever is outbid has its money back at once.

Run it: ``python -m examples.auction``. A bid pays the seller what it raises, and whom it outbids what that one had bid.
So only the bidder's balance falls, by its own command, and every version is fair if it should be the last: a seller
that stops the auction has sold.
"""

from __future__ import annotations

import asyncio

from examples.table import table
from layer1.codec import Struct, decode, encode
from layer1.errors import Refused, check
from layer2.machine import Balances

SELLER = 0


class Lot(Struct):
    """The highest bid, whose it is (the seller's: nobody's yet), and whether the hammer fell."""

    bid: int = 0
    bidder: int = SELLER
    sold: bool = False


class Auction:
    """Commands: ``bid 30``, by anybody but the seller; ``sold``, by the seller."""

    name = "auction/1"

    def initial(self, member_count: int) -> Lot:
        """At version 0."""
        return Lot()

    def encode(self, state: Lot) -> bytes:
        """One byte string for each state."""
        return encode(state)

    def decode(self, data: bytes, member_count: int) -> Lot:
        """Its inverse."""
        return decode(data, Lot)

    def apply(self, state: Lot, balances: Balances, member: int, command: bytes) -> tuple[Balances, Lot]:
        """See :class:`layer2.machine.StateMachine`."""
        check(not state.sold, "sold", f"the lot was sold for {state.bid}")
        word, _, number = command.partition(b" ")
        if command == b"sold":
            check(member == SELLER and state.bid > 0, "bad_command", "the seller sells, once there is a bid")
            return balances, Lot(state.bid, state.bidder, sold=True)
        good = word == b"bid" and number.isdigit() and len(number) <= 15 and member != SELLER
        check(good, "bad_command", f"{command[:40]!r} is not a bid of another than the seller, such as: bid 30")
        bid, after = int(number), list(balances)
        check(bid > state.bid, "bid_too_low", f"{bid} is bid, {state.bid} is the highest: bid more")
        after[member] -= bid
        after[state.bidder] += state.bid
        after[SELLER] += bid - state.bid
        check(after[member] >= 0, "insufficient_balance", f"{bid} is bid by who has {balances[member]}: bid less")
        return tuple(after), Lot(bid, member)


async def main() -> None:
    """Five members: a seller and four who bid, one of them too much."""
    async with table(Auction(), deposits=(0, 100, 100, 100, 100)) as (group_id, seats):
        for member, bid in ((1, 30), (2, 45), (3, 45), (1, 60), (4, 101), (2, 70)):
            try:
                await seats[member].submit(group_id, b"bid %d" % bid)
                print(f"Member {member} bids {bid}")
            except Refused as refusal:
                print(f"Member {member} cannot: {refusal.message}")
        await seats[SELLER].submit(group_id, b"sold")
        final = (await seats[SELLER].close(group_id)).final
        print(f"Sold. All {len(seats)} have signed the payout {final.payout}")


if __name__ == "__main__":
    asyncio.run(main())

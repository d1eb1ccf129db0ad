"""A machine of one's own in a group of three on a real ledger: opened, played, closed, and closed by force."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from msgspec import structs

from examples.auction import Auction
from examples.table import join_all, opening_of
from layer1.client import LedgerClient
from layer1.crypto import Hash, Signature
from layer1.devnet import Devnet, Plan, initialize
from layer1.ledger.genesis import Allocation
from layer1.ledger.records import Reason
from layer2.seat import Seat
from tests.layer2.harness import key

DEPOSITS = (0, 100, 100)
KEYS = [key(f"seat {i}") for i in range(3)]


async def open_auction(ledger: LedgerClient, seats: list[Seat]) -> Hash:
    """All sign, layer 1 opens, all join."""

    def sign(seat: Seat, deposit: int) -> Signature:
        return seat.sign(opening, deposit, bond=10)

    opening = opening_of(seats, DEPOSITS, ledger.genesis.chain_id, await ledger.clock())
    signed = structs.replace(opening, signatures=tuple(map(sign, seats, DEPOSITS)))
    output = await ledger.submit(signed)
    assert output.code == "ok", output.message
    name = join_all(seats, opening)
    await asyncio.gather(*(seat.ready(name) for seat in seats))
    return name


async def closed(seat: Seat, name: Hash) -> None:
    """Its watcher has seen the end."""
    await seat.until(lambda: seat.group(name).closed)


async def paid(ledger: LedgerClient, name: Hash) -> tuple[Reason | None, tuple[int, ...]]:
    group = (await ledger.group(name)).value
    assert group is not None
    return group.reason, group.payouts


async def play(ledger: LedgerClient, seats: list[Seat], *, forced: bool) -> None:
    """Two bids; then all sign the end, or one wedges and layer 1 hears all claims."""
    name = await open_auction(ledger, seats)
    await seats[1].submit(name, b"bid 30")
    await seats[2].submit(name, b"bid 45")
    if forced:
        seats[1].wedge(name)
    else:
        await seats[0].close(name)
    await asyncio.gather(*(closed(seat, name) for seat in seats))
    assert await paid(ledger, name) == (Reason.CLAIMS if forced else Reason.FINAL, (55, 110, 65))


@pytest.mark.slow
async def test_an_auction_is_settled_by_layer_1_together_and_by_force(tmp_path: Path) -> None:
    """The seller is paid what the lot went for; when a member is gone, the watchers of the others see to it."""
    rich = tuple(Allocation(each.public, 1_000) for each in KEYS)
    genesis = initialize(tmp_path / "ledger", Plan(allocations=rich))
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(Devnet(tmp_path / "ledger"))
        ledger = await stack.enter_async_context(LedgerClient(net.urls, genesis))
        seats = [Seat(tmp_path / str(i), each, genesis.chain_id, Auction()) for i, each in enumerate(KEYS)]
        for seat in seats:
            await stack.enter_async_context(seat)
        watching = [asyncio.create_task(seat.watch(ledger, every_s=0.2)) for seat in seats]
        await asyncio.gather(play(ledger, seats, forced=False), play(ledger, seats, forced=True))
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        assert (await ledger.account(KEYS[0].public)).value.balance == 1_000 + 2 * 45

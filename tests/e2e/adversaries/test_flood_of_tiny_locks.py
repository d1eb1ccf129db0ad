"""Adversary: it floods a hub with tiny locks that nobody resolves, so that nobody else's payment finds a slot.

One neighbour gets at most half of the slots of a channel, and locks below a slot's fair share at most half: the flood
fills its own half, and others pay over the hub as before. It binds the flood's own money, and ends with its expiry.

Source: docs/design/groups.md, rule 23; decision 041, "Jamming".
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from layer1.devnet import Devnet
from layer1.ledger.agreements import Limits
from tests.e2e.adversaries.liar import play
from tests.e2e.adversaries.road import FEE, FUNDED, Road, Sender, road
from tests.e2e.cluster import until
from wallet.requests import CancelInvoice, PayInvoice

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]
SLOTS = Limits().max_locks
HALF = SLOTS // 2
PRICE = 10_000


class Flooding(Sender):
    """Sends what is not worth its slot."""


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, net: Devnet) -> AsyncIterator[Road]:
    """The hub, who is paid, who floods, and Alice, who pays."""
    async with road(tmp_path_factory.mktemp("road"), net, __name__, "alice") as running:
        yield running


async def test_a_flood_takes_its_own_half_and_others_pay(on: Road) -> None:
    """Sixteen for fifteen slots: the last one goes back, and Alice's payments go through."""
    alices = await on.open("alice", "bob")
    held = [await on.invoice(1, hold=True) for _ in range(HALF + 1)]
    for number, made in enumerate(held):
        await on.send(f"tiny {number}", made.invoice, 1)
    assert await on.end(f"tiny {HALF}") == ("released", "busy")

    async def full() -> bool:
        states = [await on.invoice_state(made.payment_hash) for made in held]
        return states == ["held"] * HALF + ["open"]

    await until(full, "the flood has its half")
    for _ in range(3):
        made = await on.invoice(PRICE)
        paid = await on.ask("alice", PayInvoice(invoice=made.invoice))
        assert paid.state == "paid"
    assert (await on.view("bob", on.second)).state == (await on.view("bob", on.first)).state == "open"

    for made in held[:HALF]:
        await on.ask("carol", CancelInvoice(invoice=made.payment_hash))
    assert {await on.end(f"tiny {number}") for number in range(HALF)} == {("released", "unknown_payment")}

    async def whole() -> bool:
        views = [await on.view("bob", channel) for channel in (on.first, on.second, alices)]
        earned = sum(view.can_send for view in views) - 3 * FUNDED
        return all(view.can_send + view.can_receive == 2 * FUNDED for view in views) and 0 < earned < 3 * FEE

    await until(whole, "nothing is locked, and the hub has earned what Alice paid it")
    assert (await on.view("carol", on.second)).can_send == FUNDED + 3 * PRICE


if __name__ == "__main__":
    play(Flooding())

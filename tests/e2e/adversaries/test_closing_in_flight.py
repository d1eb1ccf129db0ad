"""Adversary: a channel is closed, without its other member, in the middle of a hundred payments in flight.

Fifteen go over the hub and are held behind it, eighty-five are under way to the hub itself. The hub's user closes the
channel behind it. What is held pends on layer 1; whoever shows a preimage is paid there, and the hub is paid by the
same preimages; what nobody shows comes back to all when it expires. Both ends agree on every one of them.

Source: docs/design/groups.md, rules 21 to 23.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from layer1.ledger.agreements import Limits
from layer1.ledger.records import Status
from tests.e2e.adversaries.hours import Hours
from tests.e2e.adversaries.liar import play
from tests.e2e.adversaries.road import FEE, FUNDED, Road, Sender, road
from tests.e2e.cluster import until
from tests.e2e.town import FUNDS
from wallet.requests import CloseChannel, SettleInvoice, ShowBooks, ShowChannel

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]
PRICE = 1_000
ROUTED = Limits().max_locks // 2
"""As many as one neighbour may have behind the hub at a time."""
DIRECT = 100 - ROUTED
SHOWN = 8
"""Of those that are held, so many are taken; the others are left to expire."""


class Sending(Sender):
    """Honest, and busy."""

    async def pay_many(self, channel: str, count: int) -> None:
        """Begin as many payments of one unit."""
        self._begin(self.wallet.channel(channel).pay_many(1, count))


@pytest_asyncio.fixture(loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, moved: Hours) -> AsyncIterator[Road]:
    """The hub, who pays, and who is paid."""
    with moved.entered():
        async with road(tmp_path_factory.mktemp("road"), moved.net, __name__) as running:
            yield running


async def test_every_payment_in_flight_is_paid_or_back_on_both_sides(on: Road, moved: Hours) -> None:
    """A hundred: eighty-five to the hub, eight that are taken, seven that nobody takes."""
    held = [await on.invoice(PRICE, hold=True) for _ in range(ROUTED)]
    for number, made in enumerate(held):
        await on.send(f"held {number}", made.invoice, PRICE, life_ms=2 * HOLD_MS)

    async def all_held() -> bool:
        return [await on.invoice_state(made.payment_hash) for made in held] == ["held"] * ROUTED

    await until(all_held, "all are held")
    await on.mallory.does("pay_many", channel=on.first, count=DIRECT)
    await on.ask("bob", CloseChannel(channel=on.second, force=True))
    for made in held[:SHOWN]:
        await on.ask("carol", SettleInvoice(invoice=made.payment_hash))

    async def shown() -> bool:
        group = (await on.ledger.group(bytes.fromhex(on.second))).value
        assert group is not None
        return group.status is Status.CLOSED and len(group.pending) == ROUTED - SHOWN

    await until(shown, "layer 1 has settled the channel, and pays what Carol shows")
    for number in range(SHOWN):
        assert await on.end(f"held {number}") == ("claimed", ""), "the hub is paid by the same preimage"
    carol = await on.ask("carol", ShowBooks())
    assert carol.adds_up and carol.in_locks == (ROUTED - SHOWN) * PRICE, carol.differences
    assert carol.total == FUNDS + SHOWN * PRICE, "what pends is nobody's, and what was paid out is counted once"
    await moved.stand(on.ledger, await on.ledger.clock() + 3 * HOLD_MS)
    moved.time.go_on()
    for number in range(SHOWN, ROUTED):
        assert (await on.end(f"held {number}"))[0] in {"released", "expired"}

    async def agreed() -> bool:
        view = await on.ask("bob", ShowChannel(channel=on.first))
        earned = DIRECT + SHOWN * (PRICE + FEE)
        return (view.can_send, view.can_receive, view.in_locks) == (FUNDED + earned, FUNDED - earned, 0)

    await until(agreed, "what the hub got is what was paid")
    bob, carol = [await on.ask(name, ShowBooks()) for name in ("bob", "carol")]
    assert bob.adds_up and carol.adds_up, (bob.differences, carol.differences)
    assert (bob.total, carol.total) == (FUNDS + DIRECT + SHOWN * FEE, FUNDS + SHOWN * PRICE)


HOLD_MS = 600_000
"""Longer than an invoice of these wallets may be held, so that nobody gives up before the test does."""


if __name__ == "__main__":
    play(Sending())

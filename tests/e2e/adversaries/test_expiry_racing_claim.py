"""Adversary: it plays with the last moments of a lock: claims when there is no time left, takes back what is claimed.

A payer that signed a claim too late could not pass the preimage on; a payee that signed an expiry too early could have
been paid by the registry. Neither signs while it cannot know, and whoever has a preimage shows it to layer 1 in time.

Source: docs/design/groups.md, rules 20 to 23 [F9].
"""

from __future__ import annotations

import pytest

from tests.e2e.adversaries.hours import Hours
from tests.e2e.adversaries.liar import play
from tests.e2e.adversaries.locks import Locksmith
from tests.e2e.adversaries.stage import BOND, DEPOSIT, Stage
from tests.e2e.cluster import until
from wallet.requests import CreateInvoice, ListInvoices, PayInvoice, SettleInvoice

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]
PRICE = 1_000


class Racing(Locksmith):
    """Claims and takes back at the worst moment."""


@pytest.mark.parametrize("primary", ["bob", "mallory"])
async def test_a_claim_within_the_margin_is_not_signed_and_one_that_layer_1_heard_is(
    on: Stage, moved: Hours, primary: str
) -> None:
    """Rule 22: settled off-chain "only while `now + M <= expiry`; later the payee must register on layer 1"."""
    channel = await on.opened(primary)
    text, name = await on.mallory.does("invoice", amount=PRICE)
    await on.bob.run(PayInvoice(invoice=text, wait_ms=0))
    expiry = await on.mallory.does("holds", channel=channel, name=name)
    await moved.stand(on.ledger, expiry - moved.margin_ms + 1)

    async def clock_seen() -> bool:
        clock_ms = (await on.bob.run(ListInvoices())).clock_ms
        return clock_ms is not None and clock_ms > expiry - moved.margin_ms

    await until(clock_seen, "Bob knows how late it is")
    await on.mallory.does("claim_lock", channel=channel, name=name)
    if primary == "bob":

        async def refused() -> bool:
            return bool((await on.mallory.does("told")).get(f"claim {name}") == "claim_too_late")

        await until(refused, "Bob refuses the claim")
    view = await on.view(channel)
    assert (view.can_send, view.can_receive, view.state) == (DEPOSIT - PRICE, DEPOSIT, "open")

    await moved.stand(on.ledger, expiry)
    assert await on.mallory.does("register", name=name) == "ok"
    await moved.stand(on.ledger, expiry + 1)  # Bob may take back now what nobody showed

    async def signed() -> bool:
        return (await on.view(channel)).can_receive == DEPOSIT + PRICE

    await until(signed, "Bob signs the claim that layer 1 heard in time")
    assert (await on.closed(channel)).honest == (DEPOSIT - PRICE + BOND, DEPOSIT + PRICE + BOND)


@pytest.mark.parametrize("primary", ["bob", "mallory"])
async def test_what_is_claimed_is_not_taken_back_and_layer_1_hears_of_it_in_time(
    on: Stage, moved: Hours, primary: str
) -> None:
    """Rule 23: the payer is silent while there is time, and then wants the lock back; Bob is paid all the same."""
    channel = await on.opened(primary)
    await on.mallory.does("pay", channel=channel, amount=1)
    made = await on.bob.run(CreateInvoice(amount=PRICE, hold=True, hold_ms=600_000))
    await on.mallory.does("pay_invoice", text=made.invoice)
    name = made.payment_hash

    async def held() -> bool:
        return (await on.bob.run(ListInvoices())).invoices[0].state == "held"

    await until(held, "Bob holds the lock")
    expiry = await on.mallory.does("holds", channel=channel, name=name)
    await on.mallory.does("be_deaf")
    await on.bob.run(SettleInvoice(invoice=name))
    await moved.stand(on.ledger, expiry - 3 * moved.margin_ms + 1)

    async def registered() -> bool:
        return (await on.ledger.registration(bytes.fromhex(name))).value is not None

    await until(registered, "Bob shows the preimage to layer 1")
    await moved.stand(on.ledger, expiry + 1)
    await on.mallory.does("expire_lock", channel=channel, name=name)
    await moved.stand(on.ledger, expiry + 2 * moved.margin_ms + 1)
    await on.bob_claims(channel)  # Bob's wallet closes the channel by itself
    assert (await on.mallory.does("told")).get(f"expire {name}") != "committed"
    assert await on.mallory.does("claim_now", channel=channel) == "ok"
    end = await on.settled(channel)
    assert end.honest == (DEPOSIT + 1 + BOND, DEPOSIT - 1 - PRICE + BOND), "the lock is paid besides"
    group = await on.group(channel)
    assert [each.paid_to for each in group.locks] == [on.bobs(group)]


if __name__ == "__main__":
    play(Racing())

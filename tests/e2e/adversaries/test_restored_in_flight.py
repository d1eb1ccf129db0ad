"""Adversity: a hub is killed with payments in flight, and its database is put back from yesterday.

It learns from its neighbours what it signed, claims nothing, and loses no bond. Which lock became which, and the
preimages that it was shown, its neighbours do not tell; layer 1 tells the preimages that are shown there. So every
payment ends as paid or refunded, the same at both ends. One kind alone costs the hub money, which is the stated limit:
the node behind it had claimed off-chain in the lost time, and the one before it had not paid yet. A standby prevents
that.

Source: docs/design/groups.md, rules 21 to 23; decisions 040 and 041.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from layer1.crypto import format_address
from layer1.ledger.records import Group, Status
from tests.e2e.adversaries.hours import Hours
from tests.e2e.adversaries.liar import play
from tests.e2e.adversaries.road import BOND, FEE, FUNDED, Road, Sender, road
from tests.e2e.adversaries.stage import AMPLE_MS
from tests.e2e.cluster import until
from tests.e2e.town import ACCEPT, FUNDS
from wallet.requests import CloseChannel, SettleInvoice, ShowBooks

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]
PRICE = 1_000
LIFE_MS = 1_200_000
"""Of the locks: longer than the disputes."""


class Paying(Sender):
    """Honest, but that it can be slow to let the hub claim; a test brings its claims to layer 1."""


@pytest_asyncio.fixture(loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, moved: Hours) -> AsyncIterator[Road]:
    """The hub, who pays, and who is paid."""
    with moved.entered():
        async with road(tmp_path_factory.mktemp("road"), moved.net, __name__) as running:
            yield running


async def paid(on: Road, name: str) -> None:
    """One payment from end to end."""
    made = await on.invoice(PRICE)
    await on.send(name, made.invoice, PRICE)
    assert await on.end(name) == ("claimed", "")


async def held(on: Road, *names: str) -> dict[str, str]:
    """Payments under way that Carol holds; their hashes."""
    made = {name: await on.invoice(PRICE, hold=True) for name in names}
    for name, each in made.items():
        await on.send(name, each.invoice, PRICE, life_ms=LIFE_MS)

    async def all_held() -> bool:
        return {await on.invoice_state(each.payment_hash) for each in made.values()} == {"held"}

    await until(all_held, "Carol holds all")
    return {name: each.payment_hash for name, each in made.items()}


async def shown(on: Road, channel: str) -> Group:
    """What layer 1 shows, with proof."""
    group = (await on.ledger.group(bytes.fromhex(channel))).value
    assert group is not None
    return group


async def pending(on: Road) -> list[int] | None:
    """How many locks pend, in the hub's two channels; None while one of them is in dispute."""
    groups = [await shown(on, channel) for channel in (on.first, on.second)]
    closed = all(group.status is Status.CLOSED for group in groups)
    return [len(group.pending) for group in groups] if closed else None


async def got(on: Road, channel: str) -> list[int]:
    """What layer 1 paid to both, the opener first, besides the bonds, which came back; the hub claimed nothing."""
    group = await shown(on, channel)
    hub = [format_address(member.funding) for member in group.agreement.members].index(on.address("bob"))
    assert (group.claims[hub], group.pleas[hub], group.forfeits) == (None, True, (None, None))
    paid = [sum(each.lock.amount for each in group.locks if each.paid_to == member) for member in (0, 1)]
    has = [payout - BOND + locks for payout, locks in zip(group.payouts, paid, strict=True)]
    assert sum(has) == 2 * FUNDED, "every unit went to somebody"
    return has


async def test_a_hub_from_yesterday_claims_nothing_and_loses_what_it_forgot_to_collect_alone(
    on: Road, moved: Hours
) -> None:
    """One payment is taken after the copy lives, one never, and of one the hub alone forgot the preimage."""
    homes = on.place.folder
    await paid(on, "yesterday")
    await on.hub_has(2 * FUNDED + FEE)
    await on.place.serving["bob"].stop()
    shutil.copytree(homes / "bob", homes / "backup")
    await on.place.serve("bob", *ACCEPT)
    await on.in_step()
    for name in ("today", "and again"):
        await paid(on, name)
    await on.hub_has(2 * FUNDED + 3 * FEE)
    hashes = await held(on, "taken", "left", "forgotten")
    await on.mallory.does("be_deaf")  # the hub cannot collect
    await on.ask("carol", SettleInvoice(invoice=hashes["forgotten"]))

    async def claimed() -> bool:
        return (await on.view("carol", on.second)).can_send == FUNDED + 4 * PRICE

    await until(claimed, "Carol is paid by the hub")
    await on.place.serving["bob"].kill()
    shutil.rmtree(homes / "bob")
    shutil.copytree(homes / "backup", homes / "bob")
    await on.mallory.does("behave")
    await on.place.serve("bob", *ACCEPT)

    async def told() -> bool:
        views = [await on.view("bob", channel) for channel in (on.first, on.second)]
        return [(view.state, view.recovered) for view in views] == [("stopped", True)] * 2

    await until(told, "the hub knows that it lost data, and its neighbours showed the newest")
    for channel in (on.first, on.second):
        await on.ask("bob", CloseChannel(channel=channel, force=True))
    assert await on.mallory.does("claim_now", channel=on.first) == "ok"
    await on.ask("carol", SettleInvoice(invoice=hashes["taken"]))

    async def answered() -> bool:
        return all([any((await shown(on, channel)).claims) for channel in (on.first, on.second)])

    await until(answered, "both neighbours claim")
    await moved.stand(on.ledger, await on.ledger.clock() + 2 * AMPLE_MS)  # after a plea there is twice the time
    moved.time.go_on()

    async def taken() -> bool:
        return await pending(on) == [2, 1]  # "forgotten" is over behind the hub

    await until(taken, "layer 1 settles both, Carol shows it the preimage, and the hub is paid by the same")
    assert await on.end("taken") == ("paid", "")
    await moved.stand(on.ledger, await on.ledger.clock() + LIFE_MS)
    moved.time.go_on()

    async def over() -> bool:
        return await pending(on) == [0, 0]

    await until(over, "what nobody showed goes back")
    assert [(await on.end(name))[0] for name in ("left", "forgotten")] == ["returned"] * 2

    async def agreed() -> bool:
        return [await on.invoice_state(each) for each in hashes.values()] == ["paid", "open", "paid"]

    await until(agreed, "the payee says the same: who is not paid waits for another payment")
    sent, earned = 4 * (PRICE + FEE), 5 * PRICE
    assert await got(on, on.first) == [FUNDED - sent, FUNDED + sent], "the payer has paid what the hub could collect"
    assert await got(on, on.second) == [FUNDED - earned, FUNDED + earned], "and the payee has got all that it took"
    bob, carol = [await on.ask(name, ShowBooks()) for name in ("bob", "carol")]
    assert carol.adds_up and carol.total == FUNDS + earned, carol.differences
    assert bob.adds_up and bob.total == FUNDS + 4 * FEE - PRICE, bob.differences


if __name__ == "__main__":
    play(Paying())

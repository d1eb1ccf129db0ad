"""Adversary: it shows a preimage when the lock is over by one millisecond, and wants the money all the same.

Layer 1's registry has the clock of the block that a preimage came in; at the lock's expiry it is the payee's, one
millisecond later the payer's. All blocks of these stories are at the clock that the test says.

Source: docs/design/groups.md, rules 21 and 22.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from tests.e2e.adversaries.hours import Hours
from tests.e2e.adversaries.liar import play
from tests.e2e.adversaries.locks import Locksmith
from tests.e2e.adversaries.stage import BOND, DEPOSIT, Stage
from tests.e2e.cluster import until
from wallet.requests import PayInvoice

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]
PRICE = 1_000


class Late(Locksmith):
    """Holds what it could have taken, until the clock says that it is too late."""


@dataclass(frozen=True)
class Lock:
    """Of one invoice that Bob pays: by its hash."""

    name: str
    expiry: int
    """Until when it is good."""


async def two_locks(on: Stage, moved: Hours, channel: str) -> tuple[Lock, Lock]:
    """Bob pays two invoices. A payer reckons the ledger's clock on, so a moment lies between their expiries."""
    await moved.stand(on.ledger, await on.ledger.clock() + 1)
    made = []
    for _ in range(2):
        text, name = await on.mallory.does("invoice", amount=PRICE)
        await on.bob.run(PayInvoice(invoice=text, wait_ms=0))
        made.append(Lock(name, await on.mallory.does("holds", channel=channel, name=name)))
    return made[0], made[1]


async def show(on: Stage, moved: Hours, in_time: Lock, late: Lock) -> None:
    """One preimage at its lock's expiry, the other a millisecond after its own; the ledger's clock only rises."""
    for at, name in sorted([(in_time.expiry, in_time.name), (late.expiry + 1, late.name)]):
        await moved.stand(on.ledger, at)
        assert await on.mallory.does("register", name=name) == "ok"
    assert (await shown_at(on, in_time.name), await shown_at(on, late.name)) == (in_time.expiry, late.expiry + 1)


async def shown_at(on: Stage, name: str) -> int | None:
    """The clock at which layer 1 heard the preimage."""
    found = (await on.ledger.registration(bytes.fromhex(name))).value
    return None if found is None else found.clock_ms


async def test_a_member_honours_what_was_shown_in_time_and_takes_back_what_was_not(on: Stage, moved: Hours) -> None:
    """ "An off-chain claim after expiry must honour a timely registration", and no other."""
    channel = await on.opened("bob")
    in_time, late = await two_locks(on, moved, channel)
    await show(on, moved, in_time, late)
    for lock in (in_time, late):
        await on.mallory.does("claim_lock", channel=channel, name=lock.name)

    async def paid() -> bool:
        return bool((await on.mallory.does("told")).get(f"claim {in_time.name}") == "committed")

    await until(paid, "Bob signs the claim of what was shown in time")

    async def taken_back() -> bool:
        return (await on.view(channel)).can_send == DEPOSIT - PRICE

    await until(taken_back, "Bob takes the other lock back")
    assert (await on.mallory.does("told")).get(f"claim {late.name}") != "committed"
    assert (await on.closed(channel)).honest == (DEPOSIT - PRICE + BOND, DEPOSIT + PRICE + BOND)


async def test_layer_1_pays_each_lock_by_the_clock_of_its_preimage(on: Stage, moved: Hours) -> None:
    """Rule 21: to the payee "if the preimage was registered by `expiry`, to the payer once `expiry` has passed"."""
    channel = await on.opened("mallory")
    in_time, late = await two_locks(on, moved, channel)
    await on.mallory.does("be_mute")
    await show(on, moved, in_time, late)
    closing = asyncio.create_task(on.force(channel))
    await on.bob_claims(channel)
    await closing
    assert await on.mallory.does("claim_now", channel=channel) == "ok"
    end = await on.settled(channel)
    assert end.honest == (DEPOSIT - 2 * PRICE + BOND, DEPOSIT + BOND), "the locks are paid besides"
    group = await on.group(channel)
    bob = on.bobs(group)
    assert {each.lock.hash.hex(): each.paid_to for each in group.locks} == {in_time.name: 1 - bob, late.name: bob}


if __name__ == "__main__":
    play(Late())

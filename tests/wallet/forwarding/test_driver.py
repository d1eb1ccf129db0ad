"""Whole wallets in a row: what a hub forwards is paid, or goes back, whatever happens in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.wallet.forwarding.town import DEPOSIT, FEE, Row, code_of, row, settle, stage_of
from wallet.forwarding.policy import Terms
from wallet.invoices import dealing
from wallet.invoices.records import Stage
from wallet.lock_news import Ended

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes back goes back at once: a wrong release comes before anything that would hide it."""
    monkeypatch.setattr(dealing, "RETRY_S", 0.005)


@pytest.fixture
async def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_scrypt: None) -> AsyncIterator[Row]:
    """A, a hub, and B."""
    async with row(tmp_path, monkeypatch, "alice", "hub", "bob") as found:
        yield found


@pytest.fixture
async def four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_scrypt: None) -> AsyncIterator[Row]:
    """A, two hubs, and B."""
    async with row(tmp_path, monkeypatch, "alice", "hub", "other", "bob") as found:
        yield found


async def ended(paying: asyncio.Task[Ended]) -> Ended:
    return await asyncio.wait_for(paying, 10)


def passages(row: Row, name: str = "hub") -> list[Any]:
    return row.wallets[name]._parts.passages.core.passages()


async def test_a_payment_over_a_hub_is_paid_and_the_hub_has_its_fee(three: Row) -> None:
    hashed, secret = await three.ask(500)
    paying, _ = three.offer(hashed, secret, 500)
    assert (await ended(paying)).is_paid
    await three.until(lambda: three.mine("hub") == [DEPOSIT + 500 + FEE, DEPOSIT - 500])
    await three.until(lambda: three.mine("bob") == [DEPOSIT + 500])
    assert passages(three) == []
    issued = three.payee.invoices.get(hashed)
    assert issued is not None and issued.stage is Stage.PAID
    entries = [entry for entry in three.hub.history() if entry.kind == "forwarded"]
    assert [(entry.amount, entry.channel, entry.via) for entry in entries] == [(FEE, *three.channels)]
    assert (await three.hub.books()).adds_up
    three.check_conserved()


async def test_a_forwarded_payment_costs_the_hub_no_sync_beside_its_signatures(three: Row) -> None:
    """Two versions in each channel: of one it signs them, of the other it proposes and certifies them."""
    hashed, secret = await three.ask(500)
    journal, syncs = three.hub._parts.host._journal, 0
    sync = journal.sync

    def counted() -> None:
        nonlocal syncs
        syncs += bool(journal._buffer)
        sync()

    journal.sync = counted  # type: ignore[method-assign]
    paying, _ = three.offer(hashed, secret, 500)
    assert (await ended(paying)).is_paid
    await three.until(lambda: three.rests() and not passages(three))
    assert syncs <= 6


async def test_a_payment_over_two_hubs_is_paid(four: Row) -> None:
    hashed, secret = await four.ask(500)
    paying, _ = four.offer(hashed, secret, 500)
    assert (await ended(paying)).is_paid
    await four.until(lambda: four.mine("bob") == [DEPOSIT + 500])
    await four.until(lambda: sum(four.mine("hub")) == sum(four.mine("other")) == 2 * DEPOSIT + FEE)


async def test_what_fails_goes_back_and_the_payer_reads_who_says_why(four: Row) -> None:
    """By the payee; by the second hub for its fee, its terms, its channel's balance, its neighbour's silence."""
    paying, origin = four.offer(b"h" * 32, bytes(16), 500)
    assert code_of(origin, await ended(paying)) == (2, "unknown_payment")
    paying, origin = four.offer(b"h" * 32, bytes(16), 500, fee=FEE - 1)
    assert code_of(origin, await ended(paying)) == (0, "fee_too_small")
    four.wallets["other"]._parts.passages.terms_of = lambda _: Terms(enabled=False)
    paying, origin = four.offer(b"h" * 32, bytes(16), 500)
    assert code_of(origin, await ended(paying)) == (1, "unknown_next")
    four.wallets["other"]._parts.passages.terms_of = lambda _: Terms(fee_base=FEE)
    await four.side("other", 2).pay(DEPOSIT - 100)
    paying, origin = four.offer(b"h" * 32, bytes(16), 500)
    assert code_of(origin, await ended(paying)) == (1, "no_liquidity")
    await four.stop("bob")
    await four.until(lambda: not four.wallets["other"]._parts.host.is_linked(four.addresses["bob"]))
    paying, origin = four.offer(b"h" * 32, bytes(16), 100)
    assert code_of(origin, await ended(paying)) == (1, "next_away")
    await four.until(lambda: four.mine("alice") == [DEPOSIT])
    assert not passages(four) and not passages(four, "other")


async def test_a_packet_that_the_next_one_cannot_open_goes_back(three: Row) -> None:
    """The one before it says so in its own name."""
    take = three.payee.switchboard._deliver
    three.payee.switchboard._deliver = lambda group_id, lock, packet: take(group_id, lock, packet[:-1])  # type: ignore[method-assign]
    hashed, secret = await three.ask(500)
    paying, origin = three.offer(hashed, secret, 500)
    assert code_of(origin, await ended(paying)) == (0, "next_refused_packet")


async def test_a_neighbour_cannot_be_its_own_next_hop_over_one_channel(three: Row) -> None:
    """Its lock would come back by the channel that it left by."""
    paying, origin = three.offer(b"h" * 32, bytes(16), 500)
    assert code_of(origin, await ended(paying)) == (1, "unknown_payment")
    data, origin = three.packet(b"h" * 32, bytes(16), 500, expiry := three.expiry(), path=["bob", "hub", "alice"])
    channel = bytes.fromhex(three.channels[0])
    back = three.payer.locking.offer(channel, 500 + FEE, b"h" * 32, expiry, data)
    told = await asyncio.wait_for(back, 10)
    assert code_of(origin, told) == (0, "unknown_next")


async def die(row: Row, name: str, turn: int, *, durable: bool, back: bool) -> bool:
    """A payment in which a wallet dies at the end of a turn of its own, and is started again; whether it was paid."""
    gone = row.doom(name, turn, durable=durable)
    hashed, secret = await row.ask(100, hold=True, back=back)
    paying, _ = row.offer(hashed, secret, 100, back=back)
    await row.until(lambda: gone.is_set() or stage_of(row, hashed, back=back) is Stage.HELD)
    if not gone.is_set():
        await settle(row, hashed, back=back)
        await row.until(gone.is_set)
    await row.restart(name)
    paid = await held_and_settled(row, hashed, back=back)
    paying.cancel()
    return paid


async def held_and_settled(row: Row, hashed: bytes, *, back: bool) -> bool:
    """Let everybody come to rest, but for what the payee holds; then it settles. Whether it was paid."""

    def held() -> bool:
        return stage_of(row, hashed, back=back) is Stage.HELD

    await row.until(lambda: row.rests(held=held()))
    for _ in range(5):
        await row.look()
    if held():
        await settle(row, hashed, back=back)
    await row.until(row.rests)
    assert stage_of(row, hashed, back=back) in {Stage.PAID, Stage.OPEN}
    return stage_of(row, hashed, back=back) is Stage.PAID


async def die_at_any_step(row: Row, name: str, steps: list[tuple[int, bool, bool]]) -> set[bool]:
    """For each step (turn, durable, back) a payment: every unit is accounted for. Whether any were paid, any not."""
    paid, fate, before = {False: 0, True: 0}, set[bool](), (row.mine("alice"), row.mine("bob"))
    for turn, durable, back in steps:
        paid[back] += (was_paid := await die(row, name, turn, durable=durable, back=back))
        fate.add(was_paid)
        net = 100 * (paid[False] - paid[True])
        assert row.mine("alice") == [before[0][0] - net - FEE * paid[False]], (turn, durable, back)
        assert row.mine("bob") == [before[1][0] + net - FEE * paid[True]], (turn, durable, back)
        assert passages(row) == []
    row.check_conserved()
    return fate


async def test_a_hub_that_dies_at_any_step_loses_nothing_and_ends_everything(three: Row) -> None:
    """At the end of each turn, just before and just after it is durable; as the primary of either channel."""
    steps = list(product(range(5), (False, True), (False, True)))
    assert await die_at_any_step(three, "hub", steps) == {True, False}


async def test_a_next_hop_that_dies_at_any_step_takes_nothing_from_the_hub(three: Row) -> None:
    """The fate of the hub's offer is not known for a while; the incoming lock pends as long."""
    steps = list(product(range(2), (False, True)))
    assert await die_at_any_step(three, "bob", [(*step, False) for step in steps]) == {True}
    assert await die_at_any_step(three, "alice", [(*step, True) for step in steps]) == {True}

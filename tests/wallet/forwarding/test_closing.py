"""Channels that end while a payment passes through them: locks pend, they do not fail; layer 1 pays by one registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from layer1.client import LedgerUnreachable
from layer1.ledger.agreements import Lock
from layer1.ledger.locks import preimage_hash
from tests.wallet.forwarding.town import DEPOSIT, FEE, Row, code_of, row, settle, stage_of
from tests.wallet.standin import Client
from wallet.forwarding.events import Passage
from wallet.invoices import dealing
from wallet.invoices.records import Stage
from wallet.lock_news import Ended

pytestmark = pytest.mark.slow


@pytest.fixture
async def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_scrypt: None) -> AsyncIterator[Row]:
    """A, a hub, and B."""
    monkeypatch.setattr(dealing, "RETRY_S", 0.005)
    async with row(tmp_path, monkeypatch, "alice", "hub", "bob") as found:
        yield found


def settled(row: Row, number: int) -> tuple[int, ...]:
    """What layer 1 paid out of a channel, the left one first; locks that ended since aside."""
    shown = row.world.chain.state.group(bytes.fromhex(row.channels[number]))
    assert shown is not None
    paid = list(shown.payouts)
    for each in shown.locks:
        if each.paid_to is not None:
            paid[each.paid_to] += each.lock.amount
    return tuple(paid)


def left(row: Row) -> list[tuple[Passage, int | None]]:
    return row.hub._parts.passages.core.passages()


async def test_a_preimage_that_is_registered_after_the_next_channel_closed_is_claimed_upstream(three: Row) -> None:
    """At once, long before the expiry: its lock pended, and nothing went back meanwhile."""
    hashed, paying, _ = await three.held()
    await three.side("bob", 1).close(force=True)
    await three.closed(1)
    assert not paying.done() and len(left(three)) == 1, "a lock of a closed group pends"
    await settle(three, hashed)
    await three.until(paying.done)
    assert paying.result().is_paid
    await three.until(lambda: three.mine("hub")[0] == DEPOSIT + 500 + FEE)
    await three.until(lambda: not left(three))
    assert settled(three, 1) == (DEPOSIT - 500, DEPOSIT + 500)


async def test_a_hub_that_dies_before_it_was_told_is_told_again(three: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layer 1 paid while it was away, and the registry does not answer at its first looks: nothing goes back."""
    hashed, paying, _ = await three.held()
    await three.side("bob", 1).close(force=True)
    await three.closed(1)
    await three.stop("hub")
    await settle(three, hashed)
    await three.until(lambda: stage_of(three, hashed) is Stage.PAID)
    ask, silences = Client.registration, iter(range(3))

    async def silent(self: Client, hashed: bytes) -> Any:
        if next(silences, None) is not None:
            raise LedgerUnreachable("the registry does not answer")
        return await ask(self, hashed)

    monkeypatch.setattr(Client, "registration", silent)
    await three.start("hub")
    await three.until(paying.done)
    assert paying.result().is_paid and next(silences, None) is None
    await three.until(lambda: three.mine("hub")[0] == DEPOSIT + 500 + FEE and not left(three))


async def test_a_payer_that_closes_pays_by_the_registry(three: Row) -> None:
    """The preimage comes when the incoming lock is layer 1's already: the hub registers it."""
    hashed, paying, _ = await three.held()
    await three.side("alice", 0).close(force=True)
    await three.closed(0)
    await settle(three, hashed)
    await three.until(paying.done)
    assert paying.result().is_paid
    await three.until(lambda: not left(three))
    assert settled(three, 0) == (DEPOSIT - 500 - FEE, DEPOSIT + 500 + FEE)
    assert three.mine("hub")[-1] == DEPOSIT - 500


async def test_what_layer_1_paid_is_not_forwarded_again_after_a_restart(three: Row) -> None:
    """Its channel is closed, and stays with us while another of its locks pends; the passage of this one is over."""
    hashed, paying, _ = await three.held()
    _, other, _ = await three.held()
    await three.side("alice", 0).close(force=True)
    await three.closed(0)
    await settle(three, hashed)
    await three.until(paying.done)
    await three.until(lambda: len(left(three)) == 1)
    await three.stop("hub")
    await three.start("hub")
    await three.side("hub", 1).reach()
    for _ in range(5):
        await three.look()
        assert [passage.hash == hashed for passage, _ in left(three)] == [False]
    assert not other.done()


async def test_a_lock_that_has_the_id_of_an_offer_which_was_never_signed_is_none_of_the_forwarders(three: Row) -> None:
    """A crash came between the binding and the signature, and another lock got the id."""
    await three.held()
    [(passage, lock)] = left(three)
    assert lock is not None
    forwarder = three.hub.switchboard._forwarder
    assert forwarder is not None
    preimage = bytes(32)
    other = Lock(lock, 0, 1, 5, preimage_hash(preimage), passage.expiry_ms)
    assert not forwarder.lose(passage.outgoing, Ended(other, "claimed", preimage))
    assert not forwarder.shown(passage.outgoing, other, preimage)
    assert left(three) == [(passage, lock)]
    assert forwarder.shown(passage.outgoing, structs.replace(other, hash=passage.hash), preimage)


async def test_an_offer_that_layer_1_never_saw_goes_back_when_it_has_settled(three: Row) -> None:
    """We signed it, the next one did not: it pends until layer 1 has settled on the state without it."""
    gone = three.doom("bob", 0, durable=False)
    hashed, secret = await three.ask(500)
    paying, origin = three.offer(hashed, secret, 500)
    await three.until(gone.is_set)
    await three.stop("bob")
    bob = three.wallets["bob"] = await three.world.load("bob")
    [(passage, lock)] = three.hub._parts.passages.core.passages()
    assert lock is not None and not paying.done(), "it is live from our own signature"
    await bob.channel(three.channels[1]).close(force=True)
    await three.until(lambda: three.side("hub", 1).view().deadline_ms is not None)
    assert left(three) == [(passage, lock)] and not paying.done()
    await three.closed(1)
    await three.until(paying.done)
    assert code_of(origin, paying.result()) == (0, "next_away")
    await three.until(lambda: not left(three))
    assert settled(three, 1) == (DEPOSIT, DEPOSIT) and three.mine("alice") == [DEPOSIT]


async def test_a_payee_that_shows_the_ledger_alone_is_paid_by_all(three: Row) -> None:
    """It never claims off-chain; the hub finds the preimage in the registry, in time to claim by it."""
    three.payee.locking._try = lambda *_: None  # type: ignore[method-assign]
    hashed, paying, _ = await three.held()
    expiry = three.hub._parts.passages.core.passages()[0][0].expiry_ms
    await settle(three, hashed)
    three.pass_time(expiry - 3 * three.hub.locking.margin_ms)
    await three.until(paying.done)
    assert paying.result().is_paid and three.world.chain.state.clock < expiry
    assert three.mine("hub")[0] == DEPOSIT + 500 + FEE


async def test_what_expires_goes_back_on_both_sides(three: Row) -> None:
    """The next one is gone for good: each lock goes back when its time is over, and its channel is closed for that."""
    _, paying, _ = await three.held()
    expiry = three.hub._parts.passages.core.passages()[0][0].expiry_ms
    await three.stop("bob")
    three.pass_time(expiry)
    await three.until(paying.done)
    assert paying.result().how == "expired" and three.mine("alice") == [DEPOSIT]
    assert len(left(three)) == 1, "the outgoing lock has to be guarded still"
    three.pass_time(three.world.chain.state.clock + 3 * three.hub.locking.margin_ms)
    await three.closed(1)
    await three.until(lambda: not left(three))
    assert settled(three, 1) == (DEPOSIT, DEPOSIT)

"""What a wallet said before it stopped, and its peer kept: no money hangs on it until it is certain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from layer1.ledger.agreements import Lock
from layer2.messages import Accept, Propose, Submit
from tests.wallet.forwarding.town import DEPOSIT, Row, row
from wallet.forwarding.policy import Terms
from wallet.invoices.invoice import format_invoice
from wallet.invoices.payee import Wanted
from wallet.onion.packet import Binding, build
from wallet.onion.route import Hop, Route
from wallet.paying import payer as paying
from wallet.paying.records import Fate
from wallet.wallet import Wallet

pytestmark = pytest.mark.slow

AMOUNT = 500


@pytest.fixture
async def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_scrypt: None) -> AsyncIterator[Row]:
    """A, a hub, and B. The hub is the primary of its channel with B, and not of that with A."""
    async with row(tmp_path, monkeypatch, "alice", "hub", "bob") as found:
        yield found


class Withheld:
    """Messages of one kind about one channel, which a wallet keeps to itself while `on`."""

    def __init__(self, wallet: Wallet, group_id: bytes, kind: type) -> None:
        outgoing = wallet._parts.host._outgoing
        self.on, self._real, self._kept = True, outgoing.send, list[tuple[Any, ...]]()
        self._group_id, self._kind = group_id, kind
        outgoing.send = self._send  # type: ignore[method-assign]

    def _send(self, group_id: bytes, effect: Any, link: Any) -> None:
        if self.on and group_id == self._group_id and isinstance(effect.message, self._kind):
            self._kept.append((group_id, effect, link))
        else:
            self._real(group_id, effect, link)

    def __bool__(self) -> bool:
        return bool(self._kept)

    def say(self) -> None:
        """Now."""
        self.on = False
        for each in self._kept:
            self._real(*each)


async def soon(check: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not check():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.002)


async def restart_late(three: Row) -> None:
    """The hub stops, and comes back: its neighbours are there before the ledger is."""
    await three.stop("hub")
    three.world.chain.reachable = False
    hub = await three.start("hub")
    await soon(lambda: all(hub._parts.host.groups[bytes.fromhex(each)].connected for each in three.channels))
    three.world.chain.reachable = True


async def look_often(three: Row) -> None:
    for _ in range(20):
        await three.look()
        await asyncio.sleep(0)


async def send(three: Row, payer: str, payee: str) -> tuple[bytes, Lock]:
    """The first lock of a payment over the hub."""
    route = [three.wallets[name].address for name in ("hub", payee)]
    invoice = (await three.wallets[payee].invoices.create(Wanted(AMOUNT, "bread"))).invoice
    hashed, expiry = invoice.payment_hash, three.expiry()
    channel = three.side(payer, 0 if payer == "alice" else 1).id
    hops = Hop(route[0], AMOUNT + 7), Hop(route[1], AMOUNT)
    binding = Binding(three.world.genesis.chain_id, hashed, expiry)
    packet, _ = build(
        Route(channel, hops, expiry), binding, b"s" * 32, total=AMOUNT, payment_secret=invoice.payment_secret
    )
    return channel, await three.wallets[payer].locking.begin(channel, AMOUNT + 7, hashed, expiry, packet)


async def test_a_lock_that_was_being_released_before_a_restart_is_not_forwarded(three: Row) -> None:
    three.hub._parts.passages.terms_of = lambda _: Terms(enabled=False)
    channel, _ = await send(three, "alice", "bob")
    kept = Withheld(three.payer, channel, Propose)
    await soon(lambda: kept)
    await restart_late(three)
    await look_often(three)
    kept.say()
    await soon(lambda: not three.hub._parts.host.groups[channel].locks)
    await look_often(three)
    assert sum(three.mine("hub")) == 2 * DEPOSIT and three.mine("bob") == [DEPOSIT]


async def test_nor_by_a_primary_that_has_signed_the_release(three: Row) -> None:
    three.hub._parts.passages.terms_of = lambda _: Terms(enabled=False)
    channel, _ = await send(three, "bob", "alice")
    lost, hub = Withheld(three.hub, channel, Propose), three.hub
    await soon(lambda: lost)
    assert hub._parts.host.groups[channel].pending is not None
    kept = Withheld(three.payee, channel, Accept)
    await restart_late(three)
    await soon(lambda: kept)
    await look_often(three)
    kept.say()
    await soon(lambda: not three.hub._parts.host.groups[channel].committed.body.locks)
    await look_often(three)
    assert sum(three.mine("hub")) == 2 * DEPOSIT and three.mine("alice") == [DEPOSIT]


async def test_a_payment_that_a_peer_keeps_has_not_failed(three: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paying, "LOOK_S", 0.02)
    channel = three.side("bob", 1).id
    invoice = (await three.hub.invoices.create(Wanted(AMOUNT, "bread"))).invoice
    kept = Withheld(three.hub, channel, Propose)
    payment = asyncio.create_task(three.payee.invoices.pay(format_invoice(invoice)))
    await soon(lambda: kept)
    payment.cancel()
    await three.stop("bob")
    await asyncio.gather(payment, return_exceptions=True)
    bob = await three.start("bob")
    await soon(lambda: bob._parts.host.groups[channel].connected)
    await look_often(three)
    [found] = bob.invoices.payments(9)
    assert found.fate is Fate.PENDING
    kept.say()
    await soon(lambda: bob.invoices.payments(9)[0].fate is Fate.PAID)
    await soon(lambda: three.mine("bob") == [DEPOSIT - AMOUNT])


async def test_while_a_group_is_in_doubt_its_end_gives_nothing_back(three: Row) -> None:
    hub, onward = three.hub, three.side("alice", 0).id
    kept = Withheld(hub, onward, Submit)
    channel, lock = await send(three, "bob", "alice")
    await soon(lambda: kept)
    hub._parts.host.doubt(onward)  # this home is a copy: the other one may have offered the lock, and signed it
    await three.payer._parts.submitter.bring(three.payer._parts.host.wedge(onward))
    await look_often(three)
    assert hub._parts.host.groups[onward].doubts and hub._parts.host.groups[onward].ledger is not None
    assert hub._parts.host.groups[channel].locks == (lock,)
    assert len(hub._parts.passages.core.passages()) == 1

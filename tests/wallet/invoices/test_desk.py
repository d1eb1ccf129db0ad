"""Two wallets with a channel: invoices made, paid, held, cancelled, and everything that comes in between."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import Any

import pytest
from msgspec.structs import replace

from layer1.errors import Refused
from tests.wallet.conftest import World
from wallet.channel import Channel
from wallet.invoices.invoice import format_invoice, parse_invoice
from wallet.invoices.payee import Wanted
from wallet.invoices.receipt import read_receipt
from wallet.invoices.records import Issued, Stage
from wallet.paying.records import Fate
from wallet.wallet import Wallet

pytestmark = pytest.mark.slow


async def opened(world: World) -> tuple[Wallet, Wallet, Channel]:
    """Alice, who pays, and Bob, who is served; with a channel."""
    bob, contact = await world.serve("bob")
    alice = await world.load("alice")
    channel = await alice.open_channel(
        contact, deposit=10_000, peer_deposit=5_000, bond=1_000, challenge_period_ms=5_000
    )
    return alice, bob, channel


async def asked(bob: Wallet, amount: int | None = 250, **wanted: Any) -> str:
    """The text of an invoice of Bob's."""
    return format_invoice((await bob.invoices.create(Wanted(amount, "coffee", **wanted))).invoice)


async def at(wallet: Wallet, text: str, stage: Stage) -> Issued:
    """The invoice, once it is so far."""
    payment_hash = parse_invoice(text).payment_hash

    def found() -> Issued | None:
        issued = wallet.invoices.get(payment_hash)
        return issued if issued is not None and issued.stage is stage else None

    issued = await wallet._parts.signals.until(found, 5)
    assert issued is not None, wallet.invoices.get(payment_hash)
    return issued


async def moved(wallet: Wallet, channel: Channel, can_send: int, can_receive: int) -> None:
    """The channel, once it is so: a payment is known from the preimage, a moment before the claim is committed."""
    there = lambda: True if (channel.view().can_send, channel.view().can_receive) == (can_send, can_receive) else None  # noqa: E731
    assert await wallet._parts.signals.until(there, 5), channel.view()


def code_of(caught: pytest.ExceptionInfo[Refused]) -> str:
    return caught.value.code


async def test_an_invoice_is_paid_once_and_the_receipt_proves_it(world: World) -> None:
    alice, bob, channel = await opened(world)
    text = await asked(bob)
    paying = await alice.invoices.pay(text)
    assert (paying.payment.fate, paying.repeated) == (Fate.PAID, False)
    assert (await at(bob, text, Stage.PAID)).received == 250
    await moved(alice, channel, 9_750, 5_250)

    again = await alice.invoices.pay(text.upper())
    assert (again.payment.preimage, again.repeated) == (paying.payment.preimage, True)
    assert len(again.payment.attempts) == 1
    assert channel.view().can_send == 9_750, "who asks again pays nothing"

    receipt = read_receipt(alice.invoices.receipt(text), world.genesis.chain_id)
    assert receipt.invoice == parse_invoice(text)
    assert hashlib.sha256(receipt.preimage).digest() == receipt.invoice.payment_hash


async def test_two_callers_at_once_pay_once(world: World) -> None:
    alice, bob, channel = await opened(world)
    text = await asked(bob)
    both = await asyncio.gather(alice.invoices.pay(text), alice.invoices.pay(text))
    assert sorted(each.repeated for each in both) == [False, True]
    assert channel.view().can_send == 9_750


async def test_an_open_amount_is_the_payers_choice(world: World) -> None:
    alice, bob, channel = await opened(world)
    text = await asked(bob, None)
    with pytest.raises(Refused, match="leaves the amount to you") as caught:
        await alice.invoices.pay(text)
    assert code_of(caught) == "amount_needed"
    assert (await alice.invoices.pay(text, 77)).payment.amount == 77
    assert (await at(bob, text, Stage.PAID)).received == 77
    assert channel.view().can_send == 9_923


async def test_what_cannot_be_paid_is_refused_and_nothing_is_offered(world: World) -> None:
    alice, bob, channel = await opened(world)
    text = await asked(bob)
    with pytest.raises(Refused, match=r"2\.50 .* you named 2\.51") as caught:
        await alice.invoices.pay(text, 251)
    assert code_of(caught) == "wrong_amount"
    with pytest.raises(Refused, match="this wallet made that invoice") as caught:
        await bob.invoices.pay(text)
    assert code_of(caught) == "own_invoice"
    with pytest.raises(Refused, match=r"can send 100\.00 .* takes 100\.01") as caught:
        await alice.invoices.pay(await asked(bob, 10_001))
    assert code_of(caught) == "insufficient_balance"
    short = await asked(bob, life_ms=1)
    world.chain.block(after_ms=50)
    with pytest.raises(Refused, match="good until ledger clock") as caught:
        await alice.invoices.pay(short)
    assert code_of(caught) == "invoice_expired"
    assert (channel.view().version, alice.invoices.payments(10)) == (0, [])


async def test_what_is_cancelled_is_not_paid_and_can_be_asked_for_anew(world: World) -> None:
    alice, bob, channel = await opened(world)
    text = await asked(bob)
    issued = await bob.invoices.cancel(parse_invoice(text).payment_hash.hex()[:8])
    assert issued.stage is Stage.CANCELLED
    with pytest.raises(Refused, match="the payee does not take it") as caught:
        await alice.invoices.pay(text)
    assert code_of(caught) == "unknown_payment"
    await moved(alice, channel, 10_000, 5_000)
    with pytest.raises(Refused, match="its preimage was not seen"):
        alice.invoices.receipt(text)
    assert (await alice.invoices.pay(await asked(bob))).payment.fate is Fate.PAID


async def test_a_failed_payment_may_be_tried_again(world: World) -> None:
    alice, bob, _ = await opened(world)
    text = await asked(bob)
    issued = bob.invoices.get(parse_invoice(text).payment_hash)
    assert issued is not None
    bob.invoices._book.put(replace(issued, stage=Stage.CANCELLED))
    with pytest.raises(Refused):
        await alice.invoices.pay(text)
    bob.invoices._book.put(issued)
    paying = await alice.invoices.pay(text)
    assert (paying.payment.fate, paying.payment.attempts[0].fate) == (Fate.PAID, Fate.FAILED)
    assert len(paying.payment.attempts) == 2


async def test_a_hold_invoice_waits_for_its_owner(world: World) -> None:
    alice, bob, channel = await opened(world)
    text = await asked(bob, hold=True)
    paying = await alice.invoices.pay(text, wait_s=0.2)
    assert paying.payment.fate is Fate.PENDING
    name = (await at(bob, text, Stage.HELD)).invoice.payment_hash.hex()
    assert (channel.view().can_send, channel.view().can_receive) == (9_750, 5_000), "nobody has it yet"
    again = await alice.invoices.pay(text, wait_s=0.1)
    assert (again.payment.fate, again.repeated, len(again.payment.attempts)) == (Fate.PENDING, True, 1)
    await bob.invoices.settle(name)
    assert (await alice.invoices.pay(text)).payment.fate is Fate.PAID
    assert (await at(bob, text, Stage.PAID)).received == 250
    with pytest.raises(Refused, match="the invoice is paid"):
        await bob.invoices.cancel(name)


async def test_a_hold_invoice_that_is_cancelled_gives_the_money_back(world: World) -> None:
    alice, bob, channel = await opened(world)
    text = await asked(bob, hold=True)
    await alice.invoices.pay(text, wait_s=0.1)
    await bob.invoices.cancel((await at(bob, text, Stage.HELD)).invoice.payment_hash.hex())
    with pytest.raises(Refused, match="the payee does not take it"):
        await alice.invoices.pay(text)
    await moved(alice, channel, 10_000, 5_000)


async def test_a_hash_alone_is_settled_with_its_preimage(world: World) -> None:
    """As in a swap: the payee gets to know the preimage elsewhere."""
    alice, bob, _ = await opened(world)
    preimage = b"s" * 32
    text = await asked(bob, hold=True, payment_hash=hashlib.sha256(preimage).digest())
    await alice.invoices.pay(text, wait_s=0.1)
    name = (await at(bob, text, Stage.HELD)).invoice.payment_hash.hex()
    with pytest.raises(Refused, match="--preimage"):
        await bob.invoices.settle(name)
    await bob.invoices.settle(name, preimage)
    assert (await alice.invoices.pay(text)).payment.preimage == preimage
    with pytest.raises(Refused, match="a hash is used once"):
        await asked(bob, hold=True, payment_hash=hashlib.sha256(preimage).digest())


async def test_the_payer_is_killed_while_it_waits_and_asks_again(world: World) -> None:
    alice, bob, _ = await opened(world)
    text = await asked(bob, hold=True)
    await alice.invoices.pay(text, wait_s=0.1)
    name = (await at(bob, text, Stage.HELD)).invoice.payment_hash.hex()
    await alice.__aexit__(None, None, None)
    await bob.invoices.settle(name)
    alice = await world.load("alice")
    paying = await alice.invoices.pay(text)
    assert (paying.payment.fate, paying.repeated, len(paying.payment.attempts)) == (Fate.PAID, True, 1)
    assert (await at(bob, text, Stage.PAID)).received == 250


async def test_the_payee_is_killed_while_it_holds_and_settles_afterwards(world: World) -> None:
    alice, bob, _ = await opened(world)
    text = await asked(bob, hold=True)
    await alice.invoices.pay(text, wait_s=0.1)
    name = (await at(bob, text, Stage.HELD)).invoice.payment_hash.hex()
    await bob.__aexit__(None, None, None)
    bob, _ = await world.serve("bob")
    await at(bob, text, Stage.HELD)
    await bob.invoices.settle(name)
    assert (await alice.invoices.pay(text)).payment.fate is Fate.PAID


async def test_what_was_entered_and_never_offered_is_free_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the record and the offer."""
    alice, bob, channel = await opened(world)
    text = await asked(bob)
    stuck: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(alice.locking, "begin", lambda *_: stuck)
    paying = asyncio.ensure_future(alice.invoices.pay(text))
    await alice._parts.signals.until(lambda: alice.invoices.payments(1) or None, 5)
    paying.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await paying
    assert alice.invoices.payments(1)[0].fate is Fate.PENDING
    await alice.__aexit__(None, None, None)
    alice = await world.load("alice")
    await alice.channel(channel.id.hex()).reach()
    gone = lambda: True if alice.invoices.payments(1)[0].fate is Fate.FAILED else None  # noqa: E731
    assert await alice._parts.signals.until(gone, 5)
    assert alice.invoices.payments(1)[0].attempts[0].code == "not_offered"
    assert (await alice.invoices.pay(text)).payment.fate is Fate.PAID


@pytest.mark.parametrize("packet", [b"", b"nonsense", bytes(1_349)])
async def test_a_lock_that_nobody_can_open_is_released(world: World, packet: bytes) -> None:
    alice, bob, channel = await opened(world)
    issued = await bob.invoices.create(Wanted(250))
    far_ms = await alice._parts.ledger.clock() + 86_400_000
    await channel.offer(250, issued.invoice.payment_hash, far_ms, packet)
    await moved(alice, channel, 10_000, 5_000)
    assert bob.invoices.get(issued.invoice.payment_hash) == issued

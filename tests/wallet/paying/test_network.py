"""Payments over real hubs in one process: routes, parts, other paths, gifts, circles, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from layer1.crypto import format_address
from layer1.errors import Refused
from tests.wallet.paying.diamond import Diamond, diamond
from wallet.invoices.invoice import parse_invoice
from wallet.requests import ListPayments, Pay, PayInvoice, Progress, RebalanceChannel, ShowPayment

pytestmark = pytest.mark.slow


@pytest.fixture
async def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_scrypt: None) -> AsyncIterator[Diamond]:
    async with diamond(tmp_path, monkeypatch) as found:
        yield found


async def test_an_invoice_is_paid_over_a_hub_once_and_its_fee_is_told_and_noted(net: Diamond) -> None:
    text, told = await net.ask(1_000), list[Progress]()
    paid = await net.run(PayInvoice(invoice=text), told)
    assert (paid.state, paid.amount, paid.fee, paid.max_fee, paid.attempts) == ("paid", 1_000, 2, 10, 1)
    hub, carol = (step.node for step in paid.tries[0].path)
    assert carol == format_address(net.wallets["carol"].address) and hub != carol
    assert [step.amount for step in paid.tries[0].path] == [1_002, 1_000]
    steps = [progress.text for progress in told if progress.lasting]
    assert steps == [f"try 1: 10.00 WDG by {hub[:12]}…{hub[-4:]} → {carol[:12]}…{carol[-4:]}, fee 0.02 WDG"]
    again = await net.run(PayInvoice(invoice=text))
    assert (again.state, again.repeated, again.attempts) == ("paid", True, 1)
    await net.quiet()
    net.check_conserved()
    assert sum(net.mine("alice").values()) == 20_000 - 1_002
    note = next(entry for entry in net.wallets["alice"].history() if entry.kind == "payment")
    assert (note.amount, note.fee, note.payment_hash, note.memo) == (-1_000, 2, paid.payment_hash, "wood")
    assert [each.payment_hash for each in (await net.run(ListPayments())).payments] == [paid.payment_hash]
    assert (await net.run(ShowPayment(payment=paid.payment_hash[:8]))).preimage == paid.preimage


async def test_what_no_path_carries_goes_in_parts(net: Diamond) -> None:
    text = await net.ask(15_000)
    with pytest.raises(Refused, match="no single channel"):
        await net.run(PayInvoice(invoice=text, parts=1))
    paid = await net.run(PayInvoice(invoice=text))
    assert (paid.state, sum(each.amount for each in paid.tries)) == ("paid", 15_000)
    assert len({each.path[0].channel for each in paid.tries}) == 2
    await net.quiet()
    net.check_conserved()
    assert sum(net.mine("alice").values()) == 20_000 - 15_000 - paid.fee and paid.fee <= 150


async def test_a_hop_that_refuses_is_named_and_another_path_is_taken(net: Diamond) -> None:
    """The cheap hub has no money on its side: that is learnt, said, and avoided."""
    alice, hub, told = net.wallets["alice"], net.wallets["hub"], list[Progress]()
    well = net.wallets["well"]
    channel = well.channel(net.channels["well-carol"])
    well.tolls.set_fee(channel.record, 9, 1_000)
    await net.until(lambda: _base(net, "well") == 9)
    await hub.channel(net.channels["hub-carol"]).pay(9_500)
    paid = await net.run(PayInvoice(invoice=await net.ask(2_000)), told)
    assert [each.state for each in paid.tries] == ["failed", "paid"]
    first, second = paid.tries
    assert (first.code, first.refused_by) == ("no_liquidity", format_address(hub.address))
    assert second.path[0].node == format_address(well.address) and paid.fee == 11
    steps = [progress.text for progress in told if progress.lasting]
    assert [text.split(":")[0].split()[0] for text in steps] == ["try", steps[1].split()[0], "try"]
    assert "did not forward" in steps[1] and "no_liquidity" in steps[1] and "too little money" in steps[1]
    other = await net.run(PayInvoice(invoice=await net.ask(2_000)))
    assert len(other.tries) == 1, "what was learnt is known to the next payment"
    assert alice.payments.newest(5)[0].fee == 11
    await net.quiet()
    net.check_conserved()


async def test_a_fee_limit_is_kept_and_said(net: Diamond) -> None:
    text = await net.ask(1_000)
    with pytest.raises(Refused, match=r"fee of 0\.02 WDG, and at most 0\.01 WDG") as caught:
        await net.run(PayInvoice(invoice=text, max_fee=1))
    assert caught.value.code == "no_route"
    assert (await net.run(ListPayments())).payments == (), "nothing was offered"
    assert (await net.run(PayInvoice(invoice=text, max_fee=2))).fee == 2


async def test_an_address_is_paid_without_an_invoice_over_its_channel_or_over_a_route(net: Diamond) -> None:
    carol, hub = (format_address(net.wallets[name].address) for name in ("carol", "hub"))
    direct = await net.run(Pay(target=hub, amount=100, memo="bread"))
    assert (direct.committed, direct.payment) == (1, None)
    paid = await net.run(Pay(target=carol, amount=500))
    assert (paid.committed, paid.peer, paid.payment.kind, paid.payment.fee) == (1, carol, "spontaneous", 2)
    with pytest.raises(Refused, match="leave them out"):
        await net.run(Pay(target=carol, amount=500, memo="bread"))
    with pytest.raises(Refused, match="nobody signed an invoice"):
        net.wallets["alice"].payments.receipt(paid.payment.payment_hash)
    net.wallets["carol"].invoices.payee.takes_spontaneous = False
    with pytest.raises(Refused, match="takes no payments without an invoice") as caught:
        await net.run(Pay(target=carol, amount=500))
    assert caught.value.code == "unknown_spontaneous"
    await net.quiet()
    net.check_conserved()
    assert sum(net.mine("carol").values()) == 20_500


async def test_money_moves_from_one_channel_into_another_over_a_circle(net: Diamond) -> None:
    before = net.mine("alice")
    request = RebalanceChannel(channel=net.channels["alice-hub"], to=net.channels["alice-well"], amount=3_000)
    moved = await net.run(request)
    assert (moved.state, moved.kind, len(moved.tries[0].path)) == ("paid", "circle", 4)
    await net.quiet()
    after = net.mine("alice")
    assert after["alice-well"] - before["alice-well"] == 3_000
    assert before["alice-hub"] - after["alice-hub"] == 3_000 + moved.fee
    assert 0 < moved.fee <= moved.max_fee == 30
    note = next(entry for entry in net.wallets["alice"].history() if entry.kind == "rebalanced")
    assert (note.amount, note.fee) == (0, moved.fee)
    assert not [entry for entry in net.wallets["alice"].history() if entry.kind == "spontaneous"], "no income"
    with pytest.raises(Refused, match="name two"):
        await net.run(RebalanceChannel(channel=net.channels["alice-hub"], to=net.channels["alice-hub"], amount=1))
    net.check_conserved()


async def test_the_payer_ends_while_parts_are_held_and_pays_nothing_twice(net: Diamond) -> None:
    """Asked again after the restart it waits for what stands, and offers nothing."""
    text = await net.ask(15_000, hold=True)
    pending = await net.run(PayInvoice(invoice=text, wait_ms=300))
    parts = pending.attempts
    assert pending.state == "pending" and parts > 1 and pending.fee <= pending.max_fee
    await net.restart("alice")
    held = await net.run(PayInvoice(invoice=text, wait_ms=50))
    assert (held.state, held.repeated, held.attempts) == ("pending", True, parts)
    name = parse_invoice(text).payment_hash.hex()
    asked = asyncio.ensure_future(net.run(PayInvoice(invoice=text)))
    await net.wallets["carol"].invoices.settle(name)
    paid = await asked
    assert (paid.state, paid.repeated, paid.attempts) == ("paid", True, parts)
    await net.quiet()
    net.check_conserved()
    assert sum(net.mine("carol").values()) == 35_000
    assert {each.state for each in (await net.run(ShowPayment(payment=name))).tries} == {"paid"}


async def test_a_payment_costs_two_syncs_of_the_book(net: Diamond) -> None:
    """One before its lock is offered, one when its preimage is seen; all parts together."""
    book = net.wallets["alice"].payments._book
    syncs: list[bool] = []
    put = book.put

    def counted(record: Any, *, synced: bool = True) -> None:
        syncs.append(synced)
        put(record, synced=synced)

    book.put = counted  # type: ignore[method-assign]
    await net.run(PayInvoice(invoice=await net.ask(1_000)))
    await net.quiet()
    assert syncs == [True, True, False]
    syncs.clear()
    await net.run(PayInvoice(invoice=await net.ask(12_000)))
    await net.quiet()
    assert syncs.count(True) == 2


def _base(net: Diamond, hub: str) -> int | None:
    graph = net.wallets["alice"]._routes.graph
    terms = graph.terms(bytes.fromhex(net.channels[f"{hub}-carol"]), net.wallets[hub].address)
    return None if terms is None else terms.fee_base

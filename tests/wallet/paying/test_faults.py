"""What goes wrong while a payment is being tried: it has not failed as long as a lock of it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from layer1.client import LedgerUnreachable
from layer1.errors import Refused
from tests.wallet.paying.diamond import Diamond, diamond
from wallet.forwarding.policy import Terms
from wallet.invoices.invoice import parse_invoice
from wallet.paying.records import Fate
from wallet.requests import PayInvoice

pytestmark = pytest.mark.slow


@pytest.fixture
async def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_scrypt: None) -> AsyncIterator[Diamond]:
    async with diamond(tmp_path, monkeypatch) as found:
        yield found


async def test_a_payment_with_a_lock_under_way_has_not_failed_whatever_the_search_raises(net: Diamond) -> None:
    """Its caller would pay in another way, and a token have its limit back, for money that is still taken."""
    payer, calls = net.wallets["alice"].payments.payer, 0
    find = payer._ways.find

    async def failing(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise LedgerUnreachable("no replica answers")
        return await find(*args)

    payer._ways.find = failing  # type: ignore[method-assign, assignment]
    net.wallets["well"]._parts.passages.terms_of = lambda _: Terms(enabled=False)
    text = await net.ask(15_000)
    name = parse_invoice(text).payment_hash
    paying = asyncio.create_task(net.run(PayInvoice(invoice=text, parts=2)))
    await net.until(lambda: calls > 1)
    await net.until(lambda: _pending(net, name) == 1)
    await net.until(lambda: net.wallets["carol"].invoices.payee.waiting_units(name), "carol")
    assert payer.is_trying(name) and not paying.done()
    await net.wallets["carol"].invoices.cancel(name.hex())
    with pytest.raises(Refused, match="no replica answers"):
        await paying
    await net.quiet()
    assert sum(net.mine("alice").values()) == 20_000


def _pending(net: Diamond, name: bytes) -> int:
    """Locks of a payment of Alice's that stand, or may."""
    payment = net.wallets["alice"].payments.payer.current(name)
    return 0 if payment is None else sum(each.fate is Fate.PENDING for each in payment.attempts)

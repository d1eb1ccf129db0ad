"""What goes wrong while a payment is being tried: it has not failed as long as a lock of it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from layer1.client import LedgerUnreachable
from layer1.errors import Refused
from layer1.ledger.agreements import Lock
from tests.wallet.conftest import World
from tests.wallet.paying import samples
from tests.wallet.paying.diamond import Diamond, diamond
from wallet.forwarding.policy import Terms
from wallet.invoices.invoice import parse_invoice
from wallet.lock_news import Ended
from wallet.paying import core
from wallet.paying.core import Course, Limits
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


async def test_of_two_like_parts_the_one_that_came_back_is_not_taken_for_the_one_that_stands(world: World) -> None:
    """A watchtower that is relied on tells of a lock and of its end at once; a hop gave it back without a reason."""
    payer, name = (await world.load("alice")).payments.payer, samples.HASH
    first, second = samples.attempt(400, 1), samples.attempt(400, 1)
    payment = core.with_attempts(samples.PAYMENT, [first, second])
    payer._trying[name] = cast(Any, SimpleNamespace(errand=None, course=Course(Limits(0)), told=Mock(), ways={}))
    payer._put(payment, synced=True)
    one, other = (Lock(number, 0, 1, first.amount, name, first.expiry_ms) for number in (5, 6))
    payer.lose(first.group_id, Ended(other, "released"))
    payer._stands(name, second, other.id)
    payer._stands(name, first, one.id)
    payer.lose(first.group_id, Ended(one, "claimed", samples.PREIMAGE))
    found = payer.current(name)
    assert found is not None
    assert sorted((each.lock, each.fate) for each in found.attempts) == [(5, Fate.PAID), (6, Fate.FAILED)]


@pytest.mark.parametrize(
    ("known", "fate"),
    [({"lost": False, "doubts": ()}, Fate.FAILED), ({"lost": True, "doubts": ()}, Fate.PENDING),
     ({"lost": False, "doubts": (1,)}, Fate.PENDING)],
)  # fmt: skip
async def test_what_a_copy_may_have_forgotten_is_not_called_failed_when_its_channel_closes(
    world: World, known: dict[str, Any], fate: Fate
) -> None:
    """The lock is not in what the ledger settled on: it never was, or was claimed before."""
    payer, name = (await world.load("alice")).payments.payer, samples.HASH
    only, parts = samples.attempt(1_000), payer._parts
    payer._put(core.with_attempts(samples.PAYMENT, [only]), synced=True)
    host = SimpleNamespace(groups={only.group_id: SimpleNamespace(**known)})
    payer._parts = cast(Any, SimpleNamespace(host=host, signals=parts.signals))
    payer.settled(only.group_id, cast(Any, SimpleNamespace(locks=())))
    payer._parts = parts
    found = payer.current(name)
    assert found is not None and found.fate is fate


def _pending(net: Diamond, name: bytes) -> int:
    """Locks of a payment of Alice's that stand, or may."""
    payment = net.wallets["alice"].payments.payer.current(name)
    return 0 if payment is None else sum(each.fate is Fate.PENDING for each in payment.attempts)

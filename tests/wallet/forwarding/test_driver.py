"""Whole wallets in a row: what a hub forwards is paid, or goes back, whatever happens in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.wallet.forwarding.town import DEPOSIT, FEE, Row, code_of, row
from wallet.invoices.records import Stage

pytestmark = pytest.mark.slow


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


async def test_a_payment_over_a_hub_is_paid_and_the_hub_has_its_fee(three: Row) -> None:
    hashed, secret = await three.ask(500)
    paying, _, origin = await three.send(hashed, secret, 500)
    ended = await asyncio.wait_for(paying, 10)
    assert ended.is_paid, code_of(origin, ended)
    await three.until(lambda: three.mine("hub") == [DEPOSIT + 500 + FEE, DEPOSIT - 500])
    await three.until(lambda: three.mine("bob") == [DEPOSIT + 500])
    assert three.hub._parts.passages.core.passages() == []
    issued = three.payee.invoices.get(hashed)
    assert issued is not None and issued.stage is Stage.PAID
    entries = [entry for entry in three.hub.history() if entry.kind == "forwarded"]
    assert [(entry.amount, entry.channel, entry.via) for entry in entries] == [(FEE, *three.channels)]
    assert (await three.hub.books()).adds_up
    three.check_conserved()


async def test_a_payment_over_two_hubs_is_paid(four: Row) -> None:
    hashed, secret = await four.ask(500)
    paying, _, _ = await four.send(hashed, secret, 500)
    assert (await asyncio.wait_for(paying, 10)).is_paid
    await four.until(lambda: four.mine("bob") == [DEPOSIT + 500])
    await four.until(lambda: sum(four.mine("hub")) == sum(four.mine("other")) == 2 * DEPOSIT + FEE)


async def test_what_the_payee_refuses_goes_back_and_the_payer_reads_why(four: Row) -> None:
    paying, _, origin = await four.send(b"h" * 32, bytes(16), 500)
    assert code_of(origin, await asyncio.wait_for(paying, 10)) == (2, "unknown_payment")
    await four.until(lambda: four.mine("alice") == [DEPOSIT])
    assert sum(four.mine("hub")) == 2 * DEPOSIT and not four.hub._parts.passages.core.passages()

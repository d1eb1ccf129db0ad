"""Invoices between real wallets: made, paid, held, and the payer killed in between."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from layer1.devnet import Devnet
from tests.e2e.cluster import until
from tests.e2e.town import ACCEPT, Town, town

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


async def state_of(place: Town, name: str, payment_hash: str) -> str:
    """Of an invoice, as its payee tells."""
    shown = await place.wallet(name, "invoice", "show", payment_hash[:12])
    listed = await place.wallet(name, "invoice", "list")
    assert payment_hash in [each["payment_hash"] for each in listed["invoices"]]
    return str(shown["state"])


async def test_create_pay_and_prove_it_to_a_third_party(tmp_path: Path, net: Devnet) -> None:
    async with town(tmp_path, net) as place:
        await place.serve("bob", *ACCEPT)
        channel = await place.open("--deposit", "100")
        made = await place.wallet("bob", "invoice", "create", "2.50", "--description", "two coffees")
        assert (made["state"], made["amount"]) == ("open", 250)
        paid = await place.wallet("alice", "invoice", "pay", made["invoice"])
        assert (paid["state"], paid["amount"], paid["repeated"]) == ("paid", 250, False)
        again = await place.wallet("alice", "invoice", "pay", made["invoice"].upper())
        assert (again["state"], again["repeated"], again["attempts"]) == ("paid", True, 1)

        async def settled() -> bool:
            return await state_of(place, "bob", made["payment_hash"]) == "paid"

        await until(settled, "the claim is committed")
        assert (await place.channel("bob", channel))["can_send"] == 250
        receipt = tmp_path / "coffee.receipt"
        await place.wallet("alice", "receipt", "show", made["payment_hash"][:12], "--output", str(receipt))
        genesis = str(tmp_path / "alice" / "genesis.json")
        shown = await place.wallet("", "receipt", "verify", str(receipt), "--genesis", genesis)
        assert (shown["payment_hash"], shown["amount"]) == (made["payment_hash"], 250)
        late = await place.wallet("bob", "invoice", "cancel", made["payment_hash"][:12], code=1)
        assert late["error"]["code"] == "already_paid"


async def test_the_payer_is_killed_while_the_payee_holds(tmp_path: Path, net: Devnet) -> None:
    """Whatever is killed in between, the same command again ends what it began, and pays once."""
    async with town(tmp_path, net) as place:
        await place.serve("bob", *ACCEPT)
        channel = await place.open("--deposit", "100")
        made = await place.wallet("bob", "invoice", "create", "7", "--hold", "--hold-for", "10m")
        alice = await place.serve("alice")
        paying = asyncio.ensure_future(place.wallet("alice", "invoice", "pay", made["invoice"], code=6))

        async def held() -> bool:
            return await state_of(place, "bob", made["payment_hash"]) == "held"

        await until(held, "bob has the lock")
        await alice.kill()
        await paying
        pending = await place.wallet("alice", "invoice", "pay", made["invoice"], "--wait", "1s", code=7)
        assert (pending["state"], pending["attempts"]) == ("pending", 1)
        await place.wallet("bob", "invoice", "settle", made["payment_hash"][:8])
        paid = await place.wallet("alice", "invoice", "pay", made["invoice"])
        assert (paid["state"], paid["repeated"], paid["attempts"]) == ("paid", True, 1)
        view = await place.channel("alice", channel)
        assert (view["balance"], view["peer_balance"]) in {(9_300, 700), (9_300, 0)}, "it was paid once"

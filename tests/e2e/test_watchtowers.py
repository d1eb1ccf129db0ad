"""Watchtowers for real: the customer is killed, its peer wedges stale, and the tower answers.

Source: docs/design/groups.md, rules 9, 12, 15 and 17; decision 032.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from layer1.client import LedgerClient
from layer1.devnet import Devnet
from layer1.ledger.genesis import to_json
from layer1.ledger.records import Forfeit, Group, Reason, Status
from tests.e2e.cluster import until
from tests.e2e.town import ACCEPT, BIN, ENVIRONMENT, FUNDS, Serving, Town, liars_copy, town

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]


async def serve_tower(place: Town, *arguments: str) -> Serving:
    """Start `wallet watchtower serve`, and wait until it is there."""
    with (place.folder / "tower.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            BIN / "wallet",
            *("watchtower", "serve", "--json", "--least-period", "1s", *arguments),
            env={**ENVIRONMENT, "WALLET_HOME": str(place.folder / "tower")},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
    assert "contact" in ready, ready
    place.serving["tower"] = Serving(process, ready["contact"])
    return place.serving["tower"]


async def shown(ledger: LedgerClient, channel: str) -> Group:
    found = (await ledger.group(bytes.fromhex(channel))).value
    assert found is not None
    return found


async def test_the_tower_answers_while_its_customer_is_dead_and_gets_its_bounty(tmp_path: Path, net: Devnet) -> None:
    """ "Customer killed, the peer wedges stale, the tower reports, the liar loses its bond, the tower its bounty."."""
    async with town(tmp_path, net, ["mallory", "bob", "tower"]) as place:
        tower = await serve_tower(place, "--least-bounty", "3")
        bob = await place.serve("bob", *ACCEPT)
        await place.wallet("bob", "watchtower", "add", tower.contact, "--bounty", "5")
        channel = await place.open("--deposit", "100", "--bond", "20", payer="mallory")
        await place.wallet("mallory", "pay", channel, "1")
        liars_copy(tmp_path / "mallory", tmp_path / "old")
        await place.wallet("mallory", "pay", channel, "1", "--count", "60")

        async def entrusted() -> bool:
            view = await place.channel("bob", channel)
            return bool(view["watchtowers"][0]["version"] == view["version"] > 1)

        await until(entrusted, "the tower holds the newest version")
        await bob.kill()
        await tower.kill()
        await serve_tower(place, "--least-bounty", "3")
        await place.wallet("old", "channel", "close", channel, "--force")
        async with LedgerClient(net.urls, net.genesis) as ledger:

            async def over() -> bool:
                return (await shown(ledger, channel)).revealing is not None

            await until(over, "the deadline passes")
            group = await shown(ledger, channel)
            assert group.version > 1 and group.forfeits == (Forfeit.LIE, None) and group.body is None
            await place.serve("bob")  # back at last: it holds the body, and reveals it (rule 12)

            async def closed() -> bool:
                return (await shown(ledger, channel)).status is Status.CLOSED

            await until(closed, "bob reveals the body")
            group = await shown(ledger, channel)
            assert (group.status, group.reason) == (Status.CLOSED, Reason.DEADLINE)
        assert group.payouts == (3_900, 6_100 + 2_000 + 2_000 - 500)
        assert [(bounty.member, bounty.units) for bounty in group.bounties] == [(1, 500)]
        assert await place.balances("tower") == (FUNDS, 500)
        kept = await place.wallet("bob", "watchtower", "prove", channel, "--out", str(tmp_path / "proof"), code=1)
        assert kept["error"]["code"] == "kept"


async def test_a_tower_that_breaks_its_word_is_proven_to_have(tmp_path: Path, net: Devnet) -> None:
    """ "A watchtower that broke its receipt can be proven to have", with the genesis alone."""
    async with town(tmp_path, net, ["mallory", "bob", "tower"]) as place:
        tower = await serve_tower(place)
        bob = await place.serve("bob", *ACCEPT)
        await place.wallet("bob", "watchtower", "add", tower.contact, "--rely")
        channel = await place.open("--deposit", "100", "--bond", "20", payer="mallory")
        await place.wallet("mallory", "pay", channel, "1")
        liars_copy(tmp_path / "mallory", tmp_path / "old")
        await place.wallet("mallory", "pay", channel, "1")

        async def received() -> bool:
            return len(await place.entries("bob", "received")) == 2

        await until(received, "what the tower has receipted is received")
        await bob.kill()
        await tower.kill()  # a tower that sleeps on its word
        await place.wallet("old", "channel", "close", channel, "--force", "--wait")
        proof, genesis = tmp_path / "broken.proof", tmp_path / "genesis.json"
        genesis.write_text(to_json(net.genesis), encoding="utf-8")
        await place.wallet("bob", "watchtower", "prove", channel, "--out", str(proof))
        found = await place.wallet("x", "watchtower", "check-proof", str(proof), "--genesis", str(genesis))
        assert (
            tower.contact.partition("@")[0] in found["broken"] and "settled the group on version 1" in found["broken"]
        )
        damaged = bytearray(proof.read_bytes())
        damaged[120] ^= 1
        proof.write_bytes(damaged)
        refused = await place.wallet("x", "watchtower", "check-proof", str(proof), "--genesis", str(genesis), code=1)
        assert refused["error"]["code"] in ("bad_proof", "bad_receipt", "kept")

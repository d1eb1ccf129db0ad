"""Streams of events over real replica processes: one name for one event, wherever and whenever it is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from layer1.client import ReplicaClient
from layer1.ledger.agreements import GroupAgreement, Member
from layer1.ledger.transactions import OpenGroup, Transaction, sign_transaction
from tests.e2e.cluster import ALICE, BOB, Ledger, ledger, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Told = tuple[str, str, dict[str, Any]]


def opening(net: Ledger) -> Transaction:
    """A small channel, so that there are events of a group as well."""
    members = tuple(Member(key.public, key.public, key.public, 1, 1) for key in (ALICE, BOB))
    agreement = GroupAgreement(net.net.genesis.chain_id, members, 1_000, "payments/2", 500_000, os.urandom(16))
    bare = Transaction(OpenGroup(agreement), 500_000, os.urandom(16))
    signatures = tuple(sign_transaction(bare, net.net.genesis.chain_id, key) for key in (ALICE, BOB))
    return msgspec.structs.replace(bare, signatures=signatures)


async def told(url: str, until_block: int, last: str | None = None, count: int | None = None) -> list[Told]:
    """Events up to the end of a block, or so many. Proofs are left out: each replica has votes of its own in them."""
    found: list[Told] = []
    async with ReplicaClient(url) as replica:
        events = replica.events(after="0", last_event_id=last)
        async for event in events:
            data = msgspec.to_builtins(event.data)
            data.pop("proof", None)
            found.append((event.id, event.kind, data))
            if len(found) == count or (event.kind == "block" and data["height"] == until_block):
                break
        await events.aclose()
    return found


async def test_events_have_one_name_on_all_replicas(tmp_path: Path) -> None:
    """Also on one that was killed meanwhile and fetched what it missed; a reader that changes the replica after each
    event hears each once."""
    async with ledger(tmp_path) as net:
        await net.submit(0, [net.transfer() for _ in range(3)])
        await net.all_have(3, [1])  # what Bob puts into the channel: a replica takes only what its own head can pay
        await net.net.kill(3)
        items = await net.submit(1, [net.transfer(), opening(net), net.transfer()])
        assert {item["code"] for item in items} == {"ok"}
        await net.submit(2, [net.transfer()])
        await net.net.start([3])
        height = int((await net.submit(0, [net.transfer()]))[0]["height"])

        async def stored() -> bool:
            return int((await net.status(3))["stored_height"]) >= height

        await until(stored, "the replica that was killed has caught up")
        whole = await told(net.net.urls[0], height)
        assert {kind for _, kind, _ in whole} == {"transaction", "group", "block"}
        for url in net.net.urls[1:]:
            assert await told(url, height) == whole
        heard: list[Told] = []
        while len(heard) < len(whole):
            last = heard[-1][0] if heard else None
            heard += await told(net.net.urls[len(heard) % 4], height, last, count=1)
        assert heard == whole

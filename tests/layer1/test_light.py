"""A light client that follows the replica set, keeps what it learnt, and takes no filler for the chain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from layer1.block import CommittedBlock
from layer1.client import LedgerClient, LedgerUnreachable
from layer1.codec import decode, encode
from layer1.errors import Refused, RemoteError
from layer1.failover import Stale
from layer1.ledger.records import account_key
from layer1.light import LightClient, Saved
from layer1.proof import AccountProof, Handover, HeadProof, Trust, TwoHandovers, UnknownEpoch
from tests.layer1.api.conftest import Served, served
from tests.layer1.api.stand_in import ALICE, Chain, make_genesis
from tests.layer1.test_client import LIMITS, Net, net

__all__ = ["net", "served"]


def changed(epochs: int = 1, chain: Chain | None = None) -> Chain:
    """A chain on which so many epochs ended; each began with one replica more, and removed the first of the others."""
    chain = chain or Chain(make_genesis())
    for _ in range(epochs):
        chain.commit([chain.transfer()])
        chain.commit([chain.change(add=1, remove=[chain.state.replica_set.numbers[0]])])
    return chain


def account(chain: Chain) -> AccountProof:
    return AccountProof(chain.head, chain.state.account(ALICE.public), chain.state.prove(account_key(ALICE.public)))


# ----------------------------------------------------------------------------------------------------------- handovers


async def test_handovers_are_paged_and_prove_themselves(served: Served) -> None:
    chain = changed(3, served.chain)
    shown: list[Any] = []
    path = "/handovers?limit=2&from=0"
    while True:
        page = await served.get(path)
        shown += page["items"]
        if page["next"] is None:
            break
        path = f"/handovers?limit=2&cursor={page['next']}"
    handovers = [decode(bytes.fromhex(item["encoded"]), Handover) for item in shown]
    assert Trust(chain.genesis, handovers).replica_set == chain.state.replica_set
    assert [(item["epoch"], item["next_epoch"], item["height"]) for item in shown] == [(0, 1, 2), (1, 2, 4), (2, 3, 6)]
    assert [seat["number"] for seat in shown[2]["replicas"]] == [3, 4, 5, 6]
    assert (await served.get("/handovers?from=2"))["items"] == shown[2:]
    assert await served.get("/handovers?from=3") == {"items": [], "next": None}
    await served.problem("/handovers?from=-1", 400, "bad_parameter")
    await served.problem("/handovers?cursor=x", 400, "bad_cursor")


def test_filler_cannot_pass_for_a_boundary() -> None:
    """Its state names the next set as well, but it executed nothing."""
    chain = changed()
    (handover,) = chain.trust.handovers
    with pytest.raises(RemoteError, match="it is filler, the boundary is before it"):
        Trust(chain.genesis).follow(msgspec.structs.replace(handover, head=chain.filler()))


def test_an_epoch_ends_once() -> None:
    one, other = Chain(make_genesis(5)), Chain(make_genesis(5))
    changed(1, one), other.commit(wall_time=9), changed(1, other)
    trust = Trust(one.genesis, one.trust.handovers)
    trust.follow(one.trust.handovers[0])
    with pytest.raises(TwoHandovers) as found:
        trust.follow(other.trust.handovers[0])
    assert (found.value.known, found.value.other) == (one.trust.handovers[0], other.trust.handovers[0])


# ------------------------------------------------------------------------------------------------------------ following


async def test_a_client_follows_the_replica_set_and_reads_on(net: Net) -> None:
    await net.replica()
    client = await net.client()
    await client.account(ALICE.public)
    assert client.trust.replica_set.epoch == 0
    changed(2, net.chain)
    net.order(net.chain.transfer(7))
    assert (await client.account(ALICE.public)).header.epoch == 2
    assert client.trust.replica_set.numbers == (2, 3, 4, 5)
    assert (await client.submit(net.chain.transfer(5))).code == "ok"
    assert len((await client.marks()).value.marks) == 4


async def test_events_follow_the_replica_set(net: Net) -> None:
    await net.replica()
    changed(2, net.chain)
    net.order(net.chain.transfer())
    client = await net.client()
    assert await _blocks(client, 5) == net.chain.headers[1:6]


async def _blocks(client: LedgerClient, count: int) -> list[Any]:
    """The headers of the first blocks that are streamed."""
    found: list[Any] = []
    async with asyncio.timeout(5), aclosing(client.events(after=0)) as events:
        async for event in events:
            if event.header is not None:
                found.append(event.header)
            if len(found) == count:
                break
    return found


async def test_evidence_is_checked_against_the_set_of_its_epoch(net: Net) -> None:
    replica = await net.replica()
    first = net.chain.evidence(1)
    changed(1, net.chain)
    net.order()
    second = net.chain.evidence(1)
    replica.caught = [second, first]
    client = await net.client()
    assert await client.evidence() == [first, second]
    (shown, _) = (await _json(net.urls[0] + "/evidence"))["items"]
    assert (shown["epoch"], shown["key"]) == (0, net.chain.genesis.replicas[1].hex())
    forged = msgspec.structs.replace(first, first=msgspec.structs.replace(first.first, epoch=1))
    replica.caught = [msgspec.structs.replace(forged, second=msgspec.structs.replace(first.second, epoch=1))]
    with pytest.raises(LedgerUnreachable, match="did not sign"):
        await client.evidence()


async def _json(url: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        return await answer.json()


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (lambda items: [], "the replica sets of epochs 0 to 0 are known"),
        (lambda items: items[1:], "the replica sets of epochs 0 to 0 are known"),
        (
            lambda items: [item for item in items if item["epoch"] == 0] * 50,
            "the replica sets of epochs 0 to 1 are known",
        ),
        (lambda items: [{"encoded": "90"}], "do not decode as Handover"),
        (lambda items: [{"encoded": "zz"}], "a page of handovers is a list"),
        (lambda items: [7], "a page of handovers is a list"),
        (lambda items: None, "a page of handovers is a list"),
    ],
)
async def test_who_cannot_show_an_epoch_to_have_begun_lies(net: Net, lie: Callable[[Any], Any], told: str) -> None:
    """And is asked a few times, not for ever; whoever can show it is believed."""
    await net.replica()
    changed(2, net.chain)
    net.order()

    async def relay(request: web.Request) -> web.Response:
        body = await _json(net.urls[0] + request.path_qs)
        if request.path == "/handovers":
            asked.append(request.path_qs)
            body = {"items": lie(body["items"]), "next": "0-0"}
        return web.json_response(body)

    asked: list[str] = []
    await net.liar(relay)
    one_by_one = replace(LIMITS, hedge_ms=20_000, request_ms=20_000, patience_ms=60_000)  # however slow this machine is
    client = await net.client([net.urls[1], net.urls[0]], one_by_one)
    assert (await client.account(ALICE.public)).header.epoch == 2
    assert 1 <= len(asked) <= 3
    alone = await net.client(net.urls[1:])
    with pytest.raises(LedgerUnreachable, match=told):
        await alone.account(ALICE.public)
    assert alone._replicas.all[0].lies > 0


# --------------------------------------------------------------------------------------------------------------- filler


def test_filler_is_no_head_once_the_next_epoch_is_known() -> None:
    chain = changed()
    light = LightClient(chain.genesis)
    filler = chain.filler()
    assert light.newest(filler) == light.head == filler.header, "nobody can tell yet"
    light.follow(chain.trust.handovers)
    assert light.head == chain.tip
    assert light.height == chain.tip.height
    with pytest.raises(RemoteError, match="is filler"):
        light.newest(filler)
    with pytest.raises(RemoteError, match="is filler"):
        light.final(filler)
    chain.commit()
    chain.commit()
    assert light.account(ALICE.public, account(chain)).header == chain.tip, "beside filler, and no attack"


@pytest.mark.slow
async def test_filler_given_out_for_a_block_is_followed_by_the_block(net: Net) -> None:
    """A liar streams what an epoch built behind its end, to those who cannot know yet that it ended."""
    await net.replica()
    changed(1, net.chain)
    filler = net.chain.filler()
    net.order(net.chain.transfer())

    async def lie(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for head in [*(_shown(block) for block in net.chain.blocks[:2]), filler]:
            data = msgspec.json.encode({"proof": encode(head).hex()})
            await response.write(b"id: %d-0\nevent: block\ndata: %s\n\n" % (head.header.height, data))
        return response

    await net.liar(lie)
    client = await net.client([net.urls[1], net.urls[0]])
    chain = net.chain.headers
    net.order()
    assert await _blocks(client, 5) == [chain[1], chain[2], filler.header, chain[3], chain[4]]


def _shown(block: CommittedBlock) -> HeadProof:
    return HeadProof(block.header, block.path, block.finalization)


# ------------------------------------------------------------------------------------------------ freshness, and a file


def test_it_knows_how_fresh_it_is() -> None:
    chain = changed()
    now = [chain.tip.wall_time]
    light = LightClient(chain.genesis, wall_ms=lambda: now[0])
    light.newest(chain.head)
    now[0] += 26_000
    assert (light.age_ms, light.is_fresh) == (26_000, True)
    assert light.account(ALICE.public, account(chain)).value.balance == 999_999
    now[0] += 1
    assert (light.age_ms, light.is_fresh) == (26_001, False)
    with pytest.raises(Stale, match="26001 ms old"):
        light.newest(chain.head)


def test_nothing_below_what_was_seen_is_the_newest_across_epochs() -> None:
    chain = changed()
    light, before = LightClient(chain.genesis), account(chain)
    chain.commit([chain.transfer()])
    light.follow(chain.trust.handovers)
    light.final(chain.head)
    with pytest.raises(Stale, match="the head is block 2, and block 3 is final"):
        light.account(ALICE.public, before)


def test_what_was_learnt_is_kept_in_a_file(tmp_path: Path) -> None:
    chain, path = changed(2), tmp_path / "light"
    light = LightClient.load(chain.genesis, path)
    with pytest.raises(UnknownEpoch):
        light.newest(chain.head)
    light.follow(chain.trust.handovers)
    chain.commit()
    assert light.newest(chain.head) == chain.tip
    assert LightClient.load(chain.genesis, path).trust.replica_set.epoch == 2, "kept as soon as a set was followed"
    light.save()
    again = LightClient.load(chain.genesis, path)
    assert (again.head, again.trust.sets) == (chain.tip, light.trust.sets)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["light"]
    reader = LightClient.load(chain.genesis, path, keep=False)
    chain.commit()
    reader.newest(chain.head)
    reader.save()
    assert LightClient.load(chain.genesis, path).head == again.head, "who only reads does not write"


def test_a_damaged_file_is_refused_with_a_clear_word(tmp_path: Path) -> None:
    """Each byte of it matters: there is none that could be changed unnoticed."""
    chain, path = changed(1), tmp_path / "light"
    light = LightClient.load(chain.genesis, path)
    light.follow(chain.trust.handovers)
    light.newest(chain.head)
    light.save()
    whole = path.read_bytes()
    damaged = [whole[:size] for size in (0, 1, len(whole) - 1)]
    damaged += [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(0, len(whole), 97)]
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(Refused) as refused:
            LightClient.load(chain.genesis, path)
        assert refused.value.code == "bad_light_file"
        assert "Move it away" in refused.value.message
    path.write_bytes(encode(msgspec.structs.replace(decode(whole, Saved), format=2)))
    with pytest.raises(Refused, match="it has format 2, this release reads 1"):
        LightClient.load(chain.genesis, path)
    path.write_bytes(whole)
    with pytest.raises(Refused, match="it is about chain"):
        LightClient.load(make_genesis(name="other"), path)

"""Three honest replicas on real links, and somebody with the key of the fourth who says whatever he likes."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from layer1.block import Batch
from layer1.codec import encode
from layer1.config import load_config, read_key
from layer1.consensus.messages import Fetch, Finalization, Notarize
from layer1.crypto import SigningKey
from layer1.devnet import home_of
from layer1.ledger.genesis import genesis_header
from layer1.link import Link, LinkClosed, connect
from layer1.replica.driver import Replica
from layer1.replica.lanes import Share
from layer1.replica.messages import (
    WIRE_VERSION,
    BatchAnnounce,
    BatchData,
    Blocks,
    BlocksRequest,
    ConsensusMessage,
    FetchBatch,
    FinalBlock,
    Greeting,
    LinkMessage,
)
from layer1.replica.shares import Room
from tests.fuzz import generate
from tests.fuzz.mutate import mutated
from tests.layer1.replica.network import BOB
from tests.layer1.replica.test_driver import make, transfer

pytestmark = pytest.mark.slow

LIAR = 0
"""The lowest index dials all others, and leads the first term."""


@dataclass
class Siege:
    """The honest ones, and the key of the liar."""

    replicas: list[Replica]
    key: SigningKey
    salt: int = 0
    links: list[Link] = field(default_factory=list)

    @property
    def victim(self) -> Replica:
        return self.replicas[0]

    async def dial(self, key: SigningKey | None = None) -> Link:
        victim = self.victim
        greeting = encode(Greeting(WIRE_VERSION, 1))
        link = await connect(
            "127.0.0.1",
            victim.link_port,
            key or self.key,
            victim.genesis.chain_id,
            expect=victim._key.public,
            greeting=greeting,
        )
        self.links.append(link)
        return link

    async def pay(self) -> None:
        """The ledger goes on: somebody pays, by way of the replica that is attacked."""
        self.salt += 1
        ids = self.victim.submit([transfer(self.victim, self.salt)])
        assert list(await self.victim.wait_final(ids, 60_000)) == ids


@asynccontextmanager
async def besieged(directory: Path) -> AsyncIterator[Siege]:
    held = make(directory, 4)
    async with AsyncExitStack() as stack:
        stack.callback(held.release)
        replicas = []
        for index in range(1, 4):
            replica = Replica(load_config(home_of(directory, index), reuse_port=True))
            stack.push_async_callback(replica.stop)
            await replica.start()
            replicas.append(replica)
        siege = Siege(replicas, read_key(home_of(directory, LIAR) / "key"))
        yield siege
        for link in siege.links:
            await link.close()


Attack = Callable[[Siege, random.Random], Iterator[bytes]]


def noise(_: Siege, rng: random.Random) -> Iterator[bytes]:
    while True:
        yield rng.randbytes(rng.randrange(100))


def nonsense(_: Siege, rng: random.Random) -> Iterator[bytes]:
    while True:
        data = generate.encoded(LinkMessage, rng)
        yield rng.choice((data, mutated(data, [data], rng)))


def forged_votes(siege: Siege, rng: random.Random) -> Iterator[bytes]:
    while True:
        view = siege.victim.core.consensus.view + rng.randrange(1, 100)
        yield encode(ConsensusMessage(0, Notarize(0, view, rng.randbytes(32), 2, rng.randbytes(64))))


def forged_batches(siege: Siege, _: random.Random) -> Iterator[bytes]:
    """Only the last signature of each is bad."""
    salt = 10**6
    while True:
        good = [transfer(siege.victim, salt := salt + 1) for _ in range(5)]
        yield encode(BatchData(encode(Batch(LIAR, (*good, transfer(siege.victim, salt := salt + 1, BOB))))))


def unasked_blocks(siege: Siege, rng: random.Random) -> Iterator[bytes]:
    """As much as a link carries."""
    header = genesis_header(siege.victim.genesis)
    block = FinalBlock(header, (rng.randbytes(2**21),), Finalization(0, 1, header.id, ()))
    data = encode(Blocks((block,)))
    while True:
        yield data


def odd_digests(_: Siege, rng: random.Random) -> Iterator[bytes]:
    while True:
        yield encode(BatchAnnounce((rng.randbytes(32), rng.randbytes(10_000))))


FAULTS: list[Attack] = [noise, nonsense, forged_votes, forged_batches, unasked_blocks, odd_digests]


@pytest.mark.parametrize("attack", FAULTS, ids=lambda attack: attack.__name__)
async def test_whoever_breaks_the_protocol_is_cut_off_and_the_ledger_goes_on(tmp_path: Path, attack: Attack) -> None:
    """ "Offenders are cut off": the link ends, and for a while there is no other."""
    async with besieged(tmp_path) as siege:
        await siege.pay()
        link = await siege.dial()
        said = await speak_until_cut(link, attack(siege, random.Random(attack.__name__)))
        peers = siege.victim._peers
        assert peers.cut_off[LIAR] == 1
        assert 32 < siege.victim.misbehaved[LIAR] <= said
        with pytest.raises(LinkClosed, match="refused us"):
            await siege.dial()
        await siege.pay()
        assert siege.victim.status()["cut_off"] == 1
        assert {peer for replica in siege.replicas for peer in replica._peers.cut_off} == {LIAR}
        async with asyncio.timeout(60):
            while siege.victim.status()["verifying"]:  # noqa: ASYNC110 - what it had sent before; nothing tells
                await asyncio.sleep(0)
        peers._conduct._records[siege.victim.genesis.replicas[LIAR]].out_until_s = 0  # the pause is over
        await siege.dial()


async def speak_until_cut(link: Link, messages: Iterator[bytes]) -> int:
    """Say one thing after the other until nobody listens; how many that were."""
    listening = asyncio.ensure_future(listen(link))
    async with asyncio.timeout(60):
        for count, data in enumerate(messages, 1):
            try:
                await link.send(data)
            except LinkClosed:
                await listening
                return count
            if count % 20 == 0 or len(data) > 10_000:
                await asyncio.sleep(0)
    raise AssertionError("there is always more to say")


async def listen(link: Link) -> int:
    """Hear and forget all until the end; how many bytes that were."""
    heard = 0
    try:
        while True:
            heard += len(await link.receive())
    except LinkClosed:
        return heard


def questions(siege: Siege, rng: random.Random) -> Iterator[bytes]:
    """Each of a few bytes; some of the answers are large."""
    while True:
        yield encode(BlocksRequest(rng.choice((1, 1, 1, 2**40))))
        yield encode(FetchBatch(rng.randbytes(32)))
        for _ in range(5):
            yield encode(ConsensusMessage(0, Fetch(None, 1, 2**61)))
        yield encode(ConsensusMessage(0, Fetch(rng.randbytes(32), 0, 0)))
        yield encode(BatchAnnounce(tuple(rng.randbytes(32) for _ in range(5))))


async def test_a_flood_of_questions_is_answered_up_to_an_allowance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is within the protocol, so nobody is cut off; and nobody else waits for it."""
    monkeypatch.setattr("layer1.replica.serving.BURST_BYTES", 50_000)
    monkeypatch.setattr("layer1.replica.serving.BYTES_PER_S", 0)
    async with besieged(tmp_path) as siege:
        await siege.pay()
        link = await siege.dial()
        listening = asyncio.ensure_future(listen(link))
        asked = questions(siege, random.Random(1))
        for _ in range(10):
            for _ in range(200):
                await link.send(next(asked))
            await siege.pay()
        served = siege.victim._peers.links[LIAR]
        assert not served.is_over
        assert served._outbox.size_bytes < 300_000
        assert not siege.victim.core.answering.allowances.has(LIAR, 0)
        assert siege.victim._peers.cut_off == {}
        await link.close()
        heard = await listening
        assert heard < 150_000, heard


def old_truths(siege: Siege, _: random.Random) -> Iterator[bytes]:
    """The same certificate again and again: true, and of no use."""
    data = encode(ConsensusMessage(0, siege.victim.core.application.floor.finalization))  # type: ignore[arg-type]  # final
    while True:
        yield data


async def test_what_is_only_useless_is_passed_over(tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege:
        await siege.pay()
        link = await siege.dial()
        listening = asyncio.ensure_future(listen(link))
        truths = old_truths(siege, random.Random(1))
        for _ in range(2_000):
            await link.send(next(truths))
        await siege.pay()
        assert siege.victim._peers.cut_off == {}
        await link.close()
        await listening


async def test_too_many_good_batches_are_no_fault_and_wait_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An honest replica under load may send more than one that is behind can keep."""
    monkeypatch.setattr("layer1.replica.lanes.MAX_HELD", Share(5, 10**6))
    async with besieged(tmp_path) as siege:
        await siege.pay()
        link = await siege.dial()
        listening = asyncio.ensure_future(listen(link))
        for number in range(200):
            await link.send(encode(BatchData(encode(Batch(LIAR, (transfer(siege.victim, 10**6 + number),))))))
        await siege.pay()
        assert siege.victim._peers.cut_off == {}
        assert siege.victim.core.batches._shares._count[LIAR, False, Room.TRANSACTIONS] <= 5
        await link.close()
        await listening


async def test_without_a_key_of_the_genesis_there_is_nothing_to_say(tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege:
        for _ in range(40):
            with pytest.raises(LinkClosed, match="refused us"):
                await siege.dial(BOB)
        await siege.pay()
        assert siege.victim.status()["strangers"] == 40
        assert siege.victim.status()["misbehaved"] == 0


async def test_ten_thousand_idle_connections_do_not_stop_a_replica(tmp_path: Path, many_files: int) -> None:
    """Half of them on the port of its API, half on that of its links: it orders, answers, and takes a link."""
    count, strangers = min(10_000, many_files - 4_000), list[socket.socket]()
    async with besieged(tmp_path) as siege, aiohttp.ClientSession() as http:
        victim = siege.victim
        ports = (victim.api_port, victim.link_port)
        try:
            for number in range(count):
                strangers.append(await idle(ports[number % 2]))
                if number % (count // 5) == 0:
                    await siege.pay()
                    async with http.get(f"http://127.0.0.1:{victim.api_port}/status") as response:
                        assert (await response.json())["details"]["peers_connected"] >= 2
            link = await siege.dial()
            await siege.pay()
            assert not link.is_over
        finally:
            for stranger in strangers:
                stranger.close()


async def idle(port: int) -> socket.socket:
    """A connection on which nothing ever happens."""
    stranger = socket.socket()
    stranger.setblocking(False)
    await asyncio.get_running_loop().sock_connect(stranger, ("127.0.0.1", port))
    return stranger

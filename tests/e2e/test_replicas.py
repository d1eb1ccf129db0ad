"""Four real replica processes: they order transfers, survive SIGKILL, and keep strangers out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from layer1.codec import encode
from layer1.crypto import SigningKey
from layer1.ledger.genesis import MAX_MONEY
from layer1.link import LinkClosed, connect
from layer1.replica.messages import WIRE_VERSION, Greeting
from tests.e2e.cluster import ALICE, BOB, FUNDS, ledger, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def test_four_replicas_finalize_transfers(tmp_path: Path) -> None:
    """Whatever replica one asks, every one of them executes every transfer, to one state."""
    async with ledger(tmp_path) as net:
        for index in range(4):
            items = await net.submit(index, [net.transfer(10) for _ in range(25)])
            assert {item["code"] for item in items} == {"ok"}
        await net.all_have(1_000)
        await net.same_heads()
        assert await net.balance(0, ALICE) == FUNDS - 1_000


async def test_a_bad_signature_is_refused_and_harms_nobody_else(tmp_path: Path) -> None:
    """ "That transaction is refused, its waiter told"; the others of its list become final."""
    async with ledger(tmp_path) as net:
        good, unsigned = net.transfer(5), net.transfer(7, key=SigningKey(b"m" * 32))
        forged = type(good)(good.payload, good.valid_until_ms, bytes(16), unsigned.signatures)
        url = f"{net.net.urls[1]}/transactions?wait=final"
        headers = {"Content-Type": "application/msgpack"}
        async with net.http.post(url, data=encode([encode(forged)]), headers=headers) as answer:
            assert (await answer.json())["code"] == "bad_signature"
        async with net.http.post(url, data=encode([encode(forged), encode(good)]), headers=headers) as answer:
            statuses = [item["status"] for item in (await answer.json())["items"]]
            assert statuses[0] != "final" and statuses[1] == "final"
        await net.all_have(5)


async def test_the_leader_is_killed_and_the_others_go_on(tmp_path: Path) -> None:
    """f = 1 of 4 may fail at any moment; coming back, it catches up and its vote counts again."""
    async with ledger(tmp_path) as net:
        await net.submit(0, [net.transfer()])
        leader = int((await net.status(0))["leader"])
        alive = [index for index in range(4) if index != leader]
        await net.net.kill(leader)
        for index in alive:
            await net.submit(index, [net.transfer() for _ in range(10)])
        await net.all_have(31, alive)
        await net.net.start([leader])
        await net.all_have(31)
        other = alive[0]
        await net.net.kill(other)  # now nothing is final without the one that came back
        voters = [index for index in range(4) if index != other]
        await net.submit(voters[0], [net.transfer() for _ in range(10)])
        await net.all_have(41, voters)


async def test_all_are_killed_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """ "A crash at any instruction loses nothing that was acknowledged."."""
    async with ledger(tmp_path) as net:
        acknowledged = 0

        async def pay(index: int) -> None:
            nonlocal acknowledged
            while True:
                await net.submit(index, [net.transfer() for _ in range(5)])
                acknowledged += 5

        payers = [asyncio.create_task(pay(index)) for index in range(4)]

        async def enough() -> bool:
            return acknowledged >= 100

        await until(enough, "100 transfers are acknowledged")
        await net.net.kill(*range(4))
        await asyncio.gather(*payers, return_exceptions=True)
        await net.net.start()

        async def back() -> bool:
            return all([await net.balance(index) >= acknowledged for index in range(4)])

        await until(back, f"all replicas have {acknowledged} acknowledged transfers")
        await net.submit(2, [net.transfer()])
        await net.same_heads()
        assert await net.balance(0) + await net.balance(0, ALICE) == FUNDS


async def test_a_restarted_devnet_continues_where_it_was(tmp_path: Path) -> None:
    """A clean stop and a start of the same directory: same chain, same ports if they are free."""
    async with ledger(tmp_path) as net:
        await net.submit(0, [net.transfer(3)])
        urls, chain = net.net.urls, net.net.genesis.chain_id
    async with ledger(tmp_path) as net:
        assert (net.net.urls, net.net.genesis.chain_id) == (urls, chain)
        await net.all_have(3)
        await net.submit(3, [net.transfer(4)])
        await net.all_have(7)


async def test_two_devnets_never_collide(tmp_path: Path) -> None:
    """No fixed ports; a killed replica's port refuses connections."""
    async with ledger(tmp_path / "a") as one, ledger(tmp_path / "b") as two:
        assert not set(one.net.urls) & set(two.net.urls)
        await one.submit(0, [one.transfer()])
        await one.net.kill(0)
        refused = one.net.children[0].config.api
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(refused.host, refused.port)
        assert await two.balance(0) == 0


async def test_a_stranger_gets_no_link(tmp_path: Path) -> None:
    """ "Only keys of the replica set are admitted: a stranger gets nothing"."""
    async with ledger(tmp_path) as net:
        address, chain = net.net.children[1].config.link, net.net.genesis.chain_id
        greeting = encode(Greeting(WIRE_VERSION, MAX_MONEY))
        with pytest.raises(LinkClosed):
            await connect(address.host, address.port, BOB, chain, expect=None, greeting=greeting)
        await net.submit(1, [net.transfer()])
        assert (await net.status(1))["peers_connected"] == 3


async def test_garbage_on_a_link_harms_nothing(tmp_path: Path) -> None:
    """Bytes that are no handshake, no TLS, no HTTP: dropped, counted, and the ledger goes on."""
    async with ledger(tmp_path) as net:
        address = net.net.children[1].config.link
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4_096), b"\x16\x03\x01" + bytes(60_000)):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(garbage)
            answer = b""
            try:
                async with asyncio.timeout(8):
                    answer = await reader.read(65_536)
            except OSError:
                pass
            assert b"wedge" not in answer
            writer.close()
        await net.submit(1, [net.transfer()])
        await net.all_have(1)


async def test_the_command_runs_a_devnet_and_stops_it_cleanly(tmp_path: Path) -> None:
    """`layer1 devnet` writes its endpoints once all answer; SIGTERM ends it and every child."""
    ready = tmp_path / "ready.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "layer1.cli", "devnet", str(tmp_path / "net"), "--replicas", "1",
        "--ready-file", str(ready), "--json", stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async def is_ready() -> bool:
        return ready.exists()

    await until(is_ready, "the ready file is there")
    ready_told = json.loads(ready.read_text())
    pid = ready_told["replicas"][0]["pid"]
    status = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "layer1.cli", "status", "--api", ready_told["replicas"][0]["api"], "--json",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told = json.loads((await status.communicate())[0])
    assert told["health"]["state"] == "healthy"
    rows = told["replicas"]
    assert [(row["index"], row["error"], row["lag"]) for row in rows] == [(0, None, 0)]
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

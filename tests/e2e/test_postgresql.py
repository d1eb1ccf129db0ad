"""Real replicas on a real PostgreSQL server, which the test starts, kills and starts again."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from layer1.codec import decode
from layer1.devnet import Devnet, Plan, home_of, initialize
from layer1.errors import LocalError
from layer1.ledger.genesis import Allocation, Parameters
from layer2.messages import Command
from layer2.payments import Pay
from tests.e2e.cluster import ALICE, FUNDS, Ledger, ledger, until
from tests.e2e.town import ACCEPT, TREASURY, town
from tests.e2e.town import FUNDS as MONEY
from tests.postgres import DURABLE, PASSWORD, Server

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.postgresql]


@pytest.fixture
def server() -> Iterator[Server]:
    """One that may be killed."""
    with Server(*DURABLE) as running:
        yield running


def place(directory: Path, server: Server, allocations: tuple[Allocation, ...]) -> None:
    """Make a ledger of four replicas, each with a schema of its own on one server."""
    parameters = Parameters(view_timeout_ms=300, heartbeat_ms=1_000)
    initialize(directory, Plan(allocations=allocations, parameters=parameters))
    for index in range(4):
        path = home_of(directory, index) / "replica.toml"
        path.write_text(f"database_url = {json.dumps(server.new_schema(f'replica{index}'))}\n{path.read_text()}")


@asynccontextmanager
async def ledger_on(directory: Path, server: Server) -> AsyncIterator[Ledger]:
    place(directory, server, (Allocation(ALICE.public, FUNDS),))
    async with ledger(directory) as net:
        yield net


def stored(server: Server, index: int) -> list[tuple[Any, ...]]:
    """What a replica's database holds, in order: each transaction with the block that it stands in."""
    return server.execute(
        f"SELECT b.height, b.id, t.position, t.id, t.code, t.body, t.output FROM replica{index}.blocks b "
        f"LEFT JOIN replica{index}.transactions t USING (height) ORDER BY b.height, t.position"
    )


def gaps(server: Server, index: int) -> int:
    """How many blocks are missing below the last one."""
    ((missing,),) = server.execute(f"SELECT max(height) - count(*) FROM replica{index}.blocks")
    assert isinstance(missing, int)
    return missing


def check_no_password(server: Server, net: Devnet) -> None:
    """In no log, of ours or of the server, and on no command line."""
    said = server.log()
    for index, child in enumerate(net.children):
        said += net.log_path(index).read_text()
        if child.process is not None and child.running:
            said += Path(f"/proc/{child.process.pid}/cmdline").read_text()
    assert "replica 0 listens" in said
    assert PASSWORD not in said


async def test_the_server_is_killed_and_the_replicas_go_on(tmp_path: Path, server: Server) -> None:
    """An outage costs readers their answers, and nobody a block; back again, the database has everything."""
    async with ledger_on(tmp_path, server) as net:
        (before,) = await net.submit(0, [net.transfer()])
        server.kill()
        for index in range(4):
            items = await net.submit(index, [net.transfer() for _ in range(5)])
            assert {item["code"] for item in items} == {"ok"}, "final without the database"
        await net.all_have(21)
        async with net.http.get(f"{net.net.urls[1]}/transactions/{before['id']}") as answer:
            told = await answer.json()
            assert (answer.status, told["code"]) in [(503, "busy"), (503, "catching_up")]
            assert str(server.directory) not in told["detail"]
        assert int((await net.status(1))["waiting_for_database"]) >= 20

        await net.net.kill(3)
        with pytest.raises(LocalError, match="Start again when the database answers"):
            await net.net.start([3])
        server.start()
        await net.net.start([3])
        await net.submit(3, [net.transfer()])
        await net.all_have(22)

        async def all_stored() -> bool:
            found = [await net.status(index) for index in range(4)]
            return all(status["waiting_for_database"] == 0 and status["stored_height"] > 0 for status in found)

        await until(all_stored, "all blocks are in the databases")
        counts = [sum(row[3] is not None for row in stored(server, index)) for index in range(4)]
        assert counts == [22] * 4
        assert [gaps(server, index) for index in range(4)] == [0] * 4
        log = net.net.log_path(0).read_text()
        assert log.count("it is tried again") == log.count("the database answers again") == 1
        check_no_password(server, net.net)
    rows = [stored(server, index) for index in range(4)]
    shortest = min(map(len, rows))
    assert all(each[:shortest] == rows[0][:shortest] for each in rows), "all databases tell one history"


async def test_replicas_with_one_database_are_told_apart(tmp_path: Path, server: Server) -> None:
    """The variable of one user reaches all replicas of a devnet: the second one refuses, and says what to do."""
    place(tmp_path, server, ())
    for index in range(4):
        path = home_of(tmp_path, index) / "replica.toml"
        path.write_text(path.read_text().replace(f"search_path%3Dreplica{index}", "search_path%3Dreplica0"))
    with pytest.raises(LocalError, match="give each a database"):
        async with ledger(tmp_path):
            pass


@pytest.mark.timeout(180)
async def test_a_channel_lives_while_replica_wallet_and_server_are_killed(tmp_path: Path, server: Server) -> None:
    """Replicas and wallets keep what one queries on one server; no payment waits for it, and nothing is lost."""
    place(tmp_path / "ledger", server, (Allocation(TREASURY.public, 10 * MONEY),))
    async with Devnet(tmp_path / "ledger") as net, town(tmp_path, net) as homes:
        for name in ("alice", "bob"):
            config = tmp_path / name / "wallet.toml"
            config.write_text(f"{config.read_text()}database_url = {json.dumps(server.new_schema(name))}\n")
        bob = await homes.serve("bob", *ACCEPT)
        channel = await homes.open("--deposit", "100", "--peer-deposit", "50")
        await homes.wallet("alice", "pay", channel, "0.10", "--count", "50", "--memo", "tea")
        await net.kill(2)
        server.kill()
        paid = await homes.wallet("alice", "pay", channel, "0.10", "--count", "50", "--memo", "in the dark")
        assert paid["committed"] == 50, "no payment waits for the database"
        await bob.kill()
        await homes.serve("bob", *ACCEPT)
        server.start()
        await net.start([2])
        closed = await homes.wallet("alice", "channel", "close", channel)
        assert (closed["reason"], closed["paid_out"], closed["peer_paid_out"]) == ("final", 9_000, 6_000)
        await check_histories(server, channel)
        await homes.serving["bob"].stop()
        said = (tmp_path / "bob.log").read_text()
        assert "goes on without" in said and "written again" in said
        assert PASSWORD not in said
        check_no_password(server, net)
    files = {path for name in ("alice", "bob") for path in os.listdir(tmp_path / name)}
    assert "wallet.toml" in files
    assert not files & {"history.waiting", "wallet.db"}


async def check_histories(server: Server, channel: str) -> None:
    """Both sides have each payment once, and the channel's begin and end."""

    def counted(name: str) -> list[tuple[str, str, int]]:
        """(kind, memo, how many); the payments of a version are one row."""
        found: Counter[tuple[str, str]] = Counter()
        query = f"SELECT kind, member, commands FROM {name}.entries WHERE channel = '{channel}'"
        for kind, member, commands in server.execute(query):
            if not isinstance(commands, bytes):
                found[str(kind), "-"] += 1
                continue
            for command in decode(commands, tuple[Command, ...]):
                memo = decode(command.payload, Pay).memo.decode()
                found["paid" if command.member == member else "received", memo] += 1
        return sorted((kind, memo, count) for (kind, memo), count in found.items())

    for name, kind in (("alice", "paid"), ("bob", "received")):
        payments = [(kind, memo, 50) for memo in ("in the dark", "tea")]
        whole = sorted([("opened", "-", 1), ("closed", "-", 1), *payments])

        async def there(name: str = name, whole: list[Any] = whole) -> bool:
            return counted(name) == whole

        await until(there, f"all of {name}'s history is in the database")

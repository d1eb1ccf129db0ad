"""Real replica processes whose disks are lost, damaged or brought back from yesterday."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from layer1.devnet import Plan, home_of, initialize
from layer1.ledger.genesis import Allocation, Parameters
from tests.e2e.cluster import ALICE, FUNDS, Ledger, ledger, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
LOST, OTHER = 2, 1


def prepare(directory: Path) -> None:
    """A ledger with short terms, so that a replica that rejoined soon may vote again."""
    parameters = Parameters(view_timeout_ms=300, heartbeat_ms=2_000, term_views=4)
    initialize(directory, Plan(allocations=(Allocation(ALICE.public, FUNDS),), parameters=parameters))


async def pay_until_it_votes(net: Ledger, index: int, balance: int) -> int:
    """Pay until this replica is past the view from which on it votes; what Bob has then."""
    for _ in range(100):
        status = await net.status(index)
        if status["view"] > status["vote_from"] > 0:
            return balance
        await net.submit(0, [net.transfer()])
        balance += 1
    raise AssertionError(f"{status['view']} is not past {status['vote_from']}")


async def stopped(home: Path) -> str:
    """What `layer1 start` says before it ends by itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "layer1.cli", "start", "--home", str(home),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1, said
    return said.decode()


async def test_a_replica_that_lost_its_disk_rejoins_and_votes(tmp_path: Path) -> None:
    """From nothing but key and configuration it catches up from genesis, and then its vote is needed and given."""
    prepare(tmp_path)
    async with ledger(tmp_path) as net:
        await net.submit(0, [net.transfer() for _ in range(10)])
        await net.net.kill(LOST)
        data = home_of(tmp_path, LOST) / "data"
        for segment in (data / "journal").glob("segment-*"):
            segment.unlink()
        assert "is missing" in await stopped(home_of(tmp_path, LOST)), "an empty one is no new one"
        shutil.rmtree(data)
        assert "start with --rejoin" in await stopped(home_of(tmp_path, LOST))
        await net.submit(0, [net.transfer() for _ in range(10)])
        await net.net.start([LOST], options=["--rejoin"])
        await net.all_have(20)
        status = await net.status(LOST)
        assert status["generation"] == 2
        assert status["vote_from"] > 0
        balance = await pay_until_it_votes(net, LOST, 20)
        await net.net.kill(OTHER)  # from here on nothing is final without it
        voters = [index for index in range(4) if index != OTHER]
        await net.submit(0, [net.transfer() for _ in range(10)])
        await net.all_have(balance + 10, voters)
        await net.net.kill(LOST)
        await net.net.start([LOST, OTHER])  # as usual: the journal is there now
        await net.all_have(balance + 10)
        assert (await net.status(LOST))["vote_from"] == status["vote_from"]


async def test_an_old_copy_of_the_journal_stops_the_replica(tmp_path: Path) -> None:
    """Its peers know a later generation, say so, and take no link from it."""
    prepare(tmp_path)
    data, copy = home_of(tmp_path, LOST) / "data", tmp_path / "yesterday"
    async with ledger(tmp_path) as net:
        await net.submit(0, [net.transfer()])
        await net.net.kill(LOST)
        shutil.copytree(data, copy)
        shutil.rmtree(data)
        await net.net.start([LOST], options=["--rejoin"])
        await net.all_have(1)
        await net.net.kill(LOST)
        shutil.rmtree(data)
        shutil.copytree(copy, data)
        await net.net.start([LOST])

        async def is_gone() -> bool:
            return not net.net.children[LOST].running

        await until(is_gone, "the replica on the old copy stops")
        assert "runs on an old copy of its journal: it has generation 1" in net.net.log_tail(LOST)
        assert "--rejoin" in net.net.log_tail(LOST)
        await net.net.start([LOST], options=["--rejoin"])  # sets the old copy aside
        await net.submit(0, [net.transfer()])
        await net.all_have(2)
        assert (await net.status(LOST))["generation"] == 3
        assert (data / "journal.lost-1").is_dir()


async def test_a_damaged_journal_stops_the_process_with_one_clear_message(tmp_path: Path) -> None:
    """ "A corrupt journal stops the replica with an explanation, never with a guess": file, offset, remedy."""
    prepare(tmp_path)
    home = home_of(tmp_path, LOST)
    async with ledger(tmp_path) as net:
        for _ in range(5):
            await net.submit(LOST, [net.transfer()])
        await net.net.kill(LOST)
        path = sorted((home / "data" / "journal").glob("segment-*"))[-1]
        data = bytearray(path.read_bytes())
        end = len(bytes(data).rstrip(b"\0"))
        data[end // 2] ^= 1
        path.write_bytes(data)
        said = await stopped(home)
        assert f"{path}: damaged at byte" in said
        assert "start with --rejoin" in said
        assert said.count("\n") == 1, "one message, no traceback"
        await net.net.start([LOST], options=["--rejoin"])
        await net.all_have(5)


async def test_a_torn_tail_is_dropped(tmp_path: Path) -> None:
    """What no sync confirmed, nobody relied on."""
    prepare(tmp_path)
    home = home_of(tmp_path, LOST)
    async with ledger(tmp_path) as net:
        await net.submit(LOST, [net.transfer()])
        await net.net.kill(LOST)
        path = sorted((home / "data" / "journal").glob("segment-*"))[-1]
        data = path.read_bytes()
        end = len(data.rstrip(b"\0"))
        path.write_bytes(data[: end + 8] + b"torn" + data[end + 12 :])
        await net.net.start([LOST])
        await net.submit(0, [net.transfer()])
        await net.all_have(2)
        assert "that a crash tore" in (home / "replica.log").read_text()

"""Real replica processes that start from a snapshot: nothing below it is executed, and nothing is believed unproven."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from layer1.devnet import Plan, home_of, initialize
from layer1.ledger.genesis import Allocation, Parameters
from tests.e2e.cluster import ALICE, FUNDS, Ledger, ledger

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
LATE, BLOCKS, KEPT = 3, 5, 3


def prepare(directory: Path) -> None:
    """A ledger whose replicas take checkpoints often, offer them soon, and keep little."""
    parameters = Parameters(view_timeout_ms=300, heartbeat_ms=2_000, term_views=4)
    initialize(directory, Plan(allocations=(Allocation(ALICE.public, FUNDS),), parameters=parameters))
    for index in range(4):
        path = home_of(directory, index) / "replica.toml"
        text = path.read_text()
        for key, old, new in (("blocks", 5000, BLOCKS), ("offer_blocks", 10000, 2 * BLOCKS), ("keep_blocks", 0, KEPT)):
            assert f"# {key} = {old}\n" in text
            text = text.replace(f"# {key} = {old}\n", f"{key} = {new}\n")
        path.write_text(text)


async def pay(net: Ledger, blocks: int) -> None:
    for _ in range(blocks):
        await net.submit(0, [net.transfer()])


async def verified(home: Path) -> None:
    """`layer1 verify` finds nothing wrong in a stopped replica's data."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "layer1.cli", "verify", str(home), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said.decode()


async def test_a_replica_that_lost_everything_starts_from_a_snapshot_and_is_needed(tmp_path: Path) -> None:
    """Where all peers have forgotten the first blocks; then its vote counts, and others could start from it."""
    prepare(tmp_path)
    async with ledger(tmp_path) as net:
        await pay(net, 5)
        await net.net.kill(LATE)
        shutil.rmtree(home_of(tmp_path, LATE) / "data")
        await pay(net, 30)
        for peer in range(LATE):  # what is in their memory they would give, block by block
            await net.net.kill(peer)
            await net.net.start([peer])
        await net.net.start([LATE], options=["--rejoin"])
        await net.all_have(35)
        status = await net.status(LATE)
        assert status["oldest_block"] > 15, "below the snapshot it has nothing"
        async with net.http.get(f"{net.net.urls[LATE]}/blocks/1") as answer:
            assert answer.status == 410
        await pay(net, 10)
        await net.net.kill(0)
        await net.submit(1, [net.transfer() for _ in range(5)])
        await net.all_have(50, [1, 2, LATE])
        await net.net.start([0])
        await net.all_have(50)
        await net.same_heads()
        assert "a snapshot of height" in net.net.log_path(LATE).read_text()
    for index in range(4):
        await verified(home_of(tmp_path, index))


async def test_a_replica_that_forgot_its_first_blocks_and_lost_its_state_rebuilds_it_from_its_peers(
    tmp_path: Path,
) -> None:
    """Its database cannot be executed from genesis on: it keeps its votes, and the others have a state."""
    prepare(tmp_path)
    data = home_of(tmp_path, LATE) / "data"
    async with ledger(tmp_path) as net:
        await pay(net, 25)
        await net.all_have(25)
        assert (await net.status(LATE))["oldest_block"] > 1
        await net.net.kill(LATE)
        (data / "checkpoint").write_bytes(b"lost")
        await pay(net, 15)
        await net.net.start([LATE], options=["--rebuild"])
        await net.all_have(40)
        await net.net.kill(0)
        await net.submit(1, [net.transfer()])
        await net.all_have(41, [1, 2, LATE])
        assert "the state comes from the peers" in net.net.log_path(LATE).read_text()

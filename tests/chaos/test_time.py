"""Wrong clocks, a leader that backdates, and one that stands still (consensus.md, "Time" and rules 6 to 9)."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from layer1.client import LedgerClient
from tests.chaos.clients import LIMITS
from tests.chaos.cluster import PARAMETERS, REPLICAS, Cluster, account_key, cluster

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def transfer(net: Cluster, client: LedgerClient) -> None:
    """Make one transfer final, in a block of a time that is within the drift bound of the true one.

    Its block is proposed after it was submitted and final before it is acknowledged; a voter whose clock is right
    refuses a time that is older than the bound, and waits for one that is further ahead. The ledger clock follows.
    """
    began_ms = net.now_ms()
    transaction = await client.new_transfer(account_key(0), account_key(1).public, 1)
    assert (await client.submit(transaction)).code == "ok"
    ended_ms, found = net.now_ms(), await client.output(transaction.id)
    assert found is not None
    made_ms, bound_ms = found.header.wall_time - net.genesis.wall_time, net.genesis.parameters.drift_bound_ms
    assert began_ms - bound_ms <= made_ms <= ended_ms + bound_ms
    assert began_ms - bound_ms <= found.header.clock <= ended_ms + bound_ms


async def test_a_clock_within_the_bound_takes_part_and_one_beyond_it_is_done_without(tmp_path: Path) -> None:
    """ "clocks of honest replicas are within the drift bound | blocks are refused until they are"."""
    wrong, bound_ms = 1, PARAMETERS.drift_bound_ms
    async with cluster(tmp_path) as net, net.client(limits=LIMITS) as client:
        for offset_ms in (bound_ms * 7 // 10, -bound_ms * 7 // 10):
            net.skew(wrong, offset_ms)
            net.kill(3)  # nothing is final without the wrong one
            for _ in range(2 * PARAMETERS.term_views):
                await transfer(net, client)
            await net.start([3])
        for offset_ms in (20 * bound_ms, -20 * bound_ms):
            net.skew(wrong, offset_ms)
            for _ in range(2 * PARAMETERS.term_views):
                await transfer(net, client)
        net.skew(wrong, 0)
        net.kill(3)
        await transfer(net, client)
        await net.one_chain([0, 1, 2])


async def test_a_leader_that_backdates_holds_the_clock_up_by_no_more_than_the_bound(tmp_path: Path) -> None:
    """ "Older than the drift bound when first received: invalid": its term ends, and the next leader tells the time."""
    liar = 1
    parameters = structs.replace(PARAMETERS, term_views=32, drift_bound_ms=500)
    async with cluster(tmp_path, roles={liar: "backdating"}, parameters=parameters) as net:
        async with net.client(net.honest, limits=LIMITS) as client:
            leaders: list[int] = []
            while liar not in leaders or leaders[-1] == liar:
                await transfer(net, client)
                leader = int((await net.status(net.honest[0]))["leader"])
                leaders += [leader] if leaders[-1:] != [leader] else []
        headers = await net.headers(net.honest[0])
        steps = list(pairwise(headers))
        assert all(late["clock"] - early["clock"] == late["wall_time"] - early["wall_time"] for early, late in steps)
        stands_still = [_leader(net, late) for early, late in steps if late["clock"] == early["clock"]]
        goes_on = [_leader(net, late) for early, late in steps if late["clock"] > early["clock"]]
        assert stands_still.count(liar) > 1
        assert {0, 2} <= set(goes_on)
        assert await net.accused(net.honest[0]) == set()


def _leader(net: Cluster, header: dict[str, Any]) -> int:
    """Who proposed this block."""
    return int(header["view"]) // net.genesis.parameters.term_views % REPLICAS


async def test_a_stopped_leader_costs_one_timeout(tmp_path: Path) -> None:
    """ "a dead leader costs one timeout, not one per view"; it goes on as if nothing had been, and follows."""
    parameters = structs.replace(PARAMETERS, view_timeout_ms=2_000, term_views=64)
    async with cluster(tmp_path, parameters=parameters) as net:
        first = await net.status(0)
        leader, term = int(first["leader"]), int(first["term"])
        others = [index for index in range(REPLICAS) if index != leader]
        async with net.client(others) as client:
            await transfer(net, client)
            net.pause(leader)
            began = time.monotonic()
            for _ in range(5):
                await transfer(net, client)
            assert time.monotonic() - began < 2 * parameters.view_timeout_ms / 1000
            assert [(await net.status(index))["term"] for index in others] == [term + 1] * 3
            net.resume(leader)
            await net.one_chain(range(REPLICAS))
            net.kill(others[-1])  # nothing is final without the one that was stopped
            await transfer(net, client)

"""Clients that write and read through crashes, pauses, partitions, slow links and wrong clocks see one ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.cluster import cluster
from tests.chaos.nemesis import LINKS, ONE_AT_A_TIME, PROCESSES
from tests.chaos.run import run

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def test_what_one_client_reads_and_writes_is_linearizable_through_everything(tmp_path: Path) -> None:
    """Nothing acknowledged is lost, nothing happens twice, nothing is read that was not there; then all goes on."""
    async with cluster(tmp_path) as net:
        outcome = await run(net, 21, PROCESSES, LINKS, allied=True)
        assert outcome.during > 0


async def test_what_others_did_is_known_as_soon_as_a_head_counts_as_old(tmp_path: Path) -> None:
    """Clients that do not know of each other: each reads its own writes, and the others' within the promised time."""
    async with cluster(tmp_path) as net:
        outcome = await run(net, 3, ONE_AT_A_TIME)
        assert outcome.during > 20

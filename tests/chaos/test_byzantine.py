"""With a Byzantine process among four, clients see one ledger, and no honest replica is accused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.cluster import cluster
from tests.chaos.nemesis import ONE_AT_A_TIME
from tests.chaos.run import run

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LIAR = 1
CONTRADICTS = {"equivocating", "voting twice", "nullifying"}
"""Roles that sign two things that exclude each other, which is evidence."""
PLAYED = ("equivocating", "voting twice", "nullifying", "silent", "withholding", "babbling", "old news")
"""The simulator plays all; `backdating` has a test of its own (test_time.py)."""


@pytest.mark.parametrize("role", PLAYED)
async def test_a_byzantine_process_deceives_nobody(tmp_path: Path, role: str) -> None:
    """Through faults of others on top of it, one at a time: more than f at once may stop the ledger, not fork it."""
    for seed in (2, 3, 4):  # some roles lie only when they are asked in the right moment
        (tmp_path / str(seed)).mkdir()
        async with cluster(tmp_path / str(seed), roles={LIAR: role}) as net:
            await run(net, seed, ONE_AT_A_TIME, allied=True)
            accused = set[int]().union(*[await net.accused(index) for index in net.honest])
            assert accused <= {LIAR}
            if net.lies(LIAR):
                assert accused or role not in CONTRADICTS
                return
    pytest.fail("it never found an occasion to lie")

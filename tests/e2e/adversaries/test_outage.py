"""Adversary: it wedges with an old state just before layer 1 goes down, and hopes for the deadline.

Nobody reports to a ledger that stands still; but neither does a deadline come: the ledger clock moves on by one step
(`max_step`, a parameter of the genesis, far below any challenge period) over an outage, however long it is.

Source: docs/design/architecture.md, "Time": "stands still while the ledger is down, so no outage can eat a challenge
window"; groups.md, rules 8, 9 and 18.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from layer1.devnet import Devnet, Plan, initialize
from layer1.ledger.genesis import Allocation, Parameters
from layer1.ledger.records import Forfeit
from tests.e2e.adversaries.liar import Liar, play
from tests.e2e.adversaries.stage import BOND, DEPOSIT, Stage, stage
from tests.e2e.cluster import until
from tests.e2e.town import FUNDS, TREASURY

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]
PERIOD_MS = 6_000
MAX_STEP_MS = 1_500
"""All that an outage takes from a period; the least that this ledger's heartbeat and view timeout allow is 1,400."""


class Waiting(Liar):
    """Wedges stale, and waits for bad luck."""


@pytest_asyncio.fixture(loop_scope="package")
async def net(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Devnet]:
    """A ledger of this story's own: it is stopped."""
    directory = tmp_path_factory.mktemp("ledger")
    parameters = Parameters(view_timeout_ms=300, heartbeat_ms=800, max_step_ms=MAX_STEP_MS)
    initialize(directory, Plan(allocations=(Allocation(TREASURY.public, 10 * FUNDS),), parameters=parameters))
    async with Devnet(directory) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, net: Devnet) -> AsyncIterator[Stage]:
    """Bob, and who waits for an outage."""
    async with stage(tmp_path_factory.mktemp("stage"), net, __name__) as running:
        yield running


def send(number: int, *processes: asyncio.subprocess.Process | None) -> None:
    """A signal, to all of these."""
    for process in processes:
        assert process is not None
        process.send_signal(number)


async def test_an_outage_across_the_deadline_takes_nothing_from_who_has_to_answer(on: Stage, net: Devnet) -> None:
    """By the wall clock the whole period passes while layer 1 is down; Bob's report counts all the same."""
    channel = await on.opened(period_ms=PERIOD_MS)
    await on.mallory.does("pay", channel=channel, amount=1_000)
    await on.mallory.does("pay", channel=channel, amount=4_000)
    bob, replicas = on.place.serving["bob"].process, [child.process for child in net.children]
    send(signal.SIGSTOP, bob)  # so that he cannot have answered before
    assert await on.mallory.does("wedge", channel=channel, back=1) == "ok"
    wedged = await on.group(channel)
    send(signal.SIGSTOP, *replicas)
    send(signal.SIGCONT, bob)
    over = time.monotonic() + PERIOD_MS / 1_000 + 1

    async def passed() -> bool:
        return time.monotonic() > over

    await until(passed, "the whole period is over, by the wall clock")
    send(signal.SIGCONT, *replicas)
    end = await on.settled(channel)
    assert (end.version, end.bob_forfeits, end.mallory_forfeits) == (2, None, Forfeit.LIE)
    assert (end.bob, end.mallory) == (DEPOSIT + 5_000 + 2 * BOND, DEPOSIT - 5_000)
    closed = (await on.group(channel)).closed_clock_ms
    assert closed is not None and wedged.deadline_ms is not None and closed < wedged.deadline_ms


if __name__ == "__main__":
    play(Waiting())

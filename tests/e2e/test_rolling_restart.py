"""An upgrade, as docs/operating.md has it: replicas restarted one after the other while clients go on paying."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from layer1.cli_status import _collect
from layer1.health import State, assess
from tests.e2e.cluster import ALICE, FUNDS, ledger, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def test_replicas_restarted_one_by_one_under_load_lose_nothing_and_stop_nobody(tmp_path: Path) -> None:
    """Payments become final while each of the four is away, and `layer1 status` names who it is."""
    async with ledger(tmp_path) as net:
        acknowledged, away = 0, -1

        async def pay() -> None:
            """At any replica but the one that is away, or about to be."""
            nonlocal acknowledged
            while True:
                index = (away + 1) % 4
                items = await net.submit(index, [net.transfer() for _ in range(5)])
                acknowledged += sum(item.get("code") == "ok" for item in items)

        async def paid_more(than: int) -> None:
            async def more() -> bool:
                return acknowledged > than

            await until(more, f"more than {than} payments are final")

        paying = asyncio.create_task(pay())
        for index in range(4):
            away = index
            await paid_more(acknowledged + 5)  # what was on its way to this one has come back
            await net.net.terminate(index)
            await paid_more(acknowledged + 5)
            health = assess(*await _collect([net.net.urls[(index + 1) % 4]], None))
            assert health.state is State.DEGRADED
            assert health.findings[0].startswith(f"replica {index} does not answer")
            await net.net.start([index])

            async def whole() -> bool:
                """The next one may go only when this one is back: what the guide says to wait for."""
                return assess(*await _collect(net.net.urls, None)).state is State.HEALTHY

            await until(whole, "all is well again")
        paying.cancel()
        (ended,) = await asyncio.gather(paying, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), "no payment failed"
        await net.same_heads()
        balance = await net.balance(0)
        assert balance >= acknowledged
        assert balance + await net.balance(0, ALICE) == FUNDS

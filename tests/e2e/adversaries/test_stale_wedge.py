"""Adversary: it wedges with an old state, at every earlier version, and claims to have signed no newer one.

The attack that the whole watch is made for. Bob is not asked anything: his watcher reports, layer 1 settles on the
newest state, and the liar's bond is his. (While he sleeps, his watchtower does it: `tests/e2e/test_watchtowers.py`.)

Source: docs/design/groups.md, rules 8, 9, 14, 15 and 16.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from layer1.devnet import Devnet
from layer1.ledger.records import Forfeit
from tests.e2e.adversaries.liar import Liar, play
from tests.e2e.adversaries.stage import BOND, DEPOSIT, Stage, stage

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]
PAID = (1_000, 500, 2_500)
"""Minor units, one version each."""


class Stale(Liar):
    """Wedges with what it likes best; a liar can do that without a role of its own."""


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, net: Devnet) -> AsyncIterator[Stage]:
    """Bob, and who wedges stale."""
    async with stage(tmp_path_factory.mktemp("stage"), net, __name__) as running:
        yield running


async def test_a_wedge_at_every_earlier_version_loses_the_bond_and_the_newest_is_paid(on: Stage) -> None:
    """The version of the opening among them, which nobody signed; the newest itself is no lie."""
    channels = {}
    for back in range(len(PAID) + 1):
        channels[back] = await on.opened()
        for amount in PAID:
            await on.mallory.does("pay", channel=channels[back], amount=amount)
        assert await on.mallory.does("wedge", channel=channels[back], back=back) == "ok"
    ends = await asyncio.gather(*map(on.settled, channels.values()))
    paid = sum(PAID)
    honest, lies = ends[0], ends[1:]
    assert honest.honest == (DEPOSIT + paid + BOND, DEPOSIT - paid + BOND)
    for end in lies:
        assert (end.version, end.bob_forfeits, end.mallory_forfeits) == (len(PAID), None, Forfeit.LIE)
        assert (end.bob, end.mallory) == (DEPOSIT + paid + 2 * BOND, DEPOSIT - paid)


if __name__ == "__main__":
    play(Stale())

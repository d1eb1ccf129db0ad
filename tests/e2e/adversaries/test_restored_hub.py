"""Adversity: a hub's home is put back from yesterday, and forgets all that it has forwarded since.

Nobody lies. It learns from its neighbours what it forgot, claims nothing, and forwards again when its channels were
resumed: nobody has lost a unit, and its fees of today are there, too.

Source: decisions 035 and 040; docs/hub.md.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from layer1.devnet import Devnet
from tests.e2e.adversaries.liar import play
from tests.e2e.adversaries.road import FEE, FUNDED, Road, Sender, road
from tests.e2e.cluster import until
from tests.e2e.town import ACCEPT

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]
PRICE = 1_000


class Paying(Sender):
    """Honest."""


@pytest_asyncio.fixture(loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, net: Devnet) -> AsyncIterator[Road]:
    """The hub, who is paid, and who pays."""
    async with road(tmp_path_factory.mktemp("road"), net, __name__) as running:
        yield running


async def test_a_hub_put_back_from_yesterday_takes_nothing_and_loses_no_payment(on: Road) -> None:
    """One payment before the copy is made, three after it."""
    home, yesterday = on.place.folder / "bob", on.place.folder / "yesterday"
    await _paid(on, 1)
    await on.place.serving["bob"].stop()
    shutil.copytree(home, yesterday)
    await on.place.serve("bob", *ACCEPT)
    await _paid(on, 3)
    await on.place.serving["bob"].kill()
    shutil.rmtree(home)
    shutil.copytree(yesterday, home)
    await on.place.serve("bob", *ACCEPT)
    channels = (on.first, on.second)

    async def known() -> bool:
        return all([(await on.view("bob", channel)).state == "stopped" for channel in channels])

    await until(known, "both neighbours have shown the hub what it forgot")
    for channel in channels:
        resumed = await on.place.wallet("bob", "channel", "resume", channel)
        assert (resumed["state"], resumed["epoch"], resumed["forfeited"]) == ("open", 1, False)
    await on.hub_has(2 * FUNDED + 4 * FEE)
    assert (await on.view("carol", on.second)).can_send == FUNDED + 4 * PRICE
    await _paid(on, 1)
    await on.hub_has(2 * FUNDED + 5 * FEE)


async def _paid(on: Road, count: int) -> None:
    """So many payments go over the hub."""
    await on.in_step()
    for _ in range(count):
        made = await on.invoice(PRICE)
        await on.send(made.payment_hash, made.invoice, PRICE)
        assert await on.end(made.payment_hash) == ("claimed", "")


if __name__ == "__main__":
    play(Paying())

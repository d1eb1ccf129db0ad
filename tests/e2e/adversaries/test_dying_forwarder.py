"""Adversity: a hub's process is killed between its two sides, at each step of a payment that it forwards.

Whatever step it is: when the hub is back the payment is paid on both sides, or on none, and the hub has its fee, or all
of its money.

Source: docs/design/groups.md, rule 23; decision 041.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from layer1.devnet import Devnet
from tests.e2e.adversaries.dying import MOMENTS
from tests.e2e.adversaries.liar import play
from tests.e2e.adversaries.road import FEE, FUNDED, Road, Sender, road
from tests.e2e.town import ACCEPT

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]
PRICE = 1_000
MODULE = "tests.e2e.adversaries.dying"


class Paying(Sender):
    """Honest."""


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, net: Devnet) -> AsyncIterator[Road]:
    """The hub, who is paid, and who pays."""
    async with road(tmp_path_factory.mktemp("road"), net, __name__) as running:
        await running.place.serving["bob"].kill()
        yield running


async def test_a_hub_that_is_killed_at_any_step_neither_loses_nor_keeps_a_payment(on: Road) -> None:
    """Between what happens and what is durable, and between that and what leaves; one payment for each."""
    armed, paid = on.place.folder / "armed", 0
    armed.write_text("")
    hub = await on.place.serve("bob", *ACCEPT, module=(MODULE, str(armed)))
    for moment in MOMENTS:
        await on.in_step()
        made = await on.invoice(PRICE)
        armed.write_text(moment)
        await on.send(moment, made.invoice, PRICE)
        assert await asyncio.wait_for(hub.process.wait(), 20) == -signal.SIGKILL, moment
        armed.write_text("")
        hub = await on.place.serve("bob", *ACCEPT, module=(MODULE, str(armed)))
        how, code = await on.end(moment)
        assert how in {"claimed", "released"}, (moment, how, code)
        paid += how == "claimed"
        await on.hub_has(2 * FUNDED + FEE * paid)
        assert (await on.view("carol", on.second)).can_send == FUNDED + PRICE * paid, moment
        assert await on.invoice_state(made.payment_hash) == ("paid" if how == "claimed" else "open"), moment


if __name__ == "__main__":
    play(Paying())

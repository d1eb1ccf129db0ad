"""Adversary: it sends onions that were sent before, cut off, or altered, for which somebody else should pay.

A packet is bound to hash and expiry, a hop opens each once, and what a hop cannot open it gives back: nobody between is
out of pocket, and other payments go on.

Source: decisions 036 and 037; docs/privacy.md.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from layer1.devnet import Devnet
from tests.e2e.adversaries.liar import play
from tests.e2e.adversaries.road import FEE, FUNDED, Road, Sender, road

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]
PRICE = 1_000


class Tampering(Sender):
    """Sends packets that are not what they should be."""

    async def tamper(self, name: str, how: str, channel: str, over: list[str], text: str, amount: int) -> None:
        """Send a packet that is wrong in this way."""
        data, origin, hashed, expiry_ms = await self.packet(channel, over, text, amount)
        match how:
            case "truncated":
                data = data[:-1]
            case "empty":
                data = b""
            case "altered":
                data = data[:40] + bytes([data[40] ^ 1]) + data[41:]
            case "altered at its end":
                data = data[:-1] + bytes([data[-1] ^ 1])
            case "of another hash":
                hashed = os.urandom(32)
            case "of another expiry":
                expiry_ms += 1
            case _:
                raise ValueError(how)
        await self.offer(name, channel, data, hashed, expiry_ms, amount + FEE * (len(over) - 1), origin)

    async def replay(self, name: str, channel: str, of: str) -> None:
        """Offer the very lock of an earlier payment again, with its packet."""
        lock, origin, data = self._sent[of]
        await self.offer(name, channel, data, lock.hash, lock.expiry_ms, lock.amount, origin)


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def on(tmp_path_factory: pytest.TempPathFactory, net: Devnet) -> AsyncIterator[Road]:
    """The hub, the payee, and who tampers."""
    async with road(tmp_path_factory.mktemp("road"), net, __name__) as running:
        yield running


async def test_an_onion_that_was_altered_goes_back_and_takes_nothing(on: Road) -> None:
    """The hub opens none of it, and asks nobody: it ends as it began, though the invoice is open."""
    over = [on.address("bob"), on.address("carol")]
    ways = (
        "truncated",
        "empty",
        "altered",
        "altered at its end",
        "of another hash",
        "of another expiry",
    )
    made = await on.invoice(PRICE)
    for how in ways:
        await on.mallory.does("tamper", name=how, how=how, channel=on.first, over=over, text=made.invoice, amount=PRICE)
    ends = {how: await on.end(how) for how in ways}
    assert ends == dict.fromkeys(ways, ("released", "unreadable")), "the hub has no secret with whoever made these"
    await on.hub_has(2 * FUNDED)
    assert await on.invoice_state(made.payment_hash) == "open"


async def test_an_onion_that_was_paid_is_not_forwarded_again(on: Road) -> None:
    """A hop that knows the preimage by now would have the hub pay for it a second time."""
    made = await on.invoice(PRICE)
    await on.send("first", made.invoice, PRICE)
    assert await on.end("first") == ("claimed", "")
    await on.hub_has(2 * FUNDED + FEE)
    carols = (await on.view("carol", on.second)).can_send
    await on.mallory.does("replay", name="again", channel=on.first, of="first")
    assert await on.end("again") == ("released", "unreadable"), "the hub refuses it by itself, and asks nobody"
    await on.hub_has(2 * FUNDED + FEE)
    assert (await on.view("carol", on.second)).can_send == carols == FUNDED + PRICE


if __name__ == "__main__":
    play(Tampering())

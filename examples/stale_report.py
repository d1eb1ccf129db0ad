"""The stale report that fails, through the library: Mallory wedges with an old wallet, Bob's watcher answers.

Run it: ``python -m examples.stale_report``
"""

from __future__ import annotations

import asyncio
import shutil

from examples.stage import PASSPHRASE, Play, stage
from layer2.opening import OpeningPolicy
from wallet.life import Life
from wallet.requests import ChannelView
from wallet.wallet import Wallet

CHALLENGE_MS = 5_000


async def main() -> None:
    """Pay, wedge with the copy from before the payment, and see whom layer 1 believes."""
    async with stage("mallory", "bob") as play:
        async with Wallet.load(play.homes["bob"], PASSPHRASE) as bob:
            contact = await bob.serve(None, OpeningPolicy(min_challenge_ms=CHALLENGE_MS))
            channel_id = await pay_and_keep_a_copy(play, contact)
            await wedge_with_the_copy(play, channel_id)
            settled = await settlement(bob, channel_id)
            proven = await bob.balance(bob.savings_address)
        print(f"Layer 1 settled ({settled.reason}): Bob's savings are proven to hold {proven.value / 100:,.2f},")
        print("the 600.00 that he was paid and Mallory's bond of 50.00. The stale report cost her the bond.")
        assert proven.value == 65_000, f"650.00 is Bob's due, {proven.value / 100:,.2f} is proven"


async def pay_and_keep_a_copy(play: Play, contact: str) -> str:
    """Mallory opens a channel, copies her home, then pays; returns the channel's id."""
    home = play.homes["mallory"]
    async with Wallet.load(home, PASSPHRASE) as mallory:
        channel = await mallory.open_channel(
            contact, deposit=100_000, bond=5_000, peer_bond=0, challenge_period_ms=CHALLENGE_MS
        )
        await channel.pay(10_000)
    shutil.copytree(home, home.with_name("copy"), ignore=shutil.ignore_patterns("*.sock"))
    Life(home.with_name("copy")).renew()  # a copy knows that it is one, and would ask first: hers pretends not to be
    async with Wallet.load(home, PASSPHRASE) as mallory:
        paid = await mallory.channel(channel.id.hex()).pay_many(1_000, 50)
        print(f"Mallory paid 100.00, copied her wallet, and paid {paid.committed} times 10.00 more.")
    return channel.id.hex()


async def wedge_with_the_copy(play: Play, channel_id: str) -> None:
    """The copy knows nothing of the later payments, and does not ask Bob."""
    async with Wallet.load(play.homes["mallory"].with_name("copy"), PASSPHRASE) as liar:
        await liar.channel(channel_id).close(force=True)
        print("The old copy wedged the channel: layer 1 heard that Bob was paid only 100.00.")


async def settlement(bob: Wallet, channel_id: str) -> ChannelView:
    """Wait until layer 1 has settled. Bob's watcher does the rest by itself."""
    async with asyncio.timeout(60):
        while (view := await bob.channel(channel_id).refresh()).state != "closed":  # noqa: ASYNC110 - layer 1 is polled
            await asyncio.sleep(0.1)
    return view


if __name__ == "__main__":
    asyncio.run(main())

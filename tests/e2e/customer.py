"""A served wallet that pays a hub without end, whatever becomes of the hub, and says which payments are acknowledged.

Run as a module. Prints its contact; reads a channel's id; then a line for each payment: ``ok MEMO`` when it is
acknowledged, ``pending MEMO`` when its fate is not known.
"""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import count

from layer1.errors import Refused
from layer1.loop import run
from layer2.driver import Pending
from layer2.opening import OpeningPolicy
from wallet.wallet import Wallet

AT_ONCE = 64
POLICY = OpeningPolicy(accept_deposit_up_to_units=500_000, accept_bond_up_to_units=0, min_challenge_ms=1_000)


async def main(home: str, name: str) -> None:
    """Serve, and pay 1 unit at a time, many under way, each with a memo of its own."""
    numbers = count()
    async with Wallet.load(home, os.environ["WALLET_PASSPHRASE"]) as wallet:
        say(await wallet.serve(None, POLICY))
        channel = wallet.channel((await asyncio.to_thread(sys.stdin.readline)).strip())

        async def pay() -> None:
            while True:
                memo = f"{name}-{next(numbers)}"
                try:
                    await channel.pay(1, memo)
                except Pending:
                    say(f"pending {memo}")
                    await asyncio.sleep(0.05)
                except Refused:
                    await asyncio.sleep(0.05)
                else:
                    say(f"ok {memo}")

        await asyncio.gather(*(pay() for _ in range(AT_ONCE)))


def say(text: str) -> None:
    """One line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run(main(*sys.argv[1:]))

"""A wallet that pays until it is killed, and says of each payment when it is committed. Run as a module.

Prints a line for each: ``ok MEMO`` when it is acknowledged, ``pending MEMO`` or ``refused MEMO CODE`` otherwise.
"""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import count

from layer1.errors import Refused
from layer2.driver import Pending
from wallet.wallet import Wallet

AT_ONCE = 8


async def main(home: str, channel_id: str, run: str) -> None:
    """Pay 1 unit at a time, several under way, each with a memo of its own."""
    numbers = count()
    async with Wallet.load(home, os.environ["WALLET_PASSPHRASE"]) as wallet:
        channel = wallet.channel(channel_id)

        async def pay() -> None:
            while True:
                memo = f"{run}-{next(numbers)}"
                try:
                    await channel.pay(1, memo)
                except Pending:
                    said = f"pending {memo}"
                except Refused as error:
                    said = f"refused {memo} {error.code}"
                else:
                    said = f"ok {memo}"
                sys.stdout.write(said + "\n")
                sys.stdout.flush()

        await asyncio.gather(*(pay() for _ in range(AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

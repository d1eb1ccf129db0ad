"""``wallet serve``: the wallet that stays, to receive, to watch, and to answer the other verbs.

*Safety:* it holds the hot keys only. It joins an opening only within what its owner accepts beforehand, and otherwise
signs nothing but states in which its own balance does not fall.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass

from layer1.descriptors import raise_limit
from layer2.opening import OpeningPolicy
from wallet.control import ControlServer
from wallet.home import Home
from wallet.local import LocalCommands
from wallet.wallet import Wallet


@dataclass(frozen=True, slots=True)
class Serving:
    """How a wallet is to be served."""

    listen: str | None
    policy: OpeningPolicy | None
    """Openings that may be joined unasked; None for none."""


async def serve(home: Home, passphrase: str, serving: Serving, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        home: Which wallet.
        passphrase: Of its hot keys; the savings stay sealed.
        serving: See there.
        ready: Told the contact once peers and commands are answered.

    Raises:
        Refused: ``home_busy``, ``cannot_listen``, ``wrong_passphrase``.
        LocalError: The wallet can no longer guard its channels; start it again once the cause is mended.
    """
    raise_limit()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Wallet.load(home.path, passphrase) as wallet:
        control = ControlServer(home, LocalCommands(home, wallet))
        try:
            contact = await wallet.serve(serving.listen, serving.policy)
            await control.start()
            ready(contact)
            await _until(stop, wallet)
        finally:
            await control.stop()


async def _until(stop: asyncio.Event, wallet: Wallet) -> None:
    """Wait for a signal; a wallet that only seems to watch is worse than one that is seen to have ended."""
    asked, failed = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(wallet.failed())
    try:
        await asyncio.wait({asked, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            raise failed.result()
    finally:
        for task in (asked, failed):
            task.cancel()

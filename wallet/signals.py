"""One condition that everything in a wallet waits on: "something has changed, look again"."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from layer1.errors import WedgeError

T = TypeVar("T")


class Signals:
    """Wakes whoever waits; a waiter checks for itself what it waits for, so no wake-up is lost or misread."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.count = 0
        """How often something has changed."""
        self.failure: WedgeError | None = None
        """Why this wallet can no longer guard its channels."""

    def fail(self, error: WedgeError) -> None:
        """This wallet is to end; the first reason stands."""
        self.failure = self.failure or error
        self.notify()

    def notify(self) -> None:
        """Something has changed."""
        self.count += 1
        self._event.set()
        self._event = asyncio.Event()

    async def until(self, check: Callable[[], T | None], timeout_s: float | None = None) -> T | None:
        """The first answer of `check` that is not None; None after `timeout_s`."""
        if (found := check()) is not None:
            return found  # as for nearly every payment: no timer is set for it
        try:
            async with asyncio.timeout(timeout_s):
                while (found := check()) is None:
                    await self._event.wait()
                return found
        except TimeoutError:
            return None

"""A server in a loop and a thread of its own, for tests that ask it from theirs."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from typing import Self


class Serving(threading.Thread, ABC):
    """Serves from ``with`` to its end; a subclass says what."""

    def __init__(self) -> None:
        super().__init__(name="served")
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._ready = threading.Event()
        self.url = ""

    @abstractmethod
    async def begin(self) -> str:
        """Serve; where."""

    @abstractmethod
    async def end(self) -> None:
        """Serve no longer."""

    def run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self.url = await self.begin()
        self._ready.set()
        await self._over.wait()
        await self.end()
        await self._loop.shutdown_default_executor()

    def __enter__(self) -> Self:
        self.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self.join(20)

"""Brings what a group needs to layer 1, and again until layer 1 has it.

Every attempt is a transaction of its own: the payload is what counts, and layer 1 takes each at most once whatever
wraps it.

Source: docs/design/groups.md, rules 7 to 9.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

from msgspec import structs

from layer1.client import LedgerClient, LedgerUnreachable, TransactionDead
from layer1.codec import encode
from layer1.crypto import SigningKey
from layer1.errors import Refused
from layer1.ledger.transactions import Output, Transaction, sign_transaction, signers
from layer2.events import Payload

LIFE_MS = 120_000
"""On the ledger clock; a payload that still matters then is wrapped anew."""
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts while no replica answers; the last one repeats."""
PASSING = {"pool_full", "share_full", "busy", "catching_up", "stopping", "expired"}
"""Refusals that are another answer soon."""

_log = logging.getLogger(__name__)


class Submitter:
    """One attempt at a time for each payload."""

    def __init__(
        self,
        ledger: LedgerClient,
        settled: Callable[[], Awaitable[None]] | None = None,
        *,
        payer: SigningKey | None = None,
    ) -> None:
        """Bring things to `ledger`.

        Args:
            ledger: Where to.
            settled: Each is brought only when this returns: it may be shown to others then.
            payer: Our account, which signs what it pays into a change.
        """
        self._payer = payer
        self._settled = settled
        self._ledger = ledger
        self._running: dict[bytes, asyncio.Task[Output]] = {}

    def bring(self, payload: Payload) -> asyncio.Task[Output]:
        """Bring it in the background, as often as it takes.

        The task raises Refused when the ledger will not take it, often because somebody else was faster: look at what
        layer 1 shows then.
        """
        name = encode(payload)
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.create_task(self._insist(payload))
            task.add_done_callback(lambda done: self._ended(name, done))
        return task

    def bring_ours(self, payload: Payload) -> asyncio.Task[Output] | None:
        """The same, unless others have to pay in: they bring it."""
        return self.bring(payload) if self._can_pay(payload) else None

    def _can_pay(self, payload: Payload) -> bool:
        payers = signers(payload)
        return not payers or (self._payer is not None and payers == (self._payer.public,))

    def _wrap(self, payload: Payload, until_ms: int) -> Transaction:
        bare = Transaction(payload, until_ms, os.urandom(16))
        if not signers(payload) or self._payer is None:
            return bare
        chain_id = self._ledger.genesis.chain_id
        return structs.replace(bare, signatures=(sign_transaction(bare, chain_id, self._payer),))

    async def close(self) -> None:
        """Give up what is under way: layer 1, looked at again, tells whether it is still needed."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, name: bytes, task: asyncio.Task[Output]) -> None:
        self._running.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.info("not needed, or not possible: %s", error)

    async def _insist(self, payload: Payload) -> Output:
        if self._settled is not None:
            await self._settled()
        attempt = 0
        while True:
            try:
                return await self._once(payload)
            except (LedgerUnreachable, Refused) as error:
                if isinstance(error, Refused) and error.code not in PASSING:
                    raise
                _log.warning("the ledger did not take a %s: %s", type(payload).__name__.lower(), error)
            await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
            attempt += 1

    async def _once(self, payload: Payload) -> Output:
        while True:
            clock_ms = await self._ledger.clock()
            life_ms = min(LIFE_MS, self._ledger.genesis.parameters.max_valid_ms)
            try:
                return await self._ledger.submit(self._wrap(payload, clock_ms + life_ms))
            except TransactionDead:
                continue

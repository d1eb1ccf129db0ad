"""What liars have in common that cheat with conditional payments: nothing stops them but the others.

Their own members ask no clock before a claim, or before they take a lock back, and give nothing back that they were to
hold. The honest one is Bob, an unmodified `wallet serve`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from layer1.crypto import Hash
from layer1.errors import WedgeError
from layer1.ledger.agreements import Lock
from layer1.ledger.transactions import RegisterPreimages
from layer2 import updating
from layer2.messages import Message, Propose, Submit
from layer2.payments import claim, expire
from tests.e2e.adversaries.liar import Liar, happens, replace_in
from wallet.invoices.dealing import Dealer
from wallet.invoices.invoice import format_invoice
from wallet.invoices.payee import Wanted

AGAIN_S = 0.2
"""Between two tries of one command."""


class Locksmith(Liar):
    """Offers, holds, claims, takes back and registers, whenever a test asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self._preimages: dict[str, bytes] = {}
        self._mute = self._deaf = False
        self._issuing: set[asyncio.Task[object]] = set()
        self.said: dict[str, str] = {}
        """What became of each command at its last try, by kind and hash: its code, or ``committed``."""
        for name in ("check_own", "check_others"):
            replace_in(updating, name, lambda *_: None)
        replace_in(updating, "is_in_doubt", lambda *_: False)
        Dealer._refuse = _keep  # type: ignore[method-assign]

    def outgoing(self, message: Message) -> Iterable[Message]:
        return () if self._mute else (message,)

    def incoming(self, message: Message) -> Iterable[Message]:
        return () if self._deaf and isinstance(message, (Submit, Propose)) else (message,)

    async def be_mute(self, whether: bool = True) -> None:
        """Say nothing on links, or all again."""
        self._mute = whether

    async def be_deaf(self) -> None:
        """Take none of the other's commands, and sign no version of its."""
        self._deaf = True

    async def behave(self) -> None:
        """Say and hear all again."""
        self._mute = self._deaf = False

    async def invoice(self, amount: int) -> list[str]:
        """One that it will never take by itself: its text, and its hash."""
        issued = await self.wallet.invoices.create(Wanted(amount, "goods", hold=True, lock_ms=0))
        name = issued.invoice.payment_hash.hex()
        self._preimages[name] = issued.preimage
        return [format_invoice(issued.invoice), name]

    async def pay_invoice(self, text: str) -> None:
        """Pay, and do not wait for what becomes of it."""
        self._begin(self.wallet.invoices.pay(text))

    async def claim_lock(self, channel: str, name: str) -> None:
        """Ask for the lock of a hash, whatever the clock is, and again when it is refused; see `told`."""
        lock = self._lock(channel, name)
        self._issue(channel, f"claim {name}", claim(lock.id, self._preimages[name]))

    async def expire_lock(self, channel: str, name: str) -> None:
        """Ask for it back likewise."""
        self._issue(channel, f"expire {name}", expire(self._lock(channel, name).id))

    async def told(self) -> dict[str, str]:
        """What became of its commands so far."""
        return self.said

    async def register(self, name: str) -> str:
        """Show the preimage to layer 1."""
        return await self.bring(RegisterPreimages(self.wallet.address, (self._preimages[name],)))

    async def holds(self, channel: str, name: str) -> int:
        """Wait until the lock of a hash is committed; until when it is good."""
        await happens(lambda: any(lock.hash.hex() == name for lock in self.group(channel).committed.body.locks))
        return self._lock(channel, name).expiry_ms

    def _lock(self, channel: str, name: str) -> Lock:
        return next(lock for lock in self.group(channel).committed.body.locks if lock.hash.hex() == name)

    def _issue(self, channel: str, name: str, command: bytes) -> None:
        self._begin(self._submit(channel, name, command))

    def _begin(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.ensure_future(work)
        self._issuing.add(task)
        task.add_done_callback(self._issuing.discard)

    async def _submit(self, channel: str, name: str, command: bytes) -> None:
        while self.said.get(name) != "committed":
            try:
                await self.host.submit(bytes.fromhex(channel), command)
            except WedgeError as error:
                self.said[name] = getattr(error, "code", type(error).__name__)
                await asyncio.sleep(AGAIN_S)
            else:
                self.said[name] = "committed"


async def _keep(self: Dealer, group_id: Hash, number: int, reason: bytes) -> None:
    """In place of giving a lock back."""

"""The peers of a hub, all in one process, each with what a wallet of its own has: keys, journal, link, syncs.

A peer is the group host of the product, with its own identity and journal; it signs and verifies each state and waits
for each sync. It pays over two hops as `wallet` does: an onion for the hub and the payee, a lock, a claim. What it
leaves out is what a payment does not wait for: history, invoices on disk, the watch over layer 1.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from layer1.crypto import Hash, PublicKey, Signature, SigningKey
from layer1.journal import Journal
from layer1.ledger.agreements import GroupAgreement, Lock, Member
from layer1.ledger.locks import preimage_hash
from layer1.ledger.transactions import Transaction, sign_transaction
from layer2.driver import Contact, GroupHost, Observer
from layer2.events import Committed
from layer2.payments import Claim, Offer, Payments, claim, offer, pay
from layer2.value import Group
from wallet.lock_news import news_of
from wallet.onion.packet import Binding, build, peel
from wallet.onion.payload import Final
from wallet.onion.route import Hop, Route

SEGMENT_BYTES = 256 * 1024
"""Of a peer's journal: a thousand of the usual size would take 16 GB."""
AMOUNT, FEE = 10, 5
"""Minor units that the payee of a route gets, and that the hub may keep."""
SECRET_BYTES = 16


class Peer(Observer):
    """One of them: a channel with the hub, in which the hub is member 0."""

    def __init__(self, folder: Path, chain_id: Hash) -> None:
        """Make its keys and its journal."""
        self.key, self.group_key, self.chain_id = SigningKey.generate(), SigningKey.generate(), chain_id
        folder.mkdir(parents=True)
        self._journal = Journal.open(folder / "groups.journal", segment_bytes=SEGMENT_BYTES)
        self.host = GroupHost(
            self._journal,
            self.key,
            chain_id,
            machines={Payments.name: Payments()},
            observer=self,
            group_key=lambda agreement, index: self.group_key,
        )
        self._group_id = b""
        self._issued: dict[Hash, bytes] = {}
        """Preimages of what is to be paid to it, by hash: its invoices."""
        self._paying: dict[Hash, asyncio.Future[None]] = {}
        self._keeping: asyncio.Task[None] | None = None

    # -------------------------------------------------------------------------------------------------- its channel

    def member(self, deposit: int) -> Member:
        """Its part of the agreement."""
        return Member(self.group_key.public, self.key.public, self.key.public, deposit, 0)

    def sign(self, opening: Transaction) -> Signature:
        """The opening, which locks its deposit."""
        return sign_transaction(opening, self.chain_id, self.key)

    async def join(self, agreement: GroupAgreement, group_id: Hash, hub: Contact) -> None:
        """Host the channel, and be in step with the hub."""
        self._group_id = group_id
        self.host.add(agreement, group_id, 1, self.group_key, {0: hub})
        self._in_step = asyncio.Event()
        self._keeping = asyncio.create_task(self.host.run())
        await self._in_step.wait()

    async def leave(self) -> None:
        """End the link, close the journal."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        self._journal.close()

    @property
    def group(self) -> Group:
        """Its side of the channel."""
        return self.host.groups[self._group_id]

    @property
    def units(self) -> int:
        """What it has, by the newest committed state."""
        return self.group.state.body.balances[1]

    # ----------------------------------------------------------------------------------------------------- payments

    async def pay_hub(self) -> None:
        """One unit, directly; on return that is committed."""
        await self.host.submit(self._group_id, pay(0, 1))

    def issue(self) -> tuple[Hash, bytes]:
        """Hash and secret of an invoice."""
        preimage = os.urandom(32)
        self._issued[preimage_hash(preimage)] = preimage
        return preimage_hash(preimage), preimage[:SECRET_BYTES]

    async def pay_over(self, hub: PublicKey, payee: Peer, expiry_ms: int) -> None:
        """Pay an invoice of the payee's over the hub; on return the payee's claim is committed here."""
        hashed, secret = payee.issue()
        hops = (Hop(hub, AMOUNT + FEE), Hop(payee.key.public, AMOUNT))
        binding = Binding(self.chain_id, hashed, expiry_ms)
        packet, _ = build(
            Route(self._group_id, hops, expiry_ms), binding, os.urandom(32), total=AMOUNT, payment_secret=secret
        )
        paid: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._paying[hashed] = paid
        await self.host.submit(self._group_id, offer(0, AMOUNT + FEE, hashed, expiry_ms, packet))
        await paid

    def committed(self, group_id: Hash, event: Committed) -> None:
        """Claim what is offered; tell who waits that its lock was claimed."""
        for _, lock, request in news_of(event):
            if isinstance(request, Offer) and lock.payee == 1:
                self._take(lock, request.packet)
            elif lock.payer == 1 and not isinstance(request, Offer):
                paid = self._paying.pop(lock.hash)
                if isinstance(request, Claim):
                    paid.set_result(None)
                else:
                    paid.set_exception(RuntimeError(f"the lock ended by {request}, not by a claim"))

    def connected(self, group_id: Hash, member: int, up: bool) -> None:
        """The hub came into step."""
        if up:
            self._in_step.set()

    def _take(self, lock: Lock, packet: bytes) -> None:
        """Somebody pays an invoice."""
        asked = peel(self.key, packet, Binding(self.chain_id, lock.hash, lock.expiry_ms)).payload
        preimage, number = self._issued.pop(lock.hash), lock.id
        if not isinstance(asked, Final) or asked.payment_secret != preimage[:SECRET_BYTES] or lock.amount < AMOUNT:
            raise RuntimeError(f"a lock of {lock.amount} units pays no invoice: {asked}")
        self.host.note(preimage)  # durable before it is claimed, as `Locking.claim` has it
        self.host.issue(self._group_id, (claim(number, preimage),), _Nobody())


class _Nobody:
    """Waits for a claim: what becomes of it, its commit tells."""

    def done(self) -> bool:
        """Nobody stops waiting."""
        return False

    def set_result(self, outcome: object) -> None:
        """It is known."""

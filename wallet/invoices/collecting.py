"""Collects what is paid to us: parts until they are all here, then claims; what is incomplete goes back.

*Safety:* what a payment did to an invoice is durable before one of its locks is claimed; a standby has it by then. A
preimage leaves by a `Claim` alone. Nothing is claimed that is being given back, also not by a release that was issued
before a restart.

Which locks are for this wallet `wallet.switchboard` tells; what pays nothing of ours is released.

Source: docs/design/groups.md, rules 20 to 23; decisions 038, 042; `wallet.invoices.receiving` decides, this carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, TypeVar, assert_never

from msgspec import structs

from layer1.crypto import Hash
from layer1.ledger.agreements import Lock
from layer1.ledger.records import Group as LedgerGroup
from wallet.history import now_ms
from wallet.invoices import gathering, receiving
from wallet.invoices.book import InvoiceBook
from wallet.invoices.dealing import Dealer, may_be_leaving
from wallet.invoices.gathering import Waiting, latest_ms
from wallet.invoices.receiving import Circle, Turned, Waits
from wallet.invoices.records import Gift, Incoming, Issued, Stage
from wallet.lock_news import Ended
from wallet.locking import Locking
from wallet.onion.failure import Code, Failure, wrap
from wallet.onion.packet import Peeled
from wallet.onion.payload import Final, Forward, Payload, Spontaneous
from wallet.parts import Parts

LOOK_S = 1.0
"""Between looks at what is held: whether its time runs out."""
R = TypeVar("R", bound=Issued | Gift)
Answer: TypeAlias = Issued | Gift | Waits | Turned


class Collector(Dealer):
    """Of one open wallet."""

    def __init__(self, parts: Parts, locking: Locking, book: InvoiceBook, clock_ms: Callable[[], int | None]) -> None:
        super().__init__(parts, locking, clock_ms)
        self._book = book
        self._waiting: dict[Hash, Waiting] = {}
        """By payment hash, what is not complete."""
        self._live: dict[tuple[Hash, int], Hash] = {}
        """Locks that pay us, as the book has it, with their hash: most locks that end are others'."""
        self._fresh: dict[Hash, Issued | Gift] = {}
        """By payment hash, what was decided in this turn: written with one sync, before any of it is claimed."""
        self._leaving: set[tuple[Hash, int]] = set()
        """Locks that are being given back."""
        self._before: set[tuple[Hash, int]] = set()
        """Locks that stood when the wallet was opened."""
        self.takes_spontaneous = True
        self.circle: Callable[[Hash], Circle | None] = lambda payment_hash: None
        """What we pay to ourselves just now under a hash."""

    def start(self) -> None:
        """Take up what was under way when the wallet was closed."""
        self._before = {(group_id, lock.id) for group_id, lock, _ in self._locking.incoming()}
        for record in self._book.unfinished():
            self._entered(record)
            for part in record.parts:
                if (ended := self._locking.ended(part.group_id, part.lock)) is not None:
                    self.lose(part.group_id, ended)
                elif record.stage is Stage.CLAIMING and record.preimage:
                    self._locking.insist(part.group_id, part.lock, record.preimage)
        for record in self._book.among({end.lock.hash for _, end in self._locking.ends() if end.is_paid}):
            self._note(record)  # the history may have lost its newest entries
        self._begin(self._watch())

    def waiting_units(self, payment_hash: Hash) -> int:
        """What is here of payments whose other parts are not."""
        return sum(part.amount for part in gathering.parts_of(self._waiting.get(payment_hash, ())))

    def holds(self, group_id: Hash, number: int) -> bool:
        """Whether a lock pays us, as the book has it: it was taken before."""
        return (group_id, number) in self._live

    # ----------------------------------------------------------------------------------------------- what happens

    def take(self, group_id: Hash, lock: Lock, peeled: Peeled) -> None:
        """A committed lock is for this wallet: its packet says so. Told again after a start, while the lock stands."""
        self._begin(self._take(group_id, lock, peeled))

    def lose(self, group_id: Hash, ended: Ended) -> None:
        """A lock is gone; it may have been one that pays us."""
        self._write()
        name, payment_hash = (group_id, ended.lock.id), ended.lock.hash
        self._leaving.discard(name)
        self._set_waiting(payment_hash, gathering.without(self._waiting.get(payment_hash, ()), name))
        if self._live.pop(name, None) is None:
            return
        for record in (self._book.issued(payment_hash), self._book.gift(payment_hash)):
            for part in record.parts if record is not None else ():
                if record is not None and part.name == name:
                    self._end(record, part, ended)

    def settled(self, group_id: Hash, shown: LedgerGroup) -> None:
        """Layer 1 has closed a channel: of what is not claimed, only the locks in what it settled on are left."""
        self._write()
        left = {each.lock.id for each in shown.locks}
        for payment_hash, waiting in list(self._waiting.items()):
            names = [part.name for part in gathering.parts_of(waiting)]
            gone = [name for name in names if name[0] == group_id and name[1] not in left]
            self._set_waiting(payment_hash, gathering.without(waiting, *gone))
        for (name, number), payment_hash in list(self._live.items()):
            issued = self._book.issued(payment_hash) if name == group_id and number not in left else None
            for part in issued.parts if issued is not None else ():
                if issued is not None and part.name == (name, number) and issued.stage is not Stage.CLAIMING:
                    del self._live[part.name]
                    self._lapse(issued, part)

    # -------------------------------------------------------------------------------------------------- by itself

    async def _take(self, group_id: Hash, lock: Lock, peeled: Peeled) -> None:
        part = Incoming(group_id, lock.id, lock.amount, lock.expiry_ms, peeled.secret)
        if part.name in self._before and part.name not in self._live:
            await self._parts.signals.until(lambda: self._is_still(part) or self._lock(*part.name) is None or None)
        clock_ms = await self._now()
        if self._lock(group_id, lock.id) is None or part.name in self._leaving:
            return None
        self._sweep(lock.hash, clock_ms)
        records = self._records(lock.hash)
        known = next((each for each in records if each is not None and receiving.known(each, part)), None)
        if known is not None:
            return self._pursue(known)  # news come twice
        match answer := self._answer(records, part, lock, peeled.payload, clock_ms):
            case Turned():
                self._tell_released(group_id, lock.id, answer.why)
                self._give_back(part, answer.code)
            case Waits():
                self._set_waiting(lock.hash, answer.waiting)
                self._parts.signals.notify()
            case _:
                self._give_back_others(answer)
                self._decide(answer)
        return None

    def _records(self, payment_hash: Hash) -> tuple[Issued | None, Gift | None]:
        """What there is of a hash: an invoice of ours, or what came without one."""
        fresh = self._fresh.get(payment_hash)
        issued = fresh if isinstance(fresh, Issued) else self._book.issued(payment_hash)
        return issued, fresh if isinstance(fresh, Gift) else self._book.gift(payment_hash)

    def _answer(
        self, records: tuple[Issued | None, Gift | None], part: Incoming, lock: Lock, payload: Payload, clock_ms: int
    ) -> Answer:
        (issued, gift), payment_hash = records, lock.hash
        there: dict[str, Any] = {"waiting": self._waiting.get(payment_hash, ()), "margin_ms": self._locking.margin_ms}
        circle = self.circle(payment_hash) if issued is None else None
        match payload:
            case Final() if circle is not None:
                return receiving.receive_circle(circle, gift, payload, part, clock_ms, **there)
            case Final():
                return receiving.receive(issued, payload, part, clock_ms, **there)
            case Spontaneous() if issued is not None:
                return Turned(Code.UNKNOWN_SPONTANEOUS, "an invoice has its hash")
            case Spontaneous() if gift is None and not self.takes_spontaneous:
                return Turned(Code.UNKNOWN_SPONTANEOUS, "this wallet takes nothing without an invoice")
            case Spontaneous():
                return receiving.receive_gift(gift, payload, payment_hash, part, clock_ms, **there)
            case Forward():
                return Turned(Code.UNKNOWN_NEXT, "it is for another node")
            case _:
                assert_never(payload)

    async def _now(self) -> int:
        """The ledger clock as the host reckons it, which is never behind a proven one; waits for the first."""
        return max(await self._clock(), self._parts.host.clock_ms())

    def _is_still(self, part: Incoming) -> bool:
        """Whether nothing of before a restart can end a lock any more: a release of ours may have been on its way."""
        group = self._parts.host.groups.get(part.group_id)
        return group is None or not may_be_leaving(group, part.lock)

    def _end(self, record: Issued | Gift, part: Incoming, ended: Ended) -> None:
        if not ended.is_paid:
            return self._lapse(record, part)
        known = structs.replace(record, preimage=record.preimage or ended.preimage or b"")
        by_ledger = ended.how == "paid"  # all else the journal tells again
        self._pursue(self._save(receiving.claimed(known, part), synced=by_ledger))
        return None

    def _lapse(self, record: Issued | Gift, part: Incoming) -> None:
        """A lock is gone unpaid. What is held with it is no payment any more."""
        self._save(receiving.lapsed(record, part))
        if record.stage is Stage.HELD:
            for each in record.parts:
                if each != part:
                    self._give_back(each, Code.PARTS_MISSING)

    def _decide(self, record: Issued | Gift) -> None:
        """A payment is complete. It is written with the others of this turn."""
        if not self._fresh:
            self._begin(self._write_soon())
        self._fresh[record.payment_hash] = record

    async def _write_soon(self) -> None:
        await asyncio.sleep(0)
        self._write()

    def _write(self) -> None:
        """Make durable what was decided, then claim it, or hold it."""
        if not self._fresh:
            return
        records = [structs.replace(record, changed_ms=now_ms()) for record in self._fresh.values()]
        self._fresh.clear()
        self._book.put_all(records)
        for record in records:
            self._entered(record)
            self._pursue(record)

    def _pursue(self, record: Issued | Gift) -> None:
        """Do what is due for its locks. Of what is written, for it is all that keeps the preimage for them."""
        for part in record.parts if record.payment_hash not in self._fresh else ():
            if self._lock(part.group_id, part.lock) is None:
                continue
            if record.stage is Stage.CLAIMING and record.preimage:
                self._locking.insist(part.group_id, part.lock, record.preimage)
            elif record.stage is Stage.CANCELLED:
                self._give_back(part, Code.UNKNOWN_PAYMENT)

    def _give_back(self, part: Incoming, code: Code) -> None:
        """Release a lock, once; from now on it is no part of anything."""
        if part.name not in self._leaving:
            self._leaving.add(part.name)
            self._begin(self._refuse(*part.name, wrap(part.secret, Failure(code))))

    def _give_back_others(self, record: Issued | Gift) -> None:
        """Nothing of this hash is waited for any more."""
        taken = {part.name for part in record.parts}
        for part in gathering.parts_of(self._waiting.pop(record.payment_hash, ())):
            if part.name not in taken:
                self._give_back(part, Code.UNKNOWN_PAYMENT)

    def _set_waiting(self, payment_hash: Hash, waiting: Waiting) -> None:
        if waiting:
            self._waiting[payment_hash] = waiting
        else:
            self._waiting.pop(payment_hash, None)

    def _sweep(self, payment_hash: Hash, clock_ms: int) -> None:
        """Give back the parts of what was not completed in time. What is gone completes nothing."""
        waiting = self._waiting.get(payment_hash, ())
        gone = [part.name for part in gathering.parts_of(waiting) if self._lock(*part.name) is None]
        waiting = gathering.without(waiting, *gone)
        left, overdue = gathering.sweep(waiting, clock_ms, self._locking.margin_ms)
        self._set_waiting(payment_hash, left)
        for part in overdue:
            self._tell_released(*part.name, "parts are missing")
            self._give_back(part, Code.PARTS_MISSING)

    async def _watch(self) -> None:
        """Give back what was not completed, or what nobody settled, while there was time."""
        while True:
            clock_ms = await self._now()
            for payment_hash in list(self._waiting):
                self._sweep(payment_hash, clock_ms)
            for record in self._book.unfinished() if self._live else ():
                until_ms = min(latest_ms(part, self._locking.margin_ms) for part in record.parts)
                if record.stage is Stage.HELD and clock_ms > until_ms:
                    for part in record.parts:
                        self._give_back(part, Code.UNKNOWN_PAYMENT)
            await asyncio.sleep(LOOK_S)

    def _save(self, record: R, *, synced: bool = True) -> R:
        saved = structs.replace(record, changed_ms=now_ms())
        self._book.put(saved, synced=synced)
        self._entered(saved)
        return saved

    def _entered(self, record: Issued | Gift) -> None:
        self._live |= {part.name: record.payment_hash for part in record.parts}
        self._note(record)
        self._parts.signals.notify()

    def _note(self, record: Issued | Gift) -> None:
        """Enter in the history what is paid or held; what is there already is left alone."""
        hashed = record.payment_hash.hex()
        note = partial(self._parts.history.add, payment_hash=hashed)
        match record:
            case Issued(stage=Stage.PAID):
                memo = record.invoice.description or None
                note(f"invoice:{hashed}:paid", "invoice_paid", record.received, memo=memo)
            case Issued(stage=Stage.HELD):
                group_id, number = record.parts[0].name
                mark, units = f"{group_id.hex()}:{number}", sum(part.amount for part in record.parts)
                note(f"invoice:{hashed}:held:{mark}", "invoice_held", units, memo=record.invoice.description or None)
            case Gift(stage=Stage.PAID, ours=False):
                note(f"spontaneous:{hashed}", "spontaneous", record.received)
            case _:
                pass

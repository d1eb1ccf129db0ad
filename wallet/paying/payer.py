"""Payments by locks: made once, over any route, whatever happens in between.

*Safety:* a payment is durable, and with the standby, before its locks are offered; what is paid or may be is never
offered again (`wallet.paying.core`). Paid is what a preimage shows, failed is what is gone for certain.

A payment is tried for as long as this process lives and its limits allow. What was under way when a wallet was closed
is looked after when it is opened again, and never added to: whoever asks for it waits until its fate is known.

*Syncs:* one before locks are offered, for all parts together, and one when the preimage is seen, before anybody is told
that it is paid. That a lock stands, or has ended, the journal knows: it is written without a sync, and synced before
the journal is compacted.

Source: docs/design/groups.md, rules 5, 20 and 23; decisions 038 and 042.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from msgspec import structs

from layer1.crypto import Hash, PublicKey, format_address
from layer1.errors import Refused, WedgeError
from layer1.ledger.agreements import Lock
from layer1.ledger.records import Group as LedgerGroup
from layer2.driver import Pending
from wallet.exits import as_refusal
from wallet.history import now_ms
from wallet.invoices.book import InvoiceBook
from wallet.invoices.dealing import Dealer, is_past_the_restart
from wallet.invoices.receiving import Circle
from wallet.lock_news import Ended
from wallet.locking import Locking
from wallet.onion.packet import Binding, build, build_spontaneous
from wallet.onion.shared import KEY_BYTES, public_of
from wallet.parts import Parts
from wallet.paying import core, verdicts
from wallet.paying.core import TRY_MS, Course, Find, Limits, Over, Stop, Wait
from wallet.paying.records import Attempt, Fate, Kind, Payment
from wallet.paying.telling import Told
from wallet.paying.verdicts import Verdict
from wallet.paying.ways import Errand, Way, Ways
from wallet.requests import Report
from wallet.routing.desk import Outcome
from wallet.texts import short
from wallet.views import open_commands

LOOK_S = 1.0
"""Between looks at what is pending and has no name yet."""
LOCK_MARGINS = 4
"""Of M: for how long a lock must be good when it arrives; see `wallet.invoices.payee`."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Paying:
    """A payment as its caller sees it."""

    payment: Payment
    repeated: bool
    """Whether it had been paid, or was under way, before this call."""


@dataclass(eq=False)
class Trying:
    """A payment that this process tries to make."""

    errand: Errand
    course: Course
    told: Told
    ways: dict[bytes, Way] = field(default_factory=dict)
    """Of its locks, by their marks."""
    packets: dict[bytes, bytes] = field(default_factory=dict)
    """Of those that are about to be offered, by their marks."""
    refusal: Refused | None = None
    """Why nothing was offered at all."""


class Payer(Dealer):
    """Deals with locks that go out."""

    def __init__(
        self, parts: Parts, locking: Locking, book: InvoiceBook, clock_ms: Callable[[], int | None], ways: Ways
    ) -> None:
        super().__init__(parts, locking, clock_ms)
        self._book, self._ways = book, ways
        self._us = parts.keys.spending.public
        self._open: dict[Hash, Payment] = {}
        """Those whose fate is not known, and those that are being tried: nothing here ever looks at the others."""
        self._trying: dict[Hash, Trying] = {}
        self._bells: dict[Hash, asyncio.Event] = {}
        self._offering: set[bytes] = set()
        """Marks of locks that this process is about to offer, however long the standby takes: they are not missing."""
        self._missing: set[bytes] = set()
        """Marks of locks of which nothing was to be seen at the last look."""
        self.name_of: Callable[[PublicKey], str] = short
        """How people call a node."""

    def start(self) -> None:
        """Look after what was under way when the wallet was closed."""
        self._open = {payment.payment_hash: payment for payment in self._book.pending()}
        for group_id, ended in self._locking.ends():
            self.lose(group_id, ended)
        self._begin(self._watch())

    # ---------------------------------------------------------------------------------------------- for the wallet

    def known(self, wanted: Payment) -> Payment | None:
        """What became of it so far; None if nothing is in the way of paying it.

        Raises:
            Refused: ``other_invoice``; another invoice with this hash was paid, or is being paid.
        """
        name = wanted.payment_hash
        trying = self._trying.get(name)
        found = self._open.get(name) or (self._book.payment(name) if trying is None else trying.errand.payment)
        if found is None or (trying is None and found.fate is Fate.FAILED):
            return None
        if found.invoice != wanted.invoice:
            raise Refused(
                "other_invoice",
                f"this wallet pays, or paid, another invoice with hash {name.hex()}: who knows its preimage could take "
                "this payment. Ask the payee for a new invoice",
            )
        return found

    async def pay(self, errand: Errand, wait_s: float, report: Report) -> Paying:
        """Make a payment, once; whoever asks again waits for it, or is told what became of it.

        Raises:
            Refused: Nothing was paid, and the money is back: the code and the text say why.
            WedgeError: What went wrong before anything was offered.
        """
        name = errand.payment.payment_hash
        found, trying = self.known(errand.payment), self._trying.get(name)
        if found is None:
            trying = self._try(errand)
        if trying is not None:
            trying.told.listeners.append(report)
        try:
            await self._decided(name, wait_s)
        finally:
            if trying is not None:
                trying.told.listeners.remove(report)
        if trying is not None and trying.refusal is not None:
            raise trying.refusal
        payment = self.current(name)
        assert payment is not None, "it was refused, or entered before it was offered"
        if payment.fate is Fate.FAILED and not self.is_trying(name):
            raise refusal_of(payment, trying.course.stop if trying is not None else None)
        return Paying(payment, found is not None)

    def current(self, payment_hash: Hash) -> Payment | None:
        """The newest that is known of a payment."""
        return self._open.get(payment_hash) or self._book.payment(payment_hash)

    def newer(self, payment: Payment) -> Payment:
        """What is known of a payment beyond what the book had."""
        return self._open.get(payment.payment_hash, payment)

    @property
    def is_busy(self) -> bool:
        """Whether there is something whose fate is not known."""
        return bool(self._open)

    def is_trying(self, payment_hash: Hash) -> bool:
        """Whether it may be offered again by itself."""
        return payment_hash in self._trying

    async def _decided(self, name: Hash, wait_s: float) -> None:
        """Return when the fate of a payment is known, or after so long."""
        try:
            async with asyncio.timeout(wait_s):
                while self.is_trying(name) or name in self._open:
                    found = self._open.get(name)
                    if found is not None and found.fate is Fate.PAID:
                        return
                    await self._rung(name)
        except TimeoutError:
            pass

    async def _rung(self, name: Hash) -> None:
        await self._bells.setdefault(name, asyncio.Event()).wait()

    def _ring(self, name: Hash) -> None:
        """Something has changed about a payment."""
        if (bell := self._bells.pop(name, None)) is not None:
            bell.set()
        self._parts.signals.notify()

    # ------------------------------------------------------------------------------------------------------ trying

    def _try(self, errand: Errand) -> Trying:
        name = errand.payment.payment_hash
        before = self._book.payment(name)
        if before is not None:
            errand = replace(errand, payment=core.begun_again(before, errand.payment))
        told = Told(errand.payment, self._parts.genesis.currency, self.name_of)
        trying = self._trying[name] = Trying(errand, Course(Limits(0, errand.parts)), told)
        self._begin(self._see_through(name, trying))
        return trying

    async def _see_through(self, name: Hash, trying: Trying) -> None:
        try:
            await self._pursue(name, trying)
        except WedgeError as error:
            trying.refusal = as_refusal(error)
            _log.info("payment %s: %s", name.hex()[:12], error)
        finally:
            del self._trying[name]
            if (payment := self._open.get(name)) is not None and not payment.unfinished:
                del self._open[name]
            self._ring(name)

    async def _pursue(self, name: Hash, trying: Trying) -> None:
        """Offer locks until the payment is made, or nothing is left to try."""
        clock_ms = await self._start_clock(trying.errand)
        until_ms = min(clock_ms + TRY_MS, trying.errand.until_ms or clock_ms + TRY_MS)
        trying.course = Course(Limits(until_ms, trying.errand.parts))
        while True:
            payment = self._open.get(name, trying.errand.payment)
            clock_ms = max(clock_ms, self._now_ms())
            match core.next_step(payment, trying.course, clock_ms):
                case Over():
                    return
                case Stop(code, message):
                    trying.course = trying.course.stopped(code, message)
                case Wait():
                    trying.told.waits(payment)
                    await self._rung(name)
                case Find() as wanted:
                    await self._add(name, trying, wanted, clock_ms)

    async def _start_clock(self, errand: Errand) -> int:
        """The ledger's clock.

        Raises:
            Refused: ``invoice_expired``.
            LedgerUnreachable: It is not known.
        """
        known = self._now_ms()
        if not known or (errand.until_ms is not None and known + TRY_MS > errand.until_ms):
            known = max(await self._parts.ledger.clock(), self._clock_ms() or 0)
        if errand.until_ms is not None and known > errand.until_ms:
            raise Refused(
                "invoice_expired",
                f"the invoice was good until ledger clock {errand.until_ms} ms, and it is {known} ms: ask for another",
            )
        return known

    def _now_ms(self) -> int:
        """The ledger's clock, as far as it can be told without asking; 0 if nothing is known of it."""
        return max(self._parts.host.clock_ms(), self._clock_ms() or 0)

    async def _add(self, name: Hash, trying: Trying, wanted: Find, clock_ms: int) -> None:
        """Find ways for what is missing, and offer the first lock of each.

        Raises:
            WedgeError: There is none, and nothing was offered yet: nothing needs to be remembered.
        """
        margin_ms = self._locking.margin_ms
        expiry_ms = clock_ms + max(trying.errand.lock_ms, LOCK_MARGINS * margin_ms) + margin_ms
        try:
            ways = await self._ways.find(trying.errand, wanted, expiry_ms, trying.told.report)
            added = self._enter(name, trying, ways, expiry_ms)
            await self._parts.settled()
        except WedgeError as error:
            if name not in self._open:
                raise
            refusal = as_refusal(error)  # locks stand, or may: what they come to is the payment's fate
            self._offering.difference_update(trying.packets)
            trying.packets.clear()  # of what was entered, and is not offered any more
            if self._open[name].fate is not Fate.PAID:
                trying.course = trying.course.stopped(refusal.code, refusal.message)
                trying.told.nothing_else(refusal)
            return
        trying.told.offers(self._open[name], added)
        await asyncio.gather(*(self._offer(name, each, trying.packets.pop(each.mark)) for each in added))

    def _enter(self, name: Hash, trying: Trying, ways: Sequence[Way], expiry_ms: int) -> list[Attempt]:
        """Make new attempts durable.

        Raises:
            Refused: ``bad_route``, ``no_route``.
        """
        if not ways:
            raise Refused("no_route", "no way was found: try again later, or pay on layer 1")
        payment = self._open.get(name, trying.errand.payment)
        attempts: list[Attempt] = []
        for way in ways:
            attempts.append(_attempt(way, core.own_expiry(payment, attempts, way.path[0], expiry_ms)))
        payment = core.with_attempts(payment, attempts)
        trying.packets |= {attempt.mark: self._packet(payment, attempt) for attempt in attempts}
        trying.ways |= {attempt.mark: way for attempt, way in zip(attempts, ways, strict=True)}
        trying.course = trying.course.counting(len(attempts))
        self._offering |= {attempt.mark for attempt in attempts}
        self._put(payment, synced=True)
        return attempts

    def _packet(self, payment: Payment, attempt: Attempt) -> bytes:
        """Raises Refused: ``bad_route``."""
        binding = Binding(self._parts.genesis.chain_id, payment.payment_hash, attempt.expiry_ms)
        route, session, total = attempt.route, attempt.session, payment.amount
        if payment.kind is Kind.SPONTANEOUS:
            return build_spontaneous(route, binding, session, total=total, preimage=payment.own_preimage)[0]
        return build(route, binding, session, total=total, payment_secret=payment.secret)[0]

    async def _offer(self, name: Hash, attempt: Attempt, packet: bytes) -> None:
        """Offer one lock; on return it stands, or is refused, or nobody knows."""
        try:
            lock = await self._locking.begin(attempt.group_id, attempt.amount, name, attempt.expiry_ms, packet)
        except Refused as refusal:
            self._fail(name, attempt, verdicts.of_our_own(attempt, refusal, self._us))
        except Pending as pending:
            _log.info("channel %s: %s", attempt.group_id.hex()[:12], pending)
        else:
            self._stands(name, attempt, lock.id)
        finally:
            self._offering.discard(attempt.mark)

    # ------------------------------------------------------------------------------------------------ what happens

    def shown(self, group_id: Hash, lock: Lock, preimage: bytes) -> None:
        """The payee shows the preimage, whether or not its claim is committed yet: the payment is made."""
        payment, attempt = self._of(group_id, lock)
        if payment is not None and attempt is not None and not payment.preimage:
            changed = core.replaced(payment, attempt.mark, lock=lock.id)
            self._put(structs.replace(changed, preimage=preimage), synced=True)

    def lose(self, group_id: Hash, ended: Ended) -> None:
        """A lock is gone; it may have been ours."""
        payment, attempt = self._of(group_id, ended.lock)
        if payment is None or attempt is None:
            return
        attempt = structs.replace(attempt, lock=ended.lock.id)
        if ended.is_paid:
            self._succeed(payment, attempt, ended)
        elif ended.how == "released":
            verdict = verdicts.of_release(attempt, ended.reason, self._us, self.name_of)
            self._fail(payment.payment_hash, attempt, verdict)
        else:
            verdict = verdicts.of_expiry(attempt, self.name_of)
            self._fail(payment.payment_hash, attempt, verdict, synced=ended.how == "returned")

    def settled(self, group_id: Hash, shown: LedgerGroup) -> None:
        """Layer 1 has closed a channel: a lock of ours that is not in what it settled on never was.

        Of one of which we lost data nobody can tell: it may have been claimed in a version that we forgot.
        """
        group = self._parts.host.groups.get(group_id)
        if group is None or group.lost or group.doubts:
            return
        stood = {(each.lock.hash, each.lock.amount, each.lock.expiry_ms) for each in shown.locks}
        for payment in list(self._open.values()):
            for attempt in payment.attempts:
                ours = attempt.group_id == group_id and attempt.fate is Fate.PENDING
                if ours and (payment.payment_hash, attempt.amount, attempt.expiry_ms) not in stood:
                    text = f"the ledger closed channel {group_id.hex()[:12]} without the lock: the money is back"
                    self._fail(payment.payment_hash, attempt, Verdict("group_closed", text, -1), synced=True)

    def _succeed(self, payment: Payment, attempt: Attempt, ended: Ended) -> None:
        preimage = payment.preimage or ended.preimage or b""
        known = bool(payment.preimage) or not preimage
        changed = core.replaced(payment, attempt.mark, lock=attempt.lock, fate=Fate.PAID)
        self._note(payment, attempt)
        self._put(structs.replace(changed, preimage=preimage), synced=not known or ended.how == "paid")
        self._learn(payment.payment_hash, attempt, Outcome.paid())

    def _note(self, payment: Payment, attempt: Attempt) -> None:
        """What the history says of it beside its lock: whom it was for, and what it cost."""
        circle = payment.kind is Kind.CIRCLE
        channel = attempt.group_id.hex()
        self._parts.history.add(
            f"{channel}:lock:{attempt.lock}:payment",
            "rebalanced" if circle else "payment",
            0 if circle else -attempt.received,
            channel=channel,
            peer=format_address(payment.payee),
            memo=(payment.invoice.description or None) if payment.invoice is not None else None,
            payment_hash=payment.payment_hash.hex(),
            fee=attempt.fee,
        )

    def _fail(self, name: Hash, attempt: Attempt, verdict: Verdict, *, synced: bool = False) -> None:
        """An attempt has failed for certain."""
        payment, trying = self._open[name], self._trying.get(name)
        if trying is not None:
            trying.course = trying.course.refused(verdict.avoid)
            if verdict.is_final:
                trying.course = trying.course.stopped(verdict.code, verdict.message)
            trying.told.failed(attempt, verdict)
        place = verdict.place
        outcome = Outcome.lost() if place is None else Outcome.refused(place, verdict.said)
        self._learn(name, attempt, outcome)
        what = {"code": verdict.code, "message": verdict.message, "place": place, "lock": attempt.lock}
        self._put(core.replaced(payment, attempt.mark, fate=Fate.FAILED, **what), synced=synced)

    def _learn(self, name: Hash, attempt: Attempt, outcome: Outcome) -> None:
        trying = self._trying.get(name)
        way = trying.ways.pop(attempt.mark, None) if trying is not None else None
        if way is not None:
            self._ways.learn(way, outcome)

    def _of(self, group_id: Hash, lock: Lock) -> tuple[Payment | None, Attempt | None]:
        """The attempt that made a lock: known by its id, or, if we stopped before we knew that, by its terms."""
        payment = self._open.get(lock.hash)
        if payment is None:
            return None, None
        mine = [each for each in payment.attempts if each.group_id == group_id]
        terms = lock.amount, lock.expiry_ms
        named = [each for each in mine if each.lock == lock.id]  # after a start the ends of earlier tries come again
        found = named or [each for each in mine if not each.lock and (each.amount, each.expiry_ms) == terms]
        found = [each for each in found if each.fate is Fate.PENDING]
        return (payment, found[0]) if found else (None, None)

    def _stands(self, name: Hash, attempt: Attempt, number: int) -> None:
        """The lock of an attempt has a name now; by now it may have ended, too. The journal knows it: no sync."""
        payment, lock = self._open.get(name), (attempt.group_id, number)
        if payment is None or any((each.group_id, each.lock) == lock for each in payment.attempts):
            return  # it came back before we knew whose it was, and counted for another one with the same terms
        if any(each.mark == attempt.mark and not each.lock for each in payment.attempts):
            self._open[name] = core.replaced(payment, attempt.mark, lock=number)

    def circle(self, payment_hash: Hash) -> Circle | None:
        """What we pay to ourselves just now under a hash: the payee's side takes exactly that back."""
        payment = self._open.get(payment_hash)
        if payment is None or payment.kind is not Kind.CIRCLE:
            return None
        return Circle(payment.secret, payment.amount, payment.own_preimage, payment.last_channel)

    # ----------------------------------------------------------------------------------------- what nobody told us

    async def _watch(self) -> None:
        """See what was never offered, and what stands though we stopped before we knew its name."""
        while True:
            for payment in list(self._open.values()):
                for attempt in payment.attempts:
                    if attempt.fate is Fate.PENDING and not attempt.lock:
                        self._look(payment, attempt)
            await asyncio.sleep(LOOK_S)

    def _look(self, payment: Payment, attempt: Attempt) -> None:
        name, taken = payment.payment_hash, {each.lock for each in self._open[payment.payment_hash].attempts}
        for lock in self._locking.outgoing_in(attempt.group_id):
            same = (lock.hash, lock.amount, lock.expiry_ms) == (name, attempt.amount, attempt.expiry_ms)
            if same and lock.id not in taken:
                return self._stands(name, attempt, lock.id)
        if attempt.mark in self._offering or self._is_on_its_way(attempt):
            self._missing.discard(attempt.mark)
        elif attempt.mark in self._missing:
            self._missing.discard(attempt.mark)
            self._fail(name, attempt, verdicts.never_offered())
        else:
            self._missing.add(attempt.mark)  # what is being told just now is known by the next look
        return None

    def _is_on_its_way(self, attempt: Attempt) -> bool:
        """Whether an offer that does not stand yet may still be made."""
        group = self._parts.host.groups.get(attempt.group_id)
        if group is None or not group.informed or not is_past_the_restart(group):
            return True  # the peer may have kept what we said before our start
        return any(attempt.mark in command.payload for command in open_commands(group))

    def _put(self, payment: Payment, *, synced: bool) -> None:
        changed, name = structs.replace(payment, changed_ms=now_ms()), payment.payment_hash
        self._book.put(changed, synced=synced)
        if changed.unfinished or name in self._trying:
            self._open[name] = changed
        else:
            self._open.pop(name, None)
        self._ring(name)


def _attempt(way: Way, expiry_ms: int) -> Attempt:
    """A lock that is to be offered."""
    session = os.urandom(KEY_BYTES)
    return Attempt(way.path, expiry_ms, session, public_of(session))


def refusal_of(payment: Payment, stop: Stop | None) -> Refused:
    """Why a payment failed: what the last hop said that refused, and why nothing else was tried."""
    last = payment.attempts[-1]
    if stop is None or stop.message == last.message:
        return Refused(last.code, last.message)
    return Refused(last.code, f"{last.message}. Nothing else was tried: {stop.message}")

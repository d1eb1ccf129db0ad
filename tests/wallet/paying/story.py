"""A payer among channels that do what they like: locks that end in any order, offers of unknown fate, crashes.

The truth is here, in `Street`: every lock that stands, and who got it. The payer is the real one, with the real core,
over a book that forgets what was not synced when the power fails; desk, channels and hops are stand-ins that a seed
drives, and that lie within what they can.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from layer1.crypto import Hash
from layer1.errors import Refused
from layer1.ledger.agreements import Lock
from layer2.driver import Pending
from tests.wallet.paying.samples import HASH, PAYEE, PREIMAGE, US, channel, key_of, node
from tests.wallet.standin import make_genesis
from wallet.lock_news import Ended
from wallet.onion.failure import Code, Failure, relay, wrap
from wallet.onion.packet import secrets
from wallet.paying.core import Find
from wallet.paying.payer import Payer, Paying
from wallet.paying.records import Attempt, Fate, Kind, Payment, Step
from wallet.paying.ways import Errand, Way
from wallet.requests import Report, no_report
from wallet.signals import Signals

AMOUNT, MAX_FEE, CLOCK_MS = 1_000, 20, 1_000_000
PAYMENT = Payment(Kind.SPONTANEOUS, HASH, PAYEE, AMOUNT, MAX_FEE, own_preimage=PREIMAGE)
OURS = ("red", "blue")
CODES = (Code.NO_LIQUIDITY, Code.BUSY, Code.NEXT_AWAY, Code.PARTS_MISSING, Code.EXPIRES_TOO_SOON, Code.UNKNOWN_PAYMENT)


class Book:
    """The part of `InvoiceBook` that a payer uses; a loss of power takes what was not synced since."""

    def __init__(self) -> None:
        self.now: dict[Hash, Payment] = {}
        self.durable: dict[Hash, Payment] = {}

    def put(self, record: Payment, *, synced: bool = True) -> None:
        self.now[record.payment_hash] = record
        if synced:
            self.durable = dict(self.now)

    def payment(self, name: Hash) -> Payment | None:
        return self.now.get(name)

    def pending(self) -> list[Payment]:
        return [each for each in self.now.values() if each.unfinished]


@dataclass
class Street:
    """Our channels, and what became of each lock in them."""

    rng: random.Random
    locks: dict[int, tuple[Hash, Lock]] = field(default_factory=dict)
    """Those that stand."""
    claimed: dict[int, Lock] = field(default_factory=dict)
    done: dict[tuple[Hash, int], Ended] = field(default_factory=dict)
    """As the journal has it."""
    late: list[tuple[Hash, Lock, bytes]] = field(default_factory=list)
    """Offers of which nobody knows whether they will be made."""
    margin_ms: int = 1_000
    number: int = 0

    async def begin(self, group_id: Hash, amount: int, hashed: Hash, expiry_ms: int, packet: bytes) -> Lock:
        await asyncio.sleep(0)
        self.number += 1
        lock = Lock(self.number, 0, 1, amount, hashed, expiry_ms)
        match self.rng.choice(("stands", "stands", "stands", "refused", "late", "stands and nobody says so")):
            case "refused":
                raise Refused("too_many_locks", "no slot")
            case "late":
                self.late.append((group_id, lock, packet))
                raise Pending(group_id, lock.id, "the link broke")
            case how:
                self.locks[lock.id] = group_id, lock
                if how != "stands":
                    raise Pending(group_id, lock.id, "the link broke")
                return lock

    def outgoing_in(self, group_id: Hash) -> list[Lock]:
        return [lock for name, lock in self.locks.values() if name == group_id]

    def ends(self) -> Iterator[tuple[Hash, Ended]]:
        yield from ((group_id, ended) for (group_id, _), ended in self.done.items())

    @property
    def groups(self) -> dict[Hash, Any]:
        """As the payer reads them, a primary: what may still be offered is in its outbox."""
        return {channel(name): self._group(channel(name)) for name in OURS}

    def _group(self, name: Hash) -> Any:
        kept = [SimpleNamespace(member=0, payload=packet) for group_id, _, packet in self.late if group_id == name]
        place = SimpleNamespace(is_primary=True, index=0)
        empty: dict[str, Any] = {"queue": [], "tail": (), "pending": None, "lost": False, "doubts": ()}
        return SimpleNamespace(informed=True, outbox=kept, place=place, **empty)


class Desk:
    """Finds ways that are asked for, or others."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.asked = rng, list[Find]()

    async def find(self, errand: Errand, wanted: Find, expiry_ms: int, report: Report) -> Sequence[Way]:
        await asyncio.sleep(0)
        self.asked.append(wanted)
        if self.rng.random() < 0.1:
            raise Refused("no_route", "no way")
        parts = self.rng.randint(1, max(wanted.parts, 1))
        greedy = self.rng.random() < 0.1
        units = wanted.amount + (self.rng.randint(0, 50) if greedy else 0)
        fee = max(wanted.max_fee, 0) + (self.rng.randint(0, 5) if greedy else 0)
        share, cost = max(units // parts, 1), fee // parts
        return [Way(self._path(share, cost)) for _ in range(parts) if share * parts <= units]

    def _path(self, units: int, fee: int) -> tuple[Step, ...]:
        ours, hub = self.rng.choice(OURS), self.rng.choice(("hub", "well"))
        if not fee:
            return (Step(channel(ours), PAYEE, units),)
        return Step(channel(ours), node(hub), units + fee), Step(channel(f"{hub}-payee"), PAYEE, units)

    def learn(self, way: Way, outcome: object) -> None:
        """Nothing: it is as bad the next time."""


class Story:
    """One payment, from the first call until all is quiet."""

    def __init__(self, seed: int, payer: type[Payer] = Payer) -> None:
        self.rng = random.Random(seed)
        self.book, self.street, self.desk = Book(), Street(self.rng), Desk(self.rng)
        self.made = payer
        self.name = PAYMENT.payment_hash
        self.history: dict[str, int] = {}

    def open(self) -> Payer:
        """The wallet is opened."""
        street = self.street
        host = type("Host", (), {"clock_ms": lambda _: CLOCK_MS, "groups": property(lambda _: street.groups)})()
        parts = SimpleNamespace(
            host=host,
            keys=SimpleNamespace(spending=key_of("us")),
            genesis=make_genesis(US),
            signals=Signals(),
            settled=self._settled,
            history=SimpleNamespace(add=lambda name, *_, fee, **__: self.history.update({name: fee})),
        )
        found = self.made(parts, street, self.book, lambda: CLOCK_MS, self.desk)  # type: ignore[arg-type]
        found.start()
        return found

    async def _settled(self) -> None:
        """The standby takes its time."""
        for _ in range(self.rng.randrange(20)):
            await asyncio.sleep(0)

    async def run(self) -> Payment:
        """Until nothing is left to happen; the invariants hold after each step."""
        payer, calls = self.open(), list[asyncio.Task[Any]]()
        for step in range(60):
            if not step or self.rng.random() < 0.1:
                calls.append(asyncio.ensure_future(payer.pay(Errand(PAYMENT, 0, 3), 60, no_report)))
            for _ in range(self.rng.randint(1, 12)):
                await asyncio.sleep(0)
                self.check(payer)
            if self.rng.random() < 0.15:
                await self.crash(payer, calls)
                payer = self.open()
            else:
                self.something_happens(payer)
            self.look(payer)
            self.check(payer)
            if step > 40 and not self.street.locks and not self.street.late and not payer.is_busy:
                break
        return await self.end(payer, calls)

    async def crash(self, payer: Payer, calls: list[asyncio.Task[Any]]) -> None:
        """The process is killed, or the power fails: then what was not synced is gone."""
        await self._leave(payer, calls)
        if self.rng.random() < 0.5:
            self.book.now = dict(self.book.durable)

    @staticmethod
    async def _leave(payer: Payer, calls: list[asyncio.Task[Any]]) -> None:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        calls.clear()
        await payer.close()

    async def end(self, payer: Payer, calls: list[asyncio.Task[Any]]) -> Payment:
        """Everything that is open ends, and everybody who asked is told."""
        for _ in range(200):
            self.something_happens(payer)
            self.look(payer)
            await asyncio.sleep(0)
            self.check(payer)
            if not payer.is_busy and not payer.is_trying(self.name):
                break
        assert not payer.is_busy, "a payment ends as paid or as failed"
        said = await asyncio.gather(*calls, return_exceptions=True)
        record = self.book.payment(self.name)
        for each in said:
            good = isinstance(each, Refused) or (isinstance(each, Paying) and each.payment.fate is Fate.PAID)
            assert good, each
        await payer.close()
        return record or PAYMENT

    def look(self, payer: Payer) -> None:
        """As `_watch` does each second."""
        for payment in list(payer._open.values()):
            for attempt in payment.attempts:
                if attempt.fate is Fate.PENDING and not attempt.lock:
                    payer._look(payment, attempt)

    def something_happens(self, payer: Payer) -> None:
        """One lock ends, or an offer that was late is made, or never."""
        if self.street.late and self.rng.random() < 0.5:
            group_id, lock, _ = self.street.late.pop(self.rng.randrange(len(self.street.late)))
            if self.rng.random() < 0.5:
                self.street.locks[lock.id] = group_id, lock
        elif self.street.locks:
            number = self.rng.choice(sorted(self.street.locks))
            self._ends(payer, *self.street.locks.pop(number))

    def _ends(self, payer: Payer, group_id: Hash, lock: Lock) -> None:
        how = self.rng.choice(("claimed", "released", "released", "released", "expired"))
        if self.street.claimed and how != "claimed" and self.rng.random() < 0.5:
            how = "claimed"
        reason = self._reason(group_id, lock) if how == "released" else b""
        ended = Ended(lock, how, PREIMAGE if how == "claimed" else None, reason)
        self.street.done[group_id, lock.id] = ended
        if how == "claimed":
            self.street.claimed[lock.id] = lock
            if self.rng.random() < 0.7:
                payer.shown(group_id, lock, PREIMAGE)
        payer.lose(group_id, ended)

    def _reason(self, group_id: Hash, lock: Lock) -> bytes:
        """Of some hop of the path; or nonsense."""
        record = self.book.payment(self.name)
        mine = [each for each in record.attempts if self._is(each, group_id, lock)] if record is not None else []
        if not mine or self.rng.random() < 0.1:
            return self.rng.choice((b"", bytes(292), b"short"))
        shared, _ = secrets(mine[0].origin)
        place = self.rng.randrange(len(shared))
        reason = wrap(shared[place], Failure(self.rng.choice(CODES)))
        for secret in reversed(shared[:place]):
            reason = relay(secret, reason)
        return reason

    @staticmethod
    def _is(attempt: Attempt, group_id: Hash, lock: Lock) -> bool:
        same = (attempt.group_id, attempt.amount, attempt.expiry_ms) == (group_id, lock.amount, lock.expiry_ms)
        return same and attempt.fate is Fate.PENDING

    def check(self, payer: Payer) -> None:
        """Never more than amount and fee, whatever may still be made; and a failed payment has cost nothing."""
        standing = [lock for _, lock in self.street.locks.values()] + [lock for _, lock, _ in self.street.late]
        at_stake = sum(lock.amount for lock in (*standing, *self.street.claimed.values()))
        assert at_stake <= AMOUNT + MAX_FEE, f"{at_stake} units are paid or may be, of {AMOUNT} and {MAX_FEE}"
        record = payer.current(self.name)
        if record is not None and record.fate is Fate.FAILED and not payer.is_trying(self.name):
            assert not standing and not self.street.claimed, "failed is failed for certain"

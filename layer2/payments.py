"""The machine ``payments/2``: members pay each other from their balances, at once or under a condition.

Safety: money leaves a balance by its owner's own `Pay` or `Offer` alone, and a lock ends once: at its payee with the
preimage, or back at its payer.

What is here is deterministic and knows no clock. Whether a member may agree to a command *now* (is the lock expired,
is there time left to claim it) is asked besides, by :mod:`layer2.guarding`. Ids of locks count up over the life of the
group and are never used again, so that a command never means another lock than its issuer saw.

Source: docs/design/groups.md, rule 20; decision 036.
"""

from __future__ import annotations

from collections.abc import Iterable

from layer1.codec import Struct, decode, encode
from layer1.crypto import HASH_BYTES, Hash
from layer1.errors import Refused, RemoteError, check
from layer1.ledger.agreements import Lock
from layer1.ledger.locks import PREIMAGE_BYTES, preimage_hash
from layer2.machine import Balances
from layer2.messages import Command

MACHINE = "payments/2"
"""What agreements call it."""
MAX_MEMO_BYTES = 64
"""Room for an invoice's 32-byte identifier or a short text; memos are kept with the history of both sides."""
MAX_PACKET_BYTES = 1_366
"""Of what an offer carries for its payee: an onion packet, see decision 036."""
MAX_REASON_BYTES = 292
"""Of what a release carries for the payer: a wrapped failure, see decision 036."""
MAX_TIME_MS = 2**53 - 1
"""Of a ledger clock: every encoding can hold it."""


class Pay(Struct, tag=1):
    """Pay `amount` from the issuer's balance to member `payee`."""

    payee: int
    """Index in the agreement; not the issuer."""
    amount: int
    """Minor units, at least 1."""
    memo: bytes = b""
    """For the payee, such as the invoice that this pays; at most 64 bytes."""


class Offer(Struct, tag=2):
    """Lock `amount` of the issuer's balance for `payee`, who gets it for the preimage of `hash`."""

    payee: int
    """Index in the agreement; not the issuer."""
    amount: int
    """Minor units, at least 1."""
    hash: Hash
    """SHA-256 of the preimage, 32 bytes."""
    expiry_ms: int
    """Ledger clock, ms; the last one at which the preimage counts."""
    packet: bytes = b""
    """For the payee alone, who alone reads it; no state holds it. At most 1,366 bytes."""


class Claim(Struct, tag=3):
    """By the payee of a lock: pay it to me, here is the preimage."""

    lock: int
    """Its id."""
    preimage: bytes
    """32 bytes."""

    @property
    def hash(self) -> Hash:
        """What it opens."""
        return preimage_hash(self.preimage)


class Release(Struct, tag=4):
    """By the payee of a lock: I do not want it, give it back."""

    lock: int
    """Its id."""
    reason: bytes = b""
    """For the payer alone, who alone reads it. At most 292 bytes."""


class Expire(Struct, tag=5):
    """By the payer of a lock: its time is over, give it back."""

    lock: int
    """Its id."""


LockCommand = Claim | Release | Expire
PaymentCommand = Pay | Offer | LockCommand
_KINDS: dict[bytes, type[PaymentCommand]] = {
    b"\x01": Pay, b"\x02": Offer, b"\x03": Claim, b"\x04": Release, b"\x05": Expire,
}  # fmt: skip
"""By tag, the second byte of each encoding: picking one costs less than decoding a union."""


_PAY, _ENDS = b"\x01", (b"\x03", b"\x04", b"\x05")
_FOUR_ITEMS = 0x94
"""First byte of an encoded `Pay`, and of no other command: a tag and three fields."""


class Locks(Struct):
    """The machine's state: all pending locks. None stands for it until there was one."""

    count: int
    """How many there ever were: the id of the newest."""
    pending: tuple[Lock, ...] = ()
    """In order of id. They stand in the body's `locks`; the encoded machine state has the count alone."""

    def get(self, number: int) -> Lock | None:
        """The pending lock of this id."""
        return next((lock for lock in self.pending if lock.id == number), None)

    def without(self, number: int) -> Locks:
        """What is left when this lock is gone."""
        return Locks(self.count, tuple(lock for lock in self.pending if lock.id != number))


class Payments:
    """Balances and locks. Without a lock ever made it has no state of its own: None, in no bytes at all."""

    name = MACHINE

    def initial(self, member_count: int) -> Locks | None:
        """No lock."""
        return None

    def encode(self, state: Locks | None) -> bytes:
        """How many locks there were; empty without any."""
        return b"" if state is None else encode(state.count)

    def decode(self, data: bytes, member_count: int) -> Locks | None:
        """Inverse of :meth:`encode`, without pending locks: :meth:`with_locks` adds them."""
        if not data:
            return None
        count = decode(data, int)
        if not 0 < count <= MAX_TIME_MS:
            raise RemoteError(f"the state counts {count} locks; empty is for none, at most {MAX_TIME_MS} may be")
        return Locks(count)

    def locks(self, state: Locks | None) -> tuple[Lock, ...]:
        """What the body names beside the balances."""
        return () if state is None else state.pending

    def with_locks(self, state: Locks | None, locks: tuple[Lock, ...]) -> Locks | None:
        """A decoded state with what its body names."""
        if not locks:
            return state
        if state is None or locks[-1].id > state.count:
            raise RemoteError(f"a state of {0 if state is None else state.count} locks holds lock {locks[-1].id}")
        return Locks(state.count, locks)

    def apply(
        self, state: Locks | None, balances: Balances, member: int, command: bytes
    ) -> tuple[Balances, Locks | None]:
        """Apply one command.

        Raises:
            Refused: ``bad_command``, ``bad_payee``, ``bad_amount``, ``memo_too_long``, ``insufficient_balance``;
                ``bad_hash``, ``bad_expiry``, ``packet_too_long``, ``reason_too_long``, ``unknown_lock``,
                ``not_your_lock``, ``wrong_preimage``.
        """
        if command and command[0] != _FOUR_ITEMS:
            return _apply_lock(state, balances, member, command)
        try:
            request = decode(command, Pay)
        except RemoteError as error:
            raise Refused("bad_command", f"not a command of {MACHINE}: {error}") from error
        payee, amount = request.payee, request.amount
        if not 0 <= payee < len(balances) or payee == member or not 0 < amount <= balances[member]:
            _check_payment(balances, member, payee, amount)  # says which
        if len(request.memo) > MAX_MEMO_BYTES:
            raise Refused("memo_too_long", f"a memo of {len(request.memo)} bytes; the most is {MAX_MEMO_BYTES}")
        after = list(balances)
        after[member] -= amount
        after[payee] += amount
        return tuple(after), state


def _apply_lock(state: Locks | None, balances: Balances, member: int, command: bytes) -> tuple[Balances, Locks | None]:
    """All but :class:`Pay`, which comes a hundred times as often."""
    try:
        request = read_command(command)
    except RemoteError as error:
        raise Refused("bad_command", f"not a command of {MACHINE}: {error}") from error
    if isinstance(request, Pay):
        raise Refused("bad_command", f"not a command of {MACHINE}: {len(command)} bytes")
    if isinstance(request, Offer):
        return _offer(state, balances, member, request)
    lock = _lock_of(state, member, request)
    assert state is not None, "a lock was found in it"
    if isinstance(request, Claim):
        hashed = preimage_hash(request.preimage)
        good = len(request.preimage) == PREIMAGE_BYTES and hashed == lock.hash
        check(good, "wrong_preimage", f"the preimage of lock {lock.id} hashes to {lock.hash.hex()}, not this one")
    to = lock.payee if isinstance(request, Claim) else lock.payer
    return _add(balances, to, lock.amount), state.without(lock.id)


def read_command(command: bytes) -> PaymentCommand:
    """Decode a command of this machine.

    Raises:
        RemoteError: It is none.
    """
    return decode(command, _KINDS.get(command[1:2], Pay))


def read_lock_command(command: bytes) -> LockCommand | None:
    """A command that ends a lock; None for any other, and for what is no command."""
    if command[1:2] not in _ENDS:
        return None
    try:
        found = read_command(command)
    except RemoteError:
        return None
    return found if isinstance(found, LockCommand) else None


def lock_news(state: Locks | None, commands: Iterable[Command]) -> list[tuple[Lock, int, Offer | LockCommand]]:
    """What becomes of locks by commands that apply: (lock, who issued it, command), in order.

    Args:
        state: Before them.
        commands: Of one version, refused ones left out.
    """
    news: list[tuple[Lock, int, Offer | LockCommand]] = []
    locks = {} if state is None else {lock.id: lock for lock in state.pending}
    count = 0 if state is None else state.count
    for command in commands:
        if command.payload[1:2] == _PAY:
            continue
        request = read_command(command.payload)
        if isinstance(request, Offer):
            count += 1
            lock = Lock(count, command.member, request.payee, request.amount, request.hash, request.expiry_ms)
            locks[count] = lock
            news.append((lock, command.member, request))
        elif not isinstance(request, Pay):
            news.append((locks.pop(request.lock), command.member, request))
    return news


def pay(payee: int, amount: int, memo: bytes = b"") -> bytes:
    """The command that pays `amount` minor units to member `payee`."""
    return encode(Pay(payee, amount, memo))


def offer(payee: int, amount: int, hashed: Hash, expiry_ms: int, packet: bytes = b"") -> bytes:
    """The command that locks `amount` minor units for member `payee` under `hashed`, until `expiry_ms`."""
    return encode(Offer(payee, amount, hashed, expiry_ms, packet))


def claim(lock: int, preimage: bytes) -> bytes:
    """The command by which the payee of a lock takes it."""
    return encode(Claim(lock, preimage))


def release(lock: int, reason: bytes = b"") -> bytes:
    """The command by which the payee of a lock gives it back."""
    return encode(Release(lock, reason))


def expire(lock: int) -> bytes:
    """The command by which the payer of a lock takes it back when its time is over."""
    return encode(Expire(lock))


def _check_payment(balances: Balances, member: int, payee: int, amount: int) -> None:
    if not 0 <= payee < len(balances) or payee == member:
        raise Refused("bad_payee", f"member {member} cannot pay member {payee} of {len(balances)}")
    if amount < 1:
        raise Refused("bad_amount", f"a payment of {amount} units; the least is 1")
    if amount > balances[member]:
        raise Refused(
            "insufficient_balance",
            f"a payment of {amount} units from a balance of {balances[member]}: pay less, or be paid first",
        )


def _offer(state: Locks | None, balances: Balances, member: int, request: Offer) -> tuple[Balances, Locks]:
    size, expiry_ms, packet = len(request.hash), request.expiry_ms, len(request.packet)
    check(size == HASH_BYTES, "bad_hash", f"a hash of {size} bytes; SHA-256 has {HASH_BYTES}")
    good = 0 <= expiry_ms <= MAX_TIME_MS
    check(good, "bad_expiry", f"an expiry at clock {expiry_ms}; it is from 0 to {MAX_TIME_MS}")
    check(packet <= MAX_PACKET_BYTES, "packet_too_long", f"a packet of {packet} bytes; the most is {MAX_PACKET_BYTES}")
    _check_payment(balances, member, request.payee, request.amount)
    before = state or Locks(0)
    number = before.count + 1
    lock = Lock(number, member, request.payee, request.amount, request.hash, expiry_ms)
    return _add(balances, member, -request.amount), Locks(number, (*before.pending, lock))


def _lock_of(state: Locks | None, member: int, request: Claim | Release | Expire) -> Lock:
    """The lock that the command is about, if it is for this member to end it so."""
    lock = state.get(request.lock) if state is not None else None
    if lock is None:
        raise Refused("unknown_lock", f"no lock {request.lock} is pending; it may have ended already")
    owner, what = (lock.payer, "payer") if isinstance(request, Expire) else (lock.payee, "payee")
    if owner != member:
        raise Refused("not_your_lock", f"member {owner} is the {what} of lock {lock.id}, not member {member}")
    if isinstance(request, Release) and len(request.reason) > MAX_REASON_BYTES:
        size = len(request.reason)
        raise Refused("reason_too_long", f"a reason of {size} bytes; the most is {MAX_REASON_BYTES}")
    return lock


def _add(balances: Balances, member: int, units: int) -> Balances:
    return tuple(balance + units if i == member else balance for i, balance in enumerate(balances))

"""Conditional payments as layer 1 knows them: whether locks are well-formed, and to whom each goes.

Safety: a lock goes to its payee if its preimage was registered by its expiry, to its payer otherwise; never to both,
and never before one of the two is certain.

A registration carries the clock of its block, and the first one stands: so whether it was timely is the same for
whoever asks, whenever that is, also after the expiry. What is not registered when the clock is past the expiry, never
will be in time. So the outcome does not depend on when the group is wedged, settled, or gets its turn.

That holds while the registration is kept, and whoever chose the preimage may have registered it long ago. So showing
it again renews how long it is kept, and whoever needs it can see to it (`wallet.locking`).

Source: docs/design/groups.md, rules 21 and 22; decision 036; Miller et al., Sprites and State Channels (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from msgspec import structs

from layer1.crypto import HASH_BYTES, Hash
from layer1.errors import Refused, check
from layer1.ledger.agreements import Lock
from layer1.ledger.records import ClosedLock, Registration

PREIMAGE_BYTES = 32
"""Of a preimage: whoever guesses one, guesses a key."""
MAX_PREIMAGES = 64
"""In one transaction: each is a leaf of the tree to write."""
LOCK_BYTES = 64
"""Of an encoded lock at most: two hashes' worth, with its numbers."""
MAX_MONEY = 2**53 - 1
"""As in the genesis, which depends on this module."""


def preimage_hash(preimage: bytes) -> Hash:
    """What a lock is under, and where a preimage stands in the registry: SHA-256, for other ledgers know it too."""
    return sha256(preimage).digest()


def check_preimages(preimages: Sequence[bytes]) -> None:
    """Refuse what the registry does not take.

    Raises:
        Refused: ``bad_preimages``.
    """
    count = len(preimages)
    check(1 <= count <= MAX_PREIMAGES, "bad_preimages", f"{count} preimages; 1 to {MAX_PREIMAGES} may be registered")
    for preimage in preimages:
        size = len(preimage)
        check(size == PREIMAGE_BYTES, "bad_preimages", f"a preimage of {size} bytes; it has {PREIMAGE_BYTES}")


def check_locks(locks: Sequence[Lock], members: int, most: int, code: str) -> None:
    """Refuse locks that no state may have.

    Args:
        locks: Of one state.
        members: How many there are.
        most: Locks in one state, as agreed.
        code: Of the refusal.
    """
    check(len(locks) <= most, code, f"the state has {len(locks)} locks; the members agreed on {most} at most")
    before = 0
    for lock in locks:
        if not before < lock.id <= MAX_MONEY:
            raise Refused(code, f"lock {lock.id} comes after lock {before}; ids count up from 1")
        before = lock.id
        _check_lock(lock, members, code)


def bounded(locks: Sequence[ClosedLock], latest_ms: int) -> tuple[ClosedLock, ...]:
    """Locks of the state that a group is closed on: none pends for longer than any lock may be."""
    return tuple(structs.replace(each, until_ms=min(each.until_ms, latest_ms)) for each in locks)


def pay_locks(
    locks: Sequence[ClosedLock], registered: Callable[[Hash], Registration | None], clock_ms: int
) -> tuple[ClosedLock, ...]:
    """The same, each that is certain now with who gets it (rule 21).

    Args:
        locks: Of a closed group.
        registered: Knows what the ledger knows of a hash.
        clock_ms: Ledger clock of the block.
    """
    return tuple(
        each if each.paid_to is not None else _paid(each, registered(each.lock.hash), clock_ms) for each in locks
    )


def after_showing(found: Registration | None, preimage: bytes, clock_ms: int, renew_after_ms: int) -> Registration:
    """What the ledger knows of a preimage once it is shown (again). The first clock stands (rule 21).

    Args:
        found: What it knew before.
        preimage: 32 bytes.
        clock_ms: Ledger clock of the block.
        renew_after_ms: See :func:`is_renewable`.
    """
    if found is None:
        return Registration(preimage_hash(preimage), preimage, clock_ms, clock_ms)
    if is_renewable(found, clock_ms, renew_after_ms):
        return structs.replace(found, kept_from_ms=clock_ms)
    return found


def is_renewable(registration: Registration, clock_ms: int, renew_after_ms: int) -> bool:
    """Whether showing the preimage again renews how long it is kept: so much later than the last time, or nothing.

    Whoever repeats it more often writes nothing; and who keeps it for longer brings it about as often as a new one
    would have to be, so that the registry grows no larger than its lane lets through in the time that it keeps.
    """
    return clock_ms - registration.kept_from_ms >= renew_after_ms


def is_timely(registration: Registration | None, until_ms: int) -> bool:
    """Whether a preimage was registered in time: at the last clock is in time."""
    return registration is not None and registration.clock_ms <= until_ms


def _paid(each: ClosedLock, registration: Registration | None, clock_ms: int) -> ClosedLock:
    lock = each.lock
    if is_timely(registration, each.until_ms):
        return structs.replace(each, paid_to=lock.payee, clock_ms=clock_ms)
    if clock_ms > each.until_ms:
        return structs.replace(each, paid_to=lock.payer, clock_ms=clock_ms)
    return each


def _check_lock(lock: Lock, members: int, code: str) -> None:
    payer, payee = lock.payer, lock.payee
    if not (0 <= payer < members and 0 <= payee < members and payer != payee):
        raise Refused(code, f"lock {lock.id} is of member {payer} for member {payee}; it takes two of {members}")
    if not 1 <= lock.amount <= MAX_MONEY:
        raise Refused(code, f"lock {lock.id} is of {lock.amount} units; it has from 1 to {MAX_MONEY}")
    if len(lock.hash) != HASH_BYTES:
        raise Refused(code, f"lock {lock.id} has a hash of {len(lock.hash)} bytes; it has {HASH_BYTES}")
    if not 0 <= lock.expiry_ms <= MAX_MONEY:
        raise Refused(code, f"lock {lock.id} expires at {lock.expiry_ms}; from 0 to {MAX_MONEY} may be")

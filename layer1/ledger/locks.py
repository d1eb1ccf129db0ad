"""Conditional payments as layer 1 knows them: whether locks are well-formed, and to whom each goes.

Safety: a lock goes to its payee if its preimage was registered by its expiry, to its payer otherwise; never to both,
and never before one of the two is certain.

A registration carries the clock of its block, and the first one stands: so whether it was timely is the same for
whoever asks, whenever that is, also after the expiry. What is not registered when the clock is past the expiry, never
will be in time. So the outcome does not depend on when the group is wedged, settled, or gets its turn.

Source: docs/design/groups.md, rules 21 and 22; decision 036; Miller et al., Sprites and State Channels (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from layer1.crypto import HASH_BYTES, Hash
from layer1.errors import Refused, check
from layer1.ledger.agreements import Lock

PREIMAGE_BYTES = 32
"""Of a preimage: whoever guesses one, guesses a key."""
LOCK_BYTES = 64
"""Of an encoded lock at most: two hashes' worth, with its numbers."""
MAX_MONEY = 2**53 - 1
"""As in the genesis, which depends on this module."""


def preimage_hash(preimage: bytes) -> Hash:
    """What a lock is under, and where a preimage stands in the registry: SHA-256, for other ledgers know it too."""
    return sha256(preimage).digest()


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

"""Which process acts for an account: one term after the other, and the first that asks for a term has it.

*Safety:* each term of an account is of one process.

An appointment counts only if its term is one more than the last one's, and blocks are in one order. Layer 1 makes
nothing else of it: it is the master that fences the old head of a chain (decision 031).

Source: van Renesse and Schneider, Chain Replication (2004), section 2; docs/decisions/030 and 031.
"""

from __future__ import annotations

from layer1.crypto import HASH_BYTES
from layer1.errors import check
from layer1.ledger.records import Head
from layer1.ledger.settlement import short
from layer1.ledger.transactions import Appoint


def appoint(current: Head | None, request: Appoint, balance: int) -> Head:
    """The account's head after this request.

    Args:
        current: The account's head, None if it never had one.
        request: Signed by the account.
        balance: Of the account, minor units. The first appointment makes a leaf for good, so an account without money
            makes none; later ones do not ask: all money of a hub may be in its groups.

    Raises:
        Refused: ``bad_head``, ``empty_account`` or ``wrong_term``.
    """
    size = len(request.head)
    check(size == HASH_BYTES, "bad_head", f"a head of {size} bytes; a process is named by {HASH_BYTES}")
    if current is None:
        name = short(request.account)
        check(balance > 0, "empty_account", f"account {name} has 0 units; its first appointment needs 1 at least")
    following = 1 if current is None else current.term + 1
    check(
        request.term == following,
        "wrong_term",
        f"term {request.term} is asked for, the next one is {following}; look who is head now",
    )
    return Head(request.account, request.term, request.head)

"""What to make of a lock that came back: who did not forward it, why, and what is to be avoided. No I/O.

Every text names the hop, the cause and the remedy.

Source: `wallet.onion.failure`; decision 042.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from layer1.crypto import PublicKey
from layer1.errors import Refused
from wallet.onion.errors import OnionError
from wallet.onion.failure import Code, Told, unwrap
from wallet.paying.core import ENOUGH
from wallet.paying.records import Attempt
from wallet.routing.paths import Direction

Names = Callable[[PublicKey], str]
"""How people call a node."""

OF_A_HOP = {
    Code.NO_LIQUIDITY: "its channel with the next hop has too little money on its side, or no room, just now",
    Code.UNKNOWN_NEXT: "it has no channel with the next hop, or one that is closing",
    Code.NEXT_AWAY: "the next hop does not answer it",
    Code.NEXT_REFUSED_PACKET: "the next hop could not open its packet",
    Code.FEE_TOO_SMALL: "it wants a higher fee than it had announced",
    Code.AMOUNT_TOO_SMALL: "it forwards no payment as small as this",
    Code.AMOUNT_TOO_LARGE: "it forwards no payment as large as this over that channel",
    Code.EXPIRES_TOO_SOON: "the lock would not be good for long enough for it",
    Code.EXPIRES_TOO_LATE: "the lock would be good for longer than it takes",
    Code.BAD_PAYLOAD: "it makes no sense of what its packet says",
    Code.BUSY: "it has too many payments in work",
}
"""What people read of a hop's refusal."""
OF_THE_PAYEE = {
    Code.UNKNOWN_PAYMENT: "it has no such invoice open (paid, cancelled, expired), or not for this amount. Ask it for "
    "another invoice",
    Code.UNKNOWN_SPONTANEOUS: "it takes no payments without an invoice. Ask it for an invoice",
    Code.PARTS_MISSING: "the other parts did not come in time. Try again, in fewer parts or one",
    Code.EXPIRES_TOO_SOON: "the lock would not have been good for long enough when it arrived. Try again",
    Code.BAD_PAYLOAD: "it makes no sense of what its packet says. Take a newer release, there or here",
}
MENDED_BY_LESS = frozenset({Code.NO_LIQUIDITY, Code.AMOUNT_TOO_LARGE})
"""A smaller part may pass where this was said."""
WORTH_ANOTHER_TRY = frozenset({Code.PARTS_MISSING, Code.EXPIRES_TOO_SOON})
"""Of what a payee says; all else is its last word."""
BACK = "The money is back"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of an attempt that failed."""

    code: str
    message: str
    place: int | None = None
    """Who refused: its number in the path, -1 for ourselves; None if nobody knows."""
    said: Code | None = None
    """What that hop said, if it did."""
    is_final: bool = False
    """Whether nothing else is to be tried."""
    avoid: Mapping[Direction, int] = field(default_factory=dict)
    """What did not forward, and how much that weighs against it."""


def of_release(attempt: Attempt, reason: bytes, us: PublicKey, names: Names) -> Verdict:
    """A lock was given back, with what its failure says."""
    try:
        told = unwrap(attempt.origin, reason)
    except OnionError as error:
        return _unreadable(attempt, str(error), reason, us)
    by_payee = told.place == len(attempt.path) - 1
    return _of_payee(attempt, told, us) if by_payee else _of_hop(attempt, told, names)


def of_expiry(attempt: Attempt, names: Names) -> Verdict:
    """A lock was taken back when its time was over: some hop kept it, nobody knows which."""
    payee = names(attempt.path[-1].node)
    text = f"{payee} did not take it in time, or a hop before it kept it; the money is back. Try again"
    return Verdict("expired", text, is_final=True, avoid=_all_behind_us(attempt))


def of_our_own(attempt: Attempt, refusal: Refused, us: PublicKey) -> Verdict:
    """Our own channel did not take the lock."""
    text = f"our channel {attempt.group_id.hex()[:12]} did not take it: {refusal.message}"
    return Verdict(refusal.code, text, -1, avoid={(attempt.group_id, us): ENOUGH})


def never_offered() -> Verdict:
    """We stopped between the record and the offer."""
    return Verdict("not_offered", "it was never offered; no money has moved. Try again")


def _of_hop(attempt: Attempt, told: Told, names: Names) -> Verdict:
    code, onward = told.failure.code, attempt.path[told.place + 1]
    why = OF_A_HOP.get(code, "it gives no better reason")
    text = (
        f"hop {told.place + 1}, {names(told.node)}, did not forward to {names(onward.node)} ({code.value}): {why}. "
        f"{BACK}"
    )
    weight = 1 if code in MENDED_BY_LESS else ENOUGH
    return Verdict(code.value, text, told.place, code, avoid={(onward.channel, told.node): weight})


def _of_payee(attempt: Attempt, told: Told, us: PublicKey) -> Verdict:
    """What may be mended is tried again, but not for ever: each time counts against the last hop."""
    code = told.failure.code
    why = OF_THE_PAYEE.get(code, "it gives no better reason. Ask it")
    text = f"the payee does not take it ({code.value}): {why}. {BACK}"
    before = attempt.path[-2].node if len(attempt.path) > 1 else us
    is_final = code not in WORTH_ANOTHER_TRY
    avoid = {} if is_final else {(attempt.path[-1].channel, before): 1}
    return Verdict(code.value, text, told.place, code, is_final=is_final, avoid=avoid)


def _unreadable(attempt: Attempt, error: str, reason: bytes, us: PublicKey) -> Verdict:
    """Somebody on the way altered the failure, or our neighbour could not open the packet."""
    neighbour = 0 if not reason else None
    avoid = {(attempt.group_id, us): ENOUGH} if neighbour == 0 else _all_behind_us(attempt)
    is_final = len(attempt.path) == 1
    return Verdict("unreadable_failure", f"{error}. {BACK}", neighbour, is_final=is_final, avoid=avoid)


def _all_behind_us(attempt: Attempt) -> dict[Direction, int]:
    """Every hop of a path but the first, which is our own."""
    steps = zip(attempt.path, attempt.path[1:], strict=False)
    return {(step.channel, before.node): ENOUGH for before, step in steps}

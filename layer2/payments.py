"""The machine ``payments/1``: members pay each other from their balances.

Source: docs/design/groups.md, rule 20 (its first command; locks are not part of ``payments/1``).
"""

from __future__ import annotations

from layer1.codec import Struct, decode, encode
from layer1.errors import Refused, RemoteError
from layer2.machine import Balances

MAX_MEMO_BYTES = 64
"""Room for an invoice's 32-byte identifier or a short text; memos are kept with the history of both sides."""


class Pay(Struct, tag=1):
    """Pay `amount` from the issuer's balance to member `payee`."""

    payee: int
    """Index in the agreement; not the issuer."""
    amount: int
    """Minor units, at least 1."""
    memo: bytes = b""
    """For the payee, such as the invoice that this pays; at most 64 bytes."""


class Payments:
    """Balances are the whole state; the machine has none of its own."""

    name = "payments/1"

    def initial(self, member_count: int) -> None:
        """No state."""

    def encode(self, state: None) -> bytes:
        """Empty."""
        return b""

    def decode(self, data: bytes, member_count: int) -> None:
        """Nothing to decode."""

    def apply(self, state: None, balances: Balances, member: int, command: bytes) -> tuple[Balances, None]:
        """Apply one :class:`Pay`.

        Raises:
            Refused: ``bad_command``, ``bad_payee``, ``bad_amount``, ``memo_too_long`` or ``insufficient_balance``.
        """
        try:
            pay = decode(command, Pay)
        except RemoteError as error:
            raise Refused("bad_command", f"not a command of payments/1: {error}") from error
        payee, amount = pay.payee, pay.amount
        if not 0 <= payee < len(balances) or payee == member:
            raise Refused("bad_payee", f"member {member} cannot pay member {payee} of {len(balances)}")
        if amount < 1:
            raise Refused("bad_amount", f"a payment of {amount} units; the least is 1")
        if len(pay.memo) > MAX_MEMO_BYTES:
            raise Refused("memo_too_long", f"a memo of {len(pay.memo)} bytes; the most is {MAX_MEMO_BYTES}")
        if amount > balances[member]:
            raise Refused(
                "insufficient_balance",
                f"a payment of {amount} units from a balance of {balances[member]}: pay less, or be paid first",
            )
        after = list(balances)
        after[member] -= amount
        after[payee] += amount
        return tuple(after), None


def pay(payee: int, amount: int, memo: bytes = b"") -> bytes:
    """The command that pays `amount` minor units to member `payee`."""
    return encode(Pay(payee, amount, memo))

"""What a group replicates: a deterministic machine over balances and a state of its own.

A machine decides what a command does. The group core enforces around it, for every machine, what no member may give
up: balances keep their sum and stay at or above zero, and nobody's balance falls by another's command (rule 2).

Source: docs/design/groups.md, rules 1 and 2.
"""

from __future__ import annotations

from typing import Any, Protocol

from layer1.errors import Refused

Balances = tuple[int, ...]
"""Minor units per member, in the agreement's order."""


class StateMachine(Protocol):
    """A deterministic machine without I/O, clock or randomness; all members must get the same from the same.

    The state may be any immutable value. `apply` must not change it in place: an attempt may be thrown away.
    """

    @property
    def name(self) -> str:
        """What the agreement calls it, with a version: ``payments/1``."""
        ...

    def initial(self, member_count: int) -> Any:
        """The state at version 0, whose encoding in the body is empty whatever :meth:`encode` says."""
        ...

    def encode(self, state: Any) -> bytes:
        """The one byte string for `state`; it goes into the body that is hashed and signed."""
        ...

    def decode(self, data: bytes, member_count: int) -> Any:
        """Inverse of :meth:`encode`."""
        ...

    def apply(self, state: Any, balances: Balances, member: int, command: bytes) -> tuple[Balances, Any]:
        """Balances and state after `member` issued `command`.

        Raises:
            Refused: The command does nothing; nothing else may be raised, whatever the bytes are.
        """
        ...


def apply_guarded(
    machine: StateMachine, state: Any, balances: Balances, member: int, command: bytes
) -> tuple[Balances, Any]:
    """Apply one command and enforce the rules that hold for every machine (rule 2).

    Raises:
        Refused: By the machine, or ``unfair_command``: it creates or destroys money, or takes another's.
    """
    after, state = machine.apply(state, balances, member, command)
    if len(after) != len(balances) or sum(after) != sum(balances) or min(after) < 0:
        raise Refused(
            "unfair_command", f"balances {balances} would become {after}: keep their number and sum, none below 0"
        )
    for index, units in enumerate(after):
        if units < balances[index] and index != member:
            raise Refused(
                "unfair_command",
                f"a command of member {member} would lower the balance of member {index} from {balances[index]} to "
                f"{units}: only its own commands may",
            )
    return after, state


def starting_state(machine: StateMachine, data: bytes, member_count: int, *, at_start: bool) -> Any:
    """The machine's state behind a body; the first one of all has no encoding, see :meth:`StateMachine.initial`."""
    return machine.initial(member_count) if at_start else machine.decode(data, member_count)

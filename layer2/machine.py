"""What a group replicates: a deterministic machine over balances and a state of its own.

A machine decides what a command does. The group core enforces around it, for every machine, what no member may give
up: balances and locks keep their sum, balances stay at or above zero, and nobody's balance falls by another's command
(rule 2); locks are such as layer 1 settles, and within what the members agreed on (rule 23).

Source: docs/design/groups.md, rules 1, 2, 20 and 23.
"""

from __future__ import annotations

from typing import Any, Protocol

from layer1.errors import Refused, RemoteError, check
from layer1.ledger.agreements import Body, Limits, Lock, locked_units
from layer1.ledger.locks import MAX_MONEY, check_locks

Balances = tuple[int, ...]
"""Minor units per member, in the agreement's order."""


class StateMachine(Protocol):
    """A deterministic machine without I/O, clock or randomness; all members must get the same from the same.

    The state may be any immutable value. `apply` must not change it in place: an attempt may be thrown away.
    """

    @property
    def name(self) -> str:
        """What the agreement calls it, with a version: ``payments/2``."""
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


class LockingMachine(StateMachine, Protocol):
    """A machine that has locks (rule 20). Others need know nothing of them."""

    def locks(self, state: Any) -> tuple[Lock, ...]:
        """Pending ones, in order of id. They stand in the body, beside what :meth:`StateMachine.encode` gives."""
        ...

    def with_locks(self, state: Any, locks: tuple[Lock, ...]) -> Any:
        """A decoded state with the locks that its body names.

        Raises:
            RemoteError: They do not belong together.
        """
        ...


def locks_of(machine: StateMachine, state: Any) -> tuple[Lock, ...]:
    """What the body names as locks; none for a machine that has none."""
    found = getattr(machine, "locks", None)
    locks: tuple[Lock, ...] = () if found is None else found(state)
    return locks


_DEFAULT = Limits()


def apply_guarded(  # noqa: PLR0917 - by place, since a keyword costs each payment a hundredth
    machine: StateMachine,
    state: Any,
    balances: Balances,
    member: int,
    command: bytes,
    limits: Limits = _DEFAULT,
) -> tuple[Balances, Any]:
    """Apply one command and enforce the rules that hold for every machine (rules 2 and 23).

    Raises:
        Refused: By the machine, or ``unfair_command``: it creates or destroys money, or takes another's;
            ``bad_lock``, ``too_many_locks``, ``too_much_locked`` or ``lock_too_small``: it locks what may not be.
    """
    after, following = machine.apply(state, balances, member, command)
    total = sum(after)
    if following is not state:  # a payment leaves it as it is, and is not looked at twice
        total += _check_change(machine, state, following, len(balances), limits)
    if len(after) != len(balances) or total != sum(balances) or min(after) < 0:
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
    return after, following


def starting_state(machine: StateMachine, body: Body, member_count: int, *, at_start: bool) -> Any:
    """The machine's state behind a body; the first one of all has no encoding, see :meth:`StateMachine.initial`.

    Raises:
        RemoteError: The body names locks that the machine does not have.
    """
    state = machine.initial(member_count) if at_start else machine.decode(body.machine_state, member_count)
    if not body.locks:
        return state
    with_locks = getattr(machine, "with_locks", None)
    if with_locks is None:
        raise RemoteError(f"the body names {len(body.locks)} locks, and {machine.name} has none")
    return with_locks(state, body.locks)


def _check_change(machine: StateMachine, before: Any, after: Any, members: int, limits: Limits) -> int:
    """Units that go into locks, less those that come out of them; refuses locks that may not be."""
    old, new = locks_of(machine, before), locks_of(machine, after)
    if new == old:
        return 0
    check_locks(new, members, MAX_MONEY, "bad_lock")
    total = locked_units(new)
    if fresh := [lock for lock in new if not old or lock.id > old[-1].id]:  # what was agreed on can always end
        count, most, least = len(new), limits.max_locks, min(lock.amount for lock in fresh)
        check(count <= most, "too_many_locks", f"{count} locks would be pending, agreed are {most} at most; wait")
        most = limits.max_locked_units
        check(total <= most, "too_much_locked", f"{total} units would be locked, agreed are {most} at most; wait")
        most = limits.min_lock_units
        check(least >= most, "lock_too_small", f"a lock of {least} units, agreed are {most} at least; pay it at once")
    return total - locked_units(old)

"""Whether one may agree to the end of a lock *now*: what depends on the ledger clock and on what is registered.

Safety: a payer signs no `Claim` that comes too late for it to be paid upstream by the same preimage, unless the ledger
proves that it was registered in time; a payee signs no `Expire` while it could still be paid by the registry.

The machine is deterministic and knows no clock, so members ask this besides, each about its own locks only: nobody
else loses by them. That no registration came in time is certain once the ledger is shown without one at a clock past
the expiry; that one did, once it is shown. In between a `Claim` is signed while the clock, as the host reckons it, is
below the expiry by the margin. Who does not know enough signs nothing: a primary refuses such a command, and its issuer
tries again; a member keeps the proposal, *looks at layer 1 first*, and answers when it knows. An honest issuer of a
`Claim` keeps twice the margin, and one of an `Expire` has the proof itself, so that nobody is kept waiting for long.

No version ends a lock that it makes: whoever can keep an offer back, and have it claimed at once, chooses the time. And
a primary asks for all members, so that nobody has it sign what another one must refuse.

Source: docs/design/groups.md, rules 20 to 22 [F9]; decision 036.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from layer1.crypto import Hash
from layer1.errors import Refused, check
from layer1.ledger.agreements import Lock
from layer2.events import ClockSeen, Effect, PreimageSeen
from layer2.messages import Batch, Command, require
from layer2.payments import MACHINE, Claim, Expire, LockCommand, Locks, Offer, lock_news, read_lock_command
from layer2.state import State
from layer2.value import Group

UNSURE = frozenset({"claim_too_late", "not_expired", "preimage_registered"})
"""Codes of what may be answered otherwise after a look at layer 1, or later."""


def note_clock(group: Group, event: ClockSeen) -> Group:
    """Keep the clock, and what layer 1 showed of hashes that a lock here is under."""
    wanted = {lock.hash for lock in _all_locks(group)}
    known = {each.hash: each for each in group.looked if each.hash in wanted}
    for each in event.looked:
        before = known.get(each.hash)
        if each.hash in wanted and (before is None or before.clock_ms <= each.clock_ms):
            known[each.hash] = each
    return replace(group, clock_ms=max(group.clock_ms, event.clock_ms), looked=tuple(known.values()))


def was_timely(group: Group, lock: Lock) -> bool | None:
    """Whether the preimage was registered by the expiry; None while this member cannot know."""
    looked = next((each for each in group.looked if each.hash == lock.hash), None)
    if looked is None:
        return None
    if looked.registered_ms is not None:
        return looked.registered_ms <= lock.expiry_ms
    return False if looked.clock_ms > lock.expiry_ms else None


def check_own(group: Group, payloads: Iterable[bytes]) -> None:
    """Before this member issues commands: those about locks must be such as another honest member signs.

    Raises:
        Refused: ``claim_too_late``, ``not_expired`` or ``preimage_registered``.
    """
    state = (group.pending.state if group.pending is not None else group.state).machine_state
    for payload in payloads:
        found = _named(state, payload)
        if found is None:
            continue
        lock, command = found
        if isinstance(command, Claim):
            _check_claim(group, lock, 2 * group.place.margin_ms)
        elif isinstance(command, Expire):
            _check_expire(group, lock)


def check_others(group: Group, state: object, member: int, payload: bytes) -> None:
    """At the primary, before it takes a command into a batch: such as every member concerned is going to sign.

    Of others' locks it wants half a margin more than their payer does, who reckons a moment later: what it signs cannot
    be taken back. Its own commands are asked again, for they may have waited long for the version before.

    Raises:
        Refused: As :func:`check_own`, and ``lock_too_new``.
    """
    me, margin_ms, found = group.place.index, group.place.margin_ms, _named(state, payload)
    if found is None:
        return
    lock, command = found
    check(_stands(group.state, lock), "lock_too_new", _new_text(lock))
    if isinstance(command, Claim):
        _check_claim(group, lock, margin_ms if lock.payer == me else margin_ms * 3 // 2)
    elif isinstance(command, Expire):
        _check_expire(group, lock)


def is_in_doubt(group: Group, base: State, batch: Batch) -> bool:
    """At a member, of what the primary proposes: whether it must look at layer 1 before it signs, or looks still.

    Raises:
        RemoteError: No look will change it: the primary should have refused the command.
    """
    me = group.place.index
    if group.place.machine.name != MACHINE:
        return False  # its commands are no payments
    for lock, member, command in lock_news(base.machine_state, batch.commands):
        require(isinstance(command, Offer) or _stands(base, lock), _new_text(lock))
        if member == me:
            continue
        try:
            if isinstance(command, Claim) and lock.payer == me:
                _check_claim(group, lock, group.place.margin_ms)
            elif isinstance(command, Expire) and lock.payee == me:
                _check_expire(group, lock)
        except Refused as refusal:
            wrong = was_timely(group, lock) is isinstance(command, Expire)
            require(not wrong, f"the batch ends lock {lock.id} as nobody may: {refusal.message}")
            return True
    return False


def shown_preimages(group: Group, commands: Iterable[Command]) -> list[Effect]:
    """What claims of our locks show: it is known from the moment they are seen, committed or not."""
    effects: list[Effect] = []
    ours = {lock.id: lock for lock in _all_locks(group) if lock.payer == group.place.index}
    for command in commands if ours else ():
        request = read_lock_command(command.payload)
        if isinstance(request, Claim) and request.lock in ours:
            lock = ours[request.lock]
            if request.hash == lock.hash and command.member == lock.payee:
                effects.append(PreimageSeen(lock, request.preimage))
    return effects


def _check_claim(group: Group, lock: Lock, margin_ms: int) -> None:
    timely = was_timely(group, lock)
    left_ms = lock.expiry_ms - group.clock_ms
    in_time = timely is None and group.clock_ms > 0 and left_ms >= margin_ms
    check(
        timely is True or in_time,
        "claim_too_late",
        f"lock {lock.id} expires in {left_ms} ms, {margin_ms} ms are needed to pass the preimage on: register it on "
        "layer 1, then claim again",
    )


def _check_expire(group: Group, lock: Lock) -> None:
    timely = was_timely(group, lock)
    text = f"the preimage of lock {lock.id} was registered by its expiry, {lock.expiry_ms}: it is the payee's"
    check(timely is not True, "preimage_registered", text)
    clock = max((each.clock_ms for each in group.looked if each.hash == lock.hash), default=0)
    text = f"lock {lock.id} expires at {lock.expiry_ms}, layer 1 was seen without its preimage at {clock}; look again"
    check(timely is False, "not_expired", text)


def _named(state: object, payload: bytes) -> tuple[Lock, LockCommand] | None:
    """The pending lock that a command names; None if it is about none."""
    command = read_lock_command(payload)
    lock = state.get(command.lock) if command is not None and isinstance(state, Locks) else None
    return None if lock is None or command is None else (lock, command)


def _stands(base: State, lock: Lock) -> bool:
    """Whether the lock is in the state that a batch starts from: nobody ends what the same batch makes.

    Whoever wants that has kept the offer back: its issuer, who sees no lock of its own, may have stopped looking at the
    clock, and its payer upstream has taken the money back since.
    """
    return any(each.id == lock.id for each in base.body.locks)


def _new_text(lock: Lock) -> str:
    return f"lock {lock.id} would be made and ended by one version: a later one may end it"


def _all_locks(group: Group) -> tuple[Lock, ...]:
    """Of the newest certified state, and of what is signed or asked for above it."""
    states = [group.state] if group.pending is None else [group.state, group.pending.state]
    return tuple({lock.id: lock for state in states for lock in state.body.locks}.values())


def hashes(group: Group) -> tuple[Hash, ...]:
    """What to ask layer 1 about: under what our locks are."""
    return tuple(dict.fromkeys(lock.hash for lock in _all_locks(group)))


def locks_text(locks: tuple[Lock, ...]) -> str:
    """Why an epoch cannot end now."""
    last_ms = max(lock.expiry_ms for lock in locks)
    return (
        f"{len(locks)} conditional payments are pending, the last until clock {last_ms}: wait for their end, or let "
        "layer 1 settle the group"
    )

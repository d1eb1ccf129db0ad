"""States and the arithmetic from one to the next: pure functions, the same at every member.

Safety: from one state, one batch and one salt, every member computes one header, or none.

The header hashes the body (balances, locks, machine state, applied numbers, salt), a chain over all batches, and its
parent. A batch with anything inapplicable in it gives no state at all, so there is nothing to agree on but the whole.

Source: docs/design/groups.md, "Objects" and rules 1 and 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from layer1.codec import decode, encode
from layer1.crypto import Domain, Hash, Signature, SigningKey, digest
from layer1.errors import LocalError, Refused
from layer1.ledger.agreements import Body, Certificate, GroupAgreement, GroupHeader, initial_body, initial_certificate
from layer2.machine import Balances, StateMachine, apply_guarded, locks_of, starting_state
from layer2.messages import MAX_BATCH_BYTES, MAX_NUMBER, MAX_QUEUED, Batch, Command, Propose, Refusal, require

SALT_BYTES = 16
TAG_BYTES = 16
"""128 bits: nobody guesses one."""
MAX_REFUSAL_CHARS = 500
"""Of a refusal's text, which is for people."""

Outcome = tuple[Balances, Any]
"""Balances and machine state after a batch."""


May = Callable[[Any, int, bytes], None]
"""Machine state, issuer, command: raises Refused if this member does not agree to it now."""
KeyRing = Callable[[GroupAgreement, int], SigningKey]
"""Our key for a seat of an agreement; raises LocalError if it is not ours."""


@dataclass(frozen=True, slots=True)
class Place:
    """Who this member is, in which group; constant over an epoch."""

    agreement: GroupAgreement
    group_id: Hash
    index: int
    """Of this member in the agreement; 0 is the primary."""
    key: SigningKey = field(repr=False)
    machine: StateMachine
    keys: KeyRing | None = field(repr=False, default=None)
    """Finds our key for the next epoch, if a change gives us another."""
    first: GroupHeader | None = None
    """Version 0 of the epoch; None in epoch 0, whose agreement tells it."""
    margin_ms: int = 60_000
    """M of rule 22: what this member wants between a claim of its locks and their expiry; see `wallet.period`."""
    tag_key: bytes = field(repr=False, default=b"")
    """Secret of this member, for :meth:`tag`; derived from `key`."""
    size: int = field(init=False)
    """How many members there are."""
    places: int = field(init=False)
    """How many must hold a certificate before it counts as committed: members count first, then witnesses."""
    is_primary: bool = field(init=False)
    """Whether this member proposes."""
    others: tuple[int, ...] = field(init=False)
    """The other members."""
    witnesses: range = field(init=False)
    """Places of the witnesses."""
    peers: tuple[int, ...] = field(init=False)
    """With whom this member speaks: the primary with all members, these with the primary; all with witnesses."""
    needed: frozenset[int] = field(init=False, repr=False)
    """Places that must be in step with this member for it to go on: at the primary all others, else the primary."""

    def __post_init__(self) -> None:
        members = self.agreement.members
        if not 0 <= self.index < len(members) or members[self.index].key != self.key.public:
            raise LocalError(f"the key is not that of member {self.index} of {len(members)}: derive it again")
        if self.machine.name != self.agreement.machine:
            raise LocalError(f"the machine is {self.machine.name}, the agreement wants {self.agreement.machine}")
        for name, value in self._derived().items():
            object.__setattr__(self, name, value)

    def _derived(self) -> dict[str, Any]:
        """What every step asks for, computed once."""
        size, places, is_primary = len(self.agreement.members), self.agreement.places, self.index == 0
        name = self.group_id + self.epoch.to_bytes(8, "big")  # a command of one epoch is not known again in another
        others = tuple(i for i in range(size) if i != self.index)
        return {
            "tag_key": hashlib.blake2b(name, key=self.key.seed(), person=b"wedge.command").digest(),
            "size": size,
            "places": places,
            "is_primary": is_primary,
            "others": others,
            "witnesses": range(size, places),
            "peers": (*(others if is_primary else (0,)), *range(size, places)),
            "needed": frozenset(range(1, places) if is_primary else (0,)),
        }

    @property
    def epoch(self) -> int:
        """Its number."""
        return 0 if self.first is None else self.first.epoch

    @property
    def initial(self) -> Certificate:
        """The certificate of version 0."""
        if self.first is not None:
            return Certificate(self.first, ())
        return initial_certificate(self.agreement, self.group_id)

    def next_key(self, agreement: GroupAgreement) -> SigningKey | None:
        """Our key in the agreement of another epoch; None if our seat is somebody else's there.

        Raises:
            LocalError: It is ours, with a key that is not.
        """
        old, new = self.agreement.members[self.index], agreement.members[self.index]
        if new.key == self.key.public:
            return self.key
        if new.funding != old.funding:
            return None
        if self.keys is None:
            raise LocalError(f"key {new.key.hex()} would be ours, and it is not known here")
        return self.keys(agreement, self.index)

    def following(self, agreement: GroupAgreement, first: GroupHeader) -> Place | None:
        """This member in the epoch that begins with `first`; None if its seat is somebody else's there."""
        key = self.next_key(agreement)
        return None if key is None else replace(self, agreement=agreement, key=key, first=first)

    @property
    def witnessed(self) -> bool:
        """Whether a version is committed only with the ACKs of all (rule 3)."""
        return bool(self.agreement.witnesses)

    @property
    def primary_relays(self) -> bool:
        """Whether the primary has something to pass on: in a pair without witnesses there is nobody else.

        A member has the primary's signature from the proposal, and its own; the others' it gets from the primary.
        """
        return self.places > 2

    def tag(self, number: int, payload: bytes) -> bytes:
        """By which this member, and nobody else, knows a command as its own, even when a crash made it forget."""
        data = number.to_bytes(8, "big") + payload
        return hashlib.blake2b(data, digest_size=TAG_BYTES, key=self.tag_key).digest()


class State(msgspec.Struct, frozen=True):
    """One version, with everything that its header commits to."""

    header: GroupHeader
    body: Body
    machine_state: Any
    """Decoded `body.machine_state`."""

    @property
    def version(self) -> int:
        """Of the header."""
        return self.header.version


class Pending(msgspec.Struct, frozen=True):
    """A version that this member signed, and whose certificate it does not hold."""

    state: State
    propose: Propose
    """As it was sent, for sending it again."""
    batch: Batch
    signatures: tuple[Signature | None, ...]
    """Per member, those that are here."""


def first_state(place: Place) -> State:
    """Version 0: the agreement's own allocation."""
    header = place.initial.header
    return State(header, initial_body(place.agreement), place.machine.initial(place.size))


def state_of(place: Place, header: GroupHeader, body: Body) -> State:
    """A state from what the journal keeps of it."""
    at_start = (header.epoch, header.version) == (0, 0)
    return State(header, body, starting_state(place.machine, body, place.size, at_start=at_start))


@dataclass(frozen=True, slots=True)
class Built:
    """What the primary makes of its queue."""

    batch: Batch
    refused: tuple[Refusal, ...]
    """Of the primary's own commands: nobody else need know of them."""
    rest: tuple[Command, ...]
    """For the next version."""
    outcome: Outcome


def build_batch(
    place: Place, base: State, queue: tuple[Command, ...], *, may: May | None = None, careful: bool = False
) -> Built:
    """Apply what is queued to `base`, leaving out what the machine refuses (rule 1).

    Args:
        place: Of the primary.
        base: The newest certified state.
        queue: In order of arrival.
        may: Refuses a command that changes locks and may not be agreed to now.
        careful: Encode after every command, to refuse the one by which the state gets too large.
    """
    machine, limits = place.machine, place.agreement.limits
    balances, machine_state, applied = base.body.balances, base.machine_state, list(base.body.applied)
    commands: list[Command] = []
    refusals: list[Refusal] = []
    size = taken = 0
    for command in queue:
        member, number, payload = command.member, command.number, command.payload
        size += len(payload) + TAG_BYTES
        if len(commands) + len(refusals) >= limits.max_batch or size > MAX_BATCH_BYTES:
            break
        taken += 1
        if number <= applied[member]:
            continue
        applied[member] = number
        try:
            after = apply_guarded(machine, machine_state, balances, member, payload, limits)
            if may is not None and after[1] is not machine_state:
                may(machine_state, member, payload)
            if careful:
                _check_size(place, len(machine.encode(after[1])))
        except Refused as refusal:
            text = refusal.message[:MAX_REFUSAL_CHARS]
            refusals.append(Refusal(member, number, refusal.code[:MAX_REFUSAL_CHARS], text))
            continue
        balances, machine_state = after
        commands.append(command)
    if not careful and len(machine.encode(machine_state)) > limits.max_state_bytes:
        return build_batch(place, base, queue, may=may, careful=True)
    theirs = tuple(refusal for refusal in refusals if refusal.member != place.index)
    ours = tuple(refusal for refusal in refusals if refusal.member == place.index)
    return Built(Batch(tuple(commands), theirs), ours, queue[taken:], (balances, machine_state))


def apply_batch(place: Place, base: State, batch: Batch) -> Outcome:
    """Apply a proposed batch whole (rule 2).

    Raises:
        RemoteError: A command is out of order, or the machine refuses it: the primary should have left it out.
    """
    size, most = len(batch.commands) + len(batch.refusals), place.agreement.limits.max_batch
    require(1 <= size <= most, f"a batch of {size} commands; there are 1 to {most}")
    balances, machine_state, applied = base.body.balances, base.machine_state, list(base.body.applied)
    machine, limits = place.machine, place.agreement.limits
    try:
        for command in batch.commands:
            member, number = command.member, command.number
            if not 0 <= member < len(applied) or not applied[member] < number <= MAX_NUMBER:
                require(False, f"command {number} of member {member} is out of order, applied are {applied}")
            payload = command.payload
            balances, machine_state = apply_guarded(machine, machine_state, balances, member, payload, limits)
            applied[member] = number
    except Refused as refusal:
        require(False, f"the batch has a command that does not apply: {refusal.message}")
    _check_refusals(base, batch)
    return balances, machine_state


def _check_refusals(base: State, batch: Batch) -> None:
    seen = {(command.member, command.number) for command in batch.commands} if batch.refusals else set()
    for refusal in batch.refusals:
        name = (refusal.member, refusal.number)
        require(0 <= refusal.member < len(base.body.applied), f"there is no member {refusal.member} to refuse")
        applied = base.body.applied[refusal.member]
        fresh = applied < refusal.number <= applied + 2 * MAX_QUEUED and name not in seen
        require(fresh, f"command {refusal.number} of member {refusal.member} is refused, applied are {applied}")
        require(max(len(refusal.code), len(refusal.message)) <= MAX_REFUSAL_CHARS, "a refusal's text is too long")
        seen.add(name)


def advance(place: Place, base: State, batch: Batch, *, encoded: bytes, salt: bytes, outcome: Outcome) -> State:
    """The state that follows `base`, given what its batch came to.

    Args:
        place: Whose group.
        base: The state before.
        batch: What was applied.
        encoded: The batch's own bytes.
        salt: Fresh, 16 bytes.
        outcome: Of the batch.
    """
    balances, machine_state = outcome
    applied = list(base.body.applied)
    for command in batch.commands:
        applied[command.member] = command.number
    for refusal in batch.refusals:
        applied[refusal.member] = max(applied[refusal.member], refusal.number)
    old = base.header
    machine = place.machine
    body = Body(balances, machine.encode(machine_state), tuple(applied), salt, locks_of(machine, machine_state))
    log_root = digest(Domain.LOG, old.log_root + encoded)
    header = GroupHeader(old.chain_id, old.group_id, old.epoch, old.version + 1, old.hash, log_root, body.hash)
    return State(header, body, machine_state)


def follow(place: Place, base: State, propose: Propose) -> tuple[State, Batch]:
    """The state that a proposal leads to from `base`.

    Raises:
        RemoteError: It does not follow from `base`, or breaks a rule.
    """
    require(len(propose.salt) == SALT_BYTES, f"a salt of {len(propose.salt)} bytes; it has {SALT_BYTES}")
    batch = decode(propose.batch, Batch)
    outcome = apply_batch(place, base, batch)
    state = advance(place, base, batch, encoded=propose.batch, salt=propose.salt, outcome=outcome)
    size, most = len(state.body.machine_state), place.agreement.limits.max_state_bytes
    require(size <= most, f"the machine state would have {size} bytes, agreed are {most} at most")
    if state.header != propose.header:
        theirs, ours = propose.header.hash.hex(), state.header.hash.hex()
        require(False, f"version {propose.header.version} is proposed as {theirs}, the batch gives {ours}")
    return state, batch


def encode_batch(batch: Batch) -> bytes:
    """The batch's one encoding; its hash goes into the header."""
    return encode(batch)


def _check_size(place: Place, size: int) -> None:
    most = place.agreement.limits.max_state_bytes
    if size > most:
        raise Refused("state_too_large", f"the machine state would have {size} bytes; agreed are {most} at most")

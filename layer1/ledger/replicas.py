"""Who certifies blocks: the replica set of an epoch, and how its members agree on the next one.

Safety: a set gives over to another only if a quorum of its own members signed that very change, for that very epoch.

A set changes by a transaction. The block that executes it is the last of its epoch, the *boundary*; the first block of
the next epoch is its child. Each replica that ever was in a set has a number of its own, which is never used again: in
genesis it is its position, whoever is added later takes the next one. Votes name positions in the set of their epoch.

A change needs no nonce: it names the epoch that it ends, and so is executed at most once. Whoever is added signs, too:
a key that nobody holds would count as a faulty replica for ever.

Source: docs/design/consensus.md, "Catching up, joining, leaving"; decision 021.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

from layer1.codec import Struct, encode
from layer1.consensus import quorum
from layer1.consensus.evidence import Voters
from layer1.consensus.quorum import FaultModel
from layer1.crypto import PUBLIC_KEY_BYTES, Domain, Hash, Kind, PublicKey, Signature, SigningKey, digest, verify
from layer1.errors import Refused, check

MAX_REPLICAS = 100
"""In one set: a certificate of so many has 67 signatures, and takes 5 ms to verify."""
MAX_CHANGE_SIGNATURES = 2 * MAX_REPLICAS
"""Under one change: a quorum of the old set, and everybody who is added."""


class Seat(Struct):
    """One replica of a set."""

    number: int
    """Its own for ever."""
    key: PublicKey


class ReplicaSet(Struct, dict=True, gc=True):
    """The replicas of one epoch. The replica at position i signs votes as replica i."""

    epoch: int
    fault_model: FaultModel
    seats: tuple[Seat, ...]
    """In the order of their numbers."""
    next_number: int
    """That the next replica to be added gets."""

    @cached_property
    def keys(self) -> tuple[PublicKey, ...]:
        """By position."""
        return tuple(seat.key for seat in self.seats)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """By position."""
        return tuple(seat.number for seat in self.seats)

    @cached_property
    def hash(self) -> Hash:
        """What headers name as `replica_set`, and what stands in the tree at `REPLICA_SET_KEY`."""
        return digest(Domain.REPLICA_SET, encode(self))

    @property
    def faults(self) -> int:
        """f: the most replicas that may fail."""
        return quorum.faulty(len(self.seats), self.fault_model)

    @property
    def quorum(self) -> int:
        """q: votes in a certificate."""
        return quorum.quorum(len(self.seats), self.fault_model)

    def position_of(self, number: int) -> int | None:
        """Where the replica of this number stands; None if it is not in the set."""
        return self.numbers.index(number) if number in self.numbers else None

    def number_of(self, key: PublicKey) -> int | None:
        """The number of the replica with this key; None if it is not in the set."""
        return self.numbers[self.keys.index(key)] if key in self.keys else None

    def voters(self, chain_id: Hash, term_views: int) -> Voters:
        """Whose contradicting votes are evidence in this epoch."""
        return Voters(chain_id, self.epoch, self.keys, term_views)


def first_set(keys: Sequence[PublicKey], fault_model: FaultModel) -> ReplicaSet:
    """The set of epoch 0: numbers are positions."""
    seats = tuple(Seat(number, key) for number, key in enumerate(keys))
    return ReplicaSet(0, fault_model, seats, len(seats))


class SetChange(Struct):
    """What the members of a set agree on. Adding one and removing one rotates a key."""

    epoch: int
    """That it ends."""
    add: tuple[PublicKey, ...]
    remove: tuple[int, ...]
    """Numbers, the lowest first."""
    expires_ms: int
    """Ledger clock after which it may not be executed any more: signatures are gathered over days, not for ever."""

    @property
    def signed(self) -> bytes:
        """What members and newcomers sign, as kind CHANGE."""
        return encode(self)


class ChangeReplicas(Struct, tag="replicas"):
    """A change with its signatures. Needs no other: anybody may bring it."""

    change: SetChange
    approvals: tuple[tuple[int, Signature], ...]
    """(number, signature) of q members or more, the lowest number first."""
    acceptances: tuple[Signature, ...]
    """Of the keys to be added, in their order."""


def sign_change(change: SetChange, chain_id: Hash, key: SigningKey) -> Signature:
    """A member's approval, or a newcomer's acceptance."""
    return key.sign(Kind.CHANGE, chain_id, change.signed)


def apply_change(current: ReplicaSet, request: ChangeReplicas, chain_id: Hash, clock_ms: int) -> ReplicaSet:
    """The set of the next epoch.

    Raises:
        Refused: ``wrong_epoch``, ``change_expired``, ``no_change``, ``bad_key``, ``replica_twice``,
            ``unknown_replica``, ``bad_size``, ``too_few_approvals`` or ``bad_signature``.
    """
    following = following_set(current, request.change, clock_ms)
    _check_signatures(current, request, chain_id)
    return following


def following_set(current: ReplicaSet, change: SetChange, clock_ms: int) -> ReplicaSet:
    """The set that a change leads to, whoever signs it.

    Raises:
        Refused: As :func:`apply_change`, but for what is said of signatures.
    """
    for fault in _faults(current, change, clock_ms):
        raise fault
    seats = [seat for seat in current.seats if seat.number not in change.remove]
    seats += [Seat(current.next_number + i, key) for i, key in enumerate(change.add)]
    size = len(seats)
    check(1 <= size <= MAX_REPLICAS, "bad_size", f"the set would have {size} replicas; it has 1 to {MAX_REPLICAS}")
    return ReplicaSet(current.epoch + 1, current.fault_model, tuple(seats), current.next_number + len(change.add))


def _faults(current: ReplicaSet, change: SetChange, clock_ms: int) -> Iterator[Refused]:
    if change.epoch != current.epoch:
        yield Refused("wrong_epoch", f"the change ends epoch {change.epoch}, this is {current.epoch}; propose it anew")
    if change.expires_ms < clock_ms:
        yield Refused("change_expired", f"valid until {change.expires_ms}, the clock is {clock_ms}; propose it anew")
    if not change.add and not change.remove:
        yield Refused("no_change", "it adds 0 replicas and removes 0; name at least one")
    for key in change.add:
        if len(key) != PUBLIC_KEY_BYTES:
            yield Refused("bad_key", f"a key of {len(key)} bytes; a public key has {PUBLIC_KEY_BYTES}")
        if key in current.keys or change.add.count(key) > 1:
            yield Refused("replica_twice", f"key {key.hex()} would be in the set twice; make a new one")
    if any(left >= right for left, right in pairwise(change.remove)):
        yield Refused("bad_order", f"the numbers to remove are {_few(change.remove)}; name each once, the lowest first")
    for number in change.remove:
        if number not in current.numbers:
            yield Refused("unknown_replica", f"no replica has number {number}; the set has {list(current.numbers)}")


def _check_signatures(current: ReplicaSet, request: ChangeReplicas, chain_id: Hash) -> None:
    change, approvals, acceptances = request.change, request.approvals, request.acceptances
    numbers = [number for number, _ in approvals]
    if any(left >= right for left, right in pairwise(numbers)):
        raise Refused("bad_order", f"the approvals are of {_few(numbers)}; one of each member, the lowest number first")
    if len(numbers) < current.quorum:
        raise Refused(
            "too_few_approvals",
            f"{len(numbers)} members approve, {current.quorum} of {len(current.seats)} are needed; let others sign",
        )
    if len(acceptances) != len(change.add):
        raise Refused("bad_signature", f"{len(acceptances)} acceptances for {len(change.add)} keys; each signs once")
    for number, signature in approvals:
        position = current.position_of(number)
        if position is None:
            raise Refused("unknown_replica", f"replica {number} approves; the set has {list(current.numbers)}")
        _check(current.keys[position], signature, change, chain_id, f"replica {number}")
    for key, signature in zip(change.add, acceptances, strict=True):
        _check(key, signature, change, chain_id, f"the new key {key.hex()}")


def _few(numbers: Sequence[int]) -> str:
    """Of a stranger's list what fits into an error text: outputs are kept for ever."""
    return ", ".join(map(str, numbers[:10])) + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")


def _check(key: PublicKey, signature: Signature, change: SetChange, chain_id: Hash, who: str) -> None:
    good = verify(key, signature, Kind.CHANGE, chain_id, change.signed)
    check(good, "bad_signature", f"the signature of {who} is not over this change, for chain {chain_id.hex()}")

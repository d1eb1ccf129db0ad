"""Answers that prove themselves: what a client needs to believe one replica, and nothing but the genesis.

An answer carries a header, the certificate that makes it final, and the Merkle path from the header to the record.

*Safety:* what a verifier returns is part of the chain of this genesis, as its replicas finalized it.

A finalization holds q signatures over a block id, of the replicas of the header's epoch; the id is a hash of the
header, or of a descendant that leads to it parent by parent; the header holds the roots; each proof leads from a
root to the hash of the record that was asked for. Two quorums share an honest replica, so there is one such chain.
What this does not show is that the answer is recent: :func:`check_fresh` judges that by the reader's own clock.

Whose signatures count in an epoch follows from the genesis: it names the first set, and each set gives over to the next
in a block that it made final itself (:class:`Handover`). A :class:`Trust` holds the sets that were followed so far.

*Source:* docs/design/architecture.md, "Believing an answer"; consensus.md, "Objects", "Catching up, joining, leaving".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from layer1 import merkle
from layer1.codec import Struct
from layer1.consensus.certificates import Checker
from layer1.consensus.config import Config
from layer1.consensus.evidence import Voters
from layer1.consensus.messages import Finalization
from layer1.crypto import Hash, PublicKey
from layer1.errors import RemoteError
from layer1.header import Header
from layer1.ledger.genesis import MAX_MONEY, Genesis, Parameters, genesis_header
from layer1.ledger.records import (
    REPLICA_SET_KEY,
    Account,
    Group,
    Head,
    Mark,
    Registration,
    account_key,
    group_key,
    head_key,
    leaf_hash,
    machine_key,
    mark_key,
    preimage_key,
)
from layer1.ledger.replicas import ReplicaSet
from layer1.ledger.transactions import Output

MAX_PATH = 1_000
"""Headers between a block and the one that its certificate names; replicas finalize far sooner."""


_NOTHING = merkle.list_root([])


class HeadProof(Struct):
    """A final header."""

    header: Header
    path: tuple[Header, ...]
    """Headers between this block and the finalized one, oldest first, the finalized one last; empty if it is this."""
    finalization: Finalization | None
    """None for the genesis block alone, which everybody knows."""


class Handover(Struct):
    """Where one replica set gave over to the next: the boundary block, and the set that its state names."""

    head: HeadProof
    """The last block of its epoch; the finalization is by the set that leaves."""
    replica_set: ReplicaSet
    """Certifies what follows."""
    proof: merkle.Proof


class AccountProof(Struct):
    """An account after the block of `head`."""

    head: HeadProof
    account: Account
    proof: merkle.Proof


class GroupProof(Struct):
    """A group after the block of `head`, or that there was none of this id."""

    head: HeadProof
    group: Group | None
    proof: merkle.Proof


class GroupsProof(Struct):
    """Several groups after the block of `head`, in the order in which they were asked for; None for one that is not."""

    head: HeadProof
    groups: tuple[Group | None, ...]
    proofs: tuple[merkle.Proof, ...]
    """One for each."""


class AppointmentProof(Struct):
    """Which process acts for an account after the block of `head`, or that it never said."""

    head: HeadProof
    appointed: Head | None
    proof: merkle.Proof


class RegistrationProof(Struct):
    """What the ledger knows of a preimage after the block of `head`, or that it knows none."""

    head: HeadProof
    registration: Registration | None
    proof: merkle.Proof


class MarksProof(Struct):
    """For each replica that certifies what follows `head`, by position, its mark after that block, or that none was."""

    head: HeadProof
    replica_set: ReplicaSet
    set_proof: merkle.Proof
    marks: tuple[Mark | None, ...]
    proofs: tuple[merkle.Proof, ...]


class ValueProof(Struct):
    """A value of the ledger's state machine after the block of `head`, or that its key had none."""

    head: HeadProof
    value: bytes | None
    proof: merkle.Proof


class OutputProof(Struct):
    """What became of one transaction, in the block of `head`."""

    head: HeadProof
    output: Output
    proof: merkle.ListProof


class BlockProof(Struct):
    """What became of all transactions of a block."""

    head: HeadProof
    outputs: tuple[Output, ...]


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verified(Generic[T]):
    """A believed answer, and the final header that it is part of."""

    value: T
    header: Header


class UnknownEpoch(RemoteError):
    """Nothing is wrong with the answer, but the set that certifies it is not known yet: fetch the handovers."""


class TwoHandovers(RemoteError):
    """An epoch ended twice, with two blocks, both final: more than f replicas of it lie.

    Attributes:
        known: The handover that was followed.
        other: The one that was shown now; verified as well.
    """

    def __init__(self, known: Handover, other: Handover) -> None:
        first, second = known.head.header, other.head.header
        super().__init__(
            f"epoch {first.epoch} ended with block {first.id.hex()} of height {first.height}, and with block "
            f"{second.id.hex()} of height {second.height}; both are final",
            known,
            other,
        )
        self.known = known
        self.other = other


class Trust:
    """What a verifier knows for certain: the genesis, and the replica sets that it has followed from there.

    It only ever learns: a set once followed stays. Two different sets of one epoch would need more than f liars.
    """

    def __init__(self, genesis: Genesis, handovers: Iterable[Handover] = ()) -> None:
        """Trust this genesis, and what follows from it.

        Raises:
            RemoteError: A handover does not follow from what stands before it.
        """
        self.genesis = genesis
        self.sets: list[ReplicaSet] = [genesis.replica_set]
        """By epoch."""
        self.handovers: list[Handover] = []
        """By the epoch that each ended."""
        for handover in handovers:
            self.follow(handover)

    @property
    def replica_set(self) -> ReplicaSet:
        """The newest set."""
        return self.sets[-1]

    def set_of(self, epoch: int) -> ReplicaSet:
        """The replicas that certify the blocks of an epoch.

        Raises:
            UnknownEpoch: It is later than the newest that was followed.
        """
        if not 0 <= epoch < len(self.sets):
            raise UnknownEpoch(f"epoch {epoch}; the replica sets of epochs 0 to {len(self.sets) - 1} are known")
        return self.sets[epoch]

    def voters(self, epoch: int) -> Voters:
        """Whose contradicting votes are evidence in an epoch.

        Raises:
            UnknownEpoch: It is later than the newest that was followed.
        """
        return self.set_of(epoch).voters(self.genesis.chain_id, self.genesis.parameters.term_views)

    def follow(self, handover: Handover) -> None:
        """Take the next handover in; one that is known already changes nothing.

        Raises:
            UnknownEpoch: It ends an epoch that is later than the newest.
            TwoHandovers: It is true, and the one that is known is so, too, and they are not one.
            RemoteError: It does not follow from what is known.
        """
        header, following = verify_head(self, handover.head), handover.replica_set
        if following.epoch != header.epoch + 1:
            raise RemoteError(f"block {header.height} of epoch {header.epoch} hands over to epoch {following.epoch}")
        _check_leaf(header, REPLICA_SET_KEY, following.hash, handover.proof, f"the set of epoch {following.epoch}")
        if is_empty(header):
            raise RemoteError(f"block {header.height} executed nothing: it is filler, the boundary is before it")
        if following.epoch < len(self.sets):
            known = self.handovers[header.epoch]
            if header != known.head.header:
                raise TwoHandovers(known, handover)
            return
        self.sets.append(following)
        self.handovers.append(handover)

    def boundary(self, epoch: int) -> Header | None:
        """The last block of an epoch; None of the newest, which goes on, and of those that are not known yet."""
        return self.handovers[epoch].head.header if 0 <= epoch < len(self.handovers) else None

    def is_filler(self, header: Header) -> bool:
        """Whether a final block is filler: final as it is, it stands behind the last block of its epoch.

        Who does not know yet that the epoch is over cannot tell.
        """
        boundary = self.boundary(header.epoch)
        return boundary is not None and header.height > boundary.height

    def checker(self, epoch: int) -> Checker:
        """A fresh one for the certificates of an epoch: it forgets, so hostile ones cannot fill the memory."""
        return Checker(trusted_config(self.genesis, self.set_of(epoch)))


def trusted_config(genesis: Genesis, replica_set: ReplicaSet) -> Config:
    """What it takes to check certificates of a set. Times do not matter here."""
    return Config(
        chain_id=genesis.chain_id,
        epoch=replica_set.epoch,
        replicas=replica_set.keys,
        replica_set=replica_set.hash,
        fault_model=replica_set.fault_model,
        term_views=genesis.parameters.term_views,
        max_step_ms=MAX_MONEY,
    )


def is_empty(header: Header) -> bool:
    """Whether the block executed no transaction: as heartbeats do, settlements at deadlines, and all filler.

    A boundary executed the change of the set, and so is not: filler, whose state names the next set as well, cannot
    pass for one.
    """
    return header.transactions_root == _NOTHING


def verify_head(trust: Trust, head: HeadProof) -> Header:
    """Check that a header is final on the chain of the genesis.

    Raises:
        UnknownEpoch: Its replica set is not known yet.
        RemoteError: It is not, and what is wrong.
    """
    header = head.header
    if header.height == 0:
        genesis = genesis_header(trust.genesis)
        if header != genesis:
            raise RemoteError(f"block 0 is {header.id.hex()}, genesis makes it {genesis.id.hex()}", head)
        return header
    replica_set = trust.set_of(header.epoch)
    if header.replica_set != replica_set.hash:
        raise RemoteError(
            f"header {header.height} names replica set {header.replica_set.hex()}, that of epoch {header.epoch} is "
            f"{replica_set.hash.hex()}",
            head,
        )
    if head.finalization is None:
        raise RemoteError(f"header {header.height} comes without a finalization; only genesis needs none", head)
    check_path(header, head.path, head.finalization)
    trust.checker(header.epoch).certificate(head.finalization)
    return header


def verify_account(trust: Trust, address: PublicKey, answer: AccountProof) -> Verified[Account]:
    """Check an account's balance at one block.

    Raises:
        RemoteError: The proof does not show it, and what is wrong.
    """
    header = verify_head(trust, answer.head)
    if answer.account.balance < 0:
        raise RemoteError(f"a balance of {answer.account.balance}; none is below 0", answer)
    _check_leaf(header, account_key(address), leaf_hash(answer.account), answer.proof, f"account {address.hex()}")
    return Verified(answer.account, header)


def verify_group(trust: Trust, group_id: Hash, answer: GroupProof) -> Verified[Group | None]:
    """Check a group's record at one block, or that there was none.

    Raises:
        RemoteError: The proof does not show it, and what is wrong.
    """
    header = verify_head(trust, answer.head)
    _check_group(header, group_id, answer.group, answer.proof)
    return Verified(answer.group, header)


def verify_groups(trust: Trust, ids: Sequence[Hash], answer: GroupsProof) -> Verified[tuple[Group | None, ...]]:
    """Check the records of several groups at one block, in the order of `ids`; None where there was none.

    Raises:
        RemoteError: The proof does not show them, and what is wrong.
    """
    header, groups, proofs = verify_head(trust, answer.head), answer.groups, answer.proofs
    if not len(ids) == len(groups) == len(proofs):
        raise RemoteError(f"{len(groups)} groups and {len(proofs)} proofs for {len(ids)} ids", answer)
    for group_id, group, proof in zip(ids, groups, proofs, strict=True):
        _check_group(header, group_id, group, proof)
    return Verified(groups, header)


def _check_group(header: Header, group_id: Hash, group: Group | None, proof: merkle.Proof) -> None:
    if group is not None and group.group_id != group_id:
        raise RemoteError(f"the record is of group {group.group_id.hex()}, not {group_id.hex()}", group)
    _check_leaf(header, group_key(group_id), leaf_hash(group), proof, f"group {group_id.hex()}")


def verify_appointment(trust: Trust, account: PublicKey, answer: AppointmentProof) -> Verified[Head | None]:
    """Check which process acts for an account at one block, or that it never said.

    Raises:
        RemoteError: The proof does not show it, and what is wrong.
    """
    header, found = verify_head(trust, answer.head), answer.appointed
    if found is not None and found.account != account:
        raise RemoteError(f"the record is of account {found.account.hex()}, not {account.hex()}", answer)
    _check_leaf(header, head_key(account), leaf_hash(found), answer.proof, f"the head of account {account.hex()}")
    return Verified(found, header)


def verify_registration(trust: Trust, hashed: Hash, answer: RegistrationProof) -> Verified[Registration | None]:
    """Check when the preimage of a hash was registered as of one block, or that it was not.

    Raises:
        RemoteError: The proof does not show it, and what is wrong.
    """
    header, found = verify_head(trust, answer.head), answer.registration
    if found is not None and found.hash != hashed:
        raise RemoteError(f"the record is of hash {found.hash.hex()}, not {hashed.hex()}", answer)
    _check_leaf(header, preimage_key(hashed), leaf_hash(found), answer.proof, f"the preimage of {hashed.hex()}")
    return Verified(found, header)


def verify_marks(trust: Trust, answer: MarksProof) -> Verified[MarksProof]:
    """Check which replicas were marked at one block; by position in the set that certifies what follows it.

    Raises:
        RemoteError: The proof does not show it, and what is wrong.
    """
    header = verify_head(trust, answer.head)
    _check_leaf(header, REPLICA_SET_KEY, answer.replica_set.hash, answer.set_proof, "the replica set")
    keys, marks, proofs = answer.replica_set.keys, answer.marks, answer.proofs
    if not len(keys) == len(marks) == len(proofs):
        raise RemoteError(f"{len(marks)} marks and {len(proofs)} proofs for {len(keys)} replicas", answer)
    for position, (key, mark, proof) in enumerate(zip(keys, marks, proofs, strict=True)):
        if mark is not None and mark.replica != key:
            raise RemoteError(f"mark {position} is of key {mark.replica.hex()}, not {key.hex()}", answer)
        _check_leaf(header, mark_key(key), leaf_hash(mark), proof, f"the mark of replica {position}")
    return Verified(answer, header)


def verify_value(trust: Trust, key: bytes, answer: ValueProof) -> Verified[bytes | None]:
    """Check the value of a key of the state machine at one block, or that it had none.

    Raises:
        RemoteError: The proof does not show it, and what is wrong.
    """
    header = verify_head(trust, answer.head)
    _check_leaf(header, machine_key(key), leaf_hash(answer.value), answer.proof, f"key {key.hex()}")
    return Verified(answer.value, header)


def verify_output(trust: Trust, transaction_id: Hash, answer: OutputProof) -> Verified[Output]:
    """Check what became of a transaction.

    Raises:
        RemoteError: The proof does not show it, and what is wrong.
    """
    header = verify_head(trust, answer.head)
    if answer.output.transaction_id != transaction_id:
        raise RemoteError(f"the output is of {answer.output.transaction_id.hex()}, not {transaction_id.hex()}", answer)
    if not merkle.verify_index(header.outputs_root, answer.output.hash, answer.proof):
        raise RemoteError(
            f"the proof does not lead from the output of {transaction_id.hex()} to the outputs root "
            f"{header.outputs_root.hex()} of block {header.height}",
            answer,
        )
    return Verified(answer.output, header)


def verify_block(trust: Trust, answer: BlockProof) -> Verified[tuple[Output, ...]]:
    """Check all outputs of a block at once; cheaper than one proof for each.

    Raises:
        RemoteError: They are not the outputs of this block.
    """
    header = verify_head(trust, answer.head)
    root = merkle.list_root([output.hash for output in answer.outputs])
    if root != header.outputs_root:
        raise RemoteError(
            f"{len(answer.outputs)} outputs have the root {root.hex()}, block {header.height} names "
            f"{header.outputs_root.hex()}",
            answer,
        )
    return Verified(answer.outputs, header)


def max_age_ms(parameters: Parameters) -> int:
    """How old the newest block of a healthy ledger may be: a late heartbeat, two timeouts of its views, and drift."""
    return 2 * (parameters.heartbeat_ms + parameters.view_timeout_ms + parameters.drift_bound_ms)


def check_fresh(header: Header, now_wall_ms: int, parameters: Parameters) -> None:
    """Check that a head is recent, by the reader's own clock.

    Raises:
        RemoteError: It is older than a healthy ledger's newest block can be, or made later than now.
    """
    age, most = now_wall_ms - header.wall_time, max_age_ms(parameters)
    if age > most:
        raise RemoteError(f"block {header.height} is {age} ms old, a healthy ledger's newest is at most {most} ms")
    ahead = 2 * parameters.drift_bound_ms
    if -age > ahead:
        raise RemoteError(
            f"block {header.height} was made {-age} ms from now, {ahead} ms are allowed: set this machine's clock"
        )


def check_path(header: Header, path: Sequence[Header], finalization: Finalization) -> None:
    """Check that a path leads from a header to the one that a finalization names. Its signatures are not looked at.

    Raises:
        RemoteError: It does not.
    """
    if len(path) > MAX_PATH:
        raise RemoteError(f"{len(path)} headers lead to the finalized one, at most {MAX_PATH} are taken")
    last = header
    for following in path:
        if following.parent != last.id or following.height != last.height + 1 or following.epoch != header.epoch:
            raise RemoteError(
                f"the path goes from block {last.height} ({last.id.hex()}) of epoch {last.epoch} to block "
                f"{following.height} of epoch {following.epoch}, whose parent is {following.parent.hex()}"
            )
        last = following
    if (finalization.block, finalization.view) != (last.id, last.view):
        raise RemoteError(
            f"the finalization names block {finalization.block.hex()} of view {finalization.view}, the path leads to "
            f"{last.id.hex()} of view {last.view}"
        )


def _check_leaf(header: Header, key: Hash, leaf: Hash | None, proof: merkle.Proof, what: str) -> None:
    if not merkle.verify(header.state_root, key, leaf, proof):
        raise RemoteError(
            f"the proof does not lead from the record of {what} to the state root {header.state_root.hex()} of block "
            f"{header.height}",
            proof,
        )

"""Answers that prove themselves: what a client needs to believe one replica, and nothing but the genesis.

An answer carries a header, the certificate that makes it final, and the Merkle path from the header to the record.

*Safety:* what a verifier returns is part of the chain of this genesis, as its replicas finalized it.

A finalization holds q signatures over a block id, of the replicas whose keys the genesis names; the id is a hash of the
header, or of a descendant that leads to it parent by parent; the header holds the roots; each proof leads from a
root to the hash of the record that was asked for. Two quorums share an honest replica, so there is one such chain.
What this does not show is that the answer is recent: :func:`check_fresh` judges that by the reader's own clock.

*Source:* docs/design/architecture.md, "Believing an answer"; consensus.md, "Objects".
*Deviation:* the replica set is that of genesis (epoch 0), until the ledger can change it; another one is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

from layer1 import merkle
from layer1.codec import Struct
from layer1.consensus.certificates import Checker
from layer1.consensus.config import Config
from layer1.consensus.messages import Finalization
from layer1.crypto import Hash, PublicKey
from layer1.errors import RemoteError
from layer1.header import Header
from layer1.ledger.genesis import MAX_MONEY, Genesis, Parameters, genesis_header
from layer1.ledger.records import Account, Group, Mark, account_key, group_key, leaf_hash, mark_key
from layer1.ledger.transactions import Output

MAX_PATH = 1_000
"""Headers between a block and the one that its certificate names; replicas finalize far sooner."""


class HeadProof(Struct):
    """A final header."""

    header: Header
    path: tuple[Header, ...]
    """Headers between this block and the finalized one, oldest first, the finalized one last; empty if it is this."""
    finalization: Finalization | None
    """None for the genesis block alone, which everybody knows."""


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


class MarksProof(Struct):
    """For each replica of the genesis, in order, its mark after the block of `head`, or that it had none."""

    head: HeadProof
    marks: tuple[Mark | None, ...]
    proofs: tuple[merkle.Proof, ...]


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


def verify_head(genesis: Genesis, head: HeadProof) -> Header:
    """Check that a header is final on the chain of `genesis`.

    Raises:
        RemoteError: It is not, and what is wrong.
    """
    header = head.header
    if header.height == 0:
        if header != genesis_header(genesis):
            raise RemoteError(f"block 0 is {header.id.hex()}, genesis makes it {_genesis_id(genesis).hex()}", head)
        return header
    if header.epoch != 0 or header.replica_set != genesis.replica_set_hash:
        raise RemoteError(
            f"header {header.height} names epoch {header.epoch} and replica set {header.replica_set.hex()}, "
            f"genesis epoch 0 and {genesis.replica_set_hash.hex()}",
            head,
        )
    if head.finalization is None:
        raise RemoteError(f"header {header.height} comes without a finalization; only genesis needs none", head)
    _check_path(head)
    last = head.path[-1] if head.path else header
    if (head.finalization.block, head.finalization.view) != (last.id, last.view):
        raise RemoteError(
            f"the finalization names block {head.finalization.block.hex()} of view {head.finalization.view}, "
            f"the path leads to {last.id.hex()} of view {last.view}",
            head,
        )
    _checker(genesis)(head.finalization)
    return header


def verify_account(genesis: Genesis, address: PublicKey, answer: AccountProof) -> Verified[Account]:
    """Check an account's balance at one block.

    Raises:
        RemoteError: The proof does not show it, and what is wrong.
    """
    header = verify_head(genesis, answer.head)
    if answer.account.balance < 0:
        raise RemoteError(f"a balance of {answer.account.balance}; none is below 0", answer)
    _check_leaf(header, account_key(address), leaf_hash(answer.account), answer.proof, f"account {address.hex()}")
    return Verified(answer.account, header)


def verify_group(genesis: Genesis, group_id: Hash, answer: GroupProof) -> Verified[Group | None]:
    """Check a group's record at one block, or that there was none.

    Raises:
        RemoteError: The proof does not show it, and what is wrong.
    """
    header = verify_head(genesis, answer.head)
    if answer.group is not None and answer.group.group_id != group_id:
        raise RemoteError(f"the record is of group {answer.group.group_id.hex()}, not {group_id.hex()}", answer)
    _check_leaf(header, group_key(group_id), leaf_hash(answer.group), answer.proof, f"group {group_id.hex()}")
    return Verified(answer.group, header)


def verify_marks(genesis: Genesis, answer: MarksProof) -> Verified[tuple[Mark | None, ...]]:
    """Check which replicas were marked at one block; in the order of the genesis.

    Raises:
        RemoteError: The proof does not show it, and what is wrong.
    """
    header = verify_head(genesis, answer.head)
    keys, marks, proofs = genesis.replicas, answer.marks, answer.proofs
    if not len(keys) == len(marks) == len(proofs):
        raise RemoteError(f"{len(marks)} marks and {len(proofs)} proofs for {len(keys)} replicas", answer)
    for index, (key, mark, proof) in enumerate(zip(keys, marks, proofs, strict=True)):
        if mark is not None and mark.replica != key:
            raise RemoteError(f"the mark of replica {index} is of key {mark.replica.hex()}, not {key.hex()}", answer)
        _check_leaf(header, mark_key(key), leaf_hash(mark), proof, f"the mark of replica {index}")
    return Verified(marks, header)


def verify_output(genesis: Genesis, transaction_id: Hash, answer: OutputProof) -> Verified[Output]:
    """Check what became of a transaction.

    Raises:
        RemoteError: The proof does not show it, and what is wrong.
    """
    header = verify_head(genesis, answer.head)
    if answer.output.transaction_id != transaction_id:
        raise RemoteError(f"the output is of {answer.output.transaction_id.hex()}, not {transaction_id.hex()}", answer)
    if not merkle.verify_index(header.outputs_root, answer.output.hash, answer.proof):
        raise RemoteError(
            f"the proof does not lead from the output of {transaction_id.hex()} to the outputs root "
            f"{header.outputs_root.hex()} of block {header.height}",
            answer,
        )
    return Verified(answer.output, header)


def verify_block(genesis: Genesis, answer: BlockProof) -> Verified[tuple[Output, ...]]:
    """Check all outputs of a block at once; cheaper than one proof for each.

    Raises:
        RemoteError: They are not the outputs of this block.
    """
    header = verify_head(genesis, answer.head)
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


def _check_path(head: HeadProof) -> None:
    if len(head.path) > MAX_PATH:
        raise RemoteError(f"{len(head.path)} headers lead to the finalized one, at most {MAX_PATH} are taken")
    parent = head.header
    for header in head.path:
        if header.parent != parent.id or header.height != parent.height + 1:
            raise RemoteError(
                f"the path goes from block {parent.height} ({parent.id.hex()}) to block {header.height}, whose parent "
                f"is {header.parent.hex()}",
                head,
            )
        parent = header


def _check_leaf(header: Header, key: Hash, leaf: Hash | None, proof: merkle.Proof, what: str) -> None:
    if not merkle.verify(header.state_root, key, leaf, proof):
        raise RemoteError(
            f"the proof does not lead from the record of {what} to the state root {header.state_root.hex()} of block "
            f"{header.height}",
            proof,
        )


def _genesis_id(genesis: Genesis) -> Hash:
    return genesis_header(genesis).id


@lru_cache(maxsize=8)
def _checker(genesis: Genesis) -> Callable[[Finalization], None]:
    """Checks finalizations; it forgets, so that hostile certificates cannot fill the memory."""
    config = Config(
        chain_id=genesis.chain_id,
        epoch=0,
        replicas=genesis.replicas,
        replica_set=genesis.replica_set_hash,
        fault_model=genesis.fault_model,
        max_step_ms=MAX_MONEY,  # times do not matter here, and their defaults do not fit every number of replicas
    )

    def check(finalization: Finalization) -> None:
        Checker(config).certificate(finalization)

    return check

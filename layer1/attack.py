"""Proof that the ledger is under attack: two final blocks that cannot be of one chain.

What: both signed sides, and the handovers that lead to their replica sets. Whoever has the genesis checks it; nothing
else is asked, and nobody needs to be believed.

*Safety:* with at most f faulty replicas in each set there is no such proof.

Final blocks form one chain (consensus.md, "Why it is safe"): of one epoch there is one block at each height, each names
the one before it, and views and times do not go back. The last block of an epoch is the parent of the next epoch's
first; what the old set builds behind it is filler, which executes nothing, changes nothing, and counts as no block of
the ledger: filler beside a block of the next epoch, at the same height, is *no* attack.

Two quorums of one set share more than f replicas (byzantine), or at least one (omission). Those that signed both sides
are named. If both are of one view, each of them is convicted by its own two votes, which make :class:`Evidence`. In
different views some may have been deceived by the others: then the proof convicts more than f, but not each that is
named.

*Source:* docs/design/consensus.md, "Why it is safe", "Catching up, joining, leaving"; Braithwaite et al., A Tendermint
Light Client (2020), sections 3 and 5, on evidence of forks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from layer1.codec import Struct
from layer1.consensus.evidence import Evidence, pair
from layer1.consensus.messages import Finalize
from layer1.crypto import Hash
from layer1.errors import RemoteError
from layer1.header import Header
from layer1.ledger.genesis import Genesis
from layer1.proof import Handover, HeadProof, Trust, is_empty, verify_head


class AttackProof(Struct):
    """Two final blocks that contradict each other."""

    chain_id: Hash
    handovers: tuple[Handover, ...]
    """From the genesis to the replica sets of both sides, and to the end of the first side's epoch, if it ended."""
    first: HeadProof
    second: HeadProof


@dataclass(frozen=True, slots=True)
class Attack:
    """What a proof shows, verified."""

    proof: AttackProof
    reason: str
    """What cannot be true of one chain, for people."""
    signers: tuple[int, ...]
    """Numbers of the replicas that signed both sides, the lowest first."""
    faults: int
    """f of the set that signed the second side: so many liars and it could not have been."""
    evidence: tuple[Evidence, ...]
    """If both sides are of one view and epoch: what convicts each of the signers, also before the ledger."""


def contradiction(trust: Trust, first: HeadProof, second: HeadProof) -> str | None:
    """Why two final blocks, each with those that lead to its certificate, cannot be of one chain.

    Args:
        trust: Knows the sets of both, and, if it is to count, where their epochs ended.
        first: Verified.
        second: Verified.

    Returns:
        None if they can.
    """
    return next(_contradictions(trust, first, second), None)


def verify_attack(genesis: Genesis, proof: AttackProof) -> Attack:
    """Check that both sides are final on the chain of the genesis, and contradict each other.

    Raises:
        RemoteError: It proves nothing, and why.
    """
    if proof.chain_id != genesis.chain_id:
        raise RemoteError(f"the proof is about chain {proof.chain_id.hex()}, this genesis is {genesis.chain_id.hex()}")
    trust = Trust(genesis, proof.handovers)
    for side in (proof.first, proof.second):
        verify_head(trust, side)
    reason = contradiction(trust, proof.first, proof.second)
    if reason is None:
        raise RemoteError(
            f"blocks {proof.first.header.height} and {proof.second.header.height} are final, and can be of one chain"
        )
    faults = trust.set_of(proof.second.header.epoch).faults
    return Attack(proof, reason, _signers(trust, proof), faults, tuple(_evidence(proof)))


def _contradictions(trust: Trust, first: HeadProof, second: HeadProof) -> Iterator[str]:
    ours, theirs = _blocks(first), _blocks(second)
    for (epoch, height), header in theirs.items():
        same, before, after = (ours.get((epoch, height + step)) for step in (0, -1, 1))
        if same is not None and same != header:
            yield f"two blocks of height {height} are final in epoch {epoch}: {same.id.hex()} and {header.id.hex()}"
        if before is not None and header.parent != before.id:
            yield _not_on(header, before)
        if after is not None and after.parent != header.id:
            yield _not_on(after, header)
    yield from _back_in_time(first.header, second.header)
    for one, others in ((first.header, theirs), (second.header, ours)):
        if one == trust.boundary(one.epoch):
            for other in others.values():
                yield from _against_boundary(one, other)


def _blocks(proof: HeadProof) -> Mapping[tuple[int, int], Header]:
    """All that a certificate makes final here, by epoch and height."""
    return {(header.epoch, header.height): header for header in (proof.header, *proof.path)}


def _back_in_time(one: Header, other: Header) -> Iterator[str]:
    low, high = (one, other) if one.height <= other.height else (other, one)
    if low.epoch != high.epoch or low.height == high.height:
        return
    if low.view >= high.view or low.clock > high.clock or low.wall_time > high.wall_time:
        yield (
            f"block {high.height} of epoch {high.epoch}, in view {high.view}, at clock {high.clock} and time "
            f"{high.wall_time}, does not come after block {low.height}, in view {low.view}, at {low.clock} and "
            f"{low.wall_time}"
        )


def _against_boundary(boundary: Header, other: Header) -> Iterator[str]:
    """What contradicts the end of an epoch."""
    if other.epoch == boundary.epoch and other.height > boundary.height:
        if not is_empty(other) or other.state_root != boundary.state_root:
            yield (
                f"epoch {boundary.epoch} ended with block {boundary.height}, and its block {other.height} "
                f"({other.id.hex()}) is no filler"
            )
    elif other.epoch > boundary.epoch:
        if other.height <= boundary.height or other.view <= boundary.view:
            yield (
                f"epoch {boundary.epoch} ended with block {boundary.height} of view {boundary.view}; block "
                f"{other.height} of view {other.view} is of epoch {other.epoch}"
            )
        elif other.height == boundary.height + 1 and other.parent != boundary.id:
            yield _not_on(other, boundary)


def _not_on(header: Header, before: Header) -> str:
    return (
        f"block {header.height} of epoch {header.epoch} stands on {header.parent.hex()}, and block {before.height} of "
        f"epoch {before.epoch} is {before.id.hex()}; both are final"
    )


def _signers(trust: Trust, proof: AttackProof) -> tuple[int, ...]:
    """Numbers of the replicas in both certificates."""
    signed = [
        set[int]()
        if side.finalization is None
        else {trust.set_of(side.header.epoch).numbers[position] for position, _ in side.finalization.signatures}
        for side in (proof.first, proof.second)
    ]
    return tuple(sorted(signed[0] & signed[1]))


def _evidence(proof: AttackProof) -> Iterator[Evidence]:
    """The two votes of each replica that finalized both, in one view."""
    first, second = proof.first.finalization, proof.second.finalization
    if first is None or second is None or (first.epoch, first.view) != (second.epoch, second.view):
        return
    theirs = dict(second.signatures)
    for replica, signature in first.signatures:
        if replica in theirs and first.block != second.block:
            one = Finalize(first.epoch, first.view, first.block, replica, signature)
            found = pair(one, Finalize(second.epoch, second.view, second.block, replica, theirs[replica]))
            if found is not None:
                yield found

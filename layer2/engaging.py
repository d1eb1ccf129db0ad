"""Engaging a witness: its signed promise to serve a group, before anybody's money is in it.

Safety: a witness serves no group that it did not promise to; and its promise is durable before it is given.

The promise names the agreement, so it is asked for when all members' parts are known, and checked before the last
signature of the opening is made. It binds until `open_before_ms`, or as long as the group exists.

Source: docs/design/groups.md, "Witnessed groups"; decision 033.
"""

from __future__ import annotations

from dataclasses import dataclass

from layer1.codec import Struct
from layer1.crypto import Hash, Kind, PublicKey, Signature, SigningKey, verify
from layer1.errors import check
from layer1.ledger.agreements import GroupAgreement
from layer2.witness import member_of


class Promised(Struct, tag=34):
    """The witness promised to serve this agreement's group, once layer 1 has opened it."""

    agreement_hash: Hash
    open_before_ms: int
    """Ledger clock behind which it can be forgotten."""
    requester: PublicKey
    members: tuple[PublicKey, ...] = ()
    """By their wallets' keys: who may ask for the group."""
    keys: tuple[PublicKey, ...] = ()
    """Which they sign the group with, in the same order: by both the group is known after a change of its terms."""

    @classmethod
    def of(cls, agreement: GroupAgreement, requester: PublicKey) -> Promised:
        """To serve this agreement's group."""
        members = tuple(member.funding for member in agreement.members)
        keys = tuple(member.key for member in agreement.members)
        return cls(agreement.hash, agreement.open_before_ms, requester, members, keys)


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """Whom a witness serves."""

    most_groups: int = 10_000
    """Open groups and promises together."""
    most_promises_each: int = 16
    """To one requester, that layer 1 has not opened yet."""
    most_members: int = 16
    most_state_bytes: int = 16_384
    """Of a machine's state; a sealed body is kept for each member."""
    max_open_window_ms: int = 600_000
    """How far ahead `open_before_ms` may lie: for so long a promise holds a place."""


def judge(
    policy: WitnessPolicy, agreement: GroupAgreement, *, key: PublicKey, chain_id: Hash, peer: PublicKey, clock_ms: int
) -> None:
    """Whether a witness may promise to serve this agreement.

    Args:
        policy: Of the witness.
        agreement: Complete.
        key: Of the witness.
        chain_id: Of its ledger.
        peer: Who asks, as its link proved.
        clock_ms: The ledger's.

    Raises:
        Refused: ``wrong_chain``, ``not_a_member``, ``bad_witnesses`` or ``policy``.
    """
    ahead, most = agreement.open_before_ms - clock_ms, policy.max_open_window_ms
    members, size = len(agreement.members), agreement.limits.max_state_bytes
    check(agreement.chain_id == chain_id, "wrong_chain", "the group would be opened on another ledger")
    check(member_of(agreement, peer) is not None, "not_a_member", "who asks for a witness is a member of the group")
    named = sum(witness.key == key for witness in agreement.witnesses)
    check(named == 1, "bad_witnesses", f"the agreement names this witness {named} times; it must once")
    check(
        len(agreement.witnesses) == members - 1,
        "bad_witnesses",
        f"{len(agreement.witnesses)} witnesses of {members} members; there is one less than there are members",
    )
    check(members <= policy.most_members, "policy", f"{members} members; this witness serves {policy.most_members}")
    check(
        size <= policy.most_state_bytes,
        "policy",
        f"states of {size} bytes; this witness keeps {policy.most_state_bytes} at most",
    )
    check(0 < ahead <= most, "policy", f"open_before_ms is {ahead} ms ahead; this witness promises for {most} at most")


def sign_promise(key: SigningKey, agreement: GroupAgreement) -> Signature:
    """The witness's word that it serves this group once it is open."""
    return key.sign(Kind.WITNESS, agreement.chain_id, agreement.hash)


def verify_promise(key: PublicKey, agreement: GroupAgreement, signature: Signature) -> bool:
    """Whether the witness with this key promised it."""
    return verify(key, signature, Kind.WITNESS, agreement.chain_id, agreement.hash)

"""What layer 1 has to know about a group: its agreement, its certified states, its claims.

Members make and sign these in layer 2; layer 1 checks them when a group opens, is wedged, reported on, or closed.
Every signed thing has its own kind, and names chain, group and epoch, so that it verifies as nothing else.

Source: docs/design/groups.md, "Objects" and rules 7 to 15.
"""

from __future__ import annotations

from msgspec import structs

from layer1.codec import Struct, encode
from layer1.crypto import (
    ZERO_HASH,
    Domain,
    Hash,
    Kind,
    PublicKey,
    Signature,
    SigningKey,
    digest,
    verify,
)


class Member(Struct):
    """One member of a group, m0 being the primary."""

    key: PublicKey
    """Hot key made for this group; signs STATE, FINAL, CLAIM and ACK."""
    funding: PublicKey
    """Account that pays deposit and bond, and signs the opening."""
    payout: PublicKey
    """Account that settlement pays, so that a serving wallet never unlocks its savings."""
    deposit: int
    """Minor units that become the member's balance at version 0."""
    bond: int
    """Minor units forfeited to the other members for a provable lie (rule 15), else returned."""


class Limits(Struct):
    """What every member enforces on every state."""

    max_batch: int = 10_000
    """Commands in one version."""
    max_state_bytes: int = 4_096
    """Encoded machine state; it must fit into a report."""


class GroupAgreement(Struct):
    """The contract between the members; void after `open_before_ms`."""

    chain_id: Hash
    members: tuple[Member, ...]
    challenge_period_ms: int
    """From wedge to settlement, on the ledger clock."""
    machine: str
    """Name of the replicated machine, such as ``payments/1``; layer 1 never interprets it."""
    open_before_ms: int
    """Ledger clock from which an opening is refused: nobody holds a free option on another's deposit."""
    salt: bytes
    """16 random bytes: two agreements of the same members differ."""
    limits: Limits = Limits()

    @property
    def hash(self) -> Hash:
        """Hash of the agreement."""
        return digest(Domain.AGREEMENT, encode(self))

    @property
    def funding_units(self) -> int:
        """What all balances of a state add up to, always."""
        return sum(member.deposit for member in self.members)

    @property
    def bond_units(self) -> int:
        """What all bonds add up to; locked beside the funding, never part of a state."""
        return sum(member.bond for member in self.members)

    def index_of(self, key: PublicKey) -> int | None:
        """Position of the member with this group key."""
        return next((i for i, member in enumerate(self.members) if member.key == key), None)


class Body(Struct):
    """The content of one state; only its hash is in the header, and the salt keeps balances from being guessed."""

    balances: tuple[int, ...]
    """Minor units per member, each >= 0, their sum the funding."""
    machine_state: bytes
    """The machine's own encoding; empty at version 0 for every machine, which derives its first state from that."""
    applied: tuple[int, ...]
    """Per member, the number of its last applied command; 0 before the first."""
    salt: bytes
    """16 random bytes, fresh for each version; zeros at version 0."""

    @property
    def hash(self) -> Hash:
        """What the header commits to."""
        return digest(Domain.BODY, encode(self))


class GroupHeader(Struct):
    """What all members sign (STATE) for one version."""

    chain_id: Hash
    group_id: Hash
    epoch: int
    version: int
    parent: Hash
    """Hash of the header of version - 1; zeros at version 0."""
    log_root: Hash
    """Hash chain over all batches applied so far."""
    body_hash: Hash

    @property
    def hash(self) -> Hash:
        """What the next version names as its parent."""
        return digest(Domain.GROUP_HEADER, encode(self))


class Certificate(Struct):
    """A header signed by all members, in the agreement's order. Version 0 needs none: the agreement certifies it."""

    header: GroupHeader
    signatures: tuple[Signature, ...]


class Claim(Struct):
    """CLAIM(s, header_k): "my newest certificate is s; the highest version that I ever signed is k" (rule 8)."""

    group_id: Hash
    epoch: int
    member: int
    """Index in the agreement."""
    version: int
    """s."""
    highest: GroupHeader
    """header_k; its version k is s or s + 1."""
    signature: Signature
    """Kind CLAIM, over :meth:`statement`."""

    def statement(self) -> bytes:
        """The signed bytes."""
        return encode((self.group_id, self.epoch, self.member, self.version, self.highest))


class Final(Struct):
    """FINAL(base, payout): the cooperative end of an epoch (rule 7)."""

    group_id: Hash
    epoch: int
    base: Hash
    """Hash of the newest certified header."""
    base_version: int
    payout: tuple[int, ...]
    """Minor units per member, their sum the funding; bonds are settled besides: returned, unless already forfeited."""


class DoubleSignature(Struct):
    """Two STATE signatures of one member on different headers at one version (rule 15)."""

    member: int
    first: GroupHeader
    first_signature: Signature
    second: GroupHeader
    second_signature: Signature


def group_id(agreement: GroupAgreement, transaction_id: Hash) -> Hash:
    """Layer 1's name for a group: hash of agreement and opening transaction, never reused."""
    return digest(Domain.GROUP, agreement.hash + transaction_id)


def initial_body(agreement: GroupAgreement) -> Body:
    """Version 0: the agreement's own allocation, and no machine state.

    The agreement names only the machine, so every machine derives its first state from empty bytes: layer 1 can then
    tell what version 0 is without interpreting any machine.
    """
    members = agreement.members
    return Body(tuple(m.deposit for m in members), b"", (0,) * len(members), bytes(16))


def initial_certificate(agreement: GroupAgreement, group: Hash) -> Certificate:
    """The certificate of version 0. It carries no signature, so it proves nothing against a claim (rule 15)."""
    body = initial_body(agreement)
    header = GroupHeader(agreement.chain_id, group, 0, 0, ZERO_HASH, ZERO_HASH, body.hash)
    return Certificate(header, ())


def sign_state(key: SigningKey, header: GroupHeader) -> Signature:
    """A member's STATE signature."""
    return key.sign(Kind.STATE, header.chain_id, encode(header))


def verify_state(member: Member, header: GroupHeader, signature: Signature) -> bool:
    """Whether `signature` is the member's STATE signature on `header`."""
    return verify(member.key, signature, Kind.STATE, header.chain_id, encode(header))


def sign_claim(key: SigningKey, member: int, version: int, highest: GroupHeader) -> Claim:
    """A member's CLAIM: its newest certificate is `version`, the highest that it ever signed is `highest`."""
    claim = Claim(highest.group_id, highest.epoch, member, version, highest, b"")
    return structs.replace(claim, signature=key.sign(Kind.CLAIM, highest.chain_id, claim.statement()))


def verify_claim(member: Member, chain_id: Hash, claim: Claim) -> bool:
    """Whether `claim` is signed by `member`; what it says is another matter."""
    return verify(member.key, claim.signature, Kind.CLAIM, chain_id, claim.statement())


def sign_final(key: SigningKey, chain_id: Hash, final: Final) -> Signature:
    """A member's FINAL signature."""
    return key.sign(Kind.FINAL, chain_id, encode(final))


def verify_final(member: Member, chain_id: Hash, final: Final, signature: Signature) -> bool:
    """Whether `signature` is the member's FINAL signature on `final`."""
    return verify(member.key, signature, Kind.FINAL, chain_id, encode(final))

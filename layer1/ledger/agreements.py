"""What layer 1 has to know about a group: its agreement, its certified states, its claims.

Members make and sign these in layer 2; layer 1 checks them when a group opens, is wedged, reported on, or closed.
Every signed thing has its own kind, and names chain, group and epoch, so that it verifies as nothing else.

Source: docs/design/groups.md, "Objects" and rules 7 to 15.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from layer1.codec import Struct, encode
from layer1.crypto import (
    HASH_BYTES,
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
    contact: str = ""
    """``host:port`` of its wallet when this was signed, for others who have only a phrase; empty if it has none."""


class Witness(Struct):
    """One of the further signers of a witnessed group: it holds no money in it and posts no bond [F4]."""

    key: PublicKey
    """The identity of its links, which is the same in all its groups; signs ACK and CLAIM."""
    contact: str = ""
    """``host:port`` where it listens."""


class Limits(Struct):
    """What every member enforces on every state."""

    max_batch: int = 10_000
    """Commands in one version."""
    max_state_bytes: int = 4_096
    """Encoded machine state; it must fit into a report."""
    max_locks: int = 30
    """Locks in one state (rule 23); it must fit into a report. Layer 1 checks this one and no other of locks."""
    max_locked_units: int = 2**53 - 1
    """What all locks of one state add up to at most, minor units: the value in flight (rule 23)."""
    min_lock_units: int = 1
    """Of one lock: a smaller one is not worth its slot (rule 23)."""


class GroupAgreement(Struct):
    """The contract between the members; void after `open_before_ms`."""

    chain_id: Hash
    members: tuple[Member, ...]
    challenge_period_ms: int
    """From wedge to settlement, on the ledger clock."""
    machine: str
    """Name of the replicated machine, such as ``payments/2``; layer 1 never interprets it."""
    open_before_ms: int
    """Ledger clock from which an opening is refused: nobody holds a free option on another's deposit."""
    salt: bytes
    """16 random bytes: two agreements of the same members differ."""
    limits: Limits = Limits()
    witnesses: tuple[Witness, ...] = ()
    """None, or f of them: one less than there are members, so that all are 2f + 1."""
    witness_timeout_ms: int = 0
    """Of a witnessed group: from wedge to settlement, on the ledger clock; 0 for no clock at all."""

    @property
    def places(self) -> int:
        """Who may claim: members count first, then witnesses."""
        return len(self.members) + len(self.witnesses)

    @property
    def window_ms(self) -> int | None:
        """From wedge to settlement; None where no clock settles: in a witnessed group without a timeout."""
        return (self.witness_timeout_ms or None) if self.witnesses else self.challenge_period_ms

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

    def key_of(self, place: int) -> PublicKey:
        """Whose CLAIM counts for this place."""
        members = len(self.members)
        return self.members[place].key if place < members else self.witnesses[place - members].key

    def index_of(self, key: PublicKey) -> int | None:
        """Position of the member with this group key."""
        return next((i for i, member in enumerate(self.members) if member.key == key), None)


class Lock(Struct):
    """Money of `payer` that goes to `payee` if the preimage of `hash` is shown in time, else back (rules 20 and 21)."""

    id: int
    """Counts the group's locks up from 1, and is never used again."""
    payer: int
    """Place of the member whose balance it came from."""
    payee: int
    """Place of another member."""
    amount: int
    """Minor units, at least 1."""
    hash: Hash
    """SHA-256 of the preimage, 32 bytes."""
    expiry_ms: int
    """Ledger clock, ms: the last one at which a registration of the preimage is timely."""


class Body(Struct):
    """The content of one state; only its hash is in the header, and the salt keeps balances from being guessed."""

    balances: tuple[int, ...]
    """Minor units per member, each >= 0; with `locks` they add up to the funding."""
    machine_state: bytes
    """The machine's own encoding; empty at version 0 for every machine, which derives its first state from that."""
    applied: tuple[int, ...]
    """Per member, the number of its last applied command; 0 before the first."""
    salt: bytes
    """16 random bytes, fresh for each version; zeros at version 0."""
    locks: tuple[Lock, ...] = ()
    """Pending conditional payments, ascending by id; none at version 0."""

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
    def well_formed(self) -> bool:
        """Whether each hash has the length of one: layer 1 takes no other header, whoever signed it."""
        return all(len(each) == HASH_BYTES for each in (self.parent, self.log_root, self.body_hash))

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
    """Place in the agreement: members count first, then witnesses."""
    version: int
    """s."""
    highest: GroupHeader
    """header_k; its version k is s or s + 1. A witness signs no state: its k is s."""
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


class Concur(Struct):
    """A member that may make no claim says "settle on `version`" (rules 10 and 13, [F5])."""

    group_id: Hash
    epoch: int
    member: int
    version: int
    """The highest accepted version; when a higher one is accepted, this falls."""
    signature: Signature = b""
    """Kind CONCUR, over :meth:`statement`."""

    def statement(self) -> bytes:
        """The signed bytes."""
        return encode((self.group_id, self.epoch, self.member, self.version))


class PleaForData(Struct):
    """A member says "I may have lost data": the others must report (rule 13)."""

    group_id: Hash
    epoch: int
    member: int
    signature: Signature = b""
    """Kind PLEA, over :meth:`statement`."""

    def statement(self) -> bytes:
        """The signed bytes."""
        return encode((self.group_id, self.epoch, self.member))


class Delegation(Struct):
    """DELEGATE: a member lets a watchtower report for it, and promises a bounty (rule 17)."""

    group_id: Hash
    epoch: int
    member: int
    payout: PublicKey
    """The delegate's account."""
    bounty: int
    """Minor units, paid out of what the member gains from others' forfeited bonds, and never more than that."""
    signature: Signature = b""
    """Kind DELEGATE, over :meth:`statement`."""

    def statement(self) -> bytes:
        """The signed bytes."""
        return encode((self.group_id, self.epoch, self.member, self.payout, self.bounty))


class Payment(Struct):
    """Money of an account that goes into a group, or comes out of it."""

    account: PublicKey
    units: int
    """Minor units, at least 1."""


class Successor(Struct):
    """What an open group becomes: its next epoch (rules 24 and 25)."""

    chain_id: Hash
    group_id: Hash
    epoch: int
    """The one that it ends."""
    base: Hash
    """Hash of the newest certified header."""
    base_version: int
    agreement: GroupAgreement
    """Of the next epoch; its deposits are the new allocation, its `open_before_ms` is when this expires."""
    machine_state: bytes
    """What the machine goes on from."""
    deposits: tuple[Payment, ...] = ()
    withdrawals: tuple[Payment, ...] = ()

    @property
    def hash(self) -> Hash:
        """What it is called by."""
        return digest(Domain.SUCCESSOR, encode(self))


class DoubleSignature(Struct):
    """Two STATE signatures of one member on different headers at one version (rule 15)."""

    member: int
    first: GroupHeader
    first_signature: Signature
    second: GroupHeader
    second_signature: Signature


def locked_units(locks: Iterable[Lock]) -> int:
    """What these add up to."""
    return sum(lock.amount for lock in locks)


def group_id(agreement: GroupAgreement, transaction_id: Hash) -> Hash:
    """Layer 1's name for a group: hash of agreement and opening transaction, never reused."""
    return digest(Domain.GROUP, agreement.hash + transaction_id)


def initial_body(agreement: GroupAgreement, machine_state: bytes = b"") -> Body:
    """Version 0: the agreement's own allocation, and no machine state, or in a later epoch the one that came with it.

    The agreement names only the machine, so every machine derives its first state from empty bytes: layer 1 can then
    tell what version 0 is without interpreting any machine.
    """
    members = agreement.members
    return Body(tuple(m.deposit for m in members), machine_state, (0,) * len(members), bytes(16))


def initial_certificate(
    agreement: GroupAgreement, group: Hash, epoch: int = 0, base: Hash = ZERO_HASH, machine_state: bytes = b""
) -> Certificate:
    """The certificate of version 0. It carries no signature, so it proves nothing against a claim (rule 15).

    Args:
        agreement: Of the epoch.
        group: The group's id.
        epoch: Its number.
        base: Hash of the header on which the epoch before ended.
        machine_state: What the machine goes on from.
    """
    body = initial_body(agreement, machine_state)
    header = GroupHeader(agreement.chain_id, group, epoch, 0, base, ZERO_HASH, body.hash)
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


def verify_claim(place: Member | Witness, chain_id: Hash, claim: Claim) -> bool:
    """Whether `claim` is signed by this member or witness; what it says is another matter."""
    return verify(place.key, claim.signature, Kind.CLAIM, chain_id, claim.statement())


def sign_concur(key: SigningKey, chain_id: Hash, concur: Concur) -> Concur:
    """The same with the member's signature: settle on its version."""
    return structs.replace(concur, signature=key.sign(Kind.CONCUR, chain_id, concur.statement()))


def verify_concur(member: Member, chain_id: Hash, concur: Concur) -> bool:
    """Whether `concur` is signed by `member`."""
    return verify(member.key, concur.signature, Kind.CONCUR, chain_id, concur.statement())


def sign_plea(key: SigningKey, chain_id: Hash, plea: PleaForData) -> PleaForData:
    """The same with the member's signature: it may have lost data."""
    return structs.replace(plea, signature=key.sign(Kind.PLEA, chain_id, plea.statement()))


def verify_plea(member: Member, chain_id: Hash, plea: PleaForData) -> bool:
    """Whether `plea` is signed by `member`."""
    return verify(member.key, plea.signature, Kind.PLEA, chain_id, plea.statement())


def sign_delegation(key: SigningKey, chain_id: Hash, delegation: Delegation) -> Delegation:
    """The same with the member's signature: its delegate gets a bounty for reporting in time."""
    return structs.replace(delegation, signature=key.sign(Kind.DELEGATE, chain_id, delegation.statement()))


def verify_delegation(member: Member, chain_id: Hash, delegation: Delegation) -> bool:
    """Whether `delegation` is signed by `member`."""
    return verify(member.key, delegation.signature, Kind.DELEGATE, chain_id, delegation.statement())


def change_kind(before: GroupAgreement, after: GroupAgreement) -> Kind:
    """RESIZE if the keys of members and witnesses stay the same ones in the same order, else RECONFIGURE."""
    same = [_keys(agreement) for agreement in (before, after)]
    return Kind.RESIZE if same[0] == same[1] else Kind.RECONFIGURE


def sign_successor(key: SigningKey, kind: Kind, successor: Successor) -> Signature:
    """A member's RESIZE or RECONFIGURE signature, see :func:`change_kind`."""
    return key.sign(kind, successor.chain_id, encode(successor))


def verify_successor(member: Member, kind: Kind, successor: Successor, signature: Signature) -> bool:
    """Whether `signature` is the member's on `successor`, of this kind."""
    return verify(member.key, signature, kind, successor.chain_id, encode(successor))


def _keys(agreement: GroupAgreement) -> tuple[tuple[PublicKey, ...], tuple[PublicKey, ...]]:
    return tuple(m.key for m in agreement.members), tuple(w.key for w in agreement.witnesses)


def sign_final(key: SigningKey, chain_id: Hash, final: Final) -> Signature:
    """A member's FINAL signature."""
    return key.sign(Kind.FINAL, chain_id, encode(final))


def verify_final(member: Member, chain_id: Hash, final: Final, signature: Signature) -> bool:
    """Whether `signature` is the member's FINAL signature on `final`."""
    return verify(member.key, signature, Kind.FINAL, chain_id, encode(final))

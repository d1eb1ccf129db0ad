"""What a member writes to its journal before it speaks; together, all that a crash leaves of a group.

One record per version where the certificate is complete with the member's own signature (every member of a group of
two but the primary), else two. Records hold the batch, so that the history can be rebuilt from them.

Source: docs/design/groups.md, rules 1 to 6.
"""

from __future__ import annotations

from layer1.codec import Struct
from layer1.crypto import Hash, PublicKey, Signature
from layer1.ledger.agreements import (
    Body,
    Certificate,
    Claim,
    Final,
    GroupAgreement,
    GroupHeader,
    PleaForData,
    Successor,
)
from layer2.messages import Propose
from layer2.terms import Terms


class Signed(Struct, tag=1):
    """This member signed the proposed version (rules 1 and 2)."""

    propose: Propose
    signature: Signature
    """Its own; empty for the primary, whose signature is in the proposal."""

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.propose.header.group_id


class Certified(Struct, tag=2):
    """This member holds all signatures of the version that it signed (rule 3)."""

    group_id: Hash
    version: int
    signatures: tuple[Signature, ...]


class FinalSigned(Struct, tag=3):
    """This member signed a FINAL (rule 7)."""

    final: Final
    signatures: tuple[Signature | None, ...]
    """Per member, those that are here."""

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.final.group_id


class Claimed(Struct, tag=4):
    """This member signed a CLAIM (rule 8)."""

    claim: Claim

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.claim.group_id


class Lost(Struct, tag=5):
    """This member lost data [F5]: it was shown its own signature above all that it knows, or it begins anew."""

    group_id: Hash


class ChangeSigned(Struct, tag=10):
    """This member signed a change of the group (rules 24 and 25); again when it has more signatures of it."""

    terms: Terms
    successor: Successor
    signatures: tuple[Signature | None, ...]
    """Per member of the ending epoch, those that are here."""
    joining: tuple[Signature | None, ...]
    """Of members whose keys are new, in the new order, likewise."""

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.successor.group_id


class ChangeDropped(Struct, tag=11):
    """Layer 1 will never take the change that this member signed: it was shown the old epoch past the expiry."""

    group_id: Hash


class EpochBegun(Struct, tag=12):
    """Layer 1 showed the next epoch: all records before it are of epochs that are over."""

    group_id: Hash
    agreement: GroupAgreement
    """Of the new epoch."""
    first: GroupHeader
    """Its version 0."""
    certificate: Certificate
    """Where this member begins: at version 0, or if it forgot that it signed the change, at what layer 1 shows."""
    body: Body
    lost: bool
    """Whether this member does not know what it signed in the epoch [F5]."""


class Recovered(Struct, tag=40):
    """This member was shown what it had lost."""

    certificate: Certificate
    body: Body

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.certificate.header.group_id


class Pleaded(Struct, tag=41):
    """This member signed a plea (rule 13)."""

    plea: PleaForData

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.plea.group_id


class Doubted(Struct, tag=42):
    """This member's store may be older than what it signed: its files are a copy [F5]."""

    group_id: Hash


class Confirmed(Struct, tag=43):
    """All whom this member asked have shown nothing that it does not know: the doubt is over."""

    group_id: Hash


class Snapshot(Struct, tag=6):
    """Everything at once, in place of all records before it."""

    certificate: Certificate
    body: Body
    pending: Signed | None
    pending_signatures: tuple[Signature | None, ...]
    """Of `pending`, those that are here; all of them only if they came after the claim."""
    final: FinalSigned | None
    claim: Claim | None
    lost: bool
    tail: tuple[tuple[Propose, tuple[Signature, ...]], ...] = ()
    """In a witnessed group: what is certified above `certificate`, which is then the newest that is committed."""
    first: GroupHeader | None = None
    """Version 0 of the epoch; None in epoch 0, whose agreement tells it."""
    agreement: GroupAgreement | None = None
    """Of the epoch; None in epoch 0, to which the host's own record leads."""
    change: ChangeSigned | None = None
    plea: PleaForData | None = None
    doubted: bool = False
    packets: tuple[tuple[int, bytes], ...] = ()
    """By id, what came with committed offers to this member whose locks stand in `certificate`'s state."""
    left: bool = False
    """A change has put somebody else in this member's seat."""

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.certificate.header.group_id


class Contact(Struct):
    """Where another member is found."""

    key: PublicKey
    """Identity of its link; not its group key."""
    host: str = ""
    """Empty if only it can connect to us."""
    port: int = 0


def witness_contacts(agreement: GroupAgreement) -> tuple[Contact, ...]:
    """Where the witnesses are found: their keys are the identities of their links."""
    found = ((each.key, each.contact.rpartition(":")) for each in agreement.witnesses)
    return tuple(
        Contact(key, host.removeprefix("[").removesuffix("]"), int(port)) if host and port.isdigit() else Contact(key)
        for key, (host, _, port) in found
    )


class Hosted(Struct, tag=20):
    """The host took this group in, or learned new contacts; precedes all records of the group."""

    group_id: Hash
    agreement: GroupAgreement
    index: int
    contacts: tuple[Contact | None, ...]
    """Per member; None for ourselves."""


class Forgotten(Struct, tag=21):
    """Layer 1 closed this group, and the host dropped it."""

    group_id: Hash


class Noted(Struct, tag=22):
    """A record of the host's companion (`layer2.hosting.Companion`), which nobody here reads."""

    data: bytes


Record = (
    Signed
    | Certified
    | FinalSigned
    | Claimed
    | Lost
    | Recovered
    | Pleaded
    | Snapshot
    | ChangeSigned
    | ChangeDropped
    | EpochBegun
    | Doubted
    | Confirmed
)
"""What a group's `Persist` effects hold."""

HostRecord = Record | Hosted | Forgotten
"""What the journal of a host holds of its groups."""

JournalRecord = HostRecord | Noted
"""What the journal of a host holds."""

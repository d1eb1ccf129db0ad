"""Transactions: what anybody may ask the ledger to do, and what it answers.

A transaction carries no nonce: it is valid until `valid_until_ms` on the ledger clock, its salt makes it unique, and
the ledger remembers its id until then, so it executes at most once and after that is known to be dead.

Source: docs/design/consensus.md, "Mempool and batches"; groups.md, rules 7 to 17, 21, 24 and 25; decisions 030, 036.
"""

from __future__ import annotations

from layer1.codec import Struct, encode
from layer1.consensus.evidence import Evidence
from layer1.crypto import Domain, Hash, Kind, PublicKey, Signature, SigningKey, digest
from layer1.ledger.agreements import (
    Body,
    Certificate,
    Claim,
    Concur,
    Delegation,
    DoubleSignature,
    Final,
    GroupAgreement,
    PleaForData,
    Successor,
)
from layer1.ledger.replicas import ChangeReplicas


class Transfer(Struct, tag="transfer"):
    """Pay from one account to another. Signed by the sender."""

    sender: PublicKey
    recipient: PublicKey
    amount: int
    """Minor units, at least 1."""


class OpenGroup(Struct, tag="open"):
    """Lock all deposits and bonds at once. Signed by every member's funding account, in the agreement's order."""

    agreement: GroupAgreement


class CloseGroup(Struct, tag="close"):
    """Pay out a FINAL that all members signed. Needs no other signature: anybody may bring it."""

    final: Final
    signatures: tuple[Signature, ...]
    """Kind FINAL, by the members' group keys, in the agreement's order."""


class Wedge(Struct, tag="wedge"):
    """Stop a group: its member's newest certificate and claim start the challenge period (rule 8)."""

    certificate: Certificate
    body: Body | None
    """The certified state, whose hash is in the certificate; None to reveal it later (rule 12)."""
    claim: Claim
    double: DoubleSignature | None = None
    """What proves another member a liar comes with the wedge: else its quick claim could end the dispute before it."""


class Report(Struct, tag="report"):
    """What there is to say about a wedged group: a newer certificate, claims and the like, proof of a lie (rule 9)."""

    group_id: Hash
    certificate: Certificate | None
    body: Body | None
    """With a certificate: the state behind it; None if who reports does not know it, or reveals it later (rule 12)."""
    claims: tuple[Claim, ...] = ()
    """Of members, and of witnesses."""
    double: DoubleSignature | None = None
    concurs: tuple[Concur, ...] = ()
    delegation: Delegation | None = None
    """With a certificate: for whom it is brought, if a watchtower brings it (rule 17)."""


class Plea(Struct, tag="plea"):
    """Stop a group, or join its dispute, as a member that may have lost data (rule 13)."""

    plea: PleaForData


class Reveal(Struct, tag="reveal"):
    """The body of the highest accepted certificate, while layer 1 knows its header alone (rule 12)."""

    group_id: Hash
    body: Body


class ChangeGroup(Struct, tag="change"):
    """Let an open group go on with another allocation, or with others (rules 24 and 25).

    Signed by the accounts that pay in, in the order of the successor's deposits.
    """

    successor: Successor
    signatures: tuple[Signature, ...]
    """By all members of the ending epoch, in their order, of :func:`~layer1.ledger.agreements.change_kind`."""
    joining: tuple[Signature, ...] = ()
    """By members whose keys are new, in the new order, of the same kind."""


class Appoint(Struct, tag="appoint"):
    """Say which process acts for an account. Signed by the account."""

    account: PublicKey
    term: int
    """One more than the last one's; the first is 1."""
    head: Hash
    """Names the process, 32 bytes."""


class Accusation(Struct, tag="evidence"):
    """Proof that a replica contradicted itself: marks it. Needs no other signature: anybody may bring it."""

    evidence: Evidence
    """Of the block's epoch or an earlier one. Both votes name who cast them by its place in the set of the block's
    epoch, so what is brought later may need :meth:`Evidence.at`."""


class Command(Struct, tag="command"):
    """Have the ledger's own state machine do something. Signed by the sender, whose account is not empty."""

    sender: PublicKey
    data: bytes
    """What the machine makes of it, is its own; layer 1 never interprets it."""


class RegisterPreimages(Struct, tag="preimages"):
    """Show preimages to the ledger, so that nobody can say they came too late (rule 21). Signed by the sender."""

    sender: PublicKey
    preimages: tuple[bytes, ...]
    """1 to 64 of them, 32 bytes each. One that is registered already changes nothing: the first clock stands."""


Payload = (
    Transfer
    | OpenGroup
    | CloseGroup
    | Wedge
    | Report
    | Plea
    | Reveal
    | ChangeGroup
    | Appoint
    | Accusation
    | ChangeReplicas
    | Command
    | RegisterPreimages
)


class Transaction(Struct):
    """A payload, its life span, and the signatures of the accounts that it takes money from."""

    payload: Payload
    valid_until_ms: int
    """Ledger clock, ms; a block whose clock is past it passes the transaction over. At most ten minutes ahead."""
    salt: bytes
    """16 random bytes."""
    signatures: tuple[Signature, ...] = ()

    @property
    def id(self) -> Hash:
        """Hash of all but the signatures: a signer cannot give one payment two names."""
        return digest(Domain.TRANSACTION, encode((self.payload, self.valid_until_ms, self.salt)))


class Output(Struct):
    """What became of one transaction; its hash is a leaf of the block's outputs_root."""

    transaction_id: Hash
    code: str
    """``ok``, or the stable code of the refusal."""
    message: str
    """Empty, or which numbers disagree; of an accepted command, the machine's answer."""
    group_id: Hash | None = None
    """The group that it opened, closed, changed, wedged or spoke about; None for all else and for a refusal."""

    @property
    def hash(self) -> Hash:
        """The leaf of `outputs_root`."""
        return digest(Domain.OUTPUT, encode(self))


def signers(payload: Payload) -> tuple[PublicKey, ...]:
    """Accounts whose signatures the transaction must carry, in order."""
    match payload:
        case Transfer() | Command() | RegisterPreimages():
            return (payload.sender,)
        case OpenGroup():
            return tuple(member.funding for member in payload.agreement.members)
        case ChangeGroup():
            return tuple(payment.account for payment in payload.successor.deposits)
        case Appoint():
            return (payload.account,)
        case _:
            return ()


def kind_of(payload: Payload) -> Kind:
    """The signature kind of this payload's accounts."""
    return Kind.OPEN if isinstance(payload, OpenGroup) else Kind.TRANSFER


def sign_transaction(transaction: Transaction, chain_id: Hash, key: SigningKey) -> Signature:
    """One account's signature over the transaction's id."""
    return key.sign(kind_of(transaction.payload), chain_id, transaction.id)

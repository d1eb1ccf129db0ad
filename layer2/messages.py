"""What members of a group say to each other, over an authenticated link.

Each message names its group; who sent it is known from the link. A `Resume` opens every session: nothing else is
said to a member before it.

Source: docs/design/groups.md, rules 1 to 7.
Deviation: `Propose` carries the signatures of Cert(s) without its header, since the receiver signed that header; and
`Accept` carries no signature of kind ACK: a member's is the STATE signature itself. Decision 033 says who acknowledges
what, and how the others learn of it.
"""

from __future__ import annotations

from layer1.codec import Struct, decode
from layer1.crypto import Hash, Signature
from layer1.errors import RemoteError
from layer1.ledger.agreements import (
    Body,
    Certificate,
    Final,
    GroupAgreement,
    GroupHeader,
    Limits,
    Member,
    Witness,
)
from layer2.terms import Terms

MAX_COMMAND_BYTES = 4_096
"""One command; machines that move more should move its hash."""
MAX_BATCH_BYTES = 512 * 1_024
"""Payloads of one version: a proposal stays far below what a link carries as one message."""
MAX_QUEUED = 20_000
"""Commands of one member that wait; more are refused, and a peer that sends more breaks the protocol."""
MAX_QUEUED_BYTES = 8 * 2**20
"""Of their payloads, likewise. All that wait go into one `Submit` after a reconnection: with a MiB for their frames it
stays below the 16 MiB of one message on a link, and below what may wait for a slow peer.
"""

MAX_ASIDE_BYTES = 32 * 1_024
"""Of an :class:`Aside`: what a group has to say waits behind no more."""

MAX_NUMBER = 2**53 - 1
"""Of a command: nobody gets there by counting, and every encoding can hold it."""


class Command(Struct):
    """One command, in the words of its issuer."""

    member: int
    """The issuer."""
    number: int
    """Counts the issuer's commands up from 1; each applies at most once, in this order."""
    payload: bytes
    """What the machine gets."""
    tag: bytes
    """16 bytes by which the issuer knows its own command again after a crash; empty for the primary's own."""


class Refusal(Struct):
    """A command that was not applied and, once this is certified, never will be."""

    member: int
    number: int
    code: str
    message: str


class Batch(Struct):
    """What turns version s into s + 1."""

    commands: tuple[Command, ...]
    refusals: tuple[Refusal, ...] = ()


class Submit(Struct, tag=1):
    """Member to primary: please apply these (rule 1)."""

    group_id: Hash
    commands: tuple[Command, ...]


class Acked(Struct):
    """An ACK of somebody, passed on."""

    place: int
    """Of who signed it: members count first, then witnesses."""
    version: int
    signature: Signature
    """Kind ACK, over the header of `version`."""


class Propose(Struct, tag=2):
    """Primary to members: version s + 1, signed (rule 1)."""

    header: GroupHeader
    batch: bytes
    """A :class:`Batch`, encoded once: its hash is in the header."""
    salt: bytes
    """Of the body, 16 bytes."""
    signature: Signature
    """The primary's, of kind STATE."""
    parent_signatures: tuple[Signature, ...]
    """Cert(s) without its header."""
    acks: tuple[Acked, ...] = ()
    """In a witnessed group, from the third version on: of each witness, for s - 1 or s. With Cert(s), whose signatures
    are the members' ACKs of s - 1, they prove that s - 1 is committed.
    """

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.header.group_id


class Accept(Struct, tag=3):
    """Member to primary: it durably holds Cert(s), and this is its signature of s + 1 (rule 2)."""

    group_id: Hash
    version: int
    """s + 1."""
    signature: Signature


class Commit(Struct, tag=4):
    """Primary to members: the certificate of s + 1 (rule 3). A member of a pair completes it itself."""

    certificate: Certificate

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.certificate.header.group_id


class Resume(Struct, tag=5):
    """Both ways, first on every link: the newest certificate, and what was signed above it (rule 5)."""

    group_id: Hash
    certificate: Certificate
    highest: GroupHeader | None = None
    """The header of the version above the certificate, if the sender signed one."""
    signature: Signature | None = None
    """The sender's, of `highest`."""
    proposal: Signature | None = None
    """At another member than the primary: the primary's, of `highest`. A primary that does not know it lost data."""


class LostData(Struct, tag=40):
    """In place of a Resume, by a member that lost data: it says nothing of its own newest, but asks for it [F5]."""

    group_id: Hash
    epoch: int


class Doubt(Struct, tag=42):
    """In place of a Resume, by a member whose store may be old: show me first where you stand. Its own comes then."""

    group_id: Hash
    epoch: int


class Newest(Struct, tag=41):
    """To a member that lost data: the newest certificate, and the state behind it. Who gets it checks both."""

    certificate: Certificate
    body: Body

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.certificate.header.group_id


class CloseRequest(Struct, tag=6):
    """Member to primary: please finish what is in flight and propose a FINAL."""

    group_id: Hash


class FinalProposal(Struct, tag=7):
    """Primary to members: the cooperative end (rule 7); the body shows members that lost data what they agree to."""

    final: Final
    signature: Signature
    """The primary's, of kind FINAL."""
    certificate: Certificate
    body: Body

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.final.group_id


class FinalAccept(Struct, tag=8):
    """Member to primary: its signature of the FINAL."""

    group_id: Hash
    signature: Signature


class FinalReady(Struct, tag=9):
    """Primary to members: all signatures of the FINAL; anybody may bring it to layer 1."""

    group_id: Hash
    signatures: tuple[Signature, ...]


class Inquiry(Struct, tag=14):
    """Member to primary: whom does the group wait for? Sent when somebody asks."""

    group_id: Hash


class Standing(Struct, tag=15):
    """Primary to members, when who is in step changes, and to an :class:`Inquiry`: whom the group waits for.

    Signatures prove who has signed; that anybody has not, or is absent, is the primary's word, and decides nothing.
    """

    group_id: Hash
    absent: tuple[int, ...]
    """Members that are not in step with the primary."""
    closing: bool
    """The primary takes no command any more."""
    version: int = 0
    """In flight at the primary; 0 for none."""
    signatures: tuple[Signature | None, ...] = ()
    """Of `version`, per member, those that are here; none without a version."""
    final_signatures: tuple[Signature | None, ...] = ()
    """Of the FINAL that the primary signed, likewise."""


class Ack(Struct, tag=16):
    """Witness to member, and member to primary: I durably hold the certificate of `version` (rule 3)."""

    group_id: Hash
    epoch: int
    version: int
    signature: Signature
    """Kind ACK, over the header of `version`."""


class Acks(Struct, tag=17):
    """Primary to members: ACKs of others, where no proposal brings them."""

    group_id: Hash
    epoch: int
    acks: tuple[Acked, ...]


class Hold(Struct, tag=18):
    """Member to witness, first on every link, then for each certificate: please hold it."""

    certificate: Certificate
    sealed: bytes = b""
    """The body, sealed for its sender (`layer2.sealing`); empty for none."""

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.certificate.header.group_id


class Held(Struct, tag=19):
    """Witness to a member that showed an older certificate, or asked: what it holds."""

    certificate: Certificate
    signature: Signature
    """Its ACK of it; empty at version 0."""
    sealed: bytes
    """The newest body that this member left with it, of `sealed_version`; empty for none."""
    sealed_version: int = 0

    @property
    def group_id(self) -> Hash:
        """The group."""
        return self.certificate.header.group_id


class ChangeWish(Struct, tag=30):
    """Both ways: the sender's user wants these terms; it binds nobody (rules 24 and 25)."""

    group_id: Hash
    terms: Terms


class ChangeDecline(Struct, tag=31):
    """Both ways: the sender's user does not want them, or no more. What is signed stays signed."""

    group_id: Hash
    terms: Hash
    """Hash of their agreement."""
    code: str
    message: str


class ChangeProposal(Struct, tag=32):
    """Primary to members: the successor that follows from the terms and the newest state, signed."""

    group_id: Hash
    terms: Terms
    signature: Signature
    """The primary's, of kind RESIZE or RECONFIGURE."""
    joining: tuple[Signature | None, ...]
    """Of members whose keys are new, those that are here."""
    certificate: Certificate
    """Of the base, for who has it not yet."""


class ChangeAccept(Struct, tag=33):
    """Member to primary: its signature of the successor; with its new key too, if it gets one."""

    group_id: Hash
    terms: Hash
    """Of which change: hash of its terms' agreement."""
    signature: Signature
    joining: tuple[Signature | None, ...]


class ChangeReady(Struct, tag=34):
    """Primary to members: all signatures; anybody may bring it to layer 1, who can pay what it takes."""

    group_id: Hash
    signatures: tuple[Signature, ...]
    joining: tuple[Signature, ...]


class Error(Struct, tag=10):
    """The last message was refused. For people: nothing is decided by it."""

    group_id: Hash
    code: str
    message: str


class Offer(Struct, tag=11):
    """Initiator, who will be m0, to the other member: let us open this group."""

    chain_id: Hash
    proposer: Member
    deposit: int
    """Minor units that the other member is asked to deposit."""
    bond: int
    """Minor units that the other member is asked to post."""
    challenge_period_ms: int
    machine: str
    open_before_ms: int
    """Ledger clock from which both agree that nothing opens."""
    valid_until_ms: int
    """Of the opening transaction; at most `open_before_ms`."""
    salt: bytes
    """16 random bytes, of both the agreement and the opening transaction."""
    limits: Limits = Limits()
    witnesses: tuple[Witness, ...] = ()
    """None, or one for a pair."""
    witness_timeout_ms: int = 0


class Answer(Struct, tag=12):
    """To an offer: the other member's part, and its funding account's signature of the whole opening."""

    agreement_hash: Hash
    member: Member
    signature: Signature
    """Kind OPEN, over the id of the opening transaction, by `member.funding`."""


class Decline(Struct, tag=13):
    """To an offer, or to a request to a witness: no, and why."""

    salt: bytes
    """The offer's, or the agreement's."""
    code: str
    message: str


class WitnessRequest(Struct, tag=20):
    """Initiator to witness, before the opening: will you serve this group?"""

    agreement: GroupAgreement


class WitnessPromise(Struct, tag=21):
    """To a request: yes, if layer 1 opens it before it expires."""

    agreement_hash: Hash
    signature: Signature
    """Kind WITNESS, over the agreement's hash."""


class Aside(Struct, tag=50):
    """Between neighbours, about no group: the core never sees it (decision 042)."""

    data: bytes
    """At most :data:`MAX_ASIDE_BYTES`, for whoever observes the host."""


GroupMessage = (
    Submit
    | Propose
    | Accept
    | Commit
    | Resume
    | LostData
    | Doubt
    | Newest
    | CloseRequest
    | FinalProposal
    | FinalAccept
    | FinalReady
    | Error
    | Inquiry
    | Standing
    | Ack
    | Acks
    | Hold
    | Held
    | ChangeWish
    | ChangeDecline
    | ChangeProposal
    | ChangeAccept
    | ChangeReady
)
"""Messages that belong to an open group."""

OpeningMessage = Offer | Answer | Decline | WitnessRequest | WitnessPromise
"""Messages between wallets that have no group yet."""

Message = GroupMessage | OpeningMessage | Aside


def decode_message(data: bytes) -> Message:
    """Read a message from a link.

    Raises:
        RemoteError: It is none, or not in canonical encoding.
    """
    message: Message = decode(data, Message)  # type: ignore[arg-type]
    return message


def require(condition: bool, message: str, *evidence: object) -> None:
    """Raise :class:`RemoteError` unless ``condition`` holds."""
    if not condition:
        raise RemoteError(message, *evidence)

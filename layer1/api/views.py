"""What the API answers, field by field. The OpenAPI document is generated from these.

Hashes, ids and keys are hexadecimal, addresses Bech32, amounts and times integers of at most 2^53 - 1. A ``proof`` is
the hex of a struct of :mod:`layer1.proof` in the canonical encoding: whoever relies on an answer asks for it and
verifies it; the readable fields beside it are a courtesy.
"""

from __future__ import annotations

from collections.abc import Sequence

from layer1.codec import encode
from layer1.consensus.certificates import Vote, kind_of, view_of
from layer1.consensus.evidence import Evidence
from layer1.consensus.messages import Nullify
from layer1.crypto import format_address
from layer1.header import Header
from layer1.httpd.views import View
from layer1.ledger.agreements import Lock, Payment
from layer1.ledger.genesis import Genesis
from layer1.ledger.outlook import what_comes_next
from layer1.ledger.records import Account, Group, Mark, Status
from layer1.ledger.replicas import ChangeReplicas
from layer1.ledger.transactions import (
    Accusation,
    Appoint,
    ChangeGroup,
    CloseGroup,
    Command,
    OpenGroup,
    Output,
    Payload,
    Plea,
    RegisterPreimages,
    Report,
    Reveal,
    Transfer,
    Wedge,
)
from layer1.proof import Handover


class HeaderView(View, frozen=True):
    """A block header."""

    id: str
    height: int
    epoch: int
    view: int
    parent: str
    clock: int
    """Ledger clock, ms."""
    wall_time: int
    """Milliseconds since 1970."""
    batches_root: str
    transactions_root: str
    state_root: str
    outputs_root: str
    replica_set: str


class StatusView(View, frozen=True):
    """A replica and its head."""

    replica: int | None
    """Its number; null while it is in no replica set."""
    name: str
    """The ledger's name."""
    chain_id: str
    currency: str
    decimals: int
    head: HeaderView
    proof: str
    """HeadProof."""
    stored_height: int
    """Up to here the past can be queried."""
    details: dict[str, int | str | bool | None]
    """The replica's own numbers; they may change from version to version."""


class AllocationView(View, frozen=True):
    """Money that an account had from the start."""

    address: str
    amount: int


class GenesisView(View, frozen=True):
    """The genesis. Its hash is the chain id: compare that with what you were told elsewhere."""

    chain_id: str
    encoded: str
    """Hex of the canonical encoding; what the chain id is the hash of."""
    name: str
    currency: str
    decimals: int
    fault_model: str
    faults: int
    quorum: int
    replicas: list[str]
    wall_time: int
    supply: int
    machine: str
    """Name and version of the state machine that executes commands; empty for none."""
    allocations: list[AllocationView]
    parameters: dict[str, int]


class ReplicaList(View, frozen=True):
    """The replicas, as this one sees them; a list of one page."""

    items: list[dict[str, str | int | bool | None]]
    """First those in the set, by ``position``; then others that this one knows, which listen: ``member`` is false, and
    ``index`` null if they never were in it. ``marked`` is the transaction that showed a replica to have contradicted
    itself; null if none did."""
    height: int
    """Block after which these marks stand."""
    clock: int
    proof: str | None = None
    """With ``?proof=true``: MarksProof. It proves ``marked`` and nothing else; the rest is this replica's word."""
    next: None = None


class SeatView(View, frozen=True):
    """One replica of a set."""

    number: int
    """Its own for ever."""
    key: str


class HandoverView(View, frozen=True):
    """Where one replica set gave over to the next."""

    epoch: int
    """That ended here."""
    height: int
    """Of its last block."""
    id: str
    clock: int
    next_epoch: int
    faults: int
    """f of the next set."""
    quorum: int
    """q of the next set: signatures that make a block of it final."""
    replicas: list[SeatView]
    """The next set, by position."""
    replica_set: str
    """Its hash, which its headers name."""
    encoded: str
    """Hex of the Handover in the canonical encoding: it proves the next set to who knows the one before."""


class HandoverPage(View, frozen=True):
    """Handovers, by the epoch that each ended."""

    items: list[HandoverView]
    next: str | None


class VoteView(View, frozen=True):
    """One of two contradicting votes."""

    kind: str
    """notarize, finalize or nullify."""
    view: int
    """Of a nullify vote, the first of its range, which ends with its term."""
    block: str | None
    """Null with nullify."""
    encoded: str
    """Hex of the signed vote in the canonical encoding."""


class EvidenceView(View, frozen=True):
    """Two votes that no honest replica casts both of."""

    id: str
    replica: int
    """Index in the replica set of its epoch."""
    key: str
    epoch: int
    kind: str
    """notarized_twice, finalized_twice or finalized_and_nullified."""
    votes: list[VoteView]
    marked: str | None
    """The transaction that marked this replica; null if none did as of the last final block."""
    encoded: str
    """Hex of the Evidence in the canonical encoding: verify it, and bring it in a transaction."""


class EvidencePage(View, frozen=True):
    """Evidence that this replica holds, by replica and kind."""

    items: list[EvidenceView]
    next: str | None


class BlockSummaryView(View, frozen=True):
    """A block without its contents."""

    header: HeaderView
    transactions: int
    """How many executed."""


class BlockView(View, frozen=True):
    """A final block."""

    header: HeaderView
    transactions: list[str]
    """Ids of what executed, in order."""
    proof: str | None = None
    """With ``?proof=true``: BlockProof."""


class BlockPage(View, frozen=True):
    """Blocks, the newest first."""

    items: list[BlockSummaryView]
    next: str | None
    """Cursor of the following page; null on the last."""


class TransferView(View, frozen=True, tag_field="kind", tag="transfer"):
    """A payment between accounts."""

    sender: str
    recipient: str
    amount: int


class ValueView(View, frozen=True):
    """What the ledger's state machine keeps under a key."""

    key: str
    """Hex."""
    value: str | None
    """Hex; null if the key has no value."""
    height: int
    """Block after which it holds."""
    clock: int
    proof: str | None = None
    """With ``?proof=true``: ValueProof."""


class OpenView(View, frozen=True, tag_field="kind", tag="open"):
    """The opening of a group."""

    members: list[str]
    """Group keys, the primary's first."""
    funding: int
    """Sum of all deposits."""


class CloseView(View, frozen=True, tag_field="kind", tag="close"):
    """A payout that all members signed."""

    group: str
    payout: list[int]


class WedgeView(View, frozen=True, tag_field="kind", tag="wedge"):
    """The start of a challenge period."""

    group: str
    member: int
    version: int


class ReportView(View, frozen=True, tag_field="kind", tag="report"):
    """Something newer about a wedged group."""

    group: str
    version: int | None
    claims: list[int]
    """Places whose claims it brings: members count first, then witnesses."""
    concurs: list[int]
    """Members who agree to the highest accepted version."""
    delegate_of: int | None
    """The member for whom a watchtower brings it."""
    accuses: int | None
    """The member of whom it shows two signatures at one version."""


class PleaView(View, frozen=True, tag_field="kind", tag="plea"):
    """A member that may have lost data: the others must report."""

    group: str
    member: int


class RevealView(View, frozen=True, tag_field="kind", tag="reveal"):
    """The body of the highest accepted version."""

    group: str


class PaymentView(View, frozen=True):
    """Money of an account that goes into a group, or comes out of it."""

    account: str
    units: int


class ChangeGroupView(View, frozen=True, tag_field="kind", tag="change"):
    """Another allocation of an open group, or other members or witnesses."""

    group: str
    epoch: int
    """That it ends."""
    members: list[str]
    """Group keys of the next epoch, the primary's first."""
    funding: int
    """Sum of the new allocation."""
    deposits: list[PaymentView]
    withdrawals: list[PaymentView]


class AppointView(View, frozen=True, tag_field="kind", tag="appoint"):
    """Which process acts for an account."""

    account: str
    term: int
    head: str


class AppointmentView(View, frozen=True):
    """Which process acts for an account."""

    address: str
    term: int
    """How many were appointed so far."""
    head: str | None
    """Names the process, hex; null if the account never said."""
    height: int
    """Block after which it holds."""
    clock: int
    proof: str | None = None
    """With ``?proof=true``: AppointmentProof."""


class AccusationView(View, frozen=True, tag_field="kind", tag="evidence"):
    """Proof that a replica contradicted itself."""

    replica: int
    """Index in the replica set that certifies the block."""
    contradiction: str
    """notarized_twice, finalized_twice or finalized_and_nullified."""
    evidence: str
    """Its id."""


class ChangeReplicasView(View, frozen=True, tag_field="kind", tag="replicas"):
    """Another replica set, from the next block on."""

    epoch: int
    """That it ends."""
    add: list[str]
    """Keys."""
    remove: list[int]
    """Numbers."""
    approved_by: list[int]
    """Numbers."""


class CommandView(View, frozen=True, tag_field="kind", tag="command"):
    """A command to the ledger's state machine."""

    sender: str
    data: str
    """Hex; what it means, the machine knows."""


class PreimagesView(View, frozen=True, tag_field="kind", tag="preimages"):
    """Preimages that the ledger is to know."""

    sender: str
    preimages: list[str]
    """Hex."""


class RegistrationView(View, frozen=True):
    """What the ledger knows of the preimage of a hash."""

    hash: str
    """SHA-256 of the preimage, hex."""
    preimage: str | None
    """Hex; null if it is not registered, or is forgotten by now."""
    registered: int | None
    """Ledger clock of the first registration; a lock's payee gets it if this is not past the lock's expiry."""
    kept_from: int | None
    """Ledger clock at which it was registered or renewed last; it is forgotten ``preimage_kept_ms`` later."""
    height: int
    """Block after which it holds."""
    clock: int
    proof: str | None = None
    """With ``?proof=true``: RegistrationProof."""


PayloadView = (
    TransferView
    | OpenView
    | CloseView
    | WedgeView
    | ReportView
    | PleaView
    | RevealView
    | ChangeGroupView
    | AppointView
    | AccusationView
    | ChangeReplicasView
    | CommandView
    | PreimagesView
)


class TransactionView(View, frozen=True):
    """A final transaction and what became of it."""

    id: str
    height: int
    index: int
    """Its place in the block."""
    code: str
    """``ok``, or why it was refused."""
    message: str
    group: str | None
    """The group that it opened, closed, wedged or reported on."""
    valid_until: int
    """Ledger clock, ms."""
    payload: PayloadView
    encoded: str
    """Hex of the canonical encoding."""
    proof: str | None = None
    """With ``?proof=true``: OutputProof."""


class TransactionPage(View, frozen=True):
    """Transactions, the newest first."""

    items: list[TransactionView]
    next: str | None


class AccountView(View, frozen=True):
    """An account as of a block."""

    address: str
    balance: int
    """Minor units; 0 if nobody ever paid it."""
    height: int
    clock: int
    proof: str | None = None
    """With ``?proof=true``: AccountProof."""


class MemberView(View, frozen=True):
    """One member of a group."""

    key: str
    """Its key in this group."""
    funding: str
    payout: str
    deposit: int
    bond: int
    contact: str
    """``host:port`` where it listened when the agreement was made; may be empty."""
    balance: int | None
    """In the highest state that the ledger has seen; null while nobody has revealed it. Members move on without it."""
    claimed: bool
    pleaded: bool
    """It may have lost data: the others must report."""
    concurred: bool
    """It agreed to the highest version."""
    delegate: str | None
    """The account of the watchtower that reported for it."""
    forfeited: bool
    forfeit: str | None
    """Why its bond is not returned: lie, silent or hidden."""
    bounty: int | None
    """What its watchtower got out of its gain; null without one, and until the group is closed."""
    paid: int | None
    """What it got; null until the group is closed."""


class WitnessView(View, frozen=True):
    """One witness of a group."""

    key: str
    contact: str
    claimed: bool


class LockView(View, frozen=True):
    """A conditional payment of the state that a group was closed on, or of the highest that the ledger has seen."""

    id: int
    payer: int
    """Place of the member whose money it is; of the other below, who gets it for the preimage."""
    payee: int
    amount: int
    hash: str
    """SHA-256 of the preimage, hex."""
    expiry: int
    """Ledger clock: the last one at which a registration of the preimage is timely."""
    paid_to: int | None
    """Place of who got it; null while it pends."""


class GroupView(View, frozen=True):
    """A group as the ledger knows it."""

    id: str
    status: str
    epoch: int
    version: int
    """Highest version seen here; 0 until a dispute."""
    machine: str
    challenge_period: int
    """Milliseconds."""
    opened_clock: int
    wedged_by: int | None
    deadline: int | None
    """Ledger clock at which a block does something by itself; null while none will."""
    revealing: str | None
    """Why the dispute ended, if the group waits for the body of its highest version; else null."""
    next: str
    """What happens next, by itself or by whom."""
    reason: str | None
    closed_clock: int | None
    members: list[MemberView]
    witnesses: list[WitnessView]
    witness_timeout: int
    """Milliseconds after which a clock settles a witnessed group; 0 if none does."""
    locks: list[LockView]
    """Of the highest state that the ledger has seen; of a closed group, with what became of each."""


class GroupAnswer(View, frozen=True):
    """A group as of a block."""

    group: GroupView
    height: int
    clock: int
    proof: str | None = None
    """With ``?proof=true``: GroupProof."""


class GroupProofs(View, frozen=True):
    """Several groups as of one block; all is in the proof."""

    height: int
    clock: int
    proof: str
    """GroupsProof: in the order of the ids."""


class GroupPage(View, frozen=True):
    """Groups, the newest first."""

    items: list[GroupView]
    next: str | None


class Submission(View, frozen=True, forbid_unknown_fields=True):
    """One transaction to be ordered."""

    transaction: str
    """Hex of the canonical encoding."""


class SubmissionResult(View, frozen=True):
    """What is known of a submitted transaction."""

    id: str
    status: str
    """``pending`` or ``final``."""
    height: int | None = None
    index: int | None = None
    code: str | None = None
    message: str | None = None
    group: str | None = None
    proof: str | None = None
    """With ``?wait=final&proof=true``: OutputProof."""


class SubmissionList(View, frozen=True):
    """What is known of the submitted transactions, in their order."""

    items: list[SubmissionResult]
    next: None = None


def header_view(header: Header) -> HeaderView:
    """A header for reading."""
    return HeaderView(
        id=header.id.hex(),
        height=header.height,
        epoch=header.epoch,
        view=header.view,
        parent=header.parent.hex(),
        clock=header.clock,
        wall_time=header.wall_time,
        batches_root=header.batches_root.hex(),
        transactions_root=header.transactions_root.hex(),
        state_root=header.state_root.hex(),
        outputs_root=header.outputs_root.hex(),
        replica_set=header.replica_set.hex(),
    )


def genesis_view(genesis: Genesis, encoded: bytes) -> GenesisView:
    """A genesis for reading."""
    return GenesisView(
        chain_id=genesis.chain_id.hex(),
        encoded=encoded.hex(),
        name=genesis.name,
        currency=genesis.currency.symbol,
        decimals=genesis.currency.decimals,
        fault_model=genesis.fault_model,
        faults=genesis.replica_set.faults,
        quorum=genesis.replica_set.quorum,
        replicas=[key.hex() for key in genesis.replicas],
        wall_time=genesis.wall_time,
        supply=genesis.supply_units,
        allocations=[
            AllocationView(address=format_address(given.address), amount=given.amount) for given in genesis.allocations
        ],
        machine=genesis.machine,
        parameters={name: getattr(genesis.parameters, name) for name in type(genesis.parameters).__struct_fields__},
    )


def payload_view(payload: Payload) -> PayloadView:
    """A payload for reading."""
    match payload:
        case Transfer():
            return TransferView(
                sender=address(payload.sender), recipient=address(payload.recipient), amount=payload.amount
            )
        case OpenGroup(agreement):
            return OpenView(members=[m.key.hex() for m in agreement.members], funding=agreement.funding_units)
        case CloseGroup(final):
            return CloseView(group=final.group_id.hex(), payout=list(final.payout))
        case Wedge(_, _, claim):
            return WedgeView(group=claim.group_id.hex(), member=claim.member, version=claim.version)
        case Report():
            version = None if payload.certificate is None else payload.certificate.header.version
            return ReportView(
                group=payload.group_id.hex(),
                version=version,
                claims=[claim.member for claim in payload.claims],
                concurs=[concur.member for concur in payload.concurs],
                delegate_of=None if payload.delegation is None else payload.delegation.member,
                accuses=None if payload.double is None else payload.double.member,
            )
        case Plea(plea):
            return PleaView(group=plea.group_id.hex(), member=plea.member)
        case Reveal(group_id):
            return RevealView(group=group_id.hex())
        case ChangeGroup(successor):
            return ChangeGroupView(
                group=successor.group_id.hex(),
                epoch=successor.epoch,
                members=[m.key.hex() for m in successor.agreement.members],
                funding=successor.agreement.funding_units,
                deposits=_payments(successor.deposits),
                withdrawals=_payments(successor.withdrawals),
            )
        case Appoint(account, term, head):
            return AppointView(account=address(account), term=term, head=head.hex())
        case Accusation(evidence):
            return AccusationView(
                replica=evidence.replica, contradiction=evidence.kind.value, evidence=evidence.id.hex()
            )
        case ChangeReplicas(change, approvals):
            return ChangeReplicasView(
                epoch=change.epoch,
                add=[key.hex() for key in change.add],
                remove=list(change.remove),
                approved_by=[number for number, _ in approvals],
            )
        case Command() | RegisterPreimages():
            return _data_view(payload)


def _data_view(payload: Command | RegisterPreimages) -> CommandView | PreimagesView:
    if isinstance(payload, Command):
        return CommandView(sender=address(payload.sender), data=payload.data.hex())
    return PreimagesView(sender=address(payload.sender), preimages=[each.hex() for each in payload.preimages])


def _payments(payments: Sequence[Payment]) -> list[PaymentView]:
    return [PaymentView(account=address(payment.account), units=payment.units) for payment in payments]


def evidence_view(evidence: Evidence, key: bytes, mark: Mark | None) -> EvidenceView:
    """Evidence for reading."""
    return EvidenceView(
        id=evidence.id.hex(),
        replica=evidence.replica,
        key=key.hex(),
        epoch=evidence.epoch,
        kind=evidence.kind.value,
        votes=[_vote_view(evidence.first), _vote_view(evidence.second)],
        marked=None if mark is None else mark.transaction_id.hex(),
        encoded=encode(evidence).hex(),
    )


def handover_view(handover: Handover, encoded: bytes) -> HandoverView:
    """A handover for reading."""
    boundary, following = handover.head.header, handover.replica_set
    return HandoverView(
        epoch=boundary.epoch,
        height=boundary.height,
        id=boundary.id.hex(),
        clock=boundary.clock,
        next_epoch=following.epoch,
        faults=following.faults,
        quorum=following.quorum,
        replicas=[SeatView(number=seat.number, key=seat.key.hex()) for seat in following.seats],
        replica_set=following.hash.hex(),
        encoded=encoded.hex(),
    )


def _vote_view(vote: Vote) -> VoteView:
    block = None if isinstance(vote, Nullify) else vote.block.hex()
    return VoteView(kind=kind_of(vote).name.lower(), view=view_of(vote), block=block, encoded=encode(vote).hex())


def address(key: bytes) -> str:
    """An address for reading; hex where a refused transaction holds something that is none."""
    return format_address(key) if len(key) == 32 else key.hex()


def account_view(key: bytes, account: Account, head: Header, proof: str | None) -> AccountView:
    """An account for reading."""
    return AccountView(address=address(key), balance=account.balance, height=head.height, clock=head.clock, proof=proof)


def group_view(group: Group) -> GroupView:
    """A group for reading."""
    return GroupView(
        id=group.group_id.hex(),
        status=group.status.value,
        epoch=group.epoch,
        version=group.version,
        machine=group.agreement.machine,
        challenge_period=group.agreement.challenge_period_ms,
        opened_clock=group.opened_clock_ms,
        wedged_by=group.wedged_by,
        deadline=group.deadline_ms,
        revealing=None if group.revealing is None else group.revealing.value,
        next=what_comes_next(group),
        reason=None if group.reason is None else group.reason.value,
        closed_clock=group.closed_clock_ms,
        members=[_member_view(group, i) for i in range(len(group.agreement.members))],
        witnesses=[
            WitnessView(key=witness.key.hex(), contact=witness.contact, claimed=claim is not None)
            for witness, claim in zip(
                group.agreement.witnesses, group.claims[len(group.agreement.members) :], strict=True
            )
        ],
        witness_timeout=group.agreement.witness_timeout_ms,
        locks=_locks(group),
    )


def _locks(group: Group) -> list[LockView]:
    if group.status is not Status.CLOSED:
        locks = () if group.body is None else group.body.locks
        return [_lock(lock, lock.expiry_ms, None) for lock in locks]
    return [_lock(each.lock, each.until_ms, each.paid_to) for each in group.locks]


def _lock(lock: Lock, until_ms: int, paid_to: int | None) -> LockView:
    return LockView(
        id=lock.id,
        payer=lock.payer,
        payee=lock.payee,
        amount=lock.amount,
        hash=lock.hash.hex(),
        expiry=until_ms,
        paid_to=paid_to,
    )


def _member_view(group: Group, i: int) -> MemberView:
    member, delegate, forfeit = group.agreement.members[i], group.delegates[i], group.forfeits[i]
    return MemberView(
        key=member.key.hex(),
        funding=address(member.funding),
        payout=address(member.payout),
        deposit=member.deposit,
        bond=member.bond,
        contact=member.contact,
        balance=None if group.body is None else group.body.balances[i],
        claimed=group.claims[i] is not None,
        pleaded=group.pleas[i],
        concurred=group.concurs[i],
        delegate=None if delegate is None else address(delegate.account),
        forfeited=forfeit is not None,
        forfeit=None if forfeit is None else forfeit.value,
        bounty=next((bounty.units for bounty in group.bounties if bounty.member == i), None),
        paid=group.payouts[i] if group.payouts else None,
    )


def result_view(height: int, index: int, output: Output, proof: str | None) -> SubmissionResult:
    """A final transaction for whoever submitted it."""
    return SubmissionResult(
        id=output.transaction_id.hex(),
        status="final",
        height=height,
        index=index,
        code=output.code,
        message=output.message,
        group=None if output.group_id is None else output.group_id.hex(),
        proof=proof,
    )

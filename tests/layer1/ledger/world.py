"""A small ledger to test against: people with money, groups with members who sign whatever a test asks of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from layer1.consensus.certificates import Signer
from layer1.consensus.config import Config
from layer1.consensus.evidence import EvidenceKind, pair
from layer1.crypto import ZERO_HASH, Hash, Signature, SigningKey
from layer1.errors import Refused
from layer1.ledger.admission import admit, verify_transaction
from layer1.ledger.agreements import (
    Body,
    Certificate,
    Claim,
    Concur,
    Delegation,
    DoubleSignature,
    Final,
    GroupAgreement,
    GroupHeader,
    Limits,
    Member,
    PleaForData,
    Witness,
    group_id,
    initial_certificate,
    sign_claim,
    sign_concur,
    sign_delegation,
    sign_final,
    sign_plea,
    sign_state,
)
from layer1.ledger.execute import Execution, execute
from layer1.ledger.genesis import Allocation, Currency, Genesis, Parameters
from layer1.ledger.records import REMEMBERED_KEY
from layer1.ledger.state import Group, State
from layer1.ledger.transactions import (
    Accusation,
    CloseGroup,
    Command,
    OpenGroup,
    Output,
    Payload,
    Plea,
    RegisterPreimages,
    Report,
    Transaction,
    Transfer,
    Wedge,
    sign_transaction,
)

START = 1_700_000_000_000
"""Wall time of genesis, ms."""
RICH = 1_000_000
"""What each person has at first."""
PERIOD = 60_000
"""Challenge period of test groups, ms."""


def key(name: str) -> SigningKey:
    """The same key for the same name, always."""
    return SigningKey(name.encode().ljust(32, b".")[:32])


ALICE, BOB, CAROL, DAVE = (key(name) for name in ("alice", "bob", "carol", "dave"))
PEOPLE = (ALICE, BOB, CAROL, DAVE)


def make_genesis(**parameters: int) -> Genesis:
    """Four replicas and four people."""
    return Genesis(
        name="test",
        salt=bytes(16),
        currency=Currency("WDG", 2),
        allocations=tuple(Allocation(person.public, RICH) for person in PEOPLE),
        replicas=tuple(key(f"replica {i}").public for i in range(4)),
        fault_model="byzantine",
        wall_time=START,
        parameters=Parameters(**parameters),
    )


@dataclass
class Party:
    """A group as its members know it: they sign anything."""

    agreement: GroupAgreement
    keys: tuple[SigningKey, ...]
    id: Hash = ZERO_HASH
    epoch: int = 0
    witnesses: tuple[SigningKey, ...] = ()

    @property
    def chain_id(self) -> Hash:
        return self.agreement.chain_id

    def body(self, version: int, balances: Sequence[int]) -> Body:
        return Body(tuple(balances), b"", (version,) * len(self.keys), version.to_bytes(16, "big"))

    def header(self, version: int, body: Body, log_root: Hash = ZERO_HASH) -> GroupHeader:
        return GroupHeader(self.chain_id, self.id, self.epoch, version, ZERO_HASH, log_root, body.hash)

    def certify(self, header: GroupHeader) -> Certificate:
        return Certificate(header, tuple(sign_state(k, header) for k in self.keys))

    def state(self, version: int, *balances: int) -> tuple[Certificate, Body]:
        """A version that all members signed."""
        if version == 0:
            members = self.agreement.members
            body = Body(tuple(m.deposit for m in members), b"", (0,) * len(members), bytes(16))
            return initial_certificate(self.agreement, self.id), body
        body = self.body(version, balances)
        return self.certify(self.header(version, body)), body

    def claim(self, member: int, version: int, highest: GroupHeader) -> Claim:
        """Of a place: members count first, then witnesses."""
        return sign_claim((*self.keys, *self.witnesses)[member], member, version, highest)

    def wedge(self, member: int, state: tuple[Certificate, Body | None], highest: GroupHeader | None = None) -> Wedge:
        certificate, body = state
        header = certificate.header
        return Wedge(certificate, body, self.claim(member, header.version, highest or header))

    def report(
        self,
        state: tuple[Certificate, Body | None] | None = None,
        *claims: Claim,
        double: DoubleSignature | None = None,
    ) -> Report:
        certificate, body = state or (None, None)
        return Report(self.id, certificate, body, claims, double)

    def hidden(self, version: int, *balances: int) -> tuple[Certificate, None]:
        """A version that all members signed, by its header alone."""
        return self.state(version, *balances)[0], None

    def plea(self, member: int) -> Plea:
        return Plea(sign_plea(self.keys[member], self.chain_id, PleaForData(self.id, self.epoch, member)))

    def concur(self, member: int, version: int) -> Report:
        """A report with a concur alone."""
        blank = Concur(self.id, self.epoch, member, version)
        return Report(self.id, None, None, concurs=(sign_concur(self.keys[member], self.chain_id, blank),))

    def delegation(self, member: int, account: SigningKey, bounty: int = 0) -> Delegation:
        blank = Delegation(self.id, self.epoch, member, account.public, bounty)
        return sign_delegation(self.keys[member], self.chain_id, blank)

    def guarded(
        self, state: tuple[Certificate, Body | None], member: int, account: SigningKey, bounty: int = 0
    ) -> Report:
        """What a delegate of this member reports."""
        return Report(self.id, *state, delegation=self.delegation(member, account, bounty))

    def final(self, *payout: int, **changes: Any) -> CloseGroup:
        header = self.state(0)[0].header
        final = structs.replace(Final(self.id, self.epoch, header.hash, 0, payout), **changes)
        return CloseGroup(final, self.final_signatures(final))

    def final_signatures(self, final: Final) -> tuple[Signature, ...]:
        return tuple(sign_final(k, self.chain_id, final) for k in self.keys)

    def double(self, member: int, version: int = 3) -> DoubleSignature:
        """The member signs two headers at one version."""
        body = self.body(version, [self.agreement.funding_units] + [0] * (len(self.keys) - 1))
        first, second = self.header(version, body), self.header(version, body, log_root=b"x" * 32)
        signer = self.keys[member]
        return DoubleSignature(member, first, sign_state(signer, first), second, sign_state(signer, second))


def make_party(
    chain_id: Hash, people: Sequence[SigningKey], deposit: int = 1_000, bond: int = 101, name: str = "g", **terms: Any
) -> Party:
    """An agreement of these people, with fresh group keys and with payout accounts of their own.

    With ``witnessed``, it has as many witnesses as it needs.
    """
    faults = len(people) - 1 if terms.pop("witnessed", False) else 0
    witnesses = tuple(key(f"{name} witness {i}") for i in range(faults))
    terms.setdefault("witnesses", tuple(Witness(k.public, f"127.0.0.1:{i + 1}") for i, k in enumerate(witnesses)))
    keys = tuple(key(f"{name} {i}") for i in range(len(people)))
    members = tuple(
        Member(k.public, person.public, payout(name, i).public, deposit, bond)
        for i, (k, person) in enumerate(zip(keys, people, strict=True))
    )
    agreement = GroupAgreement(chain_id, members, PERIOD, "payments/2", 10**9, bytes(16), Limits())
    return Party(structs.replace(agreement, **terms), keys, witnesses=witnesses)


def payout(name: str, i: int) -> SigningKey:
    return key(f"{name} payout {i}")


def voter(genesis: Genesis, replica: int) -> Signer:
    """A replica of :func:`make_genesis` that votes for whatever a test says."""
    views = genesis.parameters.term_views
    config = Config(genesis.chain_id, 0, genesis.replicas, genesis.replica_set.hash, term_views=views)
    return Signer(config, key(f"replica {replica}"), replica)


def accusation(
    genesis: Genesis, replica: int = 1, kind: EvidenceKind = EvidenceKind.NOTARIZED_TWICE, view: int = 10
) -> Accusation:
    """The replica contradicts itself in a view, and there is proof."""
    liar, low, high = voter(genesis, replica), ZERO_HASH, bytes([1] * 32)
    match kind:
        case EvidenceKind.NOTARIZED_TWICE:
            found = pair(liar.notarize(view, low), liar.notarize(view, high))
        case EvidenceKind.FINALIZED_TWICE:
            found = pair(liar.finalize(view, low), liar.finalize(view, high))
        case EvidenceKind.FINALIZED_AND_NULLIFIED:
            found = pair(liar.finalize(view, high), liar.nullify(view))
    assert found is not None
    return Accusation(found)


@dataclass
class World:
    """A ledger that executes one block at a time and commits it at once."""

    genesis: Genesis = field(default_factory=make_genesis)
    state: State = field(init=False)
    salts: int = 0
    last: Execution = field(init=False)

    def __post_init__(self) -> None:
        self.state = State.genesis(self.genesis)

    @property
    def chain_id(self) -> Hash:
        return self.genesis.chain_id

    def sign(self, payload: Payload, *signers: SigningKey, valid_ms: int = 500_000) -> Transaction:
        """A transaction that is signed by `signers`, with a salt of its own."""
        self.salts += 1
        blank = Transaction(payload, self.state.clock + valid_ms, self.salts.to_bytes(16, "big"))
        signatures = tuple(sign_transaction(blank, self.chain_id, k) for k in signers)
        signed = structs.replace(blank, signatures=signatures)
        if signers:
            verify_transaction(signed, self.chain_id)
        return signed

    def transfer(self, sender: SigningKey, recipient: SigningKey, amount: int) -> Transaction:
        return self.sign(Transfer(sender.public, recipient.public, amount), sender)

    def block(self, *transactions: Transaction, after_ms: int = 1) -> Execution:
        """Execute and commit one block."""
        before = self.state.total_units()
        self.last = execute(self.state, self.state.wall_time + after_ms, transactions)
        self.state = self.last.state
        self.state.commit()
        assert self.state.total_units() == before
        return self.last

    def do(self, payload: Payload, *signers: SigningKey, after_ms: int = 1) -> Output:
        """One transaction in a block of its own."""
        return self.block(self.sign(payload, *signers), after_ms=after_ms).outputs[0]

    def opened(self, *people: SigningKey, **terms: Any) -> Party:
        """Open a group."""
        members = people or (ALICE, BOB)
        party = make_party(self.chain_id, members, **terms)
        transaction = self.sign(OpenGroup(party.agreement), *members)
        output = self.block(transaction).outputs[0]
        assert output.code == "ok", output
        assert output.group_id == group_id(party.agreement, transaction.id)
        party.id = output.group_id
        return party

    def group(self, party: Party) -> Group:
        group = self.state.group(party.id)
        assert group is not None
        return group

    def balance(self, owner: SigningKey) -> int:
        return self.state.account(owner.public).balance


def signed_transactions(world: World) -> list[Transaction]:
    """Of each kind that accounts sign for themselves."""
    party = make_party(world.chain_id, (ALICE, BOB), witnessed=True)
    command = world.sign(Command(ALICE.public, b"what the machine makes of it"), ALICE)
    preimages = world.sign(RegisterPreimages(ALICE.public, (bytes(32),)), ALICE)
    return [world.transfer(ALICE, BOB, 5), world.sign(OpenGroup(party.agreement), ALICE, BOB), command, preimages]


def admitted(world: World, transaction: Transaction) -> str:
    try:
        admit(world.state, transaction)
    except Refused as refusal:
        return refusal.code
    return "ok"


def records_root(state: State) -> Hash:
    """The root over everything but the memory of which transactions were answered: a refusal leaves it as it was."""
    return state._tree.update({REMEMBERED_KEY: None}).root

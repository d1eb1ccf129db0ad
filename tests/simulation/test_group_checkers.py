"""Every checker of groups takes a real history of two members, and fails on what it is there to find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from msgspec import structs
from msgspec.structs import replace

from layer1.crypto import ZERO_HASH, Hash
from layer1.errors import RemoteError
from layer1.ledger.agreements import Body, Certificate, initial_body, initial_certificate
from layer1.ledger.opening import fresh
from layer1.ledger.records import Forfeit, Reason, Status
from layer1.ledger.records import Group as LedgerGroup
from layer1.ledger.settlement import entitlements
from layer1.ledger.transactions import OpenGroup, Transaction
from layer2.events import CloseRequested, Rejected, WedgeRequested
from layer2.messages import Accept, FinalAccept, Message, Submit
from layer2.payments import pay
from layer2.records import Certified, Claimed, FinalSigned, HostRecord, Lost, Signed
from layer2.updating import resume
from tests.layer2.harness import Party, Wire, key, pair
from tests.simulation.checkers.groups.base import GroupChecker, GroupViolation
from tests.simulation.checkers.groups.bonds import Bonds
from tests.simulation.checkers.groups.books import Books
from tests.simulation.checkers.groups.closes import Closes
from tests.simulation.checkers.groups.facts import Facts, GroupFacts, Member
from tests.simulation.checkers.groups.final_state import FinalState
from tests.simulation.checkers.groups.one_word import OneWord
from tests.simulation.checkers.groups.payments import Payments
from tests.simulation.checkers.groups.trust import Trust
from tests.simulation.checkers.reference import Reference
from tests.simulation.groups.home import read
from tests.simulation.ledger import FUNDS, PEOPLE, genesis
from wallet.book import ChannelRecord

GENESIS = genesis(4, 1)
Records = list[HostRecord]


@dataclass
class Story:
    """Two honest members who pay each other and end, and what layer 1 shows of it."""

    a: Party
    b: Party
    wire: Wire
    facts: Facts
    states: dict[int, tuple[Certificate, Body]] = field(default_factory=dict)
    """By version, what both hold."""

    @property
    def name(self) -> Hash:
        return self.a.name

    def records(self, wallet: int) -> Records:
        return [read(data) for data in (self.a, self.b)[wallet].disk.records]

    def tell(self, checker: GroupChecker) -> None:
        """All that happened, in an order in which it may have."""
        for wallet, party in enumerate((self.a, self.b)):
            records = self.records(wallet)
            self.facts.note_records(wallet, records)
            checker.synced(wallet, records)
            for event in party.committed.values():
                self.facts.note_committed(wallet, self.name, event)
                checker.committed(wallet, self.name, event)

    def closed(self, version: int, reason: Reason, **changes: object) -> LedgerGroup:
        """Layer 1's record when it is over."""
        before = self.facts.groups[self.name].ledger
        certificate, body = self.states[version]
        payouts = entitlements(before.agreement, body.balances, (None, None), (False, False))
        end = {"certificate": certificate, "body": body, "payouts": payouts, **changes}
        group = structs.replace(before, status=Status.CLOSED, reason=reason, **end)
        self.facts.groups[self.name].ledger = group
        self.facts.groups[self.name].final = self.a.group.final.final if self.a.group.final else None
        return group


@pytest.fixture
def story() -> Story:
    """Three versions: "0-1" and "1-1" are paid both ways, then "0-2"."""
    a, b, wire = pair()
    facts = Facts(GENESIS, (0, 1, 2), Reference(GENESIS), {}, (0, 1))
    first, body = initial_certificate(a.terms, a.name), initial_body(a.terms)
    opened = fresh(a.terms, 0, first, body)
    facts.groups[a.name] = GroupFacts(opened, {0: Member(0, 0), 1: Member(1, 1)})
    told = Story(a, b, wire, facts, {0: (first, body)})
    for party, command in ((a, pay(1, 5, b"0-1")), (b, pay(0, 3, b"1-1")), (a, pay(1, 7, b"0-2"))):
        party.request(command)
        wire.run()
        told.states[a.group.version] = (a.group.certificate, a.group.state.body)
    assert a.group.version == b.group.version == 3
    return told


def payments(story: Story, *issued: tuple[int, str, int]) -> Payments:
    checker = Payments(story.facts)
    for wallet, memo, amount in issued or ((0, "0-1", 5), (1, "1-1", 3), (0, "0-2", 7)):
        checker.issued(wallet, story.name, memo, amount)
    story.tell(checker)
    return checker


def expect(checker: GroupChecker, message: str) -> pytest.RaisesExc[GroupViolation]:
    return pytest.raises(GroupViolation, match=f"{checker.name}: .*{message}")


def test_all_checkers_take_an_honest_story(story: Story) -> None:
    closes = Closes(story.facts, 1_000)
    checkers = [
        FinalState(story.facts), Bonds(story.facts), closes, OneWord(story.facts),
        Books(story.facts, {0: (), 1: ()}, 0), Trust(story.facts, {}), payments(story),
    ]  # fmt: skip
    for checker in checkers:
        story.tell(checker)
    story.b.step(CloseRequested())
    story.wire.run()
    group = story.closed(3, Reason.FINAL)
    for checker in checkers:
        checker.healed(0)
        checker.on_ledger(None, group)
        if not isinstance(checker, Books):  # its other half needs a whole ledger
            checker.finish()


# -------------------------------------------------------------------------------------------------- final state, bonds


def test_final_state_finds_an_old_one(story: Story) -> None:
    checker = FinalState(story.facts)
    story.tell(checker)
    with expect(checker, "closes by deadline on version 2, wallet 0 had version 3"):
        checker.on_ledger(None, story.closed(2, Reason.DEADLINE))


def test_final_state_finds_one_that_nobody_signed(story: Story) -> None:
    checker = FinalState(story.facts)
    story.tell(checker)
    certificate, body = story.a.group.certificate, story.a.group.state.body
    other = replace(certificate, header=replace(certificate.header, log_root=ZERO_HASH))
    with expect(checker, "another version 3 than wallet 0 signed"):
        checker.on_ledger(None, story.closed(3, Reason.CLAIMS, certificate=other))
    newer = replace(certificate, header=replace(certificate.header, version=4))
    with expect(checker, "which wallet 0 never signed"):
        checker.on_ledger(None, story.closed(3, Reason.CLAIMS, certificate=newer, body=body))


def test_final_state_finds_what_is_committed_after_the_end(story: Story) -> None:
    checker = FinalState(story.facts)
    checker.on_ledger(None, story.closed(0, Reason.CLAIMS))
    story.tell(checker)
    with expect(checker, "calls version 3 .* committed, which closed on version 0"):
        checker.finish()


def test_bonds_finds_an_honest_forfeit(story: Story) -> None:
    checker, group = Bonds(story.facts), story.facts.groups[story.name].ledger
    with expect(checker, "wallet 1 is honest and forfeits"):
        checker.on_ledger(group, structs.replace(group, forfeits=(None, Forfeit.LIE)))


def test_bonds_finds_a_liar_that_keeps_its_own(story: Story) -> None:
    del story.facts.groups[story.name].honest[0]
    story.a.step(WedgeRequested())
    assert story.a.group.claim is not None
    old = structs.replace(story.a.group.claim, highest=initial_certificate(story.a.terms, story.name).header)
    checker = Bonds(story.facts)
    with expect(checker, "member 0 .* keeps its bond"):
        checker.on_ledger(None, story.closed(3, Reason.DEADLINE, claims=(old, None)))
    checker.on_ledger(None, story.closed(3, Reason.DEADLINE, claims=(old, None), forfeits=(Forfeit.LIE, None)))


# -------------------------------------------------------------------------------------------------------- closes, books


@dataclass
class Home:
    """With a book."""

    book: dict[Hash, ChannelRecord]


def test_closes_finds_what_does_not_end(story: Story) -> None:
    checker = Closes(story.facts, 1_000)
    with expect(checker, "never healed"):
        checker.finish()
    checker.healed(0)
    with expect(checker, "is open"):
        checker.finish()
    story.closed(3, Reason.DEADLINE)
    checker.finish()
    opening = ChannelRecord(Transaction(OpenGroup(story.a.terms), 9, bytes(16)), 0, 0, PEOPLE[0].public)
    checker.books = {0: Home({story.name: opening})}
    with expect(checker, "is opening in the book of wallet 0"):
        checker.finish()


def test_closes_knows_when_the_bound_is_past(story: Story) -> None:
    checker = Closes(story.facts, 1_000)
    story.facts.clock_ms = 5_000
    assert not checker.overdue
    checker.healed(4_500)
    assert not checker.overdue
    story.facts.clock_ms = 5_501
    assert checker.overdue


def test_books_finds_a_wrong_payout(story: Story) -> None:
    checker = Books(story.facts, {0: (), 1: ()}, 0)
    story.tell(checker)
    good = story.closed(3, Reason.DEADLINE)
    checker.on_ledger(None, good)
    first, second = good.payouts
    with expect(checker, "deposits, payments and bonds add up"):
        checker.on_ledger(None, story.closed(3, Reason.DEADLINE, payouts=(first + 1, second - 1)))
    with expect(checker, "add up"):  # the bond is forfeited, and paid back all the same
        checker.on_ledger(None, story.closed(3, Reason.DEADLINE, forfeits=(Forfeit.LIE, None)))


def test_books_finds_money_that_is_missing(story: Story) -> None:
    account = {0: (PEOPLE[0].public,)}
    del story.facts.groups[story.name]
    Books(story.facts, account, FUNDS).finish()
    checker = Books(story.facts, account, FUNDS + 1)
    with expect(checker, f"wallet 0 has {FUNDS} units on layer 1"):
        checker.finish()


# ------------------------------------------------------------------------------------------------------------ payments


def test_payments_finds_an_acknowledged_one_that_is_lost(story: Story) -> None:
    checker = payments(story)
    checker.acknowledged(0, story.name, "0-2")
    story.closed(3, Reason.DEADLINE)
    checker.finish()
    story.closed(2, Reason.DEADLINE)
    with expect(checker, "they were made, and they are not: .*0-2"):
        checker.finish()


def test_payments_finds_a_committed_one_that_is_lost(story: Story) -> None:
    checker = payments(story)
    story.closed(1, Reason.DEADLINE)
    with expect(checker, "committed that are not made: .*1-1"):
        checker.finish()


@pytest.mark.parametrize("how", ["refused", "rejected"])
def test_payments_finds_a_refused_one_that_is_paid(story: Story, how: str) -> None:
    checker = payments(story)
    story.closed(3, Reason.DEADLINE)
    if how == "refused":
        checker.refused(1, story.name, "1-1")
    else:
        (command,) = story.facts.groups[story.name].honest[1].batches[2].commands
        checker.sent(1, 0, Submit(story.name, (command,)))
        checker.rejected(1, story.name, Rejected(command.number, "code", "message"))
    with expect(checker, "they were refused, and they are made: .*1-1"):
        checker.finish()


def test_payments_finds_one_that_is_paid_twice(story: Story) -> None:
    story.a.request(pay(1, 5, b"0-1"))
    story.wire.run()
    story.states[4] = (story.a.group.certificate, story.a.group.state.body)
    checker = payments(story)
    story.closed(4, Reason.DEADLINE)
    with expect(checker, "apply more than once"):
        checker.finish()


def test_payments_finds_one_that_nobody_asked_for(story: Story) -> None:
    with pytest.raises(GroupViolation, match="its user never made"):
        payments(story, (0, "0-1", 5), (1, "1-1", 3), (0, "0-2", 6))


# ------------------------------------------------------------------------------------------------------------ one word


def other_body(records: Records) -> Records:
    """The last state signed again, with another body."""
    last = next(record for record in reversed(records) if isinstance(record, Signed))
    header = replace(last.propose.header, body_hash=ZERO_HASH)
    return [*records, replace(last, propose=replace(last.propose, header=header))]


def version_of(record: HostRecord) -> int | None:
    match record:
        case Signed():
            return record.propose.header.version
        case Certified():
            return record.version
        case _:
            return None


def skipped(records: Records) -> Records:
    return [record for record in records if version_of(record) != 2]


def ended(records: Records) -> tuple[FinalSigned, Claimed]:
    final = next(record for record in records if isinstance(record, FinalSigned))
    claim = next(record for record in records if isinstance(record, Claimed))
    return final, claim


def signed_after_final(records: Records) -> Records:
    final, _ = ended(records)
    early = replace(final, final=replace(final.final, base_version=2))
    return [*up_to(records, 2), early, signed(records, 3)]


def signed_after_claim(records: Records) -> Records:
    _, claim = ended(records)
    header = signed(records, 2).propose.header
    early = replace(claim, claim=replace(claim.claim, version=2, highest=header))
    return [*up_to(records, 2), early, signed(records, 3)]


def signed(records: Records, version: int) -> Signed:
    return next(record for record in records if isinstance(record, Signed) and version_of(record) == version)


def up_to(records: Records, version: int) -> Records:
    return [record for record in records if (version_of(record) or 99) <= version]


def two_finals(records: Records) -> Records:
    final, _ = ended(records)
    return [*records, replace(final, final=replace(final.final, base_version=2))]


def early_final(records: Records) -> Records:
    final, _ = ended(records)
    rest = [record for record in records if not isinstance(record, FinalSigned | Claimed)]
    return [*rest, replace(final, final=replace(final.final, base_version=2))]


def two_claims(records: Records) -> Records:
    _, claim = ended(records)
    return [*records, replace(claim, claim=replace(claim.claim, version=2))]


def false_claim(records: Records) -> Records:
    _, claim = ended(records)
    rest = [record for record in records if not isinstance(record, Claimed)]
    return [*rest, replace(claim, claim=replace(claim.claim, version=2))]


def lost(records: Records) -> Records:
    return [*records, Lost(records[0].group_id)]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (other_body, "signs two states at version 3"),
        (skipped, "signs version 3 on version 1"),
        (signed_after_final, "signs version 3 after FINAL"),
        (signed_after_claim, "signs version 3 after a CLAIM"),
        (two_finals, "signs two FINALs"),
        (early_final, "signs FINAL on version 2, and has signed version 3"),
        (two_claims, "signs two CLAIMs"),
        (false_claim, "claims s = 2 and k = 3, and they are 3 and 3"),
        (lost, "believes that it lost data"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.parametrize("wallet", [0, 1])
def test_one_word_finds_contradictions(
    story: Story, wallet: int, change: Callable[[Records], Records], why: str
) -> None:
    story.b.step(CloseRequested())
    story.wire.run()
    for party in (story.a, story.b):
        party.step(WedgeRequested())
    records = story.records(wallet)
    OneWord(story.facts).synced(wallet, records)
    checker = OneWord(story.facts)
    with expect(checker, why):
        checker.synced(wallet, change(records))


def test_one_word_finds_what_leaves_too_early(story: Story) -> None:
    story.a.request(pay(1, 1))
    story.wire.run(until=lambda: story.b.group.version == 4)
    pending = story.a.group.pending
    assert pending is not None
    messages: list[tuple[int, Message]] = [
        (0, pending.propose),
        (0, resume(story.a.group)),
        (1, Accept(story.name, 4, bytes(64))),
        (1, FinalAccept(story.name, bytes(64))),
    ]
    for wallet, message in messages:
        checker = OneWord(story.facts)
        checker.synced(wallet, story.records(wallet)[:-1])
        with expect(checker, "not durable|before it is durable"):
            checker.sent(wallet, 1 - wallet, message)
        if not isinstance(message, FinalAccept):
            checker.synced(wallet, story.records(wallet)[-1:])
            checker.sent(wallet, 1 - wallet, message)


def test_one_word_finds_what_a_restart_forgets(story: Story) -> None:
    checker = OneWord(story.facts)
    before = story.b.group
    story.tell(checker)
    checker.restored(1, {story.name: before})
    with expect(checker, "comes back with version 0, and has signed 3"):
        checker.restored(1, {story.name: story.b._blank()})
    story.b.step(WedgeRequested())
    checker.synced(1, story.records(1)[-1:])
    with expect(checker, "without its FINAL, or its CLAIM"):
        checker.restored(1, {story.name: before})


def test_trust_finds_an_accusation_of_an_honest_wallet(story: Story) -> None:
    honest, liar = key("link 1").public, key("liar").public
    checker = Trust(story.facts, {honest: 1})
    checker.misbehaved(0, story.name, liar, RemoteError("it lies"))
    with expect(checker, "both are honest"):
        checker.misbehaved(0, story.name, honest, RemoteError("it lies"))

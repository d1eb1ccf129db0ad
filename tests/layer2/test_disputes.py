"""Rules 7 to 11 and 14 to 16 against the real ledger: whatever a member does, the others get what is theirs."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from msgspec import structs

from layer1.crypto import Hash
from layer1.errors import LocalError, Refused, RemoteError
from layer1.ledger.agreements import GroupAgreement, group_id, sign_state
from layer1.ledger.execute import execute
from layer1.ledger.genesis import Allocation, Currency, Genesis
from layer1.ledger.records import Group, Reason, Status
from layer1.ledger.state import State
from layer1.ledger.transactions import OpenGroup, Payload, Transaction, sign_transaction
from layer2.events import Advice, CloseRequested, Finished, LedgerSeen, Received, Submission, WedgeRequested
from layer2.messages import Propose
from layer2.payments import pay
from tests.layer2.harness import BOND, Party, Wire, agreement, key

SALT = b"s" * 16


@dataclass
class Chain:
    """The real ledger, one block at a time."""

    state: State
    salts: int = 0
    refused: list[str] = field(default_factory=list)

    def block(self, *payloads: Payload, after_ms: int = 1_000) -> None:
        batch = [self.wrap(payload) for payload in payloads]
        execution = execute(self.state, self.state.wall_time + after_ms, batch)
        self.refused += [f"{o.code}: {o.message}" for o in execution.outputs if o.code != "ok"]
        self.state = execution.state
        self.state.commit()

    def wrap(self, payload: Payload) -> Transaction:
        self.salts += 1
        return Transaction(payload, self.state.clock + 60_000, self.salts.to_bytes(16, "big"))

    def open(self, terms: GroupAgreement) -> Hash:
        transaction = self.wrap(OpenGroup(terms))
        funders = [key(f"funding {i}") for i in range(len(terms.members))]
        signed = tuple(sign_transaction(transaction, terms.chain_id, funder) for funder in funders)
        execution = execute(self.state, self.state.wall_time + 1_000, [structs.replace(transaction, signatures=signed)])
        self.state = execution.state
        self.state.commit()
        return group_id(terms, transaction.id)

    def group(self, name: Hash) -> Group:
        group = self.state.group(name)
        assert group is not None
        return group


def world(deposits: tuple[int, ...] = (1000, 1000)) -> tuple[Chain, list[Party], Wire]:
    """A ledger with an open group, and its members in step."""
    genesis = Genesis(
        name="test",
        salt=bytes(16),
        currency=Currency("WDG", 2),
        allocations=tuple(Allocation(key(f"funding {i}").public, 10_000) for i in range(len(deposits))),
        replicas=tuple(key(f"replica {i}").public for i in range(4)),
        fault_model="byzantine",
        wall_time=1_700_000_000_000,
    )
    chain = Chain(State.genesis(genesis))
    terms = agreement(deposits, chain_id=genesis.chain_id)
    name = chain.open(terms)
    parties = [Party(terms, i, name=name) for i in range(len(deposits))]
    wire = Wire(*parties)
    wire.connect()
    wire.run()
    return chain, parties, wire


def submissions(party: Party) -> list[Payload]:
    """What it wants to bring to layer 1, once."""
    found: list[Payload] = [e.payload for e in party.others if isinstance(e, Submission)]
    party.others = [e for e in party.others if not isinstance(e, Submission)]
    return found


def watch(chain: Chain, *parties: Party) -> None:
    """Each looks at layer 1, and what it answers gets into the next block."""
    for party in parties:
        party.step(LedgerSeen(chain.group(party.name)))
    chain.block(*[payload for party in parties for payload in submissions(party)])


def settle(chain: Chain, *honest: Party) -> Group:
    """The honest look every ten seconds, until layer 1 has closed the group."""
    name = honest[0].name
    for _ in range(20):
        watch(chain, *honest)
        if chain.group(name).status is Status.CLOSED:
            watch(chain, *honest)
            return chain.group(name)
        chain.block(after_ms=10_000)
    raise AssertionError("layer 1 does not close the group")


def play(parties: list[Party], wire: Wire, versions: int) -> None:
    """Payments in turn; both disks remember how far."""
    for i in range(versions):
        parties[i % 2].request(pay(1 - i % 2, 10 + i))
        wire.run()


def old_copy(party: Party, version: int) -> Party:
    """The same member, from a copy of its disk when `version` was its newest."""
    twin = Party(party.terms, party.index, name=party.name)
    for count in range(len(party.disk.records) + 1):
        twin.disk.records = party.disk.records[:count]
        twin.restart()
        if twin.group.version == version and twin.group.pending is None:
            return twin
    raise AssertionError(f"member {party.index} was never at version {version}")


@pytest.mark.parametrize("cheat", [0, 1])
@pytest.mark.parametrize("version", range(5))
def test_a_stale_wedge_at_any_version_settles_on_the_newest_and_costs_the_bond(cheat: int, version: int) -> None:
    """Rules 9, 14, 15 and 16: the newest certificate wins, a provably false CLAIM forfeits the bond, no balance."""
    chain, parties, wire = world()
    play(parties, wire, 5)
    honest, newest = parties[1 - cheat], parties[0].group.state.body.balances
    liar = old_copy(parties[cheat], version)
    liar.step(WedgeRequested())
    chain.block(*submissions(liar))
    assert chain.group(honest.name).version == version and chain.group(honest.name).status is Status.WEDGED
    closed = settle(chain, honest)
    assert closed.forfeited[cheat] and not closed.forfeited[1 - cheat]
    assert closed.payouts[cheat] == newest[cheat]
    assert closed.payouts[1 - cheat] == newest[1 - cheat] + 2 * BOND
    assert chain.state.balance(key(f"payout {1 - cheat}").public) == newest[1 - cheat] + 2 * BOND
    (finished,) = [e for e in honest.others if isinstance(e, Finished)]
    assert finished.payouts == closed.payouts and finished.settled == closed.version == 5
    assert not chain.refused


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("versions", [0, 1, 4])
def test_rule_10_when_all_have_claimed_layer_1_settles_at_once(first: int, versions: int) -> None:
    chain, parties, wire = world()
    play(parties, wire, versions)
    parties[first].step(WedgeRequested())
    chain.block(*submissions(parties[first]))
    watch(chain, *parties)
    closed = chain.group(parties[0].name)
    assert closed.reason is Reason.CLAIMS and closed.version == versions
    assert closed.payouts == tuple(units + BOND for units in parties[0].group.state.body.balances)
    assert not chain.refused


def test_rule_11_a_silent_peer_costs_time_alone() -> None:
    chain, parties, wire = world()
    play(parties, wire, 3)
    parties[0].step(WedgeRequested())
    closed = settle(chain, parties[0])
    assert closed.reason is Reason.DEADLINE and not any(closed.forfeited)
    assert closed.payouts == tuple(units + BOND for units in parties[0].group.state.body.balances)


@pytest.mark.parametrize("wedger", [0, 1])
@pytest.mark.parametrize("accept_arrives", [False, True])
def test_an_honest_member_never_forfeits_with_a_version_in_flight(wedger: int, accept_arrives: bool) -> None:
    """Rule 8: k is s + 1 where the next version is signed; a peer that holds back its signature frames nobody."""
    chain, parties, wire = world()
    play(parties, wire, 2)
    a, b = parties
    a.request(pay(1, 100))
    wire.run(until=lambda: b.group.version == 3)
    if wedger == 1 or not accept_arrives:
        wire.cut()
    parties[wedger].step(WedgeRequested())
    chain.block(*submissions(parties[wedger]))
    wire.run()
    closed = settle(chain, a, b)
    assert not any(closed.forfeited) and closed.version == 3
    assert closed.payouts == tuple(units + BOND for units in b.group.state.body.balances)
    assert a.committed[3] == b.committed[3]
    assert not chain.refused


@pytest.mark.parametrize("together", [False, True])
def test_who_was_asleep_is_told_on_which_version_layer_1_paid(together: bool) -> None:
    """Rule 19 happens: what is above it, though it was committed, is paid by nobody."""
    chain, parties, wire = world()
    play(parties, wire, 5)
    if together:
        parties[0].step(CloseRequested())
        wire.run()
        chain.block(*submissions(parties[0]))
    else:
        liar = old_copy(parties[0], 2)
        liar.step(WedgeRequested())
        chain.block(*submissions(liar))
        settle(chain, liar)
    parties[1].step(LedgerSeen(chain.group(parties[1].name)))
    (finished,) = [e for e in parties[1].others if isinstance(e, Finished)]
    assert finished.settled == (None if together else 2)


def test_what_was_pending_and_did_not_win_is_rejected() -> None:
    """Rule 5: pending until its fate is known; layer 1 decides it."""
    chain, (a, b), wire = world()
    a.request(pay(1, 100))
    a.request(pay(1, 7))
    wire.cut()
    a.step(WedgeRequested())
    assert set(a.rejected) == {2}
    chain.block(*submissions(a))
    closed = settle(chain, a, b)
    assert closed.version == 0 and set(a.rejected) == {1, 2} and not a.committed
    with pytest.raises(Refused, match="paid"):
        a.request(pay(1, 1))
    with pytest.raises(Refused, match="paid"):
        a.step(WedgeRequested())


def test_a_cooperative_close_pays_at_once() -> None:
    """Rule 7; and what was brought is brought again until it is there."""
    chain, parties, wire = world()
    play(parties, wire, 3)
    parties[1].step(CloseRequested())
    wire.run()
    for party in parties:
        submissions(party)
    watch(chain, *parties[:1])
    closed = chain.group(parties[0].name)
    assert closed.reason is Reason.FINAL
    assert closed.payouts == tuple(units + BOND for units in parties[0].group.state.body.balances)
    watch(chain, *parties)
    assert all(party.group.closed for party in parties) and not chain.refused


def test_rule_7_in_a_dispute_only_if_no_outcome_pays_more() -> None:
    """The peer wedged with a stale state: its bond is ours, so no FINAL that gives it back."""
    chain, parties, wire = world()
    play(parties, wire, 4)
    a, b = parties
    liar = old_copy(b, 1)
    liar.step(WedgeRequested())
    chain.block(*submissions(liar))
    a.step(LedgerSeen(chain.group(a.name)))
    a.step(CloseRequested())
    assert a.group.final is None
    assert [e.code for e in a.others if isinstance(e, Advice)] == ["close_declined"]


def test_rule_7_in_an_honest_dispute_a_final_still_closes_at_once() -> None:
    chain, parties, wire = world()
    play(parties, wire, 2)
    a, b = parties
    a.step(WedgeRequested())
    chain.block(*submissions(a))
    a.step(CloseRequested())
    wire.run()
    (close,) = submissions(b)
    submissions(a)
    chain.block(close)
    assert chain.group(a.name).reason is Reason.FINAL and not chain.refused


def test_f5_a_member_shown_its_own_signature_claims_nothing() -> None:
    """ "Never claims from a store known to be older": it keeps its bond."""
    chain, parties, wire = world()
    play(parties, wire, 4)
    a, b = parties[0], old_copy(parties[1], 2)
    a.step(WedgeRequested())
    chain.block(*submissions(a))
    watch(chain, b)
    assert b.group.lost and b.group.claim is None
    closed = settle(chain, b)
    assert closed.version == 4 and not any(closed.forfeited)


def test_rule_15_a_double_signature_costs_the_bond() -> None:
    chain, parties, wire = world()
    play(parties, wire, 2)
    a, b = parties
    a.request(pay(1, 1))
    wire.run()
    shown = next(m for m in reversed(wire.heard) if isinstance(m, Propose))
    header = structs.replace(shown.header, log_root=bytes(32))
    lie = structs.replace(shown, header=header, signature=sign_state(key("group 0"), header))
    with pytest.raises(RemoteError):
        b.step(Received(0, lie, SALT))
    b.step(WedgeRequested())
    chain.block(*submissions(b))
    closed = settle(chain, b)
    assert closed.forfeited == (True, False) and closed.version == 3


def signed_twice(version: int = 3, **other: bytes) -> tuple[Chain, Party, Party]:
    """Two members at this version, of which the first one has shown the second another header than it proposed."""
    chain, parties, wire = world()
    play(parties, wire, version - 1)
    a, b = parties
    a.request(pay(1, 1))
    wire.run()
    shown = next(m for m in reversed(wire.heard) if isinstance(m, Propose))
    header = structs.replace(shown.header, **other)
    with pytest.raises(RemoteError):
        b.step(Received(0, structs.replace(shown, header=header, signature=sign_state(key("group 0"), header)), SALT))
    return chain, a, b


def test_rule_15_a_quick_claim_does_not_end_the_dispute_before_the_proof_is_there() -> None:
    """Found by a process that claimed as soon as it saw the wedge: the proof comes with the wedge."""
    chain, a, b = signed_twice(log_root=bytes(32))
    b.step(WedgeRequested())
    a.step(WedgeRequested())
    chain.block(*submissions(b), *submissions(a))
    closed = chain.group(a.name)
    assert (closed.status, closed.forfeited) == (Status.CLOSED, (True, False))


def test_rule_9_what_layer_1_takes_for_no_proof_keeps_no_report_back() -> None:
    """Found by a process that signed a header with a hash of 31 bytes: layer 1 refused every report that had it."""
    chain, a, b = signed_twice(log_root=bytes(31))
    assert b.group.double is None
    stale = old_copy(a, 2)
    stale.step(WedgeRequested())
    chain.block(*submissions(stale))
    closed = settle(chain, b)
    assert closed.version == 3 and closed.forfeited == (True, False)


def test_a_lost_transaction_is_brought_again() -> None:
    """At every look, until layer 1 shows it."""
    chain, parties, wire = world()
    play(parties, wire, 2)
    a, b = parties
    a.step(WedgeRequested())
    submissions(a)
    a.step(LedgerSeen(chain.group(a.name)))
    chain.block(*submissions(a))
    for _ in range(3):
        b.step(LedgerSeen(chain.group(b.name)))
        brought = submissions(b)
        assert len(brought) == 1
    chain.block(*brought)
    assert chain.group(a.name).status is Status.CLOSED
    b.step(LedgerSeen(chain.group(a.name)))
    b.step(LedgerSeen(chain.group(a.name)))
    assert submissions(b) == [] and len([e for e in b.others if isinstance(e, Finished)]) == 1


def test_a_view_of_another_group_is_our_own_mistake() -> None:
    chain, (a, _), _ = world()
    with pytest.raises(LocalError):
        a.step(LedgerSeen(structs.replace(chain.group(a.name), group_id=bytes(32))))


def test_a_restart_in_the_middle_of_a_dispute_changes_nothing() -> None:
    chain, parties, wire = world()
    play(parties, wire, 3)
    liar = old_copy(parties[0], 1)
    honest = parties[1]
    liar.step(WedgeRequested())
    chain.block(*submissions(liar))
    honest.step(LedgerSeen(chain.group(honest.name)))
    claim = honest.group.claim
    submissions(honest)
    honest.restart()
    assert honest.group.claim == claim
    closed = settle(chain, honest)
    assert closed.version == 3 and closed.forfeited == (True, False)

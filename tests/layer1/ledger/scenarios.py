"""Named stories whose end the design prescribes. The right ledger passes all; each mutant fails the one named."""

from __future__ import annotations

from msgspec import structs

from layer1 import merkle
from layer1.consensus.evidence import Evidence, EvidenceKind
from layer1.errors import LocalError
from layer1.ledger.agreements import Certificate
from layer1.ledger.events import ReplicaMarked
from layer1.ledger.execute import execute, ledger_clock
from layer1.ledger.records import Mark, leaf_hash, mark_key
from layer1.ledger.replicas import ChangeReplicas, SetChange, sign_change
from layer1.ledger.state import Reason, Status
from layer1.ledger.transactions import Accusation, OpenGroup
from tests.layer1.ledger.dispute_scenarios import DISPUTES
from tests.layer1.ledger.world import (
    ALICE,
    BOB,
    CAROL,
    PERIOD,
    RICH,
    World,
    accusation,
    key,
    make_genesis,
    make_party,
    payout,
    records_root,
    voter,
)


def stale_report_never_replaces() -> None:
    """Rule 14: Layer 1 keeps the highest certified version it has seen. A lower one never replaces it."""
    world = World()
    party = world.opened()
    assert world.do(party.wedge(0, party.state(5, 300, 1_700))).code == "ok"
    stale = world.do(party.report(party.state(4, 1_700, 300)))
    assert stale.code == "stale_report"
    assert "4" in stale.message and "5" in stale.message
    assert world.group(party).version == 5


def equal_version_never_replaces() -> None:
    """Rule 14: nor does another certificate of the same version."""
    world = World()
    party = world.opened()
    assert world.do(party.wedge(0, party.state(5, 300, 1_700))).code == "ok"
    assert world.do(party.report(party.state(5, 1_700, 300))).code == "stale_report"
    assert world.group(party).body == party.state(5, 300, 1_700)[1]


def deadline_settles_the_highest_balances() -> None:
    """Rule 11: at the deadline layer 1 settles by itself and pays `balances`."""
    world = World()
    party = world.opened()
    world.do(party.wedge(0, party.state(5, 300, 1_700)))
    world.block(after_ms=PERIOD - 1)
    assert world.group(party).status is Status.WEDGED
    world.block(after_ms=1)
    assert world.group(party).status is Status.CLOSED
    assert world.group(party).reason is Reason.DEADLINE
    assert world.group(party).payouts == (300 + 101, 1_700 + 101)
    assert [world.balance(payout("g", i)) for i in (0, 1)] == [401, 1_801]


def report_one_millisecond_before_the_deadline_counts() -> None:
    """Rule 9: until the deadline anybody may report."""
    world = World()
    party = world.opened()
    world.do(party.wedge(0, party.state(5, 300, 1_700)))
    assert world.do(party.report(party.state(6, 1_000, 1_000)), after_ms=PERIOD - 1).code == "ok"
    assert world.group(party).version == 6


def report_at_the_deadline_is_too_late_even_in_the_queue() -> None:
    """Rule 9: a block whose clock is at or past it no longer counts, also while due work is carried over."""
    world = World(make_genesis(due_per_block=1))
    parties = [world.opened(name=name) for name in ("g", "h")]
    wedges = [world.sign(p.wedge(0, p.state(5, 300, 1_700))) for p in parties]
    world.block(*wedges)
    first, second = sorted(parties, key=lambda p: p.id)
    late = world.sign(second.report(second.state(6, 1_000, 1_000)))
    final = world.sign(second.final(2_000, 0))
    outputs = world.block(late, final, after_ms=PERIOD).outputs
    assert [output.code for output in outputs] == ["past_deadline", "past_deadline"]
    assert world.group(first).status is Status.CLOSED
    assert world.group(second).status is Status.WEDGED
    world.block()
    assert world.group(second).payouts == (401, 1_801)


def due_work_is_capped_and_in_order() -> None:
    """Rule 11: due work per block is capped and carried over in order (deadline, id)."""
    world = World(make_genesis(due_per_block=2))
    parties = [world.opened(name=f"g{i}") for i in range(5)]
    world.do(parties[4].wedge(0, parties[4].state(1, 0, 2_000)))
    world.block(*(world.sign(p.wedge(0, p.state(1, 0, 2_000))) for p in parties[:4]))
    order = [parties[4].id, *sorted(p.id for p in parties[:4])]
    for settled in (2, 4, 5):
        world.block(after_ms=PERIOD if settled == 2 else 0)
        closed = {p.id for p in parties if world.group(p).status is Status.CLOSED}
        assert closed == set(order[:settled])


def false_claim_forfeits_when_the_certificate_arrives() -> None:
    """Rule 15: an accepted certificate, carrying its signature, has version > k."""
    world = World()
    party = world.opened()
    world.do(party.wedge(0, party.state(3, 1_700, 300)))
    assert world.do(party.report(party.state(5, 300, 1_700))).code == "ok"
    assert world.group(party).forfeited == (True, False)
    world.block(after_ms=PERIOD)
    assert world.group(party).payouts == (300, 1_700 + 101 + 101)  # rule 16: the bond, not the balance


def false_claim_forfeits_when_the_claim_arrives() -> None:
    """Rule 15: checked as well when the claim comes after the certificate."""
    world = World()
    party = world.opened(ALICE, BOB, CAROL)
    world.do(party.wedge(0, party.state(5, 1_000, 1_000, 1_000)))
    old = party.state(3, 0, 3_000, 0)[0].header
    assert world.do(party.report(None, party.claim(1, 3, old))).code == "ok"
    assert world.group(party).forfeited == (False, True, False)


def another_header_at_k_forfeits() -> None:
    """Rule 15: ... or version k with another header."""
    world = World()
    party = world.opened()
    other = party.header(6, party.body(6, (0, 2_000)))
    world.do(party.wedge(0, party.state(5, 1_000, 1_000), highest=other))
    world.do(party.report(party.state(6, 300, 1_700)))
    assert world.group(party).forfeited == (True, False)


def honest_claims_keep_their_bonds() -> None:
    """Rule 15: a claim of (s, s + 1) is true whether or not version s + 1 was certified."""
    world = World()
    party = world.opened()
    six = party.state(6, 300, 1_700)
    world.do(party.wedge(0, party.state(5, 1_000, 1_000), highest=six[0].header))
    world.do(party.report(six, party.claim(1, 6, six[0].header)))
    assert world.group(party).forfeited == (False, False)
    assert world.group(party).payouts == (401, 1_801)


def claim_without_certificate_does_not_count() -> None:
    """Rule 8 [F1]: a CLAIM counts only together with an accepted certificate of version >= its s."""
    world = World()
    party = world.opened()
    world.do(party.wedge(0, party.state(3, 1_000, 1_000)))
    ahead = party.claim(1, 5, party.state(5, 300, 1_700)[0].header)
    refused = world.do(party.report(None, ahead))
    assert refused.code == "claim_without_certificate"
    assert "5" in refused.message and "3" in refused.message
    assert world.group(party).status is Status.WEDGED


def first_claim_stands() -> None:
    """Rule 8 [F1]: a member's first claim in an epoch stands; a second cannot undo the lie."""
    world = World()
    party = world.opened()
    five = party.state(5, 300, 1_700)
    world.do(party.wedge(0, party.state(3, 1_700, 300)))
    assert world.do(party.wedge(0, five)).code == "ok"  # as a report of version 5
    assert world.group(party).claims[0] == party.claim(0, 3, party.state(3, 1_700, 300)[0].header)
    assert world.group(party).forfeited == (True, False)
    assert world.do(party.report(None, party.claim(0, 5, five[0].header))).code == "claim_stands"


def all_claims_settle_at_once() -> None:
    """Rule 10: if all members have claimed, layer 1 settles at once on the highest certificate."""
    world = World()
    party = world.opened()
    five = party.state(5, 300, 1_700)
    world.do(party.wedge(0, five))
    assert world.do(party.report(None, party.claim(1, 5, five[0].header))).code == "ok"
    assert world.group(party).status is Status.CLOSED
    assert world.group(party).reason is Reason.CLAIMS
    assert world.do(party.final(2_000, 0)).code == "group_closed"


def wedge_of_a_wedged_group_keeps_the_deadline() -> None:
    """Rule 8: the deadline is fixed. A wedge of a wedged group is a report."""
    world = World()
    party = world.opened(ALICE, BOB, CAROL)
    world.do(party.wedge(0, party.state(3, 1_000, 1_000, 1_000)))
    deadline = world.group(party).deadline_ms
    assert world.do(party.wedge(1, party.state(4, 3_000, 0, 0)), after_ms=500).code == "ok"
    group = world.group(party)
    assert (group.deadline_ms, group.wedged_by, group.version) == (deadline, 0, 4)
    assert group.claims[1] is not None


def double_signature_forfeits_once() -> None:
    """Rule 15: two STATE signatures on different headers at one version; at most one forfeit per member and epoch."""
    world = World()
    party = world.opened(ALICE, BOB, CAROL)
    world.do(party.wedge(0, party.state(5, 1_000, 1_000, 1_000)))
    assert world.do(party.report(double=party.double(1))).code == "ok"
    assert world.do(party.report(double=party.double(1, version=9))).code == "already_forfeited"
    old = party.state(3, 0, 3_000, 0)
    assert world.do(party.report(None, party.claim(1, 3, old[0].header))).code == "ok"  # a lie besides
    world.block(after_ms=PERIOD)
    assert world.group(party).payouts == (1_000 + 101 + 51, 1_000, 1_000 + 101 + 50)


def forfeits_split_without_loss() -> None:
    """Rule 15: to the other members, the remainder too: 101 among two is 51 and 50."""
    world = World()
    party = world.opened(ALICE, BOB, CAROL)
    world.do(party.wedge(2, party.state(3, 0, 0, 3_000)))
    world.do(party.report(party.state(5, 1_000, 1_000, 1_000)))
    world.block(after_ms=PERIOD)
    assert world.group(party).payouts == (1_152, 1_151, 1_000)


def final_in_a_dispute_does_not_undo_a_forfeit() -> None:
    """Rules 7 and 15: FINAL pays at once, also while a dispute is open; what was forfeited stays so."""
    world = World()
    party = world.opened()
    world.do(party.wedge(0, party.state(3, 1_700, 300)))
    world.do(party.report(party.state(5, 300, 1_700)))
    assert world.do(party.final(900, 1_100)).code == "ok"
    assert world.group(party).payouts == (900, 1_100 + 202)
    assert world.group(party).reason is Reason.FINAL


def certificate_needs_every_member() -> None:
    """Objects: Certificate(header, signatures of all members)."""
    world = World()
    party = world.opened()
    certificate, body = party.state(5, 2_000, 0)
    for signatures in ((), certificate.signatures[:1], certificate.signatures[::-1], (certificate.signatures[0],) * 2):
        forged = Certificate(certificate.header, signatures)
        assert world.do(party.wedge(0, (forged, body))).code in {"bad_certificate", "bad_signature"}
    assert world.group(party).status is Status.OPEN


def transaction_executes_once() -> None:
    """Mempool: a transaction appearing twice executes once; the ledger remembers ids until they expire."""
    world = World()
    transaction = world.transfer(ALICE, BOB, 10)
    assert len(world.block(transaction, transaction).outputs) == 1
    assert world.block(transaction).outputs == ()
    world.block(after_ms=50_000)
    assert world.block(transaction).outputs == ()
    assert world.balance(BOB) == RICH + 10


def refused_transaction_is_remembered() -> None:
    """An id gets at most one output: a refused payment cannot succeed later behind its sender's back."""
    world = World()
    large = world.transfer(ALICE, BOB, RICH + 1)
    assert world.block(large).outputs[0].code == "insufficient_balance"
    world.block(world.transfer(CAROL, ALICE, 1_000))
    assert world.block(large).outputs == ()
    assert world.balance(BOB) == RICH


def life_span_is_inclusive_and_bounded() -> None:
    """Mempool: valid until `valid_until`, which is at most ten minutes ahead; outside, no output at all."""
    world = World()
    last = world.sign(world.transfer(ALICE, BOB, 1).payload, ALICE, valid_ms=5)
    dead = world.sign(world.transfer(ALICE, BOB, 2).payload, ALICE, valid_ms=4)
    far = world.sign(world.transfer(ALICE, BOB, 4).payload, ALICE, valid_ms=600_006)
    edge = world.sign(world.transfer(ALICE, BOB, 8).payload, ALICE, valid_ms=600_005)
    assert [o.transaction_id for o in world.block(last, dead, far, edge, after_ms=5).outputs] == [last.id, edge.id]
    assert world.balance(BOB) == RICH + 9
    assert len(world.block(far).outputs) == 1


def refusal_changes_nothing() -> None:
    """Done: bad input gets a clear, typed error and changes nothing."""
    world = World()
    root = records_root(world.state)
    assert world.block(world.transfer(ALICE, BOB, RICH + 1)).outputs[0].code == "insufficient_balance"
    assert records_root(world.state) == root


def one_account_funds_two_members() -> None:
    """Opening locks everything atomically: what one account owes for two members is added up."""
    world = World()
    party = make_party(world.chain_id, (ALICE, ALICE), deposit=RICH // 2, bond=1)
    assert world.do(OpenGroup(party.agreement), ALICE, ALICE).code == "insufficient_balance"
    enough = make_party(world.chain_id, (ALICE, ALICE), deposit=RICH // 2 - 1, bond=1)
    assert world.do(OpenGroup(enough.agreement), ALICE, ALICE).code == "ok"
    assert world.balance(ALICE) == 0


def member_key_serves_one_group() -> None:
    """Objects: members sign with keys made for this group."""
    world = World()
    party = world.opened()
    assert world.do(OpenGroup(party.agreement), ALICE, BOB).code == "key_in_use"
    stranger = make_party(world.chain_id, (CAROL, CAROL))  # same keys, but not Alice's and Bob's to use up
    assert world.do(OpenGroup(stranger.agreement), CAROL, CAROL).code == "ok"
    twice = make_party(world.chain_id, (ALICE, BOB), name="t")
    again = structs.replace(twice.agreement, salt=b"x" * 16)
    outputs = world.block(
        world.sign(OpenGroup(twice.agreement), ALICE, BOB), world.sign(OpenGroup(again), ALICE, BOB)
    ).outputs
    assert [output.code for output in outputs] == ["ok", "key_in_use"]


def clock_steps_are_clamped() -> None:
    """Time: clock = parent.clock + clamp(wall_time - parent.wall_time, 0, max_step)."""
    assert ledger_clock(100, 1_000, 1_007, 50) == 107
    assert ledger_clock(100, 1_000, 1_050, 50) == 150
    assert ledger_clock(100, 1_000, 1_000_000, 50) == 150
    assert ledger_clock(100, 1_000, 999, 50) == 100
    world = World()
    world.block(after_ms=3_600_000)
    assert world.state.clock == 60_000


def sibling_of_a_committed_view_is_dead() -> None:
    """Views: whatever does not descend from the committed head raises rather than mix two chains."""
    world = World()
    base = world.state
    lost = execute(base, base.wall_time + 1, [world.transfer(ALICE, BOB, 7)]).state
    world.block(world.transfer(ALICE, BOB, 5))
    for read in (lambda: lost.account(CAROL.public), lost.commit, lambda: base.account(ALICE.public)):
        try:
            read()
        except LocalError:
            continue
        raise AssertionError("a dead view answered")


def evidence_marks_once() -> None:
    """Evidence: accepted as a transaction that marks the replica; one mark is all there is."""
    world = World()
    before = world.state.root
    first = world.sign(accusation(world.genesis, 1))
    second = world.sign(accusation(world.genesis, 1, EvidenceKind.FINALIZED_TWICE))
    block = world.block(first, second)
    assert [output.code for output in block.outputs] == ["ok", "already_marked"]
    third = world.do(accusation(world.genesis, 1, EvidenceKind.FINALIZED_AND_NULLIFIED))
    assert third.code == "already_marked"
    assert first.id.hex() in third.message
    key = world.genesis.replicas[1]
    mark, evidence = world.state.mark(key), accusation(world.genesis, 1).evidence
    assert mark == Mark(key, 0, 1, EvidenceKind.NOTARIZED_TWICE, evidence.id, first.id, block.clock)
    assert block.events == (ReplicaMarked(mark),)
    assert world.state.root != before
    assert merkle.verify(world.state.root, mark_key(key), leaf_hash(mark), world.state.prove(mark_key(key)))
    assert world.do(accusation(world.genesis, 2)).code == "ok"
    assert [world.state.mark(other) is not None for other in world.genesis.replicas] == [False, True, True, False]


def evidence_needs_both_signatures() -> None:
    """Evidence: self-contained contradictions only; nobody is marked on another's word."""
    world = World()
    framed = accusation(world.genesis, 1).evidence
    for half in ("first", "second"):
        forged = structs.replace(getattr(framed, half), signature=bytes(64))
        assert world.do(Accusation(structs.replace(framed, **{half: forged}))).code == "bad_signature"
    elsewhere = accusation(make_genesis(heartbeat_ms=5_000), 1)
    assert world.do(elsewhere).code == "bad_signature"
    assert world.state.mark(world.genesis.replicas[1]) is None


def votes_that_may_stand_together_mark_nobody() -> None:
    """Rule 3: notarizing a view that one has nullified is allowed; rule 5 speaks of the range alone."""
    world = World(make_genesis(term_views=8))
    honest, block = voter(world.genesis, 1), bytes(32)
    for pair in (
        Evidence(honest.notarize(10, block), honest.nullify(10)),
        Evidence(honest.finalize(10, block), honest.nullify(11)),
        Evidence(honest.finalize(10, block), honest.nullify(7)),
        Evidence(honest.notarize(10, block), honest.finalize(10, bytes([1] * 32))),
        Evidence(honest.finalize(10, block), honest.finalize(11, bytes([1] * 32))),
    ):
        assert world.do(Accusation(pair)).code in {"no_contradiction", "range_without_view", "different_views"}
    assert world.state.mark(world.genesis.replicas[1]) is None


def a_key_answers_for_what_it_signed() -> None:
    """Evidence: votes of an epoch that is over mark who is in the set today, by its place there, and nobody else."""
    world = World()
    liar, left = (accusation(world.genesis, replica).evidence for replica in (2, 0))
    change = SetChange(0, (), (0,), 10_000)
    agreed = tuple((i, sign_change(change, world.chain_id, key(f"replica {i}"))) for i in range(3))
    assert world.do(ChangeReplicas(change, agreed, ())).code == "ok"
    members = world.state.replica_set
    assert (members.epoch, members.numbers) == (1, (1, 2, 3))
    later = [structs.replace(vote, epoch=2) for vote in (liar.first, liar.second)]
    before = [structs.replace(vote, epoch=-1) for vote in (liar.first, liar.second)]
    for evidence, code in (
        (liar, "bad_signature"),
        (liar.at(0), "bad_signature"),
        *((left.at(place), "bad_signature") for place in range(3)),
        (liar.at(3), "unknown_replica"),
        (Evidence(*later).at(1), "wrong_epoch"),  # type: ignore[arg-type]  # both notarize
        (Evidence(*before).at(1), "wrong_epoch"),  # type: ignore[arg-type]
    ):
        assert world.do(Accusation(evidence)).code == code
    done = world.do(Accusation(liar.at(1)))
    assert done.code == "ok"
    mark = world.state.mark(members.keys[1])
    assert mark is not None and (mark.number, mark.epoch, mark.kind) == (2, 0, EvidenceKind.NOTARIZED_TWICE)
    assert [world.state.mark(known) is not None for known in world.genesis.replicas] == [False, False, True, False]
    again = world.do(Accusation(liar.at(1)))
    assert (again.code, "replica 2 is marked" in again.message) == ("already_marked", True)


SCENARIOS = DISPUTES | {
    f.__name__: f
    for f in (
        stale_report_never_replaces,
        equal_version_never_replaces,
        deadline_settles_the_highest_balances,
        report_one_millisecond_before_the_deadline_counts,
        report_at_the_deadline_is_too_late_even_in_the_queue,
        due_work_is_capped_and_in_order,
        false_claim_forfeits_when_the_certificate_arrives,
        false_claim_forfeits_when_the_claim_arrives,
        another_header_at_k_forfeits,
        honest_claims_keep_their_bonds,
        claim_without_certificate_does_not_count,
        first_claim_stands,
        all_claims_settle_at_once,
        wedge_of_a_wedged_group_keeps_the_deadline,
        double_signature_forfeits_once,
        forfeits_split_without_loss,
        final_in_a_dispute_does_not_undo_a_forfeit,
        certificate_needs_every_member,
        transaction_executes_once,
        refused_transaction_is_remembered,
        life_span_is_inclusive_and_bounded,
        refusal_changes_nothing,
        one_account_funds_two_members,
        member_key_serves_one_group,
        clock_steps_are_clamped,
        sibling_of_a_committed_view_is_dead,
        evidence_marks_once,
        evidence_needs_both_signatures,
        votes_that_may_stand_together_mark_nobody,
        a_key_answers_for_what_it_signed,
    )
}

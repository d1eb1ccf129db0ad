"""Named stories of disputes at full strength: bodies that are missing, pleas, concurs, delegates, witnesses.

The right ledger passes all; each mutant fails the one named (`test_mutants.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from layer1.ledger.agreements import Body, Limits
from layer1.ledger.records import Bounty, Delegate, Forfeit, Group, Reason, Status
from layer1.ledger.state import State
from layer1.ledger.transactions import OpenGroup, Report, Reveal
from tests.layer1.ledger.world import ALICE, BOB, CAROL, PERIOD, Party, World, key, make_genesis, make_party, payout

BOND = 101
TOWER, OTHER_TOWER = key("tower"), key("other tower")
DISPUTES: dict[str, Callable[[], None]] = {}


def story(tell: Callable[[], None]) -> Callable[[], None]:
    DISPUTES[tell.__name__] = tell
    return tell


def wait(world: World, party: Party) -> Group:
    """Until the group's next deadline."""
    deadline = world.group(party).deadline_ms
    assert deadline is not None
    while world.state.clock < deadline:  # the clock steps a minute at most
        world.block(after_ms=min(deadline - world.state.clock, 60_000))
    return world.group(party)


def codes(world: World, *payloads: object) -> list[str]:
    return [world.do(payload).code for payload in payloads]  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- rule 12: a body is missing


@story
def header_alone_wins_and_is_revealed() -> None:
    """Rule 12: a report may carry the header alone; if the body is unknown at the deadline, any member reveals it."""
    world = World()
    party = world.opened()
    world.do(party.wedge(0, party.state(3, 1_700, 300)))
    assert world.do(party.report(party.hidden(5, 300, 1_700))).code == "ok"
    assert (world.group(party).version, world.group(party).body) == (5, None)
    group = wait(world, party)
    assert (group.status, group.revealing) == (Status.WEDGED, Reason.DEADLINE)
    assert group.deadline_ms == world.state.clock + PERIOD
    five = party.state(5, 300, 1_700)[1]
    assert world.do(Reveal(party.id, five)).code == "ok"
    group = world.group(party)
    assert (group.status, group.reason, group.payouts) == (Status.CLOSED, Reason.DEADLINE, (300, 1_700 + 2 * BOND))
    assert world.do(Reveal(party.id, five)).code == "group_closed"


@story
def wedge_without_body_is_revealed_in_time() -> None:
    """Rule 12: while the dispute runs the body may come by itself, or with the same certificate; it settles nothing."""
    world = World()
    party = world.opened()
    five, body = party.state(5, 300, 1_700)
    assert world.do(Reveal(party.id, party.state(0)[1])).code == "not_wedged"
    assert world.do(party.wedge(0, (five, None))).code == "ok"
    assert world.do(party.report((five, party.state(4, 300, 1_700)[1]))).code == "bad_body"
    assert world.do(party.report((five, body))).code == "ok"
    assert world.do(Reveal(party.id, body)).code == "body_known"
    assert world.group(party).status is Status.WEDGED
    assert wait(world, party).payouts == (401, 1_801)


@story
def claims_without_body_wait_for_it() -> None:
    """Rules 10 and 12: all have claimed: claims and reports are over, what is missing is the body."""
    world = World()
    party = world.opened()
    five, body = party.state(5, 300, 1_700)
    world.do(party.wedge(0, (five, None)))
    assert world.do(party.report(None, party.claim(1, 5, five.header))).code == "ok"
    group = world.group(party)
    assert (group.revealing, group.deadline_ms) == (Reason.CLAIMS, world.state.clock + PERIOD)
    assert world.do(party.report(party.state(6, 0, 2_000))).code == "dispute_over"
    assert world.do(Reveal(party.id, body)).code == "ok"
    assert (world.group(party).reason, world.group(party).payouts) == (Reason.CLAIMS, (401, 1_801))


@story
def version_0_needs_no_body() -> None:
    """The agreement certifies version 0, and says what is in it."""
    world = World()
    party = world.opened()
    assert world.do(party.wedge(0, (party.state(0)[0], None))).code == "ok"
    assert wait(world, party).payouts == (1_101, 1_101)


@story
def never_an_older_body() -> None:
    """Rule 12: layer 1 never falls back to an older body; rule 7: all members' FINAL pays at any time, also then."""
    world = World()
    party = world.opened()
    world.do(party.wedge(0, party.state(3, 1_700, 300)))
    world.do(party.report(party.hidden(5, 300, 1_700)))
    old = party.state(3, 1_700, 300)[1]
    assert world.do(Reveal(party.id, old)).code == "bad_body"
    wait(world, party)
    assert world.do(Reveal(party.id, old)).code == "bad_body"
    group = wait(world, party)
    assert (group.status, group.deadline_ms, group.forfeits) == (Status.WEDGED, None, (Forfeit.LIE, None))
    world.block(after_ms=60_000)
    assert world.group(party) == group
    assert world.do(party.final(900, 1_100)).code == "ok"
    assert world.group(party).payouts == (900, 1_100 + 2 * BOND)


@story
def what_does_not_add_up_is_never_paid() -> None:
    """Rule 12: checked against the hash, the sums and the limits. Who signed such a body, has FINAL left."""
    world = World()
    party = world.opened()
    odd = Body((5_000, -1), b"", (1, 1), bytes(16))
    huge = Body((1_000, 1_000), bytes(5_000), (1, 1), bytes(16))
    for version, body in ((3, odd), (4, huge)):
        certificate = party.certify(party.header(version, body))
        request = party.report((certificate, None)) if version > 3 else party.wedge(0, (certificate, None))
        assert world.do(request).code == "ok"
        assert world.do(Reveal(party.id, body)).code == "bad_body"
    wait(world, party)
    assert world.do(Reveal(party.id, huge)).code == "bad_body"
    assert world.do(party.final(900, 1_100)).code == "ok"


@story
def who_hides_the_body_pays_who_pleads() -> None:
    """Rule 12: a signer that neither reveals nor pleads within a further period forfeits its bond."""
    world = World()
    party = world.opened(ALICE, BOB, CAROL)
    five, body = party.state(5, 0, 0, 3_000)
    world.do(party.wedge(0, (five, None)))
    world.do(party.report(None, party.claim(1, 5, five.header)))
    wait(world, party)
    assert world.do(party.plea(0)).code == "claim_stands"
    assert world.do(party.plea(2)).code == "ok"  # it lost the body: not silent, not hiding
    late = world.group(party).deadline_ms
    group = wait(world, party)
    assert world.state.clock == late  # a plea doubles the first period alone
    assert group.forfeits == (Forfeit.HIDDEN, Forfeit.HIDDEN, None)
    assert group.deadline_ms is None
    assert world.do(Reveal(party.id, body)).code == "ok"
    assert world.group(party).payouts == (0, 0, 3_000 + 3 * BOND)


@story
def hiding_harms_nobody_who_does_not_plead() -> None:
    """Rules 12 and 15: without a victim nobody forfeits for it; else a liar hid the body and got its own bond back."""
    world = World()
    party = world.opened()
    world.do(party.wedge(0, party.state(3, 1_700, 300)))  # a lie, and its peer sleeps
    world.do(party.guarded(party.hidden(5, 300, 1_700), 1, TOWER, 10))
    wait(world, party)
    assert wait(world, party).forfeits == (Forfeit.LIE, None)
    assert world.do(party.plea(1)).code == "past_deadline"
    assert world.do(Reveal(party.id, party.state(5, 300, 1_700)[1])).code == "ok"
    assert world.group(party).payouts == (300, 1_700 + 2 * BOND - 10)


@story
def second_deadlines_are_capped_and_in_order() -> None:
    """Rule 11: due work per block is capped and carried over in order; settling cannot fail, known body or not."""
    world = World(make_genesis(due_per_block=1))
    parties = [world.opened(name=name) for name in ("g", "h", "i")]
    world.block(*(world.sign(p.wedge(0, p.hidden(5, 300, 1_700))) for p in parties))
    names = sorted(parties, key=lambda party: party.id)
    for done in (1, 2, 3):
        world.block(after_ms=60_000 if done == 1 else 1)
        assert [world.group(p).revealing is not None for p in names] == [i < done for i in range(3)]
    assert [world.group(p).deadline_ms for p in names] == [world.state.clock - 2 + PERIOD + i for i in range(3)]
    reveal = world.sign(Reveal(names[1].id, names[1].state(5, 300, 1_700)[1]))
    output = world.block(reveal, after_ms=PERIOD).outputs[0]
    assert output.code == "past_deadline"  # in the queue or not, it is the same
    assert world.state.next_deadline() is not None
    assert State.restore(world.genesis, world.state.snapshot()).next_deadline() == world.state.next_deadline()
    world.block()
    world.block()
    assert world.state.next_deadline() is None
    assert [world.group(p).revealing for p in names] == [Reason.DEADLINE] * 3


# ------------------------------------------------------------------------------------------------------ rule 13: pleas


@story
def plea_wedges_and_doubles_the_period() -> None:
    """Rule 13: it wedges without certificate and without claim; the period is then doubled whatever is reported."""
    world = World()
    party = world.opened()
    assert world.do(party.plea(1)).code == "ok"
    group = world.group(party)
    assert (group.status, group.wedged_by, group.version) == (Status.WEDGED, 1, 0)
    assert group.deadline_ms == world.state.clock + 2 * PERIOD
    world.do(party.wedge(0, party.state(5, 300, 1_700)))
    assert world.group(party).deadline_ms == group.deadline_ms
    assert world.do(party.plea(1)).code == "plea_stands"
    group = wait(world, party)
    assert (group.payouts, group.forfeits) == ((401, 1_801), (None, None))


@story
def plea_joins_a_dispute_once() -> None:
    """Rule 13: the deadline is twice the period from the wedge, however many plead, and whenever."""
    world = World()
    party = world.opened(ALICE, BOB, CAROL)
    world.do(party.wedge(0, party.state(5, 1_000, 1_000, 1_000)))
    wedged = world.state.clock
    assert world.do(party.plea(1), after_ms=PERIOD - 1).code == "ok"
    assert world.do(party.plea(2)).code == "ok"
    assert world.group(party).deadline_ms == wedged + 2 * PERIOD
    assert world.group(party).status is Status.WEDGED
    assert wait(world, party).forfeits == (None, None, None)


@story
def who_does_not_answer_a_plea_pays_it() -> None:
    """Rule 13: the others must report, and one that has not at the end forfeits its bond to the pleader."""
    world = World()
    party = world.opened(ALICE, BOB, CAROL)
    world.do(party.plea(2))
    assert world.do(party.report(party.state(5, 3_000, 0, 0))).code == "ok"  # by anybody: it is nobody's answer
    claim = party.claim(0, 5, party.state(5, 3_000, 0, 0)[0].header)
    assert world.do(party.report(None, claim)).code == "ok"
    group = wait(world, party)
    assert group.forfeits == (None, Forfeit.SILENT, None)
    assert group.payouts == (3_000 + BOND, 0, 2 * BOND)  # to the pleader alone, not to member 0


@story
def nobody_is_silent_without_a_plea() -> None:
    """Rules 9 and 13: who is away in an ordinary dispute loses nothing but what others' reports say."""
    world = World()
    party = world.opened()
    world.do(party.wedge(0, party.state(5, 300, 1_700)))
    assert wait(world, party).forfeits == (None, None)


@story
def plea_and_claim_bar_each_other() -> None:
    """Rule 13: a plea never counts as a claim, and who pleaded may not claim, nor who claimed plead."""
    world = World()
    party = world.opened()
    five = party.state(5, 300, 1_700)
    world.do(party.plea(1))
    world.do(party.wedge(0, five))
    assert world.group(party).status is Status.WEDGED  # member 0 has claimed, member 1 has pleaded: that is not all
    assert world.do(party.report(None, party.claim(1, 5, five[0].header))).code == "plea_stands"
    assert world.do(party.wedge(1, party.state(6, 0, 2_000))).code == "plea_stands"
    assert world.do(party.plea(0)).code == "claim_stands"


@story
def plea_is_no_lie_and_no_pardon() -> None:
    """Rule 13: never punished as a lie, and no immunity from rule 15's double signature."""
    world = World()
    party = world.opened(ALICE, BOB, CAROL)
    world.do(party.plea(2))
    five = party.state(5, 1_000, 1_000, 1_000)
    world.do(party.wedge(0, five))
    assert world.group(party).forfeits == (None, None, None)
    assert world.do(party.report(double=party.double(2))).code == "ok"
    assert world.do(party.plea(1)).code == "ok"
    assert wait(world, party).payouts == (1_000 + BOND + 51, 1_000 + BOND + 50, 1_000)


@story
def the_proof_of_a_lie_comes_with_the_wedge() -> None:
    """Rule 15: "or when two of its STATE signatures [...] are shown", before rule 10 ends the dispute."""
    for late in (False, True):
        world = World()
        party = world.opened()
        five = party.state(5, 300, 1_700)
        if late:
            world.do(party.plea(1))
        wedge = structs.replace(party.wedge(0, five), double=party.double(1))
        assert world.do(wedge).code == "ok"
        assert world.group(party).forfeits == (None, Forfeit.LIE)
    world = World()
    party = world.opened()
    wedge = structs.replace(party.wedge(0, five := party.state(5, 300, 1_700)), double=party.double(1))
    world.do(wedge)
    world.do(party.report(None, party.claim(1, 5, five[0].header)))
    assert world.group(party).payouts == (300 + BOND + BOND, 1_700)
    other = world.opened(name="h")
    wrong = structs.replace(party.double(1), second=party.double(1).first)
    assert world.do(structs.replace(other.wedge(0, other.state(5, 300, 1_700)), double=wrong)).code == "bad_proof"
    assert world.group(other).status is Status.OPEN


@story
def who_forfeited_is_owed_no_answer() -> None:
    """At most one forfeit per member and epoch, and who lost its bond gets no others' by pleading."""
    world = World()
    party = world.opened(ALICE, BOB, CAROL)
    world.do(party.wedge(0, party.hidden(5, 1_000, 1_000, 1_000)))
    world.do(party.report(double=party.double(1)))
    assert world.do(party.plea(1)).code == "already_forfeited"
    world.do(party.plea(2))
    wait(world, party)
    group = wait(world, party)
    assert group.forfeits == (Forfeit.HIDDEN, Forfeit.LIE, None)
    world.do(Reveal(party.id, party.state(5, 1_000, 1_000, 1_000)[1]))
    assert world.group(party).payouts == (1_000 + 51, 1_000, 1_000 + BOND + BOND + 50)


@story
def plea_is_of_its_own_group_epoch_and_member() -> None:
    """Each signed thing names chain, group and epoch, and verifies as no other."""
    world = World()
    party, other = world.opened(), world.opened(name="h")
    plea = party.plea(1)
    wrong = [
        structs.replace(plea.plea, group_id=other.id),
        structs.replace(plea.plea, epoch=1),
        structs.replace(plea.plea, member=0),
        structs.replace(plea.plea, member=2),
        structs.replace(plea.plea, member=-1),
        structs.replace(plea.plea, signature=party.concur(1, 0).concurs[0].signature),
    ]
    expected = ["bad_signature", "bad_plea", "bad_signature", "bad_plea", "bad_plea", "bad_signature"]
    assert codes(world, *(structs.replace(plea, plea=each) for each in wrong)) == expected
    assert world.group(party).status is world.group(other).status is Status.OPEN


# ---------------------------------------------------------------------------------------------------- rule 10: concurs


@story
def concurring_settles_at_once() -> None:
    """Rule 10: if all members have claimed or concurred, layer 1 settles at once on the highest certificate."""
    world = World()
    party = world.opened()
    world.do(party.plea(1))
    assert world.do(party.concur(1, 0)).code == "ok"
    world.do(party.wedge(0, party.state(5, 300, 1_700)))
    assert world.group(party).status is Status.WEDGED  # it had agreed to version 0, that fell
    assert world.do(party.concur(1, 5)).code == "ok"
    group = world.group(party)
    assert (group.status, group.reason, group.payouts) == (Status.CLOSED, Reason.CLAIMS, (401, 1_801))


@story
def concur_is_with_the_highest_version() -> None:
    """Decision 030: it counts while that is the highest accepted version, and falls when a higher one is accepted."""
    world = World()
    party = world.opened()
    world.do(party.wedge(0, party.state(3, 1_700, 300)))
    assert codes(world, party.concur(1, 2), party.concur(1, 4)) == ["wrong_version"] * 2
    both = structs.replace(party.concur(1, 3), certificate=party.state(5, 300, 1_700)[0])
    assert world.do(both).code == "wrong_version"  # in one report with a higher version, too
    assert world.group(party).version == 3


@story
def concurring_is_no_answer_to_a_plea() -> None:
    """Rule 13: who says neither what it holds nor that it lost it has not answered."""
    world = World()
    party = world.opened(ALICE, BOB, CAROL)
    world.do(party.plea(2))
    world.do(party.report(party.state(5, 1_000, 1_000, 1_000)))
    assert codes(world, party.concur(0, 5), party.concur(2, 5)) == ["ok", "ok"]
    assert wait(world, party).forfeits == (Forfeit.SILENT, Forfeit.SILENT, None)


# ------------------------------------------------------------------------------------------------- rule 17: delegates


@story
def delegate_is_paid_out_of_the_gain() -> None:
    """Rule 17: a bounty out of that member's own share of a forfeited bond."""
    world = World()
    party = world.opened(ALICE, BOB, CAROL)
    world.do(party.wedge(2, party.state(3, 0, 0, 3_000)))
    assert world.do(party.guarded(party.state(5, 1_000, 1_000, 1_000), 1, TOWER, 20)).code == "ok"
    assert world.group(party).delegates == (None, Delegate(TOWER.public, 20, 5), None)
    group = wait(world, party)
    assert group.payouts == (1_000 + BOND + 51, 1_000 + BOND + 50 - 20, 1_000)
    assert group.bounties == (Bounty(1, TOWER.public, 20),)
    assert world.balance(TOWER) == 20
    assert world.balance(payout("g", 1)) == 1_000 + BOND + 30


@story
def bounty_is_never_more_than_the_gain() -> None:
    """Rule 17: out of the gain, so without a forfeit there is none, and no promise reaches the balance."""
    world = World()
    party, calm = world.opened(), world.opened(name="h")
    world.do(party.wedge(0, party.state(3, 1_700, 300)))
    world.do(party.guarded(party.state(5, 300, 1_700), 1, TOWER, 2**53 - 1))
    world.do(calm.wedge(0, calm.state(3, 1_700, 300), highest=calm.state(4, 300, 1_700)[0].header))
    world.do(calm.guarded(calm.state(4, 300, 1_700), 1, TOWER, 50))
    assert wait(world, party).payouts == (300, 1_700 + BOND)
    group = wait(world, calm) if world.group(calm).status is Status.WEDGED else world.group(calm)
    assert (group.payouts, group.bounties) == ((401, 1_801), ())
    assert world.balance(TOWER) == BOND


@story
def delegate_that_brings_little_gets_nothing() -> None:
    """Rule 17: who reported in time brought what is settled on, or one version below, which its member may have signed
    beyond it; the first one of its member with the highest version stands.
    """
    for brought, paid in ((3, 0), (8, 0), (9, 20), (10, 20)):
        world = World()
        party = world.opened()
        world.do(party.wedge(0, party.state(2, 2_000, 0)))
        assert world.do(party.guarded(party.state(brought, 500, 1_500), 1, TOWER, 20)).code == "ok"
        again = party.guarded(party.state(brought, 500, 1_500), 1, OTHER_TOWER, 20)
        assert world.do(again).code == "stale_report"  # the first one stands
        if brought < 10:
            world.do(party.report(party.state(10, 300, 1_700)))
        wait(world, party)
        assert (world.balance(TOWER), world.balance(OTHER_TOWER)) == (paid, 0), brought


@story
def whoever_copies_a_report_robs_no_delegate() -> None:
    """Rule 17: to any delegate that reported in time: the same version, brought by another before, is no loss to it."""
    world = World()
    party = world.opened()
    world.do(party.wedge(0, party.state(3, 1_700, 300)))
    five = party.hidden(5, 300, 1_700)
    assert codes(world, party.report(five), party.guarded(five, 1, TOWER, 20)) == ["ok", "ok"]
    world.do(Reveal(party.id, party.state(5, 300, 1_700)[1]))
    assert wait(world, party).payouts == (300, 1_700 + 2 * BOND - 20)


@story
def delegate_answers_a_plea() -> None:
    """Rules 13 and 17: a member that sleeps has answered if its delegate has; and only then."""
    for brought, forfeits in ((5, (None, None)), (4, (None, None)), (3, (Forfeit.SILENT, None))):
        world = World()
        party = world.opened()
        world.do(party.plea(1))
        assert world.do(party.guarded(party.state(brought, 1_000, 1_000), 0, TOWER)).code == "ok"
        if brought < 5:
            world.do(party.report(party.state(5, 300, 1_700)))
        assert wait(world, party).forfeits == forfeits, brought


@story
def delegation_is_the_members_own_word() -> None:
    """Each signed thing names chain, group and epoch: nobody is made to pay a bounty that it did not promise."""
    world = World()
    party, other = world.opened(), world.opened(name="h")
    world.do(party.wedge(0, party.state(3, 1_700, 300)))
    good = party.guarded(party.state(5, 300, 1_700), 1, TOWER, 20)
    promise = good.delegation
    assert promise is not None
    for changes, code in (
        ({"group_id": other.id}, "bad_delegation"),
        ({"epoch": 1}, "bad_delegation"),
        ({"member": 0}, "bad_signature"),
        ({"member": 2}, "bad_delegation"),
        ({"payout": OTHER_TOWER.public}, "bad_signature"),
        ({"payout": b"short"}, "bad_delegation"),
        ({"bounty": 21}, "bad_signature"),
        ({"bounty": -1}, "bad_delegation"),
        ({"signature": bytes(64)}, "bad_signature"),
    ):
        forged = structs.replace(promise, **changes)
        assert (changes, world.do(structs.replace(good, delegation=forged)).code) == (changes, code)
    assert world.do(Report(party.id, None, None, delegation=promise)).code == "empty_report"
    assert world.group(party).version == 3


# ------------------------------------------------------------------------------------------------- witnessed groups


@story
def f_plus_1_claims_settle_a_witnessed_group() -> None:
    """Witnessed groups: layer 1 settles as soon as f+1 of the 2f+1 have sent claims that count, whenever that is."""
    world = World()
    party = world.opened(witnessed=True)
    five = party.state(5, 300, 1_700)
    assert world.do(party.wedge(0, five)).code == "ok"
    assert world.group(party).deadline_ms is None
    assert world.state.next_deadline() is None
    for _ in range(5):
        world.block(after_ms=60_000)
    assert world.do(party.report(None, party.claim(2, 5, five[0].header))).code == "ok"
    group = world.group(party)
    assert (group.status, group.reason, group.payouts) == (Status.CLOSED, Reason.CLAIMS, (401, 1_801))


@story
def witness_corrects_a_stale_wedge() -> None:
    """Witnessed groups: at least one that claims is honest, and holds what was committed; a liar pays (rule 15)."""
    world = World()
    party = world.opened(witnessed=True)
    world.do(party.wedge(0, party.state(3, 1_700, 300)))
    five = party.state(5, 300, 1_700)
    assert world.do(party.report(five, party.claim(2, 5, five[0].header))).code == "ok"
    assert world.group(party).payouts == (300, 1_700 + 2 * BOND)


@story
def witnesses_claim_what_is_accepted_and_pay_nothing() -> None:
    """[F1] a claim counts only together with an accepted certificate; [F4] witnesses post no bond."""
    world = World()
    party = world.opened(ALICE, BOB, CAROL, witnessed=True)
    world.do(party.wedge(0, party.state(3, 0, 0, 3_000)))
    five = party.state(5, 1_000, 1_000, 1_000)
    three = party.state(3, 0, 0, 3_000)[0].header
    assert world.do(party.report(None, party.claim(3, 5, five[0].header))).code == "claim_without_certificate"
    assert world.do(party.report(None, party.claim(3, 3, three))).code == "ok"  # old, and nothing can be forfeited
    assert world.group(party).status is Status.WEDGED
    assert world.do(party.report(five, party.claim(4, 5, five[0].header))).code == "ok"
    group = world.group(party)
    assert (group.status, group.forfeits) == (Status.CLOSED, (Forfeit.LIE, None, None))
    assert group.payouts == (1_000, 1_000 + BOND + 51, 1_000 + BOND + 50)


@story
def a_witness_speaks_as_a_witness() -> None:
    """A witness never wedges, pleads or concurs; it signs no state, so its k is s; no more than 2f+1 places claim."""
    world = World()
    party = world.opened(witnessed=True)
    five = party.state(5, 300, 1_700)
    assert world.do(party.wedge(2, five)).code == "bad_claim"
    assert world.group(party).status is Status.OPEN
    assert world.do(party.wedge(0, five)).code == "ok"
    six = party.state(6, 0, 2_000)[0].header
    beyond = structs.replace(party.claim(2, 5, five[0].header), member=3)
    assert codes(world, party.report(None, party.claim(2, 5, six)), party.report(None, beyond)) == ["bad_claim"] * 2
    assert world.do(party.concur(1, 5)).code == "bad_concur"
    assert world.group(party).claims == (party.claim(0, 5, five[0].header), None, None)


@story
def one_place_claims_once() -> None:
    """Two faulty of three break it, one does not: its claim counts for its own place, and once."""
    world = World()
    party = world.opened(witnessed=True)
    five = party.state(5, 300, 1_700)
    again = party.claim(0, 5, five[0].header)
    world.do(party.wedge(0, five))
    assert world.do(party.report(None, again, again)).code == "claim_stands"
    assert world.do(party.report(None, structs.replace(again, member=2))).code == "bad_signature"
    assert world.group(party).status is Status.WEDGED


@story
def a_plea_starts_no_clock_where_there_is_none() -> None:
    """Rule 13 in a witnessed group: it wedges, the others' claims settle, and nobody is silent without a deadline."""
    world = World()
    party = world.opened(witnessed=True)
    assert world.do(party.plea(1)).code == "ok"
    assert world.group(party).deadline_ms is None
    five = party.state(5, 300, 1_700)
    world.do(party.wedge(0, five))
    world.do(party.report(None, party.claim(2, 5, five[0].header)))
    assert (world.group(party).forfeits, world.group(party).payouts) == ((None, None), (401, 1_801))


@story
def a_witnessed_group_waits_for_its_body_too() -> None:
    """Rule 12: the second period is a challenge period, also where the first one has no clock."""
    world = World()
    party = world.opened(witnessed=True)
    five, body = party.state(5, 300, 1_700)
    world.do(party.plea(1))
    world.do(party.wedge(0, (five, None)))
    world.do(party.report(None, party.claim(2, 5, five.header)))
    assert world.group(party).deadline_ms == world.state.clock + PERIOD
    assert wait(world, party).forfeits == (Forfeit.HIDDEN, None)
    world.do(Reveal(party.id, body))
    assert world.group(party).payouts == (300, 1_700 + 2 * BOND)


@story
def witness_timeout_trades_back_a_clock() -> None:
    """Witnessed groups: an opt-in long timeout, off by default; a plea doubles it, too."""
    world = World()
    party = world.opened(witnessed=True, witness_timeout_ms=2 * PERIOD)
    world.do(party.wedge(0, party.state(5, 300, 1_700)))
    wedged = world.state.clock
    assert world.group(party).deadline_ms == wedged + 2 * PERIOD
    world.do(party.plea(1))
    assert world.group(party).deadline_ms == wedged + 4 * PERIOD
    group = wait(world, party)
    assert (group.reason, group.payouts) == (Reason.DEADLINE, (401, 1_801))


@story
def who_witnesses_is_no_member() -> None:
    """Witnessed groups: members + witnesses = 2f+1, each of them another; only they have a timeout, a long one."""
    world = World()
    good = make_party(world.chain_id, (ALICE, BOB), witnessed=True).agreement
    (witness,) = good.witnesses
    longest = world.genesis.parameters.max_challenge_ms
    for changes, code in (
        ({"witnesses": (witness, structs.replace(witness, key=TOWER.public))}, "bad_witnesses"),
        ({"witnesses": (structs.replace(witness, key=good.members[1].key),)}, "bad_witnesses"),
        ({"witnesses": (structs.replace(witness, key=ALICE.public),)}, "bad_witnesses"),
        ({"witnesses": (structs.replace(witness, key=b"short"),)}, "bad_witnesses"),
        ({"witnesses": (structs.replace(witness, contact="two words"),)}, "bad_agreement"),
        ({"witnesses": (structs.replace(witness, contact="x" * 129),)}, "bad_agreement"),
        ({"witness_timeout_ms": PERIOD - 1}, "bad_witnesses"),
        ({"witness_timeout_ms": longest + 1}, "bad_challenge_period"),  # its locks' preimages would be forgotten
        ({"witness_timeout_ms": longest + 1, "limits": Limits(max_locks=0)}, "bad_witnesses"),
        ({"witnesses": (), "witness_timeout_ms": PERIOD}, "bad_witnesses"),
    ):
        agreement = structs.replace(good, **changes)
        assert (changes, world.do(OpenGroup(agreement), ALICE, BOB).code) == (changes, code)
    three = make_party(world.chain_id, (ALICE, BOB, CAROL), name="t", witnessed=True).agreement
    twins = structs.replace(three, witnesses=(three.witnesses[0],) * 2)
    assert world.do(OpenGroup(twins), ALICE, BOB, CAROL).code == "bad_witnesses"
    assert world.do(OpenGroup(three), ALICE, BOB, CAROL).code == "ok"
    again = make_party(world.chain_id, (ALICE, CAROL), name="again", witnesses=(witness,)).agreement
    assert world.do(OpenGroup(again), ALICE, CAROL).code == "ok"  # a witness has one key in all its groups
    assert world.do(OpenGroup(good), ALICE, BOB).code == "ok"
    assert len(world.state.groups_of(witness.key)) == 2

"""Rules 24 and 25 on layer 1: what begins an epoch, what it moves, and that nothing signed in another epoch counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from layer1.codec import encode
from layer1.crypto import Kind
from layer1.errors import LocalError, Refused, check
from layer1.ledger import changing, draft, store
from layer1.ledger.agreements import GroupAgreement, Payment, Successor, change_kind, sign_successor
from layer1.ledger.events import GroupChanged
from layer1.ledger.genesis import MAX_MONEY, Parameters
from layer1.ledger.opening import fresh, open_group
from layer1.ledger.records import Status
from layer1.ledger.state import State
from layer1.ledger.transactions import ChangeGroup, OpenGroup, Transaction
from tests.layer1.ledger.changes import (
    moved_on,
    pays,
    replaced,
    signed,
    successor,
    terms,
    top_up,
    version_0,
)
from tests.layer1.ledger.test_perturbations import altered, dotted, extremes, fields
from tests.layer1.ledger.world import (
    ALICE,
    BOB,
    CAROL,
    PERIOD,
    RICH,
    Party,
    World,
    key,
    make_party,
    payout,
    records_root,
)

PAID = RICH - 1_101
"""What a member has after an opening, with deposit and bond."""


def topping_up_locks_what_is_paid_in() -> None:
    """Rule 24: RESIZE tops up; success starts epoch + 1, at version 0 of the new allocation."""
    world = World()
    party = world.opened()
    change = top_up(world, party, ALICE, 500)
    output = world.do(change, ALICE)
    assert (output.code, output.group_id) == ("ok", party.id), output.message
    group = world.group(party)
    certificate, body = version_0(party, change)
    assert (group.status, group.epoch, group.version) == (Status.OPEN, 1, 0)
    assert (group.certificate, group.body, group.origin) == (certificate, body, certificate.header)
    assert group.locked_units == 2 * 1_101 + 500
    assert world.balance(ALICE) == PAID - 500
    event = world.last.events[0]
    assert event == GroupChanged(party.id, output_id(world), 1, change.successor.agreement)


def withdrawing_pays_what_is_taken_out() -> None:
    """Rule 24: RESIZE withdraws; nobody signs the transaction, since nobody pays in."""
    world = World()
    party = world.opened()
    after = terms(world, party, (700, 1_000))
    wanted = successor(world, party, after, (), (pays(payout("g", 0), 200), pays(payout("g", 1), 100)))
    assert world.do(signed(party, wanted)).code == "ok"
    assert [world.balance(payout("g", i)) for i in (0, 1)] == [200, 100]
    assert world.group(party).locked_units == 2 * 1_101 - 300


def the_next_epoch_settles_on_its_own_states() -> None:
    """Decision 030: each epoch has its own agreement; disputes, claims and forfeits begin anew."""
    world = World()
    party = world.opened()
    change = top_up(world, party, ALICE, 500)
    world.do(change, ALICE)
    party = moved_on(party, change)
    assert world.do(party.wedge(0, party.state(3, 100, 2_400))).code == "ok"
    assert world.do(party.report(party.state(4, 2_400, 100))).code == "ok"
    world.block(after_ms=PERIOD)
    assert world.group(party).payouts == (2_400, 100 + 101 + 101)
    assert world.balance(ALICE) == PAID - 500


def version_0_of_a_later_epoch_can_be_wedged() -> None:
    """Decision 030: version 0 carries no signature, names its epoch, and has the base's hash as parent."""
    world = World()
    party = world.opened()
    change = top_up(world, party, ALICE, 500)
    world.do(change, ALICE)
    party = moved_on(party, change)
    wedge = party.wedge(1, version_0(party, change))  # type: ignore[arg-type]
    assert world.do(wedge).code == "ok"
    two = party.claim(0, 0, world.group(party).origin)
    assert world.do(party.report(None, two)).code == "ok"
    assert world.group(party).payouts == (1_500 + 101, 1_000 + 101)


def the_first_of_change_and_wedge_wins() -> None:
    """Rule 24: the first of RESIZE and WEDGE on layer 1 wins, in either order, in one block or in two."""
    for order in ("change first", "wedge first"):
        for together in (True, False):
            world = World()
            party = world.opened()
            change = world.sign(top_up(world, party, ALICE), ALICE)
            wedge = world.sign(party.wedge(1, party.state(5, 300, 1_700)))
            pair = [change, wedge] if order == "change first" else [wedge, change]
            blocks = [pair] if together else [[each] for each in pair]
            codes = [output.code for block in blocks for output in world.block(*block).outputs]
            lost = "bad_claim" if order == "change first" else "group_wedged"
            assert codes == ["ok", lost], (order, together)
            assert world.group(party).epoch == (1 if order == "change first" else 0)
            assert world.balance(ALICE) == PAID - (500 if order == "change first" else 0)


def what_an_epoch_signed_counts_in_no_other() -> None:
    """Rule 24, [F8]: "wedged" is per epoch: certificates, claims, FINALs and proofs of another epoch are refused."""
    world = World()
    old = world.opened()
    change = top_up(world, old, ALICE)
    world.do(change, ALICE)
    new = moved_on(old, change)
    high = structs.replace(old.agreement, members=change.successor.agreement.members)
    old = Party(high, old.keys, old.id)  # the same sums, so that nothing but the epoch is wrong
    assert world.do(old.wedge(0, old.state(9, 2_000, 500))).code == "bad_claim"
    assert world.do(old.final(2_000, 500)).code == "wrong_epoch"
    assert world.do(change, ALICE).code == "wrong_epoch"
    newest = new.state(1, 2_000, 500)
    mixed = new.wedge(0, newest, highest=old.state(1, 2_000, 500)[0].header)
    assert world.do(mixed).code == "bad_claim"
    assert world.do(new.wedge(0, newest)).code == "ok"
    assert world.do(old.report(old.state(9, 2_000, 500))).code == "bad_certificate"
    assert world.do(old.report(None, old.claim(1, 9, old.state(9, 2_000, 500)[0].header))).code == "bad_claim"
    assert world.do(old.report(double=old.double(0))).code == "bad_proof"
    assert world.group(new).forfeited == (False, False)


def a_later_epochs_words_do_not_count_before_it() -> None:
    """[F8] the other way round: signed ahead, they do not count either."""
    world = World()
    party = world.opened()
    ahead = Party(party.agreement, party.keys, party.id, epoch=1)
    assert world.do(ahead.wedge(0, ahead.state(1, 2_000, 0))).code == "bad_claim"
    assert world.do(ahead.final(2_000, 0)).code == "wrong_epoch"
    world.do(party.wedge(0, party.state(1, 0, 2_000)))
    assert world.do(ahead.report(ahead.state(2, 2_000, 0))).code == "bad_certificate"


def an_epoch_has_one_successor() -> None:
    """Rule 25: at most one successor per epoch, whoever signed two."""
    world = World()
    party = world.opened()
    first, second = top_up(world, party, ALICE, 500), top_up(world, party, BOB, 700)
    assert world.do(first, ALICE).code == "ok"
    assert world.do(second, BOB).code == "wrong_epoch"
    assert world.balance(BOB) == PAID


def a_change_expires() -> None:
    """Rule 24: a clock past the expiry ends it; and it expires within ten minutes."""
    world = World()
    party = world.opened()
    change = top_up(world, party, ALICE)
    transaction = world.sign(change, ALICE)
    world.block(after_ms=0)
    while world.state.clock < change.successor.agreement.open_before_ms:
        world.block(after_ms=1_000)
    assert world.block(transaction, after_ms=0).outputs[0].code == "agreement_expired"
    late = terms(world, party, (1_500, 1_000), open_before_ms=world.state.clock + 1 + changing.MAX_CHANGE_MS)
    wanted = successor(world, party, late, (pays(ALICE, 500),))
    change = signed(party, wanted)
    in_time = world.sign(change, ALICE)
    assert world.block(in_time, after_ms=0).outputs[0].code == "expires_too_late"
    assert world.do(change, ALICE).code == "ok"


def who_pays_in_needs_the_money() -> None:
    """Nothing is locked that is not there, and then nothing is changed at all."""
    world = World()
    party = world.opened()
    change = top_up(world, party, ALICE, PAID + 1)
    root = records_root(world.state)
    assert world.do(change, ALICE).code == "insufficient_balance"
    assert records_root(world.state) == root


def no_unit_appears_or_vanishes() -> None:
    """What was locked and is paid in, is locked then or paid out."""
    world = World()
    party = world.opened()
    for paid_in, paid_out in ((500, 1), (499, 0), (501, 0), (0, 0)):
        after = terms(world, party, (1_500, 1_000))
        deposits = (pays(ALICE, paid_in),) if paid_in else ()
        withdrawals = (pays(BOB, paid_out),) if paid_out else ()
        change = signed(party, successor(world, party, after, deposits, withdrawals))
        assert world.do(change, *([ALICE] if paid_in else [])).code == "bad_allocation"
    raised = structs.replace(party.agreement.members[0], bond=601)
    after = terms(world, party, (0, 0), members=(raised, party.agreement.members[1]))
    assert world.do(signed(party, successor(world, party, after))).code == "bad_allocation"
    assert world.do(signed(party, successor(world, party, after, (pays(ALICE, 500),))), ALICE).code == "ok"


def payments_are_of_one_unit_or_more_each_account_once() -> None:
    """A payment of nothing, or less, or to nowhere, or split to be signed twice, is none."""
    world = World()
    party = world.opened()
    after = terms(world, party, (1_500, 1_000))
    stranger = Payment(b"short", 1)
    for deposits, withdrawals in (
        ((pays(ALICE, 501),), (pays(BOB, -1), pays(BOB, 2))),
        ((pays(ALICE, 500),), (pays(BOB, 0),)),
        ((pays(ALICE, 501),), (stranger,)),
        ((pays(ALICE, 250), pays(ALICE, 250)), ()),
    ):
        change = signed(party, successor(world, party, after, deposits, withdrawals))
        assert world.do(change, *(ALICE for _ in deposits)).code == "bad_payment"


def no_more_accounts_are_paid_than_there_are_members() -> None:
    """Each is a leaf of the tree to change, and none signs: hundreds would outlast what the block's weight allows."""
    world = World()
    party = world.opened()
    for count, code in ((5, "bad_payment"), (4, "ok")):
        after = terms(world, party, (1_000 - count, 1_000))
        paid_out = [pays(key(f"withdrawn {i}"), 1) for i in range(count)]
        assert world.do(signed(party, successor(world, party, after, (), paid_out))).code == code


def everybody_signs() -> None:
    """Rules 24 and 25: signed by all old members, and by whoever joins."""
    world = World()
    party = world.opened()
    change = top_up(world, party, ALICE)
    missing = structs.replace(change, signatures=change.signatures[:1])
    swapped = structs.replace(change, signatures=change.signatures[::-1])
    assert world.do(missing, ALICE).code == world.do(swapped, ALICE).code == "bad_signature"
    change, _ = replaced(world, party, CAROL)
    alone = structs.replace(change, joining=())
    by_the_old_one = structs.replace(change, joining=change.signatures[1:])
    assert world.do(alone, CAROL).code == world.do(by_the_old_one, CAROL).code == "bad_signature"
    assert world.do(structs.replace(change, signatures=change.signatures[:1]), CAROL).code == "bad_signature"


def amounts_and_people_are_signed_by_kinds_of_their_own() -> None:
    """Objects: a signature made for one kind verifies as no other: RESIZE for amounts, RECONFIGURE for people."""
    world = World()
    party = world.opened()
    resize = successor(world, party, terms(world, party, (1_500, 1_000)), (pays(ALICE, 500),))
    others = tuple(sign_successor(k, Kind.RECONFIGURE, resize) for k in party.keys)
    assert world.do(ChangeGroup(resize, others), ALICE).code == "bad_signature"
    change, fresh = replaced(world, party, CAROL)
    assert change_kind(party.agreement, change.successor.agreement) is Kind.RECONFIGURE
    resized = tuple(sign_successor(k, Kind.RESIZE, change.successor) for k in party.keys)
    assert world.do(structs.replace(change, signatures=resized), CAROL).code == "bad_signature"
    joined = (sign_successor(fresh, Kind.RESIZE, change.successor),)
    assert world.do(structs.replace(change, joining=joined), CAROL).code == "bad_signature"
    swapped = terms(world, party, (1_000, 1_000), members=party.agreement.members[::-1])
    wanted = successor(world, party, swapped)
    assert change_kind(party.agreement, swapped) is Kind.RECONFIGURE
    assert world.do(signed(party, wanted)).code == "ok"


def a_member_is_replaced_and_found() -> None:
    """Rule 25: RECONFIGURE replaces a member; the group is listed by the new keys, and no more by the old ones."""
    world = World()
    party = world.opened()
    change, fresh = replaced(world, party, CAROL)
    assert world.do(change, CAROL).code == "ok"
    assert world.balance(payout("g", 1)) == 1_101
    assert world.balance(CAROL) == PAID
    found = {name: [g.group_id for g in world.state.groups_of(k.public)] for name, k in lookup(party, fresh)}
    assert found == {"alice": [party.id], "bob": [], "carol": [party.id], "old": [], "fresh": [party.id]}
    newest = moved_on(party, change, fresh)
    assert world.do(newest.wedge(1, newest.state(2, 0, 2_000))).code == "ok"
    bob_speaks = Party(newest.agreement, party.keys, party.id, epoch=1)
    assert world.do(bob_speaks.report(bob_speaks.state(3, 2_000, 0))).code == "bad_signature"


def a_view_lists_what_it_changed() -> None:
    """Uncommitted, committed, or rebuilt from records: a state finds a changed group by its new keys alone."""
    from layer1.ledger.execute import execute

    world = World()
    party = world.opened()
    change, fresh = replaced(world, party, CAROL)
    view = execute(world.state, world.state.wall_time + 1, [world.sign(change, CAROL)]).state
    old, new = party.agreement.members[1], change.successor.agreement.members[1]
    for state in (view, committed(view), State.restore(world.genesis, committed(view).snapshot())):
        listed = {name: [g.group_id for g in state.groups_of(k.public)] for name, k in lookup(party, fresh)}
        assert listed == {"alice": [party.id], "bob": [], "carol": [party.id], "old": [], "fresh": [party.id]}
        assert (state.is_member(old), state.is_member(new)) == (False, True)
        assert [group.group_id for group in state.groups()] == [party.id]


def who_joins_brings_a_fresh_key() -> None:
    """Keys are made for one group alone."""
    world = World()
    other = world.opened(CAROL, BOB, name="h")
    party = world.opened()
    old = party.agreement.members[1]
    member = structs.replace(old, key=other.keys[0].public, funding=CAROL.public)
    after = terms(world, party, (0, 0), members=(party.agreement.members[0], member))
    wanted = successor(world, party, after, (pays(CAROL, 1_101),), (pays(old.payout, 1_101),))
    assert world.do(signed(party, wanted, (other.keys[0],)), CAROL).code == "key_in_use"
    change, fresh = replaced(world, party, CAROL)
    taken = make_party(world.chain_id, (CAROL, BOB), name="i")
    first = structs.replace(taken.agreement.members[0], key=fresh.public)
    opening = structs.replace(taken.agreement, members=(first, taken.agreement.members[1]))
    codes = [o.code for o in world.block(world.sign(change, CAROL), world.sign(OpenGroup(opening), CAROL, BOB)).outputs]
    assert codes == ["ok", "key_in_use"]


def a_closed_group_is_not_changed() -> None:
    """Closed for good."""
    world = World()
    party = world.opened()
    change = top_up(world, party, ALICE)
    world.do(party.final(900, 1_100))
    assert world.do(change, ALICE).code == "group_closed"


def the_machines_state_goes_along_within_its_limit() -> None:
    """Version 0 of an epoch has the machine's state that the change carries; it must fit into a report."""
    world = World()
    party = world.opened()
    wanted = successor(world, party, terms(world, party, (1_000, 1_000)))
    large = structs.replace(wanted, machine_state=bytes(4_097))
    assert world.do(signed(party, large)).code == "bad_state"
    assert world.do(signed(party, structs.replace(wanted, machine_state=b"tally"))).code == "ok"
    assert world.group(party).body.machine_state == b"tally"  # type: ignore[union-attr]


def output_id(world: World) -> bytes:
    return world.last.transaction_ids[0]


def lookup(party: Party, fresh: Any) -> list[tuple[str, Any]]:
    return [("alice", ALICE), ("bob", BOB), ("carol", CAROL), ("old", party.keys[1]), ("fresh", fresh)]


def committed(view: State) -> State:
    view.commit()
    return view


STORIES: list[Callable[[], None]] = [
    topping_up_locks_what_is_paid_in,
    withdrawing_pays_what_is_taken_out,
    the_next_epoch_settles_on_its_own_states,
    version_0_of_a_later_epoch_can_be_wedged,
    the_first_of_change_and_wedge_wins,
    what_an_epoch_signed_counts_in_no_other,
    a_later_epochs_words_do_not_count_before_it,
    an_epoch_has_one_successor,
    a_change_expires,
    who_pays_in_needs_the_money,
    no_unit_appears_or_vanishes,
    payments_are_of_one_unit_or_more_each_account_once,
    no_more_accounts_are_paid_than_there_are_members,
    everybody_signs,
    amounts_and_people_are_signed_by_kinds_of_their_own,
    a_member_is_replaced_and_found,
    a_view_lists_what_it_changed,
    who_joins_brings_a_fresh_key,
    a_closed_group_is_not_changed,
    the_machines_state_goes_along_within_its_limit,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_changing_a_group(story: Callable[[], None]) -> None:
    story()


# ------------------------------------------------------------------------------------------- each field by itself


def healthy(world: World, party: Party) -> ChangeGroup:
    """Carol takes Bob's seat, and everybody is paid: every field of a change means something."""
    change, _ = replaced(world, party, CAROL)
    return change


MEMBER = "successor.agreement.members.0"
CODES: dict[str, str] = {
    "successor.chain_id": "wrong_chain",
    "successor.group_id": "unknown_group",
    "successor.epoch": "wrong_epoch",
    "successor.base": "bad_signature",
    "successor.base_version": "bad_signature",
    "successor.machine_state": "bad_signature",
    "successor.agreement.chain_id": "wrong_chain",
    "successor.agreement.members.len": "bad_members",
    f"{MEMBER}.key": "bad_signature",
    f"{MEMBER}.funding": "bad_signature",
    f"{MEMBER}.payout": "bad_signature",
    f"{MEMBER}.contact": "bad_signature",
    f"{MEMBER}.deposit": "bad_allocation",
    f"{MEMBER}.bond": "bad_allocation",
    "successor.agreement.challenge_period_ms": "bad_signature",
    "successor.agreement.machine": "bad_signature",
    "successor.agreement.open_before_ms": "bad_signature",
    "successor.agreement.salt": "bad_signature",
    "successor.agreement.limits.max_batch": "bad_signature",
    "successor.agreement.limits.max_state_bytes": "bad_signature",
    "successor.agreement.limits.max_locks": "bad_signature",
    "successor.agreement.limits.max_locked_units": "bad_agreement",
    "successor.agreement.limits.min_lock_units": "bad_signature",
    "successor.agreement.witness_timeout_ms": "bad_witnesses",
    "successor.deposits.len": "bad_payment",
    "successor.deposits.0.account": "bad_signature",
    "successor.deposits.0.units": "bad_allocation",
    "successor.withdrawals.len": "bad_allocation",
    "successor.withdrawals.0.account": "bad_signature",
    "successor.withdrawals.0.units": "bad_allocation",
    "signatures.len": "bad_signature",
    "signatures.0": "bad_signature",
    "joining.len": "bad_signature",
    "joining.0": "bad_signature",
}
ABSENT = {"successor.agreement.witnesses.len"}
"""There are none to alter; an item of another type does not decode."""


def test_each_altered_field_of_a_change_is_refused() -> None:
    world = World()
    party = world.opened()
    payload = healthy(world, party)
    paths = {dotted(path): path for path in fields(payload)}
    assert set(paths) - ABSENT == set(CODES)
    root = records_root(world.state)
    for name, code in CODES.items():
        output = world.do(altered(payload, paths[name]))
        assert (name, output.code) == (name, code), output.message
        assert output.message and output.group_id is None
        assert records_root(world.state) == root, name
    assert world.do(payload, CAROL).code == "ok"


def test_no_change_stops_the_ledger() -> None:
    """Whatever decodes is answered or passed over, with texts of bounded length."""
    from layer1.codec import decode, encode
    from layer1.ledger.execute import execute
    from layer1.ledger.transactions import Transaction

    world = World()
    party = world.opened()
    plain = world.sign(healthy(world, party))
    for path in fields(plain):
        if dotted(path).endswith("witnesses.len"):
            continue
        for wrong in extremes(plain, path):
            execution = execute(world.state, world.state.wall_time + 1, [decode(encode(wrong), Transaction)])
            assert execution.state.total_units() == world.genesis.supply_units
            assert all(len(output.message) < 400 for output in execution.outputs)


# ------------------------------------------------------------------------------------------------------- mutants


def without(name: str, patch: pytest.MonkeyPatch) -> None:
    """A ledger that leaves one check of a change out, by the words of its refusal."""
    original = check

    def lenient(condition: bool, code: str, message: str) -> None:
        if code != name:
            original(condition, code, message)

    patch.setattr(changing, "check", lenient)


def changes_a_wedged_group(patch: pytest.MonkeyPatch) -> None:
    without("group_wedged", patch)


def takes_a_change_of_any_epoch(patch: pytest.MonkeyPatch) -> None:
    without("wrong_epoch", patch)


def lets_a_change_wait_for_ever(patch: pytest.MonkeyPatch) -> None:
    without("expires_too_late", patch)


def adds_nothing_up(patch: pytest.MonkeyPatch) -> None:
    without("bad_allocation", patch)


def takes_any_payment(patch: pytest.MonkeyPatch) -> None:
    without("bad_payment", patch)


def takes_any_state(patch: pytest.MonkeyPatch) -> None:
    without("bad_state", patch)


def changes_a_closed_group(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(changing, "check_live", lambda group, clock_ms: None)
    without("group_wedged", patch)


def asks_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(changing, "_check_signatures", lambda before, request: None)


def asks_the_old_ones_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(changing, "joining", lambda before, after: ())


def knows_one_kind(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(changing, "change_kind", lambda before, after: Kind.RESIZE)


def never_expires(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(changing, "check_agreement", lambda *_: None)


def locks_without_taking(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(changing, "added", lambda payments: {})


def pays_what_it_has_not(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(draft.Draft, "_check_funds", lambda self, needed: None)


def takes_used_keys(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(draft.Draft, "_check_fresh_keys", lambda self, members: None)


def keeps_the_epoch(patch: pytest.MonkeyPatch) -> None:
    original = fresh

    def mutant(agreement: Any, clock: int, first: Any, body: Any) -> Any:
        header = structs.replace(first.header, epoch=first.header.epoch - 1)
        return original(agreement, clock, structs.replace(first, header=header), body)

    patch.setattr(changing, "fresh", mutant)


def keeps_old_keys_listed(patch: pytest.MonkeyPatch) -> None:
    original = store.Store._index

    def mutant(self: Any, before: Any, group: Any) -> None:
        kept = {k: list(v) for k, v in self.by_key.items()}
        original(self, before, group)
        for name, groups in kept.items():
            self.by_key.setdefault(name, groups)

    patch.setattr(store.Store, "_index", mutant)


def lists_no_new_keys(patch: pytest.MonkeyPatch) -> None:
    original = store.Store._index
    patch.setattr(
        store.Store, "_index", lambda self, before, group: original(self, before, group) if not before else None
    )


MUTANTS: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[], None]]] = [
    (changes_a_wedged_group, the_first_of_change_and_wedge_wins),
    (takes_a_change_of_any_epoch, an_epoch_has_one_successor),
    (takes_a_change_of_any_epoch, what_an_epoch_signed_counts_in_no_other),
    (lets_a_change_wait_for_ever, a_change_expires),
    (never_expires, a_change_expires),
    (adds_nothing_up, no_unit_appears_or_vanishes),
    (takes_any_payment, payments_are_of_one_unit_or_more_each_account_once),
    (takes_any_payment, no_more_accounts_are_paid_than_there_are_members),
    (takes_any_state, the_machines_state_goes_along_within_its_limit),
    (changes_a_closed_group, a_closed_group_is_not_changed),
    (asks_nobody, everybody_signs),
    (asks_the_old_ones_alone, everybody_signs),
    (knows_one_kind, amounts_and_people_are_signed_by_kinds_of_their_own),
    (locks_without_taking, topping_up_locks_what_is_paid_in),
    (locks_without_taking, withdrawing_pays_what_is_taken_out),
    (pays_what_it_has_not, who_pays_in_needs_the_money),
    (takes_used_keys, who_joins_brings_a_fresh_key),
    (keeps_the_epoch, what_an_epoch_signed_counts_in_no_other),
    (keeps_old_keys_listed, a_member_is_replaced_and_found),
    (lists_no_new_keys, a_member_is_replaced_and_found),
]


@pytest.mark.parametrize(("mutate", "story"), MUTANTS, ids=lambda each: each.__name__)
def test_a_broken_ledger_is_noticed(mutate: Callable[[pytest.MonkeyPatch], None], story: Callable[[], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        with pytest.raises((AssertionError, LocalError)):
            story()


def largest_change(agreement: GroupAgreement) -> Transaction:
    """All keys are new, all pay in, everybody is paid out, the state is as long as was agreed."""
    count, most = len(agreement.members), MAX_MONEY
    members = tuple(structs.replace(member, deposit=most, bond=most) for member in agreement.members)
    payments = tuple(Payment(bytes([i]) * 32, most) for i in range(2 * count))
    after = structs.replace(agreement, members=members, open_before_ms=most)
    state = bytes(agreement.limits.max_state_bytes)
    wanted = Successor(bytes(32), bytes(32), most, bytes(32), most, after, state, payments[:count], payments)
    signatures = (bytes(64),) * count
    return Transaction(ChangeGroup(wanted, signatures, signatures), most, bytes(16), signatures)


@pytest.mark.parametrize(("size", "contact"), [(16, "h" * 128), (16, "h:1"), (8, "h" * 128)])
def test_a_group_whose_largest_change_fits_into_no_transaction_is_not_opened(size: int, contact: str) -> None:
    """Its members could else neither top up nor replace anybody once the state has grown; they are told at once."""
    world, parameters = World(), Parameters()
    people = [key(f"member {i}") for i in range(size)]
    right = make_party(world.chain_id, people, witnessed=True).agreement
    members = tuple(structs.replace(member, contact=contact) for member in right.members)
    witnesses = tuple(structs.replace(witness, contact=contact) for witness in right.witnesses)

    def agreed(state_bytes: int) -> GroupAgreement:
        limits = structs.replace(right.limits, max_state_bytes=state_bytes, max_locks=0)
        return structs.replace(right, members=members, witnesses=witnesses, limits=limits)

    most = parameters.max_transaction_bytes
    fits = 4_096 + most - len(encode(largest_change(agreed(4_096)))) - 2  # a longer state's length
    assert fits >= 4_096, "what is agreed on by default fits"
    open_group(agreed(fits), bytes(32), world.chain_id, parameters, 1)
    assert len(encode(largest_change(agreed(fits)))) <= most
    with pytest.raises(Refused, match=f"max_state_bytes {fits + 8}; a transaction has {most} at most") as refusal:
        open_group(agreed(fits + 8), bytes(32), world.chain_id, parameters, 1)
    assert refusal.value.code == "bad_agreement"

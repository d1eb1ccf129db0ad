"""Broken ways to judge a dispute at full strength. Each must fail the story named beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test
from msgspec import structs

from layer1.errors import LocalError, Refused
from layer1.ledger import disputes, opening, settlement, words
from layer1.ledger.agreements import Body, Certificate, Claim, GroupHeader, initial_body
from layer1.ledger.records import Bounty, Forfeit, Group, Reason, Status
from layer1.ledger.state import State
from layer1.ledger.store import Store
from layer1.ledger.transactions import Report, Wedge
from tests.layer1.ledger.dispute_scenarios import DISPUTES
from tests.layer1.ledger.test_stateful import BY_CHANCE, Ledgers

Patch = Callable[[pytest.MonkeyPatch], None]
MUTANTS: list[tuple[str, str, Patch]] = []
"""(what is broken, the story that notices, how to break it)."""


def mutant(story: str) -> Callable[[Patch], Patch]:
    def register(patch: Patch) -> Patch:
        MUTANTS.append((patch.__name__, story, patch))
        return patch

    return register


# ------------------------------------------------------------------------------------------- rule 12: a body is missing


@mutant("never_an_older_body")
def falls_back_to_the_agreement(patch: pytest.MonkeyPatch) -> None:
    """A group whose body nobody reveals is paid by an older one."""
    settle = settlement.settle

    def impatient(group: Group, reason: Reason, clock_ms: int) -> Group:
        body = group.body or initial_body(group.agreement)
        return settle(structs.replace(group, body=body), reason, clock_ms)

    patch.setattr(settlement, "settle", impatient)


@mutant("never_an_older_body")
def reveals_any_body(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(disputes, "check_body", lambda *_: None)


@mutant("what_does_not_add_up_is_never_paid")
def sums_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(words, "check_amounts", lambda *_: None)


@mutant("what_does_not_add_up_is_never_paid")
def size_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    check_body = words.check_body

    def careless(group: Group, header: GroupHeader, body: Body) -> None:
        check_body(
            group, structs.replace(header, body_hash=(less := structs.replace(body, machine_state=b"")).hash), less
        )

    patch.setattr(disputes, "check_body", careless)


@mutant("claims_without_body_wait_for_it")
def reports_while_the_body_is_missing(patch: pytest.MonkeyPatch) -> None:
    """The dispute is over, and somebody still brings a version that nobody answers any more."""
    report = disputes.report

    def late(group: Group, request: Any, clock_ms: int) -> Group:
        return report(structs.replace(group, revealing=None), request, clock_ms)

    patch.setattr(disputes, "report", late)


@mutant("header_alone_wins_and_is_revealed")
def reveals_and_waits(patch: pytest.MonkeyPatch) -> None:
    def reveal(group: Group, body: Body, clock_ms: int) -> Group:
        return structs.replace(group, body=body)

    patch.setattr(disputes, "reveal", reveal)


@mutant("second_deadlines_are_capped_and_in_order")
def index_keeps_the_first_deadline(patch: pytest.MonkeyPatch) -> None:
    absorb = Store._absorb_group

    def once(self: Store, group: Group) -> None:
        before, known = len(self._deadlines), self.groups.get(group.group_id)
        absorb(self, group)
        if known is not None and known.status is Status.WEDGED and len(self._deadlines) > before:
            self._deadlines.remove((group.deadline_ms or 0, group.group_id))

    patch.setattr(Store, "_absorb_group", once)


@mutant("second_deadlines_are_capped_and_in_order")
def reveal_counts_after_its_deadline(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(disputes, "check_live", lambda *_: None)


@mutant("who_hides_the_body_pays_who_pleads")
def hiding_is_free(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "with_hidden", lambda group: group)


@mutant("who_hides_the_body_pays_who_pleads")
def who_lost_the_body_pays_too(patch: pytest.MonkeyPatch) -> None:
    def with_hidden(group: Group) -> Group:
        return settlement._forfeiting(group, (False,) * len(group.pleas), Forfeit.HIDDEN)

    patch.setattr(settlement, "with_hidden", with_hidden)


@mutant("hiding_harms_nobody_who_does_not_plead")
def bonds_change_places(patch: pytest.MonkeyPatch) -> None:
    """The liar hides, its peer sleeps: both forfeit, each to the other, and lying was free."""

    def forfeiting(group: Group, excused: Iterable[bool], why: Forfeit) -> Group:
        lost = tuple(
            done or (None if free else Forfeit.LIE) for done, free in zip(group.forfeits, excused, strict=True)
        )
        return structs.replace(group, forfeits=lost)

    patch.setattr(settlement, "_forfeiting", forfeiting)


# ------------------------------------------------------------------------------------------------------ rule 13: pleas


@mutant("plea_wedges_and_doubles_the_period")
def plea_doubles_nothing(patch: pytest.MonkeyPatch) -> None:
    stopped = disputes._stopped
    patch.setattr(disputes, "_stopped", lambda group, member, clock_ms, **_: stopped(group, member, clock_ms, 1))


@mutant("the_proof_of_a_lie_comes_with_the_wedge")
def a_wedge_proves_nothing(patch: pytest.MonkeyPatch) -> None:
    wedge = disputes.wedge

    def mute(group: Group, request: Wedge, **named: int) -> Group:
        return wedge(group, structs.replace(request, double=None), **named)

    patch.setattr(disputes, "wedge", mute)


@mutant("plea_joins_a_dispute_once")
def each_plea_adds_a_period(patch: pytest.MonkeyPatch) -> None:
    def doubled(group: Group) -> Group:
        assert group.deadline_ms is not None
        return structs.replace(group, deadline_ms=group.deadline_ms + group.agreement.challenge_period_ms)

    patch.setattr(disputes, "_doubled", doubled)


@mutant("plea_joins_a_dispute_once")
def plea_counts_as_a_claim(patch: pytest.MonkeyPatch) -> None:
    plead = disputes.plead

    def spoken(group: Group, *rest: Any, **named: Any) -> Group:
        after = plead(group, *rest, **named)
        return structs.replace(after, concurs=tuple(map(max, after.concurs, after.pleas)))

    def has_ended(group: Group) -> bool:
        return all(a or b for a, b in zip(group.claims, group.concurs, strict=True))

    def at_once(group: Group, *rest: Any, **named: Any) -> Group:
        after = spoken(group, *rest, **named)
        return settlement.settle(after, Reason.CLAIMS, named["clock_ms"]) if has_ended(after) else after

    patch.setattr(disputes, "plead", at_once)


@mutant("who_does_not_answer_a_plea_pays_it")
def silence_is_free(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "with_silent", lambda group: group)


@mutant("who_does_not_answer_a_plea_pays_it")
def any_report_answers_for_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "has_reported", lambda group, _: group.version > 0)


@mutant("who_does_not_answer_a_plea_pays_it")
def silence_pays_everybody(patch: pytest.MonkeyPatch) -> None:
    gains = settlement.gains

    def to_all(agreement: Any, forfeits: Any, pleas: Any) -> tuple[int, ...]:
        return gains(agreement, [why and Forfeit.LIE for why in forfeits], pleas)

    patch.setattr(settlement, "gains", to_all)


@mutant("nobody_is_silent_without_a_plea")
def absence_is_silence(patch: pytest.MonkeyPatch) -> None:
    def forfeiting(group: Group, excused: Iterable[bool], why: Forfeit) -> Group:
        lost = tuple(
            done or (None if free else Forfeit.LIE) for done, free in zip(group.forfeits, excused, strict=True)
        )
        return structs.replace(group, forfeits=lost)

    patch.setattr(settlement, "_forfeiting", forfeiting)


@mutant("plea_and_claim_bar_each_other")
def pleads_and_claims(patch: pytest.MonkeyPatch) -> None:
    with_claims = disputes.with_claims

    def unbarred(group: Group, claims: Iterable[Claim]) -> Group:
        after = with_claims(structs.replace(group, pleas=(False,) * len(group.pleas)), claims)
        return group if after.claims == group.claims else structs.replace(after, pleas=group.pleas)

    patch.setattr(disputes, "with_claims", unbarred)


@mutant("plea_is_no_lie_and_no_pardon")
def plea_is_a_lie(patch: pytest.MonkeyPatch) -> None:
    with_forfeits = disputes.with_forfeits

    def harsh(group: Group) -> Group:
        lied = [i for i, pleaded in enumerate(group.pleas) if pleaded and group.certificate.signatures]
        for i in lied:
            group = disputes.forfeit(group, i)
        return with_forfeits(group)

    patch.setattr(disputes, "with_forfeits", harsh)


@mutant("plea_is_no_lie_and_no_pardon")
def plea_is_a_pardon(patch: pytest.MonkeyPatch) -> None:
    forfeit = disputes.forfeit
    patch.setattr(disputes, "forfeit", lambda group, member: group if group.pleas[member] else forfeit(group, member))


@mutant("who_forfeited_is_owed_no_answer")
def liars_plead(patch: pytest.MonkeyPatch) -> None:
    plead = disputes.plead

    def forgetful(group: Group, *rest: Any, **named: Any) -> Group:
        after = plead(structs.replace(group, forfeits=(None,) * len(group.forfeits)), *rest, **named)
        return structs.replace(after, forfeits=group.forfeits)

    patch.setattr(disputes, "plead", forgetful)


@mutant("plea_is_of_its_own_group_epoch_and_member")
def pleas_are_not_verified(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(words, "verify_plea", lambda *_: True)


@mutant("plea_is_of_its_own_group_epoch_and_member")
def pleas_of_any_epoch(patch: pytest.MonkeyPatch) -> None:
    named = words._named
    patch.setattr(
        words, "_named", lambda group, word, code: named(group, structs.replace(word, epoch=group.epoch), code)
    )


# ---------------------------------------------------------------------------------------------------- rule 10: concurs


@mutant("concurring_settles_at_once")
def concurs_never_settle(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(disputes, "has_ended", lambda group: None not in group.claims)


@mutant("concurring_settles_at_once")
def concur_holds_for_later_versions(patch: pytest.MonkeyPatch) -> None:
    with_certificate = disputes.with_certificate

    def kept(group: Group, certificate: Certificate | None, body: Body | None) -> Group:
        after = with_certificate(group, certificate, body)
        return after if after is group else structs.replace(after, concurs=group.concurs)

    patch.setattr(disputes, "with_certificate", kept)


@mutant("concur_is_with_the_highest_version")
def concurs_with_any_version(patch: pytest.MonkeyPatch) -> None:
    check_concur = words.check_concur

    def any_version(group: Group, concur: Any) -> None:
        try:
            check_concur(group, concur)
        except Refused as refusal:
            if refusal.code != "wrong_version":
                raise

    patch.setattr(disputes, "check_concur", any_version)


@mutant("concurring_is_no_answer_to_a_plea")
def concurring_answers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "has_reported", lambda group, member: group.concurs[member])


# ------------------------------------------------------------------------------------------------- rule 17: delegates


@mutant("delegate_is_paid_out_of_the_gain")
def bounties_are_not_paid(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "_bounties", lambda _: ())


@mutant("bounty_is_never_more_than_the_gain")
def bounty_out_of_the_balance(patch: pytest.MonkeyPatch) -> None:
    def promised(group: Group) -> tuple[Bounty, ...]:
        found = enumerate(group.delegates)
        return tuple(Bounty(i, each.account, each.bounty) for i, each in found if each is not None)

    patch.setattr(settlement, "_bounties", promised)


@mutant("delegate_that_brings_little_gets_nothing")
def any_old_report_is_paid(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "has_reported", lambda *_: True)


@mutant("delegate_that_brings_little_gets_nothing")
def only_the_newest_version_is_paid(patch: pytest.MonkeyPatch) -> None:
    def has_reported(group: Group, member: int) -> bool:
        delegate = group.delegates[member]
        return delegate is not None and delegate.version == group.version

    patch.setattr(settlement, "has_reported", has_reported)


@mutant("delegate_that_brings_little_gets_nothing")
def the_last_delegate_stands(patch: pytest.MonkeyPatch) -> None:
    with_delegation = disputes.with_delegation

    def anew(group: Group, *rest: Any) -> Group:
        return with_delegation(structs.replace(group, delegates=(None,) * len(group.delegates)), *rest)

    patch.setattr(disputes, "with_delegation", anew)


@mutant("whoever_copies_a_report_robs_no_delegate")
def the_quickest_report_alone_counts(patch: pytest.MonkeyPatch) -> None:
    report = disputes.report

    def quickest(group: Group, request: Any, clock_ms: int) -> Group:
        known = request.certificate is not None and request.certificate.header.version <= group.version
        return report(group, structs.replace(request, delegation=None) if known else request, clock_ms)

    patch.setattr(disputes, "report", quickest)


@mutant("delegate_answers_a_plea")
def sleepers_pay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "has_reported", lambda *_: False)


@mutant("delegate_answers_a_plea")
def a_liars_delegate_answers_with_anything(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settlement, "has_reported", lambda group, member: group.delegates[member] is not None)


@mutant("delegation_is_the_members_own_word")
def promises_are_not_verified(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(words, "verify_delegation", lambda *_: True)


# ------------------------------------------------------------------------------------------------- witnessed groups


@mutant("f_plus_1_claims_settle_a_witnessed_group")
def all_places_must_claim(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(disputes, "has_ended", lambda group: None not in group.claims)


@mutant("witness_corrects_a_stale_wedge")
def one_claim_is_enough(patch: pytest.MonkeyPatch) -> None:
    """f claims: the liar's own settles the group on what it says."""
    wedge = disputes.wedge

    def hasty(group: Group, request: Any, clock_ms: int) -> Group:
        return settlement.settle(wedge(group, request, clock_ms), Reason.CLAIMS, clock_ms)

    patch.setattr(disputes, "wedge", hasty)


@mutant("witnesses_claim_what_is_accepted_and_pay_nothing")
def witness_claims_count_unproven(patch: pytest.MonkeyPatch) -> None:
    """[F1]: a claim of something that nobody has shown counts."""
    with_claims = disputes.with_claims

    def generous(group: Group, claims: Iterable[Claim]) -> Group:
        highest = max((claim.version for claim in claims), default=0)
        header = structs.replace(group.certificate.header, version=max(highest, group.version))
        seen = structs.replace(group, certificate=structs.replace(group.certificate, header=header))
        after = with_claims(seen, claims)
        return group if after.claims == group.claims else structs.replace(after, certificate=group.certificate)

    patch.setattr(disputes, "with_claims", generous)


@mutant("witnesses_claim_what_is_accepted_and_pay_nothing")
def witnesses_pay_bonds(patch: pytest.MonkeyPatch) -> None:
    """[F4]: a bond that nobody posted is forfeited, and another member's is taken for it."""

    def with_forfeits(group: Group) -> Group:
        members = len(group.forfeits)
        for place, claim in enumerate(group.claims):
            if claim is not None and disputes.is_false(claim, group.certificate):
                group = disputes.forfeit(group, place if place < members else place - members + 1)
        return group

    patch.setattr(disputes, "with_forfeits", with_forfeits)


@mutant("a_witness_speaks_as_a_witness")
def witness_wedges(patch: pytest.MonkeyPatch) -> None:
    wedge = disputes.wedge

    def open_to_all(group: Group, request: Any, clock_ms: int) -> Group:
        if request.claim.member < len(group.forfeits):
            return wedge(group, request, clock_ms)
        said = Report(group.group_id, request.certificate, request.body, (request.claim,))
        return disputes.report(disputes._stopped(group, 0, clock_ms, 1), said, clock_ms)

    patch.setattr(disputes, "wedge", open_to_all)


@mutant("a_witness_speaks_as_a_witness")
def concurring_is_claiming(patch: pytest.MonkeyPatch) -> None:
    """Without its guard a member that lost data and a liar would outvote the witness."""
    with_concurs = disputes.with_concurs

    def unguarded(group: Group, concurs: Any) -> Group:
        plain = structs.replace(group, agreement=structs.replace(group.agreement, witnesses=()))
        after = with_concurs(plain, concurs)
        return group if after is plain else structs.replace(after, agreement=group.agreement)

    patch.setattr(disputes, "with_concurs", unguarded)


@mutant("one_place_claims_once")
def claims_are_counted_not_claimants(patch: pytest.MonkeyPatch) -> None:
    report = disputes.report

    def counting(group: Group, request: Any, clock_ms: int) -> Group:
        if len(request.claims) >= len(group.forfeits):
            return settlement.settle(group, Reason.CLAIMS, clock_ms)
        return report(group, request, clock_ms)

    patch.setattr(disputes, "report", counting)


@mutant("one_place_claims_once")
def claims_for_any_place(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(words, "verify_claim", lambda *_: True)


@mutant("a_plea_starts_no_clock_where_there_is_none")
def plea_starts_a_clock(patch: pytest.MonkeyPatch) -> None:
    def stopped(group: Group, member: int, clock_ms: int, periods: int) -> Group:
        deadline = clock_ms + periods * group.agreement.challenge_period_ms
        return structs.replace(group, status=Status.WEDGED, wedged_by=member, deadline_ms=deadline)

    patch.setattr(disputes, "_stopped", stopped)


@mutant("witness_timeout_trades_back_a_clock")
def witness_timeout_is_the_challenge_period(patch: pytest.MonkeyPatch) -> None:
    stopped = disputes._stopped

    def short(group: Group, member: int, clock_ms: int, periods: int) -> Group:
        after = stopped(group, member, clock_ms, periods)
        return structs.replace(after, deadline_ms=clock_ms + periods * group.agreement.challenge_period_ms)

    patch.setattr(disputes, "_stopped", short)


@mutant("who_witnesses_is_no_member")
def members_witness_themselves(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(opening, "_check_witnesses", lambda *_: None)


@mutant("second_deadlines_are_capped_and_in_order")
def due_by_a_deadline_that_moved(patch: pytest.MonkeyPatch) -> None:
    def due(self: State, clock_ms: int) -> Any:
        return (self._known(name) for deadline, name in sorted(self._store._deadlines) if deadline <= clock_ms)

    patch.setattr(State, "due", due)
    patch.setattr(Store, "_drop_settled", lambda self: None)


@pytest.mark.parametrize(("story", "patch"), [pytest.param(s, p, id=name) for name, s, p in MUTANTS])
def test_mutant_is_killed(story: str, patch: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch)
    with pytest.raises((AssertionError, LocalError)):
        DISPUTES[story]()


FOUND_BY_CHANCE = (
    "falls_back_to_the_agreement",
    "reveals_any_body",
    "reports_while_the_body_is_missing",
    "index_keeps_the_first_deadline",
    "each_plea_adds_a_period",
    "silence_is_free",
    "pleads_and_claims",
    "concurs_with_any_version",
)
"""The stateful test, which knows no story, must find these too."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND_BY_CHANCE)
def test_the_twin_notices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    next(patch for known, _, patch in MUTANTS if known == name)(monkeypatch)
    with pytest.raises((AssertionError, LocalError)):
        run_state_machine_as_test(Ledgers, settings=BY_CHANCE)


def test_each_mark_of_rules_8_to_17_that_is_the_ledgers_has_a_mutant() -> None:
    """Issue 5: every wording that groups.md marks in brackets. [F8] is the ledger's too: see `test_changing.py`."""
    marks = {"[F1]", "[F4]"}
    assert marks <= {mark for _, _, patch in MUTANTS for mark in marks if mark in (patch.__doc__ or "")}

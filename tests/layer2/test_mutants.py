"""Broken variants of the core. Each must die by the tests here; a rule whose breach goes unnoticed is none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase
from msgspec import structs
from msgspec.structs import replace

from layer1.errors import Refused
from layer1.ledger.agreements import GroupHeader, verify_state
from layer1.ledger.records import Reason, Status
from layer2 import (
    closing,
    committing,
    group,
    machine,
    reconnecting,
    recovering,
    standing,
    state,
    updating,
    value,
    watcher,
    witness,
)
from layer2.events import Persist, Send
from layer2.messages import Inquiry
from layer2.reconnecting import Case
from layer2.records import Pleaded, Recovered, Signed
from layer2.state import Pending
from tests.layer2 import test_any_size as t_any_size
from tests.layer2 import test_closing as t_closing
from tests.layer2 import test_disputes as t_disputes
from tests.layer2 import test_machine as t_machine
from tests.layer2 import test_reconnecting as t_reconnecting
from tests.layer2 import test_recovering as t_recovering
from tests.layer2 import test_updating as t_updating
from tests.layer2 import test_witnessed as t_witnessed
from tests.layer2 import test_witnessed_stateful as t_witnessed_stateful
from tests.layer2.test_stateful import LosesData, Members, OneOfThreeLies, ThreeMembers, run_model
from tests.layer2.test_witnessed_stateful import Witnessed

MODULES = [module for name, module in sys.modules.items() if name.startswith("layer2.")]
Mutate = Callable[[pytest.MonkeyPatch], None]
Kill = Callable[[], Any]
MOST = 800
"""Examples until a mutant counts as alive. Few need more than a hundred; which ones come first differs with the modules
that are loaded, from which Hypothesis takes constants.
"""


def put(patch: pytest.MonkeyPatch, original: Any, mutant: Any) -> None:
    """Replace a function wherever it is used."""
    for module in MODULES:
        for name, found in vars(module).copy().items():
            if found is original:
                patch.setattr(module, name, mutant)


def stateful() -> None:
    """The property test."""
    run_model(Members, MOST, derandomize=True, database=None, phases=[Phase.generate])


def with_three() -> None:
    """The same, of three members."""
    run_model(ThreeMembers, MOST, derandomize=True, database=None, phases=[Phase.generate])


def a_stale_wedge_among_three() -> None:
    """One of three brings an old version."""
    t_any_size.test_rule_14_and_15_a_stale_wedge_by_any_member_loses_and_pays_all_others(3, 1)


def with_a_liar() -> None:
    """The same, and one of the three lies."""
    run_model(OneOfThreeLies, MOST, derandomize=True, database=None, phases=[Phase.generate])


def reordered(original: Any, last: type) -> Any:
    """The same step, with all effects of one kind put at the end."""

    def mutant(*args: Any, **named: Any) -> Any:
        after, effects = original(*args, **named)
        return after, sorted(effects, key=lambda effect: isinstance(effect, last))

    return mutant


def stopped_but_for(code: str) -> Any:
    """A member that overlooks one reason to sign nothing more."""
    original = value.Group.stopped.fget  # type: ignore[attr-defined]

    def mutant(self: value.Group) -> Refused | None:
        reason: Refused | None = original(self)
        return None if reason is not None and reason.code == code else reason

    return property(mutant)


def accept_stale_state(patch: pytest.MonkeyPatch) -> None:
    put(patch, reconnecting.compare, lambda *_: reconnecting.Case.IN_STEP)


def ignore_double_signatures(patch: pytest.MonkeyPatch) -> None:
    put(patch, updating.check_not_double, lambda *_: None)


def keep_any_proof(patch: pytest.MonkeyPatch) -> None:
    """Also what layer 1 would refuse."""
    patch.setattr(GroupHeader, "well_formed", True)


def wedge_without_proof(patch: pytest.MonkeyPatch) -> None:
    original = closing.wedge_payload
    put(patch, original, lambda group: replace(original(group), double=None))


def sign_twice_at_one_version(patch: pytest.MonkeyPatch) -> None:
    """A new link, a new proposal."""
    original = reconnecting.connect

    def mutant(group: Any, member: int) -> Any:
        if group.place.is_primary and group.pending is not None and group.claim is None:
            again = tuple(c for c in group.pending.batch.commands if c.member == 0)
            group = replace(group, pending=None, queue=again + group.queue)
        return original(group, member)

    put(patch, original, mutant)


def forget_on_restart(patch: pytest.MonkeyPatch) -> None:
    original = group._replay

    def mutant(before: Any, record: Any) -> Any:
        after, effects = original(before, record)
        return (replace(after, pending=None) if isinstance(record, Signed) else after), effects

    put(patch, original, mutant)


def commit_before_persist(patch: pytest.MonkeyPatch) -> None:
    put(patch, updating.certify, reordered(updating.certify, Persist))


def send_before_persist(patch: pytest.MonkeyPatch) -> None:
    put(patch, updating.receive_propose, reordered(updating.receive_propose, Persist))


def propose_before_persist(patch: pytest.MonkeyPatch) -> None:
    put(patch, updating.propose, reordered(updating.propose, Persist))


def replay_commands(patch: pytest.MonkeyPatch) -> None:
    """Numbers are not compared."""

    def mutant(place: Any, base: Any, batch: Any) -> Any:
        outcome = (base.body.balances, base.machine_state)
        for command in batch.commands:
            outcome = machine.apply_guarded(
                place.machine, outcome[1], outcome[0], command.member % place.size, command.payload
            )
        return outcome

    put(patch, state.apply_batch, mutant)


def spend_anothers_balance(patch: pytest.MonkeyPatch) -> None:
    put(patch, updating._check_own, lambda *_: None)


def trust_the_machine(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(t_machine, "apply_guarded", lambda m, s, balances, i, c, *_: m.apply(s, balances, i, c))


def distrust_own_handwriting(patch: pytest.MonkeyPatch) -> None:
    """A command that a crash made it forget is refused: the group is stuck."""
    patch.setattr(state.Place, "tag", lambda self, number, payload: bytes(16) if payload else b"")
    original = updating._check_own

    def mutant(before: Any, batch: Any, version: int) -> None:
        original(replace(before, foreign_version=-1), batch, version)

    put(patch, original, mutant)


def sign_after_final(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(value.Group, "stopped", stopped_but_for("group_closing"))


def claim_nothing_after_final(patch: pytest.MonkeyPatch) -> None:
    """[F7] left out, "but a CLAIM": who is left alone with its FINAL can't wedge."""
    original = closing.claim

    def mutant(before: Any) -> Any:
        if before.final is not None:
            raise Refused("group_closing", "after FINAL nothing more is signed")
        return original(before)

    put(patch, original, mutant)


def sign_after_claim(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(value.Group, "stopped", stopped_but_for("group_wedged"))


def sign_after_loss(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(value.Group, "stopped", stopped_but_for("lost_data"))


def commit_after_claim(patch: pytest.MonkeyPatch) -> None:
    original = updating.settle_pending

    def mutant(before: Any) -> Any:
        after, effects = original(replace(before, claim=None))
        return replace(after, claim=before.claim), effects

    put(patch, original, mutant)


def claim_k_too_low(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(value.Group, "highest", property(lambda self: self.state.header))


def claim_from_an_old_store(patch: pytest.MonkeyPatch) -> None:
    put(patch, recovering.lose, lambda group, shown: (group, []))


def final_with_a_version_in_flight(patch: pytest.MonkeyPatch) -> None:
    original = closing.propose_final

    def mutant(before: Any) -> Any:
        after, effects = original(replace(before, pending=None))
        return replace(after, pending=before.pending), effects

    put(patch, original, mutant)


def final_that_gives_a_forfeit_away(patch: pytest.MonkeyPatch) -> None:
    put(patch, closing._pays_enough, lambda *_: True)


def two_versions_in_flight(patch: pytest.MonkeyPatch) -> None:
    original = updating.propose

    def mutant(before: Any, salt: bytes) -> Any:
        if before.pending is None or not before.queue:
            return original(before, salt)
        signed: Pending = before.pending
        after, effects = original(replace(before, state=signed.state, pending=None), salt)
        return replace(after, state=before.state), effects

    put(patch, original, mutant)


def accept_any_signature(patch: pytest.MonkeyPatch) -> None:
    put(patch, verify_state, lambda *_: True)


def report_nothing(patch: pytest.MonkeyPatch) -> None:
    put(patch, watcher.report_payload, lambda *_: None)


def report_once(patch: pytest.MonkeyPatch) -> None:
    original, done = watcher.report_payload, set()

    def mutant(before: Any, shown: Any) -> Any:
        if before.place in done:
            return None
        done.add(before.place)
        return original(before, shown)

    original_hash = state.Place.__hash__
    patch.setattr(state.Place, "__hash__", lambda self: hash((self.group_id, self.index)))
    assert original_hash is not None
    put(patch, original, mutant)


def sign_while_the_disk_fails(patch: pytest.MonkeyPatch) -> None:
    put(patch, group._step_frozen, lambda before, event: group.step(replace(before, frozen=""), event))


def commit_on_ones_own_signature(patch: pytest.MonkeyPatch) -> None:
    """As if every group were a pair."""
    original = updating.receive_propose

    def mutant(before: Any, member: int, message: Any) -> Any:
        after, effects = original(before, member, message)
        if after.pending is None or after.pending == before.pending:
            return after, effects
        after, more = updating.settle_pending(after)
        return after, effects + more

    put(patch, original, mutant)


def certify_without_the_last(patch: pytest.MonkeyPatch) -> None:
    """The primary goes on when all but one have signed."""
    original = updating.receive_accept

    def mutant(before: Any, member: int, message: Any, salt: bytes) -> Any:
        after, effects = original(before, member, message, salt)
        if after.pending is None or after.pending.signatures.count(None) != 1 or effects:
            return after, effects
        return updating.certify(after, salt)

    put(patch, original, mutant)


def pass_nothing_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(state.Place, "primary_relays", False)


def speak_with_everybody(patch: pytest.MonkeyPatch) -> None:
    """Sessions between members that are not the primary."""
    peers = property(lambda self: tuple(i for i in range(self.size) if i != self.index))
    patch.setattr(state.Place, "peers", peers)


def trust_a_place_once_filled(patch: pytest.MonkeyPatch) -> None:
    """Where a signature was verified, any other passes."""
    original = updating.check_certificate

    def mutant(before: Any, certificate: Any, known: Any = ()) -> None:
        mixed = tuple(k or s for k, s in zip(known, certificate.signatures, strict=False)) or certificate.signatures
        original(before, replace(certificate, signatures=mixed), known)

    put(patch, original, mutant)


def leave_the_parent_open(patch: pytest.MonkeyPatch) -> None:
    put(patch, updating._certify_parent, lambda before, message: (before, []))


def believe_every_signature_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "verify_state", lambda *_: True)


def tell_nobody_who_is_gone(patch: pytest.MonkeyPatch) -> None:
    put(patch, standing.tell_news, lambda *_: [])


def tell_everybody_everything(patch: pytest.MonkeyPatch) -> None:
    original = standing.tell_news
    put(patch, original, lambda before, after, member: original(replace(before, in_step=frozenset()), after, member))


def think_everybody_is_there(patch: pytest.MonkeyPatch) -> None:
    """Until the primary says who is not."""
    original = reconnecting._go_on_as_member

    def mutant(before: Any, message: Any) -> Any:
        after, effects = original(before, message)
        return replace(after, told_absent=frozenset()), effects

    put(patch, original, mutant)


def ask_nobody(patch: pytest.MonkeyPatch) -> None:
    put(patch, standing.send_inquiry, lambda before: (before, []))


def show_a_final_once(patch: pytest.MonkeyPatch) -> None:
    original = standing.standing
    patch.setattr(standing, "standing", lambda before: replace(original(before), final_signatures=()))


def mistake(case: reconnecting.Case, other: reconnecting.Case) -> Mutate:
    """Rule 5: the answer to another of the six cases."""
    original = reconnecting.compare

    def mutate(patch: pytest.MonkeyPatch) -> None:
        def mutant(*args: Any) -> reconnecting.Case:
            found = original(*args)
            return other if found is case else found

        put(patch, original, mutant)

    mutate.__name__ = f"{case.name}_for_{other.name}"
    return mutate


def tell_how_old_it_is(patch: pytest.MonkeyPatch) -> None:
    put(patch, recovering.ask, updating.resume)


def show_nothing(patch: pytest.MonkeyPatch) -> None:
    put(patch, recovering.show, lambda group, member: Send(member, Inquiry(group.group_id)))


def believe_what_is_shown(patch: pytest.MonkeyPatch) -> None:
    put(patch, recovering._check_newest, lambda *_: None)


def claim_though_lost(patch: pytest.MonkeyPatch) -> None:
    original = closing.send_wedge
    put(patch, original, lambda group: original(replace(group, lost=False)))


def forget_the_plea(patch: pytest.MonkeyPatch) -> None:
    original = group._replay

    def mutant(before: Any, record: Any) -> Any:
        return (before, []) if isinstance(record, Pleaded) else original(before, record)

    put(patch, original, mutant)


def forget_what_was_recovered(patch: pytest.MonkeyPatch) -> None:
    original = group._replay

    def mutant(before: Any, record: Any) -> Any:
        return (before, []) if isinstance(record, Recovered) else original(before, record)

    put(patch, original, mutant)


def commit_after_a_plea(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(value.Group, "has_spoken", property(lambda self: self.claim is not None))


def sign_with_the_bereft(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(value.Group, "stopped", stopped_but_for("peer_lost_data"))


def leave_the_dispute_alone(patch: pytest.MonkeyPatch) -> None:
    put(patch, recovering.answer_dispute, lambda group, shown, **_: (group, []))


def overlook_ones_own_signature(patch: pytest.MonkeyPatch) -> None:
    put(patch, reconnecting._is_forgotten, lambda *_: False)


def say_the_newest_uninformed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(value.Group, "informed", property(lambda self: True))


def losing_data() -> None:
    """The property test in which honest members lose their disks."""
    run_model(LosesData, MOST, derandomize=True, database=None, phases=[Phase.generate])


def proposal(name: str) -> Kill:
    """One row of the table of bad proposals."""
    row = next(row for row in t_updating.BAD_PROPOSALS if row[0] == name)
    return lambda: t_updating.test_rule_2_a_member_checks_the_whole_batch(*row)


# ----------------------------------------------------------------------------------------------- witnessed groups


def commit_without_acks(patch: pytest.MonkeyPatch) -> None:
    """A certificate alone counts as committed."""
    original = committing.certified

    def mutant(before: Any, version: Any) -> Any:
        after, effects = original(before, version)
        while after.tail:
            after, more = committing.commit_oldest(after)
            effects = [*effects, *more]
        return after, effects

    put(patch, original, mutant)


def commit_without_one_ack(patch: pytest.MonkeyPatch) -> None:
    """All but one are enough."""
    original = committing.settle_tail

    def mutant(before: Any) -> Any:
        lowest = min(range(len(before.acked)), key=lambda place: before.acked[place]) if before.acked else None
        levels = tuple(before.version if i == lowest else each for i, each in enumerate(before.acked))
        after, effects = original(replace(before, acked=levels))
        return replace(after, acked=before.acked), effects

    put(patch, original, mutant)


def take_any_signature_for_an_ack(patch: pytest.MonkeyPatch) -> None:
    """In a larger group too: who signed s holds Cert(s)."""
    put(patch, committing.note_signed, committing.note)


def believe_every_ack(patch: pytest.MonkeyPatch) -> None:
    put(patch, committing.verify_ack, lambda *_: True)


def acknowledge_nothing_after_final(patch: pytest.MonkeyPatch) -> None:
    """Nor say again what was ACKed before it."""
    original = committing.acknowledge
    put(patch, original, lambda before: [] if before.final is not None else original(before))


def acknowledge_after_a_claim(patch: pytest.MonkeyPatch) -> None:
    """[F3] left out, at a member."""
    original = committing.acknowledge
    put(patch, original, lambda before: original(replace(before, claim=None)))


def commit_on_late_acks(patch: pytest.MonkeyPatch) -> None:
    """[F2] left out: ACKs that come after the own claim commit."""
    original = committing.settle_tail

    def mutant(before: Any) -> Any:
        after, effects = original(replace(before, claim=None))
        return replace(after, claim=before.claim), effects

    put(patch, original, mutant)


def ack_after_the_claim(patch: pytest.MonkeyPatch) -> None:
    """[F3] left out, at the witness."""
    original = witness._receive_hold

    def mutant(before: Any, member: int, message: Any) -> Any:
        after, effects = original(replace(before, claim=None), member, message)
        return replace(after, claim=before.claim), effects

    put(patch, original, mutant)


def ack_before_persist(patch: pytest.MonkeyPatch) -> None:
    put(patch, witness._receive_hold, reordered(witness._receive_hold, Persist))


def claim_without_proof(patch: pytest.MonkeyPatch) -> None:
    """On any news of the group, wedged or not."""
    original = witness._observe

    def mutant(before: Any, shown: Any) -> Any:
        return original(before, structs.replace(shown, status=Status.WEDGED) if shown.status is Status.OPEN else shown)

    put(patch, original, mutant)


def claim_something_else_than_it_acked(patch: pytest.MonkeyPatch) -> None:
    """The witness forgets what it holds when it starts again."""
    original = witness.replay

    def mutant(signer: Any, before: Any, record: Any) -> Any:
        return before if isinstance(record, witness.Kept) else original(signer, before, record)

    put(patch, original, mutant)


def hold_what_not_all_signed(patch: pytest.MonkeyPatch) -> None:
    put(patch, witness._check_certificate, lambda *_: None)


def go_on_without_acks(patch: pytest.MonkeyPatch) -> None:
    """Any number of versions may wait."""
    put(patch, committing.in_window, lambda *_: True)


def keep_undone_versions(patch: pytest.MonkeyPatch) -> None:
    """What layer 1 settled below is committed all the same."""
    original = watcher._decide

    def mutant(before: Any, shown: Any) -> Any:
        return original(before, structs.replace(shown, reason=Reason.FINAL))

    put(patch, original, mutant)


def keep_the_body_to_oneself(patch: pytest.MonkeyPatch) -> None:
    put(patch, watcher._body_of, lambda *_: None)


def witnessed() -> None:
    """The model of 2 + 1."""
    run_model(Witnessed, MOST, derandomize=True, database=None, phases=[Phase.generate])


MUTANTS: list[tuple[Mutate, Kill]] = [
    (accept_stale_state, lambda: t_reconnecting.test_a_member_lost_data(1)),
    (ignore_double_signatures, t_updating.test_rule_5_never_sign_two_bodies_at_one_version),
    (keep_any_proof, t_disputes.test_rule_9_what_layer_1_takes_for_no_proof_keeps_no_report_back),
    (wedge_without_proof, t_disputes.test_rule_15_a_quick_claim_does_not_end_the_dispute_before_the_proof_is_there),
    (sign_twice_at_one_version, t_reconnecting.test_in_step_while_a_proposal_was_lost),
    (sign_twice_at_one_version, stateful),
    (forget_on_restart, t_updating.test_rule_5_a_restart_forgets_no_signature),
    (forget_on_restart, stateful),
    (commit_before_persist, t_updating.test_rule_3_the_primary_persists_before_it_says_committed),
    (commit_before_persist, stateful),
    (send_before_persist, t_updating.test_rule_1_one_round_trip_and_two_syncs_until_the_payee_is_sure),
    (send_before_persist, stateful),
    (propose_before_persist, stateful),
    (replay_commands, proposal("a number that was applied")),
    (spend_anothers_balance, proposal("a command of the member that it never issued")),
    (trust_the_machine, lambda: t_machine.test_no_machine_takes_from_others_or_makes_money(b"200,1")),
    (distrust_own_handwriting, t_reconnecting.test_a_command_forgotten_in_a_crash_applies_at_most_once),
    (distrust_own_handwriting, stateful),
    (sign_after_final, t_closing.test_rule_7_a_member_that_signed_final_answers_no_proposal),
    (claim_nothing_after_final, lambda: t_closing.test_rule_7_after_final_it_signs_nothing_more_but_a_claim(1)),
    (sign_after_claim, t_closing.test_rule_8_nothing_is_signed_after_a_claim_and_the_first_one_stands),
    (sign_after_loss, lambda: t_reconnecting.test_a_member_lost_data(1)),
    (mistake(Case.IN_STEP, Case.I_LOST_DATA), t_reconnecting.test_in_step),
    (mistake(Case.THEY_ARE_BEHIND, Case.THEY_LOST_DATA), t_reconnecting.test_behind_by_one_is_no_loss),
    (mistake(Case.I_AM_BEHIND, Case.I_LOST_DATA), t_reconnecting.test_they_are_behind_by_one_and_i_am),
    (mistake(Case.THEY_LOST_DATA, Case.IN_STEP), t_reconnecting.test_each_side_finds_the_loss_by_itself),
    (mistake(Case.I_LOST_DATA, Case.IN_STEP), t_reconnecting.test_each_side_finds_the_loss_by_itself),
    (ignore_double_signatures, t_reconnecting.test_they_lie_with_another_header_that_they_signed),
    (tell_how_old_it_is, lambda: t_recovering.test_f5_it_asks_before_it_says_anything_about_its_own(1)),
    (show_nothing, lambda: t_recovering.test_f5_it_gets_back_what_the_other_holds_and_both_close(0, 4)),
    (believe_what_is_shown, t_recovering.test_what_is_shown_is_checked),
    (claim_though_lost, lambda: t_recovering.test_f5_it_signs_no_state_and_no_claim_and_nobody_signs_with_it(1)),
    (claim_though_lost, losing_data),
    (forget_the_plea, t_recovering.test_rule_13_a_plea_that_was_lost_on_its_way_is_brought_again),
    (
        forget_what_was_recovered,
        lambda: t_recovering.test_f5_the_loss_and_what_was_recovered_survive_restarts(1),
    ),
    (commit_after_a_plea, t_recovering.test_rule_3_after_a_plea_nothing_becomes_committed),
    (
        sign_with_the_bereft,
        lambda: t_recovering.test_f5_it_signs_no_state_and_no_claim_and_nobody_signs_with_it(1),
    ),
    (leave_the_dispute_alone, t_recovering.test_rule_13_a_plea_that_comes_second_joins_the_dispute),
    (leave_the_dispute_alone, t_recovering.test_rule_12_who_lost_the_body_pleads_and_keeps_its_bond),
    (
        overlook_ones_own_signature,
        t_recovering.test_f5_a_primary_of_three_is_shown_its_own_signature_in_a_members_resume,
    ),
    (say_the_newest_uninformed, t_recovering.test_f5_nobody_says_which_state_is_the_newest_before_it_was_shown),
    (commit_after_claim, t_updating.test_rule_3_after_a_claim_nothing_becomes_committed),
    (claim_k_too_low, t_closing.test_rule_8_a_wedge_carries_the_newest_certificate_and_the_claim),
    (claim_k_too_low, lambda: t_disputes.test_an_honest_member_never_forfeits_with_a_version_in_flight(0, False)),
    (claim_from_an_old_store, t_disputes.test_f5_a_member_shown_its_own_signature_claims_nothing),
    (final_with_a_version_in_flight, t_closing.test_rule_7_only_with_nothing_in_flight),
    (final_that_gives_a_forfeit_away, t_disputes.test_rule_7_in_a_dispute_only_if_no_outcome_pays_more),
    (final_that_gives_a_forfeit_away, t_any_size.test_rule_7_who_declines_a_final_blames_nobody),
    (two_versions_in_flight, t_updating.test_rule_1_it_signs_the_next_only_while_holding_the_certificate),
    (accept_any_signature, t_updating.test_rule_2_the_signature_must_be_the_primarys),
    (accept_any_signature, t_updating.test_rule_3_a_wrong_accept_changes_nothing),
    (
        report_nothing,
        lambda: t_disputes.test_a_stale_wedge_at_any_version_settles_on_the_newest_and_costs_the_bond(0, 1),
    ),
    (report_once, t_disputes.test_a_lost_transaction_is_brought_again),
    (sign_while_the_disk_fails, t_updating.test_rule_6_a_disk_that_does_not_confirm_freezes_the_group),
    (commit_on_ones_own_signature, lambda: t_any_size.test_rule_3_a_member_commits_only_on_the_certificate(3)),
    (commit_on_ones_own_signature, with_three),
    (certify_without_the_last, lambda: t_any_size.test_rule_3_a_member_commits_only_on_the_certificate(5)),
    (certify_without_the_last, with_three),
    (pass_nothing_on, lambda: t_any_size.test_all_members_pay_and_all_agree(3)),
    (pass_nothing_on, lambda: t_any_size.test_rule_7_all_sign_the_end_and_anybody_brings_it(3)),
    (speak_with_everybody, t_any_size.test_members_have_sessions_with_the_primary_alone),
    (trust_a_place_once_filled, lambda: t_any_size.test_rule_3_a_commit_is_believed_by_its_signatures(0)),
    (leave_the_parent_open, lambda: t_any_size.test_rule_3_under_load_the_next_proposal_is_the_commit(3)),
    (believe_every_signature_told, lambda: t_any_size.test_what_the_primary_tells_is_checked(0)),
    (tell_nobody_who_is_gone, lambda: t_any_size.test_a_member_that_is_gone_is_named_to_all_and_stops_new_commands(3)),
    (tell_nobody_who_is_gone, t_any_size.test_one_that_lost_data_ends_the_group_and_all_learn_of_it),
    (tell_everybody_everything, t_any_size.test_a_member_that_repeats_itself_costs_the_others_nothing),
    (think_everybody_is_there, t_any_size.test_nobody_counts_as_there_before_the_primary_has_said_so),
    (ask_nobody, lambda: t_any_size.test_a_stuck_group_names_the_member_that_has_not_signed(5, 2)),
    (show_a_final_once, t_any_size.test_rule_7_a_member_that_missed_the_last_signature_gets_it_on_the_next_link),
    (commit_before_persist, with_three),
    (send_before_persist, with_three),
    (propose_before_persist, with_three),
    (forget_on_restart, with_three),
    (distrust_own_handwriting, with_three),
    (report_nothing, a_stale_wedge_among_three),
    (claim_k_too_low, with_three),
    (ignore_double_signatures, with_a_liar),
    (spend_anothers_balance, with_a_liar),
    (accept_any_signature, with_a_liar),
    (sign_after_claim, with_a_liar),
    (commit_without_acks, lambda: t_witnessed.test_rule_3_committed_needs_the_ack_of_every_witness(3, 3)),
    (commit_without_acks, witnessed),
    (commit_without_one_ack, lambda: t_witnessed.test_rule_3_committed_needs_the_ack_of_every_witness(2, 2)),
    (commit_without_one_ack, lambda: t_witnessed.test_rule_3_committed_needs_the_ack_of_every_member(1)),
    (take_any_signature_for_an_ack, lambda: t_witnessed.test_rule_3_committed_needs_the_ack_of_every_member(2)),
    (believe_every_ack, t_witnessed.test_acks_of_others_are_checked),
    (commit_on_late_acks, t_witnessed.test_f2_an_ack_that_arrives_after_the_claim_commits_nothing),
    (acknowledge_nothing_after_final, t_witnessed.test_rule_7_behind_final_an_ack_is_said_again_byte_for_byte),
    (acknowledge_nothing_after_final, t_witnessed_stateful.test_an_ack_that_two_forgot_is_said_again_after_final),
    (acknowledge_after_a_claim, t_witnessed.test_f3_nor_is_it_said_again_after_a_claim_behind_final),
    (ack_after_the_claim, t_witnessed.test_f3_a_witness_acks_nothing_after_its_claim),
    (ack_before_persist, t_witnessed.test_a_witness_persists_before_it_acks),
    (ack_before_persist, witnessed),
    (claim_without_proof, t_witnessed.test_a_witness_claims_only_on_layer_1s_word_that_the_group_is_wedged),
    (claim_without_proof, witnessed),
    (claim_something_else_than_it_acked, t_witnessed.test_a_lost_claim_is_brought_again_and_stands),
    (claim_something_else_than_it_acked, witnessed),
    (hold_what_not_all_signed, lambda: t_witnessed.test_a_witness_checks_what_it_acks("signature")),
    (go_on_without_acks, t_witnessed.test_rule_1_the_next_version_is_signed_while_acks_are_on_their_way),
    (go_on_without_acks, t_witnessed.test_a_proposal_that_proves_no_acks_is_refused),
    (keep_undone_versions, t_witnessed.test_what_layer_1_settles_below_is_undone_and_its_commands_are_rejected_then),
    (
        keep_the_body_to_oneself,
        t_witnessed.test_a_witness_brings_the_header_that_layer_1_lacks_and_a_member_its_body,
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("mutate", "kill"), MUTANTS, ids=[f"{m.__name__}-{k.__name__}" for m, k in MUTANTS])
def test_the_mutant_dies(mutate: Mutate, kill: Kill) -> None:
    """The test passes on the core as it is, and fails on the mutant."""
    if kill not in (stateful, with_three, with_a_liar, witnessed, losing_data):
        kill()
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        with pytest.raises(BaseException) as death:
            kill()
    assert not isinstance(death.value, KeyboardInterrupt | TypeError | NameError), "the mutant does not even run"

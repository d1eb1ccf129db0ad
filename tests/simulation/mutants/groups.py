"""Groups turned around, rule by rule (docs/design/groups.md), in their core, their driver and the wallet's watcher.

Those that break the core alone are the same as in `tests.layer2.test_mutants`: whole wallets must find them, too.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs
from msgspec.structs import replace

from layer1.errors import LocalError
from layer1.ledger import disputes, records, settlement
from layer1.ledger.agreements import Certificate, Claim, GroupAgreement
from layer1.ledger.records import Group as LedgerGroup
from layer2 import committing, reconnecting, updating, watcher
from layer2 import group as core
from layer2.driver import GroupHost
from layer2.events import Committed, Effect, Event
from layer2.messages import Resume
from layer2.records import Claimed, Record
from layer2.state import Pending, State
from layer2.updating import Step
from layer2.value import Group
from tests.layer2 import test_mutants as known
from tests.layer2.test_mutants import put
from tests.simulation.mutants.group_grounds import CUT, FAILING, HONEST, IDLE, KILLED, KILLED_WIDE, beside
from tests.simulation.mutants.registry import mutant
from wallet.book import ChannelRecord
from wallet.follower import Follower

STEALING, STALE, GOING_ON = beside("stealing"), beside("wedging stale"), beside("going on")
LAST_MOMENT_MS = 100
"""Before the deadline; a report takes longer to become final than the watcher then has, now and then."""

# ----------------------------------------------------------------------------------------------------- rules 1 to 4


@mutant("groups.md, rule 1: it signs s+1 only while holding Cert(s)", HONEST, 10)
def proposes_without_certificate(patch: pytest.MonkeyPatch) -> None:
    """A version is proposed on one that the other member has not signed yet."""
    known.two_versions_in_flight(patch)


@mutant("groups.md, rule 2: its own balance falls only by commands that it issued itself", STEALING, 10)
def lets_others_spend(patch: pytest.MonkeyPatch) -> None:
    """A member signs whatever adds up."""
    known.spend_anothers_balance(patch)


@mutant("groups.md, rule 2: it persists ..., then sends", HONEST, 5)
def performs_before_sync(patch: pytest.MonkeyPatch) -> None:
    """What was signed leaves before it is durable."""
    step = GroupHost._step

    def _step(self: GroupHost, group_id: bytes, event: Event) -> list[Effect]:
        effects = step(self, group_id, event)
        done, self._effects = self._effects, []
        self._perform(done)
        return effects

    patch.setattr(GroupHost, "_step", _step)


@mutant("groups.md, rule 3: after signing a CLAIM nothing becomes committed except by layer 1 [F2]", STALE, 100)
def commits_after_claim(patch: pytest.MonkeyPatch) -> None:
    """An Accept that comes late completes a version that the CLAIM denies."""
    known.commit_after_claim(patch)


# ----------------------------------------------------------------------------------------------------- rules 5 and 6


@mutant("groups.md, rule 5: never sign two bodies at one version", CUT, 10)
def proposes_anew(patch: pytest.MonkeyPatch) -> None:
    """On a new link the primary proposes another batch in place of what it signed."""
    known.sign_twice_at_one_version(patch)


@mutant("groups.md, rule 5: never forget what was signed", KILLED, 20)
def forgets_signatures(patch: pytest.MonkeyPatch) -> None:
    """A restart starts from certificates alone."""
    known.forget_on_restart(patch)


@mutant("groups.md, rule 5: never forget what was signed", KILLED, 20)
def forgets_its_claim(patch: pytest.MonkeyPatch) -> None:
    """A restart takes a group that was wedged for an open one."""
    original = core._replay

    def _replay(group: Group, record: Record) -> Step:
        return (group, []) if isinstance(record, Claimed) else original(group, record)

    put(patch, original, _replay)


@mutant("groups.md, rule 5: never forget what was signed", KILLED, 30)
def compacts_signatures_away(patch: pytest.MonkeyPatch) -> None:
    """A snapshot has the newest certificate, and not what is signed above it."""
    original = core._replay_snapshot
    patch.setattr(core, "_replay_snapshot", lambda group, record: original(group, replace(record, pending=None)))


@mutant("groups.md, rule 5: the identical bytes", CUT, 20)
def issues_again(patch: pytest.MonkeyPatch) -> None:
    """A command that waits is issued on the next link under another number, too."""
    original = reconnecting._go_on_as_member

    def _go_on_as_member(group: Group, message: Resume) -> Step:
        again = tuple(
            replace(command, number=number, tag=group.place.tag(number, command.payload))
            for number, command in enumerate(group.outbox, group.next_number)
        )
        grown = replace(group, outbox=group.outbox + again, next_number=group.next_number + len(again))
        return original(grown, message)

    put(patch, original, _go_on_as_member)


@mutant("groups.md, rule 5: never retried elsewhere until its fate is known", KILLED_WIDE, 40)
def disowns_its_handwriting(patch: pytest.MonkeyPatch) -> None:
    """A command that a crash made it forget is held against the primary."""
    original = updating._check_own

    def _check_own(group: Group, batch: Any, version: int) -> None:
        original(replace(group, foreign_version=-1), batch, version)

    put(patch, original, _check_own)


@mutant("groups.md, rule 3: committed", KILLED_WIDE, 60)
def commits_before_refusing(patch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a number hears of another command that had it before a crash (once a bug of ours)."""
    original = committing.commit

    def commit(group: Group, version: Pending, before: State) -> Step:
        group, effects = original(group, version, before)
        return group, sorted(effects, key=lambda effect: not isinstance(effect, Committed))

    put(patch, original, commit)


@mutant("groups.md, rule 6: a disk that does not confirm freezes the group", FAILING, 10)
def goes_on_without_disk(patch: pytest.MonkeyPatch) -> None:
    """A sync that failed is taken for one that was not needed."""
    patch.setattr(GroupHost, "_freeze", lambda self, reason: None)


# ----------------------------------------------------------------------------------------------------- rules 7 and 8


@mutant("groups.md, rule 7: only with nothing in flight", HONEST, 10)
def ends_in_flight(patch: pytest.MonkeyPatch) -> None:
    """FINAL is signed on the version below the one in flight."""
    known.final_with_a_version_in_flight(patch)


@mutant("groups.md, rule 7: after it signs nothing more in that epoch but a CLAIM", GOING_ON, 20)
def signs_after_final(patch: pytest.MonkeyPatch) -> None:
    """A group that is being closed goes on."""
    known.sign_after_final(patch)


@mutant("groups.md, rule 8: the highest version that I ever signed is k", HONEST, 20)
def claims_too_little(patch: pytest.MonkeyPatch) -> None:
    """A CLAIM names the newest certificate in place of the highest signature."""
    known.claim_k_too_low(patch)


@mutant("groups.md, rule 8: a member's first claim in an epoch stands", HONEST, 20)
def signs_after_claim(patch: pytest.MonkeyPatch) -> None:
    """A group that is wedged goes on."""
    known.sign_after_claim(patch)


# -------------------------------------------------------------------------------------------- the watch, rules 9 to 18


@mutant("groups.md, rule 9: anybody may report a certificate with a higher version", STALE, 10)
def reports_nothing(patch: pytest.MonkeyPatch) -> None:
    """The core sees a stale wedge, and has nothing to say."""
    known.report_nothing(patch)


@mutant("groups.md, rule 9: until the deadline", STALE, 10)
def looks_away(patch: pytest.MonkeyPatch) -> None:
    """The watcher sees a dispute, and does not ask the core."""

    def _answer(self: Follower, record: ChannelRecord, group: LedgerGroup, clock_ms: int) -> None:
        if group.status is not records.Status.WEDGED:
            answer(self, record, group, clock_ms)

    answer = Follower._answer
    patch.setattr(Follower, "_answer", _answer)


@mutant("groups.md, rule 3: except by layer 1", beside("withholding"), 40)
def calls_the_settled_dead(patch: pytest.MonkeyPatch) -> None:
    """What was in flight when layer 1 settled on it is refused all the same."""
    original = watcher._observe_closed

    def _observe_closed(group: Group, shown: LedgerGroup) -> Step:
        below = structs.replace(shown, certificate=group.certificate)
        return original(group, below)

    put(patch, original, _observe_closed)


@mutant("architecture.md: hosts what layer 1 has opened", IDLE, 5)
def adopts_nothing(patch: pytest.MonkeyPatch) -> None:
    """The watcher does not take over a channel that layer 1 has."""

    def _adopt(self: Follower, record: ChannelRecord) -> None:
        raise LocalError("nothing is hosted")

    patch.setattr(Follower, "_adopt", _adopt)


@mutant("groups.md, rule 18: how long must the period be?", STALE, 10)
def answers_at_the_last_moment(patch: pytest.MonkeyPatch) -> None:
    """The watcher leaves itself no time for the report to become final."""
    answer = Follower._answer

    def _answer(self: Follower, record: ChannelRecord, group: LedgerGroup, clock_ms: int) -> None:
        left_ms = (group.deadline_ms or 0) - (self.clock_ms or 0)
        if group.status is not records.Status.WEDGED or left_ms < LAST_MOMENT_MS:
            answer(self, record, group, clock_ms)

    patch.setattr(Follower, "_answer", _answer)


@mutant("groups.md, rule 15: a CLAIM is provably false", STALE, 10)
def lets_liars_off(patch: pytest.MonkeyPatch) -> None:
    """No CLAIM is ever false."""
    patch.setattr(disputes, "is_false", lambda claim, certificate: False)


@mutant("groups.md, rule 15: a signature at s+1 without certificate is no proof of anything", HONEST, 20)
def punishes_the_behind(patch: pytest.MonkeyPatch) -> None:
    """A CLAIM is measured by its certificate, s, and not by what it says was signed, k."""

    def is_false(claim: Claim, certificate: Certificate) -> bool:
        return bool(certificate.signatures) and certificate.header.version > claim.version

    patch.setattr(disputes, "is_false", is_false)


@mutant("groups.md, rule 16: the penalty is the bond, not the balance", STALE, 10)
def takes_the_balance(patch: pytest.MonkeyPatch) -> None:
    """Who lied gets nothing at all."""
    original = settlement.entitlements

    def entitlements(agreement: GroupAgreement, balances: Any, forfeits: Any, pleas: Any) -> tuple[int, ...]:
        first, second = original(agreement, balances, forfeits, pleas)
        if forfeits.count(None) != 1:
            return first, second
        return (0, first + second) if forfeits[0] else (first + second, 0)

    patch.setattr(settlement, "entitlements", entitlements)

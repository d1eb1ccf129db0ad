"""Consensus turned around, rule by rule (docs/design/consensus.md, "Objects", "Rules", "Time")."""

from __future__ import annotations

import pytest

from layer1.consensus import core
from layer1.consensus.certificates import Checker, Vote, votes_of
from layer1.consensus.chain import Block, Chain, header_fault
from layer1.consensus.config import Config
from layer1.consensus.core import Consensus
from layer1.consensus.events import Broadcast, Effect, Event, Now, Persist
from layer1.consensus.messages import Certificate, Finalization, Notarization, Nullify, Proposal, View
from layer1.consensus.pacing import Pacing
from layer1.consensus.records import Restored
from layer1.consensus.votes import OwnVotes
from layer1.header import Header
from tests.simulation.mutants.grounds import CENSORED, CRASHES, POWER, TWINS, WHOLE, consensus
from tests.simulation.mutants.registry import mutant

# ---------------------------------------------------------------------------------------------------------- objects


@mutant("Model: q = n - f", TWINS, 10)
def small_quorum(patch: pytest.MonkeyPatch) -> None:
    """A quorum has one vote less."""
    patch.setattr(Config, "quorum", property(lambda self: len(self.replicas) - self.faulty - 1))


@mutant("Objects: q votes of distinct replicas", consensus(1, traitor=True), 20)
def counts_replicas_twice(patch: pytest.MonkeyPatch) -> None:
    """One replica's votes fill a certificate."""

    def certificate(self: Checker, certificate: Certificate) -> None:
        for vote in votes_of(certificate):
            self.vote(vote)

    patch.setattr(Checker, "certificate", certificate)


@mutant("Objects: each signed", consensus(1, traitor=True), 20)
def checks_no_signatures(patch: pytest.MonkeyPatch) -> None:
    """Everybody may vote in everybody's name."""

    def vote(self: Checker, vote: Vote) -> None:
        self.vote_shape(vote)

    patch.setattr(Checker, "vote", vote)


@mutant("Objects: it covers from the latest start among them", TWINS, 20)
def covers_whole_term(patch: pytest.MonkeyPatch) -> None:
    """A nullification that starts inside a term covers all of it."""

    def nullified_from(self: Chain, view: View) -> View | None:
        held = self.nullifications.get(self._config.term(view))
        return None if held is None else self._config.first_view(view)

    patch.setattr(Chain, "nullified_from", nullified_from)


@mutant("Objects: [otherwise one faulty nullify(4..) pulls everyone past view 3]", consensus(8, traitor=True), 30)
def counts_every_start(patch: pytest.MonkeyPatch) -> None:
    """A start inside a term counts without the notarization of the view before it."""
    patch.setattr(Chain, "counts", lambda self, start: True)


# ------------------------------------------------------------------------------------------------------ rules 1 to 4


@mutant("rule 1: or on any later certificate (jump forward)", TWINS, 20)
def never_jumps(patch: pytest.MonkeyPatch) -> None:
    """Only the certificates of the current view lead out of it."""
    enter = Consensus._enter

    def _enter(self: Consensus, view: View, *, nullified: bool) -> None:
        if self.config.term(view - 1) <= self.config.term(self.view) and (nullified or view == self.view + 1):
            enter(self, view, nullified=nullified)

    patch.setattr(Consensus, "_enter", _enter)


@mutant("rule 2: all views between are covered by nullifications", consensus(1, traitor=True), 120)
def skips_gaps(patch: pytest.MonkeyPatch) -> None:
    """A parent is taken however far back it is."""
    patch.setattr(Chain, "uncovered", lambda self, parent_view, view: None)


@mutant("rule 3: never notarize two blocks in one view", TWINS, 10)
def notarizes_twice(patch: pytest.MonkeyPatch) -> None:
    """A second proposal in a view gets a vote, too."""
    on_proposal = Consensus._on_proposal

    def _on_proposal(self: Consensus, sender: int, proposal: Proposal) -> None:
        self.chain.first.pop(proposal.header.view, None)
        self._own.notarized.pop(proposal.header.view, None)
        on_proposal(self, sender, proposal)

    patch.setattr(Consensus, "_on_proposal", _on_proposal)


@mutant("rule 4: q notarize votes ... cast finalize(v)", consensus(1, traitor=True), 60)
def finalizes_what_it_notarizes(patch: pytest.MonkeyPatch) -> None:
    """The finalize vote goes with the notarize vote."""
    notarize = Consensus._notarize

    def _notarize(self: Consensus, block: Block) -> None:
        notarize(self, block)
        self._finalize(block.header.view, block.id)

    patch.setattr(Consensus, "_notarize", _notarize)


# ---------------------------------------------------------------------------------------------------- rules 5, 6 and 8


@mutant("rule 5: never cast finalize(w) after a nullify whose range contains w", TWINS, 10)
def finalizes_after_nullify(patch: pytest.MonkeyPatch) -> None:
    """A late notarization gets a finalize vote although the view was given up."""
    patch.setattr(OwnVotes, "may_finalize", lambda self, view: view not in self.finalized)


@mutant("rule 5: never cast a nullify whose range contains a view for which finalize was cast; [S1]", TWINS, 20)
def nullifies_after_finalize(patch: pytest.MonkeyPatch) -> None:
    """A replica gives up its whole term, whatever it finalized there."""

    def _nullify(self: Consensus) -> bool:
        first = max(self.chain.floor.view + 1, self.config.first_view(self.view))
        if self.config.term(first) in self._own.nullified:
            return False
        self._cast(self._signer.nullify(first))
        return True

    patch.setattr(Consensus, "_nullify", _nullify)


@mutant("rule 5: [S1]", TWINS, 100)
def starts_below(patch: pytest.MonkeyPatch) -> None:
    """A range starts at the first view of the term that was not finalized, not at the current one."""

    def _nullify(self: Consensus) -> bool:
        first = max(self.config.first_view(self.view), self.chain.floor.view + 1)
        starts = [start for start in range(first, self.view + 1) if self._own.may_nullify(start)]
        if not starts or self.view < self._vote_from:
            return False
        self._cast(self._signer.nullify(starts[0]))
        return True

    patch.setattr(Consensus, "_nullify", _nullify)


@mutant("rule 5: [S1]", TWINS, 60)
def starts_above(patch: pytest.MonkeyPatch) -> None:
    """A range starts after the current view, which then may never end."""

    def _nullify(self: Consensus) -> bool:
        start = min(self.view + 1, self.config.last_view(self.view))
        if not self._own.may_nullify(start) or self.view < self._vote_from:
            return False
        self._cast(self._signer.nullify(start))
        return True

    patch.setattr(Consensus, "_nullify", _nullify)


@mutant("rule 5: kept across restarts", consensus(1, traitor=False), 40)
def forgets_votes(patch: pytest.MonkeyPatch) -> None:
    """A restart starts from certificates alone."""
    restore = Consensus._restore

    def _restore(self: Consensus, restored: Restored) -> None:
        restored.votes.clear()
        restore(self, restored)

    patch.setattr(Consensus, "_restore", _restore)


@mutant("rule 5: kept across restarts", WHOLE, 100)
def finalizes_after_nullify_across_a_restart(patch: pytest.MonkeyPatch) -> None:
    """A restart forgets what was nullified, and only that."""
    restore = Consensus._restore

    def _restore(self: Consensus, restored: Restored) -> None:
        restored.votes[:] = [vote for vote in restored.votes if not isinstance(vote, Nullify)]
        restore(self, restored)

    patch.setattr(Consensus, "_restore", _restore)


@mutant("rule 6: when a timer of v fires", TWINS, 60)
def never_times_out(patch: pytest.MonkeyPatch) -> None:
    """Nobody gives a view up because of the time."""
    patch.setattr(Consensus, "_deadline_ms", lambda self: None)


@mutant("rule 6: pending longer than the inclusion timeout", CENSORED, 5)
def lets_leaders_censor(patch: pytest.MonkeyPatch) -> None:
    """A leader that proposes in time may leave out what it likes."""
    deadline_ms = Pacing.deadline_ms
    patch.setattr(Pacing, "deadline_ms", lambda self, notarized_ms, _: deadline_ms(self, notarized_ms, None))


@mutant("rule 7: q finalize votes", TWINS, 20)
def commits_the_notarized(patch: pytest.MonkeyPatch) -> None:
    """A notarization is taken for final."""
    certify = Consensus._certify

    def _certify(self: Consensus, certificate: Notarization | Finalization, peer: int) -> None:
        certify(self, certificate, peer)
        if isinstance(certificate, Notarization):
            votes = certificate.signatures
            self._final = Finalization(certificate.epoch, certificate.view, certificate.block, votes)

    patch.setattr(Consensus, "_certify", _certify)


@mutant("rule 8: aged per term", TWINS, 60)
def ages_across_terms(patch: pytest.MonkeyPatch) -> None:
    """What an earlier term left unfinal makes each later one die on entry."""
    deadline = Consensus._deadline_ms

    def _deadline_ms(self: Consensus) -> int | None:
        deadline_ms = deadline(self)
        oldest_ms = next(iter(self._notarized_ms.values()), None)
        if deadline_ms is None or oldest_ms is None:
            return deadline_ms
        return min(deadline_ms, oldest_ms + self.config.stall_timeout_ms)

    patch.setattr(Consensus, "_deadline_ms", _deadline_ms)


# ------------------------------------------------------------------------------------------- rule 10, time, durability


@mutant("rule 10: every t_r without progress rebroadcast", TWINS, 20)
def never_repeats(patch: pytest.MonkeyPatch) -> None:
    """What was lost is not said again."""
    patch.setattr(Consensus, "_repeat", lambda self: None)


@mutant("rule 10: far behind, that is while blocks below the newest known finalization are missing here", POWER, 30)
def forgets_ancestors_of_what_is_final(patch: pytest.MonkeyPatch) -> None:
    """What lies far below the newest finalization is dropped, also if that one is about to commit it."""
    patch.setattr(Chain, "_above_floor", lambda self: set())
    patch.setattr(Chain, "reaches_floor", lambda self, block: False)


@mutant(
    "Time: [without this a backdating leader ran the ledger clock at up to 51 times real time]",
    consensus(1, traitor=True),
    60,
)
def takes_time_running_back(patch: pytest.MonkeyPatch) -> None:
    """A block may be older than its parent."""

    def without_time(header: Header, parent: Header, config: Config) -> str | None:
        fault = header_fault(header, parent, config)
        return None if fault is not None and "wall time" in fault else fault

    patch.setattr(core, "header_fault", without_time)


@mutant("Persist before sending", consensus(1, traitor=False), 5)
def sends_first(patch: pytest.MonkeyPatch) -> None:
    """Messages leave before the records are durable."""
    step = Consensus.step

    def out_of_order(self: Consensus, event: Event, now: Now) -> list[Effect]:
        return sorted(step(self, event, now), key=lambda effect: isinstance(effect, Persist))

    patch.setattr(Consensus, "step", out_of_order)


@mutant("Persist before sending: own votes", WHOLE, 5)
def journals_no_votes(patch: pytest.MonkeyPatch) -> None:
    """Votes are cast and not written down."""

    def _cast(self: Consensus, vote: Vote) -> None:
        self._own.add(vote)
        self._emit(Broadcast(vote))
        self._count(vote)

    patch.setattr(Consensus, "_cast", _cast)


@mutant("Persist before sending: restore the view (decision 012)", CRASHES, 40)
def restarts_one_view_ahead(patch: pytest.MonkeyPatch) -> None:
    """A leader that proposed one view ahead comes back in the view of that proposal."""
    patch.setattr(Consensus, "_is_own_early", lambda self, view: False)

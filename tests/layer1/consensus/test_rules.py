"""One test per sentence of docs/design/consensus.md, on one core whose peers are puppets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from layer1.codec import encode
from layer1.consensus import certificates
from layer1.consensus.certificates import Signer
from layer1.consensus.config import Config
from layer1.consensus.core import Consensus
from layer1.consensus.events import (
    Accuse,
    Broadcast,
    Build,
    Built,
    CatchUp,
    CaughtUp,
    Commit,
    Effect,
    Event,
    Now,
    Persist,
    PersistBatches,
    Received,
    Send,
    Started,
    TimerFired,
    Validate,
    Validated,
    WakeAt,
    WorkChanged,
)
from layer1.consensus.messages import (
    Certificate,
    Fetch,
    Finalization,
    Finalize,
    Message,
    Notarization,
    Notarize,
    Nullification,
    Nullify,
    Proposal,
)
from layer1.crypto import Domain, Hash, digest
from layer1.errors import LocalError, RemoteError
from layer1.header import BlockId, Header
from tests.layer1.consensus.network import START_WALL_MS, child, config, genesis, key_of, verify

E = TypeVar("E")
BATCH = (digest(Domain.BATCH, b"one"),)
OTHER = (digest(Domain.BATCH, b"two"),)


@dataclass
class Bench:
    """Replica 3 of four, unless told otherwise; it leads views 3, 7, ... when L is 1."""

    options: dict[str, Any] = field(default_factory=dict)
    index: int = 3
    n: int = 4

    def __post_init__(self) -> None:
        self.config: Config = config(self.n, **self.options)
        self.signers = [Signer(self.config, key_of(index), index) for index in range(self.n)]
        self.records: list[bytes] = []
        self.now_ms = 0
        self.core = self.make()
        self.do(Started())

    def make(self) -> Consensus:
        return Consensus(self.config, key_of(self.index), self.index, genesis(), records=self.records, verify=verify)

    def restart(self) -> list[Effect]:
        self.core = self.make()
        return self.do(Started())

    def do(self, event: Event) -> list[Effect]:
        effects = self.core.step(event, Now(self.now_ms, START_WALL_MS + self.now_ms))
        self.records += [effect.record for effect in effects if isinstance(effect, Persist)]
        return effects

    def get(self, *messages: Message, sender: int | None = None) -> list[Effect]:
        sender = int(self.index == 0) if sender is None else sender
        return [effect for message in messages for effect in self.do(Received(sender, message))]

    def wait(self, ms: int) -> list[Effect]:
        """Let the time pass in steps, as the driver's timer does."""
        effects: list[Effect] = []
        for _ in range(ms // 10):
            self.now_ms += 10
            effects += self.do(TimerFired())
        return effects

    # what the puppets say

    def proposal(
        self,
        view: int,
        parent: Header,
        *why: Certificate,
        batches: tuple[Hash, ...] = BATCH,
        time_ms: int | None = None,
    ) -> Proposal:
        wall_time = max(START_WALL_MS + (self.now_ms if time_ms is None else time_ms), 0)
        header = child(parent, view, wall_time, batches)
        vote = self.signers[self.config.leader(view)].notarize(view, header.id)
        return Proposal(header, batches, vote, why)

    def notarization(self, view: int, block: BlockId) -> Notarization:
        quorum = self.config.quorum
        return certificates.notarization([signer.notarize(view, block) for signer in self.signers[:quorum]], quorum)

    def finalization(self, view: int, block: BlockId) -> Finalization:
        quorum = self.config.quorum
        return certificates.finalization([signer.finalize(view, block) for signer in self.signers[:quorum]], quorum)

    def nullification(self, *starts: int) -> Nullification:
        starts = starts if len(starts) > 1 else starts * self.config.quorum
        votes = [self.signers[index].nullify(start) for index, start in enumerate(starts)]
        return certificates.nullification(votes, self.config.quorum)

    def notarized(self, view: int, parent: Header, *why: Certificate) -> tuple[Header, Notarization]:
        """Let the core hear of a block, execute it, and see it notarized."""
        proposal = self.proposal(view, parent, *why)
        self.get(proposal)
        certificate = self.notarization(view, proposal.vote.block)
        self.get(certificate)
        self.do(Validated(proposal.vote.block, True))
        return proposal.header, certificate


def of(effects: Iterable[Effect], kind: type[E]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def said(effects: Iterable[Effect], kind: type[E]) -> list[E]:
    """What was broadcast or sent, of one kind."""
    return [
        effect.message
        for effect in effects
        if isinstance(effect, Broadcast | Send) and isinstance(effect.message, kind)
    ]


# ------------------------------------------------------------------------------------------------------------- rule 1


@pytest.mark.parametrize(
    ("term_views", "make", "view"),
    [
        (1, lambda b: b.notarization(1, bytes(32)), 2),
        (1, lambda b: b.notarization(9, bytes(32)), 10),
        (1, lambda b: b.finalization(4, bytes(32)), 5),
        (1, lambda b: b.nullification(1), 2),
        (1, lambda b: b.nullification(6), 7),
        (8, lambda b: b.nullification(1), 8),
        (8, lambda b: b.nullification(16), 24),
        (8, lambda b: b.notarization(10, bytes(32)), 11),
    ],
)
def test_enter(term_views: int, make: Any, view: int) -> None:
    """Enter v on a notarization of v-1, on a nullification of the current term, or on any later certificate."""
    bench = Bench({"term_views": term_views})
    bench.get(make(bench))
    assert bench.core.view == view


def test_never_backwards() -> None:
    """Rule 1: an older certificate does not lead back."""
    bench = Bench()
    bench.get(bench.notarization(5, bytes(32)), bench.nullification(3))
    assert bench.core.view == 6


def test_leaving_a_view_cancels_its_timers() -> None:
    """Leaving a view cancels its timers."""
    bench = Bench()
    bench.do(WorkChanged(True, None))
    bench.wait(900)
    bench.get(bench.nullification(1))
    assert said(bench.wait(900), Nullify) == []
    assert [vote.start for vote in said(bench.wait(2_000), Nullify)][:1] == [2]


# ------------------------------------------------------------------------------------------------------------- rule 2


def test_propose_when_there_is_something_to_order() -> None:
    """Propose when there is something to order; the time asked for is max(now, parent.wall_time)."""
    bench = Bench(index=1)
    assert bench.wait(50) and not of(bench.do(TimerFired()), Build)
    (build,) = of(bench.do(WorkChanged(True, 50)), Build)
    assert build == Build(1, 0, genesis(), START_WALL_MS + 50)
    effects = bench.do(Built(child(genesis(), 1, START_WALL_MS + 50, BATCH), BATCH))
    kinds = [type(effect) for effect in effects]
    assert kinds.index(PersistBatches) < kinds.index(Persist) < kinds.index(Broadcast)
    (proposal,) = said(effects, Proposal)
    assert proposal.vote.replica == 1 and proposal.justification == ()


def test_propose_a_heartbeat() -> None:
    """Propose when a heartbeat is due, counted from the parent."""
    bench = Bench(index=1)
    assert of(bench.wait(9_990), Build) == []
    assert len(of(bench.wait(10), Build)) == 1


def test_propose_filler() -> None:
    """Propose when the last block is notarized but not final after t_r."""
    bench = Bench(index=2)
    bench.notarized(1, genesis())
    assert of(bench.wait(240), Build) == []
    assert [build.view for build in of(bench.wait(10), Build)] == [2]


def test_the_highest_parent() -> None:
    """If several p fit, the highest one known: a notarized view is extended although it is nullified too."""
    bench = Bench(index=3)
    header, _ = bench.notarized(1, genesis())
    bench.get(bench.nullification(1), bench.nullification(2))
    (build,) = of(bench.do(WorkChanged(True, 0)), Build)
    assert (build.view, build.parent) == (3, header)


def test_fetch_dont_build() -> None:
    """If something is missing, fetch, don't build."""
    bench = Bench(index=3)
    effects = bench.get(bench.nullification(2)) + bench.do(WorkChanged(True, 0))
    assert of(effects, Build) == []
    assert Fetch(None, 1, 1) in said(effects, Fetch)
    assert len(of(bench.get(bench.nullification(1)), Build)) == 1


def test_a_proposal_carries_its_justification() -> None:
    """A proposal carries the parent's notarization and the nullifications between."""
    bench = Bench(index=3)
    header, notarization = bench.notarized(1, genesis())
    nullification = bench.nullification(2)
    bench.get(nullification)
    bench.do(WorkChanged(True, 0))
    effects = bench.do(Built(child(header, 3, START_WALL_MS, BATCH), BATCH))
    assert said(effects, Proposal)[0].justification == (notarization, nullification)


def test_the_application_builds_what_was_asked_for() -> None:
    """A wrong answer of our own application stops the process."""
    bench = Bench(index=1)
    bench.do(WorkChanged(True, 0))
    with pytest.raises(LocalError):
        bench.do(Built(child(genesis(), 1, START_WALL_MS + 1, BATCH), BATCH))


def led(**options: Any) -> tuple[Bench, Header]:
    """A leader of views 0 to 7 with its block of view 1 out, and nothing else to order yet."""
    bench = Bench({"term_views": 8, **options}, index=0)
    bench.do(WorkChanged(True, 0))
    header = child(genesis(), 1, START_WALL_MS, BATCH)
    bench.do(WorkChanged(False, None))  # all of it is in this block
    bench.do(Built(header, BATCH))
    return bench, header


def test_propose_one_view_ahead() -> None:
    """Inside a term the leader proposes the next block on its own of this view, while that is being certified."""
    bench, first = led()
    (build,) = of(bench.do(WorkChanged(True, 1)), Build)
    assert (build.view, build.parent, bench.core.view) == (2, first, 1)
    second = child(first, 2, START_WALL_MS, OTHER)
    effects = bench.do(Built(second, OTHER))
    assert [proposal.header for proposal in said(effects, Proposal)] == [second]
    assert of(effects + bench.do(WorkChanged(True, 2)), Build) == []  # one, not two
    effects = bench.get(bench.notarization(1, first.id))
    assert bench.core.view == 2 and [build.view for build in of(effects, Build)] == [3]


def test_do_not_propose_ahead_without_work_or_into_another_term() -> None:
    """Filler and heartbeats wait for their view; the first block of a term follows what ended the one before."""
    bench = Bench({"term_views": 8}, index=0)
    bench.do(WorkChanged(True, 0))
    first = child(genesis(), 1, START_WALL_MS, BATCH)
    assert of(bench.do(WorkChanged(False, None)) + bench.do(Built(first, BATCH)), Build) == []
    bench = Bench({"term_views": 2}, index=0)  # views 0 and 1
    bench.do(WorkChanged(True, 0))
    assert of(bench.do(Built(first, BATCH)) + bench.do(WorkChanged(True, 1)), Build) == []


def test_a_question_asked_ahead_is_not_asked_again() -> None:
    """An answer that comes after the entry is proposed as usual, and the leader does not build twice meanwhile."""
    bench, first = led()
    bench.do(WorkChanged(True, 1))
    certificate = bench.notarization(1, first.id)
    assert of(bench.get(certificate), Build) == []
    second = child(first, 2, START_WALL_MS, OTHER)
    (proposal,) = said(bench.do(Built(second, OTHER)), Proposal)
    assert (proposal.header, proposal.justification) == (second, (certificate,))


def test_what_was_proposed_ahead_dies_with_its_term() -> None:
    """The nullification that covers a view covers all later ones of its term: nobody can end up on half of them."""
    bench, first = led()
    bench.do(WorkChanged(True, 1))
    bench.do(Built(child(first, 2, START_WALL_MS, OTHER), OTHER))
    bench.get(bench.nullification(1))
    assert bench.core.view == 8
    assert bench.core.chain.parent_for(8) == (0, genesis().id)


def test_a_leader_that_restarts_stands_where_it_stood() -> None:
    """A vote cast ahead is no entry: the range of a nullify starts at the view before, or that one is lost."""
    bench, first = led()
    bench.do(WorkChanged(True, 1))
    bench.do(Built(child(first, 2, START_WALL_MS, OTHER), OTHER))
    bench.restart()
    assert bench.core.view == 1
    assert of(bench.do(WorkChanged(True, 1)), Build) == []  # neither view is proposed in twice
    assert [vote.start for vote in said(bench.wait(2_000), Nullify)][:1] == [1]


# ------------------------------------------------------------------------------------------------------------- rule 3


def test_notarize_after_everything_is_durable() -> None:
    """Header and batches are durable before the notarize vote leaves [L2]."""
    bench = Bench()
    proposal = bench.proposal(1, genesis())
    (validate,) = of(bench.get(proposal), Validate)
    assert (validate.proposal, validate.parent) == (proposal, genesis())
    effects = bench.do(Validated(proposal.vote.block, True))
    names = [type(effect).__name__ for effect in effects if not isinstance(effect, WakeAt)]
    assert names == ["PersistBatches", "Persist", "Persist", "Broadcast"]
    assert said(effects, Notarize)[0].block == proposal.vote.block


def test_execute_ahead_and_vote_on_entry() -> None:
    """What the leader proposed a view ahead is executed at once, and voted for when its parent is notarized."""
    bench = Bench({"term_views": 8})
    first = bench.proposal(1, genesis())
    second = bench.proposal(2, first.header, batches=OTHER)
    effects = bench.get(first, second)
    assert [validate.proposal.header.view for validate in of(effects, Validate)] == [1]
    effects = bench.do(Validated(first.vote.block, True))
    assert [vote.view for vote in said(effects, Notarize)] == [1]
    assert [validate.proposal.header.view for validate in of(effects, Validate)] == [2]
    assert said(bench.do(Validated(second.vote.block, True)), Notarize) == []
    effects = bench.get(bench.notarization(1, first.vote.block))
    assert [vote.view for vote in said(effects, Notarize)] == [2]


def test_an_invalid_block_ahead_is_refused_on_entry() -> None:
    """Rule 3: invalid means nullify at once, of the view that one is in."""
    bench = Bench({"term_views": 8})
    first = bench.proposal(1, genesis())
    second = bench.proposal(2, first.header, batches=OTHER)
    bench.get(first, second)
    bench.do(Validated(first.vote.block, True))
    assert said(bench.do(Validated(second.vote.block, False)), Nullify) == []
    effects = bench.get(bench.notarization(1, first.vote.block))
    assert [vote.start for vote in said(effects, Nullify)] == [2]


def test_notarize_the_first_proposal_only() -> None:
    """Notarize the first proposal of v; never two blocks in one view. The second is evidence."""
    bench = Bench()
    first, second = bench.proposal(1, genesis()), bench.proposal(1, genesis(), batches=OTHER)
    bench.get(first)
    effects = bench.get(second)
    assert of(effects, Validate) == []
    assert of(effects, Accuse) == [Accuse(1, first.vote, second.vote)]
    effects = bench.do(Validated(first.vote.block, True)) + bench.get(second) + bench.wait(300)
    assert {vote.block for vote in said(effects, Notarize)} == {first.vote.block}


def test_invalid_means_nullify_at_once() -> None:
    """Invalid means nullify at once."""
    bench = Bench()
    proposal = bench.proposal(1, genesis())
    bench.get(proposal)
    effects = bench.do(Validated(proposal.vote.block, False, "roots"))
    assert [vote.start for vote in said(effects, Nullify)] == [1]
    assert said(effects, Notarize) == []


def test_a_missing_certificate_means_fetch_and_wait() -> None:
    """A missing certificate means fetch and wait with the timers running, never invalid."""
    bench = Bench(index=0)
    bench.get(bench.nullification(2))
    effects = bench.get(bench.proposal(3, genesis()), sender=3)
    assert said(effects, Nullify) == [] and of(effects, Validate) == []
    assert Send(3, Fetch(None, 1, 1)) in effects
    assert len(of(bench.get(bench.nullification(1)), Validate)) == 1


def test_a_missing_ancestor_is_fetched_and_executed_without_a_vote() -> None:
    """A missing ancestor means fetch; it is executed as an ancestor, whatever its time, and not voted for."""
    bench = Bench(index=0)
    bench.now_ms = 50_000
    old = bench.proposal(1, genesis(), time_ms=0)
    notarization = bench.notarization(1, old.vote.block)
    young = bench.proposal(2, old.header, notarization)
    effects = bench.get(young, sender=2) + bench.wait(70)
    assert Send(2, Fetch(old.vote.block, 0, 0)) in effects
    assert [validate.proposal for validate in of(bench.get(old, sender=2), Validate)] == [old]
    effects = bench.do(Validated(old.vote.block, True))
    assert [validate.proposal for validate in of(effects, Validate)] == [young]
    effects = bench.do(Validated(young.vote.block, True))
    assert [vote.view for vote in said(effects, Notarize)] == [2]


def test_an_ancestry_below_the_last_final_block_is_invalid() -> None:
    """Its ancestry is not below the last finalized block."""
    bench = Bench(index=0)
    header, _ = bench.notarized(1, genesis())
    effects = bench.get(bench.finalization(1, header.id))
    assert [commit.headers for commit in of(effects, Commit)] == [(header,)]
    effects = bench.get(bench.proposal(2, genesis()))
    assert [vote.start for vote in said(effects, Nullify)] == [2]


def test_inside_a_term_the_parent_is_the_view_before() -> None:
    """Inside a term p = v-1."""
    bench = Bench({"term_views": 8}, index=3)
    first, notarization = bench.notarized(1, genesis())
    bench.notarized(2, first, notarization)
    effects = bench.get(bench.proposal(3, first))
    assert [vote.start for vote in said(effects, Nullify)] == [3]


def test_a_nullified_view_may_be_notarized() -> None:
    """Notarizing a view that one has nullified is allowed (as in the paper)."""
    bench = Bench()
    bench.do(WorkChanged(True, 0))
    assert said(bench.wait(1_000), Nullify)
    proposal = bench.proposal(1, genesis())
    bench.get(proposal)
    assert said(bench.do(Validated(proposal.vote.block, True)), Notarize)


def test_a_wrong_list_of_batches_is_the_senders_fault() -> None:
    """A peer that adds other batches to a leader's header cannot make the block invalid."""
    bench = Bench()
    proposal = bench.proposal(1, genesis())
    with pytest.raises(RemoteError):
        bench.get(Proposal(proposal.header, OTHER, proposal.vote, ()))
    assert of(bench.get(proposal), Validate)


# ----------------------------------------------------------------------------------------------------------- the time


@pytest.mark.parametrize(
    ("why", "time_ms", "first", "after_wait"),
    [
        ("on time", 5_000, Validate, None),
        ("behind, within the bound", 3_000, Validate, None),
        ("older than the drift bound when first received", 2_999, Nullify, None),
        ("ahead, within the bound", 7_000, Validate, None),
        ("ahead of the voter's clock by more than the drift bound", 7_010, None, Validate),
    ],
)
def test_times_in_bounds(why: str, time_ms: int, first: type | None, after_wait: type | None) -> None:
    """Ahead of the voter's clock by more than the drift bound: wait. Older when first received: invalid."""
    bench = Bench()
    bench.now_ms = 5_000
    effects = bench.get(bench.proposal(1, genesis(), time_ms=time_ms))
    kinds = {type(effect) for effect in effects} | {type(message) for message in said(effects, Nullify)}
    assert (Validate in kinds, Nullify in kinds) == (first is Validate, first is Nullify), why
    assert bool(of(bench.wait(10), Validate)) == (after_wait is Validate), why


def test_a_backdated_block_is_invalid() -> None:
    """wall_time >= parent.wall_time, or the block is invalid."""
    bench = Bench(index=0)
    bench.now_ms = 1_000
    header, _ = bench.notarized(1, genesis())
    effects = bench.get(bench.proposal(2, header, time_ms=999))
    assert said(effects, Nullify) and not of(effects, Validate)


def test_the_clock_follows_the_formula() -> None:
    """`clock` must equal the ledger clock formula."""
    bench = Bench()
    header = child(genesis(), 1, START_WALL_MS, BATCH)
    wrong = Header(**{name: getattr(header, name) for name in header.__struct_fields__} | {"clock": 1})
    proposal = Proposal(wrong, BATCH, bench.signers[1].notarize(1, wrong.id), ())
    assert said(bench.get(proposal), Nullify)


# -------------------------------------------------------------------------------------------------------- rules 4 and 7


def test_a_quorum_of_notarize_votes() -> None:
    """Form and broadcast the certificate, enter v+1, and cast finalize(v) if rule 5 allows."""
    bench = Bench()
    block = bytes(32)
    assert said(bench.get(*[bench.signers[index].notarize(1, block) for index in range(2)]), Notarization) == []
    effects = bench.get(bench.signers[2].notarize(1, block))
    assert len(said(effects, Notarization)) == 1 and bench.core.view == 2
    assert [vote.view for vote in said(effects, Finalize)] == [1]


def test_a_late_notarization() -> None:
    """The finalize vote may come late (after this replica moved on); the check is made when it is cast."""
    bench = Bench()
    bench.get(bench.nullification(1), bench.nullification(2))
    assert [vote.view for vote in said(bench.get(bench.notarization(1, bytes(32))), Finalize)] == [1]
    assert bench.core.view == 3


def test_a_quorum_of_finalize_votes() -> None:
    """That block and all its ancestors are final."""
    bench = Bench(index=0)
    first, notarization = bench.notarized(1, genesis())
    second, _ = bench.notarized(2, first, notarization)
    effects = bench.get(*[bench.signers[index].finalize(2, second.id) for index in (1, 2)])
    assert len(said(effects, Finalization)) == 1  # with our own
    (commit,) = of(effects, Commit)
    assert commit.headers == (first, second)
    assert bench.core.last_final == second


# ------------------------------------------------------------------------------------------------------------- rule 5


def test_no_finalize_after_nullify() -> None:
    """Never cast finalize(w) after a nullify whose range contains w."""
    bench = Bench({"term_views": 8})
    bench.do(WorkChanged(True, 0))
    bench.wait(1_000)
    effects = bench.get(bench.notarization(1, bytes(32)), bench.notarization(2, bytes(32)))
    assert said(effects, Finalize) == []


def test_no_finalize_after_nullify_across_a_restart() -> None:
    """This single rule, kept across restarts, is the whole safety of terms."""
    bench = Bench()
    bench.do(WorkChanged(True, 0))
    bench.wait(1_000)
    bench.restart()
    assert said(bench.get(bench.notarization(1, bytes(32))), Finalize) == []


def test_only_the_current_view_starts_a_range() -> None:
    """Only the current view starts a range [S1]; finalize votes before it in the term stand."""
    bench = Bench({"term_views": 8})
    bench.get(bench.notarization(1, bytes(32)), bench.notarization(2, bytes(32)))
    bench.do(WorkChanged(True, 0))
    assert {vote.start for vote in said(bench.wait(1_000), Nullify)} == {3}


# ------------------------------------------------------------------------------------------------------------- rule 6


def test_nullify_when_a_timer_fires_and_once_per_term() -> None:
    """Nullify v when a timer of v fires. One nullify per term suffices."""
    bench = Bench({"term_views": 8})
    bench.do(WorkChanged(True, 0))
    assert said(bench.wait(990), Nullify) == []
    votes = said(bench.wait(10_000), Nullify)
    assert len(votes) > 1 and len(set(votes)) == 1


def test_skip_a_silent_leader() -> None:
    """Nullify when the leader has sent no consensus message for r views while q-1 others have."""
    bench = Bench(index=0)
    for view in (1, 2):
        for index in (1, 2):
            bench.get(bench.signers[index].notarize(view, bytes(32)), sender=index)
        bench.get(bench.notarization(view, bytes(32)), sender=1)
    assert bench.core.leader == 3 and not bench.core._own.nullified
    assert [vote.start for vote in said(bench.get(bench.notarization(6, bytes(32)), sender=1), Nullify)] == [7]


def test_silence_all_around_is_no_reason() -> None:
    """Rule 6: ... while q-1 others have; otherwise it is this replica that hears nothing."""
    bench = Bench(index=0)
    effects = bench.get(*[bench.notarization(view, bytes(32)) for view in (1, 2, 6, 10, 14)], sender=1)
    assert bench.core.leader == 3 and said(effects, Nullify) == []


def test_the_term_outlasts_max_term() -> None:
    """Nullify when the term outlasts `max_term`."""
    bench = Bench({"term_views": 64, "max_term_ms": 30_000})
    bench.do(WorkChanged(True, None))
    view = 1
    votes: list[Nullify] = []
    parent, why = genesis(), ()
    for _ in range(32):
        header, certificate = bench.notarized(view, parent, *why)
        votes += said(bench.get(bench.finalization(view, header.id)) + bench.wait(950), Nullify)
        parent, why, view = header, (certificate,), view + 1  # type: ignore[assignment]  # grows
    assert {vote.start for vote in votes} == {33}


def test_inclusion_timeout() -> None:
    """Counted from a transaction's arrival or from entering the term, whichever is later."""
    bench = Bench({"view_timeout_ms": 8_000, "stall_timeout_ms": 8_000, "inclusion_timeout_ms": 8_000})
    bench.wait(3_000)
    bench.do(WorkChanged(True, 1_000))
    assert said(bench.wait(5_990), Nullify) == []
    assert said(bench.wait(10), Nullify)


def test_nullify_votes_cast_at_different_views_add_up() -> None:
    """A range keeps counting for every later view of its term, so nullify votes cast at different views add up."""
    bench = Bench({"term_views": 8})
    bench.get(bench.notarization(1, bytes(32)), bench.notarization(2, bytes(32)))
    effects = bench.get(*[bench.signers[index].nullify(start) for index, start in enumerate((1, 2, 3))])
    assert [certificate.view for certificate in said(effects, Nullification)] == [3]
    assert bench.core.view == 8


def test_a_start_inside_a_term_needs_the_notarization_before() -> None:
    """A start inside a term counts only with the notarization of the view before it, which the voter serves."""
    bench = Bench({"term_views": 8})
    effects = bench.get(*[bench.signers[index].nullify(start) for index, start in enumerate((1, 1, 4))])
    assert said(effects, Nullification) == [] and bench.core.view == 1
    assert Send(2, Fetch(None, 3, 3)) in effects
    bench.get(bench.nullification(1, 1, 4))
    assert bench.core.view == 1
    bench.get(bench.notarization(3, bytes(32)))
    assert bench.core.view == 8


# ---------------------------------------------------------------------------------------------------- rules 8, 9 and 10


def test_the_stall_timer() -> None:
    """If the oldest notarized unfinalized view of the current term is too old, nullify from the current view on."""
    bench = Bench({"term_views": 64})
    bench.do(WorkChanged(True, None))
    parent, why, starts = genesis(), (), set()
    for view in range(1, 24):
        parent, certificate = bench.notarized(view, parent, *why)
        why = (certificate,)  # type: ignore[assignment]  # grows
        starts |= {vote.start for vote in said(bench.wait(100), Nullify)}
    assert starts == {21}


def test_views_of_earlier_terms_do_not_age() -> None:
    """Rule 8: aged per term (counting earlier terms made every view die on entry, for ever)."""
    bench = Bench({"term_views": 8})
    bench.notarized(1, genesis())
    bench.now_ms = 60_000
    bench.get(bench.nullification(1, 1, 2))
    assert bench.core.view == 8
    assert said(bench.wait(990), Nullify) == []


def test_timers_start_when_work_appears_and_stop_when_it_ends() -> None:
    """They start when work appears, not when the view was entered, and stop when it ends."""
    bench = Bench()
    assert said(bench.wait(5_000), Nullify) == []
    bench.do(WorkChanged(True, bench.now_ms))
    assert said(bench.wait(990), Nullify) == []
    bench.do(WorkChanged(False, None))
    assert said(bench.wait(3_000), Nullify) == []


def test_an_overdue_heartbeat_is_work() -> None:
    """Timers run only while there is work: a due heartbeat after the drift bound."""
    bench = Bench()
    assert said(bench.wait(12_990), Nullify) == []
    assert said(bench.wait(10), Nullify)


def test_nullify_votes_arm_a_replica_that_sees_no_work() -> None:
    """f+1 nullify votes seen arm a replica that sees no work itself."""
    bench = Bench()
    bench.get(bench.signers[0].nullify(1))
    assert said(bench.wait(2_000), Nullify) == []
    bench.get(bench.signers[1].nullify(1), sender=1)
    assert said(bench.wait(1_000), Nullify)


def test_timeouts_double_and_fall_back() -> None:
    """View timeouts double with each nullified term without a final block, up to a bound, and fall back on progress."""
    bench = Bench(index=0)
    timeouts = []
    for view in range(1, 8):
        timeouts.append(bench.core.status()["view_timeout_ms"])
        bench.get(bench.nullification(view))
    assert timeouts == [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
    why = [bench.nullification(view) for view in range(1, 9)]
    header, _ = bench.notarized(9, genesis(), *why)
    bench.get(bench.finalization(9, header.id))
    assert bench.core.status()["view_timeout_ms"] < 30_000


def test_rebroadcast() -> None:
    """While there is work, every t_r without progress rebroadcast own votes, and what lets a peer enter."""
    bench = Bench()
    certificate = bench.nullification(1)
    bench.get(certificate)
    proposal = bench.proposal(2, genesis(), certificate)
    bench.get(proposal)
    (vote,) = said(bench.do(Validated(proposal.vote.block, True)), Notarize)
    effects = bench.wait(250)
    assert Broadcast(vote) in effects and Broadcast(certificate) in effects
    bench.get(bench.notarization(2, vote.block))
    effects = bench.wait(510)
    assert [vote.view for vote in said(effects, Finalize)] == [2]


def test_a_stale_vote_is_answered() -> None:
    """Answer a stale vote with the newest finalization and entry certificates, also when idle."""
    bench = Bench()
    certificate = bench.notarization(8, bytes(32))
    bench.get(certificate)
    assert Send(2, certificate) in bench.get(bench.signers[2].nullify(1), sender=2)
    assert bench.get(bench.signers[2].notarize(1, bytes(32)), sender=2) == []  # once is enough for a while


def test_votes_ahead_are_buffered_and_bounded() -> None:
    """Buffer votes for views ahead, bounded per sender."""
    bench = Bench()
    bench.get(*[bench.signers[index].notarize(100, bytes(32)) for index in range(3)])
    assert bench.core.view == 101
    bench.get(*[bench.signers[0].notarize(view, bytes(32)) for view in range(101, 400)])
    assert len(bench.core._pool.notarizes) <= bench.config.ahead_views + 2


# ---------------------------------------------------------------------------------------------- messages that are wrong


@pytest.mark.parametrize(
    ("why", "make"),
    [
        ("epoch", lambda b: Notarize(1, 1, bytes(32), 0, bytes(64))),
        ("view", lambda b: b.signers[0].notarize(0, bytes(32))),
        ("replica", lambda b: Notarize(0, 1, bytes(32), 4, bytes(64))),
        ("signature", lambda b: Notarize(0, 1, bytes(32), 0, bytes(64))),
        ("kind", lambda b: Finalize(0, 1, bytes(32), 0, b.signers[0].notarize(1, bytes(32)).signature)),
        ("too few", lambda b: Notarization(0, 1, bytes(32), b.notarization(1, bytes(32)).signatures[:2])),
        ("one replica twice", lambda b: Notarization(0, 1, bytes(32), b.notarization(1, bytes(32)).signatures[:1] * 3)),
        ("latest start", lambda b: Nullification(0, 2, b.nullification(1).votes)),
        ("two terms", lambda b: b.nullification(1, 1, 2)),
        ("not the leader", lambda b: Proposal(*_by(b, 0))),
        ("another block", lambda b: Proposal(*_by(b, 1, view=5))),
    ],
)
def test_a_wrong_message_changes_nothing(why: str, make: Any) -> None:
    """RemoteError: the sender broke the protocol. State is unchanged."""
    bench = Bench()
    before = (bench.core.status(), bench.core.checkpoint())
    with pytest.raises(RemoteError):
        bench.get(make(bench))
    assert (bench.core.status(), bench.core.checkpoint()) == before, why


def _by(bench: Bench, replica: int, view: int = 1) -> tuple[Header, tuple[Hash, ...], Notarize, tuple[()]]:
    header = child(genesis(), 1, START_WALL_MS, BATCH)
    return header, BATCH, bench.signers[replica].notarize(view, header.id), ()


# ------------------------------------------------------------------------------------------------------------- restart


def test_a_leader_repeats_its_own_proposal_after_a_restart() -> None:
    """Never notarize two blocks in one view: the identical proposal is sent again."""
    bench = Bench(index=1)
    bench.do(WorkChanged(True, 0))
    (proposal,) = said(bench.do(Built(child(genesis(), 1, START_WALL_MS, BATCH), BATCH)), Proposal)
    effects = bench.restart() + bench.do(WorkChanged(True, 0))
    assert of(effects, Build) == [] and proposal in said(effects, Proposal)


def test_a_restart_leads_past_every_vote_and_certificate() -> None:
    """Restore the view to at least every voted view, past every finalize-voted one and every journaled certificate."""
    bench = Bench()
    bench.get(bench.notarization(4, bytes(32)))
    bench.get(bench.nullification(6))
    bench.restart()
    assert bench.core.view == 7


def test_a_restart_executes_what_is_notarized_and_commits_what_is_final() -> None:
    """On restart: load the floor, replay; headers above it are validated again, in order."""
    bench = Bench(index=0)
    first, notarization = bench.notarized(1, genesis())
    second, _ = bench.notarized(2, first, notarization)
    effects = bench.restart()
    assert [validate.proposal.header for validate in of(effects, Validate)] == [first]
    effects = bench.do(Validated(first.id, True))
    assert [validate.proposal.header for validate in of(effects, Validate)] == [second]
    bench.get(bench.finalization(2, second.id))
    assert of(bench.do(Validated(second.id, True)), Commit)[0].headers == (first, second)


def test_a_checkpoint_restores_as_much_as_the_records() -> None:
    """Records that, with the last final block, restore this replica."""
    bench = Bench(index=0)
    bench.notarized(1, genesis())
    bench.do(WorkChanged(True, 0))
    bench.wait(1_500)
    checkpoint = bench.core.checkpoint()
    bench.records = checkpoint
    bench.restart()
    assert sorted(bench.core.checkpoint()) == sorted(checkpoint)


def test_a_damaged_record_stops_the_replica() -> None:
    """Any other damage stops the replica with an explanation."""
    bench = Bench()
    bench.records = [b"\x00"]
    with pytest.raises(LocalError):
        bench.restart()
    bench.records = [encode(bench.signers[0].nullify(1))]
    with pytest.raises(LocalError):
        bench.restart()


def test_a_replica_without_its_journal_listens_first() -> None:
    """A replica that lost its journal votes again only in later views, also after the next restart."""
    bench = Bench()
    keys = (bench.config, key_of(3), 3, genesis())
    bench.core = Consensus(*keys, verify=verify, vote_from=5)
    bench.do(Started())
    for _ in range(2):
        effects = bench.do(WorkChanged(True, 0)) + bench.wait(2_000) + bench.get(bench.notarization(2, bytes(32)))
        assert said(effects, Notarize) + said(effects, Nullify) + said(effects, Finalize) == []
        bench.restart()
    assert said(bench.get(bench.notarization(5, bytes(32))), Finalize)


# ------------------------------------------------------------------------------------------------------------ catch-up


def test_catch_up() -> None:
    """A finalization whose ancestry is unknown: fetch final blocks, then go on from there."""
    bench = Bench()
    one = child(genesis(), 1, START_WALL_MS, BATCH)
    last = child(one, 500, START_WALL_MS, OTHER)
    finalization = bench.finalization(500, last.id)
    assert of(bench.get(finalization, sender=2), CatchUp) == [CatchUp(finalization, 2)]
    assert len(of(bench.wait(2_000), CatchUp)) == 2  # rate-limited
    bench.do(CaughtUp(last, finalization))
    assert (bench.core.last_final, bench.core.view) == (last, 501)
    assert of(bench.wait(3_000), CatchUp) == []
    assert of(bench.get(bench.proposal(501, last)), Validate)


def test_a_finalization_that_overtakes_its_block_is_not_catch_up() -> None:
    """CatchUp only after t_r: most likely the proposal is on its way."""
    bench = Bench()
    proposal = bench.proposal(1, genesis())
    assert of(bench.get(bench.finalization(1, proposal.vote.block)) + bench.wait(200), CatchUp) == []
    bench.get(proposal)
    assert of(bench.do(Validated(proposal.vote.block, True)), Commit)


def test_divergence_stops_the_replica() -> None:
    """A replica whose root differs from a finalized header stops with a divergence report."""
    bench = Bench()
    proposal = bench.proposal(1, genesis())
    bench.get(proposal)
    bench.do(Validated(proposal.vote.block, False))
    with pytest.raises(LocalError, match="diverged"):
        bench.get(bench.finalization(1, proposal.vote.block))


def test_what_is_held_is_served() -> None:
    """Keep and serve every certificate above the floor; a fetched proposal carries everything."""
    bench = Bench(index=0)
    header, notarization = bench.notarized(1, genesis())
    nullification = bench.nullification(2)
    bench.get(nullification)
    effects = bench.get(Fetch(None, 1, 2), sender=2)
    assert said(effects, Notarization) == [notarization] and said(effects, Nullification)[0] == nullification
    (proposal,) = said(bench.get(Fetch(header.id, 0, 0), sender=2), Proposal)
    assert proposal.header == header


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda s: s.notarize(3, bytes(32)), lambda s: s.notarize(3, bytes([1] * 32))),
        (lambda s: s.finalize(3, bytes(32)), lambda s: s.finalize(3, bytes([1] * 32))),
        (lambda s: s.nullify(3), lambda s: s.finalize(3, bytes(32))),
        (lambda s: s.finalize(3, bytes(32)), lambda s: s.nullify(3)),
    ],
)
def test_evidence(first: Any, second: Any) -> None:
    """Two notarizes or two finalizes in one view for different blocks; finalize and a nullify containing the view."""
    bench = Bench()
    one, two = first(bench.signers[2]), second(bench.signers[2])
    assert of(bench.get(one), Accuse) == []
    assert of(bench.get(two), Accuse) == [Accuse(2, one, two)]

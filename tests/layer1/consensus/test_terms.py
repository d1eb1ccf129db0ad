"""What ends a term, and what is said again in it, in terms of 1, 3, 8 and 64 views (consensus.md, rules 6 to 10)."""

from __future__ import annotations

from typing import Any

import pytest

from layer1.consensus.events import Broadcast, Build, Validated, WorkChanged
from layer1.consensus.messages import Finalize, Notarize, Nullification, Nullify, Proposal
from tests.layer1.consensus.network import START_WALL_MS, Network, child, config, genesis
from tests.layer1.consensus.scenarios import OPTIONS
from tests.layer1.consensus.test_rules import Bench, of, said

TERMS = [1, 3, 8, 64]
LONG_MS = 8_000


def bench_of(term_views: int, **options: int) -> Bench:
    """In the first view of its second term, which others lead: the first term has only been nullified."""
    bench = Bench({"term_views": term_views, **options})
    bench.do(WorkChanged(True, None))
    bench.get(bench.nullification(1))
    assert bench.core.view == bench.config.last_view(1) + 1 and bench.core.leader != bench.index
    return bench


def given_up(bench: Bench, step_ms: int, *, final: bool) -> list[int]:
    """All views of the second term are notarized, one after the other, perhaps final; where it is given up, from 1."""
    first, parent = bench.core.view, genesis()
    why: Any = (bench.nullification(1),)
    starts: set[int] = set()
    for view in range(first, bench.config.last_view(first) + 1):
        starts |= {vote.start for vote in said(bench.wait(step_ms), Nullify)}
        parent, certificate = bench.notarized(view, parent, *why)
        why = (certificate,)
        if final:
            bench.get(bench.finalization(view, parent.id))
    return sorted(start - first + 1 for start in starts)


@pytest.mark.parametrize("term_views", TERMS)
def test_a_transaction_is_left_out_for_too_long(term_views: int) -> None:
    """Rule 6, inclusion: counted from entering the term, if that is later than the arrival."""
    bench = Bench(
        {
            "term_views": term_views,
            "view_timeout_ms": LONG_MS,
            "stall_timeout_ms": LONG_MS,
            "inclusion_timeout_ms": LONG_MS,
        }
    )
    bench.do(WorkChanged(True, 0))
    assert said(bench.wait(5_000), Nullify) == []
    bench.get(bench.nullification(1))  # doubles the timeout of the view
    assert said(bench.wait(LONG_MS - 10), Nullify) == [], "an old transaction must not end each term on entry"
    assert {vote.start for vote in said(bench.wait(10), Nullify)} == {bench.config.last_view(1) + 1}


@pytest.mark.parametrize(("term_views", "starts"), [(1, []), (3, [3]), (8, [5]), (64, [5])])
def test_a_leader_that_makes_blocks_and_leaves_a_transaction_out(term_views: int, starts: list[int]) -> None:
    """Rule 6: all views go well, so no other timer ends the term; a term of one view is over before."""
    step_ms = 3_900 if term_views == 3 else 1_900
    bench = bench_of(
        term_views,
        view_timeout_ms=LONG_MS // 2,
        max_view_timeout_ms=LONG_MS,
        stall_timeout_ms=LONG_MS,
        inclusion_timeout_ms=LONG_MS,
    )
    bench.do(WorkChanged(True, 0))
    assert given_up(bench, step_ms, final=True) == starts


@pytest.mark.parametrize(("term_views", "starts"), [(1, []), (3, [3]), (8, [3]), (64, [3])])
def test_the_term_outlasts_max_term(term_views: int, starts: list[int]) -> None:
    """Rule 6: however well it goes; a term of one view has its timeout instead."""
    bench = bench_of(term_views, view_timeout_ms=1_000, max_view_timeout_ms=1_000, max_term_ms=2_800)
    assert given_up(bench, 950, final=True) == starts


@pytest.mark.parametrize("term_views", TERMS)
def test_a_term_lasts_while_there_is_no_work(term_views: int) -> None:
    """Rule 9: max_term, too, is counted from when work appears, or an idle leader is dismissed at the first payment."""
    bench = bench_of(term_views, view_timeout_ms=1_000, max_view_timeout_ms=1_000, max_term_ms=1_000)
    bench.do(WorkChanged(False, None))
    bench.wait(6_000)
    bench.do(WorkChanged(True, bench.now_ms))
    assert said(bench.wait(990), Nullify) == []
    assert said(bench.wait(10), Nullify)


@pytest.mark.parametrize(("term_views", "starts"), [(1, []), (3, [3]), (8, [4]), (64, [4])])
def test_notarized_views_stay_unfinal(term_views: int, starts: list[int]) -> None:
    """Rule 8, the stall timer: from the current view on; a term of one view has none before it."""
    bench = bench_of(term_views, view_timeout_ms=1_000, stall_timeout_ms=1_000 if term_views == 3 else 1_500)
    assert given_up(bench, 700, final=False) == starts


def test_the_stall_timer_of_who_jumped_into_the_term() -> None:
    """Nobody need have the certificate of the term's first view, if the next one came before it (seed 43)."""
    bench = bench_of(8, view_timeout_ms=1_000, stall_timeout_ms=1_500)
    first = bench.core.view
    starts = [
        vote.start
        for view in range(first + 1, first + 8)
        for effects in [bench.get(bench.notarization(view, bytes([view]) * 32)), bench.wait(400)]
        for vote in said(effects, Nullify)
    ]
    assert set(starts) == {first + 5}


@pytest.mark.parametrize("term_views", TERMS)
def test_rebroadcast(term_views: int) -> None:
    """Rule 10: own votes that are about this view, and what lets a peer enter it."""
    bench = bench_of(term_views)
    why, view = bench.nullification(1), bench.core.view
    proposal = bench.proposal(view, genesis(), why)
    bench.get(proposal)
    (vote,) = said(bench.do(Validated(proposal.vote.block, True)), Notarize)
    for _ in range(3):
        effects = bench.wait(bench.config.rebroadcast_ms)
        assert Broadcast(vote) in effects and Broadcast(why) in effects
    nullify = [vote for vote in said(bench.wait(2_000), Nullify) if vote.start == view]
    assert len(nullify) > 2 and len(set(nullify)) == 1
    bench.get(bench.notarization(view, vote.block))
    assert not said(bench.wait(500), Finalize), "it nullified this view"


@pytest.mark.parametrize("term_views", TERMS)
def test_what_is_lost_for_long_is_made_up_for(term_views: int) -> None:
    """Rule 10, in a network: for a while all is lost, proposals and votes against their leaders, too."""
    network = Network(config(term_views=term_views, **OPTIONS))
    network.loss = 1.0
    network.start()
    network.submit(2)
    network.run(1_000)
    assert {type(message) for _, _, _, message in network.sent} >= {Proposal, Nullify}
    network.heal()
    assert network.run(3_000, lambda: network.all_at(2))


@pytest.mark.parametrize("term_views", TERMS)
def test_a_leader_without_a_timer_that_ends_its_term_keeps_it(term_views: int) -> None:
    """A good leader with work leads to the end of its term: nobody gives it up before."""
    network = Network(config(term_views=term_views, **{**OPTIONS, "max_term_ms": 60_000})).start()
    for height in range(1, 31):
        network.submit()
        assert network.run(1_000, lambda height=height: network.all_at(height))  # type: ignore[misc]  # mypy can't infer it
    assert not [message for _, _, _, message in network.sent if isinstance(message, Nullify | Nullification)]


def test_a_leader_proposes_no_time_before_its_parents() -> None:
    """Time: max(now, parent.wall_time), also with a clock that is behind."""
    bench = Bench(index=2)
    ahead = child(genesis(), 1, START_WALL_MS + 1_500)
    proposal = bench.proposal(1, genesis(), time_ms=1_500, batches=())
    assert proposal.header == ahead
    bench.get(proposal)
    bench.do(Validated(ahead.id, True))
    bench.get(bench.notarization(1, ahead.id))
    (build,) = of(bench.do(WorkChanged(True, 0)), Build)
    assert (build.view, build.wall_time) == (2, START_WALL_MS + 1_500)

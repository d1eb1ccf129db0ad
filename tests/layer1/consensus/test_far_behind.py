"""A replica whose last final block is far below what the others have final: it follows their views, and stays small."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from layer1.consensus.config import Config
from layer1.consensus.events import CatchUp, CaughtUp, Commit, Validate, Validated
from layer1.consensus.messages import Fetch, Finalization, Finalize, Notarize, Nullify
from layer1.consensus.records import decode_record
from layer1.header import Header
from tests.layer1.consensus.network import START_WALL_MS, Network, child, config, genesis
from tests.layer1.consensus.test_rules import BATCH, Bench, of, said

WINDOW = 32
FEW = {"keep_views": WINDOW, "ahead_views": WINDOW}


def kept(core: object) -> Counter[str]:
    """How many votes, certificates, blocks and numbers anything in the core holds on to, by where."""
    found: Counter[str] = Counter()
    seen = set[int]()

    def walk(value: Any, path: str) -> None:
        if id(value) in seen or isinstance(value, str | bytes | int | type | Config | None):
            return
        seen.add(id(value))
        if isinstance(value, Mapping):
            found[path] += len(value)
            for item in value.values():
                walk(item, path)
        elif isinstance(value, list | set | tuple):
            found[path] += len(value)
            for item in value:
                walk(item, path)
        for name in [*getattr(value, "__dict__", ()), *getattr(type(value), "__slots__", ())]:
            walk(getattr(value, name), f"{path}.{name}")

    walk(core, "core")
    return found


def follow(bench: Bench, views: range, parent: Header, *, final: bool = True, pace_ms: int = 10) -> Header:
    """Let the replica hear everything of these views, of a chain whose beginning it does not have."""
    for view in views:
        proposal = bench.proposal(view, parent)
        block, parent = proposal.vote.block, proposal.header
        bench.now_ms += pace_ms
        bench.get(proposal, *(signer.notarize(view, block) for signer in bench.signers[:3]))
        if final:
            bench.get(*(signer.finalize(view, block) for signer in bench.signers[:3]))
    return parent


def orphan() -> Header:
    """A block whose ancestors nobody has here."""
    return child(child(genesis(), 1, START_WALL_MS, BATCH), 2, START_WALL_MS, BATCH)


@pytest.mark.parametrize("term_views", [1, 8, 64])
def test_what_is_kept_does_not_grow_with_the_distance(term_views: int) -> None:
    """Rule 10: votes are buffered, bounded. Not one of each view since the last final block."""
    bench = Bench({**FEW, "term_views": term_views})
    parent = follow(bench, range(3, 300), orphan())
    before = kept(bench.core)
    parent = follow(bench, range(300, 900), parent)
    assert bench.core.view == 900, "rule 1: any later certificate"
    grown = {
        where: (before[where], count) for where, count in kept(bench.core).items() if count > before[where] + WINDOW
    }
    assert not grown
    assert before.total() < 100 * WINDOW


def test_far_behind_it_goes_on_voting_and_commits_after_catching_up() -> None:
    """Being small must not cost what it is for: finalize votes on the way, and a floor that rises in the end."""
    bench = Bench(FEW)
    parent = follow(bench, range(3, 200), orphan())
    proposal = bench.proposal(200, parent)
    bench.get(proposal)
    effects = bench.get(bench.notarization(200, proposal.vote.block))
    assert [vote.view for vote in said(effects, Finalize)] == [200]
    asked = of(bench.wait(2_000), CatchUp)
    assert asked and asked[0].finalization.view == 199
    bench.do(CaughtUp(parent, asked[0].finalization))
    assert bench.core.last_final == parent
    bench.do(Validated(proposal.vote.block, True))
    bench.get(bench.finalization(200, proposal.vote.block))
    assert bench.core.last_final == proposal.header
    following = bench.proposal(201, proposal.header)
    assert of(bench.get(following), Validate)
    assert said(bench.do(Validated(following.vote.block, True)), Notarize)


def test_what_is_final_is_held_against_no_leader_executed_or_not() -> None:
    """Rule 8 is about what is notarized and not final: who is behind must not end the terms of the others."""
    bench = Bench({**FEW, "term_views": 16, "stall_timeout_ms": 1_000})
    follow(bench, range(3, 80), orphan(), pace_ms=100)
    assert bench.config.stall_timeout_ms < 16 * 100
    assert not [record for record in bench.records if isinstance(decode_record(record), Nullify)]


def test_catching_up_is_not_put_off_by_what_becomes_final_meanwhile() -> None:
    """A busy ledger finalizes more often than every t_r; its own finalizations tell a replica nothing of peers."""
    bench = Bench(FEW)
    asked = 0
    parent = orphan()
    for start in range(3, 203, 20):
        now_ms = bench.now_ms
        for view in range(start, start + 20):
            proposal = bench.proposal(view, parent)
            parent = proposal.header
            bench.now_ms += 10
            effects = bench.get(proposal, *(signer.notarize(view, proposal.vote.block) for signer in bench.signers[:3]))
            effects += bench.get(*(signer.finalize(view, proposal.vote.block) for signer in bench.signers[:3]))
            asked += len(of(effects, CatchUp))
        assert bench.now_ms - now_ms < bench.config.rebroadcast_ms
    assert asked >= 2


def far_apart(bench: Bench, views: tuple[int, ...]) -> tuple[list[Header], Finalization]:
    """Blocks of these views, all views between nullified, all validated here, and the finalization of the last."""
    chain = [genesis()]
    for view in views:
        bench.get(*(bench.nullification(between) for between in range(bench.core.view, view)))
        chain.append(bench.notarized(view, chain[-1])[0])
    return chain[1:], bench.finalization(views[-1], chain[-1].id)


@pytest.mark.parametrize("views", [(1, 3 + 2 * WINDOW), (1, 3 + WINDOW, 5 + 2 * WINDOW, 8 + 3 * WINDOW)])
def test_what_only_a_far_finalization_commits_is_not_forgotten_before(views: tuple[int, ...]) -> None:
    """Rule 10: a validated block whose ancestry is here stays, or everybody could drop it before it is final."""
    bench = Bench(FEW)
    chain, finalization = far_apart(bench, views)
    assert bench.core.last_final == genesis()
    effects = bench.get(finalization)
    assert [effect.headers for effect in of(effects, Commit)] == [tuple(chain)]


def test_it_is_not_forgotten_by_a_restart_either() -> None:
    """The finalization is here before its ancestors are executed again."""
    bench = Bench(FEW)
    chain, finalization = far_apart(bench, (1, 3 + WINDOW, 6 + 2 * WINDOW))
    bench.restart()
    bench.get(finalization)
    assert bench.core.last_final == genesis()
    for header in chain:
        effects = bench.do(Validated(header.id, True))
    assert [effect.headers for effect in of(effects, Commit)] == [tuple(chain)]


def test_who_lacks_the_final_block_itself_keeps_what_is_below_it() -> None:
    """Else it could go on from the block that it holds, and vote, without what is below that: so could all others."""
    bench = Bench(FEW)
    chain, _ = far_apart(bench, (1, 3 + 2 * WINDOW))
    bench.get(bench.nullification(4 + 2 * WINDOW))
    last = bench.proposal(5 + 2 * WINDOW, chain[-1])
    bench.get(bench.finalization(last.header.view, last.header.id))
    assert of(bench.get(last), Validate)
    effects = bench.do(Validated(last.header.id, True))
    assert [effect.headers for effect in of(effects, Commit)] == [(*chain, last.header)]


def test_what_nobody_validated_is_forgotten_beside_what_is_kept() -> None:
    """Of two blocks on one parent only the validated one stays."""
    bench = Bench(FEW)
    bench.get(bench.proposal(1, genesis()), bench.nullification(1))
    chain, _ = far_apart(bench, (5, 8 + WINDOW, 12 + 2 * WINDOW))
    assert bench.core.status()["blocks_held"] == len(chain) + 1
    bench.get(bench.finalization(500, bytes(32)))
    assert bench.core.status()["blocks_held"] == len(chain)


def test_nothing_that_was_forgotten_is_voted_on_again() -> None:
    """Rule 5 across forgetting: who forgot that it nullified a view must not finalize it."""
    bench = Bench({**FEW, "term_views": 8})
    bench.get(bench.signers[0].nullify(1), bench.signers[1].nullify(1))
    assert [vote.start for vote in said(bench.wait(2_000), Nullify)] == [1]
    bench.get(bench.finalization(500, bytes(32)))
    for _ in range(2):
        for view in (1, 5, 500 - WINDOW):
            effects = bench.get(bench.notarization(view, bytes(32)), sender=2)
            assert not said(effects, Finalize)
            assert not said(effects, Nullify)
        bench.records = bench.core.checkpoint()
        bench.restart()
    assert bench.core.view == 501


def test_a_question_about_everything_costs_no_more_than_what_is_kept() -> None:
    """A range of views that are not here is passed over at once."""
    bench = Bench(FEW)
    bench.get(bench.finalization(2**61, bytes(32)))
    assert said(bench.get(Fetch(None, 1, 2**62 - 1)), Finalization)


def test_a_range_that_began_below_a_final_block_still_counts() -> None:
    """Rule 6: a range keeps counting for every later view of its term, also when a view inside it became final."""
    bench = Bench({"term_views": 64}, index=6, n=7)
    proposal = bench.proposal(1, genesis())
    bench.get(proposal)
    bench.do(Validated(proposal.vote.block, True))
    bench.get(bench.finalization(1, proposal.vote.block))
    assert bench.core.last_final == proposal.header
    bench.get(*(bench.signers[index].nullify(1) for index in (1, 2)))
    bench.get(*(bench.signers[index].nullify(2) for index in (3, 4, 5)))
    assert bench.core.view == 64


def all_notarized(network: Network, height: int) -> bool:
    return all(node.core.tip.height >= height for node in network.nodes)


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("term_views", [1, 64])
def test_what_nobody_has_committed_yet_is_not_forgotten(term_views: int, crash: bool) -> None:
    """All hold what is notarized, and learn late that the last of it is final: nobody could serve it as final."""
    window = 8
    network = Network(config(4, keep_views=window, ahead_views=window, term_views=term_views), seed=1).start()
    network.lossy = (Finalize, Finalization)
    for height in range(1, 4 * window + 1):
        network.submit()
        assert network.run(5_000, partial(all_notarized, network, height))
    assert network.final_height() == 0
    for index in range(4 * crash):
        network.crash(index)
    network.heal()
    network.submit()
    assert network.run(5_000, partial(network.all_at, 4 * window))


def test_what_is_held_below_a_gap_is_executed_once_the_gap_is_final() -> None:
    """Blocks between the floor and what was forgotten, never certified one by one: they are final all the same."""
    bench = Bench(FEW)
    proposals, parent = [], genesis()
    for view in range(1, WINDOW + 5):
        proposals.append(bench.proposal(view, parent))
        parent = proposals[-1].header
    last = proposals[-1].vote
    bench.get(*proposals[1:WINDOW], bench.finalization(last.view, last.block), *reversed(proposals[WINDOW:]))
    executed = of(bench.do(CaughtUp(proposals[0].header, bench.finalization(1, proposals[0].vote.block))), Validate)
    while executed:
        (validate,) = executed
        executed = of(bench.do(Validated(validate.proposal.vote.block, True)), Validate)
    assert bench.core.last_final == parent


def test_catching_up_leaves_nothing_behind_however_long_it_takes() -> None:
    """On a quiet ledger nothing else becomes final meanwhile."""
    bench = Bench(FEW)
    bench.get(bench.finalization(2_000, bytes(32)))
    parent, sizes = genesis(), []
    for view in range(1, 400):
        parent = child(parent, view, START_WALL_MS, BATCH)
        bench.do(CaughtUp(parent, bench.finalization(view, parent.id)))
        sizes.append(kept(bench.core).total())
    assert bench.core.last_final == parent
    assert max(sizes) - sizes[0] < WINDOW


def test_who_is_behind_is_told_what_is_final_and_not_only_notarized() -> None:
    """Rule 10: the newest finalization. Who holds the notarization, and not the blocks below, asks for them one by one,
    and those are gone."""
    bench = Bench(FEW)
    header, _ = bench.notarized(1, genesis())
    final = bench.finalization(1, header.id)
    bench.get(final)
    assert bench.core.last_final == header
    bench.now_ms += 1_000
    assert final in said(bench.get(bench.signers[1].notarize(1, header.id)), Finalization)


def test_a_replica_that_was_cut_off_for_long_comes_back() -> None:
    """In a whole network: it hears of views far above its floor, catches up by blocks, and orders with the others."""
    network = Network(config(4, **FEW), seed=1).start()
    network.blocked = {(index, 3) for index in range(3)}
    for _ in range(3 * WINDOW):
        height = network.final_height() + 1
        network.submit()
        assert network.run(5_000, partial(network.all_at, height, range(3)))
    assert network.nodes[3].disk.floor.height == 0
    network.heal()
    network.submit()
    goal = network.final_height() + 1
    assert network.run(20_000, lambda: network.all_at(goal))
    assert network.catch_ups

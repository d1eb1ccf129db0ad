"""A few runs at every check; continuous integration runs hundreds of fresh ones (`python -m tests.simulation`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from random import Random

import pytest

from layer1.replica.catchup import RECENT_BLOCKS
from tests.simulation.kinds import run_any
from tests.simulation.result import Result
from tests.simulation.scenario import Options, Scenario, run, run_omission

FOUND = {
    142: "what became final while its signatures were verified was packed again, and then called dead",
    186: "answers to a late replica that came late were dropped and held against their sender",
    4825: "an answer to a question from before a restart went to the new life of who asked, and was held against it",
    658: "a replica that started again from a snapshot lost what it had taken in",
    364: "a batch that one replica held alone did not spread under a steady leader",
}
"""Seeds that found a fault, each mended in layer 1 with a test of its own there. What a seed stands for may change with
the simulator; these were of its first day."""

SEEDS = range(60)
OMISSION_SEEDS = range(15)


@cache
def outcome(seed: int) -> Result:
    return run(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_no_seed_finds_a_violation(seed: int) -> None:
    result = outcome(seed)
    assert not result.error, f"{result.options}: {result.error}"
    assert result.height >= 1


@cache
def outcome_of_omission(seed: int) -> Result:
    return run_omission(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", OMISSION_SEEDS)
def test_no_seed_finds_a_violation_where_nobody_lies(seed: int) -> None:
    """Model: n > 2f suffices for omission faults."""
    result = outcome_of_omission(seed)
    assert not result.error, f"{result.options}: {result.error}"
    assert result.height >= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once_is_mended(seed: int) -> None:
    result = run(seed)
    assert not result.error, f"{result.options}: {result.error}"


@pytest.mark.slow
def test_a_block_counts_that_a_replica_was_killed_before_it_delivered() -> None:
    """Seed 6241 found it, of the simulator: it came back with the block, which nobody else had delivered yet."""
    result = run_omission(6241)
    assert not result.error, f"{result.options}: {result.error}"


@pytest.mark.slow
def test_no_snapshot_takes_a_replica_back() -> None:
    """Seed 1357: it had caught up meanwhile, and its journal began above the snapshot."""
    result = run_omission(1357)
    assert not result.error, f"{result.options}: {result.error}"


@pytest.mark.slow
def test_whatever_may_fail_does() -> None:
    """Links, disks, clocks and processes: a run in which nothing breaks finds nothing either."""
    stats: Counter[str] = Counter()
    for seed in SEEDS:
        stats.update(outcome(seed).stats)
    links = ("cuts", "broken links", "lost messages")
    disks = ("turns lost", "slow syncs", "old copies restored", "lost disks", "rejoined", "checkpoints")
    late = ("behind all memory", "blocks from storage")
    processes = ("kills", "pauses", "turns held")
    sets = ("set changes", "listeners", "retired", "handovers followed")
    for what in (*links, *disks, *late, *processes, *sets, "clock jumps", "equivocations", "stale reads refused"):
        assert stats[what] > 0, f"{what}: {stats[what]}"
    assert stats["turns torn"] >= 5


@pytest.mark.slow
def test_whatever_may_fail_does_where_nobody_lies() -> None:
    """All faults are omissions, at three, five and seven replicas, and up to f of them never come back whole."""
    stats: Counter[str] = Counter()
    for seed in OMISSION_SEEDS:
        stats.update(outcome_of_omission(seed).stats)
    chosen = [Options.with_omission(seed) for seed in OMISSION_SEEDS]
    assert {options.replicas for options in chosen} == {3, 5, 7}
    for options in chosen:
        assert options.fault_model == "omission" and not options.roles
        assert len(options.lost) + len(options.gone) <= (options.replicas - 1) // 2
    for what in ("gone for good", "lost disks", "rejoined", "cuts", "lost messages", "kills", "output ok"):
        assert stats[what] > 0, f"{what}: {stats[what]}"
    assert not stats["accusations"] and not stats["equivocations"]


def test_both_fault_models_have_their_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--seeds` and continuous integration run both: liars in half of the seeds, omission faults alone in a sixth."""
    for kind in ("run", "run_omission", "run_groups"):
        monkeypatch.setattr(f"tests.simulation.kinds.{kind}", lambda seed, keep_trace, kind=kind: kind)
    assert Counter(map(run_any, range(60))) == {"run": 30, "run_omission": 10, "run_groups": 20}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_replica_further_behind_than_memory_reaches_catches_up_from_storage(seed: int) -> None:
    """However far behind (consensus.md, "Catching up")."""
    options = replace(Options.from_seed(seed), replicas=4, roles=(), faults=(), lost=())
    result = Scenario(options.with_a_late_one(Random(seed))).run()
    assert not result.error, f"{result.options}: {result.error}"
    assert result.stats["behind all memory"] == 1
    assert result.stats["blocks from storage"] >= RECENT_BLOCKS
    assert result.healed_ms < 2_000


@pytest.mark.slow
def test_nothing_strikes_once_the_network_has_healed() -> None:
    """Seed 393 killed a replica in a sync that had begun before, and with it what it had just been brought."""
    assert not run(393).error


def test_a_calm_network_works() -> None:
    """Nothing is vacuous: blocks, payments, groups from opening to settlement, and reads."""
    result = Scenario(Options(seed=9, duration_ms=8_000, pause_ms=100)).run()
    assert not result.error
    assert result.height > 50
    assert result.stats["output ok"] > 50 and result.stats["reads"] > 20
    assert not result.stats.get("accusations")


@pytest.mark.slow
def test_a_process_that_goes_on_and_is_killed_in_the_same_moment() -> None:
    """Seed 29921507224: what a pause had held back struck the fuse, and the simulator went on with the dead process."""
    assert not run(29921507224).error


@pytest.mark.slow
def test_a_quorum_whose_clocks_are_wrong_puts_liveness_off() -> None:
    """Seed 201247: two of three replicas made blocks 14 s ahead of the time that all of them had after the heal."""
    result = run_any(201247)
    assert not result.error
    assert result.healed_ms > 12_000

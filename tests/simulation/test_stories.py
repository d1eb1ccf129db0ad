"""Stories of groups at every check: each plot, the seeds that found something, and the same trace for the same seed."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from tests.simulation.result import Result
from tests.simulation.stories.plots import PLOTS
from tests.simulation.stories.story import run_story

SEEDS = range(6 * len(PLOTS))
FOUND = {
    109: "a primary was accused of a FINAL by one that had claimed while a version was in flight",
    233: "a new link began with a ChangeDecline and not with a Resume, and an honest primary was accused",
    641: "an owner looked at a group that its wallet had closed and forgotten while it asked around",
    828: "a primary that lost its data was accused of a FINAL while a version was in flight that it cannot know of",
    911: "a member was accused of an ACK of an epoch whose end the primary had seen first",
    1390: "a witness that heard of a group after a change of amounts knew its promise no more, and never claimed",
    1718: "two of three chose a header whose body they alone had, and were forgiven only what is shown",
    3612: "what an old head alone had written down was taken for what the wallet signed",
    6047: "a primary in doubt sent a Commit to a member that had not heard its Resume",
}
"""Seeds that found a fault, which was mended; unit tests have them, too."""


@cache
def outcome(seed: int) -> Result:
    return run_story(seed)


@pytest.mark.slow
@pytest.mark.parametrize("plot", sorted(PLOTS))
def test_no_story_finds_a_violation(plot: str) -> None:
    """Issue 5: "Adversaries, in the simulator"."""
    seeds = [seed for seed in SEEDS if sorted(PLOTS)[seed % len(PLOTS)] == plot]
    assert len(seeds) == 6
    for seed in seeds:
        result = outcome(seed)
        assert not result.error, f"{result.options}: {result.error}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", FOUND)
def test_what_a_seed_found_is_mended(seed: int) -> None:
    result = run_story(seed)
    assert not result.error, f"{FOUND[seed]}: {result.error}"


@pytest.mark.slow
def test_stories_do_what_they_are_meant_to() -> None:
    """A story in which nothing happens finds nothing either."""
    stats: Counter[str] = Counter()
    for seed in SEEDS:
        stats.update(outcome(seed).stats)
    closed = ("closed by final", "closed by claims", "closed by deadline", "wedges", "bonds forfeited", "bounties")
    plots = ("slept through", "outages across a deadline", "promotions", "data lost", "false ACKs", "bodies awaited")
    beside = ("payments", "receipts", "kills", "changes", "signatures withheld", "heads fenced", "pleas")
    for what in closed + plots + beside:
        assert stats[what] > 0, f"{what}: {stats[what]}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [7, 8, 16])
def test_the_same_seed_gives_the_same_trace_hash(seed: int) -> None:
    first, second = outcome(seed), run_story(seed, keep_trace=True)
    assert first.steps > 500
    assert first.trace_hash == second.trace_hash != outcome(seed + len(PLOTS)).trace_hash

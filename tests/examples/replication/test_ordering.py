"""Ordering by replica-generated identifiers: one order, whatever one proposer in four does; and no less will do."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.replication.ordering import (
    AWAITED,
    BROKEN,
    HIGH,
    LIARS,
    SKEW,
    Outcome,
    Replica,
    Rules,
    every_arrival,
    first_split,
    main,
    run,
)

Lie = tuple[int, int] | None
Ticks = tuple[int, int, int]
LIES = st.none() | st.tuples(st.sampled_from((-5, 0, 1, 2, 3, HIGH)), st.integers(0, 8))
TICKS = st.tuples(*[st.integers(0, SKEW)] * 3)


@pytest.mark.parametrize("name", LIARS)
def test_one_order_and_nobody_waits_for_ever_however_two_requests_arrive(name: str) -> None:
    """ "All honest replicas execute the same requests in one order, whatever one liar in four proposes."."""
    for arrivals in every_arrival():
        outcome = run(arrivals, LIARS[name])
        assert outcome.agrees, arrivals
        assert outcome.ticks is not None, arrivals
        check_identifiers(outcome)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.fixed_dictionaries(dict.fromkeys("abc", st.tuples(LIES, LIES, LIES))),
    TICKS,
    TICKS,
    TICKS,
    st.integers(0, 4),
    st.integers(0, 9),
)
def test_one_order_whatever_a_liar_says_and_when(
    lies: dict[str, tuple[Lie, Lie, Lie]], a: Ticks, b: Ticks, c: Ticks, b_later: int, c_later: int
) -> None:
    arrivals = {"a": a, "b": [tick + b_later for tick in b], "c": [tick + c_later for tick in c]}
    outcome = run(arrivals, lambda request, listener: lies[request][listener])
    assert outcome.agrees
    assert outcome.ticks is not None
    check_identifiers(outcome)


def test_all_accept_the_same_identifier_whatever_a_liar_says_in_or_out_of_time() -> None:
    """One request, a high candidate or none for each honest replica, at every moment that matters."""
    lies = [None, *((HIGH, late) for late in range(AWAITED))]
    for ticks in product((0, SKEW), repeat=3):
        for told in product(lies, repeat=3):
            outcome = run({"a": ticks}, lambda _, listener, told=told: told[listener])  # type: ignore[misc]
            assert len({replica.accepted["a"] for replica in outcome.replicas}) == 1, (ticks, told)


def test_of_two_words_of_one_speaker_the_first_counts_and_is_relayed() -> None:
    replica = Replica(0, Rules())
    replica.see("a", 0)
    assert replica.hear("a", 3, 3, (5, 3), 1)
    assert not replica.hear("a", 3, 3, (7, 3), 2)
    assert replica.words["a"][3][3] == (5, 3)


def check_identifiers(outcome: Outcome) -> None:
    """UID1: no identifier is below an honest candidate. And all accept the same one, and execute in their order."""
    for replica in outcome.replicas:
        assert replica.accepted == outcome.replicas[0].accepted
        assert all(replica.accepted[name] >= own for name, own in replica.own.items())
        assert replica.executed == sorted(replica.executed, key=lambda name: (replica.accepted[name], name))


@pytest.mark.parametrize("words, liar, rules", BROKEN, ids=[words for words, _, _ in BROKEN])
def test_without_each_rule_honest_replicas_contradict_each_other_or_stand_still(
    words: str, liar: str, rules: Rules
) -> None:
    split = first_split(LIARS[liar], rules)
    idle = all(run(arrivals, LIARS[liar], rules).idle for arrivals in every_arrival(rules.replicas - 1))
    assert (split is None) == (words.startswith("waiting"))
    assert idle == (words.startswith("waiting"))


def test_what_one_request_costs_is_what_the_lesson_says() -> None:
    honest = run({"a": (0, 0, 0)}, LIARS["low"]).messages
    assert honest + 3 + 3 * 2 == 36  # and what an honest fourth one would say


def test_the_lesson_runs_and_says_what_broke(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    told = capsys.readouterr().out
    orders = re.findall(r"executed by the three honest ones: (.*);", told)
    assert {" ".join(sorted(order.split())) for order in orders} == {"a b c"}  # one order each
    assert len(orders) == len(LIARS)
    assert "nothing went wrong" not in told

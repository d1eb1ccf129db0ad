"""Each promise holds up to its assumption and not one step further; the real cores break when it is broken."""

from __future__ import annotations

import pytest

from examples.replication import assumptions
from examples.replication.assumptions import LONG_MS, MARGIN_MS, delay_everything, spend_twice, wedge_stale
from examples.replication.channel import WINDOW_MS
from examples.replication.ledger import FUNDS


def test_one_liar_of_three_spends_money_twice_and_leaves_proof() -> None:
    spent = spend_twice(3, "omission")
    assert spent.in_the_end == [("1", FUNDS, 0), ("2", 0, FUNDS)]
    assert spent.forked_at == 1
    assert spent.accusers == ["1", "2"]


def test_quorums_of_all_three_do_not_fork_but_stand_still() -> None:
    spent = spend_twice(3, "byzantine")
    assert spent.forked_at is None
    assert spent.in_the_end == [("1", 0, 0), ("2", 0, 0)]


@pytest.mark.parametrize("replicas", [4, 5, 6, 7])
def test_the_same_liar_among_four_or_more_spends_once(replicas: int) -> None:
    spent = spend_twice(replicas, "byzantine")
    assert spent.forked_at is None
    assert len({(bob, carol) for _, bob, carol in spent.in_the_end}) == 1
    assert spent.in_the_end[0][1] + spent.in_the_end[0][2] == FUNDS
    assert spent.accusers


@pytest.mark.parametrize("report_after_ms, wins", [(0, True), (WINDOW_MS - MARGIN_MS, True), (WINDOW_MS, False)])
def test_a_report_within_the_window_wins_and_one_after_it_does_not(report_after_ms: int, wins: bool) -> None:
    settled = wedge_stale(report_after_ms)
    assert settled.newest == 2
    assert settled.version == (2 if wins else 1)
    assert settled.payouts == ((190, 810) if wins else (490, 510))


def test_a_delay_of_everything_costs_time_and_no_truth() -> None:
    spent = delay_everything(WINDOW_MS + LONG_MS)
    assert {row[1:] for row in spent.while_apart} == {(0, 0)}
    assert {row[1:] for row in spent.in_the_end} == {(FUNDS, 0)}
    assert spent.forked_at is None


def test_the_lesson_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assumptions.main()
    told = capsys.readouterr().out
    assert [told.count(word) for word in ("FORK", "STALE", "LOST", "kept)")] == [1, 1, 1, 3]

"""Layer 1 as the master: one sequence of configurations, whoever asks for what, and in whatever order."""

from __future__ import annotations

import pytest

from examples.replication.ledger import Ledger
from examples.replication.master import SALT_BYTES, LedgerMaster
from layer1.errors import Refused

FIRST = ("A", "B", "C")


def test_of_two_successors_the_first_on_the_ledger_counts_for_everybody() -> None:
    """ "There is one sequence of configurations, and everybody who reads the ledger reads the same one."."""
    ledger = Ledger(())
    master = LedgerMaster(ledger)
    first = master.begin(FIRST)
    won, late = master.succeed(first, "A", ("A", "D"), "early"), master.succeed(first, "B", ("B", "C"), "late")
    assert won == late
    assert (won.number, won.members, won.note) == (1, ("A", "D"), "early")
    reader = LedgerMaster(ledger)
    assert [one.id for one in reader.configurations()] == [first.id, won.id]


def test_one_who_is_no_member_stops_nothing() -> None:
    master = LedgerMaster(Ledger(()))
    first = master.begin(FIRST)
    with pytest.raises(Refused, match="D is none of A, B, C"):
        master.succeed(first, "D", ("D", "E"))
    assert master.configurations() == [first]


@pytest.mark.parametrize("carried, members", [(1, ("D", "E")), (2, ("A", "D", "E"))])
def test_a_group_that_takes_over_too_few_members_is_no_successor(carried: int, members: tuple[str, ...]) -> None:
    """Strangers, or a liar with strangers, could else begin with a history of their own."""
    master = LedgerMaster(Ledger(()), carried)
    first = master.begin(FIRST)
    with pytest.raises(Refused):
        master.succeed(first, "A", members)
    second = master.succeed(first, "A", ("A", "B", "F"))
    assert master.configurations() == [first, second]
    assert second.members == ("A", "B", "F")


def test_a_group_opened_before_the_wedge_is_no_successor() -> None:
    master = LedgerMaster(Ledger(()))
    first = master.begin(FIRST)
    with pytest.raises(Refused):
        master._open(1, ("A", "D"), first.id[:SALT_BYTES], "")
    assert master.succeed(first, "A", ("A", "E")).members == ("A", "E")


def test_a_group_that_names_another_one_is_no_successor() -> None:
    """Replicas may serve more than one chain."""
    master = LedgerMaster(Ledger(()))
    first = master.begin(FIRST)
    master._wedge(first, "A")
    with pytest.raises(Refused):
        master._open(1, ("A", "D"), b"another chain...", "")
    assert master.configurations() == [first]


def test_one_silent_replica_of_the_ledger_is_masked_and_two_delay_the_decision() -> None:
    ledger = Ledger(())
    master = LedgerMaster(ledger)
    first = master.begin(FIRST)
    ledger.muted = {"0"}
    second = master.succeed(first, "A", ("A", "D"))
    ledger.muted = {"0", "1"}
    with pytest.raises(TimeoutError):
        master.succeed(second, "A", ("A", "E"))
    ledger.muted = set()
    assert master.succeed(second, "D", ("D", "E")).number == 2

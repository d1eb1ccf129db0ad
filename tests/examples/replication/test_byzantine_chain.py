"""Byzantine chain replication: what was committed is in the successor, whoever of f lies, and however."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from examples.replication import byzantine_chain as lesson
from examples.replication.byzantine_chain import (
    BROKEN,
    LIES,
    MEMBERS,
    Chain,
    Ending,
    Forgetful,
    Replica,
    loaded,
    two_colluders,
)
from examples.replication.master import Configuration, Hearsay
from examples.replication.wedging import Entry, decide, is_valid

CUTS = (*range(11), None)
"""Messages delivered before the wedge; two updates take ten."""


@pytest.mark.parametrize("liar", MEMBERS)
@pytest.mark.parametrize("lie", LIES)
def test_what_was_committed_is_kept_whoever_lies_and_whenever_the_chain_is_wedged(lie: str, liar: str) -> None:
    """ "No committed update is ever lost or changed while at most f of 2f+1 replicas lie."."""
    for cut in CUTS:
        chain = loaded({liar: LIES[lie]}, cut)
        said = chain.statements()
        for order in permutations(said):
            decided = decide(chain.configuration, order)
            assert decided is not None, (cut, "two honest ones agree")
            assert Ending(tuple(chain.committed), decided[1]).kept, (cut, order)


def test_without_a_liar_everything_is_committed_in_order() -> None:
    chain = loaded({})
    assert chain.committed == ["x = 1", "x = 2"]
    assert all(len(entry.proof) == 3 for replica in chain.replicas.values() for entry in replica.history)
    assert all(is_valid(chain.configuration, statement) for statement in chain.statements())


@pytest.mark.parametrize("words", BROKEN)
def test_one_signature_or_statement_less_loses_what_was_committed(words: str) -> None:
    ending = BROKEN[words]()
    assert ending.committed
    assert ending.kept == words.startswith("nothing broken")


def test_two_colluders_of_three_lose_what_was_committed() -> None:
    assert two_colluders() == Ending(("x = 1", "x = 2"), ("x = 1",))


def test_who_wedged_signs_nothing_more() -> None:
    chain = Chain(Hearsay().begin(MEMBERS))
    chain.statements()
    chain.submit("x = 1")
    chain.run()
    assert not chain.committed
    assert not any(replica.history for replica in chain.replicas.values())


def test_two_statements_of_one_member_count_once() -> None:
    chain = loaded({"B": Forgetful})
    liar = chain.replicas["B"]
    said = [liar.state(liar.history[:1]), liar.state([])]
    assert decide(chain.configuration, said) is None


def test_a_statement_holds_only_what_its_member_and_all_before_it_signed() -> None:
    chain = loaded({})
    tail, head = chain.replicas["C"], chain.replicas["A"]
    invented = tail.state([tail.sign(Entry(0, "invented"))])
    gap = tail.state(tail.history[1:])
    of_another = replace(head.state(head.history), name="C")
    foreign = replace(head.state(head.history), name="Z")
    stranger = Replica("B", Configuration(7, b"", MEMBERS))
    elsewhere = stranger.state([stranger.sign(head.history[0])])
    assert not any(is_valid(chain.configuration, each) for each in (invented, gap, of_another, foreign, elsewhere))


def test_a_replica_signs_one_update_at_each_place() -> None:
    head = Replica("A", Hearsay().begin(MEMBERS))
    assert head.order(Entry(0, "x = 1")) is not None
    assert head.order(Entry(0, "x = 2")) is None
    assert head.order(Entry(2, "x = 3")) is None


def test_an_honest_replica_takes_nothing_that_those_before_it_did_not_sign() -> None:
    """Else a liar could make its history void, and with it its statement."""
    configuration = Hearsay().begin(MEMBERS)
    head, tail = Replica("A", configuration), Replica("C", configuration)
    given = head.order(Entry(0, "x = 1"))
    assert given is not None
    assert tail.order(given) is None
    assert not tail.history


def test_an_honest_replica_takes_no_certificate_that_is_not_whole_or_not_of_its_update() -> None:
    chain = loaded({}, deliveries=5)
    head, tail = chain.replicas["A"], chain.replicas["C"]
    whole = tail.history[0]
    assert head.certify(replace(whole, proof=whole.proof[:2])) is None
    assert head.certify(replace(whole, slot=1)) is None
    other = loaded({}, deliveries=0)
    other.wire.clear()
    other.slots = 0
    other.submit("x = 2")
    other.run()
    assert head.certify(other.replicas["C"].history[0]) is None
    assert len(head.history[0].proof) == 1
    assert head.certify(whole) == whole


class SignsTwice(Replica):
    """What no honest replica does."""

    def order(self, entry: Entry) -> Entry | None:
        self.history = self.history[: entry.slot]
        return super().order(entry)


def test_members_that_sign_a_place_twice_break_the_promise() -> None:
    chain = loaded(dict.fromkeys(MEMBERS, SignsTwice))
    chain.slots = 1
    chain.submit("x = 3")
    chain.run()
    assert chain.committed == ["x = 1", "x = 2", "x = 3"]  # two of them at one place
    assert not lesson.end(chain).kept


def test_the_lesson_runs(capsys: pytest.CaptureFixture[str]) -> None:
    lesson.main()
    told = capsys.readouterr().out
    assert told.count("committed is kept.") == len(lesson.STORY)
    assert told.count("LOST") == len(BROKEN) - 1
    assert "Configuration 4 of the ledger" in told

"""Chain replication: nothing acknowledged is lost, whoever crashes, and whenever."""

from __future__ import annotations

from itertools import combinations

import pytest

from examples.replication import chain as lesson
from examples.replication.chain import (
    FIRST,
    SPARES,
    Chain,
    HeadAcknowledges,
    check_propagation,
    lost,
    messages_per_decision,
    messages_per_update,
    split_brain,
)
from examples.replication.ledger import Ledger
from examples.replication.master import Configuration, Hearsay, LedgerMaster, Master
from examples.replication.quorums import measure

UPDATES = ("a", "b", "c")
CUTS = range(7)
"""Messages delivered before the crash: three updates take six."""


def crashed(
    kind: type[Chain],
    victims: tuple[str, ...],
    cut: int,
    master: Master | None = None,
    spares: tuple[str, ...] = SPARES,
) -> Chain:
    """A chain in which some crash with updates under way; repaired. One suspicion needs no ledger to decide on it."""
    master = master or Hearsay()
    chain = kind(master, master.begin(FIRST), spares)
    for update in UPDATES:
        chain.submit(update)
    for _ in range(cut):
        chain.deliver()
    for victim in victims:
        chain.crash(victim)
    chain.run()
    check_propagation(chain)
    chain.reconfigure()
    chain.run()
    check_propagation(chain)
    return chain


@pytest.mark.parametrize("spares", [SPARES, ()])
@pytest.mark.parametrize("victims", [*combinations(FIRST, 1), *combinations(FIRST, 2)], ids="".join)
def test_nothing_acknowledged_is_lost_whoever_of_f_crash_and_whenever(
    victims: tuple[str, ...], spares: tuple[str, ...]
) -> None:
    """ "No acknowledged update is ever lost or reordered, through the failure of head, middle and tail."."""
    for cut in CUTS:
        chain = crashed(Chain, victims, cut, spares=spares)
        assert not lost(chain), cut
        assert sorted(chain.acknowledged) == sorted(UPDATES), cut
        assert all(replica.history == chain.acknowledged for replica in chain.members), cut


@pytest.mark.parametrize("victim", FIRST)
def test_the_ledger_names_the_chain_that_goes_on(victim: str) -> None:
    chain = crashed(Chain, (victim,), 2, LedgerMaster(Ledger(())))
    assert chain.configuration.number == 1
    assert chain.configuration.members == (*(name for name in FIRST if name != victim), "D")
    assert not lost(chain)


def test_after_f_plus_one_crashes_nobody_pretends_to_know() -> None:
    with pytest.raises(RuntimeError, match="all 3 replicas crashed"):
        crashed(Chain, FIRST, 6)


def test_an_acknowledgement_by_the_head_can_be_lost() -> None:
    chain = lesson.hasty_head(HeadAcknowledges)
    assert chain.acknowledged == lost(chain) == ["x=1"]
    assert not lesson.hasty_head(Chain).acknowledged


class MiddleAcknowledges(Chain):
    """Two of three are thought to be enough."""

    @property
    def _acknowledging_place(self) -> int:
        return min(1, len(self.members) - 1)


@pytest.mark.parametrize("kind, found", [(MiddleAcknowledges, ["a"]), (Chain, [])])
def test_an_acknowledgement_by_any_but_the_tail_can_be_lost(kind: type[Chain], found: list[str]) -> None:
    chain = kind(Hearsay(), Hearsay().begin(FIRST), SPARES)
    chain.submit("a")
    chain.deliver()
    chain.submitted.clear()
    chain.crash("A")
    chain.crash("B")
    chain.reconfigure()
    chain.run()
    assert lost(chain) == found


class SendsNothingAgain(Chain):
    """A new neighbour is not told what it lacks."""

    def install(self, configuration: Configuration) -> None:
        self.configuration = configuration


class SuccessorsOfTheDead(Chain):
    """The successor goes before those that were nearer to the head."""

    def install(self, configuration: Configuration) -> None:
        members = configuration.members[::-1]
        super().install(Configuration(configuration.number, configuration.id, members))


@pytest.mark.parametrize("kind", [SendsNothingAgain, SuccessorsOfTheDead])
def test_broken_repairs_are_found(kind: type[Chain]) -> None:
    def is_broken(victim: str, cut: int) -> bool:
        try:
            chain = crashed(kind, (victim,), cut)
        except AssertionError:
            return True
        return bool(lost(chain)) or sorted(chain.acknowledged) != sorted(UPDATES)

    assert any(is_broken(victim, cut) for victim in FIRST for cut in CUTS)


def test_without_a_master_two_halves_both_go_on() -> None:
    assert split_brain(Hearsay()) == [["x=1"], ["x=2"]]
    assert split_brain(LedgerMaster(Ledger(()))) == [["x=1"], []]


def test_an_update_takes_one_message_per_replica() -> None:
    assert messages_per_update() == len(FIRST)


def test_a_decision_costs_what_two_transactions_on_the_ledger_do() -> None:
    assert messages_per_decision() == 2 * measure("byzantine", 4).messages


def test_the_lesson_runs(capsys: pytest.CaptureFixture[str]) -> None:
    lesson.main()
    told = capsys.readouterr().out
    assert "configuration 3 is B D F" in told
    assert told.count("lost: nothing") == 4
    assert "split brain" in told

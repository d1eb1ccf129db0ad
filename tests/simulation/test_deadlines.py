"""The checker of deadlines agrees with every story of a dispute, and finds what breaks one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from layer1.ledger import disputes, settlement
from layer1.ledger.agreements import initial_body
from layer1.ledger.execute import Execution
from layer1.ledger.records import Group, Reason
from layer1.ledger.transactions import Transaction
from tests.layer1.ledger.dispute_scenarios import DISPUTES, wait
from tests.layer1.ledger.world import PERIOD, World
from tests.simulation.checkers.base import Violation
from tests.simulation.checkers.deadlines import Deadlines


class Watched(World):
    """Each of its blocks is shown to a checker."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.checker = Deadlines(self.genesis, range(4))

    def block(self, *transactions: Transaction, after_ms: int = 1) -> Execution:
        execution = super().block(*transactions, after_ms=after_ms)
        header = SimpleNamespace(height=execution.state.height, clock=execution.clock)
        block: Any = SimpleNamespace(
            header=header, transactions=execution.transactions, outputs=execution.outputs, events=execution.events
        )
        self.checker.delivered("replica 0", 0, block)
        return execution


@pytest.mark.parametrize("name", DISPUTES)
def test_it_agrees_with_every_story(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DISPUTES[name].__globals__, "World", Watched)
    DISPUTES[name]()


def plea() -> None:
    world = Watched()
    party = world.opened()
    world.do(party.plea(1))
    wait(world, party)


def hidden() -> None:
    world = Watched()
    party = world.opened()
    world.do(party.wedge(0, party.hidden(3, 1_700, 300)))
    world.block(after_ms=PERIOD)


def witnessed() -> None:
    world = Watched()
    party = world.opened(witnessed=True)
    world.do(party.wedge(0, party.state(3, 1_700, 300)))
    world.block(after_ms=PERIOD)


def known() -> None:
    world = Watched()
    party = world.opened()
    world.do(party.wedge(0, party.state(3, 1_700, 300)))
    world.block(after_ms=PERIOD)


def _plea_doubles_nothing(patch: pytest.MonkeyPatch) -> None:
    stopped = disputes._stopped
    patch.setattr(disputes, "_stopped", lambda group, member, clock_ms, **_: stopped(group, member, clock_ms, 1))


def _pays_what_is_not_known(patch: pytest.MonkeyPatch) -> None:
    settle = settlement.settle

    def impatient(group: Group, reason: Reason, clock_ms: int) -> Group:
        return settle(structs.replace(group, body=group.body or initial_body(group.agreement)), reason, clock_ms)

    patch.setattr(settlement, "settle", impatient)


def _waits_for_what_is_known(patch: pytest.MonkeyPatch) -> None:
    settle = settlement.settle
    patch.setattr(settlement, "settle", lambda group, *rest: settle(structs.replace(group, body=None), *rest))


def _witnessed_by_the_clock(patch: pytest.MonkeyPatch) -> None:
    stopped = disputes._stopped

    def clocked(group: Group, member: int, clock_ms: int, periods: int) -> Group:
        return structs.replace(stopped(group, member, clock_ms, periods), deadline_ms=clock_ms + PERIOD)

    patch.setattr(disputes, "_stopped", clocked)


@pytest.mark.parametrize(
    ("story", "mutate"),
    [
        (plea, _plea_doubles_nothing),
        (hidden, _pays_what_is_not_known),
        (known, _waits_for_what_is_known),
        (witnessed, _witnessed_by_the_clock),
    ],
)
def test_it_finds_what_breaks_a_dispute(
    story: Callable[[], None], mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    story()
    mutate(monkeypatch)
    with pytest.raises(Violation):
        story()

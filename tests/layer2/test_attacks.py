"""Attacks on layer 2 that were tried, each kept as a test that failed before."""

from __future__ import annotations

import asyncio

import pytest

from layer1.errors import LocalError
from layer1.ledger.agreements import Limits
from layer2.driver import Pending
from layer2.payments import pay
from tests.layer2.harness import pair
from tests.layer2.test_driver import GROUP, Pair, sides

__all__ = ["sides"]


async def test_a_payment_whose_record_the_journal_does_not_take_gets_an_answer(
    sides: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller waited for ever, and so did all others of the turn; the error went to the event loop's log."""
    await sides.connect()

    def fail(record: bytes) -> None:
        raise LocalError("the journal is frozen: compacting it failed")

    monkeypatch.setattr(sides.a.journal, "append", fail)
    async with asyncio.timeout(1):
        answers = await asyncio.gather(
            *(sides.a.host.submit(GROUP, pay(1, 1)) for _ in range(3)), return_exceptions=True
        )
    assert all(isinstance(answer, Pending) for answer in answers)
    assert sides.a.group.frozen
    assert ("frozen", "the journal is frozen: compacting it failed") in sides.a.log.events


def test_refusals_one_by_one_do_not_exhaust_the_stack() -> None:
    """With small batches the primary went one call deeper for each of its own commands that it had to refuse."""
    a, _, wire = pair(limits=Limits(max_batch=1))
    a.request(*(pay(1, 5_000) for _ in range(3_000)), pay(1, 5))
    wire.run()
    assert len(a.rejected) == 3_000
    assert a.group.state.body.balances == (995, 1_005)

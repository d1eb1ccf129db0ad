"""Every checker fails on what it is there to find."""

from __future__ import annotations

import pytest
from msgspec import structs

from layer1.block import CommittedBlock
from layer1.consensus.messages import Finalization
from layer1.header import Header
from layer1.ledger.genesis import genesis_header
from tests.simulation.checkers.agreement import Agreement
from tests.simulation.checkers.base import Checker, Violation
from tests.simulation.ledger import genesis

GENESIS = genesis(4, 1)
HONEST = (0, 1, 2)


def child(before: Header, **changes: object) -> Header:
    header = structs.replace(before, height=before.height + 1, view=before.view + 1, parent=before.id)
    return structs.replace(header, **changes)


def block(header: Header) -> CommittedBlock:
    return CommittedBlock(header, Finalization(0, header.view, header.id, ()), (), (), (), ())


def expect(checker: Checker, message: str) -> pytest.RaisesExc[Violation]:
    return pytest.raises(Violation, match=f"{checker.name}: .*{message}")


FIRST = child(genesis_header(GENESIS))
SECOND = child(FIRST)


def test_agreement_takes_one_chain() -> None:
    checker = Agreement(GENESIS, HONEST)
    for name in ("a", "b"):
        for header in (FIRST, SECOND):
            checker.delivered(name, 0, block(header))
    checker.restored("a", 0, [block(FIRST)], 1)
    checker.delivered("a", 0, block(SECOND))


@pytest.mark.parametrize(
    ("chain", "why"),
    [
        ([child(genesis_header(GENESIS), view=9)], "others"),
        ([SECOND], "block 1 is next"),
        ([FIRST, FIRST], "block 2 is next"),
        ([FIRST, SECOND, child(SECOND, parent=FIRST.id)], "another parent"),
    ],
)
def test_agreement_finds_forks_and_gaps(chain: list[Header], why: str) -> None:
    checker = Agreement(GENESIS, HONEST)
    checker.delivered("a", 0, block(FIRST))
    with expect(checker, why):
        for header in chain:
            checker.delivered("b", 1, block(header))

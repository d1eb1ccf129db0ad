"""Seats around one table: a group of any size in this process, each member with a journal and real links of its own.

async with table(Counter(), deposits=(0, 0, 0)) as (group_id, seats): ...

There is no ledger here, so nothing is locked; `tests/e2e/test_own_group.py` does the same with one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from layer1.crypto import Domain, Hash, SigningKey, digest
from layer1.ledger.agreements import GroupAgreement, group_id
from layer1.ledger.transactions import OpenGroup, Transaction
from layer2.machine import StateMachine
from layer2.seat import Seat

CHAIN = digest(Domain.GENESIS, b"no ledger, an example")


def opening_of(seats: Sequence[Seat], deposits: Sequence[int], chain_id: Hash, clock_ms: int) -> Transaction:
    """The opening that all seats sign, the first of them the primary; unsigned. Everybody posts a bond of 10."""
    salt = os.urandom(16)
    members = tuple(seat.member(salt, units, bond=10) for seat, units in zip(seats, deposits, strict=True))
    before_ms = clock_ms + 120_000
    agreement = GroupAgreement(chain_id, members, 60_000, seats[0].machine.name, before_ms, salt)
    return Transaction(OpenGroup(agreement), before_ms - 1, salt)


def join_all(seats: Sequence[Seat], opening: Transaction) -> Hash:
    """All take their seats; the group's name."""
    assert isinstance(opening.payload, OpenGroup)
    agreement = opening.payload.agreement
    name = group_id(agreement, opening.id)
    for seat in seats:
        seat.join(agreement, name, [each.contact for each in seats])
    return name


@contextlib.asynccontextmanager
async def table(machine: StateMachine, deposits: Sequence[int]) -> AsyncIterator[tuple[Hash, list[Seat]]]:
    """As many seats as deposits, in step."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wedge-")))
        made = [Seat(folder / str(i), SigningKey.generate(), CHAIN, machine) for i in range(len(deposits))]
        seats = [await stack.enter_async_context(seat) for seat in made]
        name = join_all(seats, opening_of(seats, deposits, CHAIN, 0))
        await asyncio.gather(*(seat.ready(name) for seat in seats))
        yield name, seats

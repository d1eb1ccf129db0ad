"""A `Commit` lingers: the next proposal makes it superfluous, and without one it leaves by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from layer1.crypto import ZERO_HASH
from layer1.ledger.agreements import Certificate, GroupHeader
from layer2.events import Send
from layer2.lingering import TURNS, Outgoing
from layer2.messages import Accept, Acked, Acks, Commit, GroupMessage, Propose, decode_message
from tests.layer2.harness import key
from tests.layer2.test_driver import Pipe

GROUP = bytes([7]) * 32
HEADER = GroupHeader(ZERO_HASH, GROUP, 0, 1, ZERO_HASH, ZERO_HASH, ZERO_HASH)
COMMIT = Commit(Certificate(HEADER, (bytes(64), bytes(64), bytes(64))))
NEXT = msgspec.structs.replace(HEADER, version=2)
PROPOSE = Propose(NEXT, b"", bytes(16), bytes(64), COMMIT.certificate.signatures, ())
ACCEPT = Accept(GROUP, 1, bytes(64))


class Line(Pipe):
    """A link that keeps what it was handed."""

    def __init__(self) -> None:
        super().__init__(key("peer").public)
        self.twin = self

    @property
    def sent(self) -> list[Any]:
        return [decode_message(each) for each in self.arrived]


def send(out: Outgoing, line: Line, *messages: GroupMessage, member: int = 1) -> None:
    for message in messages:
        out.send(GROUP, Send(member, message), line)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_it_leaves_by_itself_and_soon() -> None:
    out, line = Outgoing(), Line()
    send(out, line, COMMIT)
    await turns(TURNS - 1)
    assert not line.sent, "else it would leave before the command that follows it is proposed"
    await turns(3)
    assert line.sent == [COMMIT]
    await turns(2 * TURNS)
    assert line.sent == [COMMIT]


async def test_a_proposal_carries_what_it_would_say() -> None:
    out, line = Outgoing(), Line()
    send(out, line, COMMIT, PROPOSE)
    await turns(2 * TURNS)
    assert line.sent == [PROPOSE]


async def test_order_is_kept_before_other_messages() -> None:
    out, line = Outgoing(), Line()
    send(out, line, COMMIT, ACCEPT)
    assert line.sent == [COMMIT, ACCEPT]
    await turns(2 * TURNS)
    assert line.sent == [COMMIT, ACCEPT]


async def test_to_another_member_it_still_leaves() -> None:
    out, line, other = Outgoing(), Line(), Line()
    send(out, line, COMMIT)
    send(out, other, COMMIT, PROPOSE, member=2)
    await turns(2 * TURNS)
    assert (line.sent, other.sent) == ([COMMIT], [PROPOSE])


@pytest.mark.parametrize("fields", [{"version": 3}, {"epoch": 1}])
async def test_a_proposal_on_another_version_does_not(fields: dict[str, int]) -> None:
    out, line = Outgoing(), Line()
    other = msgspec.structs.replace(PROPOSE, header=msgspec.structs.replace(NEXT, **fields))
    send(out, line, COMMIT, other)
    assert line.sent == [COMMIT, other]


@pytest.mark.parametrize("ends", [0, 1])
async def test_a_link_that_ends_gets_its_own(ends: int) -> None:
    out, lines = Outgoing(), (Line(), Line())
    for member, line in enumerate(lines):
        send(out, line, COMMIT, member=member)
    out.flush(lines[ends])
    assert [len(line.sent) for line in lines] == [int(i == ends) for i in range(2)]
    await turns(2 * TURNS)
    assert [len(line.sent) for line in lines] == [1, 1]


ACK = Acked(2, 1, bytes(64))


@pytest.mark.parametrize("carried", [(), (ACK,), (msgspec.structs.replace(ACK, version=0),), (ACK, ACK)])
async def test_acks_linger_for_a_proposal_that_carries_them_all(carried: tuple[Acked, ...]) -> None:
    out, line = Outgoing(), Line()
    acks, propose = Acks(GROUP, 0, (ACK,)), msgspec.structs.replace(PROPOSE, acks=carried)
    send(out, line, acks, propose)
    assert line.sent == ([propose] if ACK in carried else [acks, propose])
    send(out, line, acks, msgspec.structs.replace(propose, header=msgspec.structs.replace(NEXT, epoch=1)))
    assert acks in line.sent, "of another epoch"

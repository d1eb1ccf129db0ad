"""Reading the graph from a ledger: all pages, then each change; whatever a replica leaves out, adds, or cannot give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

import pytest

from layer1.client import LedgerEvent, LedgerUnreachable
from layer1.crypto import Hash
from layer1.errors import Refused, RemoteError
from layer1.header import Header
from layer1.ledger.agreements import GroupAgreement, Member
from layer1.ledger.records import Group, Status
from layer1.proof import Verified
from layer1.reader import ListedGroup, listed
from tests.wallet.routing.town import NODES, channel_id
from tests.wallet.standin import Chain, make_genesis
from wallet import survey
from wallet.requests import Progress
from wallet.routing import graph as graph_module
from wallet.routing.graph import Channel, ChannelGraph
from wallet.survey import Survey


def group(number: int, status: Status = Status.OPEN, machine: str = "payments/2", units: int = 500) -> Group:
    members = tuple(Member(bytes([i]) * 32, NODES[number + i], bytes(32), units, 1) for i in (0, 1))
    agreement = GroupAgreement(bytes(32), members, 1, machine, 1, bytes(16))
    fields: dict[str, Any] = dict.fromkeys(Group.__struct_fields__)
    return Group(**{**fields, "group_id": channel_id(number), "agreement": agreement, "status": status})


class Ledger:
    """Answers as it is told to."""

    def __init__(self, *groups: Group) -> None:
        self.groups_now = {each.group_id: each for each in groups}
        self.listed = [self._listed(each) for each in groups]
        self.fails = 0
        self.told: asyncio.Queue[LedgerEvent | Refused] = asyncio.Queue()
        self.reads = 0
        self.asked: list[Sequence[Hash]] = []

    @staticmethod
    def _listed(each: Group) -> ListedGroup:
        accounts = tuple(member.funding for member in each.agreement.members)
        is_open = each.status is Status.OPEN
        return ListedGroup(each.group_id, is_open, each.agreement.machine, accounts, each.agreement.funding_units)

    async def head(self) -> Header:
        if self.fails:
            self.fails -= 1
            raise LedgerUnreachable("no replica answers")
        return HEADER

    async def listed_groups(self, cursor: str = "") -> tuple[list[ListedGroup], str]:
        self.reads += not cursor
        start = int(cursor or 0)
        return self.listed[start : start + 1], str(start + 1) if start + 1 < len(self.listed) else ""

    async def groups(self, ids: Sequence[Hash]) -> Verified[tuple[Group | None, ...]]:
        self.asked.append(ids)
        return Verified(tuple(self.groups_now.get(each) for each in ids), HEADER)

    async def events(self, after: int, kinds: Iterable[str]) -> AsyncGenerator[LedgerEvent, None]:
        while True:
            event = await self.told.get()
            if isinstance(event, Refused):
                raise event
            yield event

    def tell(self, change: str, number: int) -> None:
        self.told.put_nowait(LedgerEvent("group", 1, {"group": channel_id(number).hex(), "change": change}))

    def block(self) -> None:
        self.told.put_nowait(LedgerEvent("block", 1, {}, HEADER))


HEADER = Chain(make_genesis()).header


class Place:
    def __init__(self, ledger: Ledger, ours: Iterable[int] = ()) -> None:
        self.graph = ChannelGraph(bytes(32))
        mine = {channel_id(number) for number in ours}
        for number in ours:
            self.graph.show(Channel(channel_id(number), (NODES[number], NODES[number + 1]), 77))
        self.survey = Survey(ledger, self.graph, lambda name: name in mine)  # type: ignore[arg-type]

    @property
    def known(self) -> set[int]:
        return {number for number in range(10) if channel_id(number) in self.graph.channels}


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "AGAIN_S", 0.0)


async def test_all_pages_are_read_and_only_what_forwards_is_kept() -> None:
    ledger = Ledger(group(1), group(2), group(3, Status.WEDGED), group(4, machine="payments/1"), group(5))
    place, told = Place(ledger), list[Progress]()
    await place.survey.read(told.append)
    assert place.known == {1, 2, 5} and told[-1].done == 3
    await place.survey.read()
    assert ledger.reads == 1, "once"
    await place.survey.close()


async def test_openings_changes_and_closings_are_followed() -> None:
    ledger = Ledger(group(1), group(2))
    place = Place(ledger)
    await place.survey.read()
    ledger.groups_now[channel_id(3)] = group(3)
    ledger.groups_now[channel_id(1)] = group(1, units=900)
    for change, number in (("opened", 3), ("changed", 1), ("wedged", 2), ("opened", 7), ("reported", 8)):
        ledger.tell(change, number)
    ledger.block()
    await settle()
    assert place.known == {1, 3}, "7 is not there when it is looked at"
    assert place.graph.channels[channel_id(1)].capacity == 1_800 and len(ledger.asked) == 1
    ledger.tell("closed", 3)
    await settle()
    assert place.known == {1}
    await place.survey.close()


async def test_of_our_own_channels_no_replica_is_believed() -> None:
    ledger = Ledger(group(1), group(2, units=9))
    place = Place(ledger, ours=[2, 4])
    await place.survey.read()
    ledger.tell("closed", 2)
    ledger.tell("changed", 4)
    ledger.block()
    await settle()
    assert place.known == {1, 2, 4} and place.graph.channels[channel_id(2)].capacity == 77
    await place.survey.close()


async def test_what_is_listed_no_more_is_forgotten_when_it_is_read_again(quick: None) -> None:
    """No replica keeps what comes next: then the list is read anew."""
    ledger = Ledger(group(1), group(2))
    place = Place(ledger)
    await place.survey.read()
    ledger.listed = ledger.listed[1:]
    ledger.told.put_nowait(Refused("pruned", "nobody keeps it"))
    await settle()
    assert ledger.reads == 2 and place.known == {2}
    ledger.groups_now[channel_id(5)] = group(5)
    ledger.tell("opened", 5)
    ledger.block()
    await settle()
    assert place.known == {2, 5}
    await place.survey.close()


async def test_without_a_ledger_one_does_not_wait_and_it_is_tried_again(quick: None) -> None:
    ledger = Ledger(group(1))
    ledger.fails = 2
    place = Place(ledger)
    await place.survey.read()
    assert place.known == set()
    await settle()
    assert place.known == {1}
    await place.survey.close()


async def test_whoever_lists_without_end_is_believed_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MOST_PAGES", 2)
    monkeypatch.setattr(graph_module, "MOST_CHANNELS", 1)
    ledger = Ledger(*(group(number) for number in range(1, 6)))
    place = Place(ledger)
    await place.survey.read()
    assert place.known == {1}
    await place.survey.close()


# --------------------------------------------------------------------------------------------------- pages of a replica


ADDRESS = "wedge1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq"
MEMBER = {"funding": ADDRESS, "deposit": 5}
ITEM = {"id": "00" * 32, "status": "open", "machine": "payments/2", "members": [MEMBER, MEMBER]}


@pytest.mark.parametrize(
    "page",
    [
        {}, {"items": 3, "next": None}, {"items": [1], "next": None}, {"items": [{**ITEM, "id": "00"}], "next": None},
        {"items": [{**ITEM, "members": [{**MEMBER, "deposit": -1}]}], "next": None},
        {"items": [{**ITEM, "members": [{**MEMBER, "deposit": 2**60}]}], "next": None},
        {"items": [{**ITEM, "members": [{**MEMBER, "deposit": "5"}]}], "next": None},
        {"items": [{**ITEM, "members": [{**MEMBER, "funding": "nobody"}]}], "next": None},
        {"items": [], "next": "5-1"}, {"items": [], "next": 7},
    ],
)  # fmt: skip
def test_a_page_that_is_none_is_the_replicas_fault(page: dict[str, Any]) -> None:
    with pytest.raises(RemoteError):
        listed(page, "5-1")

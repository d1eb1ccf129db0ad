"""Customers at a tower: what is said when, and to whom (rule 17, decision 032)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from layer1.errors import LocalError
from layer1.ledger.agreements import Certificate
from layer1.ledger.records import Status
from layer2.promises import TowerReceipt, verify_receipt
from layer2.tower import Ask, Declined, Guarded, Held, Policy, Terms
from tests.layer2.harness import CHAIN, agreement, key
from tests.layer2.tower_world import POLICY, TOWER, Watched
from tests.wallet.watchtower.standins import Line, Records
from wallet.watchtower.desk import Desk
from wallet.watchtower.store import TowerStore


def another(number: int) -> Watched:
    """A group of the same members."""
    return Watched(structs.replace(agreement(), salt=number.to_bytes(16, "big")))


class Post:
    """A desk with its store and layer 1, and customers' links to it."""

    def __init__(self, path: Path) -> None:
        self.store = TowerStore(path / "tower.db")
        self.records = Records()
        self.desk = Desk(self.store, TOWER, CHAIN, POLICY, self.records)
        self.tasks: list[asyncio.Task[None]] = []

    def link(self, watched: Watched, member: int = 0) -> Line:
        self.records.groups.setdefault(watched.id, watched.open)
        line = Line(watched.customer(member))
        self.tasks.append(asyncio.create_task(self.desk.attach(line)))
        return line

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.store.close()


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    made = Post(tmp_path)
    yield made
    await made.close()


async def test_a_customer_gets_terms_then_a_receipt(post: Post) -> None:
    watched = Watched()
    line = post.link(watched)
    line.say(watched.message(7))
    terms, receipt = await line.hear(2)
    assert terms == Terms(POLICY.payout, POLICY.least_bounty, POLICY.keep_ms)
    assert isinstance(receipt, TowerReceipt) and receipt.version == 7 and verify_receipt(CHAIN, receipt)
    held = post.store.get(watched.id, watched.customer(0))
    assert held is not None and held.version == 7


async def test_a_receipt_leaves_only_when_its_version_is_durable(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "No receipt is signed before the version that it names is durable."."""
    watched, written, write = Watched(), [0], post.store.write

    def slow(keep: list[Guarded], **more: object) -> None:
        assert [m for m in line.told if isinstance(m, TowerReceipt)] == []
        write(keep)
        written[0] += 1

    monkeypatch.setattr(post.store, "write", slow)
    line = post.link(watched)
    line.say(watched.message(7))
    await line.hear(2)
    assert written == [1]


async def test_a_disk_that_fails_stops_the_desk_and_nothing_is_promised(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, told = Watched(), asyncio.get_running_loop().create_future()

    def full(*_: object, **__: object) -> None:
        raise LocalError("the disk is full")

    monkeypatch.setattr(post.store, "write", full)
    post.desk.on_failure = told.set_result
    line = post.link(watched)
    line.say(watched.message(7))
    async with asyncio.timeout(5):
        assert "full" in str(await told)
    line.say(watched.message(8), Ask(watched.id))
    await line.hear(2)
    assert [type(message) for message in line.told] == [Terms, Held]
    assert not post.desk.admits(watched.customer(0))


async def test_the_updates_of_a_turn_share_one_sync(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Group commit: 40 customers at once, and a few transactions."""
    post.desk = Desk(post.store, TOWER, CHAIN, Policy(POLICY.payout), post.records)
    groups = [another(number) for number in range(40)]
    writes, write = [0], post.store.write

    def counted(keep: list[Guarded], **more: object) -> None:
        writes[0] += 1
        write(keep)

    monkeypatch.setattr(post.store, "write", counted)
    lines = [post.link(watched) for watched in groups]
    for line, watched in zip(lines, groups, strict=True):
        line.say(watched.message(3))
    for line in lines:
        await line.hear(2)
    assert post.store.groups == 40 and writes[0] <= 5


async def test_while_layer_1_cannot_be_seen_nothing_is_promised(post: Post) -> None:
    """A receipt's `clock_ms` is proven and fresh, "so a tower that cannot see layer 1 signs nothing"."""
    watched = Watched()
    line = post.link(watched)
    line.say(watched.message(3))
    await line.hear(2)
    post.records.clock = None
    line.say(watched.message(4))
    declined = (await line.hear(3))[-1]
    assert isinstance(declined, Declined) and declined.code == "blind"
    held = post.store.get(watched.id, watched.customer(0))
    assert held is not None and held.version == 3


async def test_layer_1_is_asked_once_for_a_group(post: Post) -> None:
    watched = Watched()
    line = post.link(watched)
    line.say(*(watched.message(version) for version in range(1, 6)))
    await line.hear(6)
    assert post.records.looks == [watched.id]


async def test_each_customer_gets_its_own_back_and_no_other(post: Post) -> None:
    """ "So nobody replaces another member's entry", and nobody reads it."""
    watched = Watched()
    alice, bob = post.link(watched, 0), post.link(watched, 1)
    alice.say(watched.message(7, 0))
    await alice.hear(2)
    bob.say(Ask(watched.id))
    assert (await bob.hear(2))[-1] == Held(watched.id, None, b"")
    bob.say(watched.message(5, 1))
    assert isinstance((await bob.hear(3))[-1], TowerReceipt)
    alice.say(Ask(watched.id))
    held = (await alice.hear(3))[-1]
    assert isinstance(held, Held) and held.certificate == watched.certificate(7)
    assert held.sealed == watched.message(7, 0).sealed


async def test_who_brings_a_lower_version_is_shown_the_higher(post: Post) -> None:
    watched = Watched()
    line = post.link(watched)
    line.say(watched.message(9), watched.message(4))
    shown = (await line.hear(3))[-1]
    assert isinstance(shown, Held) and shown.certificate == watched.certificate(9)


async def test_of_one_turn_the_highest_stays(post: Post) -> None:
    """Two links of one customer in one turn: what is not durable yet counts as held."""
    watched = Watched()
    first, second = post.link(watched), post.link(watched)
    first.say(watched.message(9))
    second.say(watched.message(4))
    await first.hear(2)
    await second.hear(2)
    held = post.store.get(watched.id, watched.customer(0))
    assert held is not None and held.version == 9


async def test_who_talks_nonsense_is_cut_off_for_a_while(post: Post) -> None:
    watched = Watched()
    line = post.link(watched)
    line.say(*[b"\xc1"] * 40)
    async with asyncio.timeout(5):
        await post.tasks[0]
    assert line.cut_for and not post.desk.admits(line.peer)
    assert post.desk.admits(key("another").public)


async def test_who_names_groups_that_are_not_its_own_is_cut_off(post: Post) -> None:
    """Each such look costs a proof of layer 1; a right customer hardly ever asks in vain."""
    watched = Watched()
    line = post.link(watched)
    line.peer = key("stranger").public
    line.say(*[watched.message(version) for version in range(1, 41)])
    async with asyncio.timeout(5):
        await post.tasks[0]
    assert {type(m) for m in line.told} == {Terms, Declined} and line.cut_for
    assert len(post.records.looks) < 40 and post.store.groups == 0


@pytest.mark.parametrize("how", ["an epoch that is not", "a group that is closed"])
async def test_a_stranger_is_cut_off_whatever_else_is_wrong_with_what_it_brings(post: Post, how: str) -> None:
    """Anybody knows the groups on layer 1, and each look costs a proof: nobody has them for nothing."""
    watched = Watched()
    line = post.link(watched)
    line.peer = key("stranger").public
    message = watched.message(1)
    if how == "a group that is closed":
        post.records.groups[watched.id] = structs.replace(watched.open, status=Status.CLOSED)
    else:
        header = structs.replace(message.certificate.header, epoch=9)
        message = structs.replace(message, certificate=Certificate(header, message.certificate.signatures))
    line.say(*[message] * 40)
    async with asyncio.timeout(5):
        await post.tasks[0]
    assert line.cut_for and len(post.records.looks) < 40


async def test_a_tower_takes_on_no_more_than_it_said(post: Post) -> None:
    """Three groups of one customer: what waits to be durable in the same turn counts."""
    groups = [another(number) for number in range(5)]
    lines = [post.link(watched) for watched in groups]
    for line, watched in zip(lines, groups, strict=True):
        line.say(watched.message(3))
    answers = [(await line.hear(2))[-1] for line in lines]
    assert sum(isinstance(answer, TowerReceipt) for answer in answers) == POLICY.max_groups_each == post.store.groups
    assert {a.code for a in answers if isinstance(a, Declined)} == {"tower_full"}

"""A seat for a machine of one's own, over real links: it comes back, names whom it waits for, admits no stranger."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from examples.shared_counter import Counter
from examples.table import CHAIN, join_all, opening_of
from layer1.crypto import Hash, SigningKey
from layer1.errors import LocalError, Refused
from layer1.failover import LedgerUnreachable
from layer1.ledger.transactions import OpenGroup, Transaction, Transfer
from layer1.link import LinkClosed, connect
from layer2.driver import Pending, Waiting
from layer2.events import Effect, Send
from layer2.hosting import Channel
from layer2.messages import Accept, Commit, Propose, Standing, decode_message
from layer2.payments import Payments
from layer2.seat import Seat
from tests.layer2.harness import key

pytestmark = pytest.mark.slow


async def seats(stack: AsyncExitStack, folder: Path, count: int) -> tuple[list[Seat], Hash]:
    made = [Seat(folder / str(i), key(f"seat {i}"), CHAIN, Counter()) for i in range(count)]
    for seat in made:
        await stack.enter_async_context(seat)
    name = join_all(made, opening_of(made, (0,) * count, CHAIN, 0))
    await asyncio.gather(*(seat.ready(name) for seat in made))
    return made, name


def mute(patch: pytest.MonkeyPatch, seat: Seat, *kinds: type) -> None:
    """Some of its messages go nowhere."""
    link_of = seat.host._link_of

    def mutant(group_id: Hash, effect: Effect) -> Channel | None:
        silent = isinstance(effect, Send) and isinstance(effect.message, kinds)
        return None if silent else link_of(group_id, effect)

    patch.setattr(seat.host, "_link_of", mutant)


async def named(seat: Seat, name: Hash, expected: Waiting, patience_s: float = 5.0) -> None:
    """Ask until the others have said what they had to."""
    async with asyncio.timeout(10):
        while True:
            if await seat.waiting(name, patience_s) == expected:
                return
            await asyncio.sleep(0)


async def knock(seat: Seat, stranger: SigningKey) -> None:
    link = await connect(seat.contact.host, seat.contact.port, stranger, CHAIN, expect=seat.contact.key)
    await link.receive()


@pytest.mark.parametrize("count", [2, 3, 5, 8])
async def test_all_count_together(tmp_path: Path, count: int) -> None:
    async with AsyncExitStack() as stack:
        made, name = await seats(stack, tmp_path, count)
        await asyncio.gather(*(seat.submit(name, b"+%d" % 10**i) for i, seat in enumerate(made)))
        payload = await made[-1].close(name)
        assert len(payload.signatures) == count
        assert {seat.state(name) for seat in made} == {int("1" * count)}


async def test_a_seat_comes_back_with_what_it_signed(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        (ann, bob, cid), name = await seats(stack, tmp_path, 3)
        await bob.submit(name, b"+7")
        agreement, contacts = cid.group(name).place.agreement, [ann.contact, bob.contact, cid.contact]
        await cid.__aexit__(None, None, None)
        await bob.until(lambda: not bob.group(name).connected)
        assert await bob.waiting(name) == await ann.waiting(name) == Waiting(1, (), (2,))
        with pytest.raises(Refused) as refusal:
            await bob.submit(name, b"+1")
        assert refusal.value.code == "not_connected"
        again = Seat(tmp_path / "2", key("seat 2"), CHAIN, Counter())
        assert again.state(name) == 7 and again.group(name).version == 1
        await stack.enter_async_context(again)
        again.join(agreement, name, contacts)
        await asyncio.gather(*(seat.ready(name) for seat in (ann, bob, again)))
        await again.submit(name, b"+1")
        await bob.submit(name, b"+1")
        assert bob.state(name) == 9


async def test_who_waits_is_told_when_another_member_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command is pending: the primary may have signed it already. A silent member is named before."""
    async with AsyncExitStack() as stack:
        (ann, bob, cid), name = await seats(stack, tmp_path, 3)
        mute(monkeypatch, cid, Accept)
        counting = asyncio.create_task(bob.submit(name, b"+7"))
        for seat in (ann, bob):
            await named(seat, name, Waiting(1, (2,), ()))
        for link in list(cid.host._links.values()):
            link.cut("test")
        with pytest.raises(Pending, match="another member is gone"):
            await counting
        await bob.until(lambda: bob.group(name).version == 1)
        assert bob.state(name) == 7, "the next link's Resume brought the signature"


async def test_a_primary_that_does_not_answer_is_asked_in_vain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has not shown is missing: here it keeps Cid's signature to itself, and the certificate with it."""
    async with AsyncExitStack() as stack:
        (ann, bob, cid), name = await seats(stack, tmp_path, 3)
        mute(monkeypatch, ann, Commit, Standing)
        await ann.submit(name, b"+7")
        await named(bob, name, Waiting(1, (2,), ()), patience_s=0.01)
        assert cid.group(name).highest.version == 1 == ann.group(name).version


async def test_one_command_after_the_other_needs_no_commit_but_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next proposal carries the certificate, so that a member has a message and a sync less to do."""
    sent: list[type] = []
    async with AsyncExitStack() as stack:
        (ann, bob, cid), name = await seats(stack, tmp_path, 3)
        for link in ann.host._links.values():
            hand_on = link.send_nowait

            def count(data: bytes, hand_on: Any = hand_on) -> bool:
                sent.append(type(decode_message(data)))
                return bool(hand_on(data))

            monkeypatch.setattr(link, "send_nowait", count)
        for _ in range(5):
            await ann.submit(name, b"+1")
        for seat in (bob, cid):
            await seat.until(partial(lambda each: each.state(name) == 5, seat))
    assert (sent.count(Propose), sent.count(Commit)) == (2 * 5, 2)


async def test_strangers_get_no_link(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        (ann, bob, _), name = await seats(stack, tmp_path, 3)
        for seat, stranger in ((ann, key("nobody")), (bob, key("seat 2"))):  # members speak with the primary alone
            with pytest.raises(LinkClosed):
                await knock(seat, stranger)
        await bob.submit(name, b"+1")


class Unreachable:
    """A ledger that nobody can ask."""

    asked = 0

    async def group(self, group_id: Hash) -> Any:
        self.asked += 1
        raise LedgerUnreachable("no replica answers")


async def test_a_watch_in_vain_is_told_and_goes_on(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        (ann, bob, _), name = await seats(stack, tmp_path, 3)
        ledger: Any = Unreachable()
        watching = asyncio.create_task(bob.watch(ledger, every_s=0))
        while ledger.asked < 3:  # noqa: ASYNC110 - each look is a turn of the loop
            await asyncio.sleep(0)
        assert not watching.done() and isinstance(bob.trouble[name], LedgerUnreachable) and not ann.trouble
        watching.cancel()


def test_a_seat_of_another_machine_leaves_the_journal_alone(tmp_path: Path) -> None:
    ann = Seat(tmp_path, key("ann"), CHAIN, Counter())
    join_all([ann], opening_of([ann], (5,), CHAIN, 0))
    ann.discard()
    with pytest.raises(LocalError, match="machine"):
        Seat(tmp_path, key("ann"), CHAIN, Payments())
    again = Seat(tmp_path, key("ann"), CHAIN, Counter())
    assert len(again.host.groups) == 1
    again.discard()


def test_only_an_opening_that_names_it_is_signed(tmp_path: Path) -> None:
    """No other machine, no other member's key, and nothing but an opening."""
    ann, bob = (Seat(tmp_path / name, key(name), CHAIN, Counter()) for name in ("ann", "bob"))
    payments = Seat(tmp_path / "payments", key("ann"), CHAIN, Payments())
    good = opening_of([ann, bob], (5, 5), CHAIN, 0)
    assert len(ann.sign(good, 5, 10)) == 64 and ann.sign(good, 5, 10) != bob.sign(good, 5, 10)
    stranger = Seat(tmp_path / "cid", key("cid"), CHAIN, Counter())
    transfer = Transaction(Transfer(key("ann").public, key("bob").public, 1), 1, bytes(16))
    for seat, opening in ((stranger, good), (payments, good), (ann, transfer)):
        with pytest.raises(Refused) as refusal:
            seat.sign(opening, 5, 10)
        assert refusal.value.code == "bad_opening"
    assert isinstance(good.payload, OpenGroup)
    agreement = good.payload.agreement
    ours, theirs = agreement.members
    for members, text in [
        ((structs.replace(ours, deposit=6), theirs), r"\(6, 10\) of deposit and bond, \(5, 10\) was said"),
        ((structs.replace(ours, payout=theirs.payout), theirs), "other keys"),
        ((ours, structs.replace(theirs, funding=ours.funding)), "would pay for 2 members"),
    ]:
        bad = structs.replace(good, payload=OpenGroup(structs.replace(agreement, members=members)))
        with pytest.raises(Refused, match=text):
            ann.sign(bad, 5, 10)
    elsewhere = structs.replace(good, payload=OpenGroup(structs.replace(agreement, chain_id=bytes(32))))
    with pytest.raises(Refused, match="another ledger"):
        ann.sign(elsewhere, 5, 10)
    with pytest.raises(Refused):
        stranger.join(good.payload.agreement, bytes(32), [])
    for seat in (ann, bob, payments, stranger):
        seat.discard()

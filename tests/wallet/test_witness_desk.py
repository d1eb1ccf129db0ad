"""The desk of a witness: what it takes in, from whom, and that nothing leaves before it is durable."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from layer1.client import LedgerUnreachable
from layer1.codec import encode
from layer1.crypto import PublicKey
from layer1.errors import LocalError, RemoteError
from layer1.journal import Journal
from layer1.ledger.agreements import GroupAgreement, Witness, initial_body, initial_certificate, sign_claim
from layer1.ledger.genesis import Parameters
from layer1.ledger.opening import fresh, open_group
from layer1.ledger.records import Group, Status
from layer1.ledger.transactions import Wedge
from layer1.link import LinkClosed
from layer2.engaging import Promised, WitnessPolicy, verify_promise
from layer2.messages import (
    Ack,
    Decline,
    Error,
    Held,
    Hold,
    Inquiry,
    WitnessPromise,
    WitnessRequest,
    decode_message,
)
from layer2.payments import pay
from tests.layer2.harness import CHAIN, Court, Party, agreement, key, trio_of
from wallet.witness import desk as desk_module
from wallet.witness.desk import WitnessDesk
from wallet.witness.serving import Lookout

TERMS = agreement(witnessed=True)
WITNESS = key("witness 2")
MEMBERS = [member.funding for member in TERMS.members]


class FakeLink:
    """One wallet's link: what it sends, and what it is told."""

    def __init__(self, peer: PublicKey, *messages: Any) -> None:
        self.peer = peer
        self.inbox = deque(message if isinstance(message, bytes) else encode(message) for message in messages)
        self.heard: list[Any] = []
        self.was_cut = False

    def send_nowait(self, data: bytes) -> bool:
        self.heard.append(decode_message(data))
        return True

    async def receive(self) -> bytes:
        if self.was_cut or not self.inbox:
            raise LinkClosed("over")
        return self.inbox.popleft()

    def cut(self, reason: str) -> None:
        self.was_cut = True

    async def close(self, reason: str = "") -> None:
        self.was_cut = True


class Ledger:
    """What the desk sees of layer 1."""

    def __init__(self) -> None:
        self.groups: dict[bytes, Group] = {}
        self.looks = 0

    async def look(self, group_id: bytes) -> Group | None:
        self.looks += 1
        return self.groups.get(group_id)

    async def clock(self) -> int:
        return 900_000


class Place:
    """A desk on a journal in a folder."""

    def __init__(self, folder: Path, **policy: int) -> None:
        self.folder, self.policy, self.ledger = folder, WitnessPolicy(**policy), Ledger()
        self.reports: list[Any] = []
        self.start()

    def start(self) -> None:
        self.journal = Journal.open(self.folder / "witness")
        self.desk = WitnessDesk(
            self.journal, WITNESS, CHAIN, self.policy, look=self.ledger.look, clock=self.ledger.clock
        )
        self.desk.on_submission = self.reports.append

    def restart(self) -> None:
        self.journal.close()
        self.start()

    async def say(self, peer: PublicKey, *messages: Any) -> list[Any]:
        """One link from its beginning to its end, and what it was told in all."""
        link = FakeLink(peer, *messages)
        await self.desk.attach(link)
        for _ in range(20):
            await asyncio.sleep(0)
        return link.heard

    def open(self, terms: GroupAgreement = TERMS) -> Group:
        group = open_group(terms, bytes(32), CHAIN, Parameters(), 900_000)
        self.ledger.groups[group.group_id] = group
        return group


@pytest.fixture
def place(tmp_path: Path) -> Any:
    made = Place(tmp_path)
    yield made
    made.journal.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "LOOK_PAUSE_S", 0)
    monkeypatch.setattr(desk_module, "LOOK_TIMES", 3)


def holds(versions: int) -> list[Hold]:
    """What the second member brings, from version 0 on."""
    *parties, wire = trio_of(2, witnessed=True)
    first: Party = parties[0]
    for amount in range(1, versions + 1):
        first.request(pay(1, amount))
        wire.run()
    found = [message for message in wire.heard if isinstance(message, Hold)]
    return [next(m for m in found if m.certificate.header.version == version) for version in range(versions + 1)]


async def test_a_promise_is_signed_durable_and_then_the_group_is_taken(place: Place) -> None:
    (promise,) = await place.say(MEMBERS[0], WitnessRequest(TERMS))
    assert isinstance(promise, WitnessPromise) and verify_promise(WITNESS.public, TERMS, promise.signature)
    place.restart()
    place.open()
    first, second = holds(1)
    shown, ack = await place.say(MEMBERS[1], first, second)
    assert isinstance(shown, Held) and isinstance(ack, Ack) and ack.version == 1
    place.restart()
    (held,) = await place.say(MEMBERS[0], Inquiry(second.group_id))
    assert held.certificate == second.certificate and held.signature == ack.signature


@pytest.mark.parametrize("how", ["stranger", "not named", "twice", "another chain", "long ago", "too large"])
async def test_what_a_witness_does_not_promise(place: Place, how: str) -> None:
    terms = {
        "stranger": TERMS,
        "not named": replace(TERMS, witnesses=(Witness(key("other").public),)),
        "twice": replace(TERMS, witnesses=(*TERMS.witnesses, *TERMS.witnesses)),
        "another chain": replace(TERMS, chain_id=bytes(32)),
        "long ago": replace(TERMS, open_before_ms=900_000),
        "too large": replace(TERMS, limits=replace(TERMS.limits, max_state_bytes=10**6)),
    }[how]
    peer = key("stranger").public if how == "stranger" else MEMBERS[0]
    (answer,) = await place.say(peer, WitnessRequest(terms))
    codes = {"stranger": "not_a_member", "not named": "bad_witnesses", "twice": "bad_witnesses"}
    assert isinstance(answer, Decline)
    assert answer.code == {**codes, "another chain": "wrong_chain"}.get(how, "policy")


async def test_a_group_that_was_not_promised_is_not_taken(place: Place) -> None:
    """Nobody fills a witness with groups that it does not know of."""
    place.open()
    (answer,) = await place.say(MEMBERS[0], holds(0)[0])
    assert isinstance(answer, Error) and answer.code == "unknown_group" and not place.desk.holdings


def changed(group: Group, terms: GroupAgreement) -> Group:
    """What layer 1 shows in the next epoch."""
    first = initial_certificate(terms, group.group_id, group.epoch + 1, bytes(32), b"")
    return fresh(terms, group.opened_clock_ms, first, initial_body(terms, b""))


@pytest.mark.parametrize(
    ("how", "served"),
    [("amounts", True), ("another witness", False), ("a strange key", False), ("a strange wallet", False)],
)
async def test_a_group_that_was_changed_before_its_witness_heard_of_it_is_served(
    place: Place, how: str, served: bool
) -> None:
    """Members alone change a group; without the witness one of them could then hold back all money for a ransom."""
    first, second = TERMS.members
    terms = {
        "amounts": replace(TERMS, members=(replace(first, deposit=first.deposit + 1), second), salt=b"2" * 16),
        "another witness": replace(TERMS, witnesses=(Witness(key("other").public),)),
        "a strange key": replace(TERMS, members=(first, replace(second, key=key("other").public))),
        "a strange wallet": replace(TERMS, members=(first, replace(second, funding=key("other").public))),
    }[how]
    await place.say(MEMBERS[0], WitnessRequest(TERMS))
    group = place.open()
    place.ledger.groups[group.group_id] = changed(group, terms)
    (answer,) = await place.say(MEMBERS[0], Inquiry(group.group_id))
    assert isinstance(answer, Held) is served is (group.group_id in place.desk.holdings)
    for _ in ("live", "restored"):
        assert (TERMS.hash in place.desk._promises) is not served  # one promise, one group
        place.restart()


async def test_a_promise_is_for_no_other_opening_of_the_same_members(place: Place) -> None:
    await place.say(MEMBERS[0], WitnessRequest(TERMS))
    group = place.open(replace(TERMS, salt=b"2" * 16))
    (answer,) = await place.say(MEMBERS[0], Inquiry(group.group_id))
    assert isinstance(answer, Error) and TERMS.hash in place.desk._promises


async def test_a_group_that_was_opened_in_time_is_served_however_late_its_members_come(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One member could else open at the last moment, keep the other off, and hold its money back for a ransom."""
    group = place.open()
    for later_ms, served in ((desk_module.KEPT_MS - 1, True), (desk_module.KEPT_MS, False)):
        with monkeypatch.context() as patch:
            await place.say(MEMBERS[0], WitnessRequest(TERMS))
            now_ms = TERMS.open_before_ms + later_ms
            patch.setattr(place.desk, "_clock", partial(_now, now_ms))
            other = replace(TERMS, salt=b"1" * 16, open_before_ms=now_ms + 1_000)  # by which old promises are found
            (promise,) = await place.say(MEMBERS[0], WitnessRequest(other))
            assert isinstance(promise, WitnessPromise)
            await place.say(MEMBERS[1], Inquiry(group.group_id))
        assert (group.group_id in place.desk.holdings) is served
        place.desk._holdings.clear()


async def test_a_ledger_that_lies_once_keeps_no_group_from_being_found_later(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lie(group_id: bytes) -> Group | None:
        raise RemoteError("a proof that proves nothing")

    await place.say(MEMBERS[0], WitnessRequest(TERMS))
    group = place.open()
    with monkeypatch.context() as patch:
        patch.setattr(place.desk, "_look", lie)
        (answer,) = await place.say(MEMBERS[1], Inquiry(group.group_id))
    assert isinstance(answer, Error) and "proves nothing" in answer.message
    await place.say(MEMBERS[1], Inquiry(group.group_id))
    assert group.group_id in place.desk.holdings


async def _now(clock_ms: int) -> int:
    return clock_ms


async def test_a_full_witness_says_so(tmp_path: Path) -> None:
    place = Place(tmp_path, most_groups=1)
    other = replace(TERMS, salt=b"1" * 16)
    first, second = await place.say(MEMBERS[0], WitnessRequest(TERMS), WitnessRequest(other))
    assert isinstance(first, WitnessPromise) and isinstance(second, Decline) and second.code == "full"
    place.journal.close()


async def test_only_members_are_served_and_who_lies_is_cut_off(place: Place) -> None:
    await place.say(MEMBERS[0], WitnessRequest(TERMS))
    place.open()
    first, second = holds(1)
    await place.say(MEMBERS[0], first)
    (answer,) = await place.say(key("stranger").public, second)
    assert isinstance(answer, Error) and answer.code == "not_a_member"
    garbage = FakeLink(MEMBERS[1], *([b"garbage"] * 200))
    await place.desk.attach(garbage)
    assert garbage.was_cut and not place.desk.admits(MEMBERS[1])
    assert place.desk.holdings[first.group_id].version == 0


async def test_a_disk_that_does_not_confirm_lets_nothing_out(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 6, for a witness: no ACK, now or later."""
    await place.say(MEMBERS[0], WitnessRequest(TERMS))
    place.open()
    first, second = holds(1)
    await place.say(MEMBERS[0], first)

    def broken() -> None:
        raise LocalError("no space left")

    monkeypatch.setattr(place.journal, "sync", broken)
    assert await place.say(MEMBERS[0], second) == [] and place.desk.failure is not None
    monkeypatch.undo()
    assert await place.say(MEMBERS[0], second) == [] and not place.desk.admits(MEMBERS[0])


async def test_who_comes_second_waits_for_no_disk_and_never_for_less_than_the_certificate(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ACK speaks of the certificate: kept before, it is said at once; in the turn that keeps it, behind the sync."""
    await place.say(MEMBERS[0], WitnessRequest(TERMS))
    place.open()
    first, second, third = holds(2)
    await place.say(MEMBERS[1], first, second)
    told: list[Any] = []

    def sync() -> None:
        told.append("sync")

    monkeypatch.setattr(place.journal, "sync", sync)
    monkeypatch.setattr(FakeLink, "send_nowait", lambda link, data: told.append(link.peer))
    await place.say(MEMBERS[0], second)
    assert told == [MEMBERS[0], "sync"]
    told.clear()
    await asyncio.gather(*(place.say(member, third) for member in MEMBERS))
    assert told == ["sync", *MEMBERS]


async def test_it_claims_when_layer_1_shows_a_wedge_and_drops_what_is_closed(place: Place) -> None:
    await place.say(MEMBERS[0], WitnessRequest(TERMS))
    opened = place.open()
    first, second = holds(1)
    await place.say(MEMBERS[1], first, second)
    court = Court(TERMS)
    assert court.group.group_id == opened.group_id
    claim = sign_claim(key("group 1"), 1, 0, court.group.origin)
    court.bring(Wedge(court.group.certificate, court.group.body, claim))
    for _ in range(2):  # it is said again until layer 1 shows it
        place.desk.observe(court.group)
        await asyncio.sleep(0)
        place.restart()
    assert len(place.reports) == 2 and place.reports[0] == place.reports[1]
    court.bring(place.reports[0])
    assert court.group.version == 1 and court.group.claims[2] is not None
    place.desk.compact()
    place.restart()
    assert place.desk.holdings[opened.group_id].claim is not None
    place.desk.observe(replace(court.group, status=Status.CLOSED))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not place.desk.holdings
    place.restart()
    assert not place.desk.holdings


async def test_a_wallet_that_names_groups_without_end_takes_no_others_place(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is looked for is bounded in all, so it is bounded for each: else one stranger makes all others wait."""
    monkeypatch.setattr(desk_module, "MOST_AWAITED", 100)
    monkeypatch.setattr(desk_module, "LOOK_PAUSE_S", 60)
    greedy, modest = key("greedy").public, key("modest").public
    place.desk._promises.put(Promised(TERMS.hash, 10**9, greedy, (greedy, modest)))  # so that groups are looked for
    stranger = FakeLink(greedy, *(Inquiry(bytes([n]) * 32) for n in range(200)))
    await place.desk.attach(stranger)
    other = FakeLink(modest, Inquiry(bytes([201]) * 32))
    await place.desk.attach(other)
    assert [each.code for each in stranger.heard] == ["busy"] * (200 - desk_module.MOST_AWAITED_EACH)
    assert other.heard == []
    await place.desk.close()


async def test_only_groups_that_are_held_wait_to_be_looked_at(place: Place) -> None:
    """A replica that lies may tell of any number of groups: they must not fill the memory."""
    lookout = Lookout(place.desk, None)  # type: ignore[arg-type]  # nothing is looked at
    for number in range(100):
        lookout.want(number.to_bytes(32, "big"))
    assert not lookout._wanted


async def test_strangers_have_nothing_looked_for_however_many_names_they_have(place: Place) -> None:
    """Else a few dozen of them take the places of those who wait, and a replica's time."""
    await place.say(MEMBERS[0], WitnessRequest(TERMS))
    for number in range(50):
        (answer,) = await place.say(key(f"stranger {number}").public, Inquiry(bytes([number + 1]) * 32))
        assert isinstance(answer, Error) and answer.code == "unknown_group"
    assert place.ledger.looks == 0
    group = place.open()
    await place.say(MEMBERS[1], Inquiry(group.group_id))  # who did not ask for the promise, but is named in it
    assert group.group_id in place.desk.holdings


@pytest.mark.parametrize("how", ["at once", "after a restart", "after a compaction"])
async def test_a_former_member_that_has_not_heard_of_the_end_is_not_cut_off(place: Place, how: str) -> None:
    """Its other groups need this link; a stranger that names the same group is cut off."""
    await place.say(MEMBERS[0], WitnessRequest(TERMS))
    group = place.open()
    await place.say(MEMBERS[0], Inquiry(group.group_id))
    closed = place.ledger.groups[group.group_id] = replace(group, status=Status.CLOSED)
    place.desk.observe(closed)
    if how == "after a compaction":
        place.desk.compact()
    if how != "at once":
        await asyncio.sleep(0)
        place.restart()
    stranger = key("stranger").public
    for peer, stays in ((MEMBERS[1], True), (stranger, False)):
        link = FakeLink(peer, *[Inquiry(group.group_id)] * 200)
        await place.desk.attach(link)
        assert (place.desk.admits(peer), link.was_cut) == (stays, not stays)
        assert {answer.code for answer in link.heard} == {"unknown_group"}


async def test_members_are_not_blamed_when_layer_1_cannot_be_asked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage of the ledger would else cut the witness's honest members off, one by one."""

    async def fail(group_id: bytes) -> Group | None:
        raise LedgerUnreachable("no replica answers")

    await place.say(MEMBERS[0], WitnessRequest(TERMS))
    group = place.open()
    monkeypatch.setattr(place.desk, "_look", fail)
    for _ in range(50):
        (answer,) = await place.say(MEMBERS[0], Inquiry(group.group_id))
        assert "cannot be asked" in answer.message
    assert place.desk.admits(MEMBERS[0])

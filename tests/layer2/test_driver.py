"""The host: effects behind one sync per turn, links that come and go, and an answer for everybody who waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from layer1.codec import decode, encode
from layer1.crypto import Hash, PublicKey
from layer1.errors import LocalError, Refused, RemoteError
from layer1.journal import Journal
from layer1.ledger.agreements import GroupAgreement, group_id
from layer1.ledger.locks import preimage_hash
from layer1.ledger.transactions import CloseGroup, Wedge
from layer1.link import LinkClosed
from layer1.link_server import LinkServer
from layer2 import chain_driver, events
from layer2.chain import Leading
from layer2.driver import Contact, GroupHost, Observer, Pending
from layer2.hosting import Companion, Successor
from layer2.messages import Decline, Error, Inquiry, Message, OpeningMessage, Resume, Standing, decode_message
from layer2.payments import Payments, claim, offer, pay
from layer2.records import HostRecord
from tests.layer2.harness import CHAIN, agreement, key

TERMS = agreement()
GROUP = group_id(TERMS, bytes(32))


class Pipe:
    """One end of a link in memory."""

    def __init__(self, peer: PublicKey) -> None:
        self.peer = peer
        self.twin: Pipe
        self.arrived: deque[bytes] = deque()
        self.news = asyncio.Event()
        self.ended = False
        self.deaf = False

    def send_nowait(self, data: bytes) -> bool:
        if not self.ended and not self.deaf:
            self.twin.arrived.append(data)
            self.twin.news.set()
        return not self.ended

    async def receive(self) -> bytes:
        while not self.arrived:
            if self.ended:
                raise LinkClosed("the pipe has ended")
            self.news.clear()
            await self.news.wait()
        return self.arrived.popleft()

    def cut(self, reason: str) -> None:
        self.arrived.clear()
        for end in (self, self.twin):
            end.ended = True
            end.news.set()

    async def close(self, reason: str = "") -> None:
        for end in (self, self.twin):
            end.ended = True
            end.news.set()


def pipe(a: PublicKey, b: PublicKey) -> tuple[Pipe, Pipe]:
    """The ends that a and b hold."""
    first, second = Pipe(b), Pipe(a)
    first.twin, second.twin = second, first
    return first, second


class Log(Observer):
    """Remembers everything."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.links = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for links to come and go."""
        while not condition():
            self.links.clear()
            await self.links.wait()

    def committed(self, group_id: Hash, event: events.Committed) -> None:
        self.events.append(event)

    def rejected(self, group_id: Hash, event: events.Rejected) -> None:
        self.events.append(event)

    def submission(self, group_id: Hash, payload: Any) -> None:
        self.events.append(payload)

    def advice(self, group_id: Hash, event: events.Advice) -> None:
        self.events.append(event)

    def frozen(self, group_id: Hash, reason: str) -> None:
        self.events.append(("frozen", reason))

    def misbehaved(self, group_id: Hash | None, peer: PublicKey, error: RemoteError) -> None:
        self.events.append(error)

    def connected(self, group_id: Hash, member: int, up: bool) -> None:
        self.events.append(("connected", member, up))
        self.links.set()

    def opening(self, peer: PublicKey, message: OpeningMessage) -> None:
        self.events.append((peer, message))

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Side:
    """A wallet's layer 2."""

    def __init__(self, path: Path, index: int) -> None:
        self.path, self.index = path, index
        self.link_key = key(f"link {index}")
        self.log = Log()
        self.start()

    def start(self, successor: Successor | None = None, companion: Companion | None = None) -> None:
        self.journal = Journal.open(self.path)
        self.host = GroupHost(
            self.journal,
            self.link_key,
            CHAIN,
            machines={"payments/2": Payments()},
            observer=self.log,
            group_key=lambda terms, index: key(f"group {index}"),
            successor=successor,
            companion=companion,
        )

    def add(self, terms: GroupAgreement = TERMS, name: Hash = GROUP, address: str = "", port: int = 0) -> None:
        peer = Contact(key(f"link {1 - self.index}").public, address, port)
        self.host.add(terms, name, self.index, key(f"group {self.index}"), {1 - self.index: peer})

    @property
    def group(self) -> Any:
        return self.host.groups[GROUP]


class Pair:
    """Two sides and the tasks that serve their link."""

    def __init__(self, a: Side, b: Side) -> None:
        self.a, self.b = a, b
        self.tasks: list[asyncio.Task[None]] = []

    async def connect(self) -> tuple[Pipe, Pipe]:
        first, second = pipe(self.a.link_key.public, self.b.link_key.public)
        self.tasks += [asyncio.create_task(self.a.host.attach(first)), asyncio.create_task(self.b.host.attach(second))]
        await settled()
        return first, second


async def settled() -> None:
    """Let everything that is ready run; nothing here waits for time."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
async def sides(tmp_path: Path) -> AsyncIterator[Pair]:
    found = Pair(Side(tmp_path / "a", 0), Side(tmp_path / "b", 1))
    found.a.add()
    found.b.add()
    yield found
    for task in found.tasks:
        task.cancel()
    await asyncio.gather(*found.tasks, return_exceptions=True)
    found.a.journal.close()
    found.b.journal.close()


async def test_payments_both_ways_are_committed_and_told(sides: Pair) -> None:
    await sides.connect()
    receipts = await asyncio.gather(
        *(sides.a.host.submit(GROUP, pay(1, 10)) for _ in range(5)),
        *(sides.b.host.submit(GROUP, pay(0, 1)) for _ in range(3)),
    )
    assert [receipt.number for receipt in receipts] == [1, 2, 3, 4, 5, 1, 2, 3]
    await settled()
    assert sides.a.group.state == sides.b.group.state
    assert sides.a.group.state.body.balances == (953, 1047)
    assert sides.a.log.of(events.Committed) == sides.b.log.of(events.Committed)
    assert sides.a.group.version <= 3, "what comes in one turn goes into one version"


async def test_a_turn_costs_one_sync_for_all_its_groups(tmp_path: Path, sides: Pair) -> None:
    """ "Its disk commits shared across all its groups"."""
    other = agreement(deposits=(500, 500))
    name = group_id(other, bytes(32))
    for side in (sides.a, sides.b):
        side.add(other, name)
    await sides.connect()
    syncs = 0
    original = sides.a.journal.sync

    def sync() -> None:
        nonlocal syncs
        syncs += bool(sides.a.journal._buffer)
        original()

    sides.a.journal.sync = sync  # type: ignore[method-assign]
    await asyncio.gather(sides.a.host.submit(GROUP, pay(1, 1)), sides.a.host.submit(name, pay(1, 1)))
    assert syncs == 2


async def test_refusals_reach_their_issuer(sides: Pair) -> None:
    with pytest.raises(Refused) as refusal:
        await sides.a.host.submit(GROUP, pay(1, 1))
    assert refusal.value.code == "not_connected"
    await sides.connect()
    for side, command, code in [
        (sides.a, pay(1, 5000), "insufficient_balance"),
        (sides.b, pay(0, 5000), "insufficient_balance"),
        (sides.b, b"?", "bad_command"),
        (sides.b, bytes(5000), "too_large"),
    ]:
        with pytest.raises(Refused) as refusal:
            await side.host.submit(GROUP, command)
        assert refusal.value.code == code
    with pytest.raises(Refused) as refusal:
        await sides.a.host.submit(bytes(32), pay(1, 1))
    assert refusal.value.code == "unknown_group"
    assert (await sides.b.host.submit(GROUP, pay(0, 5))).number == 3


@pytest.mark.parametrize("who", [0, 1])
async def test_what_one_caller_is_refused_is_no_refusal_to_another(sides: Pair, who: int) -> None:
    """A claim that comes too late had payments refused that were issued in the same turn."""
    await sides.connect()
    for side in (sides.a, sides.b):
        side.host.note_clock(1_000)
    side, other = (sides.a, sides.b) if who == 0 else (sides.b, sides.a)
    preimage = bytes(32)
    await other.host.submit(GROUP, offer(who, 5, preimage_hash(preimage), 2_000))
    await settled()
    wrong = (claim(1, preimage), bytes(5_000))
    outcomes = await asyncio.gather(
        *(side.host.submit(GROUP, command) for command in (pay(1 - who, 1), *wrong, pay(1 - who, 2))),
        return_exceptions=True,
    )
    assert [getattr(each, "code", "ok") for each in outcomes] == ["ok", "claim_too_late", "too_large", "ok"]
    await settled()
    assert sides.a.group.state == sides.b.group.state
    assert sides.a.group.state.body.balances[who] == 1_000 - 3


async def test_nothing_leaves_before_it_is_durable(sides: Pair) -> None:
    """The barrier, seen from the wire: when a message arrives, its record is on the disk."""
    first, second = await sides.connect()
    seen = []
    for side, end in ((sides.a, first), (sides.b, second)):
        original = end.send_nowait

        def send(data: bytes, side: Side = side, original: Any = original) -> bool:
            seen.append((type(decode_message(data)).__name__, bytes(side.journal._buffer)))
            return bool(original(data))

        end.send_nowait = send  # type: ignore[method-assign]
    await sides.a.host.submit(GROUP, pay(1, 1))
    await sides.b.host.submit(GROUP, pay(0, 1))
    assert {name for name, _ in seen} >= {"Propose", "Accept", "Submit"}
    assert all(buffer == b"" for _, buffer in seen)


async def test_an_observer_that_raises_keeps_nobody_from_the_other_news(
    sides: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several news are told in one go, and the first is stumbled over: the rest is told, though no turn follows."""
    host, advice, stumbles = sides.a.host, sides.a.log.advice, iter([True])

    def raises_once(group_id: Hash, event: events.Advice) -> None:
        if next(stumbles, False):
            raise ValueError("a fault of the wallet")
        advice(group_id, event)

    monkeypatch.setattr(sides.a.log, "advice", raises_once)
    host._untold.extend((GROUP, events.Advice("close_declined", text)) for text in ("first", "second"))
    with pytest.raises(ValueError, match="a fault"):
        host._tell_all()
    await settled()
    assert [each.message for each in sides.a.log.of(events.Advice)] == ["second"]


async def test_a_broken_link_leaves_a_payment_pending_and_a_new_one_decides_it(sides: Pair) -> None:
    """ "Pending: never retried elsewhere until its fate is known"; the observer is told."""
    first, second = await sides.connect()
    second.deaf = True
    waiting = asyncio.create_task(sides.a.host.submit(GROUP, pay(1, 7)))
    await settled()
    await first.close()
    with pytest.raises(Pending) as pending:
        await waiting
    assert pending.value.number == 1
    await settled()
    assert sides.a.log.of(events.Committed) == []
    await sides.connect()
    (event,) = sides.a.log.of(events.Committed)
    assert event.batch.commands[0].number == 1 and sides.a.group.state == sides.b.group.state
    ups = [event[2] for event in sides.a.log.events if isinstance(event, tuple) and event[0] == "connected"]
    assert ups == [True, False, True]


async def test_a_restart_restores_everything_and_tells_the_history_again(sides: Pair) -> None:
    await sides.connect()
    for _ in range(3):
        await sides.b.host.submit(GROUP, pay(0, 2))
    told, before = sides.b.log.of(events.Committed), sides.b.group
    for task in sides.tasks:
        task.cancel()
    await asyncio.gather(*sides.tasks, return_exceptions=True)
    sides.b.journal.close()
    sides.b.log.events.clear()
    sides.b.start()
    assert sides.b.log.of(events.Committed) == told
    assert sides.b.group.state == before.state and sides.b.group.signatures == before.signatures
    await sides.connect()
    await sides.a.host.submit(GROUP, pay(1, 1))
    sides.b.host.compact()
    size = sides.b.host.journal_bytes()
    sides.b.journal.close()
    sides.b.log.events.clear()
    sides.b.start()
    assert sides.b.group.version == 4 and sides.b.log.events == [] and size > 0


async def test_a_group_that_the_peer_takes_in_later_comes_into_step(tmp_path: Path) -> None:
    """One wallet sees the opening before the other."""
    sides = Pair(Side(tmp_path / "a", 0), Side(tmp_path / "b", 1))
    sides.a.add()
    await sides.connect()
    assert not sides.a.group.connected
    sides.b.add()
    await settled()
    assert sides.a.group.connected and sides.b.group.connected
    await sides.b.host.submit(GROUP, pay(0, 2))
    for task in sides.tasks:
        task.cancel()
    await asyncio.gather(*sides.tasks, return_exceptions=True)
    for side in (sides.a, sides.b):
        side.journal.close()


async def test_a_newer_link_replaces_the_older(sides: Pair) -> None:
    old, _ = await sides.connect()
    await sides.connect()
    assert old.ended and sides.a.host.is_linked(sides.b.link_key.public)
    assert (await sides.a.host.submit(GROUP, pay(1, 1))).version == 1


@pytest.mark.parametrize("issuer", [0, 1])
async def test_on_a_newer_link_nothing_comes_before_the_resume(sides: Pair, issuer: int) -> None:
    """A Resume opens every session: what the turn had said on the older link does not leave by the newer one."""
    await sides.connect()
    side, other = (sides.a, sides.b) if issuer == 0 else (sides.b, sides.a)
    side.host._step(GROUP, events.Requested((pay(issuer, 7),), bytes(16)))
    first, second = pipe(side.link_key.public, other.link_key.public)
    sides.tasks.append(asyncio.create_task(other.host.attach(second)))
    attaching = side.host.attach(first)
    attaching.send(None)  # as far as it comes at once, before the turn ends
    side.host._end_turn()
    attaching.close()
    said = [decode_message(data) for data in second.arrived]
    assert said and isinstance(said[0], Resume)
    await settled()
    assert other.log.of(RemoteError) == []


async def test_a_disk_that_fails_freezes_all_groups_and_nothing_leaves(sides: Pair) -> None:
    """Rule 6."""
    await sides.connect()

    def fail() -> None:
        raise LocalError("no space left")

    sides.a.journal.sync = fail  # type: ignore[method-assign]
    with pytest.raises(Pending):
        await sides.a.host.submit(GROUP, pay(1, 1))
    await settled()
    assert sides.b.group.version == 0
    assert ("frozen", "no space left") in sides.a.log.events
    with pytest.raises(Refused) as refusal:
        sides.a.host.wedge(GROUP)
    assert refusal.value.code == "frozen"
    with pytest.raises(Refused):
        await sides.a.host.submit(GROUP, pay(1, 1))
    with pytest.raises(LocalError):
        sides.a.add()


@pytest.mark.parametrize("who", [0, 1])
async def test_closing_together_gives_the_payload_to_who_waits(sides: Pair, who: int) -> None:
    await sides.connect()
    await sides.a.host.submit(GROUP, pay(1, 5))
    one, other = (sides.a, sides.b)[:: 1 - 2 * who]
    payload = await one.host.close_cooperatively(GROUP)
    assert payload.final.payout == (995, 1005)
    await settled()
    assert other.log.of(CloseGroup) == [payload] and one.log.of(CloseGroup) == []
    assert await one.host.close_cooperatively(GROUP) == payload
    with pytest.raises(Refused) as refusal:
        await other.host.submit(GROUP, pay(1, 1))
    assert refusal.value.code == "group_closing"


async def test_a_wedge_is_durable_and_repeats_itself(sides: Pair) -> None:
    await sides.connect()
    await sides.a.host.submit(GROUP, pay(1, 5))
    payload = sides.a.host.wedge(GROUP)
    assert type(payload) is Wedge
    assert payload.claim.version == 1
    sides.a.journal.close()
    sides.a.start()
    assert sides.a.host.wedge(GROUP) == payload
    with pytest.raises(Refused) as refusal:
        sides.a.host.forget(GROUP)
    assert refusal.value.code == "group_open"


async def test_strangers_and_garbage_change_nothing(sides: Pair) -> None:
    first, _ = await sides.connect()
    before = sides.b.group
    first.send_nowait(b"\xff\xff")
    first.send_nowait(encode(Resume(bytes(32), before.certificate)))
    first.send_nowait(encode(Decline(bytes(16), "no", "not today")))
    first.send_nowait(encode(Error(GROUP, "x", "y")))
    await settled()
    assert sides.b.group == before
    assert len(sides.b.log.of(RemoteError)) == 1
    assert (sides.a.link_key.public, Decline(bytes(16), "no", "not today")) in sides.b.log.events
    stranger, end = pipe(key("stranger").public, sides.b.link_key.public)
    sides.tasks.append(asyncio.create_task(sides.b.host.attach(end)))
    stranger.send_nowait(encode(Resume(GROUP, before.certificate)))
    await settled()
    answer: Message = decode_message(stranger.arrived.popleft())
    assert isinstance(answer, Error) and answer.code == "unknown_group"
    assert sides.b.group == before
    assert sides.b.host.send_opening(key("stranger").public, Decline(bytes(16), "no", ""))
    assert not sides.b.host.send_opening(key("nobody").public, Decline(bytes(16), "no", ""))


async def test_whoever_breaks_the_protocol_without_end_is_cut_off(sides: Pair) -> None:
    """Each fault was answered, and told, for ever. A few cost nothing; a flood costs the link, for a while."""
    first, second = await sides.connect()
    for _ in range(10):
        first.send_nowait(b"\xff\xff")
    await settled()
    assert not first.ended
    assert not sides.b.host.shuts_out(sides.a.link_key.public)
    for _ in range(1_000):
        first.send_nowait(encode(Resume(GROUP, sides.a.group.certificate, None, bytes(64))))
    await settled()
    assert second.ended
    assert sides.b.host.shuts_out(sides.a.link_key.public)
    assert not sides.b.host.is_linked(sides.a.link_key.public)
    assert 11 < len(sides.b.log.of(RemoteError)) < 50


async def test_a_fault_of_the_peer_is_told_with_its_group(sides: Pair) -> None:
    first, _ = await sides.connect()
    bad = Resume(GROUP, sides.a.group.certificate, None, bytes(64))
    first.send_nowait(encode(bad))
    await settled()
    assert len(sides.b.log.of(RemoteError)) == 1


async def test_the_journal_must_fit_the_machines_and_keys(sides: Pair, tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="machine"):
        sides.a.host.add(agreement(machine="other/1"), bytes(32), 0, key("group 0"), {})
    sides.a.journal.append(b"garbage")
    sides.a.journal.sync()
    sides.a.journal.close()
    with pytest.raises(LocalError, match="decode"):
        sides.a.start()


@pytest.mark.slow
async def test_links_are_kept_over_real_sockets(sides: Pair) -> None:
    """Dial, pay, lose the link, come back by itself."""
    server = LinkServer(sides.a.link_key, CHAIN, lambda peer, greeting: True, sides.a.host.attach)
    port = await server.start()
    sides.b.add(address="127.0.0.1", port=port)
    running = asyncio.create_task(sides.b.host.run())
    for _ in range(2):
        await sides.a.log.until(lambda: sides.a.group.connected)
        await sides.b.log.until(lambda: sides.b.group.connected)
        await sides.b.host.submit(GROUP, pay(0, 1))
        await sides.a.host.submit(GROUP, pay(1, 2))
        await sides.a.host._links[sides.b.link_key.public].close()
        await sides.b.log.until(lambda: not sides.b.group.connected)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await server.stop()
    assert sides.a.group.state.body.balances == (998, 1002)


def test_every_record_of_a_host_decodes() -> None:
    """One union holds them all: no tag is used twice."""
    with pytest.raises(RemoteError):
        decode(b"\x91\x63", HostRecord)  # type: ignore[arg-type]


async def test_while_the_standby_is_away_peers_that_repeat_themselves_fill_no_memory(
    sides: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer waits for it (decision 031), each link begins with one; when it is over, everybody is answered."""
    monkeypatch.setattr(chain_driver, "MOST_WAITING", 10)
    name = b"h" * 32
    chain = chain_driver.HeadDriver(Leading(name, 1, b"s" * 32), lambda role: None, lambda term: None)
    sides.a.journal.close()
    sides.a.start(chain)
    here, there = await sides.connect()
    while here.arrived:
        await settled()
    for _ in range(500):
        there.send_nowait(encode(Inquiry(GROUP)))
        await asyncio.sleep(0)
    await settled()
    assert chain.is_full and chain.waiting <= 12 and len(here.arrived) > 480
    again, _ = pipe(sides.a.link_key.public, sides.b.link_key.public)
    await asyncio.wait_for(sides.a.host.attach(again), 5)
    assert again.ended and chain.waiting <= 12, "a new link is refused"
    heard: list[Message] = []
    monkeypatch.setattr(here, "send_nowait", lambda data: heard.append(decode_message(data)))
    chain.shown(2, name)  # it goes on alone: nobody has to be waited for
    while here.arrived:
        await settled()
    await settled()
    assert sum(isinstance(message, Standing) for message in heard) >= 500 and chain.waiting == 0

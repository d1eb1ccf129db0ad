"""Asides: what wallets say beside their groups comes after the groups, in order, and never without end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from layer1.codec import encode
from layer1.crypto import PublicKey
from layer1.errors import RemoteError
from layer2 import asides
from layer2.driver import GroupHost
from layer2.messages import MAX_ASIDE_BYTES, Aside, decode_message
from layer2.payments import pay
from tests.layer2.test_driver import GROUP, Log, Pair, Side, settled


class Listener(Log):
    """Hears asides too; what is empty breaks a limit."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[bytes] = []

    def linked(self, peer: PublicKey) -> None:
        self.events.append("linked")

    def unlinked(self, peer: PublicKey) -> None:
        self.events.append("unlinked")

    def aside(self, peer: PublicKey, data: bytes) -> None:
        if not data:
            raise RemoteError("nothing is said")
        self.heard.append(data)


class Clock:
    """The loop's time, turned by hand: pauses end when it says so."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patch: pytest.MonkeyPatch) -> None:
        self.now_s = loop.time()
        patch.setattr(loop, "time", lambda: self.now_s)

    async def turn(self, seconds: float) -> None:
        self.now_s += seconds
        await settled()


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(asyncio.get_running_loop(), monkeypatch)


@pytest.fixture
async def sides(tmp_path: Path, clock: Clock) -> AsyncIterator[Pair]:
    found = Pair(Side(tmp_path / "a", 0), Side(tmp_path / "b", 1))
    for side in (found.a, found.b):
        side.log = Listener()
        side.journal.close()
        side.start()
        side.add()
    yield found
    for task in found.tasks:
        task.cancel()
    await asyncio.gather(*found.tasks, return_exceptions=True)
    found.a.journal.close()
    found.b.journal.close()


def heard_by(side: Side) -> list[bytes]:
    assert isinstance(side.log, Listener)
    return side.log.heard


def peer_of(side: Side, pair: Pair) -> PublicKey:
    return (pair.b if side is pair.a else pair.a).link_key.public


def host(pair: Pair) -> tuple[GroupHost, PublicKey]:
    return pair.a.host, pair.b.link_key.public


async def test_what_is_said_arrives_in_order_with_whose_it_is(sides: Pair, clock: Clock) -> None:
    us, them = host(sides)
    assert not us.say(them, b"too soon"), "there is no link"
    await sides.connect()
    assert [us.say(them, word) for word in (b"one", b"two", b"three")] == [True] * 3
    await settled()
    assert heard_by(sides.b) == [b"one"], "the others wait for their turn"
    await clock.turn(asides.PACE_S)
    await clock.turn(asides.PACE_S)
    assert heard_by(sides.b) == [b"one", b"two", b"three"] and heard_by(sides.a) == []


async def test_groups_go_first(sides: Pair, clock: Clock) -> None:
    """Of what is said in one turn, and behind what waits."""
    us, them = host(sides)
    first, _ = await sides.connect()
    seen: list[str] = []
    original = first.send_nowait

    def send(data: bytes) -> bool:
        seen.append(type(decode_message(data)).__name__)
        return original(data)

    first.send_nowait = send  # type: ignore[method-assign]
    for _ in range(5):
        us.say(them, b"gossip")
    await us.submit(GROUP, pay(1, 10))
    assert seen.index("Propose") <= 1 and seen.count("Aside") == 1
    for _ in range(5):
        await clock.turn(asides.PACE_S)
    assert seen.count("Aside") == 5


async def test_what_waits_for_one_peer_is_bounded(sides: Pair, clock: Clock) -> None:
    us, them = host(sides)
    await sides.connect()
    taken = [us.say(them, b"%d" % number) for number in range(67)]
    assert taken == [True] * 64 + [False] * 3
    with pytest.raises(ValueError, match="split it"):
        us.say(them, bytes(MAX_ASIDE_BYTES + 1))


async def test_whoever_keeps_the_pace_is_always_heard(sides: Pair, clock: Clock) -> None:
    us, them = host(sides)
    await sides.connect()
    for number in range(300):
        assert us.say(them, b"%d" % number)
        await clock.turn(asides.PACE_S)
    assert len(heard_by(sides.b)) == 300 and not sides.b.log.of(RemoteError)


async def test_a_flooder_is_not_read_and_loses_its_link(sides: Pair, clock: Clock) -> None:
    first, _ = await sides.connect()
    sent = 0
    while first.send_nowait(encode(Aside(b"flood"))) and sent < 600:
        sent += 1
        await asyncio.sleep(0)
    await settled()
    assert len(heard_by(sides.b)) == 256
    assert sides.b.host.shuts_out(peer_of(sides.b, sides)) and sent < 512


@pytest.mark.parametrize("said", [Aside(bytes(MAX_ASIDE_BYTES + 1)), Aside(b"")])
async def test_what_breaks_a_limit_is_told_and_charged(sides: Pair, said: Aside) -> None:
    first, _ = await sides.connect()
    first.send_nowait(encode(said))
    await settled()
    assert heard_by(sides.b) == [] and len(sides.b.log.of(RemoteError)) == 1
    await sides.a.host.submit(GROUP, pay(1, 10))


async def test_links_are_told_and_nothing_waits_for_the_next(sides: Pair, clock: Clock) -> None:
    us, them = host(sides)
    first, _ = await sides.connect()
    for number in range(3):
        us.say(them, b"%d" % number)
    await first.close()
    await settled()
    await sides.connect()
    await clock.turn(asides.PACE_S)
    assert [event for event in sides.a.log.events if isinstance(event, str)] == ["linked", "unlinked", "linked"]
    assert len(heard_by(sides.b)) <= 1, "what waited is dropped: who says it asks again"


MUTANTS = {
    "ROOM": (10**6, test_what_waits_for_one_peer_is_bounded),
    "ALLOWANCE": (10**6, test_a_flooder_is_not_read_and_loses_its_link),
    "PACE_S": (0.0, test_groups_go_first),
    "REFILL_PER_S": (1, test_whoever_keeps_the_pace_is_always_heard),
}


@pytest.mark.parametrize("name", MUTANTS)
async def test_dies(name: str, sides: Pair, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    value, test = MUTANTS[name]
    monkeypatch.setattr(asides, name, value)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await test(sides, clock)

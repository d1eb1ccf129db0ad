"""Attacks on a wallet that were tried, each kept as a test that failed before."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace
from rich.console import Console

from layer1.client import LedgerEvent, LedgerUnreachable
from layer1.crypto import SigningKey
from layer1.errors import LocalError, Refused, RemoteError
from layer1.ledger.genesis import Currency
from layer2.messages import Decline
from layer2.payments import pay
from tests.wallet.conftest import PASSPHRASE, POLICY, World
from tests.wallet.standin import Client
from wallet import assembly, daemon, observer
from wallet.book import KEPT_LAPSED
from wallet.channel import Channel
from wallet.daemon import Serving
from wallet.home import Home
from wallet.openings import MAX_PROMISED
from wallet.render import render
from wallet.requests import EntryView, HistoryView
from wallet.wallet import Wallet

pytestmark = pytest.mark.slow


async def open_with(wallet: Wallet, contact: str, period_ms: int = 5_000) -> Channel:
    return await wallet.open_channel(
        contact, deposit=10_000, peer_deposit=5_000, bond=1_000, challenge_period_ms=period_ms
    )


async def test_the_watcher_outlives_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error of the disk while it noted an end killed the watcher for good, and nothing said so."""
    bob, contact = await world.serve("bob")
    alice = await world.load("alice")
    channel = await open_with(alice, contact)
    await channel.pay(10)
    follower = bob._follower
    looked: list[bool] = []
    real = follower.look

    async def look(record: Any) -> Any:
        looked.append(True)
        if len(looked) == 1:
            raise OSError(28, "No space left on device")
        return await real(record)

    monkeypatch.setattr(follower, "look", look)
    for _ in range(3):
        follower.nudge()
        await asyncio.sleep(0.02)
    assert len(looked) >= 2


async def test_the_watcher_outlives_events_of_any_kind(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Hints that end in an error that nobody thought of took the watcher with them."""
    errors: list[Exception] = [aiohttp.ClientPayloadError("cut"), OSError(5, "gone"), UnicodeError("?"), KeyError("a")]
    goes_on = asyncio.Event()

    async def events(*_: object, **__: object) -> AsyncGenerator[LedgerEvent, None]:
        if errors:
            raise errors.pop()
        goes_on.set()
        yield LedgerEvent("group", 1, {})
        await asyncio.Event().wait()

    monkeypatch.setattr("wallet.follower.URGENT_S", 0.01)
    monkeypatch.setattr("tests.wallet.standin.Client.events", events)
    caplog.set_level(logging.ERROR, "wallet.follower")
    bob = await world.load("bob")
    async with asyncio.timeout(5):
        await goes_on.wait()
    assert bob._parts.signals.failure is None
    told = [record for record in caplog.records if record.exc_info is not None]
    assert len(told) == 4, "nothing is swallowed"
    pauses = [record.args[0] for record in told if isinstance(record.args, tuple)]
    assert pauses == [0.02, 0.04, 0.08, 0.16]


async def test_what_happens_while_no_hints_are_taken_is_looked_for_when_they_are_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wedge just when a channel had opened, and the watcher took no hints, was not noticed before its next look."""
    ends, asked, looked = asyncio.Event(), list[int](), list[int]()

    async def events(client: Client, *_: object, after: int) -> AsyncGenerator[LedgerEvent, None]:
        asked.append(after)
        if len(asked) > 1:
            await asyncio.Event().wait()
        await ends.wait()
        for height in range(0):
            yield LedgerEvent("block", height, {})

    monkeypatch.setattr("wallet.follower.URGENT_S", 0.01)
    monkeypatch.setattr("tests.wallet.standin.Client.events", events)
    bob = await world.load("bob")

    async def look_at_all() -> None:
        looked.append(world.chain.height)

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0)

    monkeypatch.setattr(bob._follower, "look_at_all", look_at_all)
    await until(lambda: len(asked) == 1)
    world.chain.block()  # which no stream tells of
    ends.set()
    await until(lambda: len(asked) == 2)
    await until(lambda: looked[-1:] == [1])
    assert asked == [0, 1]


async def test_one_channel_in_trouble_leaves_the_others_watched(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody thought of, at the first channel, ended the watch over all of them."""
    bob, contact = await world.serve("bob")
    alice = await world.load("alice")
    first, second = [await open_with(alice, contact) for _ in range(2)]
    looked: list[Any] = []
    real = bob._follower._show

    async def show(record: Any, *proven: Any) -> Any:
        looked.append(record.group_id)
        if record.group_id == first.id:
            raise KeyError("whatever")
        return await real(record, *proven)

    monkeypatch.setattr(bob._follower, "_show", show)
    await bob._follower.look_at_all()
    assert {first.id, second.id} <= set(looked)
    assert "KeyError" in bob._follower.did[first.id]
    assert any(record.exc_info for record in caplog.records)


async def test_one_channel_without_an_answer_leaves_the_others_watched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first that the ledger did not answer for ended every round, so the others were never looked at."""
    bob, contact = await world.serve("bob")
    alice = await world.load("alice")
    channels = [await open_with(alice, contact) for _ in range(3)]
    looked: list[Any] = []

    async def look(record: Any) -> None:
        looked.append(record.group_id)
        if record.group_id == bad:
            raise LedgerUnreachable("for this one")

    async def groups(ids: Any) -> None:
        raise LedgerUnreachable("for one of them")

    monkeypatch.setattr(bob._follower, "look", look)
    monkeypatch.setattr(bob._follower._ledger, "groups", groups)
    for channel in channels:
        bad = channel.id
        await bob._follower.look_at_all()
        looked.clear()
        await bob._follower.look_at_all()
        assert {channel.id for channel in channels} == set(looked)


async def serving(world: World, name: str, started: asyncio.Event) -> None:
    await daemon.serve(Home(world.homes[name].home), PASSPHRASE, Serving(None, POLICY), lambda *_: started.set())


async def test_a_served_wallet_stops_when_its_watcher_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It went on to serve, unguarded, with the exception in a task that nobody awaited."""
    monkeypatch.setattr("wallet.follower.Follower.look_at_all", _broken)
    with pytest.raises(LocalError, match=r"ended.*ZeroDivisionError"):
        async with asyncio.timeout(5):
            await serving(world, "bob", asyncio.Event())


async def _broken(self: object) -> None:
    raise ZeroDivisionError


async def test_a_served_wallet_stops_when_its_disk_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen group reports nothing until a restart, so a process that stays up lets a stale report pass."""
    started, wallets = asyncio.Event(), list[Wallet]()
    real = Wallet.serve

    async def serve(self: Wallet, *args: Any) -> str:
        wallets.append(self)
        return await real(self, *args)

    monkeypatch.setattr(Wallet, "serve", serve)
    task = asyncio.create_task(serving(world, "bob", started))
    await started.wait()
    bob = wallets[0]
    alice = await world.load("alice")
    assert bob.contact is not None
    channel = await open_with(alice, bob.contact)

    def fail(*_: object) -> None:
        raise LocalError("the disk says no")

    monkeypatch.setattr(bob._parts.host._journal, "sync", fail)
    paying = asyncio.create_task(channel.pay(1))
    with pytest.raises(LocalError, match="the disk says no"):
        async with asyncio.timeout(5):
            await task
    paying.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await paying


async def test_a_flood_of_offers_makes_no_flood_of_tasks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each offer became a task that asks the ledger, without bound, and an honest one waited behind them all."""
    bob, _ = await world.serve("bob")
    stranger = SigningKey.generate()
    said: list[Any] = []
    monkeypatch.setattr(bob._parts.host, "send_opening", lambda _, message: said.append(message))
    alice = await world.load("alice")
    offer = await alice._openings._offer(0, (1, 0), (0, 0), 5_000)
    for number in range(1_000):
        bob._openings._hear(stranger.public, replace(offer, salt=number.to_bytes(16, "big")))
    assert len(bob._openings._tasks) == 1
    for _ in range(1_000):
        bob._openings._hear(SigningKey.generate().public, offer)
    assert len(bob._openings._tasks) <= MAX_PROMISED
    assert all(isinstance(each, Decline) and each.code == "busy" for each in said)


async def test_offers_that_lapse_do_not_fill_the_disk(world: World) -> None:
    """A stranger could fill the disk: each lapsed offer left a file for ever."""
    bob, _ = await world.serve("bob")
    offer = await (await world.load("alice"))._openings._offer(0, (1, 0), (0, 0), 5_000)
    for number in range(KEPT_LAPSED + 5):
        clock = world.chain.state.clock
        lapsing = replace(offer, salt=number.to_bytes(16, "big"), valid_until_ms=clock + 1, open_before_ms=clock + 2)
        await bob._openings._join(lapsing.proposer.funding, lapsing)
        world.chain.block()
        await bob._follower.look_at_all()
    assert len(list(Home(world.homes["bob"].home).channels_path.glob("[0-9a-f]*"))) == KEPT_LAPSED
    assert bob.history() == ()


async def test_an_opening_that_is_final_is_never_called_unsigned(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger went away just after it took the channel, and the answer was as before anything is signed: a user
    who tries again locks a second deposit.
    """
    _, contact = await world.serve("bob")
    alice = await world.load("alice")
    real = alice._parts.ledger.submit

    async def submit(transaction: Any) -> Any:
        output = await real(transaction)
        world.chain.reachable = False
        return output

    monkeypatch.setattr(alice._parts.ledger, "submit", submit)
    with pytest.raises(Refused) as caught:
        await open_with(alice, contact)
    assert caught.value.code == "pending"
    world.chain.reachable = True
    await alice._follower.look_at_all()
    assert (await alice.channels())[0].state == "open"


def test_a_peers_memo_cannot_write_to_the_terminal() -> None:
    """A memo is the peer's text: escape sequences and markup in it are shown, not obeyed."""
    memo = "\x1b[2J\x1b]0;owned\x07[bold red]paid 1,000,000[/]\u202e\r\n9999"
    entry = EntryView(time_ms=0, kind="received", amount=1, channel="ab" * 32, peer=None, memo=memo, reference="r")
    text = io.StringIO()
    console = Console(file=text, width=300, force_terminal=True, color_system=None)
    render(console, HistoryView(entries=(entry,), currency=None), Currency("WDG", 2))  # type: ignore[arg-type]
    shown = text.getvalue()
    assert "\x1b[2J" not in shown and "\x07" not in shown and "\x1b]" not in shown
    assert "\u202e" not in shown and "\r" not in shown
    assert "[bold red]" in shown
    assert len(shown.splitlines()) == 2


async def test_a_peer_cannot_fill_the_disk_of_a_served_wallet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal was compacted only when a wallet was closed. A payment that is refused costs a peer nothing and is a
    record all the same; and a full disk freezes the watcher.
    """
    monkeypatch.setattr(assembly, "COMPACT_BYTES", 20_000)
    monkeypatch.setattr(observer, "FLUSH_S", 0.01)
    bob, contact = await world.serve("bob")
    alice = await world.load("alice")
    channel = await open_with(alice, contact)
    await channel.pay_many(1, 5)
    theirs, ours = bob._parts.host, alice._parts.host
    longest = 0
    for _ in range(200):
        with contextlib.suppress(Refused):
            await theirs.submit(channel.id, pay(0, 10**6, b"x" * 60))
        longest = max(longest, theirs.journal_bytes(), ours.journal_bytes())
    assert channel.view().version >= 200
    assert longest < 60_000
    version = theirs.groups[channel.id].version
    await world.stack.aclose()
    async with Wallet.load(world.homes["bob"].home, PASSPHRASE) as again:
        assert again._parts.host.groups[channel.id].version == version
        assert len([entry for entry in again.history(500) if entry.kind == "received"]) == 5


async def test_links_are_kept_again_after_a_fault(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One exception while a link was made ended all links for good, and nobody was told."""
    alice = await world.load("alice")
    real = alice._parts.host.run
    monkeypatch.setattr(alice._parts.host, "run", _broken_run)
    alice._peers.keep()
    await asyncio.sleep(0.01)
    assert "keeping links ended" in caplog.text
    monkeypatch.setattr(alice._parts.host, "run", real)
    _, contact = await world.serve("bob")
    await (await open_with(alice, contact)).pay(1)


async def _broken_run() -> None:
    raise ZeroDivisionError


async def test_faults_of_peers_do_not_fill_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Each message of garbage was a line in the log of `wallet serve`, at the rate of whoever sent it."""
    bob, _ = await world.serve("bob")
    with caplog.at_level(logging.WARNING):
        for number in range(10_000):
            bob._parts.observer.misbehaved(None, number.to_bytes(32, "big"), RemoteError("garbage"))
    told = [record for record in caplog.records if "broke the protocol" in record.message]
    assert len(told) == observer.LOGGED.faults + 1
    assert "is not told for 60 s" in caplog.text

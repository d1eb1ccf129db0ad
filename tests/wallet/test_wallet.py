"""The library: two wallets with a real link between them, on a ledger in this process."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable

import pytest

from layer1.client import LedgerUnreachable
from layer1.crypto import format_address
from layer1.errors import Refused
from tests.wallet.conftest import PASSPHRASE, POLICY, World
from tests.wallet.standin import FUNDS
from wallet import assembly, openings
from wallet import channel as channels
from wallet.book import Stage
from wallet.channel import Channel
from wallet.life import Life
from wallet.requests import ChannelView
from wallet.wallet import Wallet

pytestmark = pytest.mark.slow


async def open_with(wallet: Wallet, contact: str) -> Channel:
    """A channel on the terms of most tests."""
    return await wallet.open_channel(contact, deposit=10_000, peer_deposit=5_000, bond=1_000, challenge_period_ms=5_000)


async def opened(world: World) -> tuple[Wallet, Wallet, Channel]:
    """Alice and Bob with a channel; Bob is served."""
    bob, contact = await world.serve("bob")
    alice = await world.load("alice")
    return alice, bob, await open_with(alice, contact)


async def eventually(wallet: Wallet, check: Callable[[ChannelView], bool]) -> ChannelView:
    """The wallet's one channel, once it is as wanted; the wallet gets there by itself."""
    async with asyncio.timeout(5):
        while True:
            found = (await wallet.channels())[0]
            if check(found):
                return found
            await asyncio.sleep(0.01)


async def test_pay_both_ways_and_close_together(world: World) -> None:
    alice, bob, channel = await opened(world)
    await channel.pay(250, memo="tea")
    await (await _handle(bob)).pay(50)
    view = await channel.close()
    assert (view.state, view.reason, view.paid_out, view.peer_paid_out) == ("closed", "final", 10_800, 6_200)
    assert (await alice.balance(alice.savings_address)).value == 10_800
    assert (await bob.balance(bob.savings_address)).value == 6_200
    assert (await alice.balance()).value == FUNDS - 11_000
    assert world.chain.state.total_units() == 2 * FUNDS


async def _handle(wallet: Wallet) -> Channel:
    return wallet.channel((await wallet.channels())[0].id)


async def test_the_table_shows_what_one_can_send_receive_and_has_reserved(world: World) -> None:
    _, bob, channel = await opened(world)
    await channel.pay(250)
    view = channel.view()
    assert (view.can_send, view.can_receive, view.reserved, view.in_dispute) == (9_750, 5_250, 1_000, 0)
    mirrored = await eventually(bob, lambda theirs: theirs.version == 1)
    assert (mirrored.can_send, mirrored.can_receive) == (5_250, 9_750)


async def test_payments_land_in_both_histories_once_and_survive_a_restart(world: World) -> None:
    _, bob, channel = await opened(world)
    await channel.pay_many(3, 100, "many")
    await eventually(bob, lambda view: view.can_send == 5_300)
    received = [entry for entry in bob.history(500) if entry.kind == "received"]
    assert [(entry.amount, entry.memo) for entry in received] == [(3, "many")] * 100
    await world.stack.aclose()
    async with Wallet.load(world.homes["bob"].home, PASSPHRASE) as again:
        references = [entry.reference for entry in again.history(500)]
        assert len(references) == len(set(references))
        assert len([entry for entry in again.history(500) if entry.kind == "received"]) == 100


async def test_a_lost_history_is_rebuilt_from_the_journal(world: World) -> None:
    _, _, channel = await opened(world)
    await channel.pay_many(2, 10)
    await world.stack.aclose()
    home = world.homes["alice"].home
    for path in home.glob("wallet.db*"):
        path.unlink()
    async with Wallet.load(home, PASSPHRASE) as again:
        assert [entry.amount for entry in again.history() if entry.kind == "paid"] == [-2] * 10


async def test_what_one_does_not_have_is_refused_and_moves_nothing(world: World) -> None:
    _, _, channel = await opened(world)
    with pytest.raises(Refused, match=r"can send 100[.]00 WDG"):
        await channel.pay(10_001)
    assert channel.view().can_send == 10_000


async def test_force_needs_no_peer_and_settles_at_the_deadline(world: World) -> None:
    bob_stack = contextlib.AsyncExitStack()
    bob = await bob_stack.enter_async_context(Wallet.load(world.homes["bob"].home, PASSPHRASE))
    contact = await bob.serve(None, POLICY)
    alice = await world.load("alice")
    channel = await open_with(alice, contact)
    await channel.pay(1_000)
    await bob_stack.aclose()
    view = await channel.close(force=True)
    assert (view.state, view.in_dispute, view.remaining_ms) == ("disputed", 10_000, 5_000)
    world.chain.block(after_ms=5_001)
    view = await eventually(alice, lambda found: found.state == "closed")
    assert (view.reason, view.paid_out) == ("deadline", 10_000)


async def test_without_the_peer_a_cooperative_close_offers_force(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bob_stack = contextlib.AsyncExitStack()
    bob = await bob_stack.enter_async_context(Wallet.load(world.homes["bob"].home, PASSPHRASE))
    contact = await bob.serve(None, POLICY)
    alice = await world.load("alice")
    channel = await open_with(alice, contact)
    await bob_stack.aclose()
    monkeypatch.setattr(channels, "CONNECT_S", 0.1)
    with pytest.raises(Refused, match="--force") as caught:
        await channel.close()
    assert caught.value.code == "peer_unreachable"
    assert channel.view().state == "open"


async def test_a_stale_wedge_is_answered_unasked_and_costs_the_bond(world: World) -> None:
    """Issue: the watcher follows layer 1 for its own groups and answers a stale wedge without being asked."""
    bob, contact = await world.serve("bob")
    home = world.homes["alice"].home
    async with Wallet.load(home, PASSPHRASE) as alice:
        channel = await open_with(alice, contact)
        await channel.pay(1)
    shutil.copytree(home, home.with_name("old"))
    Life(home.with_name("old")).renew()  # a liar's copy, which pretends to be the original
    async with Wallet.load(home, PASSPHRASE) as alice:
        await alice.channel(channel.id.hex()).pay(4_000)
    async with Wallet.load(home.with_name("old"), PASSPHRASE) as old:
        await old.channel(channel.id.hex()).close(force=True)
        view = await eventually(bob, lambda found: found.state == "closed")
    assert (view.paid_out, view.peer_paid_out, view.peer_forfeited) == (9_001 + 2_000, 5_999, True)
    kinds = [entry.kind for entry in bob.history(6)]
    assert kinds[:4] == ["closed", "forfeited", "reported", "wedged"]


async def test_an_opening_that_nobody_accepts_costs_nothing(world: World) -> None:
    """Issue: it signs nothing unasked; `--accept-deposit-up-to N` lets it join openings."""
    _, contact = await world.serve("bob", None)
    alice = await world.load("alice")
    with pytest.raises(Refused) as caught:
        await open_with(alice, contact)
    assert caught.value.code == "peer_unreachable"
    assert (await alice.balance()).value == FUNDS
    assert await alice.channels() == []


async def test_what_is_accepted_counts_for_all_channels_together(world: World) -> None:
    _, contact = await world.serve("bob")
    alice = await world.load("alice")
    await alice.open_channel(contact, deposit=1, peer_deposit=30_000, challenge_period_ms=5_000)
    with pytest.raises(Refused, match=r"200[.]00 WDG at most") as caught:
        await alice.open_channel(contact, deposit=1, peer_deposit=30_000, challenge_period_ms=5_000)
    assert caught.value.code == "declined"


async def test_a_contact_with_another_address_reaches_nobody(world: World) -> None:
    """A link proves the address in the contact, so nobody between can answer for it."""
    bob, contact = await world.serve("bob")
    alice = await world.load("alice")
    wrong = contact.replace(contact.partition("@")[0], format_address(bob.savings_address))
    with pytest.raises(Refused) as caught:
        await open_with(alice, wrong)
    assert caught.value.code == "peer_unreachable"


async def test_the_book_is_durable_before_a_funding_signature_leaves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob, contact = await world.serve("bob")
    alice = await world.load("alice")
    seen: list[bool] = []
    home = world.homes["bob"].home
    send = bob._parts.host.send_opening

    def spy(peer: bytes, message: object) -> bool:
        seen.append(any(path.is_file() for path in (home / "channels").glob("*")))
        return send(peer, message)  # type: ignore[arg-type]

    monkeypatch.setattr(bob._parts.host, "send_opening", spy)
    await open_with(alice, contact)
    assert seen == [True]


@pytest.mark.parametrize("became_final", [True, False])
async def test_after_a_crash_in_an_opening_both_sides_learn_its_fate_from_layer_1(
    world: World, became_final: bool
) -> None:
    """groups.md, "Objects": void after `open_before`, so that nobody holds a free option on another's deposit."""
    bob, contact = await world.serve("bob")
    world.chain.swallows = True
    async with Wallet.load(world.homes["alice"].home, PASSPHRASE) as alice:
        with pytest.raises(Refused) as caught:
            await open_with(alice, contact)
        assert caught.value.code == "pending"
        transaction = next(iter(alice._parts.book)).transaction
    if became_final:
        world.chain.block([transaction])
    else:
        world.chain.block(after_ms=openings.LIFE_MS // 2)
        assert (await bob.channels())[0].state == "opening"
        world.chain.block(after_ms=openings.LIFE_MS // 2 + 1)
    world.chain.swallows = False
    alice = await world.load("alice")
    wanted = "open" if became_final else "failed"
    for wallet in (alice, bob):
        assert (await eventually(wallet, lambda view: view.state == wanted)).state == wanted
    if became_final:
        await (await _handle(alice)).pay(5)
    else:
        assert (await _handle(alice)).record.reason == "expired"


async def test_a_link_that_breaks_leaves_a_payment_pending_until_it_is_known(world: World) -> None:
    """groups.md, rule 5: a payment in a signed but uncertified version is pending, never retried elsewhere."""
    alice, bob, channel = await opened(world)
    await channel.pay(1)
    results = asyncio.gather(*(channel.pay(1) for _ in range(50)), return_exceptions=True)
    await asyncio.sleep(0)
    for link in list(bob._parts.host._links.values()):
        await link.close("the test cuts it")
    outcomes = await results
    await eventually(alice, lambda view: view.connected and view.pending == 0)
    await channel.pay(1)
    view = await eventually(bob, lambda theirs: theirs.can_receive == channel.view().can_send)
    paid = [entry for entry in alice.history(500) if entry.kind == "paid"]
    acknowledged = sum(not isinstance(outcome, BaseException) for outcome in outcomes)
    assert acknowledged + 2 <= len(paid) <= 52
    assert view.can_send == 5_000 + len(paid)


async def test_a_ledger_out_of_reach_is_said_and_changes_nothing(world: World) -> None:
    _, contact = await world.serve("bob")
    alice = await world.load("alice")
    world.chain.reachable = False
    with pytest.raises(LedgerUnreachable):
        await open_with(alice, contact)
    with pytest.raises(LedgerUnreachable):
        await alice.balance()
    world.chain.reachable = True
    assert list(alice._parts.book) == []


async def test_channels_go_on_paying_while_the_ledger_is_away(world: World) -> None:
    alice, _, channel = await opened(world)
    world.chain.reachable = False
    await channel.pay(1)
    assert [view.can_send for view in await alice.channels()] == [9_999]


async def test_one_process_per_home(world: World) -> None:
    await world.load("alice")
    with pytest.raises(Refused) as caught:
        await world.load("alice")
    assert caught.value.code == "home_busy"


async def test_a_transfer_is_final_on_return(world: World) -> None:
    alice = await world.load("alice")
    await alice.send(alice.savings_address, 700)
    assert (await alice.balance(alice.savings_address)).value == 700
    assert [(entry.kind, entry.amount) for entry in alice.history()] == [("sent", -700)]
    with pytest.raises(Refused) as caught:
        await alice.send(alice.savings_address, FUNDS)
    assert caught.value.code == "insufficient_balance"


async def test_channels_are_named_by_prefix_peer_or_not_at_all(world: World) -> None:
    alice, bob, channel = await opened(world)
    name = channel.id.hex()
    assert alice.channel(name[:6]).id == alice.channel_with(bob.address).id == channel.id
    for text in (name[:3], "ffff" if not name.startswith("ffff") else "0000", ""):
        with pytest.raises(Refused) as caught:
            alice.channel(text)
        assert caught.value.code == "unknown_channel"
    assert channel.record.stage is Stage.OPEN


async def test_a_long_journal_is_shortened_while_the_wallet_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the journal drops is in the history by then, durably: nothing of it is lost by a restart."""
    monkeypatch.setattr(assembly, "COMPACT_BYTES", 8_000)
    alice, _, channel = await opened(world)
    lengths: list[int] = []
    for _ in range(4):
        await asyncio.gather(*(channel.pay(1) for _ in range(100)))
        lengths.append(alice._parts.host.journal_bytes())
        alice._parts.observer._flush()
        assert alice._parts.host.journal_bytes() < 8_000
    assert max(lengths) > 8_000
    await world.stack.aclose()
    async with Wallet.load(world.homes["alice"].home, PASSPHRASE) as again:
        assert again.channel(channel.id.hex()).view().can_send == 9_600
        assert len([entry for entry in again.history(500) if entry.kind == "paid"]) == 400


async def test_a_transfer_whose_fate_is_unknown_is_pending_and_says_when_it_is_dead(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "No surprise with money": a second transfer has another salt, and both may be executed."""
    alice = await world.load("alice")

    async def silent(_: object) -> None:
        raise LedgerUnreachable("no replica answered")

    monkeypatch.setattr(alice._parts.ledger, "submit", silent)
    with pytest.raises(Refused, match=r"may still be executed, for .*: do not repeat it before that") as refusal:
        await alice.send(alice.savings_address, 5)
    assert refusal.value.code == "pending"

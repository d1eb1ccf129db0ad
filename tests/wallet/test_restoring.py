"""groups.md, "Coming back from nothing": the seed phrase alone must suffice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from layer1.errors import Refused
from layer1.ledger.records import Status
from tests.wallet.conftest import PASSPHRASE, World
from wallet.channel import Channel
from wallet.keystore import Keystore
from wallet.restoring import GAP, KeySearch, record_of
from wallet.wallet import Wallet


async def opened(world: World, payer: str = "alice", payee: str = "bob") -> tuple[Wallet, Wallet, Channel]:
    """A channel with money on both sides, after a payment; both wallets are served."""
    bob, contact = await world.serve(payee)
    alice, _ = await world.serve(payer)
    channel = await alice.open_channel(
        contact, deposit=10_000, peer_deposit=5_000, bond=1_000, challenge_period_ms=5_000
    )
    await channel.pay(250)
    return alice, bob, channel


async def anew(world: World, name: str) -> Wallet:
    """Another home made of the same phrase."""
    again = world.homes[name].home.with_name(f"{name}-again")
    Wallet.create(again, world.chain.genesis, ("http://stand-in",), PASSPHRASE, world.homes[name].phrase)
    return await world.stack.enter_async_context(Wallet.load(again, PASSPHRASE))


async def test_the_phrase_alone_brings_back_a_channel_and_its_money(world: World) -> None:
    alice, bob, channel = await opened(world)
    await alice.__aexit__()
    again = await anew(world, "alice")
    (view,) = await again.restore()
    assert (view.id, view.state, view.recovered) == (channel.id.hex(), "stopped", True)
    assert (view.version, view.balance, view.peer_balance) == (1, 9_750, 5_250)
    assert view.endpoint == (bob.contact or "").partition("@")[2], "where the peer listens stands in the agreement"
    with pytest.raises(Refused) as refusal:
        await again.channel(view.id).pay(1)
    assert refusal.value.code == "lost_data"
    closed = await again.channel(view.id).close()
    assert (closed.reason, closed.paid_out, closed.peer_paid_out) == ("final", 10_750, 6_250)
    assert not await again.restore(), "what is known is not found again"


async def test_a_recovered_channel_goes_on_in_a_new_epoch(world: World) -> None:
    """RESIZE: then it pays again."""
    alice, bob, channel = await opened(world)
    await alice.__aexit__()
    again = await anew(world, "alice")
    await again.restore()
    handle = again.channel(channel.id.hex())
    view = await handle.resume()
    assert (view.state, view.version, view.can_send) == ("open", 0, 9_750)
    await handle.pay(250)
    assert bob.channel(channel.id.hex()).view().can_receive == 9_500


async def test_who_was_only_asked_finds_the_one_who_asked(world: World) -> None:
    """The contact of a served wallet is in the agreement on both sides."""
    alice, bob, channel = await opened(world)
    await bob.__aexit__()
    again = await anew(world, "bob")
    (view,) = await again.restore()
    assert view.endpoint == (alice.contact or "").partition("@")[2]
    assert (view.recovered, view.balance) == (True, 5_250)
    closed = await again.channel(channel.id.hex()).close()
    assert closed.paid_out == 6_250


async def test_a_peer_that_is_away_is_waited_for_and_a_forced_close_pleads(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 13: no claim is made from nothing; the peer's watcher answers, and both get what is theirs."""
    monkeypatch.setattr("wallet.wallet.ASK_S", 0.05)
    alice, bob, channel = await opened(world)
    await alice.__aexit__()
    await bob.__aexit__()
    again = await anew(world, "alice")
    (view,) = await again.restore()
    assert (view.state, view.recovered, view.balance) == ("stopped", False, None)
    disputed = await again.channel(view.id).close(force=True)
    shown = world.chain.state.group(channel.id)
    assert shown is not None and shown.status is Status.WEDGED and shown.pleas == (True, False)
    assert disputed.state == "disputed"
    period_ms = shown.agreement.challenge_period_ms
    assert shown.deadline_ms is not None and shown.deadline_ms > world.chain.state.clock + period_ms
    awake = await world.load("bob")

    def answered() -> bool | None:
        awake._follower.nudge()
        reported = world.chain.state.group(channel.id)
        return True if reported is not None and reported.version == 1 else None

    assert await awake._parts.signals.until(answered, 5)
    for _ in range(40):
        world.chain.block(after_ms=period_ms // 10)
    closed = await again.channel(view.id).refresh()
    assert (closed.state, closed.paid_out, closed.forfeited) == ("closed", 10_750, False)


async def test_the_wallet_comes_back_from_its_new_home_too(world: World) -> None:
    """What was recovered is durable; the loss is not forgotten either."""
    alice, _, channel = await opened(world)
    await alice.__aexit__()
    again = await anew(world, "alice")
    await again.restore()
    home = again._home.path
    await again.__aexit__()
    third = await world.stack.enter_async_context(Wallet.load(home, PASSPHRASE))
    view = third.channel(channel.id.hex()).view()
    assert (view.version, view.state) == (1, "stopped")
    assert third._parts.book.take_key_index() == 1, "no key of a group is given to another"


async def test_an_old_copy_that_is_put_back_is_harmless(world: World, tmp_path: Path) -> None:
    """It learns from the peer that it is old, claims nothing, and gets back what it lost."""
    alice, _, channel = await opened(world)
    await alice.__aexit__()
    home = world.homes["alice"].home
    shutil.copytree(home, tmp_path / "yesterday")
    alice = await world.load("alice")
    await alice.channel(channel.id.hex()).pay(1_000)
    await alice.__aexit__()
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "yesterday", home)
    old = await world.load("alice")
    handle = old.channel(channel.id.hex())
    with pytest.raises(Refused, match="lost data"):
        await handle.pay(1)
    await old._parts.signals.until(lambda: True if handle.view().version == 2 else None, 5)
    view = handle.view()
    assert (view.state, view.recovered, view.balance) == ("stopped", True, 8_750)
    assert view.advice is not None and "recovered version 2" in view.advice
    closed = await handle.close()
    assert (closed.paid_out, closed.forfeited) == (9_750, False)


async def test_closed_channels_are_found_with_their_end(world: World) -> None:
    alice, _, channel = await opened(world)
    await channel.close()
    await alice.__aexit__()
    (view,) = await (await anew(world, "alice")).restore()
    assert (view.state, view.reason, view.paid_out) == ("closed", "final", 10_750)


async def test_a_group_that_only_names_us_is_not_ours(world: World) -> None:
    """Anybody can name our account as a payout, and any host as its contact."""
    alice, _, channel = await opened(world)
    group = world.chain.state.group(channel.id)
    assert group is not None
    keys = KeySearch(alice._parts.keys)
    record = record_of(group, alice.address, keys)
    assert record is not None and record.group_id == channel.id and record.key_index == 0
    assert record_of(group, alice.savings_address, keys) is None
    strange = Keystore.load(world.homes["bob"].home / "keystore.json").unlock(PASSPHRASE)
    assert record_of(group, alice.address, KeySearch(strange)) is None


def test_keys_are_searched_as_far_as_the_gap(world: World) -> None:
    keys = Keystore.load(world.homes["alice"].home / "keystore.json").unlock(PASSPHRASE)
    search = KeySearch(keys)
    assert search.number_of(keys.group_key(GAP - 1).public) == GAP - 1
    assert search.number_of(keys.group_key(2 * GAP - 1).public) == 2 * GAP - 1
    assert search.number_of(keys.group_key(3 * GAP + 1).public) is None

"""Homes that are copies: "an old backup is harmless", also while the peer is away (decision 040)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.wallet.conftest import World
from tests.wallet.test_restoring import anew, opened
from tests.wallet.test_wallet import eventually
from tests.wallet.test_watchtowers import Tower, tower  # noqa: F401 - a fixture
from wallet import channel as channels
from wallet.life import Life
from wallet.wallet import Wallet

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CONNECT_S", 0.3)


async def yesterday(world: World, alice: Wallet, channel: str, tmp_path: Path, part: str = ".") -> Path:
    """Her home of before a payment, or a part of it, put in place of the one of after it; she is closed."""
    home = world.homes["alice"].home
    await alice.__aexit__()
    shutil.copytree(home, tmp_path / "yesterday")
    later = await world.load("alice")
    await later.channel(channel).pay(1_000)
    await later.__aexit__()
    shutil.rmtree(home / part)
    shutil.copytree(tmp_path / "yesterday" / part, home / part)
    return home


@pytest.mark.parametrize("part", [".", "journal"])
async def test_closing_by_force_from_an_old_copy_costs_no_bond_though_the_peer_is_away(
    world: World, tmp_path: Path, part: str
) -> None:
    """It pleads instead of claiming; the peer comes back, and the newest state is paid out."""
    alice, bob, channel = await opened(world)
    name = channel.id.hex()
    await yesterday(world, alice, name, tmp_path, part)
    await bob.__aexit__()
    old = await world.load("alice")
    view = old.channel(name).view()
    assert view.copied and "are a copy" in str(view.advice) and (view.version, view.balance) == (1, 9_750)
    view = await old.channel(name).close(force=True)
    shown = old._follower.seen[channel.id]
    assert view.state == "disputed" and shown.pleas[0] and shown.claims[0] is None
    await world.serve("bob")
    await eventually(old, lambda view: old._follower.seen[channel.id].version == 2)
    for _ in range(12):
        world.chain.block(after_ms=1_000)
    closed = await eventually(old, lambda view: view.state == "closed")
    assert (closed.forfeited, closed.peer_forfeited, closed.paid_out) == (False, False, 8_750 + 1_000)


async def test_nothing_is_doubted_of_a_channel_that_closed_and_was_forgotten_meanwhile(
    world: World, tmp_path: Path
) -> None:
    """`close --force` from a copy waits for the peer's word while the watcher goes on."""
    alice, bob, channel = await opened(world)
    await yesterday(world, alice, channel.id.hex(), tmp_path)
    await bob.__aexit__()
    old = (await world.load("alice")).channel(channel.id.hex())
    assert old._doubts_nothing() is None
    del old._parts.host._groups[channel.id]  # as the watcher does when layer 1 shows it closed
    assert old._doubts_nothing() is True


async def test_a_home_that_was_moved_pays_on_when_its_peer_has_answered(world: World) -> None:
    alice, _, channel = await opened(world)
    home, name = world.homes["alice"].home, channel.id.hex()
    await alice.__aexit__()
    shutil.copytree(home, home.with_name("elsewhere"))
    shutil.rmtree(home)
    home.with_name("elsewhere").rename(home)
    moved = await world.load("alice")
    assert moved.channel(name).view().copied
    await moved.channel(name).pay(1)
    view = moved.channel(name).view()
    assert not view.copied and "goes on" in str(view.advice)
    await moved.__aexit__()
    again = await world.load("alice")
    assert not again.channel(name).view().copied, "the everyday start knows nothing of it"


async def test_a_watchtower_is_asked_before_the_first_claim(world: World, tower: Tower, tmp_path: Path) -> None:  # noqa: F811
    """A snapshot of the whole disk cannot be told from the original; what the tower holds can."""
    alice, bob, channel = await opened(world)
    name = channel.id.hex()
    await alice.add_watchtower(str(tower.contact))
    await eventually(alice, lambda view: view.watchtowers[0].version == 1)
    home = await yesterday(world, alice, name, tmp_path)
    Life(home).renew()
    await bob.__aexit__()
    old = await world.load("alice")
    assert not old.channel(name).view().copied
    view = await old.channel(name).close(force=True)
    shown = old._follower.seen[channel.id]
    assert shown.claims[0] is None and shown.pleas[0] and view.version == 2


async def test_what_a_watchtower_keeps_brings_back_a_channel_though_the_peer_is_away(
    world: World,
    tower: Tower,  # noqa: F811
) -> None:
    """ "asks peers, witnesses and towers": the phrase, and the tower's contact."""
    alice, bob, channel = await opened(world)
    await alice.add_watchtower(str(tower.contact))
    await eventually(alice, lambda view: view.watchtowers[0].version == 1)
    await alice.__aexit__()
    await bob.__aexit__()
    again = await anew(world, "alice")
    found = await again.restore()
    assert [view.recovered for view in found] == [False]
    await again.add_watchtower(str(tower.contact))
    view = await eventually(again, lambda view: view.version == 1)
    assert "which the watchtower" in str(view.advice)
    assert again._parts.host.groups[channel.id].state.body.balances == (9_750, 5_250)

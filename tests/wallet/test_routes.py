"""Three wallets in a row: how they hear of each other, and what they say of themselves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs

from layer1.codec import encode
from layer1.crypto import Hash, format_address
from layer1.errors import Refused
from tests.wallet.conftest import World, world_of
from wallet.home import Home
from wallet.local import LocalCommands
from wallet.requests import Request, TollView
from wallet.route_requests import FindRoute, SetFee, SetLimits
from wallet.routing.announcements import ChannelAnnouncement
from wallet.routing.desk import Wish
from wallet.routing.gossip import Announce, GraphPage
from wallet.routing.graph import channel_of
from wallet.wallet import Wallet

LOCK_MS = 3_000_000


class Row:
    """Alice - Bob - Carol, both channels with money on either side."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wallets: dict[str, Wallet] = {}
        self.contacts: dict[str, str] = {}

    async def serve(self, name: str) -> Wallet:
        self.wallets[name], self.contacts[name] = await self.world.serve(name)
        return self.wallets[name]

    async def open(self, one: str, other: str) -> Hash:
        channel = await self.wallets[one].open_channel(
            self.contacts[other], deposit=10_000, peer_deposit=10_000, bond=1_000
        )
        return channel.id

    async def until(self, name: str, check: Callable[[], bool]) -> None:
        """Wait for what links bring."""
        signals = self.wallets[name]._parts.signals
        for _ in range(1_000):
            if await signals.until(lambda: True if check() else None, 0.02):
                return
        raise AssertionError(f"{name} waited in vain")

    def knows(self, name: str, channel: Hash, of: str) -> bool:
        return self.terms(name, channel.hex(), of) is not None

    def terms(self, name: str, channel: str, of: str) -> ChannelAnnouncement | None:
        return self.wallets[name]._routes.graph.terms(bytes.fromhex(channel), self.wallets[of].address)

    def wish(self, payee: str, amount: int = 1_000) -> Wish:
        return Wish(self.wallets[payee].address, amount, self.world.chain.state.clock + LOCK_MS)


@pytest.fixture
async def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_scrypt: None) -> AsyncIterator[Row]:
    async with world_of(("alice", "bob", "carol"), tmp_path, monkeypatch) as world:
        found = Row(world)
        for name in ("alice", "bob", "carol"):
            await found.serve(name)
        yield found


async def test_three_wallets_find_the_way_by_what_they_tell_each_other_and_follow_the_network(row: Row) -> None:
    """Fees as they are set, channels as they open and close; who is served and has two channels reads the graph."""
    first, second = await row.open("alice", "bob"), await row.open("bob", "carol")
    alice, bob = row.wallets["alice"], row.wallets["bob"]
    assert bob._routes._survey.begun and not alice._routes._survey.begun, "alice forwards nothing: she reads no graph"
    with pytest.raises(Refused, match="no open channel"):
        alice.routes.find(row.wish("carol"))
    await alice.routes.ready()
    found = alice.routes.find(row.wish("carol"))
    assert [leg.channel for leg in found.legs] == [first, second] and found.fee == 2
    assert [hop.node for hop in found.route.hops] == [bob.address, row.wallets["carol"].address]
    record = bob._parts.book.get(second)
    assert record is not None
    bob.tolls.set_fee(record, 25, 0)
    await row.until("alice", lambda: getattr(row.terms("alice", second.hex(), "bob"), "fee_base", 0) == 25)
    assert alice.routes.find(row.wish("carol")).fee == 25 and bob.tolls.terms_of(second).fee_base == 25
    await bob.channel(second.hex()).top_up(5_000)
    await row.until("alice", lambda: getattr(row.terms("alice", second.hex(), "bob"), "max_amount", 0) == 25_000)
    assert alice._routes.graph.channels[second].capacity == 25_000
    third = await row.open("alice", "carol")
    assert [leg.channel for leg in alice.routes.find(row.wish("carol")).legs] == [third]
    await alice.channel(third.hex()).close()
    await bob.channel(second.hex()).close()
    await row.until("alice", lambda: set(alice._routes.graph.channels) == {first})
    with pytest.raises(Refused, match="no path"):
        alice.routes.find(row.wish("carol"))


async def test_a_neighbour_is_one_though_the_graph_had_its_channel_from_layer_1_first(row: Row) -> None:
    """A hub that follows layer 1 told every peer but the first two nothing, and took nothing from them."""
    bob = row.wallets["bob"]
    observer, graph = bob._parts.observer, bob._routes.graph
    in_step = observer.on_step

    def later(group_id: Hash, member: int) -> None:
        channel = channel_of(group_id, bob._parts.host.groups[group_id].place.agreement)
        assert channel is not None
        graph.show(channel)
        in_step(group_id, member)

    observer.on_step = later
    opened = await row.open("alice", "bob")
    await row.until("alice", lambda: row.knows("alice", opened, "bob"))
    await row.until("bob", lambda: row.knows("bob", opened, "alice"))


async def test_a_route_is_shown_and_fees_and_limits_are_set(row: Row) -> None:
    """What `wallet route`, `wallet channel fee` and `wallet channel limits` ask for, and what they refuse."""
    await row.open("alice", "bob")
    second = (await row.open("bob", "carol")).hex()
    carol = format_address(row.wallets["carol"].address)
    alice, bob = (LocalCommands(Home(row.world.homes[name].home), row.wallets[name]) for name in ("alice", "bob"))
    view = await alice.run(FindRoute(payee=carol, amount=1_000))
    assert (view.fee, len(view.parts), view.channels) == (2, 1, 2) and 0 < view.chance < 1
    assert [leg.fee for leg in view.parts[0].legs] == [0, 2] and view.parts[0].legs[-1].receiver == carol
    asked = await bob.run(SetFee(channel=second[:8], base=7, per_million=10_000))
    asked = await bob.run(SetLimits(channel=second[:8], least=50, most=2_000))
    assert asked.toll == TollView(forwards=True, base=7, per_million=10_000, least=50, most=2_000)
    await row.until("alice", lambda: getattr(row.terms("alice", second, "bob"), "max_amount", 0) == 2_000)
    assert (await alice.run(FindRoute(payee=row.contacts["carol"], amount=1_000))).fee == 17
    for request, words in (
        (FindRoute(payee=carol, amount=1_000, max_fee=16), "a fee of 0.17 WDG, and at most 0.16 WDG"),
        (FindRoute(payee=carol, amount=2_500, parts=1), "WDG would pass: pay less, in several parts"),
        (FindRoute(payee=carol), "name an amount"),
        (FindRoute(payee=row.contacts["alice"], amount=5), "this wallet"),
        (SetFee(channel=second, base=2**53), "a base fee"),
        (SetLimits(channel=second, least=3_000), "no amount fits"),
        (SetFee(channel="abcd", base=1), "no channel"),
    ):
        with pytest.raises(Refused, match=words):
            await (bob if "channel" in request.__struct_fields__ else alice).run(cast(Request[Any], request))
    assert len((await alice.run(FindRoute(payee=carol, amount=2_500))).parts) > 1
    assert (await bob.run(SetLimits(channel=second, most=0, forwards=False))).toll == TollView(
        forwards=False, base=7, per_million=10_000, least=50, most=None
    )


async def test_what_was_said_is_said_again_and_never_less(row: Row) -> None:
    """After a restart the same announcement stands; another one has a higher sequence, whatever the clock shows."""
    channel = await row.open("alice", "bob")
    alice = row.wallets["alice"]
    await row.until("bob", lambda: row.knows("bob", channel, "alice"))
    said = alice.tolls.announcement(channel)
    assert said is not None and alice.tolls.announcement(channel) is said
    await alice.__aexit__(None, None, None)
    alice = await row.serve("alice")
    await row.until("alice", lambda: row.terms("alice", channel.hex(), "alice") == said)
    assert alice.tolls.announcement(channel) == said
    alice.tolls._now_ms = lambda: 5
    record = alice._parts.book.get(channel)
    assert record is not None
    alice.tolls.set_limits(record, 10, 500, enabled=False)
    bob = row.wallets["bob"]._routes.graph
    await row.until("bob", lambda: (told := bob.terms(channel, alice.address)) is not None and not told.enabled)
    told = bob.terms(channel, alice.address)
    assert told is not None and told.sequence == said.sequence + 1 and (told.min_amount, told.max_amount) == (10, 500)


async def test_a_liar_moves_nothing_and_loses_its_link(row: Row) -> None:
    """What carol says of channels that are not hers, in others' names, or beyond all limits."""
    first, second = await row.open("alice", "bob"), await row.open("bob", "carol")
    alice, bob, carol = (row.wallets[name] for name in ("alice", "bob", "carol"))
    await row.until("bob", lambda: row.knows("bob", first, "alice") and row.knows("bob", second, "carol"))
    before = {topic: bob._routes.graph.newest(topic) for topic in bob._routes.graph.topics()}
    theirs = bob._routes.graph.terms(first, alice.address)
    assert theirs is not None
    lies = [
        structs.replace(theirs, sequence=theirs.sequence + 1, enabled=False),  # not signed by alice
        structs.replace(theirs, node=carol.address),  # of no channel of hers
        structs.replace(theirs, fee_ppm=10**7),
    ]
    for lie in lies:
        carol._parts.host.say(bob.address, encode(Announce((lie,))))
    carol._parts.host.say(bob.address, encode(GraphPage((), None)))
    for _ in range(60):
        carol._parts.host.say(bob.address, b"no gossip")
    host = bob._parts.host
    await row.until("bob", lambda: host.shuts_out(carol.address))
    assert {topic: bob._routes.graph.newest(topic) for topic in bob._routes.graph.topics()} == before
    await alice.channel(first.hex()).pay(100)


def test_a_wallet_that_asks_for_no_route_loads_no_search() -> None:
    """Numbers and graphs take memory, and time at a start."""
    code = "import sys, wallet.wallet, wallet.local, wallet.api.service; print({'numpy', 'scipy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"

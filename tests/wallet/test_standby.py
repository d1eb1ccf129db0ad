"""A hub and its standby in one process: what it confirmed it has, and who is promoted goes on there (decision 031)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from layer1.client import LedgerUnreachable
from layer1.codec import encode
from layer1.crypto import SigningKey, format_address
from layer1.errors import LocalError, Refused, RemoteError
from layer1.link import LinkClosed, LinkLimits
from layer2.chain import (
    Batch,
    ChainMessage,
    Confirmed,
    Following,
    Heard,
    Hello,
    Leading,
    Linked,
    Pairing,
    Role,
    Welcome,
    Whole,
    decode_chain_message,
)
from layer2.chain_driver import HeadDriver, StandbyDriver
from layer2.tower import Terms
from tests.wallet.conftest import PASSPHRASE, World
from tests.wallet.standin import FUNDS
from tests.wallet.test_watchtowers import Tower, version_at
from wallet import session
from wallet.channel import Channel
from wallet.contacts import Contact, parse_contact
from wallet.entrusting import _Guard
from wallet.headship import Standing, name_standby, read_standing, resting, role_path, write_standing
from wallet.home import Config, Home
from wallet.invoices.payee import Wanted
from wallet.requests import Promote, ShowStandby, no_report
from wallet.session import ask
from wallet.standby import StandbyHome
from wallet.towers import KnownTower, TowerBook
from wallet.wallet import Wallet

pytestmark = pytest.mark.slow


async def until(condition: Callable[[], object]) -> None:
    """Look again after each pause, for at most ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


@dataclass
class Hub:
    """Alice's wallet as a hub: its first home is served with a standby in the second; Bob pays and is paid."""

    world: World
    first: Home
    second: Home

    async def head(self) -> Wallet:
        """Serve the first home."""
        wallet, _ = await self.world.serve("alice")
        return wallet

    @asynccontextmanager
    async def standby(self, home: Home | None = None) -> AsyncIterator[StandbyHome]:
        """Stand by in the second home."""
        found = home or self.second
        async with StandbyHome(found, found.keystore().unlock(PASSPHRASE)) as standby:
            await standby.listen(None)
            yield standby


@pytest.fixture
async def hub(world: World, tmp_path: Path) -> Hub:
    created = world.homes["alice"]
    second = Wallet.create(tmp_path / "second", None, (), PASSPHRASE, created.phrase)
    home = Home(second.home)
    home.connect(world.genesis, Config(("http://stand-in",)))
    return Hub(world, Home(created.home), home)


@asynccontextmanager
async def paired(hub: Hub) -> AsyncIterator[tuple[Wallet, Wallet, StandbyHome, Channel]]:
    """Head, Bob, and a standby that may be promoted; a channel between the first two in which something was paid."""
    async with AsyncExitStack() as stack:
        standby = await stack.enter_async_context(hub.standby())
        assert standby.contact is not None
        name_standby(hub.first, parse_contact(standby.contact))
        alice = await stack.enter_async_context(Wallet.load(hub.first.path, PASSPHRASE))
        await alice.serve(None, None)
        bob, contact = await hub.world.serve("bob")
        channel = await alice.open_channel(contact, deposit=10_000, peer_deposit=5_000)
        await channel.pay(10, "first")
        await until(lambda: standby.view().paired)
        yield alice, bob, standby, channel


async def test_the_standby_has_what_was_paid_and_goes_on_as_the_head(hub: Hub) -> None:
    async with paired(hub) as (alice, bob, standby, channel):
        assert (alice.standby().role, alice.standby().term, alice.standby().paired) == ("head", 1, True)
        await asyncio.gather(*(channel.pay(1, f"out {n}") for n in range(20)))
        back = bob.channel(channel.id.hex())
        await asyncio.gather(*(back.pay(2, f"in {n}") for n in range(20)))
        promoted = await standby.promote()
        assert (promoted.term, promoted.contact) == (2, standby.contact)
        failure = await asyncio.wait_for(alice.failed(), 5)
        assert isinstance(failure, Refused)
        assert failure.code == "fenced"
    async with Wallet.load(hub.second.path, PASSPHRASE) as second:
        await second.serve(None, None)
        there = second.channel(channel.id.hex())
        await there.pay(5)  # in step with Bob, who may hold the last certificate alone
        assert (there.view().can_send, there.view().can_receive) == (10_000 - 35 + 40, 5_000 + 35 - 40)
        memos = [entry.memo for entry in second.history(100) if entry.kind in ("paid", "received")]
        assert sorted(m for m in memos if m) == sorted(
            ["first", *(f"out {n}" for n in range(20)), *(f"in {n}" for n in range(20))]
        )
        assert bob.channel(channel.id.hex()).view().can_send == 5_000 + 35 - 40
        with pytest.raises(Refused, match="another home of this wallet leads, in term 2"):
            await hub.world.load("alice")
        at_rest = resting(hub.first)
        assert not at_rest.paired and "another home of this wallet leads, in term 2" in str(at_rest.trouble)
        async with hub.standby(hub.first) as old:
            assert old.contact is not None
            assert isinstance(read_standing(hub.first), Standing)
            assert old.view().role == "standby"


async def test_an_old_head_becomes_the_standby_of_the_new_one(hub: Hub) -> None:
    async with paired(hub) as (_, _, standby, channel):
        await standby.promote()
    async with hub.standby(hub.first) as old:
        assert old.contact is not None
        name_standby(hub.second, parse_contact(old.contact))
        async with Wallet.load(hub.second.path, PASSPHRASE) as second:
            await second.serve(None, None)
            there = second.channel(channel.id.hex())
            await there.pay(5)
            await until(lambda: old.view().paired)
            await there.pay(6)
            assert second.standby().paired
            await old.promote()
            assert read_standing(hub.first) == Standing(Leading(bytes.fromhex(old.view().name or ""), 3))
    async with Wallet.load(hub.first.path, PASSPHRASE) as first:
        assert first.channel(channel.id.hex()).view().can_send == 10_000 - 10 - 5 - 6


async def test_nothing_leaves_while_the_standby_is_away_until_the_head_goes_alone(hub: Hub) -> None:
    async with paired(hub) as (alice, bob, standby, channel):
        await standby.__aexit__()
        await until(lambda: not alice.standby().in_touch)
        paying = asyncio.create_task(alice._parts.host.submit(channel.id, channel._command(7, "waits")))
        await until(lambda: alice.standby().waiting)
        assert bob.channel(channel.id.hex()).view().can_send == 5_010
        assert not paying.done()
        view = await alice.go_alone()
        assert (view.term, view.paired, view.endpoint) == (2, False, None)
        await asyncio.wait_for(paying, 5)
        assert bob.channel(channel.id.hex()).view().can_send == 5_017
    async with hub.standby() as again:
        with pytest.raises(Refused) as refused:
            await again.promote()
        assert refused.value.code in {"not_paired", "fenced"}


async def test_a_head_that_starts_again_waits_for_its_standby(hub: Hub) -> None:
    async with paired(hub) as (_, _, standby, channel):
        pass
    alice = await hub.world.load("alice")
    with pytest.raises(Refused) as refused:
        await asyncio.wait_for(_impatient(alice, channel.id.hex()), 5)
    assert refused.value.code == "standby_away"
    async with hub.standby() as standby:
        assert standby.contact is not None
        await until(lambda: alice.standby().in_touch)
        await alice.channel(channel.id.hex()).pay(3)
    assert standby.view().paired


async def _impatient(wallet: Wallet, channel: str) -> None:
    from wallet import channel as module

    before, module.CONNECT_S = module.CONNECT_S, 0.2
    try:
        await wallet.channel(channel).pay(1)
    finally:
        module.CONNECT_S = before


async def test_a_funding_signature_leaves_when_the_standby_has_the_channels_file(hub: Hub) -> None:
    async with paired(hub) as (alice, bob, standby, _):
        contact = bob.contact
        assert contact is not None
        await standby.__aexit__()
        await until(lambda: not alice.standby().in_touch)
        before = hub.world.chain.height
        opening = asyncio.create_task(alice.open_channel(contact, deposit=100))
        await until(lambda: len(list(alice._parts.book)) == 2)
        await until(lambda: alice.standby().waiting)
        assert hub.world.chain.height == before
        opening.cancel()


async def test_homes_that_are_no_standby_are_refused(hub: Hub) -> None:
    bob = Home(hub.world.homes["bob"].home)
    with pytest.raises(Refused) as refused:
        name_standby(hub.first, parse_contact(f"{await _address(bob)}@127.0.0.1:1"))
    assert refused.value.code == "bad_contact"
    name_standby(hub.first, parse_contact(f"{await _address(hub.first)}@127.0.0.1:1"))
    await hub.world.load("alice")
    with pytest.raises(Refused) as refused:
        async with hub.standby(hub.first):
            pass
    assert refused.value.code in {"home_busy", "head_home"}
    async with hub.standby():
        pass
    with pytest.raises(Refused) as refused:
        async with Wallet.load(hub.second.path, PASSPHRASE):
            pass
    assert refused.value.code == "standby_home"


async def _address(home: Home) -> str:
    from layer1.crypto import format_address

    return format_address(home.keystore().spending_address)


async def test_a_fresh_home_of_a_wallet_that_has_a_head_is_not_served(hub: Hub) -> None:
    name_standby(hub.first, parse_contact(f"{await _address(hub.first)}@127.0.0.1:1"))
    await hub.world.load("alice")
    async with Wallet.load(hub.second.path, PASSPHRASE) as second:
        with pytest.raises(Refused) as refused:
            await second.serve(None, None)
    assert refused.value.code == "fenced"


async def test_a_first_term_is_asked_for_once_and_needs_money_and_a_ledger(hub: Hub) -> None:
    name_standby(hub.first, parse_contact(f"{await _address(hub.first)}@127.0.0.1:1"))
    hub.world.chain.reachable = False
    with pytest.raises(LedgerUnreachable):
        await hub.world.load("alice")
    hub.world.chain.reachable = True
    async with Wallet.load(hub.first.path, PASSPHRASE) as alice:
        assert (alice.standby().term, alice.standby().paired) == (1, False)
        assert (await alice.balance()).value == FUNDS
    hub.world.chain.reachable = False
    async with Wallet.load(hub.first.path, PASSPHRASE) as alice:
        assert alice.standby().term == 1


def test_a_damaged_role_file_is_not_guessed(tmp_path: Path, cheap_scrypt: None) -> None:
    home = Home(Wallet.create(tmp_path / "a", None, (), PASSPHRASE).home)
    assert read_standing(home) is None
    role_path(home).write_bytes(b"leads, probably")
    with pytest.raises(LocalError, match="is damaged"):
        read_standing(home)


def test_roles_survive_their_encoding(tmp_path: Path) -> None:
    from layer1.codec import decode, encode

    for role in (Leading(b"n" * 32, 3, b"s" * 32), Following(b"n" * 32, 2, b"h" * 32, paired=True)):
        assert decode(encode(Standing(role, "a:1")), Standing) == Standing(role, "a:1")


async def test_a_restored_home_leads_when_all_others_are_lost(hub: Hub) -> None:
    name_standby(hub.first, parse_contact(f"{await _address(hub.first)}@127.0.0.1:1"))
    async with Wallet.load(hub.first.path, PASSPHRASE):
        pass
    promoted = await ask(hub.second, Promote(lost=True), lambda: PASSPHRASE, no_report)
    assert promoted.term == 2
    assert read_standing(hub.second) is not None
    async with Wallet.load(hub.second.path, PASSPHRASE) as second:
        assert (second.standby().role, second.standby().term) == ("head", 2)
        with pytest.raises(Refused, match="leads term 2 alone"):
            await second.go_alone()
    with pytest.raises(Refused) as refused:
        await ask(hub.second, Promote(lost=True), lambda: PASSPHRASE, no_report)
    assert refused.value.code == "head_home"
    with pytest.raises(Refused) as refused:
        await hub.world.load("alice")
    assert refused.value.code == "fenced"


async def test_the_watchtowers_go_on_guarding_after_a_promotion(hub: Hub, tmp_path: Path) -> None:
    """Which ones they are is told like each file; the new head entrusts everything to them anew."""
    tower = Tower(hub.world.chain, tmp_path / "tower.db")
    await tower.up()
    try:
        async with paired(hub) as (alice, _, standby, channel):
            await alice.add_watchtower(str(tower.contact), bounty=3)
            gone = Contact(SigningKey(b"g" * 32).public, "127.0.0.1", 9)
            await alice.add_watchtower(gone)
            alice.remove_watchtower(format_address(gone.address))
            await alice._parts.settled()
            await standby.promote()
            await asyncio.wait_for(alice.failed(), 5)
        async with Wallet.load(hub.second.path, PASSPHRASE) as second:
            await second.serve(None, None)
            assert [(view.contact, view.bounty) for view in second.watchtowers] == [(str(tower.contact), 3)]
            await second.channel(channel.id.hex()).pay(5)
            await until(lambda: version_at(second, tower) == second.channel(channel.id.hex()).view().version)
    finally:
        await tower.down()
        tower.store.close()


async def test_a_standby_that_joins_later_is_told_of_the_watchtowers(hub: Hub, tmp_path: Path) -> None:
    alice = await hub.head()
    known = Contact(SigningKey(b"k" * 32).public, "127.0.0.1", 9)
    await alice.add_watchtower(known, bounty=2)
    await alice.__aexit__()
    async with paired(hub) as (_, _, standby, _):
        pass
    assert [(tower.contact, tower.bounty) for tower in TowerBook(hub.second.towers_path)] == [(known, 2)]
    assert standby.view().paired


async def test_invoices_and_their_preimages_are_with_the_standby_before_anybody_sees_them(hub: Hub) -> None:
    """Those that were there when it joined, and those that came later."""
    alice = await hub.head()
    first = await alice.invoices.create(Wanted(5))
    await alice.__aexit__()
    async with paired(hub) as (alice, _, standby, _):
        later = await alice.invoices.create(Wanted(7, hold=True))
        await standby.promote()
        await asyncio.wait_for(alice.failed(), 5)
    async with Wallet.load(hub.second.path, PASSPHRASE) as second:
        assert second.invoices.issued(9) == [later, first]
        assert all(each.preimage for each in second.invoices.issued(9))


async def test_a_copy_of_a_head_does_not_lead_while_its_standby_may_know_more(hub: Hub, tmp_path: Path) -> None:
    """It would hand its old records over in place of what is newer there; and both have one name."""
    async with paired(hub) as (alice, _, standby, channel):
        await alice.__aexit__()
        shutil.copytree(hub.first.path, tmp_path / "copy")
        copy = Home(tmp_path / "copy")
        with pytest.raises(Refused, match="standby has all that the head") as refusal:
            await Wallet.load(copy.path, PASSPHRASE).__aenter__()
        assert refusal.value.code == "old_copy"
        before = standby._driver.core.position
        assert before > 0
    head = await session._take_over(copy, PASSPHRASE)
    assert head.term == 2, "if all others are lost it leads, and trusts nothing that it has"
    async with Wallet.load(copy.path, PASSPHRASE) as again:
        assert again.channel(channel.id.hex()).view().copied


async def test_a_copy_of_a_standby_has_everything_handed_over_again_before_it_may_lead(
    hub: Hub, tmp_path: Path
) -> None:
    async with paired(hub) as (_, _, standby, _):
        assert standby.view().paired
    shutil.copytree(hub.second.path, tmp_path / "copy")
    async with hub.standby(Home(tmp_path / "copy")) as copy:
        assert not copy.view().paired and copy.view().name != standby.view().name
        with pytest.raises(Refused, match="may not be promoted"):
            await copy.promote()
    async with hub.standby() as same:
        assert same.view().paired, "its own start takes nothing away"


async def test_a_standby_is_promoted_without_being_served(hub: Hub) -> None:
    async with paired(hub):
        pass
    shown = await ask(hub.second, ShowStandby(), lambda: PASSPHRASE, no_report)
    assert (shown.role, shown.paired) == ("standby", True)
    assert (await ask(hub.second, Promote(), lambda: PASSPHRASE, no_report)).term == 2
    with pytest.raises(Refused) as refused:
        await ask(hub.second, Promote(), lambda: PASSPHRASE, no_report)
    assert refused.value.code == "head_home"


class Wire:
    """A link to a standby, in memory: what the head says, and what it hears."""

    def __init__(self, *said: ChainMessage) -> None:
        self.peer = b""
        self._said = [encode(message) for message in said]
        self.heard: list[ChainMessage] = []

    async def receive(self) -> bytes:
        if not self._said:
            await asyncio.sleep(0.01)
            raise LinkClosed("nothing more is said")
        return self._said.pop(0)

    def send_nowait(self, data: bytes) -> bool:
        self.heard.append(decode_chain_message(data))
        return True

    def end(self, reason: str) -> None:
        self._said.clear()


class Quiet(Wire):
    """A link on which what is sent is only noted."""

    def send_nowait(self, data: bytes) -> bool:
        self.sent.append(data)
        return True

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []


async def test_a_watchtower_sees_nothing_that_the_standby_has_not_got(hub: Hub) -> None:
    async with paired(hub) as (alice, bob, standby, channel):
        await standby.__aexit__()
        await until(lambda: not alice.standby().in_touch)
        paying = asyncio.create_task(bob.channel(channel.id.hex()).pay(7))
        await until(lambda: alice.standby().waiting)
        guard = _Guard(alice._parts.entruster, KnownTower(parse_contact(f"{bob.contact}"), 0, rely=True))
        guard.want(channel.id)
        link = Quiet()
        talking = asyncio.create_task(guard._talk(link, Terms(bytes(32), 0, 1)))  # type: ignore[arg-type]
        await until(lambda: guard.sent)
        assert link.sent == []
        await alice.go_alone()
        await until(lambda: link.sent)
        await paying
        talking.cancel()


class Careless:
    """A store that fails once to keep what it is given."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.fails = True

    def end_turn(self) -> None:
        pass

    def everything(self) -> tuple[list[bytes], list[bytes]]:
        return [], self.records

    def keep(self, files: Sequence[bytes], records: Sequence[bytes]) -> None:
        if self.fails:
            self.fails = False
            raise RemoteError("a file of another release")
        self.records += records

    def swap(self, files: Sequence[bytes], records: Sequence[bytes]) -> None:
        self.records = list(records)


async def test_what_could_not_be_kept_is_never_confirmed() -> None:
    """Nor on the next link, by a Welcome that names it: the head sends everything anew."""
    store, name, run = Careless(), b"s" * 32, b"r" * 16
    driver = StandbyDriver(Following(name), store, lambda role: None, lambda term: None)
    hello = Hello(b"h" * 32, 1, run, 1)
    first = Wire(hello, Whole(0), Batch(1, (), (b"record",)), Batch(2, (), (b"more",)))
    await driver.attach(first)  # type: ignore[arg-type]  # all that is used of a link
    assert first.heard[0] == Welcome(name, b"", 0)
    assert Confirmed(1) not in first.heard
    assert Confirmed(2) not in first.heard
    again = Wire(hello)
    await driver.attach(again)  # type: ignore[arg-type]
    assert again.heard == [Welcome(name, b"", 0)]
    assert store.records == []


@pytest.mark.parametrize(
    "message", [Confirmed(1), Welcome(b"x", b"y", 0), Batch(7), Pairing(9), Whole(-5)], ids=lambda m: type(m).__name__
)
async def test_a_head_that_talks_nonsense_is_left(message: ChainMessage) -> None:
    store = Careless()
    driver = StandbyDriver(Following(b"s" * 32), store, lambda role: None, lambda term: None)
    wire = Wire(Hello(b"h" * 32, 1, b"r" * 16, 1), message, Batch(1, (), (b"record",)))
    await driver.attach(wire)  # type: ignore[arg-type]
    assert not any(isinstance(heard, Confirmed) for heard in wire.heard)
    assert not driver.core.role.paired
    assert store.records == []


class Narrow(Wire):
    """A link that takes few bytes at a time."""

    ROOM = 4 * 2**20

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.ended = ""

    def has_room(self, data: bytes) -> bool:
        return not self.size or self.size + len(data) <= self.ROOM

    def send_nowait(self, data: bytes) -> bool:
        if not self.has_room(data):
            self.ended = "too slow"
        self.size += len(data)
        return super().send_nowait(data)

    async def send(self, data: bytes) -> None:
        while not self.has_room(data):
            await asyncio.sleep(0)
            self.size = 0
        self.send_nowait(data)


def paired_head() -> tuple[HeadDriver, list[int]]:
    """A head whose standby, named 22, is away; and the terms in which it is fenced."""
    terms: list[int] = []
    driver = HeadDriver(Leading(b"1" * 32, 1, b"2" * 32), lambda role: None, terms.append)
    driver.store = Careless()
    return driver, terms


async def test_what_a_standby_lacks_is_sent_as_the_link_takes_it() -> None:
    """After a broken link much may be due: a burst beyond the link's room would end each link anew, for ever."""
    driver, _ = paired_head()
    for _ in range(12):
        driver.follow((bytes(2**20 - 100),), lambda: None)
    link = Narrow()
    driver._link = link  # type: ignore[assignment]
    run = driver.core._run
    driver._do(Linked())
    driver._do(Heard(Welcome(b"2" * 32, run, 0)))
    driver.follow((), lambda: None)
    await until(lambda: any(isinstance(each, Batch) and each.position == 13 for each in link.heard))
    batches = [each.position for each in link.heard if isinstance(each, Batch)]
    assert batches == list(range(1, 14)) and not link.ended


async def test_a_turn_longer_than_a_message_goes_in_several_and_is_performed_after_the_last() -> None:
    """33 customers with the largest batches in one turn are more than the 16 MiB that a link takes in one message."""
    driver, _ = paired_head()
    performed: list[int] = []
    records = tuple(bytes([n]) * 2**19 for n in range(40))
    driver.follow(records, lambda: performed.append(1))
    batches = list(driver.core._kept)
    assert tuple(record for batch in batches for record in batch.records) == records
    assert max(len(encode(batch)) for batch in batches) < LinkLimits().max_message_bytes
    driver._link = Narrow()  # type: ignore[assignment]
    driver._do(Linked())
    driver._do(Heard(Welcome(b"2" * 32, driver.core._run, 0)))
    driver._do(Heard(Confirmed(len(batches) - 1)))
    assert not performed
    driver._do(Heard(Confirmed(len(batches))))
    assert performed == [1]


async def test_a_standby_whose_disk_does_not_take_that_it_is_paired_ends_and_says_why(tmp_path: Path) -> None:
    """Not that a task died of an OSError and the home seems to follow on."""
    store, name, run, home = Careless(), b"s" * 32, b"r" * 16, Home(tmp_path)
    (tmp_path / "role").mkdir()  # so that nothing can be put in its place

    def write(role: Role) -> None:
        write_standing(home, Standing(role))

    driver = StandbyDriver(Following(name), store, write, lambda term: None)
    await driver.attach(Wire(Hello(b"h" * 32, 1, run, 0), Whole(0), Pairing(1)))  # type: ignore[arg-type]
    with pytest.raises(LocalError, match="role cannot be written"):
        driver.failure.result()

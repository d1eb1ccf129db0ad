"""Wallets with watchtowers: the library, with real links between all, on a ledger in this process.

Source: docs/design/groups.md, rules 3 [F6] and 17; decision 032.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec import structs

from layer1.codec import encode
from layer1.crypto import Hash, SigningKey, format_address
from layer1.errors import LocalError, Refused
from layer1.ledger.locks import preimage_hash
from layer1.ledger.records import Group, Status
from layer1.link import Link, LinkClosed
from layer1.link_server import LinkServer
from layer2.driver import Pending
from layer2.events import Committed, Finished
from layer2.messages import Batch
from layer2.promises import TowerReceipt, sign_receipt, verify_receipt
from layer2.sealing import open_body
from layer2.tower import Entrust, Policy, Terms, decode_to_tower
from tests.layer2.harness import key
from tests.wallet.conftest import PASSPHRASE, World
from tests.wallet.standin import Chain
from tests.wallet.test_wallet import eventually, open_with, opened
from wallet import entrusting
from wallet.contacts import Contact
from wallet.observer import WalletObserver
from wallet.signals import Signals
from wallet.towers import MAX_TOWERS, KnownTower, TowerBook
from wallet.wallet import Wallet
from wallet.watchtower.desk import Desk
from wallet.watchtower.store import TowerStore

pytestmark = pytest.mark.slow

TOWER = key("a tower")


class ChainSight:
    """A chain as a tower's desk sees it."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    async def look(self, group_id: Hash) -> Group | None:
        return self.chain.state.group(group_id)

    def clock_ms(self) -> int | None:
        return self.chain.state.clock


class Tower:
    """A tower's desk on a real link; it may be down, and come back with what it had."""

    def __init__(self, chain: Chain, path: Path, policy: Policy | None = None) -> None:
        self.key = TOWER
        self.chain = chain
        self.store = TowerStore(path)
        self.policy = policy or Policy(payout=key("a tower's savings").public, least_period_ms=1_000)
        self.server: LinkServer | None = None
        self.port = 0
        self.attach: Callable[[Link], object] | None = None

    async def up(self) -> None:
        desk = Desk(self.store, self.key, self.chain.genesis.chain_id, self.policy, ChainSight(self.chain))
        on_link = self.attach or desk.attach
        self.server = LinkServer(self.key, self.chain.genesis.chain_id, lambda *_: True, on_link)  # type: ignore[arg-type]
        self.port = await self.server.start(port=self.port)

    async def down(self) -> None:
        if self.server is not None:
            await self.server.stop()
            self.server = None

    @property
    def contact(self) -> Contact:
        return Contact(self.key.public, "127.0.0.1", self.port)


@pytest.fixture
async def tower(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tower]:
    monkeypatch.setattr(entrusting, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(entrusting, "LAST_PAUSE_S", 0.05)
    made = Tower(world.chain, tmp_path / "tower.db")
    await made.up()
    yield made
    await world.stack.aclose()
    await made.down()
    made.store.close()


def version_at(wallet: Wallet, tower: Tower) -> int | None:
    """Up to which version the tower holds the wallet's one channel."""
    (record,) = wallet._parts.book.live()
    held = tower.store.get(record.group_id, wallet.address)
    return None if held is None else held.version


async def test_each_version_is_with_the_tower_soon_and_the_receipt_with_the_wallet(world: World, tower: Tower) -> None:
    """ "It signs a receipt for each version that it holds"; `channel show` tells which, for each tower."""
    alice, _, channel = await opened(world)
    await alice.add_watchtower(str(tower.contact), bounty=70)
    for amount in (10, 20, 30):
        await channel.pay(amount)
    view = await eventually(alice, lambda view: bool(view.watchtowers) and view.watchtowers[0].version == 3)
    (guard,) = view.watchtowers
    assert guard.watchtower == format_address(TOWER.public) and guard.trouble is None and not guard.rely
    assert version_at(alice, tower) == 3
    receipt = alice._parts.towers.receipt(TOWER.public, channel.id)
    assert receipt is not None and verify_receipt(world.genesis.chain_id, receipt) and receipt.version == 3


async def test_the_tower_has_a_body_that_only_its_member_opens(world: World, tower: Tower) -> None:
    """Rule 12: "its tower keeps the body encrypted under a key derived from its seed"."""
    alice, bob, channel = await opened(world)
    await alice.add_watchtower(str(tower.contact))
    await channel.pay(10)
    await eventually(alice, lambda view: view.watchtowers[0].version == 1)
    held = tower.store.get(channel.id, alice.address)
    assert held is not None
    mine, others = (wallet._parts.host.groups[channel.id].place.key for wallet in (alice, bob))
    assert open_body(mine, held.certificate.header, held.sealed).balances == (9_990, 5_010)
    for other in (others, TOWER):
        with pytest.raises(Exception, match="ask another keeper"):
            open_body(other, held.certificate.header, held.sealed)


async def test_a_tower_that_is_away_slows_nothing_and_gets_the_newest_alone(world: World, tower: Tower) -> None:
    """ "The tower may lag without slowing payments unless the user asked to rely on it": the newest version only."""
    alice, _, channel = await opened(world)
    await alice.add_watchtower(str(tower.contact))
    await tower.down()
    await channel.pay_many(1, 40)
    assert tower.store.groups == 0
    brought = []
    write = tower.store.write
    tower.store.write = lambda keep=(), **more: (brought.extend(keep), write(keep, **more))[1]  # type: ignore[method-assign,func-returns-value]
    await tower.up()
    version = channel.view().version
    await eventually(alice, lambda view: view.watchtowers[0].version == version)
    assert [each.version for each in brought] == [version]


async def test_a_receipt_that_the_disk_did_not_take_is_asked_for_again(
    world: World, tower: Tower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "Whatever goes wrong is told, and tried again": one full disk does not end what is between wallet and tower."""
    alice, _, channel = await opened(world)
    keep, failures = TowerBook.keep, iter([True])

    def fails_once(book: TowerBook, receipt: TowerReceipt) -> None:
        if next(failures, False):
            raise LocalError("no room on the disk")
        keep(book, receipt)

    monkeypatch.setattr(TowerBook, "keep", fails_once)
    await alice.add_watchtower(str(tower.contact))
    await channel.pay(10)
    view = await eventually(alice, lambda view: view.watchtowers[0].version == 1)
    assert view.watchtowers[0].trouble is None and next(failures, None) is None


async def test_a_busy_channel_is_brought_ten_times_a_second_and_at_last_the_newest(
    world: World, tower: Tower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lagging tower gets the newest version now and then; each of them would cost the wallet's time."""
    monkeypatch.setattr(entrusting, "PACE_S", 3_600.0)
    alice, _, channel = await opened(world)
    await alice.add_watchtower(str(tower.contact))
    await channel.pay(1)
    await eventually(alice, lambda view: view.watchtowers[0].version == 1)
    for _ in range(20):
        await channel.pay(1)
    assert version_at(alice, tower) == 1, "it rests"
    await alice._parts.entruster.catch_up(5)
    assert version_at(alice, tower) == 21


async def test_whoever_relies_on_a_tower_calls_committed_what_it_has_receipted(
    world: World, tower: Tower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 3 [F6]; for who pays, and for who is paid."""
    alice, bob, channel = await opened(world)
    for wallet in (alice, bob):
        wallet._parts.observer.receipt_s = 0.3
        await wallet.add_watchtower(str(tower.contact), rely=True)
    await channel.pay(10)
    assert version_at(alice, tower) == 1
    await eventually(bob, lambda view: view.watchtowers[0].version == 1)
    assert [entry.amount for entry in bob.history() if entry.kind == "received"] == [10]
    await tower.down()
    with pytest.raises(Pending, match="has not receipted it within"):
        await channel.pay(5)
    paid = await channel.pay_many(1, 3)
    assert (paid.committed, paid.pending) == (0, 3)
    for wallet, kind in ((alice, "paid"), (bob, "received")):
        assert [abs(entry.amount) for entry in wallet.history() if entry.kind == kind] == [10]
    await tower.up()
    newest = channel.view().version
    for wallet, kind in ((alice, "paid"), (bob, "received")):
        await eventually(wallet, lambda view: view.watchtowers[0].version == newest)
        assert sum(abs(entry.amount) for entry in wallet.history() if entry.kind == kind) == 18


def commits_without_receipts(patch: pytest.MonkeyPatch) -> None:
    """[F6] left out: committed is what the peer has."""
    patch.setattr(TowerBook, "is_receipted", lambda *_: True)


async def test_who_calls_committed_what_no_tower_receipted_is_found(
    world: World, tower: Tower, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits_without_receipts(monkeypatch)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await test_whoever_relies_on_a_tower_calls_committed_what_it_has_receipted(world, tower, monkeypatch)


async def test_whoever_relies_on_a_tower_hears_of_a_lock_when_the_tower_has_it(world: World, tower: Tower) -> None:
    """Rule 3 [F6]: a lock that is forwarded, or claimed, before that may be lost to the version that a tower brings."""
    alice, bob, channel = await opened(world)
    world.chain.block(after_ms=60_000)
    for wallet in (alice, bob):
        await wallet.add_watchtower(str(tower.contact), rely=True)
        wallet._parts.observer.receipt_s = 0.3
        await wallet.channels()
    await channel.pay(10)
    await eventually(bob, lambda view: view.watchtowers[0].version == 1)
    heard: list[int] = []
    for wallet in (alice, bob):
        wallet.locking.on_offer = lambda group_id, lock, packet: heard.append(lock.id)
        wallet.locking.on_end = lambda group_id, ended: heard.append(-ended.lock.id)
    expiry_ms = world.chain.state.clock + 6 * alice.locking.margin_ms
    await tower.down()
    with pytest.raises(Pending, match="has not receipted it within"):
        await alice.locking.begin(channel.id, 100, preimage_hash(bytes(32)), expiry_ms)
    assert channel.view().version == 2 and not heard and not list(bob.locking.incoming())
    assert [lock.id for _, lock in alice.locking.outgoing()] == [1], "our own is live from our signature on (rule 23)"
    await tower.up()
    await eventually(bob, lambda view: view.watchtowers[0].version == 2)
    assert heard == [1] and [lock.id for _, lock, _ in bob.locking.incoming()] == [1]
    await tower.down()
    releasing = asyncio.ensure_future(bob.locking.release(channel.id, 1))
    await eventually(alice, lambda view: view.version == 3)
    await releasing
    assert heard == [1]
    await tower.up()
    await eventually(alice, lambda view: view.watchtowers[0].version == 3)
    await eventually(bob, lambda view: view.watchtowers[0].version == 3)
    assert heard == [1, -1, -1]


async def test_what_was_not_receipted_comes_into_the_history_after_a_restart(
    world: World, tower: Tower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the journal alone until then, so the journal is not compacted."""
    monkeypatch.setattr("wallet.observer.RECEIPT_S", 0.1)
    monkeypatch.setattr("wallet.assembly.COMPACT_BYTES", 1)
    monkeypatch.setattr("wallet.wallet.LAST_WORDS_S", 0.1)
    _, contact = await world.serve("bob")
    async with Wallet.load(world.homes["alice"].home, PASSPHRASE) as alice:
        channel = await open_with(alice, contact)
        await alice.add_watchtower(str(tower.contact), rely=True)
        await tower.down()
        with pytest.raises(Pending):
            await channel.pay(5)
    await tower.up()
    alice = await world.load("alice")
    await eventually(alice, lambda view: view.watchtowers[0].version == 1)
    assert [entry.amount for entry in alice.history() if entry.kind == "paid"] == [-5]


async def test_a_tower_that_lost_its_disk_has_everything_back_when_the_wallet_is_served(
    world: World, tower: Tower
) -> None:
    alice, _, channel = await opened(world)
    await alice.add_watchtower(str(tower.contact))
    await channel.pay(10)
    await eventually(alice, lambda view: view.watchtowers[0].version == 1)
    tower.store.write(drop=[(channel.id, alice.address)])
    await alice.serve(None, None)
    await alice._parts.entruster.catch_up(5)
    assert version_at(alice, tower) == 1


async def test_a_wallet_that_is_an_old_copy_is_told_by_its_tower(
    world: World, tower: Tower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decision 032: "who brings a lower one is shown what is held: its database is old"."""
    alice, _, channel = await opened(world)
    await alice.add_watchtower(str(tower.contact))
    await channel.pay(10)
    group = alice._parts.host.groups[channel.id]
    await eventually(alice, lambda view: view.watchtowers[0].version == 1)
    await channel.pay(10)
    await eventually(alice, lambda view: view.watchtowers[0].version == 2)
    monkeypatch.setitem(alice._parts.host._groups, channel.id, group)
    await alice.serve(None, None)
    view = await eventually(alice, lambda view: bool(view.advice))
    assert "recovered version 2, which the watchtower" in str(view.advice)
    (guard,) = view.watchtowers
    assert guard.remaining_ms is not None and 0 < guard.remaining_ms < (guard.until_ms or 0)
    assert (view.state, view.version) == ("stopped", 2)


@pytest.mark.parametrize(("settled", "entered"), [(2, [1, 2]), (0, []), (None, [1, 2, 3])])
async def test_what_a_tower_never_receipted_is_entered_up_to_what_layer_1_settled_on(
    settled: int | None, entered: list[int]
) -> None:
    """[F6]: held back is not received; a payment above the settlement never was."""
    written: list[int] = []

    class History:
        def versions(self) -> dict[str, int]:
            return {}

        def add_payments(self, name: str, peer: str, version: int, index: int, commands: object) -> None:
            written.append(version)

    class Book:
        record = SimpleNamespace(peer=TOWER.public, index=0, live=True)

        def get(self, _: Hash) -> object:
            return self.record

    observer = WalletObserver(Book(), History(), Signals())  # type: ignore[arg-type]
    observer.is_receipted = lambda *_: False
    group = bytes(32)
    for version in (1, 2, 3):
        observer.committed(group, Committed(version, Batch(()), (0, 0)))

    def waits() -> bool:
        return observer.holds_back

    assert waits() and not written
    observer.finished(group, Finished(group, (0, 0), settled))
    assert written == entered and not waits()
    Book.record.live = False
    observer.committed(group, Committed(3, Batch(()), (0, 0)))
    assert not waits(), "after a restart nothing waits for what is over"


async def test_a_bounty_below_the_towers_terms_is_told(world: World, tower: Tower) -> None:
    await tower.down()
    tower.policy = replace(tower.policy, least_bounty=50)
    await tower.up()
    alice, _, channel = await opened(world)
    await channel.pay(10)
    view = await alice.add_watchtower(str(tower.contact), bounty=49)
    assert "asks for a bounty of 50 units, 49 are promised" in str(view.trouble)
    await alice.add_watchtower(str(tower.contact), bounty=50)
    await eventually(alice, lambda view: view.watchtowers[0].version == 1)


async def test_a_removed_tower_gets_nothing_more_and_keeps_its_promise(world: World, tower: Tower) -> None:
    alice, _, channel = await opened(world)
    await alice.add_watchtower(str(tower.contact))
    await channel.pay(10)
    await eventually(alice, lambda view: view.watchtowers[0].version == 1)
    alice.remove_watchtower(format_address(TOWER.public)[:12])
    await channel.pay(10)
    assert alice.watchtowers == () and channel.view().watchtowers == ()
    assert version_at(alice, tower) == 1
    assert alice._parts.towers.receipts_of(channel.id)[0].version == 1
    with pytest.raises(Refused, match="0 watchtowers have an address"):
        alice.remove_watchtower(format_address(TOWER.public))


Lie = Callable[[TowerReceipt, SigningKey], TowerReceipt | bytes]
LIES: list[tuple[str, Lie]] = [
    ("a higher version", lambda r, k: sign_receipt(k, CHAIN[0], structs.replace(r, version=r.version + 1))),
    ("another header", lambda r, k: sign_receipt(k, CHAIN[0], structs.replace(r, header=bytes(32)))),
    ("in another's name", lambda r, k: sign_receipt(k, CHAIN[0], structs.replace(r, tower=bytes(32)))),
    ("another group", lambda r, k: sign_receipt(k, CHAIN[0], structs.replace(r, group_id=bytes(32)))),
    ("a signature of nobody", lambda r, _: structs.replace(r, signature=bytes(64))),
    ("signed by another", lambda r, _: sign_receipt(key("another"), CHAIN[0], r)),
    ("nonsense", lambda _, __: b"\xc1"),
    ("its terms once more", lambda _, __: encode(Terms(bytes(32), 0, 1))),
]
CHAIN: list[Hash] = [b""]
"""Of the running test's ledger."""


@pytest.mark.parametrize(("what", "lie"), LIES, ids=[what for what, _ in LIES])
async def test_a_tower_that_lies_is_believed_nothing(what: str, lie: Lie, world: World, tower: Tower) -> None:
    """ "A receipt counts only for what was sent, signed by that tower."."""
    CHAIN[0] = world.genesis.chain_id
    await tower.down()

    async def attach(link: Link) -> None:
        link.send_nowait(encode(tower.policy.terms))
        with contextlib.suppress(LinkClosed):
            while True:
                message = decode_to_tower(await link.receive())
                assert isinstance(message, Entrust)
                header = message.header
                true = TowerReceipt(
                    TOWER.public, header.group_id, header.epoch, header.version, header.hash, 1, 10**12, b""
                )
                said = lie(true, TOWER)
                link.send_nowait(said if isinstance(said, bytes) else encode(said))

    tower.attach = attach
    await tower.up()
    alice, _, channel = await opened(world)
    await channel.pay(10)
    await alice.add_watchtower(str(tower.contact))
    view = await eventually(alice, lambda view: bool(view.watchtowers) and view.watchtowers[0].trouble is not None)
    assert view.watchtowers[0].version is None and alice._parts.towers.receipts_of(channel.id) == []
    await channel.pay(10)


async def test_a_closed_channel_is_not_entrusted(world: World, tower: Tower) -> None:
    alice, _, channel = await opened(world)
    await alice.add_watchtower(str(tower.contact))
    await channel.pay(10)
    await channel.close()
    group = world.chain.state.group(channel.id)
    assert group is not None and group.status is Status.CLOSED
    await alice._parts.entruster.catch_up(5)
    assert not alice.watchtowers[0].behind


# ------------------------------------------------------------------------------------------------------- the book


def receipt_of(group: int, version: int = 1) -> TowerReceipt:
    return TowerReceipt(TOWER.public, bytes([group]) * 32, 0, version, bytes(32), 1, 2, bytes(64))


def test_the_book_is_there_after_a_restart(tmp_path: Path) -> None:
    book = TowerBook(tmp_path / "towers.db")
    book.add(KnownTower(Contact(TOWER.public, "::1", 7), 5, rely=True))
    book.keep(receipt_of(1))
    book.keep(receipt_of(1, 9))
    book.close()
    again = TowerBook(tmp_path / "towers.db")
    assert list(again) == [KnownTower(Contact(TOWER.public, "::1", 7), 5, rely=True)]
    assert again.receipts_of(b"\x01" * 32) == [receipt_of(1, 9)]
    assert again.is_receipted(b"\x01" * 32, 0, 9) and not again.is_receipted(b"\x01" * 32, 0, 10)
    assert not again.is_receipted(b"\x01" * 32, 1, 1), "a receipt of an earlier epoch says nothing of this one"
    again.close()


def test_the_history_of_receipts_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wallet.towers.KEPT_RECEIPTS", 2)
    book = TowerBook(tmp_path / "towers.db")
    for group in range(6):
        book.keep(receipt_of(group))
    book.prune({b"\x00" * 32})
    left = [group for group in range(6) if book.receipts_of(bytes([group]) * 32)]
    assert left == [0, 4, 5], "that of the live channel, and the newest of the others"
    book.close()
    again = TowerBook(tmp_path / "towers.db")
    assert [group for group in range(6) if again.receipts_of(bytes([group]) * 32)] == left
    again.close()


def test_there_is_a_most_of_towers(tmp_path: Path) -> None:
    book = TowerBook(tmp_path / "towers.db")
    for number in range(MAX_TOWERS):
        book.add(KnownTower(Contact(key(f"{number}").public, "h", 1), 0, rely=False))
    with pytest.raises(Refused, match="the most there can be"):
        book.add(KnownTower(Contact(TOWER.public, "h", 1), 0, rely=False))
    assert len(book) == MAX_TOWERS
    book.close()


def test_a_damaged_book_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "towers.db").write_bytes(b"no database" * 100)
    with pytest.raises(LocalError, match="add your watchtowers again"):
        TowerBook(tmp_path / "towers.db")

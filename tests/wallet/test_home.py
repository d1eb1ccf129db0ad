"""The home, its book, its history, its period, its socket: each on its own."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from msgspec.structs import replace

from layer1.crypto import SigningKey
from layer1.errors import LocalError, Refused
from layer1.ledger.agreements import GroupAgreement, Member
from layer1.ledger.transactions import OpenGroup, Transaction
from tests.wallet.standin import make_genesis
from wallet import period
from wallet.api.client import RemoteCommands
from wallet.api.office import Office
from wallet.api.server import WalletServer
from wallet.book import ChannelBook, ChannelRecord, Stage
from wallet.history import History
from wallet.home import DATABASE_VARIABLE, Config, Home
from wallet.requests import History as AskHistory
from wallet.requests import HistoryView, Progress, Report, Request, ShowChannel, no_report

R = TypeVar("R")
GENESIS = make_genesis()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home.create(tmp_path / "home")
    made.connect(GENESIS, Config(("http://127.0.0.1:1",), "127.0.0.1:9735"))
    return made


def record(number: int) -> ChannelRecord:
    keys = [SigningKey(bytes([number, i]) + bytes(30)).public for i in range(6)]
    members = (Member(keys[0], keys[1], keys[2], 10, 1), Member(keys[3], keys[4], keys[5], 10, 1))
    agreement = GroupAgreement(bytes(32), members, 1_000, "payments/2", 5_000, bytes(16))
    return ChannelRecord(Transaction(OpenGroup(agreement), 4_999, bytes(16)), 0, number, keys[4], "host", 1)


def test_configuration_and_genesis_read_back(home: Home) -> None:
    assert home.config() == Config(("http://127.0.0.1:1",), "127.0.0.1:9735")
    assert home.genesis() == GENESIS
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700


@pytest.mark.parametrize("text", ["ledger = 3", "ledger = []", "ledger = ['ftp://x']", "other = 1", "\x00", "ledger ="])
def test_a_bad_configuration_is_refused_in_words(home: Home, text: str) -> None:
    home.config_path.write_text(text)
    with pytest.raises(Refused) as caught:
        home.config()
    assert caught.value.code == "bad_config"


def test_where_the_history_is_outlives_another_connect(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the file, or in the environment, which goes first; a password is for the owner's eyes."""
    assert home.database_url() is None
    secret = "postgresql://alice:secret@db/alice"
    home.config_path.write_text(f'ledger = ["http://127.0.0.1:1"]\ndatabase_url = "{secret}"\n')
    home.connect(GENESIS, Config(("http://127.0.0.1:2",)))
    assert home.config().ledger_urls == ("http://127.0.0.1:2",)
    assert home.database_url() == secret
    assert "secret" not in repr(home.config())
    home.config_path.chmod(0o640)
    with pytest.raises(Refused, match="mode 0640, others may read it") as caught:
        home.database_url()
    assert "secret" not in str(caught.value)
    monkeypatch.setenv(DATABASE_VARIABLE, "sqlite:////elsewhere.db")
    assert home.database_url() == "sqlite:////elsewhere.db"


def test_a_home_has_room_for_one(home: Home) -> None:
    lock = home.lock()
    with pytest.raises(Refused, match="another process"):
        home.lock()
    lock.release()
    home.lock().release()


def test_the_book_reads_back_what_was_entered(tmp_path: Path) -> None:
    book = ChannelBook(tmp_path / "channels")
    first, second = record(0), record(1)
    book.put(first)
    book.put(second)
    moved = book.move(first, Stage.CLOSED, reason="final", payouts=(1, 2))
    again = ChannelBook(tmp_path / "channels")
    assert list(again) == [moved, second]
    assert again.live() == [second]
    assert again.take_key_index() == 2
    assert again.key_index_of(second.agreement) == 1


def test_a_peer_is_known_as_long_as_a_channel_with_it_lives(tmp_path: Path) -> None:
    """By this it has a link, however many channels there are."""
    book, first, second = ChannelBook(tmp_path / "channels"), record(0), replace(record(1), peer=record(0).peer)
    assert not book.knows(first.peer)
    book.put(first)
    book.put(second)
    book.move(first, Stage.CLOSED)
    assert book.knows(first.peer) and ChannelBook(tmp_path / "channels").knows(first.peer)
    assert book.with_peer(first.peer) == [second] and not book.knows(record(1).peer)
    book.move(second, Stage.FAILED)
    assert not book.knows(first.peer) and not ChannelBook(tmp_path / "channels").knows(first.peer)


def test_a_key_index_is_given_out_once(tmp_path: Path) -> None:
    book = ChannelBook(tmp_path / "channels")
    assert [book.take_key_index() for _ in range(3)] == [0, 1, 2]


def test_a_damaged_or_swapped_record_is_a_local_fault(tmp_path: Path) -> None:
    book = ChannelBook(tmp_path / "channels")
    book.put(record(0))
    path = tmp_path / "channels" / record(0).group_id.hex()
    path.rename(path.with_name("ab" * 32))
    with pytest.raises(LocalError, match="give it its name back"):
        ChannelBook(tmp_path / "channels")
    path.with_name("ab" * 32).write_bytes(b"?")
    with pytest.raises(LocalError, match="damaged"):
        ChannelBook(tmp_path / "channels")


def test_a_record_that_was_being_written_in_a_crash_is_ignored(tmp_path: Path) -> None:
    ChannelBook(tmp_path / "channels").put(record(0))
    (tmp_path / "channels" / f".{record(1).group_id.hex()}.new").write_bytes(b"half")
    assert list(ChannelBook(tmp_path / "channels")) == [record(0)]


def test_a_damaged_history_is_a_local_fault_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "wallet.db").write_bytes(b"not a database, and long enough to be looked at" * 10)
    with pytest.raises(LocalError, match="move it away"):
        History(tmp_path / "wallet.db")


def test_the_default_period_is_twice_the_formula_within_the_ledgers_bounds() -> None:
    """groups.md, rule 18: default twice that."""
    assert period.default_period_ms(GENESIS) == 2 * sum(term.ms for term in period.terms(GENESIS))
    assert period.least_safe_ms(GENESIS, 1_000) < period.least_safe_ms(GENESIS)


@pytest.mark.parametrize(("text", "ms"), [("500ms", 500), ("30s", 30_000), ("10m", 600_000), ("24h", 86_400_000)])
def test_durations(text: str, ms: int) -> None:
    assert period.parse_duration(text) == ms


@pytest.mark.parametrize("text", ["", "5", "-5s", "1.5h", "5 s", "5w"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(Refused, match="500ms, 30s"):
        period.parse_duration(text)


def test_durations_for_people() -> None:
    assert [period.format_duration(ms) for ms in (5, 1_000, 125_000, 90_061_000)] == [
        "5 ms",
        "1 s",
        "2 m 5 s",
        "1 d 1 h",
    ]


class Echo:
    """Answers a history request, refuses everything else."""

    async def run(self, request: Request[R], report: Report = no_report) -> R:
        report(Progress("working", 1, 2))
        await asyncio.sleep(0)
        if isinstance(request, AskHistory):
            return cast(R, HistoryView(entries=(), currency=cast(Any, {"symbol": "WDG", "decimals": 2})))
        raise Refused("unknown_channel", "there is none")


@pytest.fixture(params=["short", "long"])
def deep_home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A home whose socket fits into it, and one whose path is too long for that."""
    return Home.create(tmp_path / ("x" * (1 if request.param == "short" else 120)))


def server_of(home: Home) -> WalletServer:
    return WalletServer(home, Echo(), Office(home))


async def test_the_socket_is_private_and_passes_requests(deep_home: Home) -> None:
    """Issue: through it (a Unix socket, mode 0600) when it runs."""
    server = server_of(deep_home)
    await server.start()
    try:
        path = os.fsdecode(deep_home.control_path.read_bytes())
        modes = [stat.S_IMODE(os.stat(each).st_mode) for each in (path, os.path.dirname(path))]
        assert modes == [0o600, 0o700]
        remote = RemoteCommands.find(deep_home)
        assert remote is not None
        seen: list[Progress] = []
        assert (await remote.run(AskHistory(), seen.append)).entries == ()
        assert seen == [Progress("working", 1, 2)]
        with pytest.raises(Refused, match="there is none") as caught:
            await remote.run(ShowChannel(channel="abcd"))
        assert caught.value.code == "unknown_channel"
    finally:
        await server.stop()
    assert RemoteCommands.find(deep_home) is None
    assert "control" not in os.listdir(deep_home.path)


async def test_a_socket_that_others_may_use_is_not_used(home: Home) -> None:
    server = server_of(home)
    await server.start()
    (home.path / "control").chmod(0o666)
    assert RemoteCommands.find(home) is None
    await server.stop()


async def test_a_socket_with_nobody_behind_it_is_said(home: Home) -> None:
    server = server_of(home)
    await server.start()
    remote = RemoteCommands.find(home)
    assert remote is not None
    await server.stop()
    with pytest.raises(Refused) as caught:
        await remote.run(AskHistory())
    assert caught.value.code == "home_busy"

"""The history, in SQLite and on a PostgreSQL server that may be away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from layer1.errors import LocalError, Refused
from layer1.storage.database import file_of
from layer2.messages import Command
from layer2.payments import offer
from layer2.payments import pay as encode_payment
from tests.postgres import PASSWORD, Server
from wallet import history as history_module
from wallet import server_history
from wallet.contacts import Contact
from wallet.history import History, history_view
from wallet.requests import CurrencyView
from wallet.requests import History as Asked
from wallet.server_history import ServerHistory

ALICE, BOB = b"a" * 32, b"b" * 32
AWAY = "postgresql://alice:opensesame@127.0.0.1:1/alice"
"""A server that does not answer."""
Open = Callable[[], History]


@pytest.fixture
def reopen(database_url: str, tmp_path: Path) -> Iterator[Open]:
    """Opens one history, closing the one before."""
    opened: list[History] = []

    def open_again() -> History:
        for one in opened:
            one.close()
        path = file_of(database_url)
        made = History(path) if path is not None else ServerHistory(database_url, ALICE, tmp_path / "waiting")
        opened[:] = [made]
        return made

    yield open_again
    for one in opened:
        one.close()


def pay(history: History, version: int, amount: int = -5, memo: str | None = None) -> None:
    command = Command(0 if amount < 0 else 1, version, encode_payment(1, abs(amount), (memo or "").encode()), b"")
    history.add_payments("a", "bob", version, 0, [command])


def test_history_takes_each_event_once(reopen: Open) -> None:
    history = reopen()
    for _ in range(2):
        pay(history, 1, -5)
        pay(history, 2, -6)
        history.flush()
    history = reopen()
    assert [entry.amount for entry in history.newest(10)] == [-6, -5]
    assert history.versions() == {"a": 2}
    assert history.newest(10, "b") == ()
    assert len(history.newest(10, "A")) == 2


def test_it_is_read_on_from_any_place_and_summed_up_to_a_version(reopen: Open) -> None:
    """What `/events`, webhooks and the books read."""
    history = reopen()
    assert history.last()[0] == 0
    history.add("opening", "opened", -100, channel="a")
    pay(history, 1, -5)
    pay(history, 2, 7)
    history.flush()
    history = reopen()
    found = history.after((0, 0), 10)
    assert [view.amount for _, view in found] == [-100, -5, 7]
    for number, (place, _) in enumerate(found, 1):
        assert history.after(place, 10) == found[number:]
    assert history.after(history.last(), 10) == []
    sums = history.sums({"a": 1})["a"]
    assert (sums.units["opened"], sums.units["paid"], sums.units["received"]) == (-100, -5, 0)
    assert (sums.is_whole(0, 1), sums.is_whole(0, 2)) == (True, False)
    assert history.sums({})["a"].units["received"] == 7


def test_the_payments_of_a_version_are_told_apart_newest_first(reopen: Open) -> None:
    history = reopen()
    history.add("opening", "opened", -100, channel="a")
    made = [(0, 5, b"tea"), (1, 7, b""), (0, 9, b"cake")]
    commands = [Command(member, n, encode_payment(1 - member, units, memo), b"") for n, (member, units, memo) in
                enumerate(made, 1)]  # fmt: skip
    history.add_payments("a", "bob", 4, 1, commands)
    history.flush()
    entries = [(e.reference, e.kind, e.amount, e.memo, e.peer) for e in history.newest(10)]
    assert entries == [
        ("a:4:2", "received", 9, "cake", "bob"),
        ("a:4:1", "paid", -7, None, "bob"),
        ("a:4:0", "received", 5, "tea", "bob"),
        ("opening", "opened", -100, None, None),
    ]
    assert [entry.reference for entry in history.newest(2)] == ["a:4:2", "a:4:1"]
    history.add_payments("a", "bob", 5, 1, [Command(0, 4, offer(1, 5, bytes(32), 1_000), b"")])
    history.flush()
    assert [entry.reference for entry in history.newest(2)] == ["a:4:2", "a:4:1"], "of locks alone there is no entry"


def test_old_payments_are_pruned_and_stay_so_after_a_restart(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest version of each channel stays: what is above it is what a restart enters again."""
    history = reopen()
    for now_ms in range(1, 6):
        monkeypatch.setattr("wallet.history.now_ms", lambda now_ms=now_ms: now_ms)
        pay(history, now_ms)
    history.add("closing", "closed", 100, channel="a")
    history.add("sending", "sent", -1)
    assert history.prune(4) == 3
    history = reopen()
    kept = [entry.reference for entry in history.newest(10)]
    assert kept == ["sending", "closing", "a:5:0", "a:4:0"]
    assert history.prune(10**15) == 1
    assert history.versions() == {"a": 5}
    assert [entry.reference for entry in history.newest(10)] == ["sending", "closing", "a:5:0"]


def test_a_pruned_file_is_smaller(tmp_path: Path) -> None:
    history = History(tmp_path / "wallet.db")
    for version in range(1, 400):
        commands = [Command(0, number, encode_payment(1, 1), b"") for number in range(200)]
        history.add_payments("a", "bob", version, 0, commands)
    history.settle()
    before = (tmp_path / "wallet.db").stat().st_size
    assert history.prune(10**15) == 398
    history.settle()
    assert (tmp_path / "wallet.db").stat().st_size < before / 10
    history.close()


def test_a_history_of_an_earlier_release_is_taken_over(reopen: Open, database_url: str) -> None:
    """It had a row for each payment, and none for the payments of a version."""
    history = reopen()
    with history._engine.begin() as connection:
        for column in ("member", "commands"):
            connection.exec_driver_sql(f"ALTER TABLE entries DROP COLUMN {column}")
        connection.exec_driver_sql(
            "INSERT INTO entries (reference, time_ms, kind, amount, channel, memo, version)"
            " VALUES ('a:1:0', 1, 'paid', -5, 'a', 'tea', 1)"
        )
    history = reopen()
    pay(history, 2, -6)
    assert [(e.reference, e.amount, e.memo) for e in history.newest(9)] == [("a:2:0", -6, None), ("a:1:0", -5, "tea")]
    assert history.versions() == {"a": 2}


def test_history_remembers_where_a_peer_was(reopen: Open) -> None:
    history = reopen()
    history.remember_contact(Contact(bytes(32), "127.0.0.1", 1))
    history.remember_contact(Contact(bytes(32), "::1", 2))
    assert history.endpoint_of(bytes(32)) == "[::1]:2"
    history = reopen()
    assert history.endpoint_of(bytes(32)) == "[::1]:2"
    assert history.endpoint_of(bytes([1] * 32)) is None


@pytest.mark.parametrize("memo", ["a\0b", "\0", "☕ %s %(x)s :y '; drop table entries", "\ufffe\U0010ffff", "%_/"])
def test_whatever_a_payer_writes_is_entered(reopen: Open, memo: str) -> None:
    """A memo comes from a stranger; one that the database refuses would end the history for good."""
    history = reopen()
    pay(history, 1, memo=memo)
    history.flush()
    assert [entry.memo for entry in history.newest(10)] == [memo.replace("\0", "\ufffd")]


def test_amounts_and_numbers_of_any_size_fit(reopen: Open) -> None:
    """Money is below 2^53, and nobody counts entries in 32 bits."""
    history = reopen()
    pay(history, 2**62, -(2**53 - 1))
    history.flush()
    (entry,) = history.newest(1)
    assert (entry.amount, history.versions()) == (-(2**53 - 1), {"a": 2**62})


def test_the_newest_come_first_however_many_are_written_at_once(reopen: Open) -> None:
    history = reopen()
    for version in range(2_500):
        pay(history, version + 1, -version - 1)
    history.settle()
    assert [entry.amount for entry in history.newest(3)] == [-2_500, -2_499, -2_498]


def test_what_a_channel_is_called_is_no_pattern(reopen: Open) -> None:
    history = reopen()
    pay(history, 1)
    assert history.newest(10, "%") == history.newest(10, "_") == ()


@pytest.mark.postgresql
def test_two_wallets_cannot_share_tables(postgres: Server, tmp_path: Path) -> None:
    """Both sides of a payment give it one name: the second to write would find it there."""
    url = postgres.new_url()
    ServerHistory(url, ALICE, tmp_path / "alice").close()
    with pytest.raises(LocalError, match=r"is that of wallet .*, this one is .*: give each a database"):
        ServerHistory(url, BOB, tmp_path / "bob")


@pytest.mark.postgresql
def test_entries_are_counted_in_64_bits_and_found_by_an_index(postgres: Server, tmp_path: Path) -> None:
    url = postgres.new_url()
    history = ServerHistory(url, ALICE, tmp_path / "waiting")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT setval('entries_id_seq', 3000000000)")
        pay(history, 1)
        assert len(history.newest(1)) == 1
        connection.execute("SET enable_seqscan = off")
        asked = "EXPLAIN SELECT * FROM entries WHERE channel LIKE '7ccd%' ESCAPE '/'"
        plan = "\n".join(str(line) for line in connection.execute(asked))
    history.close()
    assert "Index Cond" in plan, plan


def test_a_server_that_is_away_keeps_no_wallet_from_starting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The watcher must run; what is entered waits, on disk where the journal does not have it, and is not lost."""
    caplog.set_level(logging.DEBUG)
    waiting = tmp_path / "waiting"
    history = ServerHistory(AWAY, ALICE, waiting, first_pause_s=3_600)
    assert history.versions() == {}
    history.add("opening", "opened", -100, channel="a")
    sent = waiting.read_bytes()
    assert b"opening" in sent
    pay(history, 1, memo="tea")
    assert waiting.read_bytes() == sent  # the journal has it
    history.keep()
    assert b"tea" in waiting.read_bytes()
    history.remember_contact(Contact(bytes(32), "127.0.0.1", 1))
    with pytest.raises(Refused, match="nothing is lost, ask again"):
        history.newest(10)
    history.close()
    assert "opensesame" not in caplog.text
    again = ServerHistory(AWAY, ALICE, waiting, first_pause_s=3_600)
    assert again.endpoint_of(bytes(32)) == "127.0.0.1:1"
    again.close()
    assert all(part in waiting.read_bytes() for part in (b"opening", b"tea", b"127.0.0.1:1"))


@pytest.mark.postgresql
def test_what_waited_is_written_when_the_server_is_back(postgres: Server, tmp_path: Path) -> None:
    waiting, url = tmp_path / "waiting", postgres.new_url()
    history = ServerHistory(AWAY, ALICE, waiting, first_pause_s=3_600)
    history.add("opening", "opened", -100, channel="a")
    pay(history, 1)
    history.remember_contact(Contact(bytes(32), "127.0.0.1", 1))
    history.close()
    again = ServerHistory(url, ALICE, waiting)
    pay(again, 1)  # the journal tells it once more
    pay(again, 2)
    assert [entry.kind for entry in again.newest(10)] == ["paid", "paid", "opened"]
    assert not waiting.exists()
    again.close()
    last = ServerHistory(url, ALICE, waiting)
    assert last.endpoint_of(bytes(32)) == "127.0.0.1:1"
    last.close()


@pytest.mark.postgresql
def test_nothing_waits_for_the_next_payment(postgres: Server, tmp_path: Path) -> None:
    """The end of a channel is the last that is entered of it."""
    url = postgres.new_url()
    history = ServerHistory(url, ALICE, tmp_path / "waiting")
    history.add("closing", "closed", 100, channel="a")
    deadline = time.monotonic() + 10
    with psycopg.connect(url, autocommit=True) as connection:
        while not (found := connection.execute("SELECT kind FROM entries").fetchall()):
            assert time.monotonic() < deadline, "not within 10 s"
    history.close()
    assert found == [("closed",)]


def test_too_much_that_waits_is_left_to_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first payment that is not taken on none is, so that a restart tells all after the last one written."""
    monkeypatch.setattr(server_history, "MAX_QUEUED_BYTES", 3 * server_history.ENTRY_BYTES + 100)
    history = ServerHistory(AWAY, ALICE, tmp_path / "waiting", first_pause_s=3_600)
    for version in range(1, 6):
        pay(history, version)
    history.add("opening", "opened", -100, channel="a")
    for relied_on in (history.keep, history.settle):
        with pytest.raises(LocalError, match="start the wallet again once the database answers"):
            relied_on()  # so the journal lets go of nothing
    del history._queue[:]
    pay(history, 6)
    assert history._queue == []
    history.close()


def test_a_damaged_file_of_what_waits_is_a_local_fault(tmp_path: Path) -> None:
    (tmp_path / "waiting").write_bytes(b"\x81")
    with pytest.raises(LocalError, match="move it away"):
        ServerHistory(AWAY, ALICE, tmp_path / "waiting")


@pytest.mark.postgresql
def test_no_password_is_kept_or_shown(postgres: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = postgres.new_url()
    history = ServerHistory(url, ALICE, tmp_path / "waiting")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE entries")
    pay(history, 1)
    with pytest.raises(LocalError, match='the history cannot be written: relation "entries" does not exist') as caught:
        history.newest(1)
    history.close()
    shown = f"{caught.value!r}{caplog.text}{vars(history)!r}{(tmp_path / 'waiting').read_bytes()!r}"
    assert PASSWORD not in shown


def test_payments_are_entered_while_old_ones_are_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that is served prunes a slice at a time, and between any two of them payments get into the file."""
    monkeypatch.setattr(history_module, "SLICE", 10)
    history = History(tmp_path / "wallet.db")
    for version in range(1, 101):
        history.add_payments("aa", "peer", version, 0, ())
    pauses: list[int] = []

    def pause(_: float) -> None:
        history.add_payments("aa", "peer", 1_000 + len(pauses), 0, ())
        history.flush()
        pauses.append(1)

    monkeypatch.setattr(time, "sleep", pause)
    statements: list[str] = []
    sa.event.listen(history._engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    assert history.prune(10**15, in_use=True) == 100 + 9  # of those that came between, all but the newest
    assert len(pauses) == 10 and "VACUUM" not in statements
    assert history.versions() == {"aa": 1_000 + len(pauses) - 1}
    history.close()


# -------------------------------------------------------------------------------------------------------------- pages


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 5))
def test_pages_have_each_entry_once_whatever_rows_stand_for(rows: list[int], size: int) -> None:
    """A row stands for many payments, or, as one of locks alone, for none; news in between are on no older page."""
    with TemporaryDirectory() as directory:
        found = History(Path(directory) / "wallet.db")
        for version, payments in enumerate(rows, 1):
            commands = [Command(0, number, encode_payment(1, 5, b""), b"") for number in range(payments)]
            found.add_payments("ab", "cd", version, 0, commands)
        everything = [entry.reference for entry in found.newest(1_000)]
        assert len(everything) == sum(rows) == len(found.after((0, 0), 1_000))
        seen, asked = [], Asked(limit=size)
        while True:
            view = history_view(found.page(asked), asked, CurrencyView(symbol="W", decimals=0))
            seen += [entry.reference for entry in view.entries]
            found.add(f"later {len(seen)}", "opened", 0, channel="ab")
            if view.next is None:
                break
            asked = Asked(limit=size, before=view.next)
        assert seen == everything
        found.close()


@pytest.mark.parametrize("name", ["x", "1-", "-1", "1-2-3", "١-0", "9" * 16])
def test_a_page_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    found = History(tmp_path / "wallet.db")
    with pytest.raises(Refused, match="is named such as 12-0"):
        found.page(Asked(before=name))
    found.close()

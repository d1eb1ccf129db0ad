"""What moves money is done once, and a token spends no more than it may: through repeats, races and crashes."""

from __future__ import annotations

import asyncio
import stat
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from layer1.client import LedgerUnreachable
from layer1.errors import LocalError, Refused
from layer2.hosting import Pending
from tests.wallet.api.conftest import Desk, paid
from wallet.api import tokens as api_tokens
from wallet.api.desk import Caller, Work
from wallet.api.keys import KEPT_MS, KeyBook
from wallet.api.store import Store, tables
from wallet.api.verbs import verb_of
from wallet.requests import MadeTokenView, Pay, Send


def failing(error: Exception) -> Any:
    def answer(_: object) -> None:
        raise error

    return answer


async def spent(desk: Desk, token: str) -> int:
    found = desk.office.tokens.find(token)
    assert found is not None
    return desk.office.tokens.view(found).spent


async def test_the_same_key_and_request_get_the_same_answer_and_pay_once(desk: Desk) -> None:
    token = desk.token("spend", limit=100)
    first = await desk.pay(token, "k1")
    assert first[0] == 200
    again = [await desk.pay(token, "k1", memo="", count=1) for _ in range(3)]  # the same, spelt out
    assert again == [first] * 3
    assert len(desk.wallet.asked) == 1
    assert await spent(desk, token) == 10
    await desk.restart()
    assert await desk.pay(token, "k1") == first
    assert len(desk.wallet.asked) == 1


async def test_the_same_key_for_another_request_is_refused(desk: Desk) -> None:
    token = desk.token("spend", limit=100)
    await desk.pay(token, "k1")
    for other in ({"amount": 11}, {"memo": "x"}, {"count": 2}, {"target": "abce"}):
        status, answer = await desk.ask("POST", "/payments", token, {"target": "abcd", "amount": 10} | other, "k1")
        assert (status, answer["code"]) == (422, "idempotency_key_reused")
    status, answer = await desk.ask("POST", "/transfers", token, {"recipient": "abcd", "amount": 10}, "k1")
    assert (status, answer["code"]) == (422, "idempotency_key_reused")
    assert len(desk.wallet.asked) == 1


async def test_keys_of_two_tokens_are_two_keys(desk: Desk) -> None:
    for token in (desk.token("spend", limit=100), desk.token("spend", limit=100)):
        assert (await desk.pay(token, "k1"))[0] == 200
    assert len(desk.wallet.asked) == 2


@pytest.mark.parametrize("key", [None, "", "x" * 129, "a b", "ä", "a\tb"])
async def test_a_payment_without_a_fit_key_is_refused(desk: Desk, key: str | None) -> None:
    token = desk.token("spend", limit=100)
    body = {"target": "abcd", "amount": 10}
    if key == "ä":
        status, answer = await desk.ask("POST", "/payments", token, body, headers={"Idempotency-Key": "Ã¤"})
    else:
        status, answer = await desk.ask("POST", "/payments", token, body, key)
    assert (status, answer["code"]) == (400, "bad_idempotency_key")
    assert not desk.wallet.asked


async def test_who_asks_while_it_is_under_way_joins(desk: Desk) -> None:
    """Also one that asked and left: what was begun goes on."""
    token = desk.token("spend", limit=100)
    (await desk.begin(token, "k1")).cancel()
    asking = [asyncio.ensure_future(desk.pay(token, "k1")) for _ in range(3)]
    other = await desk.pay(token, "k1", amount=11)
    assert other[1]["code"] == "idempotency_key_reused"
    assert desk.wallet.hold is not None
    desk.wallet.hold.set()
    answers = [await each for each in asking]
    assert {status for status, _ in answers} == {200}
    assert len(desk.wallet.asked) == 1


async def test_killed_in_the_middle_it_is_not_done_again(desk: Desk) -> None:
    """SIGKILL: what the disk has is that it was begun, and what it takes of the limit."""
    token = desk.token("spend", limit=15)
    paying = await desk.begin(token, "k1")
    await desk.restart()
    with pytest.raises(aiohttp.ClientError):
        await paying
    desk.wallet.hold = None
    for _ in range(2):
        status, answer = await desk.pay(token, "k1")
        assert (status, answer["code"]) == (504, "pending")
    assert len(desk.wallet.asked) == 1
    assert await spent(desk, token) == 10
    assert (await desk.pay(token, "k2"))[1]["code"] == "limit_exceeded"


async def test_the_key_is_on_the_disk_before_the_money_moves(desk: Desk) -> None:
    token, found = desk.token("spend", limit=100), []

    def look(asked: Pay) -> Any:
        with sa.create_engine(f"sqlite:///{desk.home.path / 'api.db'}").connect() as other:
            found.append(other.execute(sa.select(tables.tables["keys"].c.key, tables.tables["keys"].c.status)).all())
            found.append(other.execute(sa.select(tables.tables["tokens"].c.spent_units)).all())
        return paid(asked, 1)

    desk.wallet.answers[Pay] = look
    await desk.pay(token, "k1")
    assert found == [[("k1", None)], [(10,)]]


async def test_a_disk_that_does_not_take_it_moves_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    token = desk.token("spend", limit=100)

    def full(*_: object, **__: object) -> None:
        raise LocalError("the disk is full")

    monkeypatch.setattr(KeyBook, "begin", full)
    status, answer = await desk.pay(token, "k1")
    assert (status, answer["code"]) == (500, "local_fault")
    assert not desk.wallet.asked


async def test_an_answer_that_the_disk_does_not_take_is_not_given(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be another one after a restart."""
    token = desk.token("spend", limit=100)

    def full(*_: object, **__: object) -> None:
        raise LocalError("the disk is full")

    monkeypatch.setattr(KeyBook, "finish", full)
    for _ in range(2):
        assert (await desk.pay(token, "k1"))[1]["code"] == "pending"
    assert len(desk.wallet.asked) == 1


# ----------------------------------------------------------------------------------------------------------- limits


async def test_a_token_spends_up_to_its_limit_and_a_restart_resets_nothing(desk: Desk) -> None:
    token = desk.token("spend", limit=30)
    assert (await desk.pay(token, "a", amount=10, count=2))[0] == 200
    await desk.restart()
    assert (await desk.pay(token, "b", amount=11))[1]["code"] == "limit_exceeded"
    assert (await desk.pay(token, "c", amount=10))[0] == 200
    assert (await desk.ask("POST", "/transfers", token, {"recipient": "x", "amount": 1}, "d"))[0] == 403
    assert await spent(desk, token) == 30
    assert len(desk.wallet.asked) == 2


async def test_many_at_once_do_not_exceed_it_together(desk: Desk) -> None:
    """The limit is reserved before the money moves."""
    token, desk.wallet.hold = desk.token("spend", limit=35), asyncio.Event()
    asking = [asyncio.ensure_future(desk.pay(token, f"k{number}")) for number in range(10)]
    await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)  # a refusal: the others wait for the wallet
    desk.wallet.hold.set()
    statuses = sorted([(await each)[0] for each in asking])
    assert statuses == [200] * 3 + [403] * 7
    assert await spent(desk, token) == 30


@pytest.mark.parametrize("amount", [0, -1, 2**53, 1.5, "10", None, True, [], 10**400])
async def test_no_amount_gives_budget_back(desk: Desk, amount: Any) -> None:
    token = desk.token("spend", limit=100)
    status, _ = await desk.ask("POST", "/payments", token, {"target": "abcd", "amount": amount}, "k")
    assert status in (400, 422)
    status, _ = await desk.ask("POST", "/payments", token, {"target": "abcd", "amount": 1, "count": amount}, "k")
    assert status in (400, 422)
    assert await spent(desk, token) == 0
    assert not desk.wallet.asked


UNMOVED = [Refused("insufficient_balance", "no"), Refused("peer_unreachable", "away"), LedgerUnreachable("away")]
UNKNOWN = [
    Refused("pending", "who knows"), Pending(b"", 1, "who knows"), LocalError("the disk"), ZeroDivisionError("a fault")
]  # fmt: skip


@pytest.mark.parametrize("error", UNMOVED, ids=repr)
async def test_what_certainly_did_not_move_is_given_back(desk: Desk, error: Exception) -> None:
    token = desk.token("spend", limit=10)
    desk.wallet.answers[Send] = failing(error)
    body = {"recipient": "x", "amount": 10}
    first = await desk.ask("POST", "/transfers", token, body, "k")
    assert first[0] >= 400
    assert await spent(desk, token) == 0
    assert await desk.ask("POST", "/transfers", token, body, "k") == first
    assert len(desk.wallet.asked) == 1


@pytest.mark.parametrize("error", UNKNOWN, ids=repr)
async def test_what_may_have_moved_stays_counted(desk: Desk, error: Exception) -> None:
    token = desk.token("spend", limit=10)
    desk.wallet.answers[Pay] = failing(error)
    assert (await desk.pay(token, "k"))[0] >= 500
    assert await spent(desk, token) == 10


async def test_of_a_series_the_refused_part_is_given_back(desk: Desk) -> None:
    token = desk.token("spend", limit=1_000)
    desk.wallet.answers[Pay] = lambda asked: paid(asked, 5, 2)
    assert (await desk.pay(token, "k", amount=10, count=20))[0] == 200
    assert await spent(desk, token) == 70


async def test_an_admin_pays_without_a_limit(desk: Desk) -> None:
    token = desk.token("admin")
    assert (await desk.pay(token, "k1", amount=10**9))[0] == 200
    status, _ = await desk.ask("POST", "/transfers", token, {"recipient": "x", "amount": 10**9}, "k2")
    assert status == 200


async def test_a_reservation_of_a_revoked_token_gives_nothing_back_to_another(desk: Desk) -> None:
    first = desk.token("spend", limit=100, period_limit=100, period_ms=60_000)
    desk.wallet.answers[Pay] = failing(Refused("peer_unreachable", "it is away"))
    refused = await desk.begin(first, "k1")
    held = desk.wallet.hold
    assert held is not None
    desk.office.tokens.revoke(first.split("_")[2])
    second = desk.token("spend", limit=100, period_limit=100, period_ms=60_000)
    desk.wallet.answers[Pay] = lambda asked: paid(asked, 1)
    desk.wallet.hold = None
    assert (await desk.pay(second, "k2", amount=10))[0] == 200
    desk.wallet.answers[Pay] = failing(Refused("peer_unreachable", "it is away"))
    held.set()
    assert (await refused)[0] == 503
    assert await spent(desk, second) == 10


async def test_no_token_takes_the_room_of_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wallet.api.desk.MAX_OF_A_TOKEN", 2)
    monkeypatch.setattr("wallet.api.desk.MAX_WORKS", 3)
    one, two = desk.token("spend", limit=1_000), desk.token("spend", limit=1_000)
    held = [await desk.begin(one, "a"), await desk.begin(one, "b")]
    assert (await desk.pay(one, "c"))[1]["code"] == "busy"
    held.append(await desk.begin(two, "a"))
    assert (await desk.pay(two, "b"))[1]["code"] == "busy"
    owner = Pay(target="abcd", amount=1)
    work = desk.server._desk.carry_out(verb_of(owner), owner, Caller(None), "a")
    assert isinstance(work, Work)
    for each in held:
        each.cancel()


def test_the_keys_of_one_token_are_bounded_and_leave_room_for_others(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wallet.api.keys.MAX_KEPT", 2)
    store = Store(tmp_path / "api.db")
    book = KeyBook(store)
    for key in ("a", "b"):
        assert book.begin("one", key, b"d", 1) is None
    for each in (book, KeyBook(store)):
        with pytest.raises(Refused, match="at most 2"):
            each.begin("one", "c", b"d", 1)
    assert book.begin("owner", "c", b"d", 1) is None
    store.close()


def test_what_may_have_been_paid_is_never_forgotten(tmp_path: Any) -> None:
    store = Store(tmp_path / "api.db")
    KeyBook(store).begin("one", "killed", b"d", 0)
    book = KeyBook(store)
    assert book.begin("owner", "makes room", b"d", 2 * KEPT_MS) is None
    with pytest.raises(Refused) as refused:
        book.begin("one", "killed", b"d", 2 * KEPT_MS)
    assert refused.value.code == "pending"
    store.close()


async def test_a_period_passes_and_a_clock_set_back_gives_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    token, now = desk.token("spend", limit=100, period_limit=20, period_ms=60_000), [1_000_000]
    monkeypatch.setattr("wallet.api.desk.now_ms", lambda: now[0])
    assert [(await desk.pay(token, f"a{number}"))[0] for number in range(3)] == [200, 200, 403]
    now[0] -= 500_000
    assert (await desk.pay(token, "b"))[0] == 403
    await desk.restart()
    now[0] = 1_059_999
    assert (await desk.pay(token, "c"))[0] == 403
    now[0] = 1_060_000
    assert [(await desk.pay(token, f"d{number}"))[0] for number in range(3)] == [200, 200, 403]
    assert await spent(desk, token) == 40


async def test_a_token_that_is_revoked_meanwhile_finishes_and_begins_nothing(desk: Desk) -> None:
    token = desk.token("spend", limit=100)
    asking = await desk.begin(token, "k1")
    assert desk.wallet.hold is not None
    desk.office.tokens.revoke(token.split("_")[2])
    desk.wallet.hold.set()
    assert (await asking)[0] == 200
    assert (await desk.pay(token, "k2"))[0] == 401


def test_old_keys_are_forgotten_and_new_ones_are_not(tmp_path: Any) -> None:
    store = Store(tmp_path / "api.db")
    book = KeyBook(store)
    for key, time_ms in (("old", 0), ("new", KEPT_MS)):
        assert book.begin("owner", key, b"d", time_ms) is None
        book.finish("owner", key, (200, b"{}"))
    again = KeyBook(store)
    again._kept["owner"] = 1_000
    assert again.begin("owner", "newer", b"d", KEPT_MS + 1) is None
    assert again.begin("owner", "new", b"d", KEPT_MS + 1) == (200, b"{}")
    assert again.begin("owner", "old", b"d", KEPT_MS + 1) is None
    store.close()


# ---------------------------------------------------------------------------------------------------------- secrecy


async def test_no_token_stands_in_the_file_in_a_log_or_in_a_repr(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token = desk.token("admin")
    status, answer = await desk.ask("POST", "/tokens", token, {"name": "n", "scopes": ["read"]})
    made = answer["token"]
    assert status == 200
    await desk.ask("GET", "/contact", made + "x")
    desk.wallet.answers[Send] = failing(ZeroDivisionError("a fault"))
    await desk.ask("POST", "/transfers", token, {"recipient": "x", "amount": 1}, "k")
    listed = await desk.ask("GET", "/tokens", token)
    secrets = [text.split("_", 3)[3] for text in (token, made)]
    files = b"".join(path.read_bytes() for path in desk.home.path.glob("api.db*"))
    for secret in secrets:
        assert secret.encode() not in files
        assert secret not in caplog.text
        assert secret not in repr(listed)
        assert secret not in repr([*desk.office.tokens])
    shown = desk.office.tokens.view(next(iter(desk.office.tokens)))
    assert made not in repr(MadeTokenView(token=made, made=shown, currency=None))
    assert stat.S_IMODE((desk.home.path / "api.db").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "terms",
    [
        {"scopes": ()}, {"scopes": ("root",)}, {"scopes": ("spend",)}, {"scopes": ("read",), "limit": 5},
        {"scopes": ("admin", "spend"), "limit": 5},
        {"scopes": ("spend",), "limit": 5, "period_limit": 6, "period_ms": 5_000},
        {"scopes": ("spend",), "limit": 5, "period_limit": 2}, {"scopes": ("spend",), "limit": 5, "period_ms": 5_000},
        {"scopes": ("spend",), "limit": 5, "period_limit": 2, "period_ms": 5}, {"scopes": ("read",), "name": ""},
        {"scopes": ("read",), "name": "a\nb"}, {"scopes": ("read",), "name": "x" * 65},
    ],
)  # fmt: skip
async def test_terms_that_make_no_sense_make_no_token(desk: Desk, terms: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        desk.office.tokens.create(**({"name": "n"} | terms))
    assert not [*desk.office.tokens]


async def test_there_are_only_so_many_tokens(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_tokens, "MAX_TOKENS", 1)
    desk.token("read")
    with pytest.raises(Refused, match="at most 1"):
        desk.token("read")

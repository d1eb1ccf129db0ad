"""The examples that need whole wallets on a ledger: they run, tell what happened, and check it themselves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from examples import atomic_swap, hub, pay_per_second, replay_csv
from examples.network import Network
from examples.pay_per_second import PRICE, Station
from examples.replay_csv import Result, Row
from examples.stage import FUNDS
from layer1.errors import Refused
from wallet.wallet import Wallet

slow = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]


class Till:
    """Of a station: what its wallet holds."""

    news = 0

    def __init__(self, *received: tuple[str, int]) -> None:
        self._received = received

    def history(self, limit: int) -> list[Any]:
        return [SimpleNamespace(kind="received", memo=memo, amount=amount) for memo, amount in self._received]

    async def changed(self, news: int, timeout_s: float) -> None:
        pass


@pytest.mark.parametrize(
    ("received", "heard"),
    [
        ((), 0),
        ([("mine", PRICE - 1)], 0),
        ([("yours", 9 * PRICE)], 0),
        ([("mine", PRICE)], 1),
        ([("mine", PRICE), ("mine", 2 * PRICE), ("yours", PRICE)], 3),
    ],
)
async def test_the_station_plays_what_is_paid(
    received: list[tuple[str, int]], heard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second on credit, and none that another listener has paid."""
    monkeypatch.setattr(pay_per_second, "SECOND_S", 0)
    monkeypatch.setattr(pay_per_second, "PATIENCE_S", 0.01)
    app = web.Application()
    app.router.add_get("/listen/{session}", Station(cast(Wallet, Till(*received))).listen)
    async with TestClient(TestServer(app)) as client, client.get("/listen/mine") as response:
        assert len((await response.text()).split()) == heard


HEAD = "time,from,to,amount,memo\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("time,from,to,amount\n", "no column memo"),
        (HEAD + "1,ann,ben,1.00,tea\n2,ann,ann,1.00,tea\n", "line 3: ann pays ann"),
        (HEAD + "1,ann,ben,1.005,tea\n", "line 2: 1.005 has 3 decimals"),
        (HEAD + "1,ann,ben,-1,tea\n", "line 2: '-1' is not an amount"),
        (HEAD + "1,../ann,ben,1.00,tea\n", "line 2: '../ann' is no name"),
        (HEAD + "1,ann\n", "line 2: '' is no name"),
        (HEAD + "1,ann,north,1.00,tea\n", "are the hubs"),
        (HEAD + "".join(f"1,a{i},b{i},1.00,tea\n" for i in range(11)), "names 22 people"),
    ],
)
def test_a_file_of_payments_that_is_none_says_where(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Refused, match=why):
        replay_csv.read(path)


def test_the_generated_file_is_the_same_each_time_and_in_order(tmp_path: Path) -> None:
    for name in ("one", "other"):
        replay_csv.generate(tmp_path / name)
    rows = replay_csv.read(tmp_path / "one")
    assert rows == replay_csv.read(tmp_path / "other")
    assert [row.time for row in rows] == sorted(row.time for row in rows)
    assert len(rows) == replay_csv.ROWS and {row.payer for row in rows} == set(replay_csv.PEOPLE)


@pytest.mark.parametrize("off", [("ann", 1), ("ben", -1), ("north", 1), (None, 0)])
async def test_an_audit_misses_no_unit(off: tuple[str | None, int]) -> None:
    """One unit too much or too little in one place is found; none is not."""
    results = [
        Result(Row("1", "ann", "ben", 500, ""), 3, 2, 1.0, ""),
        Result(Row("2", "ben", "ann", 900, ""), 0, 0, 1.0, "x"),
    ]
    totals = {"ann": FUNDS - 503, "ben": FUNDS + 500, "north": FUNDS + 3, "south": FUNDS}
    earned = {"north": 3}
    books = {
        name: SimpleNamespace(total=total + (off[1] if name == off[0] else 0), fees_earned=earned.get(name, 0))
        for name, total in totals.items()
    }

    async def told() -> Any:
        return books

    town = cast(Network, SimpleNamespace(books=told))
    if off[0] is None:
        assert await replay_csv.audit(town, results) == 3
        return
    with pytest.raises(AssertionError, match=f"{off[0]} should have"):
        await replay_csv.audit(town, results)


class TestOnALedger:
    """Whole, as one runs them."""

    pytestmark = slow

    async def test_seconds_are_paid_for_one_by_one(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(pay_per_second, "SECOND_S", 0.05)
        await pay_per_second.main()
        lines = capsys.readouterr().out.splitlines()
        assert "  ♪ The ledger sleeps, the channel" in lines
        assert "The listener has had enough: 5 seconds heard, 5 paid." in lines
        assert "This one took the money for second 4 and hung up: 3 heard, 4 paid." in lines

    async def test_a_swap_ends_with_both_or_none(self, capsys: pytest.CaptureFixture[str]) -> None:
        await atomic_swap.main()
        out = capsys.readouterr().out
        assert "Both, and no ledger was asked." in out
        assert "the money is back." in out
        assert "proves 60.00 TEA in his savings: both." in out

    async def test_a_hub_earns_what_its_spokes_pay(self, capsys: pytest.CaptureFixture[str]) -> None:
        await hub.main()
        out = capsys.readouterr().out
        assert "for a boat: no_liquidity" in out or "for a boat: no_route" in out
        assert "The hub earned 0.11, which the others paid." in out
        assert f"hub {FUNDS / 100 + 0.11:>12,.2f}" in out

    async def test_a_file_of_payments_is_replayed(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "payments.csv"
        path.write_text(
            HEAD + "3,ann,cid,5.00,over one\n1,ann,ben,20.00,over two\n2,cid,ben,470.00,rent\n4,cid,ben,470.00,rent\n"
        )
        results = await replay_csv.run(replay_csv.read(path))
        assert [(each.row.memo, each.hops, bool(each.code)) for each in results] == [
            ("over two", 3, False),
            ("rent", 3, False),
            ("over one", 2, False),
            ("rent", 0, True),
        ]
        assert "Every balance agrees with the ledger to the unit." in capsys.readouterr().out

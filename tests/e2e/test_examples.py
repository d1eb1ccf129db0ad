"""The examples that need whole wallets on a ledger: they run, tell what happened, and check it themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from examples import atomic_swap, pay_per_second
from examples.pay_per_second import PRICE, Station
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

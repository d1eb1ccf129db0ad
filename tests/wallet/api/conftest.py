"""A served API before a wallet that only notes what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import aiohttp
import msgspec
import pytest

from layer1.errors import Refused
from wallet.api.office import Office
from wallet.api.server import Listening, WalletServer
from wallet.history import Place
from wallet.home import Home
from wallet.requests import (
    ContactView,
    CurrencyView,
    EntryView,
    History,
    HistoryView,
    PaidView,
    Pay,
    Progress,
    Report,
    Request,
    Send,
    SentView,
    ShowContact,
    no_report,
)

R = TypeVar("R")
CURRENCY = CurrencyView(symbol="WDG", decimals=2)


def paid(asked: Pay, committed: int, pending: int = 0) -> PaidView:
    """The answer to a payment of which so many were committed."""
    refused = asked.count - committed - pending
    return PaidView(
        channel="ab", peer="cd", amount=asked.amount, count=asked.count, committed=committed, pending=pending,
        refused=refused, refusal="no" if refused else None, seconds=0.5, can_send=1, can_receive=2,
    )  # fmt: skip


class Scripted:
    """A wallet whose answers a test chooses; its history is a list."""

    def __init__(self) -> None:
        self.asked: list[Request[Any]] = []
        self.answers: dict[type[Request[Any]], Callable[[Any], Any]] = {
            Pay: lambda asked: paid(asked, asked.count),
            Send: lambda asked: SentView(
                transaction_id="00", recipient=asked.recipient, amount=asked.amount, source="spending", balance=5
            ),
            History: lambda _: HistoryView(entries=(), currency=CURRENCY),
            ShowContact: lambda _: ContactView(address="wedge1", contact=None),
        }
        self.begun = asyncio.Event()
        self.hold: asyncio.Event | None = None
        """What is asked waits for it."""
        self.entries: list[EntryView] = []
        self.news = 0
        self._changed = asyncio.Event()

    async def run(self, request: Request[R], report: Report = no_report) -> R:
        self.asked.append(request)
        self.begun.set()
        report(Progress("working", 1, 2))
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers.get(type(request))
        if answer is None:
            raise Refused("unknown_channel", "there is none")
        return cast(R, answer(request))

    def happen(self, kind: str, amount: int = 5) -> None:
        number = len(self.entries) + 1
        self.entries.append(
            EntryView(
                time_ms=number,
                kind=kind,
                amount=amount,
                channel="ab",
                peer="cd",
                memo="m",
                reference=f"r{number}",
                payment_hash="ab" * 32,
            )
        )
        self.news += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def last_place(self) -> Place:
        return len(self.entries), 0

    def entries_after(self, place: Place, limit: int) -> list[tuple[Place, EntryView]]:
        placed = [((number, 0), entry) for number, entry in enumerate(self.entries, 1)]
        return [each for each in placed if each[0] > place][:limit]

    async def changed(self, news: int, timeout_s: float) -> None:
        if self.news == news:
            await asyncio.wait_for(self._changed.wait(), timeout_s)


@dataclass
class Desk:
    """The API of a scripted wallet, and a program that asks it."""

    home: Home
    wallet: Scripted
    office: Office
    server: WalletServer
    url: str
    session: aiohttp.ClientSession
    tokens: dict[str, str] = field(default_factory=dict)

    def token(self, *scopes: str, limit: int = 0, **terms: Any) -> str:
        """A new token."""
        _, text = self.office.tokens.create("test", scopes, limit, **terms)
        return text

    async def ask(
        self,
        method: str,
        path: str,
        token: str | None = None,
        body: Any = None,
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Status and body of an answer."""
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        sent |= {"Idempotency-Key": key} if key is not None else {}
        async with self.session.request(method, self.url + path, json=body, headers=sent | (headers or {})) as response:
            data = await response.read()
            if response.content_type not in ("application/json", "application/problem+json"):
                return response.status, data
            return response.status, msgspec.json.decode(data)

    async def pay(self, token: str, key: str, amount: int = 10, **more: Any) -> tuple[int, Any]:
        """Pay."""
        return await self.ask("POST", "/payments", token, {"target": "abcd", "amount": amount, **more}, key)

    async def begin(self, token: str, key: str) -> asyncio.Task[tuple[int, Any]]:
        """A payment that is under way, and stays so until the wallet no longer holds it."""
        self.wallet.hold, self.wallet.begun = asyncio.Event(), asyncio.Event()
        paying = asyncio.ensure_future(self.pay(token, key))
        await self.wallet.begun.wait()
        return paying

    async def restart(self) -> None:
        """A new process in the same home, as after SIGKILL: nothing was said goodbye to."""
        await self.server.stop()
        self.office.close()
        await self.start()

    async def start(self) -> None:
        self.office = Office(self.home, self.wallet, self.wallet)
        self.server = WalletServer(self.home, self.office, self.office, self.wallet)
        self.url = await self.server.listen(Listening("127.0.0.1:0"))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    home = Home.create(tmp_path / "home")
    async with aiohttp.ClientSession() as session:
        made = Desk(home, Scripted(), cast(Office, None), cast(WalletServer, None), "", session)
        await made.start()
        yield made
        await made.server.stop()
        made.office.close()

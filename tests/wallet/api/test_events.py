"""`/events`, progress, and what the command line sees over the socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from layer1.errors import Refused
from layer1.sse import EventParser, RawEvent
from tests.wallet.api.conftest import Desk
from wallet.api.client import RemoteCommands
from wallet.requests import ListChannels, Pay, Progress


class Reader:
    """An event stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self._parser = EventParser(100_000)
        self._found: list[RawEvent] = []

    async def next(self) -> tuple[str, str, Any]:
        while not self._found:
            data = await asyncio.wait_for(self.response.content.readany(), 10)
            if not data:
                raise EOFError
            self._found += self._parser.feed(data)
        event = self._found.pop(0)
        return event.name, event.kind, msgspec.json.decode(event.data)


@asynccontextmanager
async def reading(desk: Desk, token: str, path: str = "/events", **headers: str) -> AsyncIterator[Reader]:
    sent = {"Authorization": f"Bearer {token}", **headers}
    async with desk.session.get(desk.url + path, headers=sent) as response:
        assert response.status == 200, await response.text()
        yield Reader(response)


async def test_events_come_as_they_happen_and_resume_by_name(desk: Desk) -> None:
    desk.wallet.happen("opened")
    token = desk.token("read")
    async with reading(desk, token) as events:
        await events.response.content.readline()
        desk.wallet.happen("received")
        desk.wallet.happen("closed")
        assert [(await events.next())[:2] for _ in range(2)] == [("2-0", "payment"), ("3-0", "channel")]
    desk.wallet.happen("paid")
    await desk.restart()
    async with reading(desk, token, **{"Last-Event-ID": "2-0"}) as events:
        assert [(await events.next())[0] for _ in range(2)] == ["3-0", "4-0"]
    async with reading(desk, token, "/events?after=0") as events:
        assert [(await events.next())[0] for _ in range(4)] == ["1-0", "2-0", "3-0", "4-0"]


async def test_who_may_receive_hears_of_what_is_received_alone(desk: Desk) -> None:
    for kind in ("opened", "paid", "received", "forwarded", "received_lock", "invoice_paid", "payment", "spontaneous"):
        desk.wallet.happen(kind)
    async with reading(desk, desk.token("receive"), "/events?after=0") as events:
        assert [(await events.next())[2]["kind"] for _ in range(3)] == ["received", "invoice_paid", "spontaneous"]


async def test_a_revoked_token_hears_nothing_more(desk: Desk) -> None:
    token = desk.token("read")
    async with reading(desk, token, "/events?after=0") as events:
        desk.wallet.happen("received")
        await events.next()
        desk.office.tokens.revoke(token.split("_")[2])
        desk.wallet.happen("received")
        with pytest.raises(EOFError):
            await events.next()


@pytest.mark.parametrize("after", ["x", "-1", "1-", "1-2-3", "1e3", "9" * 16, "٣", "1 "])
async def test_a_name_that_is_none_is_refused(desk: Desk, after: str) -> None:
    status, answer = await desk.ask("GET", f"/events?after={after}", desk.token("read"))
    assert (status, answer["code"]) == (400, "bad_parameter")


async def test_a_payment_tells_its_progress_and_its_answer_as_a_stream(desk: Desk) -> None:
    token = desk.token("spend", limit=100)
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k", "Accept": "text/event-stream"}
    body = {"target": "abcd", "amount": 10}
    for kinds in (["progress", "answer"], ["answer"]):  # the second time nothing is done any more
        async with desk.session.post(desk.url + "/payments", json=body, headers=headers) as response:
            events = Reader(response)
            found = [await events.next() for _ in kinds]
        assert [kind for _, kind, _ in found][-1] == "answer"
        assert found[-1][2]["committed"] == 1
    body["amount"] = 1_000
    headers["Idempotency-Key"] = "l"
    async with desk.session.post(desk.url + "/payments", json=body, headers=headers) as response:
        assert response.status == 403  # nothing was begun: a plain refusal


async def test_the_command_line_is_a_client_of_the_same_api(desk: Desk) -> None:
    """Over the socket, without a token: the owner's rights. A slash in a name stays in the name."""
    await desk.server.start()
    remote = RemoteCommands.find(desk.home)
    assert remote is not None
    seen: list[Progress] = []
    view = await remote.run(Pay(target="abcd", amount=3, count=2, memo="ü"), seen.append)
    assert (view.committed, seen) == (2, [Progress("working", 1, 2)])
    assert desk.wallet.asked == [Pay(target="abcd", amount=3, count=2, memo="ü")]
    await remote.run(Pay(target="abcd", amount=3, count=2, memo="ü"))
    assert len(desk.wallet.asked) == 2  # each call of the command is a payment of its own
    with pytest.raises(Refused) as caught:
        await remote.run(ListChannels())
    assert caught.value.code == "unknown_channel"

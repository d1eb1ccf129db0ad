"""Webhooks: at least once, signed, and nowhere that a wallet should not reach."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from aiohttp.test_utils import TestServer as Receiving

from layer1.errors import Refused
from tests.wallet.api.conftest import Desk
from wallet.api import webhooks
from wallet.api.delivering import Deliverer
from wallet.api.destinations import GuardedResolver, check_address, check_url
from wallet.api.webhooks import MAX_ATTEMPTS, Webhook, pause_ms
from wallet.requests import AddWebhook, ListWebhooks, RemoveWebhook, TryWebhook


@dataclass
class Receiver:
    """A shop's endpoint, which answers as a test says."""

    server: Receiving
    answers: list[int] = field(default_factory=list)
    """Statuses, the next one first; 200 when there are none."""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/paid"))

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    app = web.Application()
    found = Receiver(Receiving(app))

    async def paid(request: web.Request) -> web.Response:
        found.got.append((dict(request.headers), await request.read()))
        found.arrived.set()
        status = found.answers.pop(0) if found.answers else 200
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else {})

    async def elsewhere(request: web.Request) -> web.Response:
        raise AssertionError("a redirect was followed")

    app.router.add_post("/paid", paid)
    app.router.add_route("*", "/elsewhere", elsewhere)
    await found.server.start_server()
    yield found
    await found.server.close()


@pytest.fixture
async def deliverer(desk: Desk) -> Deliverer:
    return Deliverer(desk.office.webhooks, desk.wallet, jitter=lambda: 1.0)


async def add(desk: Desk, receiver: Receiver) -> str:
    """Register the receiver; its secret."""
    return (await desk.office.run(AddWebhook(url=receiver.url, private=True))).secret


async def test_each_incoming_payment_is_told_once_and_signed(
    desk: Desk, receiver: Receiver, deliverer: Deliverer
) -> None:
    desk.wallet.happen("received")  # before it was registered
    secret = await add(desk, receiver)
    for kind in ("received", "paid", "opened", "received", "sent"):
        desk.wallet.happen(kind)
    assert not await deliverer.collect()
    assert await deliverer.deliver(1) == 2
    assert await deliverer.deliver(10**15) == 0
    assert receiver.ids() == ["r2", "r5"]
    headers, body = receiver.got[0]
    key = base64.b64decode(secret.removeprefix("whsec_"))
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    message = msgspec.json.decode(body)
    assert (message["type"], message["data"]["reference"]) == ("payment.received", "r2")
    assert message["timestamp"] == "1970-01-01T00:00:00.002Z"


@pytest.mark.parametrize("status", [500, 404, 302, 199 + 102])
async def test_what_is_not_acknowledged_comes_again_under_its_name(
    desk: Desk, receiver: Receiver, deliverer: Deliverer, status: int
) -> None:
    """No redirect is followed: that would be another receiver."""
    await add(desk, receiver)
    desk.wallet.happen("received")
    await deliverer.collect()
    receiver.answers = [status]
    await deliverer.deliver(0)
    view = (await desk.office.run(ListWebhooks())).webhooks[0]
    assert (view.waiting, str(status) in (view.trouble or "")) == (1, True)
    assert await deliverer.deliver(pause_ms(1, 1.0) - 1) == 0
    assert await deliverer.deliver(pause_ms(1, 1.0)) == 1
    assert receiver.ids() == ["r1", "r1"]
    assert (await desk.office.run(ListWebhooks())).webhooks[0].waiting == 0


async def test_it_is_given_up_after_days_and_counted(desk: Desk, receiver: Receiver, deliverer: Deliverer) -> None:
    await add(desk, receiver)
    desk.wallet.happen("received")
    await deliverer.collect()
    receiver.answers, now_ms = [500] * 100, 0
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert await deliverer.deliver(now_ms) == 1
        now_ms += pause_ms(attempt, 1.0)
    assert await deliverer.deliver(10**15) == 0
    view = (await desk.office.run(ListWebhooks())).webhooks[0]
    assert (view.waiting, view.failed) == (0, 1)
    assert 2 * 86_400_000 < now_ms < 5 * 86_400_000


def test_pauses_grow_to_a_bound_and_are_spread() -> None:
    whole = [pause_ms(attempt, 1.0) for attempt in range(1, MAX_ATTEMPTS)]
    assert whole == sorted(whole)
    assert whole[-1] == webhooks.LONGEST_PAUSE_MS
    assert all(pause_ms(attempt, 0.0) * 2 == pause_ms(attempt, 1.0) for attempt in range(1, MAX_ATTEMPTS))


async def test_a_crash_at_any_step_loses_nothing(desk: Desk, receiver: Receiver) -> None:
    """Before it is read from the history, before it is sent, before its acknowledgement is noted."""
    await add(desk, receiver)
    desk.wallet.happen("received")
    await desk.restart()
    deliverer = Deliverer(desk.office.webhooks, desk.wallet)
    await deliverer.collect()
    await desk.restart()
    deliverer = Deliverer(desk.office.webhooks, desk.wallet)
    desk.office.webhooks.acknowledged = lambda delivery: None  # type: ignore[method-assign]
    assert await deliverer.deliver(1) == 1
    await desk.restart()
    deliverer = Deliverer(desk.office.webhooks, desk.wallet)
    await deliverer.collect()
    assert await deliverer.deliver(1) == 1
    assert receiver.ids() == ["r1", "r1"]
    assert await deliverer.deliver(10**15) == 0


async def test_what_waits_is_bounded_and_the_history_waits_for_it(
    desk: Desk, receiver: Receiver, deliverer: Deliverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MAX_WAITING", 2)
    await add(desk, receiver)
    for count in (2, 1):
        for _ in range(count):
            desk.wallet.happen("received")
        await deliverer.collect()
    assert (await desk.office.run(ListWebhooks())).webhooks[0].waiting == 2
    await deliverer.deliver(1)
    await deliverer.collect()
    await deliverer.deliver(1)
    assert receiver.ids() == ["r1", "r2", "r3"]


async def test_one_for_which_too_much_waits_keeps_the_history_from_no_other(
    desk: Desk, receiver: Receiver, deliverer: Deliverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MAX_WAITING", 2)
    away = (await desk.office.run(AddWebhook(url="http://127.0.0.1:9/nobody", private=True))).made
    await add(desk, receiver)
    for _ in range(5):
        desk.wallet.happen("received")
        await deliverer.collect()
        await deliverer.deliver(1)
    assert receiver.ids() == [f"r{number}" for number in range(1, 6)]
    book = desk.office.webhooks
    assert book.view(book.find(away.id)).waiting == 2
    await desk.restart()
    book = desk.office.webhooks
    for expected in (["r1", "r2"], ["r3", "r4", "r5"]):  # it goes on where it was left
        due = book.due(book.find(away.id), 10**15, 10)
        assert [each.event for each in due] == expected
        for each in due:
            book.acknowledged(each)
        await Deliverer(book, desk.wallet).collect()


async def test_invoices_and_what_nobody_asked_for_are_told_with_their_hash(
    desk: Desk, receiver: Receiver, deliverer: Deliverer
) -> None:
    """Of locks nothing is told: a payment may come by several, and most of a hub's are others'."""
    await add(desk, receiver)
    for kind in ("received_lock", "invoice_held", "invoice_paid", "spontaneous", "forwarded", "payment", "rebalanced"):
        desk.wallet.happen(kind, 250)
    await deliverer.collect()
    await deliverer.deliver(1)
    messages = [msgspec.json.decode(body) for _, body in receiver.got]
    told = sorted((each["data"]["reference"], each["type"], each["data"]["amount"]) for each in messages)
    assert told == [("r2", "invoice.held", 250), ("r3", "invoice.paid", 250), ("r4", "payment.received", 250)]
    assert all(each["data"]["payment_hash"] == "ab" * 32 for each in messages)


async def test_a_place_that_an_earlier_release_kept_for_all_is_where_each_goes_on(
    desk: Desk, receiver: Receiver
) -> None:
    await add(desk, receiver)
    with desk.office.webhooks._store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marks SET name = 'webhooks', value = '1-0'")
    for _ in range(2):
        desk.wallet.happen("received")
    await desk.restart()
    deliverer = Deliverer(desk.office.webhooks, desk.wallet)
    await deliverer.collect()
    await deliverer.deliver(1)
    assert receiver.ids() == ["r2"]


async def test_one_receiver_that_is_away_keeps_nothing_from_another(
    desk: Desk, receiver: Receiver, deliverer: Deliverer
) -> None:
    await desk.office.run(AddWebhook(url="http://127.0.0.1:9/nobody", private=True))
    await add(desk, receiver)
    desk.wallet.happen("received")
    await deliverer.collect()
    await deliverer.deliver(1)
    assert receiver.ids() == ["r1"]


async def test_a_receiver_that_never_answers_keeps_nothing_from_another(
    desk: Desk, receiver: Receiver, deliverer: Deliverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than are under way to one of them at once."""
    await desk.office.run(AddWebhook(url="http://127.0.0.1:9/silent", private=True))
    await add(desk, receiver)
    told, all_told, silent = [], asyncio.Event(), asyncio.Event()

    async def send(webhook: Webhook, event: str, body: bytes) -> None:
        if webhook.url.endswith("/silent"):
            await silent.wait()
        told.append(event)
        if len(told) == 20:
            all_told.set()

    monkeypatch.setattr("wallet.api.delivering.send", send)
    async with deliverer:
        for _ in range(20):
            desk.wallet.happen("received")
        async with asyncio.timeout(5):
            await all_told.wait()
    assert told == [f"r{number}" for number in range(1, 21)]


async def test_an_acknowledgement_after_the_end_of_its_webhook_is_of_no_other_message(
    desk: Desk, receiver: Receiver, deliverer: Deliverer
) -> None:
    await add(desk, receiver)
    book, first = desk.office.webhooks, next(iter(desk.office.webhooks))
    desk.wallet.happen("received")
    await deliverer.collect()
    (late,) = book.due(first, 1, 10)
    await desk.office.run(RemoveWebhook(webhook=first.id))
    await add(desk, receiver)
    desk.wallet.happen("received")
    await deliverer.collect()
    book.acknowledged(late)
    assert [delivery.event for delivery in book.due(next(iter(book)), 1, 10)] == ["r2"]


async def test_served_it_reads_and_sends_by_itself(desk: Desk, receiver: Receiver) -> None:
    """Registered while nobody served it, a webhook begins behind what stands in the history."""
    desk.wallet.happen("received")
    desk.office._chronicle = None
    await add(desk, receiver)
    async with Deliverer(desk.office.webhooks, desk.wallet):
        desk.wallet.happen("received")
        await receiver.arrived.wait()
    assert receiver.ids() == ["r2"]


async def test_a_test_message_is_sent_once_and_its_failure_is_said(desk: Desk, receiver: Receiver) -> None:
    await add(desk, receiver)
    name = next(iter(desk.office.webhooks)).id
    await desk.office.run(TryWebhook(webhook=name))
    assert msgspec.json.decode(receiver.got[0][1])["type"] == "test"
    receiver.answers = [503]
    with pytest.raises(Refused, match="503"):
        await desk.office.run(TryWebhook(webhook=name))
    assert len(receiver.got) == 2


async def test_the_secret_is_shown_once(desk: Desk, receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    made = await desk.office.run(AddWebhook(url=receiver.url, private=True))
    listed = await desk.ask("GET", "/webhooks", desk.token("admin"))
    for text in (repr(made), repr(listed), repr([*desk.office.webhooks]), caplog.text):
        assert made.secret not in text
        assert made.secret.removeprefix("whsec_") not in text


# ------------------------------------------------------------------------------------------------------ destinations

NEVER = [
    "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "0.0.0.0", "::", "255.255.255.255", "240.0.0.1",
    "fec0::1", "::7f00:1", "::ffff:0:127.0.0.1", "fd00:ec2::254", "192.0.0.192",
    "64:ff9b::7f00:1", "2002:7f00:1::", "::ffff:169.254.169.254", "2001:0:1::1",
]  # fmt: skip
NEAR = ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "fd00::1", "::ffff:127.0.0.1"]
FAR = ["8.8.8.8", "2606:4700::1111"]


def address(text: str) -> Any:
    found = ip_address(text)
    return getattr(found, "ipv4_mapped", None) or found


def allowed(text: str, **how: bool) -> bool:
    try:
        check_address(address(text), **how)
    except Refused:
        return False
    return True


@pytest.mark.parametrize("text", NEVER + NEAR + FAR)
def test_which_addresses_are_reached(text: str) -> None:
    reached = {
        (private, encrypted): allowed(text, private=private, encrypted=encrypted)
        for private in (False, True)
        for encrypted in (False, True)
    }
    near, far = text in NEAR, text in FAR
    assert reached == {(False, False): False, (False, True): far, (True, False): near, (True, True): near or far}


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "file:///etc/passwd", "https://", "https:///x", "//a.com", "",
        "https://user:pass@example.com/", "https://a.com/#x", "https://127.0.0.1/", "https://[::1]/", "https://[bad",
        "https://a.com/\n", "https://example.com/" + "x" * 2_000, "unix:///run/x", "gopher://127.0.0.1/",
        "https://[::ffff:127.0.0.1]/", "https://169.254.169.254/latest/meta-data",
    ],
)  # fmt: skip
async def test_urls_that_are_no_webhooks_are_refused(desk: Desk, url: str) -> None:
    status, answer = await desk.ask("POST", "/webhooks", desk.token("admin"), {"url": url})
    assert (status, answer["code"]) == (422, "bad_webhook")
    assert not [*desk.office.webhooks]


class Lying(AbstractResolver):
    """Means this machine by every name, as a server of names may, from one moment to the next."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
        return [
            {"hostname": host, "host": each, "port": port, "family": family, "proto": 0, "flags": 0}
            for each in ("8.8.8.8", "127.0.0.1")
        ]

    async def close(self) -> None:
        pass


async def test_a_name_is_judged_by_all_that_it_means_when_it_is_connected_to() -> None:
    assert check_url("https://innocent.example/", private=False)
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await GuardedResolver(private=False, encrypted=True, resolver=Lying()).resolve("innocent.example", 443)


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "localhost"])
async def test_other_spellings_of_this_machine_are_found_out(host: str) -> None:
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await GuardedResolver(private=False, encrypted=True).resolve(host, 443)

"""``/events``: what happens in this wallet, as server-sent events.

They are the entries of the history, oldest first: what was paid and received, and what became of channels. An event's
name is its place in the history, so a reader that breaks off resumes with the last name that it saw, before or after a
restart, without a gap and without hearing anything twice. What was pruned from the history is not told any more.

Source: HTML Living Standard, section 9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
import time
from typing import Literal, Protocol

import msgspec
from aiohttp import web

from layer1.errors import Refused
from layer1.httpd.routes import Parameter, Route
from wallet.api.service import WalletService, caller_of, service_of
from wallet.api.verbs import RECEIVE
from wallet.history import NOTES, Place, place_of_name
from wallet.requests import EntryView

RETRY_MS = 1_000
"""How long a browser waits before it resumes."""
AT_ONCE = 500
"""Entries that are read at a time."""
PAUSE_S = 0.1
"""Between two looks at the history: what happens meanwhile is read together."""
PAYMENTS = NOTES | {"paid", "received", "sent"}
RECEIVED = frozenset({"received", "invoice_paid", "invoice_held", "spontaneous"})
"""What a token of scope `receive` is told of, and webhooks."""


class Chronicle(Protocol):
    """Where the entries come from; `wallet.wallet.Wallet` is one."""

    def last_place(self) -> Place:
        """Behind all entries. Called in a thread of its own."""
        ...

    def entries_after(self, place: Place, limit: int) -> list[tuple[Place, EntryView]]:
        """The entries that follow one. Called in a thread of its own."""
        ...

    @property
    def news(self) -> int:
        """How often something has happened."""
        ...

    async def changed(self, news: int, timeout_s: float) -> None:
        """Wait until something has happened since `news` was so much."""
        ...


CHRONICLE: web.AppKey[Chronicle] = web.AppKey("chronicle", Chronicle)


def kind_of(entry: EntryView) -> Literal["payment", "channel"]:
    """Of its event."""
    return "payment" if entry.kind in PAYMENTS else "channel"


async def events(request: web.Request) -> web.StreamResponse:
    """Server-sent events, from now on, or after the last one that the reader has seen.

    The kinds are `payment` (paid, received, or sent on layer 1, and notes of invoices, routes and forwarding) and
    `channel` (opened, changed, wedged, closed, locks); the data of both are an EntryView. A token of scope `receive`
    alone is told of what is received. An event's id names it for good: a reader that breaks off sends the last one that
    it saw as Last-Event-ID.
    """
    service, chronicle = service_of(request), request.app.get(CHRONICLE)
    if chronicle is None:
        raise Refused("standby_home", "this home is a standby, in which nothing happens: ask the head")
    place = _start(request)
    if place is None:
        place = await asyncio.to_thread(chronicle.last_place)
    with service.stream(request.protocol):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            await _write(service, response, b"retry: %d\n\n" % RETRY_MS)
            await _follow(service, chronicle, request, response, place)
            await response.write_eof()
        except TimeoutError:
            service.connections.cut(request.protocol, "slow")  # it resumes where it was
        except Refused as refusal:
            service.connections.cut(request.protocol, refusal.code)  # the history's server is away: it tries again
        except ConnectionError:
            pass  # the reader has left
    return response


async def _follow(
    service: WalletService, chronicle: Chronicle, request: web.Request, response: web.StreamResponse, place: Place
) -> None:
    caller, told_s = caller_of(request), time.monotonic()
    all_of_it = caller.may(("read",))
    while not service.closing.is_set() and (caller.token is None or service.desk.tokens.is_valid(caller.token)):
        news = chronicle.news
        found = await asyncio.to_thread(chronicle.entries_after, place, AT_ONCE)
        text = b"".join(_rendered(at, entry) for at, entry in found if all_of_it or entry.kind in RECEIVED)
        place = found[-1][0] if found else place
        if not text and time.monotonic() - told_s > service.limits.keep_alive_ms / 2_000:
            text = b": idle\n\n"
        if text:
            await _write(service, response, text)
            told_s = time.monotonic()
        if len(found) < AT_ONCE:
            await _wait(service, chronicle, news)


async def _wait(service: WalletService, chronicle: Chronicle, news: int) -> None:
    """Until there may be something new, or the server stops."""
    changed = asyncio.ensure_future(chronicle.changed(news, service.limits.keep_alive_ms / 4_000))
    closing = asyncio.ensure_future(service.closing.wait())
    try:
        await asyncio.wait({changed, closing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        changed.cancel()
        closing.cancel()
    if not service.closing.is_set():
        await asyncio.sleep(PAUSE_S)


async def _write(service: WalletService, response: web.StreamResponse, text: bytes) -> None:
    async with asyncio.timeout(service.limits.write_ms / 1000):
        await response.write(text)


def _rendered(place: Place, entry: EntryView) -> bytes:
    data = msgspec.json.encode(entry)
    return b"id: %d-%d\nevent: %s\ndata: %s\n\n" % (*place, kind_of(entry).encode(), data)


def _start(request: web.Request) -> Place | None:
    """The name of the last event seen: by header, else by query."""
    unknown = sorted(set(request.query) - {"after"})
    if unknown or len(request.query) > 1:
        raise Refused("bad_parameter", f"known are: after, once; not {(unknown or ['after twice'])[0][:80]!r}")
    named = [text for text in (request.headers.get("Last-Event-ID"), request.query.get("after")) if text is not None]
    places = [place_of_name(text) for text in named]  # both have to be names, whichever wins
    return places[0] if places else None


AFTER = Parameter(
    "after",
    {"type": "string", "format": "wallet-event", "pattern": "^[0-9]{1,15}(-[0-9]{1,9})?$"},
    "Resume after this event; `0` for all that is kept. The header wins.",
)
LAST = Parameter("Last-Event-ID", AFTER.schema, "The same; what readers of event streams send.", place="header")

ROUTE = Route(
    "GET",
    "/events",
    events,
    "What happens, as it happens",
    {200: "text/event-stream"},
    (AFTER, LAST),
    (400, 401, 403, 421),
    events={"payment": EntryView, "channel": EntryView},
    scopes=RECEIVE,
)
